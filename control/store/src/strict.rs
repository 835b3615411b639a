//! Typed reading that forgives nothing: unknown fields and wrong types, each with its path.
//!
//! Owns: a deserializer over JSON values that knows where it is. Does not: know what a field means.
//! Invariant: every unknown field of the value is reported, wherever it is.

use crate::fault::{Fault, Wrong};
pub use crate::spelling::closest;
use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Unexpected, Visitor,
};
use serde_json::{Map, Value};
use std::cell::RefCell;
use std::fmt;

/// Reads `value`, which is the field called `at` (empty: the whole object).
pub fn read<T: DeserializeOwned>(at: &str, value: &Value) -> Result<T, Vec<Fault>> {
    let unknown = RefCell::new(Vec::new());
    let result = T::deserialize(Reader { value, path: Path::Root(at), unknown: &unknown });
    let mut faults = unknown.into_inner();
    match result {
        Ok(read) if faults.is_empty() => Ok(read),
        Ok(_) => Err(faults),
        Err(mistake) => {
            faults.push(mistake.into_fault());
            Err(faults)
        }
    }
}

#[derive(Clone, Copy)]
enum Path<'p> {
    Root(&'p str),
    Field(&'p Path<'p>, &'p str),
    /// A key of a map whose keys are data.
    Key(&'p Path<'p>, &'p str),
    Item(&'p Path<'p>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Root(at) => f.write_str(at),
            Path::Field(Path::Root(""), name) => f.write_str(name),
            Path::Field(parent, name) => write!(f, "{parent}.{name}"),
            Path::Key(parent, key) => write!(f, "{parent}[{key}]"),
            Path::Item(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

#[derive(Debug)]
struct Mistake {
    path: Option<String>,
    wrong: Wrong,
}

impl Mistake {
    fn at(mut self, path: &Path<'_>) -> Self {
        self.path.get_or_insert_with(|| path.to_string());
        self
    }

    fn into_fault(self) -> Fault {
        Fault::new(self.path.unwrap_or_default(), &self.wrong)
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.wrong.fmt(f)
    }
}

impl std::error::Error for Mistake {}

impl serde::de::Error for Mistake {
    fn custom<T: fmt::Display>(message: T) -> Self {
        let (found, expected) = ("a value that cannot be read".into(), message.to_string());
        Self { path: None, wrong: Wrong::Type { found, expected } }
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn serde::de::Expected) -> Self {
        let expected = in_words(&expected.to_string());
        Self { path: None, wrong: Wrong::Type { found: describe(found), expected } }
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn serde::de::Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn missing_field(field: &'static str) -> Self {
        let _ = field;
        Self { path: None, wrong: Wrong::Missing { expected: "a value" } }
    }
}

fn describe(found: Unexpected<'_>) -> String {
    match found {
        Unexpected::Bool(b) => b.to_string(),
        Unexpected::Unsigned(n) => n.to_string(),
        Unexpected::Signed(n) => n.to_string(),
        Unexpected::Float(n) => n.to_string(),
        Unexpected::Str(text) => format!("text {text:?}"),
        Unexpected::Unit => "nothing".into(),
        Unexpected::Seq => "a list".into(),
        Unexpected::Map => "fields".into(),
        other => other.to_string(),
    }
}

fn in_words(expected: &str) -> String {
    match expected {
        "a string" | "a borrowed string" | "string" => "text".into(),
        "a boolean" => "true or false".into(),
        "i8" | "i16" | "i32" | "i64" | "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number".into(),
        "a sequence" => "a list".into(),
        "IntOrString" | "Quantity" => "a number or text".into(),
        "Time" | "MicroTime" => "a time such as 2026-01-31T12:00:00Z".into(),
        "a map" => "fields, each as name: value".into(),
        // The names of types.
        other if other.starts_with("struct ") || other.starts_with(|c: char| c.is_ascii_uppercase()) => {
            "fields, each as name: value".into()
        }
        other => other.into(),
    }
}

#[derive(Clone, Copy)]
struct Reader<'a, 'de> {
    value: &'de Value,
    path: Path<'a>,
    unknown: &'a RefCell<Vec<Fault>>,
}

impl<'a, 'de> Reader<'a, 'de> {
    fn map<V: Visitor<'de>>(
        self,
        map: &'de Map<String, Value>,
        fields: Option<&'static [&'static str]>,
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        let access = Entries { entries: map.iter(), value: None, fields, at: self };
        visitor.visit_map(access).map_err(|mistake| mistake.at(&self.path))
    }

    fn report_unknown(&self, name: &str, fields: &'static [&'static str]) {
        let like = closest(name, fields).map(str::to_owned);
        let path = Path::Field(&self.path, name).to_string();
        self.unknown.borrow_mut().push(Fault::new(path, &Wrong::UnknownField { like }));
    }
}

impl<'de> Deserializer<'de> for Reader<'_, 'de> {
    type Error = Mistake;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        let result = match self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(b) => visitor.visit_bool(*b),
            Value::Number(n) => match (n.as_u64(), n.as_i64(), n.as_f64()) {
                (Some(n), _, _) => visitor.visit_u64(n),
                (_, Some(n), _) => visitor.visit_i64(n),
                (_, _, Some(n)) => visitor.visit_f64(n),
                _ => Err(Mistake::custom("a number")),
            },
            Value::String(text) => visitor.visit_borrowed_str(text),
            Value::Array(items) => visitor.visit_seq(Items { items: items.iter().enumerate(), at: self }),
            Value::Object(map) => return self.map(map, None, visitor),
        };
        result.map_err(|mistake| mistake.at(&self.path))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        match self.value {
            Value::Object(map) => self.map(map, Some(fields), visitor),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match self.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        visitor.visit_newtype_struct(self)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        seq tuple tuple_struct map enum identifier ignored_any
    }
}

struct Items<'a, 'de> {
    items: std::iter::Enumerate<std::slice::Iter<'de, Value>>,
    at: Reader<'a, 'de>,
}

impl<'de> SeqAccess<'de> for Items<'_, 'de> {
    type Error = Mistake;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Mistake> {
        let Some((index, value)) = self.items.next() else { return Ok(None) };
        let path = Path::Item(&self.at.path, index);
        seed.deserialize(Reader { value, path, unknown: self.at.unknown }).map(Some)
    }
}

struct Entries<'a, 'de> {
    entries: serde_json::map::Iter<'de>,
    value: Option<(&'de str, &'de Value)>,
    fields: Option<&'static [&'static str]>,
    at: Reader<'a, 'de>,
}

impl<'de> MapAccess<'de> for Entries<'_, 'de> {
    type Error = Mistake;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Mistake> {
        let Some((name, value)) = self.entries.next() else { return Ok(None) };
        if let Some(fields) = self.fields.filter(|fields| !fields.contains(&name.as_str())) {
            self.at.report_unknown(name, fields);
        }
        self.value = Some((name, value));
        seed.deserialize(StrDeserializer::<Mistake>::new(name)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Mistake> {
        let (name, value) = self.value.take().ok_or_else(|| Mistake::custom("a field"))?;
        let path = match self.fields {
            Some(_) => Path::Field(&self.at.path, name),
            None => Path::Key(&self.at.path, name),
        };
        seed.deserialize(Reader { value, path, unknown: self.at.unknown })
    }
}
