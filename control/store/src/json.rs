//! JSON documents: the YAML parser reads them too, in five times the time.
//!
//! Owns: reading what is beyond doubt, and where such documents end. Does not: refuse; the YAML parser has the last word, and says what is wrong.
//! Invariant: what is read here is what the YAML parser reads: no key twice, within the limits.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::text::{MAX_DEPTH, MAX_VALUES};

/// The document's value; `None`: it is no object in JSON, or not beyond doubt.
pub fn read(document: &str) -> Option<Value> {
    if !document.trim_start().starts_with('{') {
        return None;
    }
    let left = Cell::new(MAX_VALUES / 2);
    let mut text = serde_json::Deserializer::from_str(document);
    let value = Part { depth: MAX_DEPTH / 2, left: &left }.deserialize(&mut text).ok()?;
    text.end().is_ok().then_some(value)
}

/// Whether one object may end and another begin in a text, which a single document does in quotes at most.
pub fn may_follow(text: &str) -> bool {
    text.match_indices('}')
        .any(|(at, _)| text.get(at + 1..).is_some_and(|it| it.trim_start().starts_with('{')))
}

/// Where each of the values ends that follow each other from the start; stops at what is none.
pub fn ends(text: &str) -> Vec<usize> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<IgnoredAny>();
    let mut ends = Vec::new();
    while let Some(Ok(_)) = values.next() {
        ends.push(values.byte_offset());
    }
    ends
}

/// A value within another one.
#[derive(Clone, Copy)]
struct Part<'a> {
    /// How much deeper it may go.
    depth: usize,
    /// How many values more there may be.
    left: &'a Cell<usize>,
}

impl Part<'_> {
    fn within<E: Error>(self) -> Result<Self, E> {
        let deeper = self.depth.checked_sub(1).zip(self.left.get().checked_sub(1));
        let (depth, left) = deeper.ok_or_else(|| E::custom("too much"))?;
        self.left.set(left);
        Ok(Self { depth, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Part<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Part<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Value, E> {
        Err(E::custom("the two parsers may differ in the last digit"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self.within()?)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let value = entries.next_value_seed(self.within()?)?;
            // Of YAML's it may be the key that merges.
            if key == "<<" || map.insert(key, value).is_some() {
                return Err(A::Error::custom("a key twice, or one that means more"));
            }
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            "[ -~]{0,8}".prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            let key = prop_oneof!["[a-z]{1,3}", "[ -~]{0,4}"].prop_filter("means more", |key| key != "<<");
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
                prop::collection::btree_map(key, inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_the_yaml_parser_reads(value in values(), pretty in any::<bool>()) {
            let object = json!({"a": value});
            let text = if pretty { format!("{object:#}\n") } else { object.to_string() };
            prop_assert_eq!(read(&text), Some(object));
            if let Ok(read_as_yaml) = crate::text::parse_yaml(&text) {
                prop_assert_eq!(read(&text), Some(read_as_yaml));
            }
        }
    }

    #[test]
    fn whatever_is_in_doubt_is_left_to_the_yaml_parser() {
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(MAX_DEPTH), "]".repeat(MAX_DEPTH));
        let many = format!("{{\"a\":[{}1]}}", "1,".repeat(MAX_VALUES));
        for text in [
            "",
            "a: 1",
            "[1]",
            "{a: 1}",
            "{\"<<\":1}",
            "{\"a\":1,\"a\":2}",
            "{\"a\":1} {}",
            "{\"a\":1.5}",
            &deep,
            &many,
        ] {
            assert_eq!(read(text), None, "{}", text.get(..20.min(text.len())).unwrap_or_default());
        }
        assert_eq!(read(" \n{\"a\":[1]}\n"), Some(json!({"a": [1]})));
    }
}
