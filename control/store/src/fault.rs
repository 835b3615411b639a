//! What can be wrong with a value.
//!
//! Owns: [`Wrong`], the reasons, and [`Fault`], a reason at a field. Does not: look for them.
//! Invariant: every reason says what is wrong and what to write instead.

use std::fmt;

/// A field that is wrong, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Path, such as `spec.ports[0].port`; empty: the object as a whole.
    pub field: String,
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub fix: String,
}

impl Fault {
    /// A reason at a field.
    pub fn new(field: impl Into<String>, wrong: &Wrong) -> Self {
        Self { field: field.into(), problem: wrong.to_string(), fix: wrong.fix() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        write!(f, "{}; {}", self.problem, self.fix)
    }
}

/// Why a value is refused. `Display` is the problem, [`Wrong::fix`] the way out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// Needed, absent.
    #[error("is missing")]
    Missing {
        /// What to write.
        expected: &'static str,
    },
    /// Not a DNS label.
    #[error("{value:?} is no DNS label")]
    NotLabel {
        /// As given.
        value: String,
    },
    /// Not a DNS subdomain.
    #[error("{value:?} is no DNS name")]
    NotSubdomain {
        /// As given.
        value: String,
    },
    /// Not a port name.
    #[error("{value:?} is no port name")]
    NotPortName {
        /// As given.
        value: String,
    },
    /// Not a label's (or annotation's) key.
    #[error("{value:?} is no label key")]
    NotLabelKey {
        /// As given.
        value: String,
    },
    /// Not a label's value.
    #[error("{value:?} is no label value")]
    NotLabelValue {
        /// As given.
        value: String,
    },
    /// Not an address.
    #[error("{value:?} is no IP address")]
    NotAddress {
        /// As given.
        value: String,
    },
    /// An address that cannot be one of this object's.
    #[error("{value} is {what}")]
    UselessAddress {
        /// As given.
        value: String,
        /// Why not.
        what: &'static str,
    },
    /// Not a prefix.
    #[error("{value:?} is no CIDR")]
    NotCidr {
        /// As given.
        value: String,
    },
    /// A number in a prefix begins with a zero.
    #[error("{value:?} has leading zeros")]
    LeadingZeros {
        /// As given.
        value: String,
    },
    /// Bits outside the mask.
    #[error("{value} has bits set outside its mask")]
    HostBits {
        /// As given.
        value: String,
        /// Masked.
        canonical: String,
    },
    /// Not a strict part.
    #[error("{value} is not strictly inside {outer}")]
    NotInside {
        /// As given.
        value: String,
        /// What it should be part of.
        outer: String,
    },
    /// Not a port.
    #[error("{value} is no port number")]
    NotPort {
        /// As given.
        value: i64,
    },
    /// A range that ends before it starts.
    #[error("{end} is below port {start}")]
    EndBelow {
        /// Last.
        end: i64,
        /// First.
        start: i64,
    },
    /// A number outside its range.
    #[error("{value} is not between {least} and {most}")]
    OutOfRange {
        /// As given.
        value: i64,
        /// Lowest.
        least: i64,
        /// Highest.
        most: i64,
    },
    /// None of the words that are allowed.
    #[error("{value:?} is unknown")]
    NotOneOf {
        /// As given.
        value: String,
        /// The words.
        allowed: &'static [&'static str],
    },
    /// The same twice.
    #[error("is the same as {first}")]
    Duplicate {
        /// Path of the other.
        first: String,
    },
    /// Another type.
    #[error("found {found}, expected {expected}")]
    Type {
        /// What is there.
        found: String,
        /// What should be.
        expected: String,
    },
    /// No such field.
    #[error("unknown field")]
    UnknownField {
        /// A known one that looks alike.
        like: Option<String>,
    },
    /// Not a regular expression.
    #[error("{value:?} is no regular expression: {why}")]
    NotRegex {
        /// As given.
        value: String,
        /// What the parser said.
        why: String,
    },
    /// Not written as it must be.
    #[error("{value:?} is no {what}")]
    NotA {
        /// As given.
        value: String,
        /// What it should be.
        what: &'static str,
        /// An example.
        example: &'static str,
    },
    /// A kind of another group.
    #[error("{api_version:?} has no {kind}")]
    NotInGroup {
        /// As given.
        api_version: String,
        /// The kind.
        kind: String,
        /// Where that kind is.
        elsewhere: String,
    },
    /// Against another field, or against what this object can be.
    #[error("{why}")]
    Conflict {
        /// What is wrong.
        why: &'static str,
        /// What to do.
        fix: &'static str,
    },
}

