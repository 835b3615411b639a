//! What has been said, so that only what differs is said again.
//!
//! Owns: the nouns in force, the merge of settings, the order inside a batch, revisions.
//! Does not: read anything. Invariant: a batch is empty of repetitions.

use crate::event::{Batch, Event, Revision};
use crate::rejection::Rejection;
use crate::resource::Key;
use crate::settings::{Layer, Layers};
use crate::wire::Noun;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::SystemTime;
use tortie_model::settings::Settings;
use tortie_model::workload::PodUid;
use tortie_model::{Change, NodeName, Object};

/// Everything said so far.
pub(crate) struct State {
    node_settings: String,
    objects: BTreeMap<Arc<Key>, Object>,
    layers: Layers,
    settings: Option<Settings>,
    rejections: BTreeSet<Arc<Rejection>>,
    pending: Vec<Object>,
    /// When the first of them came.
    heard: Option<SystemTime>,
    revision: Revision,
    in_sync: bool,
}

impl State {
    /// Nothing said, on a node with these variables.
    pub fn new(node: &str, environment: Layer) -> Self {
        Self {
            node_settings: format!("node.{node}"),
            objects: BTreeMap::new(),
            layers: Layers { environment, ..Layers::default() },
            settings: None,
            rejections: BTreeSet::new(),
            pending: Vec::new(),
            heard: None,
            revision: Revision::default(),
            in_sync: false,
        }
    }

    /// Revision of the last batch.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Whether this pod is to run on this node and is not known, or only another one of its name.
    pub fn is_new_here(&self, pod: &Value) -> bool {
        let text = |pointer: &str| pod.pointer(pointer).and_then(Value::as_str);
        let here = self.node_settings.strip_prefix("node.");
        if text("/spec/nodeName") != here {
            return false;
        }
        let of = |pointer| text(pointer).unwrap_or_default().to_owned();
        let (namespace, name) = (of("/metadata/namespace"), of("/metadata/name"));
        let key = Key { group: String::new(), kind: "Pod".into(), namespace, name };
        let known = match self.objects.get(&key) {
            Some(Object::Workload(change)) => change.value.as_ref(),
            _ => None,
        };
        let uid = text("/metadata/uid").and_then(PodUid::parse);
        known.is_none_or(|known| known.uid != uid || known.node.as_ref().map(NodeName::as_str) != here)
    }

    /// What an object is from now on; `None`: it is gone. Gives whether that is new.
    pub fn set(&mut self, key: &Arc<Key>, noun: Option<&Noun>) -> bool {
        self.heard.get_or_insert_with(SystemTime::now);
        if key.kind == "FelixConfiguration" {
            return self.set_layer(key, noun);
        }
        let object = match noun {
            Some(Noun::Object(object)) if has_value(object) => Some(object),
            _ => None,
        };
        match object {
            Some(object) if self.objects.get(key) != Some(object) => {
                self.objects.insert(key.clone(), object.clone());
                self.pending.push(object.clone());
                true
            }
            Some(_) => false,
            None => {
                let gone = self.objects.remove(key).map(gone);
                let is_new = gone.is_some();
                self.pending.extend(gone);
                is_new
            }
        }
    }

    fn set_layer(&mut self, key: &Key, noun: Option<&Noun>) -> bool {
        let layer = match noun {
            Some(Noun::Settings(layer)) => Some(layer.clone()),
            _ => None,
        };
        let place = match key.name.as_str() {
            "default" => &mut self.layers.default,
            name if name == self.node_settings => &mut self.layers.node,
            _ => return false,
        };
        let is_new = *place != layer;
        *place = layer;
        is_new
    }

    /// What the node's file says.
    pub fn set_file(&mut self, layer: Layer) {
        self.layers.file = layer;
    }

    /// Closes a batch, the reports being as they were. `None`: nothing to say.
    pub fn commit_changes(&mut self) -> Option<Batch> {
        let rejections = std::mem::take(&mut self.rejections);
        self.close(None, rejections)
    }

    /// Closes a batch. `None`: nothing to say.
    pub fn commit(&mut self, rejections: BTreeSet<Arc<Rejection>>) -> Option<Batch> {
        let before = std::mem::take(&mut self.rejections);
        self.close(Some(before), rejections)
    }

    fn close(
        &mut self,
        before: Option<BTreeSet<Arc<Rejection>>>,
        rejections: BTreeSet<Arc<Rejection>>,
    ) -> Option<Batch> {
        let heard = self.heard.take();
        let settings = self.layers.merge();
        if self.settings.as_ref() != Some(&settings) {
            self.settings = Some(settings.clone());
            self.pending.push(Object::Settings(Box::new(settings)));
        }
        let mut changes = std::mem::take(&mut self.pending);
        changes.sort_by_key(place);
        let mut events: Vec<Event> = changes.into_iter().map(Event::Changed).collect();
        if let Some(before) = before {
            events.extend(before.difference(&rejections).cloned().map(Event::Resolved));
            events.extend(rejections.difference(&before).cloned().map(Event::Rejected));
        }
        self.rejections = rejections;
        if !std::mem::replace(&mut self.in_sync, true) {
            events.push(Event::InSync);
        }
        if events.is_empty() {
            return None;
        }
        self.revision.0 += 1;
        Some(Batch { revision: self.revision, heard, events })
    }
}

/// An object comes after what it refers to.
fn place(object: &Object) -> u8 {
    match object {
        Object::Settings(_) => 0,
        Object::Pool(_) | Object::Ranges(_) => 1,
        Object::Node(_) => 2,
        Object::Namespace(_) => 3,
        Object::Workload(_) => 4,
        Object::Attachment(_) | Object::OwnAddresses(_) => 5,
        Object::NetworkPolicy(_) => 6,
        Object::Service(_) => 7,
        Object::Slice(_) => 8,
    }
}

fn has_value(object: &Object) -> bool {
    match object {
        Object::Namespace(change) => change.value.is_some(),
        Object::Node(change) => change.value.is_some(),
        Object::Workload(change) => change.value.is_some(),
        Object::Attachment(change) => change.value.is_some(),
        Object::Service(change) => change.value.is_some(),
        Object::Slice(change) => change.value.is_some(),
        Object::NetworkPolicy(change) => change.value.is_some(),
        Object::Pool(change) => change.value.is_some(),
        Object::Ranges(change) => change.value.is_some(),
        Object::OwnAddresses(_) | Object::Settings(_) => true,
    }
}

fn gone(object: Object) -> Object {
    fn without<K, V>(change: Change<K, V>) -> Change<K, V> {
        Change { key: change.key, value: None }
    }
    match object {
        Object::Namespace(change) => Object::Namespace(without(change)),
        Object::Node(change) => Object::Node(without(change)),
        Object::Workload(change) => Object::Workload(without(change)),
        Object::Attachment(change) => Object::Attachment(without(change)),
        Object::Service(change) => Object::Service(without(change)),
        Object::Slice(change) => Object::Slice(without(change)),
        Object::NetworkPolicy(change) => Object::NetworkPolicy(without(change)),
        Object::Pool(change) => Object::Pool(without(change)),
        Object::Ranges(change) => Object::Ranges(without(change)),
        Object::OwnAddresses(_) => Object::OwnAddresses(Vec::new()),
        Object::Settings(settings) => Object::Settings(settings),
    }
}
