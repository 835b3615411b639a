//! Namespaces.

use litemap::LiteMap;

/// Labels of an object. There are few of an object and many objects: nodes of a tree would be mostly empty.
pub type Labels = LiteMap<String, String>;

/// A namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespace {
    /// Its labels.
    pub labels: Labels,
}
