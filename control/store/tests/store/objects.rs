//! Commands over either store: the same changes, the same answers.

use crate::kube::object;
use crate::server::{Server, status};
use serde_json::json;
use tempfile::TempDir;
use tortie_store::dir::Directory;
use tortie_store::kind;
use tortie_store::kube::{Access, Cluster, Delete, Patch};
use tortie_store::objects::{Done, Dry, Look, Objects, ObjectsError, Selection, Session, What};
use tortie_store::resource::{Key, Resource};

const POOL: &str = "{apiVersion: projectcalico.org/v3, kind: IPPool, metadata: {name: main, labels: {a: b}}, spec: {cidr: 10.0.0.0/16}}";

fn resource(yaml: &str) -> Resource {
    Resource::new(object(yaml), "default").unwrap()
}

fn pools() -> &'static kind::Kind {
    kind::named("ippools").unwrap()
}

fn key(name: &str) -> Key {
    Key { name: name.into(), ..resource(POOL).key }
}

/// Both stores, with what they live in.
struct Both {
    directory: TempDir,
    server: Server,
}

impl Both {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), server: Server::start() }
    }

    fn cluster(&self, dry: bool) -> Objects {
        let kubeconfig = self.server.kubeconfig(self.directory.path(), &json!({}));
        let access = Access { kubeconfig: Some(kubeconfig), ..Access::default() };
        Objects::Cluster(Box::new(Cluster::connect(access).unwrap().with_dry_run(dry)))
    }

    fn each(&self, mut test: impl FnMut(&str, &Objects)) {
        let store = self.directory.path().join("store");
        std::fs::create_dir_all(&store).unwrap();
        test("directory", &Objects::Directory(Directory::new(&store).unwrap()));
        test("cluster", &self.cluster(false));
    }
}

