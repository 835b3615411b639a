//! How pods are attached to this node: the CNI plugin's records, as objects of the model.
//!
//! Owns: which records are known. Does not: wire anything.
//! Invariant: an attachment the plugin has said is gone does not come back from a file it has yet to remove.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tortie::agent_api::EndpointRecord;
use tortie_model::{
    Change, Object, WorkloadId,
    workload::{Attachment, PodUid},
};

/// Records in force.
pub struct Attachments {
    run_dir: PathBuf,
    known: BTreeMap<WorkloadId, Attachment>,
    gone: BTreeSet<(WorkloadId, String)>,
    bad: BTreeMap<PathBuf, String>,
}

impl Attachments {
    /// Nothing known yet.
    pub fn new(run_dir: &Path) -> Self {
        Self {
            run_dir: run_dir.to_owned(),
            known: BTreeMap::new(),
            gone: BTreeSet::new(),
            bad: BTreeMap::new(),
        }
    }

    /// Reads the records again; gives what has changed.
    pub fn reread(&mut self) -> Vec<Object> {
        let records = match EndpointRecord::read_all(&self.run_dir) {
            Ok(records) => records,
            Err(error) => {
                tracing::error!(%error, "the records of endpoints cannot be read; the known ones stay in force");
                return Vec::new();
            }
        };
        let (mut found, mut bad) = (BTreeMap::new(), BTreeMap::new());
        for record in records {
            match record.map(|record| (id_of(&record), attachment(&record))) {
                Ok((id, Ok(attachment))) => drop(found.insert(id, attachment)),
                Ok((id, Err(problem))) => drop(bad.insert(PathBuf::from(id.to_string()), problem)),
                Err(error) => drop(bad.insert(error.path.clone(), error.to_string())),
            }
        }
        self.report(bad);
        self.gone.retain(|(id, container)| found.get(id).is_some_and(|a| a.container_id == *container));
        found.retain(|id, attachment| !self.gone.contains(&(id.clone(), attachment.container_id.clone())));
        self.replace(found)
    }

    fn report(&mut self, bad: BTreeMap<PathBuf, String>) {
        for (path, problem) in &bad {
            if self.bad.get(path) != Some(problem) {
                tracing::error!(record = %path.display(), problem, "an endpoint's record is not in force");
            }
        }
        self.bad = bad;
    }

    fn replace(&mut self, found: BTreeMap<WorkloadId, Attachment>) -> Vec<Object> {
        let before = std::mem::replace(&mut self.known, found);
        let new = self.known.iter().filter(|(id, attachment)| before.get(*id) != Some(*attachment));
        let gone = before.keys().filter(|id| !self.known.contains_key(*id));
        let changes = new.map(|(id, a)| (id, Some(Arc::new(a.clone())))).chain(gone.map(|id| (id, None)));
        changes.map(|(id, value)| Object::Attachment(Change { key: id.clone(), value })).collect()
    }

    /// The plugin says that an endpoint goes; gives the change, if it was known.
    pub fn gone(&mut self, id: &WorkloadId, container: &str) -> Option<Object> {
        self.gone.insert((id.clone(), container.to_owned()));
        if self.known.get(id)?.container_id != container {
            return None;
        }
        self.known.remove(id);
        Some(Object::Attachment(Change { key: id.clone(), value: None }))
    }

    /// Records that are not in force, with the reason.
    pub fn bad(&self) -> &BTreeMap<PathBuf, String> {
        &self.bad
    }
}

fn id_of(record: &EndpointRecord) -> WorkloadId {
    WorkloadId::new(record.namespace.as_str(), record.name.as_str())
}

fn attachment(record: &EndpointRecord) -> Result<Attachment, String> {
    let mac_of =
        |name: &str, text: &str| mac(text).ok_or_else(|| format!("{name}: {text:?} is no Ethernet address"));
    Ok(Attachment {
        interface: record.interface.clone(),
        mac: mac_of("podMac", &record.pod_mac)?,
        host_mac: mac_of("hostMac", &record.host_mac)?,
        addresses: record.addresses.clone(),
        container_id: record.container_id.clone(),
        uid: record.uid.as_deref().and_then(PodUid::parse),
    })
}

fn mac(text: &str) -> Option<[u8; 6]> {
    let bytes: Vec<u8> =
        text.split(':').map(|part| u8::from_str_radix(part, 16).ok()).collect::<Option<_>>()?;
    bytes.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ethernet_address_has_six_parts() {
        assert_eq!(mac("ee:ee:ee:ee:ee:0f"), Some([0xee, 0xee, 0xee, 0xee, 0xee, 0x0f]));
        assert_eq!(mac("ee:ee"), None);
        assert_eq!(mac("ee:ee:ee:ee:ee:zz"), None);
    }
}
