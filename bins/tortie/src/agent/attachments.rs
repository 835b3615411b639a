//! How pods are attached to this node: the CNI plugin's records, as objects of the model.
//!
//! Owns: which records are known. Does not: wire anything.
//! Invariant: an attachment the plugin has said is gone does not come back from a file it has yet to remove; one that
//! is known stays in force while its file cannot be read.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tortie::agent_api::{self, EndpointRecord};
use tortie_model::{
    Change, Object, WorkloadId,
    workload::{Attachment, PodUid},
};
use tortie_observe::drops::{Place, PlaceNames};

/// So many pods that are gone have their network namespace's number remembered.
const GONE_KEPT: usize = 1000;

/// Records in force.
pub struct Attachments {
    run_dir: PathBuf,
    known: BTreeMap<WorkloadId, Attachment>,
    gone: BTreeSet<(WorkloadId, String)>,
    bad: BTreeMap<PathBuf, String>,
    by_netns: BTreeMap<u64, WorkloadId>,
    owners: Owners,
    version: u64,
}

/// Who has what, by `namespace/name`: of [`Attachments::all`].
#[derive(Default)]
pub struct Owners {
    by_address: BTreeMap<IpAddr, Arc<str>>,
    by_interface: BTreeMap<String, Arc<str>>,
}

impl Owners {
    fn of(known: &BTreeMap<WorkloadId, Attachment>) -> Self {
        let mut owners = Self::default();
        for (id, attachment) in known {
            let name: Arc<str> = id.to_string().into();
            owners.by_address.extend(attachment.addresses.iter().map(|it| (*it, name.clone())));
            owners.by_interface.insert(attachment.interface.clone(), name);
        }
        owners
    }

    /// The names of a place, in this moment. `interfaces`: their names by number.
    pub fn name(&self, place: Place, interfaces: &BTreeMap<u32, String>) -> PlaceNames {
        let interface = interfaces.get(&place.ifindex);
        let at = |address: Option<IpAddr>| self.by_address.get(&address?).cloned();
        PlaceNames {
            interface: interface.map(|name| name.as_str().into()),
            interface_pod: interface.and_then(|name| self.by_interface.get(name).cloned()),
            source_pod: at(place.source),
            destination_pod: at(place.destination),
        }
    }
}

