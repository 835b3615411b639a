//! Owns: the versions of CNI that the plugin speaks. Invariant: they compare by age.

use std::fmt;

/// A version of the CNI specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// 0.3.1
    V0_3_1,
    /// 0.4.0: CHECK, and `prevResult` at DEL.
    V0_4_0,
    /// 1.0.0: addresses no longer say their family.
    V1_0_0,
    /// 1.1.0: GC and STATUS.
    V1_1_0,
}

/// Every version spoken, oldest first.
pub const ALL: [Version; 4] = [Version::V0_3_1, Version::V0_4_0, Version::V1_0_0, Version::V1_1_0];
/// What is spoken when nobody asked for anything.
pub const NEWEST: Version = Version::V1_1_0;

impl Version {
    /// As written in a configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V0_3_1 => "0.3.1",
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }

    /// From a configuration; `None` for one that is not spoken.
    pub fn from_text(text: &str) -> Option<Self> {
        ALL.into_iter().find(|version| version.as_str() == text)
    }

    /// Does every address of a result name its family?
    pub fn names_families(self) -> bool {
        self < Self::V1_0_0
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What VERSION answers with.
pub fn all_as_text() -> Vec<String> {
    ALL.iter().map(|version| version.as_str().to_owned()).collect()
}
