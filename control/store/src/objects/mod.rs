//! Objects of either store, for commands: a directory or a cluster, asked and changed in one way.
//!
//! Owns: what reading and changing means in each. Does not: judge objects, watch, or print.
//! Invariant: a change of a directory is whole or not at all; one of a cluster is whole object by object, and what
//! became of each is known.

mod change;
mod error;
mod ownership;

pub use change::{Done, Dry, Session, What};
pub use error::ObjectsError;

use crate::dir::{Directory, Snapshot};
use crate::input::DEFAULT_NAMESPACE;
use crate::kind::Kind;
use crate::kube::{Cluster, Query};
use crate::rejection::Rejection;
use crate::resource::{Key, Resource};
use serde_json::Value;
use tortie_model::selector::Selector;

/// Where objects are kept.
pub enum Objects {
    /// A directory of YAML.
    Directory(Directory),
    /// A cluster.
    Cluster(Box<Cluster>),
}

/// Which objects of a kind.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Only in this namespace; `None`: everywhere. There is none whose name is empty.
    pub namespace: Option<String>,
    /// Only those with these labels.
    pub labels: Selector,
    /// The same as it was typed, which is how a cluster takes it.
    pub labels_text: String,
}

/// Who can be asked for objects.
pub trait Look {
    /// One object, if there is one.
    fn find(&self, kind: &'static Kind, key: &Key) -> Result<Option<Resource>, ObjectsError>;
    /// All that are meant, by namespace and name.
    fn list(&self, kind: &'static Kind, selection: &Selection) -> Result<Vec<Resource>, ObjectsError>;
}

/// What is there now.
pub enum View<'o> {
    /// Read once, all of it.
    Directory(Box<Snapshot>),
    /// Asked each time.
    Cluster(&'o Cluster),
}

impl Objects {
    /// To look only.
    pub fn view(&self) -> Result<View<'_>, ObjectsError> {
        match self {
            Self::Directory(directory) => Ok(View::Directory(Box::new(directory.snapshot()?))),
            Self::Cluster(cluster) => Ok(View::Cluster(cluster)),
        }
    }

    /// To change. In a directory nobody else changes anything until it is over.
    pub fn begin(&self, dry: Dry) -> Result<Session<'_>, ObjectsError> {
        match self {
            Self::Directory(directory) => Session::in_directory(directory, dry),
            Self::Cluster(cluster) => Ok(Session::in_cluster(cluster, dry)),
        }
    }

    /// To change parts of objects: under another name than whole ones, so that [`Session::apply`] tells what was never in
    /// a file from what is no longer in it.
    #[must_use]
    pub fn for_parts(self) -> Self {
        match self {
            Self::Cluster(cluster) => {
                let manager = ownership::of_parts(cluster.field_manager());
                Self::Cluster(Box::new(cluster.with_field_manager(&manager)))
            }
            directory @ Self::Directory(_) => directory,
        }
    }

    /// The namespace of objects that name none.
    pub fn namespace(&self) -> Result<String, ObjectsError> {
        match self {
            Self::Directory(_) => Ok(DEFAULT_NAMESPACE.to_owned()),
            Self::Cluster(cluster) => Ok(cluster.namespace()?),
        }
    }
}

impl View<'_> {
    /// What of a directory could not be read.
    pub fn rejections(&self) -> &[Rejection] {
        match self {
            Self::Directory(snapshot) => &snapshot.rejections,
            Self::Cluster(_) => &[],
        }
    }
}

impl Look for View<'_> {
    fn find(&self, kind: &'static Kind, key: &Key) -> Result<Option<Resource>, ObjectsError> {
        match self {
            Self::Directory(snapshot) => Ok(snapshot.objects.get(key).map(|stored| stored.resource.clone())),
            Self::Cluster(cluster) => find_in(cluster, kind, key),
        }
    }

    fn list(&self, kind: &'static Kind, selection: &Selection) -> Result<Vec<Resource>, ObjectsError> {
        match self {
            Self::Directory(snapshot) => {
                let all = snapshot.objects.values().map(|stored| &stored.resource);
                Ok(all.filter(|it| selection.means(kind, it)).cloned().collect())
            }
            Self::Cluster(cluster) => list_in(cluster, kind, selection),
        }
    }
}

impl Selection {
    /// Whether an object is meant.
    fn means(&self, kind: &Kind, resource: &Resource) -> bool {
        let key = &resource.key;
        let here = !kind.namespaced || self.namespace.as_ref().is_none_or(|it| *it == key.namespace);
        let labels = resource.labels().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        here && key.kind == kind.kind && key.group == kind.group && self.labels.matches(&labels)
    }
}

fn find_in(cluster: &Cluster, kind: &'static Kind, key: &Key) -> Result<Option<Resource>, ObjectsError> {
    Ok(find_with_book(cluster, kind, key)?.map(plain))
}

/// With the server's book of who wrote which field.
fn find_with_book(
    cluster: &Cluster,
    kind: &'static Kind,
    key: &Key,
) -> Result<Option<Resource>, ObjectsError> {
    match cluster.get(kind, &key.namespace, &key.name) {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.code() == Some(404) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn list_in(
    cluster: &Cluster,
    kind: &'static Kind,
    selection: &Selection,
) -> Result<Vec<Resource>, ObjectsError> {
    let namespace = selection.namespace.clone().filter(|_| kind.namespaced);
    if namespace.as_deref() == Some("") {
        // The server would take it for every namespace.
        return Ok(Vec::new());
    }
    let namespace = namespace.unwrap_or_default();
    let mut query = Query { namespace, labels: selection.labels_text.clone(), fields: String::new() };
    let looks_itself = !query.labels.is_empty() && cluster.api(kind)?.stores_policies();
    if looks_itself {
        // The server does not see the labels that Calico keeps in an annotation.
        query.labels.clear();
    }
    let mut found: Vec<Resource> = cluster.list(kind, &query)?.into_iter().map(plain).collect();
    found.retain(|it| !looks_itself || selection.means(kind, it));
    found.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(found)
}

/// Without the server's book, which nobody wants to read or to give back.
fn plain(mut resource: Resource) -> Resource {
    if let Some(metadata) = resource.value.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    resource
}