/// One change, written.
fn once<T>(objects: &Objects, change: impl FnOnce(&mut Session<'_>) -> T) -> T {
    let mut session = objects.begin(Dry::Not).unwrap();
    let answer = change(&mut session);
    session.commit().unwrap();
    answer
}

fn what(done: Result<Done, ObjectsError>) -> What {
    done.unwrap().what
}

fn found(objects: &Objects) -> Vec<String> {
    let found = objects.view().unwrap().list(pools(), &Selection::default()).unwrap();
    found.iter().map(|it| format!("{} {}", it.key.name, it.value["spec"]["cidr"].as_str().unwrap())).collect()
}

#[test]
fn objects_are_made_once_and_applied_as_often_as_one_likes() {
    Both::new().each(|store, objects| {
        assert_eq!(what(once(objects, |it| it.create(resource(POOL)))), What::Created, "{store}");
        let again = objects.begin(Dry::Not).unwrap().create(resource(POOL)).unwrap_err();
        assert!(again.is_existing() && !again.is_missing(), "{store}: {again}");
        assert_eq!(what(once(objects, |it| it.apply(resource(POOL), false))), What::Unchanged, "{store}");
        let wider = resource(&POOL.replace("/16", "/12"));
        assert_eq!(what(once(objects, |it| it.apply(wider.clone(), false))), What::Changed, "{store}");
        let other = resource(&POOL.replace("main", "other"));
        assert_eq!(what(once(objects, |it| it.apply(other.clone(), false))), What::Created, "{store}");
        assert_eq!(found(objects), ["main 10.0.0.0/12", "other 10.0.0.0/16"], "{store}");
    });
}

#[test]
fn what_is_replaced_has_to_be_there_and_to_be_what_was_seen() {
    Both::new().each(|store, objects| {
        let missing = objects.begin(Dry::Not).unwrap().replace(resource(POOL)).unwrap_err();
        assert!(missing.is_missing(), "{store}: {missing}");
        let mut seen = resource(POOL);
        seen.value["metadata"]["resourceVersion"] = "7".into();
        once(objects, |it| it.create(seen.clone())).unwrap();
        let wider = resource(&POOL.replace("/16", "/12"));
        assert_eq!(what(once(objects, |it| it.replace(wider.clone()))), What::Changed, "{store}");
        let mut stale = wider;
        stale.value["metadata"]["resourceVersion"] = "6".into();
        let changed = objects.begin(Dry::Not).unwrap().replace(stale).unwrap_err();
        assert!(!changed.is_missing() && !changed.is_existing(), "{store}: {changed}");
        assert_eq!(found(objects), ["main 10.0.0.0/12"], "{store}");
    });
}

#[test]
fn what_was_created_is_taken_over_by_apply_before_it_is_applied() {
    let both = Both::new();
    let mut pool = object(POOL);
    let entry = |manager: &str, operation: &str, fields: serde_json::Value| json!({"manager": manager, "operation": operation, "apiVersion": "projectcalico.org/v3", "fieldsV1": fields});
    let kubectls = entry("kubectl-client-side-apply", "Update", json!({"f:spec": {"f:nodeSelector": {}}}));
    let parts = entry("tortie-patch", "Update", json!({"f:spec": {"f:disabled": {}}}));
    let created = json!({"f:spec": {"f:cidr": {}, "f:blockSize": {}}});
    pool["metadata"]["managedFields"] = json!([entry("tortie", "Update", created.clone()), kubectls, parts]);
    both.server.put(&pool);
    let cluster = both.cluster(false);
    let Objects::Cluster(inner) = &cluster else { panic!() };
    let book = || {
        let now = inner.get(pools(), "", "main").unwrap().value;
        now["metadata"]["managedFields"].clone()
    };
    assert_eq!(what(once(&cluster, |it| it.apply(resource(POOL), false))), What::Unchanged);
    assert_eq!(book(), json!([kubectls, parts, entry("tortie", "Apply", created)]));
    // What kubectl has applied is its own, until somebody says otherwise.
    assert_eq!(what(once(&cluster, |it| it.apply(resource(POOL), true))), What::Unchanged);
    let all = json!({"f:spec": {"f:cidr": {}, "f:blockSize": {}, "f:nodeSelector": {}}});
    assert_eq!(book(), json!([parts, entry("tortie", "Apply", all)]));
}

#[test]
fn what_was_printed_can_be_applied_after_it_was_taken_over_and_only_if_it_is_not_stale() {
    let both = Both::new();
    let mut pool = object(POOL);
    pool["metadata"]["managedFields"] = json!([{"manager": "tortie", "operation": "Update", "apiVersion": "projectcalico.org/v3", "fieldsV1": {}}]);
    both.server.put(&pool);
    let cluster = both.cluster(false);
    let printed = cluster.view().unwrap().find(pools(), &key("main")).unwrap().unwrap();
    assert_eq!(what(once(&cluster, |it| it.apply(printed.clone(), false))), What::Unchanged);
    let stale = cluster.begin(Dry::Not).unwrap().apply(printed, false).unwrap_err();
    assert!(stale.to_string().contains("has been modified"), "{stale}");
}

#[test]
fn what_was_printed_brings_an_object_back_that_is_gone() {
    for form in ["projectcalico.org/v3", "crd.projectcalico.org/v1"] {
        let (_directory, server, cluster) = in_form(form);
        let policies = kind::named("globalnetworkpolicies").unwrap();
        let printed = || {
            let view = cluster.view().unwrap();
            let all = |kind| view.list(kind, &Selection::default()).unwrap();
            [all(pools()), all(policies)].concat()
        };
        server.put(&object(POOL));
        once(&cluster, |it| it.create(policy("deny", 7))).unwrap();
        let mut before = printed();
        before[1].value["metadata"]["uid"] = "uid-of-the-policy".into();
        before[1].value["metadata"]["resourceVersion"] = "7".into();
        for is_new in [true, false] {
            server.lose_everything();
            for one in &before {
                let done = once(&cluster, |it| match is_new {
                    true => it.create(one.clone()),
                    false => it.apply(one.clone(), false),
                });
                assert_eq!(what(done), What::Created, "{form}");
            }
            let names = |all: &[Resource]| all.iter().map(|it| it.key.clone()).collect::<Vec<_>>();
            assert_eq!(names(&printed()), names(&before), "{form}");
        }
        // One of the same name that was made meanwhile is not the one that was printed.
        let mut there = object(POOL);
        there["metadata"]["uid"] = "another".into();
        server.lose_everything();
        server.put(&there);
        once(&cluster, |it| it.apply(before[0].clone(), false)).unwrap();
    }
}

#[test]
fn a_dry_run_takes_nothing_over() {
    let both = Both::new();
    let mut pool = object(POOL);
    let book = json!([{"manager": "tortie", "operation": "Update", "apiVersion": "projectcalico.org/v3", "fieldsV1": {}}]);
    pool["metadata"]["managedFields"] = book.clone();
    both.server.put(&pool);
    for (dry, objects) in [(Dry::Client, both.cluster(false)), (Dry::Server, both.cluster(true))] {
        objects.begin(dry).unwrap().apply(resource(POOL), true).unwrap();
        let Objects::Cluster(cluster) = &objects else { panic!() };
        assert_eq!(cluster.get(pools(), "", "main").unwrap().value["metadata"]["managedFields"], book);
    }
}

#[test]
fn the_status_that_a_cluster_prints_is_not_applied() {
    let both = Both::new();
    let service = resource(
        "{apiVersion: v1, kind: Service, metadata: {name: s}, spec: {ports: [{port: 80}]}, status: {loadBalancer: {}}}",
    );
    let done = once(&both.cluster(false), |it| it.apply(service, false)).unwrap();
    assert_eq!((done.what, done.resource.value.get("status")), (What::Created, None));
    // Where no part of it is kept apart, it is a field like others.
    let pool = resource(&POOL.replace("spec:", "status: {a: b}, spec:"));
    let done = once(&both.cluster(false), |it| it.apply(pool, false)).unwrap();
    assert_eq!(done.resource.value["status"], json!({"a": "b"}));
}

#[test]
fn parts_are_changed_and_a_change_that_is_none_says_so() {
    Both::new().each(|store, objects| {
        let mut first = resource(POOL);
        first.value["metadata"]["resourceVersion"] = "7".into();
        once(objects, |it| it.create(first.clone())).unwrap();
        let disable = Patch::Merge(json!({"spec": {"disabled": true}}));
        let change = |objects: &Objects| {
            once(objects, |session| {
                let before = session.find(pools(), &key("main")).unwrap().unwrap();
                let mut after = before.clone();
                after.value["spec"]["disabled"] = true.into();
                session.modify(pools(), &before, after, &disable)
            })
        };
        assert_eq!(what(change(objects)), What::Changed, "{store}");
        assert_eq!(what(change(objects)), What::Unchanged, "{store}");
        let now = objects.view().unwrap().find(pools(), &key("main")).unwrap().unwrap();
        assert_eq!(
            (&now.value["spec"]["disabled"], &now.value["spec"]["cidr"]),
            (&json!(true), &json!("10.0.0.0/16"))
        );
    });
}

#[test]
fn an_empty_namespace_is_not_every_namespace() {
    let policy = "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: p, namespace: a}, spec: {podSelector: {}}}";
    Both::new().each(|store, objects| {
        once(objects, |it| it.create(resource(policy))).unwrap();
        let netpol = kind::named("netpol").unwrap();
        let listed = |namespace: Option<&str>| {
            let selection = Selection { namespace: namespace.map(str::to_owned), ..Selection::default() };
            objects.view().unwrap().list(netpol, &selection).unwrap().len()
        };
        assert_eq!((listed(None), listed(Some("a")), listed(Some(""))), (1, 1, 0), "{store}");
    });
}

#[test]
fn what_goes_has_to_be_there() {
    Both::new().each(|store, objects| {
        once(objects, |it| it.create(resource(POOL))).unwrap();
        let gone = once(objects, |it| it.delete(Some(pools()), &key("main"), &Delete::default())).unwrap();
        assert!(gone.is_empty(), "{store}");
        let missing =
            objects.begin(Dry::Not).unwrap().delete(Some(pools()), &key("main"), &Delete::default());
        assert_eq!(
            missing.unwrap_err().to_string(),
            "ippools.projectcalico.org \"main\" not found",
            "{store}"
        );
        assert!(objects.view().unwrap().find(pools(), &key("main")).unwrap().is_none(), "{store}");
    });
}

#[test]
fn lists_are_of_a_namespace_and_of_labels() {
    let both = Both::new();
    both.each(|store, objects| {
        let policy = "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: NAME, namespace: NS}, spec: {podSelector: {}}}";
        for (name, namespace) in [("a", "shop"), ("b", "shop"), ("a", "bank")] {
            let one = resource(&policy.replace("NAME", name).replace("NS", namespace));
            once(objects, |it| it.create(one)).unwrap();
        }
        let kind = kind::named("netpol").unwrap();
        let of = |namespace: Option<&str>| {
            let selection = Selection { namespace: namespace.map(str::to_owned), ..Selection::default() };
            let found = objects.view().unwrap().list(kind, &selection).unwrap();
            found.iter().map(|it| format!("{}/{}", it.key.namespace, it.key.name)).collect::<Vec<_>>()
        };
        assert_eq!(of(None), ["bank/a", "shop/a", "shop/b"], "{store}");
        assert_eq!(of(Some("shop")), ["shop/a", "shop/b"], "{store}");
        assert_eq!(objects.namespace().unwrap(), "default", "{store}");
    });
}

#[test]
fn a_dry_run_writes_nothing_and_says_what_would_be() {
    let both = Both::new();
    both.each(|store, objects| {
        let mut session = objects.begin(Dry::Client).unwrap();
        assert_eq!(what(session.create(resource(POOL))), What::Created, "{store}");
        session.commit().unwrap();
        assert_eq!(found(objects), Vec::<String>::new(), "{store}");
        once(objects, |it| it.create(resource(POOL))).unwrap();
        let mut session = objects.begin(Dry::Client).unwrap();
        assert!(session.create(resource(POOL)).unwrap_err().is_existing(), "{store}");
        assert!(session.delete(Some(pools()), &key("main"), &Delete::default()).is_ok(), "{store}");
        session.commit().unwrap();
        assert_eq!(found(objects), ["main 10.0.0.0/16"], "{store}");
    });
    let server = both.cluster(true);
    let mut session = server.begin(Dry::Server).unwrap();
    assert_eq!(what(session.apply(resource(&POOL.replace("main", "new")), false)), What::Created);
    assert!(session.delete(Some(pools()), &key("main"), &Delete::default()).is_ok());
    session.commit().unwrap();
    assert_eq!(found(&server), ["main 10.0.0.0/16"], "nothing has been written");
    assert!(both.server.requests().iter().any(|it| it.contains("dryRun=All")), "the server was asked");
}

#[test]
fn fields_of_others_are_a_conflict_and_our_own_are_taken_over() {
    let both = Both::new();
    let objects = both.cluster(false);
    once(&objects, |it| it.create(resource(POOL))).unwrap();
    let refuse = |manager: &str| {
        let message =
            format!("Apply failed with 1 conflict: conflict with \"{manager}\" using v3: .spec.cidr");
        both.server.with_faults(|faults| {
            faults.refuse = vec![("force=false".into(), 409, status(409, "Conflict", &message))];
        });
    };
    let wider = resource(&POOL.replace("/16", "/12"));
    refuse("kubectl");
    let conflict = objects.begin(Dry::Not).unwrap().apply(wider.clone(), false).unwrap_err();
    assert!(conflict.to_string().contains("kubectl") && !conflict.is_existing(), "{conflict}");
    assert_eq!(found(&objects), ["main 10.0.0.0/16"]);
    refuse("tortie");
    assert_eq!(what(once(&objects, |it| it.apply(wider.clone(), false))), What::Changed);
    refuse("kubectl");
    let back = resource(POOL);
    assert_eq!(
        what(once(&objects, |it| it.apply(back.clone(), true))),
        What::Changed,
        "taken over when asked"
    );
}

#[test]
fn whoever_the_server_does_not_know_is_told_which_server_and_which_file() {
    let both = Both::new();
    both.server.with_faults(|faults| faults.token = Some("another".into()));
    let error =
        both.cluster(false).view().unwrap().list(pools(), &Selection::default()).unwrap_err().to_string();
    let server = format!("API server http://127.0.0.1:{} does not know who asks", both.server.port);
    let file = both.directory.path().join("kubeconfig").display().to_string();
    assert!(error.contains(&server) && error.contains(&file), "{error}");
}

#[test]
fn a_kind_that_is_not_served_and_a_server_that_is_away_are_told_apart() {
    let both = Both::new();
    both.server.with_faults(|faults| faults.absent = vec!["IPPool".into()]);
    let objects = both.cluster(false);
    let error = objects.view().unwrap().list(pools(), &Selection::default()).unwrap_err();
    assert!(error.is_not_served(), "{error}");
    both.server.with_faults(|faults| faults.down = true);
    let error = both.cluster(false).view().unwrap().list(pools(), &Selection::default()).unwrap_err();
    assert!(matches!(&error, ObjectsError::Cluster(error) if error.is_unreachable()), "{error}");
}

const FORMS: [&str; 2] = ["projectcalico.org/v3", "crd.projectcalico.org/v1"];
const POLICIES: &str = "globalnetworkpolicies";

fn policy(name: &str, order: u32) -> Resource {
    let text = format!(
        "{{apiVersion: projectcalico.org/v3, kind: GlobalNetworkPolicy, metadata: {{name: {name}, labels: {{a: b}}}}, spec: {{order: {order}}}}}"
    );
    resource(&text)
}

/// A cluster that serves Calico's kinds in that form.
fn in_form(form: &'static str) -> (TempDir, Server, Objects) {
    let (directory, server) = (tempfile::tempdir().unwrap(), Server::with_group(form));
    let kubeconfig = server.kubeconfig(directory.path(), &json!({}));
    let access = Access { kubeconfig: Some(kubeconfig), ..Access::default() };
    let objects = Objects::Cluster(Box::new(Cluster::connect(access).unwrap()));
    (directory, server, objects)
}

/// Name, `apiVersion` and order of each policy, as a person is shown them.
fn policies(objects: &Objects, labels: &str) -> Vec<String> {
    let selection = Selection {
        labels: tortie_store::label_selector::parse(labels).unwrap(),
        labels_text: labels.into(),
        ..Selection::default()
    };
    let found = objects.view().unwrap().list(kind::named(POLICIES).unwrap(), &selection).unwrap();
    let shown = |it: &Resource| {
        let text = |pointer: &str| it.value.pointer(pointer).unwrap().clone();
        assert_eq!(it.key.name, text("/metadata/name").as_str().unwrap());
        let keeps = it.value.pointer("/metadata/annotations/projectcalico.org~1metadata");
        assert_eq!(keeps, None, "nobody wants to read that");
        format!("{} {} {}", it.key.name, text("/apiVersion").as_str().unwrap(), text("/spec/order"))
    };
    found.iter().map(shown).collect()
}

fn stored(server: &Server) -> Vec<String> {
    let name = |it: &serde_json::Value| it["metadata"]["name"].as_str().unwrap().to_owned();
    server.objects(POLICIES).iter().map(name).collect()
}

#[test]
fn a_policy_has_one_name_for_people_in_whichever_form_a_cluster_keeps_it() {
    for form in FORMS {
        let (_directory, server, objects) = in_form(form);
        let kept = |name: &str| if form == FORMS[0] { name.to_owned() } else { format!("default.{name}") };
        assert_eq!(what(once(&objects, |it| it.create(policy("deny", 1)))), What::Created, "{form}");
        assert!(once(&objects, |it| it.create(policy("deny", 1))).unwrap_err().is_existing(), "{form}");
        assert_eq!(stored(&server), [kept("deny")]);
        assert_eq!(what(once(&objects, |it| it.apply(policy("deny", 2), false))), What::Changed, "{form}");
        assert_eq!(what(once(&objects, |it| it.apply(policy("deny", 2), false))), What::Unchanged, "{form}");
        assert_eq!(what(once(&objects, |it| it.replace(policy("deny", 3)))), What::Changed, "{form}");
        once(&objects, |it| it.apply(policy("security.deny", 4), false)).unwrap();
        let both = ["deny projectcalico.org/v3 3", "security.deny projectcalico.org/v3 4"];
        assert_eq!(policies(&objects, ""), both, "{form}");
        assert_eq!(policies(&objects, "a=b"), both, "{form}");
        if form == FORMS[1] {
            // Elsewhere it is for the server to choose, and this small one does not.
            assert_eq!(policies(&objects, "a!=b"), [""; 0]);
        }
        let kind = kind::named(POLICIES).unwrap();
        let change = once(&objects, |session| {
            // With its tier, as one may write it as well.
            let key = policy("default.deny", 0).key;
            let before = session.find(kind, &key).unwrap().unwrap();
            let mut after = before.clone();
            after.value["metadata"]["labels"]["a"] = "c".into();
            let patch = Patch::Merge(json!({"metadata": {"labels": {"a": "c"}}}));
            session.modify(kind, &before, after, &patch)
        });
        assert_eq!(what(change), What::Changed, "{form}");
        let labels = policies(&objects, if form == FORMS[1] { "a=c" } else { "" });
        assert_eq!(labels[0], "deny projectcalico.org/v3 3", "{form}");
        for name in ["deny", "security.deny"] {
            let key = policy(name, 0).key;
            once(&objects, |it| it.delete(Some(kind), &key, &Delete::default())).unwrap();
            let again = once(&objects, |it| it.delete(Some(kind), &key, &Delete::default())).unwrap_err();
            assert!(again.is_missing(), "{form}: {again}");
        }
        assert_eq!(stored(&server), [""; 0], "{form}");
    }
}

#[test]
fn a_policy_that_calico_stored_is_shown_as_it_was_written_and_can_be_changed() {
    let (_directory, server, objects) = in_form(FORMS[1]);
    let metadata =
        r#"{"name":"deny","labels":{"a":"b"},"annotations":{"note":"x"},"creationTimestamp":null}"#;
    server.put(&json!({"apiVersion": FORMS[1], "kind": "GlobalNetworkPolicy", "spec": {"order": 1},
        "metadata": {"name": "default.deny", "annotations": {"projectcalico.org/metadata": metadata}}}));
    assert_eq!(policies(&objects, "a=b"), ["deny projectcalico.org/v3 1"]);
    once(&objects, |it| it.apply(policy("deny", 2), false)).unwrap();
    let now = &server.objects(POLICIES)[0];
    assert_eq!(now["spec"]["order"], 2);
    let text = &now["metadata"]["annotations"]["projectcalico.org/metadata"];
    assert_eq!(text, metadata, "what says the same stays to the letter, and with its owner");
    let mut other = policy("deny", 2);
    other.value["metadata"]["labels"]["a"] = "c".into();
    once(&objects, |it| it.apply(other.clone(), false)).unwrap();
    assert_eq!(policies(&objects, "a=c"), ["deny projectcalico.org/v3 2"]);
}

#[test]
fn a_policy_in_the_storage_form_is_taken_for_what_people_call_it() {
    let text = "{apiVersion: crd.projectcalico.org/v1, kind: NetworkPolicy, metadata: {name: default.deny}, spec: {order: 1}}";
    let given = resource(text);
    assert_eq!(given.key.name, "deny");
    for form in FORMS {
        let (_directory, server, objects) = in_form(form);
        once(&objects, |it| it.apply(given.clone(), false)).unwrap();
        let name = if form == FORMS[0] { "deny" } else { "default.deny" };
        let there = &server.objects("networkpolicies")[0];
        assert_eq!((&there["metadata"]["name"], &there["apiVersion"]), (&json!(name), &json!(form)));
    }
}

/// The other name that a policy of the default tier may have been stored under.
fn unusual(form: &str) -> &'static str {
    if form == FORMS[0] { "default.deny" } else { "deny" }
}