impl Wrong {
    /// What to do about it.
    pub fn fix(&self) -> String {
        const LABEL: &str = "lower-case letters, digits and '-', starting and ending with a letter or digit";
        match self {
            Self::Missing { expected } => format!("give {expected}"),
            Self::NotLabel { .. } => format!("use at most 63 {LABEL}"),
            Self::NotSubdomain { .. } => {
                format!("use at most 253 characters: labels of {LABEL}, joined by '.'")
            }
            Self::NotPortName { .. } => {
                "use at most 15 lower-case letters, digits and single '-', with at least one letter".into()
            }
            Self::NotLabelKey { .. } => {
                "use [prefix/]name, the name at most 63 letters, digits, '-', '_', '.', starting and ending \
                 with a letter or digit"
                    .into()
            }
            Self::NotLabelValue { .. } => {
                "use at most 63 letters, digits, '-', '_', '.', starting and ending with a letter or digit"
                    .into()
            }
            Self::NotAddress { .. } => "write it as 10.0.0.1 or fd00::1".into(),
            Self::UselessAddress { .. } => "give an address that other hosts can send to".into(),
            Self::NotCidr { .. } => "write it as 10.0.0.0/8 or fd00::/64".into(),
            Self::LeadingZeros { .. } => "write its numbers without leading zeros, as 10.0.0.0/8".into(),
            Self::HostBits { canonical, .. } => format!("write {canonical}"),
            Self::NotInside { outer, .. } => format!("give a longer prefix that lies in {outer}"),
            Self::NotPort { .. } => "use 1 to 65535".into(),
            Self::EndBelow { start, .. } => format!("set it to {start} or more"),
            Self::OutOfRange { least, most, .. } => format!("use {least} to {most}"),
            Self::NotOneOf { allowed, .. } => format!("use {}", one_of(allowed)),
            Self::Duplicate { .. } => "give each a value of its own".into(),
            Self::Type { expected, .. } => fix_of_type(expected),
            Self::UnknownField { like: Some(like) } => format!("did you mean {like}?"),
            Self::UnknownField { like: None } => "remove it".into(),
            Self::NotRegex { .. } => "correct the expression".into(),
            Self::NotA { example, .. } => format!("write it like {example}"),
            Self::NotInGroup { elsewhere, .. } => format!("use {elsewhere}"),
            Self::Conflict { fix, .. } => (*fix).into(),
        }
    }
}

fn one_of(words: &[&str]) -> String {
    match words {
        [] => "nothing".into(),
        [only] => (*only).into(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

fn fix_of_type(expected: &str) -> String {
    match expected {
        "text" => "put it in quotes".into(),
        "true or false" => "write true or false without quotes".into(),
        "a list" => "write a list, each item after '- '".into(),
        "a whole number" => "write a whole number without quotes".into(),
        other => format!("write {other}"),
    }
}

/// Declares `InvalidX`: one variant per field, each with a reason, and the field's path.
macro_rules! invalid {
    ($(#[doc = $doc:literal])+ $name:ident { $($(#[doc = $vdoc:literal])+ $variant:ident { $($at:ident: $type:ty),* } => $path:literal,)+ }) => {
        $(#[doc = $doc])+
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[doc = $vdoc])+ $variant {
                $(#[doc = "Which one."] $at: $type,)*
                #[doc = "Why."]
                wrong: $crate::fault::Wrong,
            },)+
        }

        impl From<$name> for $crate::fault::Fault {
            fn from(invalid: $name) -> Self {
                match invalid {
                    $($name::$variant { $($at,)* wrong } => $crate::fault::Fault::new(format!($path), &wrong),)+
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                $crate::fault::Fault::from(self.clone()).fmt(f)
            }
        }

        impl std::error::Error for $name {}
    };
}
pub(crate) use invalid;
