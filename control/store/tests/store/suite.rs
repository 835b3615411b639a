//! What every store does, as a suite over [`Backend`].

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};
use tortie_model::{Object, ObjectId, SliceId};
use tortie_store::{Batch, Effect, Event, Rejection, Revision, Store};

/// A datastore that a test can write.
pub trait Backend {
    /// An empty one.
    fn new() -> Self;
    /// Writes one object, new or changed; no other object is touched.
    fn put(&mut self, name: &str, yaml: &str);
    /// Removes the object written under that name.
    fn delete(&mut self, name: &str);
    /// Opens it as node `node1`, with a file of settings.
    fn open_with(&self, config_file: Option<&Path>) -> Store;
    /// Opens it as node `node1`.
    fn open(&self) -> Store {
        self.open_with(None)
    }
}

/// Waits for a condition on what a store says, a few seconds at most.
pub struct Listener {
    pub store: Store,
    pub batches: Vec<Batch>,
}

impl Listener {
    pub fn new(store: Store) -> Self {
        Self { store, batches: Vec::new() }
    }

    /// Everything the store has to say now.
    pub fn catch_up(&mut self) -> Vec<Event> {
        let revision = self.store.handle().blocking_rescan().unwrap();
        self.up_to(revision)
    }

    fn up_to(&mut self, revision: Revision) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(batch) = self.store.try_next() {
            assert!(batch.revision <= revision, "{batch:#?} was said after {revision} was promised");
            events.extend(batch.events.iter().cloned());
            self.batches.push(batch);
        }
        events
    }

    /// Waits for the next batch without asking.
    pub fn next_unasked(&mut self) -> Vec<Event> {
        let until = Instant::now() + Duration::from_secs(5);
        while Instant::now() < until {
            if let Some(batch) = self.store.try_next() {
                let events = batch.events.clone();
                self.batches.push(batch);
                return events;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        panic!("nothing was said within five seconds");
    }
}

pub fn changed(events: &[Event]) -> Vec<&Object> {
    events.iter().filter_map(|e| if let Event::Changed(object) = e { Some(object) } else { None }).collect()
}

pub fn rejected(events: &[Event]) -> Vec<&Rejection> {
    events.iter().filter_map(|e| if let Event::Rejected(r) = e { Some(&**r) } else { None }).collect()
}

pub fn resolved(events: &[Event]) -> Vec<&Rejection> {
    events.iter().filter_map(|e| if let Event::Resolved(r) = e { Some(&**r) } else { None }).collect()
}

pub fn id(object: &Object) -> (ObjectId, bool) {
    match object {
        Object::Namespace(c) => (ObjectId::Namespace(c.key.clone()), c.value.is_some()),
        Object::Node(c) => (ObjectId::Node(c.key.clone()), c.value.is_some()),
        Object::Workload(c) => (ObjectId::Workload(c.key.clone()), c.value.is_some()),
        Object::Attachment(c) => (ObjectId::Attachment(c.key.clone()), c.value.is_some()),
        Object::Service(c) => (ObjectId::Service(c.key.clone()), c.value.is_some()),
        Object::Slice(c) => (ObjectId::Slice(c.key.clone()), c.value.is_some()),
        Object::NetworkPolicy(c) => (ObjectId::NetworkPolicy(c.key.clone()), c.value.is_some()),
        Object::Pool(c) => (ObjectId::Pool(c.key.clone()), c.value.is_some()),
        Object::Ranges(c) => (ObjectId::Ranges(c.key.clone()), c.value.is_some()),
        Object::OwnAddresses(_) => (ObjectId::OwnAddresses, true),
        Object::Settings(_) => (ObjectId::Settings, true),
    }
}

const NAMESPACE: &str = "{apiVersion: v1, kind: Namespace, metadata: {name: shop}}";
const SERVICE: &str = "{apiVersion: v1, kind: Service, metadata: {name: web, namespace: shop}, \
    spec: {clusterIP: 10.96.0.10, ports: [{port: 80}]}}";
const POD: &str = "{apiVersion: v1, kind: Pod, metadata: {name: web-1, namespace: shop, labels: {app: web}}, \
    spec: {nodeName: node1, containers: [{name: c}]}, status: {podIP: 10.244.1.5}}";
const SLICE: &str = "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: web-a, \
    namespace: shop, labels: {kubernetes.io/service-name: web}}, addressType: IPv4, \
    ports: [{port: 8080}], endpoints: [{addresses: [10.244.1.5]}]}";
const POLICY: &str = "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: deny, \
    namespace: shop}, spec: {podSelector: {}}}";
const BAD_POLICY: &str = "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: deny, \
    namespace: shop}, spec: {podSelector: {}, ingress: [{ports: [{port: 80, endPort: 70}]}]}}";
const POOL: &str = "{apiVersion: projectcalico.org/v3, kind: IPPool, metadata: {name: main}, \
    spec: {cidr: 10.244.0.0/16, natOutgoing: true}}";
const NODE: &str = "{apiVersion: v1, kind: Node, metadata: {name: node1}, spec: {podCIDRs: [10.244.1.0/24]}, \
    status: {addresses: [{type: InternalIP, address: 192.168.0.1}]}}";

fn felix(name: &str, spec: &str) -> String {
    format!(
        "{{apiVersion: projectcalico.org/v3, kind: FelixConfiguration, metadata: {{name: {name}}}, spec: {{{spec}}}}}"
    )
}

fn settings(events: &[Event]) -> Option<tortie_model::settings::Settings> {
    let last = changed(events).into_iter().rev().find(|object| matches!(object, Object::Settings(_)));
    last.map(|object| if let Object::Settings(s) = object { (**s).clone() } else { unreachable!() })
}

/// Everything there at the start is said, in the order of references, and `InSync` after it, once.
pub fn what_was_there_is_said_in_order_before_in_sync<B: Backend>() {
    let mut backend = B::new();
    let all =
        [("a", SLICE), ("b", SERVICE), ("c", POLICY), ("d", POD), ("e", NAMESPACE), ("f", NODE), ("g", POOL)];
    all.iter().for_each(|(name, yaml)| backend.put(name, yaml));
    let mut listener = Listener::new(backend.open());
    let events = listener.catch_up();
    let ids: Vec<_> = changed(&events).into_iter().map(id).collect();
    let expected = [
        ObjectId::Settings,
        ObjectId::Pool("main".into()),
        ObjectId::Node("node1".into()),
        ObjectId::Namespace("shop".into()),
        ObjectId::Workload(tortie_model::WorkloadId::new("shop", "web-1")),
        ObjectId::NetworkPolicy(tortie_model::PolicyId::new("shop", "deny")),
        ObjectId::Service(tortie_model::ServiceId::new("shop", "web")),
        ObjectId::Slice(SliceId::new("shop", "web-a")),
    ];
    assert_eq!(ids, expected.map(|id| (id, true)));
    assert_eq!(events.last(), Some(&Event::InSync));
    backend.put("h", "{apiVersion: v1, kind: Namespace, metadata: {name: more}}");
    assert!(!listener.catch_up().contains(&Event::InSync));
}

/// An empty datastore is in sync, with the default settings.
pub fn an_empty_store_is_in_sync<B: Backend>() {
    let backend = B::new();
    let mut listener = Listener::new(backend.open());
    let events = listener.catch_up();
    assert_eq!(settings(&events), Some(tortie_model::settings::Settings::default()));
    assert_eq!(events.len(), 2);
    assert_eq!(events[1], Event::InSync);
}

/// A time between the change and its batch; what came before and said nothing new does not count.
pub fn a_batch_says_when_its_first_change_came<B: Backend>() {
    let mut backend = B::new();
    backend.put("a", POD);
    let mut listener = Listener::new(backend.open());
    listener.catch_up();
    backend.put("a", POD);
    listener.catch_up();
    std::thread::sleep(Duration::from_millis(20));
    let before = SystemTime::now();
    backend.put("b", POLICY);
    listener.catch_up();
    let heard = listener.batches.last().and_then(|batch| batch.heard).expect("it came from the datastore");
    assert!(before <= heard && heard <= SystemTime::now(), "{before:?} {heard:?}");
}

/// What is already in force is not said again.
pub fn the_same_again_says_nothing<B: Backend>() {
    let mut backend = B::new();
    backend.put("a", POD);
    let mut listener = Listener::new(backend.open());
    listener.catch_up();
    backend.put("a", POD);
    backend.put("b", POLICY);
    let events = listener.catch_up();
    assert_eq!(changed(&events).len(), 1);
    assert_eq!(listener.catch_up(), []);
}

/// A change says the new value, a deletion says `None`.
pub fn changes_and_deletions_are_said<B: Backend>() {
    let mut backend = B::new();
    backend.put("a", POD);
    let mut listener = Listener::new(backend.open());
    listener.catch_up();
    backend.put("a", &POD.replace("app: web", "app: front"));
    let events = listener.catch_up();
    let [Object::Workload(change)] = changed(&events)[..] else { panic!("{events:?}") };
    assert_eq!(change.value.as_ref().unwrap().labels.get("app").unwrap(), "front");
    backend.delete("a");
    let events = listener.catch_up();
    let [Object::Workload(change)] = changed(&events)[..] else { panic!("{events:?}") };
    assert_eq!(change.value, None);
}

/// A bad version leaves the last good one in force, until it is good again.
pub fn a_bad_version_keeps_the_last_good_one<B: Backend>() {
    let mut backend = B::new();
    backend.put("a", POLICY);
    let mut listener = Listener::new(backend.open());
    listener.catch_up();
    backend.put("a", BAD_POLICY);
    let events = listener.catch_up();
    assert_eq!(changed(&events), [] as [&Object; 0]);
    let [rejection] = rejected(&events)[..] else { panic!("{events:?}") };
    assert_eq!(rejection.field.as_deref(), Some("spec.ingress[0].ports[0].endPort"));
    assert_eq!(rejection.effect, Effect::KeepsLast);
    assert_eq!(rejection.object.as_ref().unwrap().to_string(), "NetworkPolicy shop/deny");
    let said = rejection.clone();
    backend.put("a", &BAD_POLICY.replace("70", "90"));
    let events = listener.catch_up();
    assert_eq!(changed(&events).len(), 1);
    assert_eq!(resolved(&events), [&said]);
}

/// A policy that was never good does not leave its pods open; it becomes itself when it is good, and goes with its object.
pub fn a_policy_that_was_never_good_isolates_its_pods<B: Backend>() {
    let mut backend = B::new();
    let two = BAD_POLICY.replace("ingress: [", "ingress: [{ports: [{port: 443}]}, ");
    backend.put("a", &two);
    let mut listener = Listener::new(backend.open());
    let rules = |events: &[Event]| {
        let rules = changed(events).into_iter().filter_map(|object| match object {
            Object::NetworkPolicy(change) => Some(change.value.as_ref().map(|policy| policy.ingress.clone())),
            _ => None,
        });
        rules.map(|policy| policy.map(|ingress| ingress.map(|rules| rules.len()))).collect::<Vec<_>>()
    };
    let events = listener.catch_up();
    assert_eq!(rules(&events), [Some(Some(1))], "the rule that can be read");
    let [rejection] = rejected(&events)[..] else { panic!("{events:?}") };
    assert_eq!(rejection.effect, Effect::Isolates);
    assert_eq!(rejection.field.as_deref(), Some("spec.ingress[1].ports[0].endPort"));
    let said = rejection.clone();
    // Another one that is no good is no last good version either.
    backend.put("a", BAD_POLICY);
    let events = listener.catch_up();
    assert_eq!(rules(&events), [Some(Some(0))]);
    assert_eq!((rejected(&events)[0].effect, resolved(&events)), (Effect::Isolates, vec![&said]));
    backend.put("a", &BAD_POLICY.replace("70", "90"));
    assert_eq!(rules(&listener.catch_up()), [Some(Some(1))]);
    backend.put("a", BAD_POLICY);
    let events = listener.catch_up();
    assert_eq!((rules(&events), rejected(&events)[0].effect), (vec![], Effect::KeepsLast));
    backend.delete("a");
    assert_eq!(rules(&listener.catch_up()), [None]);
}

/// An object that was never good is not in force; deleting it takes the report back.
pub fn an_object_that_was_never_good_is_not_there<B: Backend>() {
    let mut backend = B::new();
    backend.put("a", &POOL.replace("10.244.0.0/16", "10.244.0.0/33"));
    let mut listener = Listener::new(backend.open());
    let events = listener.catch_up();
    assert_eq!(changed(&events).len(), 1, "only the settings: {events:?}");
    let [rejection] = rejected(&events)[..] else { panic!("{events:?}") };
    assert_eq!(rejection.effect, Effect::Absent);
    let said = rejection.clone();
    backend.delete("a");
    assert_eq!(resolved(&listener.catch_up()), [&said]);
}

/// `node.<name>` wins over `default`, other nodes' do not count, and a removal falls back.
pub fn settings_are_merged<B: Backend>() {
    let mut backend = B::new();
    backend.put("a", &felix("default", "interfacePrefix: tap, bpfMapSizeConntrack: 1000"));
    backend.put("b", &felix("node.node1", "interfacePrefix: eni"));
    backend.put("c", &felix("node.node2", "interfacePrefix: azv"));
    let mut listener = Listener::new(backend.open());
    let merged = settings(&listener.catch_up()).unwrap();
    assert_eq!((merged.interface_prefix.as_str(), merged.map_sizes.flows), ("eni", Some(1000)));
    backend.delete("b");
    assert_eq!(settings(&listener.catch_up()).unwrap().interface_prefix, "tap");
    backend.put("a", &felix("default", "interfacePrefix: tap, bpfMapSizeConntrack: many"));
    let events = listener.catch_up();
    assert_eq!(settings(&events), None);
    assert_eq!(rejected(&events)[0].field.as_deref(), Some("spec.bpfMapSizeConntrack"));
    backend.delete("a");
    assert_eq!(settings(&listener.catch_up()).unwrap(), tortie_model::settings::Settings::default());
}

/// The node's own file is looked at from time to time and at each rescan. While it is gone or wrong what it said last is in
/// force, and that is told.
pub fn a_change_of_the_nodes_file_is_in_force<B: Backend>() {
    let mut backend = B::new();
    backend.put("a", &felix("default", "interfacePrefix: tap, bpfMapSizeConntrack: 1000"));
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("felix.cfg");
    let write = |text: &str| std::fs::write(&file, text).unwrap();
    write("InterfacePrefix = eni\n");
    let mut listener = Listener::new(backend.open_with(Some(&file)));
    let prefix = |events: &[Event]| settings(events).map(|settings| settings.interface_prefix.clone());
    assert_eq!(prefix(&listener.catch_up()).as_deref(), Some("eni"));

    write("InterfacePrefix = azv\n");
    assert_eq!(prefix(&listener.next_unasked()).as_deref(), Some("azv"), "nobody asked");
    write("InterfacePrefix = gke\n");
    assert_eq!(prefix(&listener.catch_up()).as_deref(), Some("gke"));

    for (is_bad, text) in
        [(true, Some("BPFMapSizeConntrack = many\n")), (true, None), (false, Some("InterfacePrefix = gke\n"))]
    {
        match text {
            Some(text) => write(text),
            None => std::fs::remove_file(&file).unwrap(),
        }
        let events = listener.catch_up();
        assert_eq!(settings(&events), None, "{text:?}");
        let told = rejected(&events).into_iter().any(|it| it.to_string().contains("felix.cfg"));
        assert_eq!(told, is_bad, "{events:?}");
        assert_eq!(resolved(&events).is_empty(), text == Some("BPFMapSizeConntrack = many\n"), "{events:?}");
    }
    write("");
    assert_eq!(prefix(&listener.catch_up()).as_deref(), Some("tap"));
}

/// A kind that is not enforced is said to be so, in no other way in force.
pub fn a_kind_that_is_not_enforced_is_reported<B: Backend>() {
    let mut backend = B::new();
    let tier = "{apiVersion: projectcalico.org/v3, kind: GlobalNetworkPolicy, metadata: {name: g}, spec: {}}";
    backend.put("a", tier);
    let mut listener = Listener::new(backend.open());
    let events = listener.catch_up();
    let [rejection] = rejected(&events)[..] else { panic!("{events:?}") };
    assert_eq!(rejection.effect, Effect::NotEnforced);
    assert_eq!(rejection.problem, "this kind is kept, but this version does not enforce it");
}

/// Dropping the store ends it.
pub fn a_dropped_store_is_gone<B: Backend>() {
    let backend = B::new();
    let store = backend.open();
    let handle = store.handle();
    drop(store);
    let until = Instant::now() + Duration::from_secs(5);
    while handle.blocking_rescan().is_ok() {
        assert!(Instant::now() < until, "the driver still answers");
    }
}

/// Runs the suite for one kind of store: all of it, or the sentences that are named.
#[macro_export]
macro_rules! conformance {
    ($backend:ty) => {
        $crate::conformance! { $backend:
            what_was_there_is_said_in_order_before_in_sync
            an_empty_store_is_in_sync
            the_same_again_says_nothing
            changes_and_deletions_are_said
            a_batch_says_when_its_first_change_came
            a_bad_version_keeps_the_last_good_one
            an_object_that_was_never_good_is_not_there
            a_policy_that_was_never_good_isolates_its_pods
            settings_are_merged
            a_change_of_the_nodes_file_is_in_force
            a_kind_that_is_not_enforced_is_reported
            a_dropped_store_is_gone
        }
    };
    ($backend:ty: $($test:ident)+) => {
        $(#[test] fn $test() { $crate::suite::$test::<$backend>(); })+
    };
}