fn put_unusual(server: &Server, form: &str) {
    server.put(&json!({"apiVersion": form, "kind": "GlobalNetworkPolicy", "spec": {"order": 1},
        "metadata": {"name": unusual(form), "labels": {"a": "b"}}}));
}

#[test]
fn a_policy_that_was_stored_under_the_other_name_of_its_tier_is_found_changed_and_removed() {
    let kind = kind::named(POLICIES).unwrap();
    for form in FORMS {
        for written in ["deny", "default.deny"] {
            let (_directory, server, objects) = in_form(form);
            put_unusual(&server, form);
            let key = policy(written, 0).key;
            let found = objects.view().unwrap().find(kind, &key).unwrap().expect("the policy");
            assert_eq!((found.key.name.as_str(), &found.value["metadata"]["name"]), ("deny", &json!("deny")));
            assert_eq!(policies(&objects, ""), ["deny projectcalico.org/v3 1"], "{form}");
            let twice = once(&objects, |it| it.create(policy(written, 1))).unwrap_err();
            assert!(twice.is_existing(), "{form}: {twice}");
            assert_eq!(
                what(once(&objects, |it| it.apply(policy(written, 2), false))),
                What::Changed,
                "{form}"
            );
            assert_eq!(what(once(&objects, |it| it.replace(policy(written, 3)))), What::Changed, "{form}");
            let change = once(&objects, |session| {
                let before = session.find(kind, &key).unwrap().unwrap();
                let mut after = before.clone();
                after.value["spec"]["order"] = 4.into();
                session.modify(kind, &before, after, &Patch::Merge(json!({"spec": {"order": 4}})))
            });
            assert_eq!(what(change), What::Changed, "{form}");
            assert_eq!(policies(&objects, ""), ["deny projectcalico.org/v3 4"], "{form}");
            assert_eq!(stored(&server), [unusual(form)], "it keeps its name");
            once(&objects, |it| it.delete(Some(kind), &key, &Delete::default())).unwrap();
            assert_eq!(stored(&server), [""; 0], "{form}");
            let again = once(&objects, |it| it.delete(Some(kind), &key, &Delete::default())).unwrap_err();
            assert!(again.is_missing(), "{form}: {again}");
        }
    }
}