impl Attachments {
    /// Nothing known yet.
    pub fn new(run_dir: &Path) -> Self {
        Self {
            run_dir: run_dir.to_owned(),
            known: BTreeMap::new(),
            gone: BTreeSet::new(),
            bad: BTreeMap::new(),
            by_netns: BTreeMap::new(),
            owners: Owners::default(),
            version: 0,
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
        let (mut found, mut bad, mut now) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        for record in records {
            if let Ok(record) = &record
                && let Some(cookie) = record.netns_cookie
            {
                self.by_netns.insert(cookie, id_of(record));
                now.insert(cookie);
            }
            match record.map(|record| (id_of(&record), attachment(&record))) {
                Ok((id, Ok(attachment))) => drop(found.insert(id, attachment)),
                Ok((id, Err(problem))) => drop(bad.insert(self.path_of(&id), problem)),
                Err(error) => drop(bad.insert(error.path.clone(), error.source.to_string())),
            }
        }
        self.forget_namespaces(&now);
        for (path, problem) in &mut bad {
            let Some(id) = id_in(path) else {
                *problem = format!("{}: {problem}; it is no record of a pod: remove it", path.display());
                continue;
            };
            let known = self.known.get(&id).cloned();
            let meanwhile =
                if known.is_some() { "what was known of it stays in force" } else { "it has no network" };
            *problem = format!(
                "{}: {problem}; pod {id}: {meanwhile}; delete the pod so that it is made anew, or the file if the pod is gone",
                path.display()
            );
            found.extend(known.map(|known| (id, known)));
        }
        self.report(bad);
        self.gone.retain(|(id, container)| found.get(id).is_some_and(|a| a.container_id == *container));
        found.retain(|id, attachment| !self.gone.contains(&(id.clone(), attachment.container_id.clone())));
        self.replace(found)
    }

    /// Of pods that are gone, those that went last stay: numbers ascend by and large, and none is given out again.
    fn forget_namespaces(&mut self, now: &BTreeSet<u64>) {
        let gone: Vec<u64> = self.by_netns.keys().filter(|cookie| !now.contains(cookie)).copied().collect();
        for cookie in &gone[..gone.len().saturating_sub(GONE_KEPT)] {
            self.by_netns.remove(cookie);
        }
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
        let changes: Vec<Object> =
            changes.map(|(id, value)| Object::Attachment(Change { key: id.clone(), value })).collect();
        if !changes.is_empty() {
            self.changed();
        }
        changes
    }

    fn changed(&mut self) {
        self.owners = Owners::of(&self.known);
        self.version += 1;
    }

    fn path_of(&self, id: &WorkloadId) -> PathBuf {
        agent_api::endpoints_dir(&self.run_dir)
            .join(EndpointRecord::file_name(id.namespace.as_str(), &id.name))
    }

    /// The plugin says that an endpoint goes; gives the change, if it was known.
    pub fn gone(&mut self, id: &WorkloadId, container: &str) -> Option<Object> {
        self.gone.insert((id.clone(), container.to_owned()));
        if self.known.get(id)?.container_id != container {
            return None;
        }
        self.known.remove(id);
        self.changed();
        Some(Object::Attachment(Change { key: id.clone(), value: None }))
    }

    /// Attached pods.
    pub fn all(&self) -> &BTreeMap<WorkloadId, Attachment> {
        &self.known
    }

    /// Whether a pod's interface has this name.
    pub fn have(&self, interface: &str) -> bool {
        self.pod_at(interface).is_some()
    }

    /// Who has which address and interface.
    pub fn owners(&self) -> &Owners {
        &self.owners
    }

    /// The pod whose interface has this name.
    pub fn pod_at(&self, interface: &str) -> Option<&WorkloadId> {
        self.known.iter().find(|(_, attachment)| attachment.interface == interface).map(|(id, _)| id)
    }

    /// Pods by the kernel's number of their network namespace, as far as it is known; also of those that went lately.
    pub fn by_netns(&self) -> &BTreeMap<u64, WorkloadId> {
        &self.by_netns
    }

    /// Another one whenever [`Attachments::all`] are others.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Records that cannot be read: which, whose, and what to do.
    pub fn bad(&self) -> impl Iterator<Item = &String> {
        self.bad.values()
    }

    /// What is wrong with a pod's record.
    pub fn bad_of(&self, id: &WorkloadId) -> Option<&String> {
        self.bad.get(&self.path_of(id))
    }

    /// Where the record of a pod should be.
    pub fn place(&self, id: &WorkloadId) -> String {
        self.path_of(id).display().to_string()
    }
}

/// The pod that a file of that name is the record of.
fn id_in(path: &Path) -> Option<WorkloadId> {
    let (namespace, name) = path.file_stem()?.to_str()?.split_once('_')?;
    Some(WorkloadId::new(namespace, name))
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

    fn record(name: &str) -> String {
        format!(
            r#"{{"namespace":"shop","name":"{name}","containerId":"c1","netns":"/run/netns/x","interface":"cali1","hostMac":"ee:ee:ee:ee:ee:ee","podMac":"02:00:00:00:00:01","addresses":["10.65.0.2"],"mtu":1450,"podInterface":"eth0","network":"tortie","ipam":null}}"#
        )
    }

    #[test]
    fn a_record_that_can_no_longer_be_read_stays_in_force_until_its_file_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let records = agent_api::endpoints_dir(dir.path());
        std::fs::create_dir_all(&records).unwrap();
        let path = records.join("shop_front.json");
        let mut attachments = Attachments::new(dir.path());
        std::fs::write(&path, record("front")).unwrap();
        assert_eq!(attachments.reread().len(), 1);
        for damaged in ["", "{", &record("front").replace("02:00:00:00:00:01", "no")] {
            std::fs::write(&path, damaged).unwrap();
            assert_eq!(attachments.reread(), [], "{damaged:?}");
            let bad: Vec<_> = attachments.bad().collect();
            let [told] = bad[..] else { panic!("{bad:?}") };
            for part in [path.to_str().unwrap(), "pod shop/front", "stays in force", "delete the pod"] {
                assert!(told.contains(part), "{part}: {told}");
            }
            assert_eq!(attachments.bad_of(&WorkloadId::new("shop", "front")), Some(told));
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(attachments.reread().len(), 1, "it is gone");
        assert_eq!((attachments.all().len(), attachments.bad().count()), (0, 0));
    }

    #[test]
    fn of_a_record_that_could_never_be_read_it_is_said_that_its_pod_has_no_network() {
        let dir = tempfile::tempdir().unwrap();
        let records = agent_api::endpoints_dir(dir.path());
        std::fs::create_dir_all(&records).unwrap();
        std::fs::write(records.join("shop_front.json"), "{").unwrap();
        std::fs::write(records.join("else.json"), "{").unwrap();
        let mut attachments = Attachments::new(dir.path());
        assert_eq!(attachments.reread(), []);
        let told: Vec<_> = attachments.bad().map(String::as_str).collect();
        assert!(told.iter().any(|it| it.contains("pod shop/front: it has no network")), "{told:?}");
        assert!(told.iter().any(|it| it.contains("no record of a pod: remove it")), "{told:?}");
    }

    #[test]
    fn namespaces_of_pods_that_are_gone_are_remembered_for_a_while_and_those_of_others_for_good() {
        let dir = tempfile::tempdir().unwrap();
        let records = agent_api::endpoints_dir(dir.path());
        std::fs::create_dir_all(&records).unwrap();
        let with = |name: &str, cookie: u64| {
            record(name).replace("\"hostMac\"", &format!("\"netnsCookie\":{cookie},\"hostMac\""))
        };
        // The one that was there first has the smallest number.
        std::fs::write(records.join("shop_old.json"), with("old", 1)).unwrap();
        let mut attachments = Attachments::new(dir.path());
        let last = GONE_KEPT as u64 + 10;
        for cookie in 2..=last {
            let path = records.join("shop_job.json");
            std::fs::write(&path, with("job", cookie)).unwrap();
            attachments.reread();
        }
        let known: Vec<u64> = attachments.by_netns().keys().copied().collect();
        assert_eq!((known.len(), known[0]), (GONE_KEPT + 2, 1));
        assert_eq!(known.last(), Some(&last));
        assert_eq!(attachments.by_netns()[&1], WorkloadId::new("shop", "old"));
    }

    #[test]
    fn an_ethernet_address_has_six_parts() {
        assert_eq!(mac("ee:ee:ee:ee:ee:0f"), Some([0xee, 0xee, 0xee, 0xee, 0xee, 0x0f]));
        assert_eq!(mac("ee:ee"), None);
        assert_eq!(mac("ee:ee:ee:ee:ee:zz"), None);
    }
}
