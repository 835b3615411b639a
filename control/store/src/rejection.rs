//! Reports of what is not in force, and why.
//!
//! Owns: [`Rejection`] and its one-line form. Does not: find faults.
//! Invariant: names where it was read, the object and field as far as they are known, and what to do.

use std::fmt;
use std::path::PathBuf;

/// Something the user wrote that is not in force.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Rejection {
    /// Where it was read.
    pub origin: Origin,
    /// Which object; `None` when the text does not say.
    pub object: Option<ObjectName>,
    /// Path of the field, such as `spec.ingress[0].ports[1].endPort`.
    pub field: Option<String>,
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub fix: String,
    /// What this means for what is in force.
    pub effect: Effect,
}

/// Where something was read.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Origin {
    /// A file of the directory, or one given with `-f`; the line where the fault or its document begins,
    /// counted from 1; 0: the file as a whole.
    File {
        /// Path as the user would type it.
        path: PathBuf,
        /// Line.
        line: u64,
    },
    /// An environment variable, by name.
    Variable(String),
    /// Something typed, such as `--patch`.
    Argument(String),
    /// The API server.
    Server,
}

/// Name of an object for people and reports.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectName {
    /// `NetworkPolicy`.
    pub kind: String,
    /// Empty for objects of the cluster.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// What a rejection means for what is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Effect {
    /// The last good version stays in force.
    KeepsLast,
    /// There is no good version: nothing of it is in force.
    Absent,
    /// There is no good version of a policy: it isolates its pods, and allows what of its rules can be read.
    Isolates,
    /// It is kept, but this version of the data plane does not act on it.
    NotEnforced,
}

impl Effect {
    /// For a table of reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::KeepsLast => "the last good version stays in force",
            Self::Absent => "nothing of it is in force",
            Self::Isolates => "it isolates its pods, and rules that are refused allow nothing",
            Self::NotEnforced => "kept, not enforced",
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line: 0 } => write!(f, "{}", path.display()),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) | Self::Argument(name) => f.write_str(name),
            Self::Server => f.write_str("API server"),
        }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespace.as_str() {
            "" => write!(f, "{} {}", self.kind, self.name),
            namespace => write!(f, "{} {namespace}/{}", self.kind, self.name),
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.origin)?;
        if let Some(object) = &self.object {
            write!(f, "{object}: ")?;
        }
        if let Some(field) = &self.field {
            write!(f, "{field}: ")?;
        }
        write!(f, "{}; {}", self.problem, self.fix)
    }
}