#[test]
fn of_two_policies_that_differ_in_the_tiers_name_alone_the_usual_one_is_meant() {
    let kind = kind::named(POLICIES).unwrap();
    for form in FORMS {
        let (_directory, server, objects) = in_form(form);
        once(&objects, |it| it.create(policy("deny", 9))).unwrap();
        put_unusual(&server, form);
        let key = policy("deny", 0).key;
        let order = || {
            let found = objects.view().unwrap().find(kind, &key).unwrap();
            found.map(|it| it.value["spec"]["order"].clone())
        };
        for expected in [Some(json!(9)), Some(json!(1))] {
            assert_eq!(order(), expected, "{form}");
            once(&objects, |it| it.delete(Some(kind), &key, &Delete::default())).unwrap();
        }
        assert_eq!(order(), None, "{form}");
    }
}

#[test]
fn in_a_directory_a_policy_is_found_and_removed_by_either_name_in_whichever_form_it_was_written() {
    let kind = kind::named(POLICIES).unwrap();
    for form in FORMS {
        for (written, asked) in [("deny", "default.deny"), ("default.deny", "deny"), ("deny", "deny")] {
            let directory = tempfile::tempdir().unwrap();
            let file =
                format!("{{apiVersion: {form}, kind: GlobalNetworkPolicy, metadata: {{name: {written}}}}}");
            std::fs::write(directory.path().join("policy.yaml"), file).unwrap();
            let objects = Objects::Directory(Directory::new(directory.path()).unwrap());
            let key = policy(asked, 0).key;
            assert!(objects.view().unwrap().find(kind, &key).unwrap().is_some(), "{form} {written}");
            once(&objects, |it| it.delete(Some(kind), &key, &Delete::default())).unwrap();
            assert_eq!(objects.view().unwrap().find(kind, &key).unwrap(), None, "{form} {written}");
        }
    }
}
