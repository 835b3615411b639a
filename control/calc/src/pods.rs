//! What is known of each pod: its object and how it is attached here.
//!
//! Owns: joining the two. Does not: match selectors or make routes.
//! Invariant: an attachment counts as a Pod's own only while the Pod may be on this node and neither says that it is
//! another pod of the same name: labels and policy of the one are never the other's.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use tortie_model::workload::{Attachment, Workload};
use tortie_model::{NodeName, WorkloadId};

/// One pod.
#[derive(Debug, Default)]
pub(crate) struct Pod {
    pub(crate) workload: Option<Arc<Workload>>,
    pub(crate) attachment: Option<Arc<Attachment>>,
}

impl Pod {
    /// The Pod object, if the pod has addresses of its own. Pods on the host's network are in no selector's
    /// reach, as in Kubernetes' own words and Calico's deeds: their addresses are the node's.
    pub(crate) fn networked(&self) -> Option<&Arc<Workload>> {
        self.workload.as_ref().filter(|workload| !workload.host_network)
    }

    /// The Pod object of what is attached here.
    pub(crate) fn attached_workload(&self, node: &NodeName) -> Option<&Arc<Workload>> {
        let attached = self.attachment.as_ref()?.uid;
        let is_its = |workload: &&Arc<Workload>| {
            let another = attached.zip(workload.uid).is_some_and(|(attached, known)| attached != known);
            !another && workload.node.as_ref().is_none_or(|its| its == node)
        };
        self.networked().filter(is_its)
    }

    /// Whether it is this node's: attached here, or said to be here.
    pub(crate) fn is_of(&self, node: &NodeName) -> bool {
        let said = self.networked().is_some_and(|workload| workload.node.as_ref() == Some(node));
        self.attachment.is_some() || said
    }

    /// The addresses by which others know it: the attachment's before the Pod status'.
    pub(crate) fn addresses(&self, node: &NodeName) -> &[IpAddr] {
        match (self.attached_workload(node), &self.attachment, self.networked()) {
            (Some(_), Some(attachment), _) => &attachment.addresses,
            (_, _, Some(workload)) => &workload.addresses,
            _ => &[],
        }
    }
}

/// All pods, and those that changed since the last flush.
#[derive(Debug, Default)]
pub(crate) struct Pods {
    pods: BTreeMap<WorkloadId, Pod>,
    dirty: BTreeSet<WorkloadId>,
}

impl Pods {
    /// The Pod object is as given from now on.
    pub(crate) fn set_workload(&mut self, id: WorkloadId, workload: Option<Arc<Workload>>) {
        let pod = self.pods.entry(id.clone()).or_default();
        if pod.workload != workload {
            pod.workload = workload;
            self.dirty.insert(id);
        } else {
            self.forget_if_empty(&id);
        }
    }

    /// It is attached here as given from now on.
    pub(crate) fn set_attachment(&mut self, id: WorkloadId, attachment: Option<Arc<Attachment>>) {
        let pod = self.pods.entry(id.clone()).or_default();
        if pod.attachment != attachment {
            pod.attachment = attachment;
            self.dirty.insert(id);
        } else {
            self.forget_if_empty(&id);
        }
    }

    /// How many Pods there are.
    pub(crate) fn workload_count(&self) -> usize {
        self.pods.values().filter(|pod| pod.workload.is_some()).count()
    }

    /// What is known of a pod.
    pub(crate) fn get(&self, id: &WorkloadId) -> Option<&Pod> {
        self.pods.get(id)
    }

    /// Every pod.
    pub(crate) fn ids(&self) -> impl Iterator<Item = &WorkloadId> {
        self.pods.keys()
    }

    /// The pods that changed, each once; a pod of which nothing is left is forgotten.
    pub(crate) fn take_dirty(&mut self) -> BTreeSet<WorkloadId> {
        let dirty = std::mem::take(&mut self.dirty);
        dirty.iter().for_each(|id| self.forget_if_empty(id));
        dirty
    }

    fn forget_if_empty(&mut self, id: &WorkloadId) {
        if self.pods.get(id).is_some_and(|pod| pod.workload.is_none() && pod.attachment.is_none()) {
            self.pods.remove(id);
        }
    }
}
