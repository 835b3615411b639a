//! Objects from files: `apply`, `create`, `replace`, `validate`.

use super::{Answer, POLICY, POOL, World};

#[test]
fn apply_says_created_then_unchanged_then_configured() {
    let world = World::new();
    world.file("p.yaml", POLICY);
    world.says("apply -f p.yaml", "networkpolicy.networking.k8s.io/deny-all created\n");
    world.says("apply -f p.yaml", "networkpolicy.networking.k8s.io/deny-all unchanged\n");
    world.file("p.yaml", &POLICY.replace("podSelector: {}", "podSelector: {}, policyTypes: [Egress]"));
    world.says("apply -f p.yaml", "networkpolicy.networking.k8s.io/deny-all configured\n");
    assert_eq!(world.files(), ["s/default/networkpolicy.networking.k8s.io/deny-all.yaml"]);
    assert!(world.text("s/default/networkpolicy.networking.k8s.io/deny-all.yaml").contains("- Egress\n"));
}

#[test]
fn an_invalid_object_keeps_the_valid_ones_beside_it_from_being_written() {
    let world = World::new();
    world.file("d/a.yaml", POOL);
    world.file("d/b.yaml", &format!("# two\n---\n{}", POLICY.replace("podSelector", "podSelectr")));
    let expected = "tortie: d/b.yaml:3: NetworkPolicy default/deny-all: spec.podSelectr: unknown field; did you mean podSelector?\n";
    world.refuses("apply -f d", 2, expected);
    assert_eq!(world.files(), [""; 0]);
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let world = World::new();
    world.file("a.yaml", &POOL.replace("10.244.0.0/16", "10.244.0.0/33"));
    world.file("b.yaml", "kind: [\n");
    let expected = "tortie: a.yaml:1: IPPool main: spec.cidr: \"10.244.0.0/33\" is no CIDR; write it as 10.0.0.0/8 or fd00::/64\n\
                    tortie: b.yaml:1: unclosed bracket '['; correct the YAML\n";
    world.refuses("validate -f a.yaml -f b.yaml", 2, expected);
}

#[test]
fn input_that_is_not_there_is_bad_input() {
    let world = World::new();
    world.refuses(
        "apply -f no.yaml",
        2,
        "tortie: no.yaml: cannot be read: No such file or directory (os error 2); check the path\n",
    );
    world.refuses("apply", 2, "tortie: no resources are given; use -f FILE, -f DIR or -f -\n");
    world.file("empty/readme.txt", "");
    world.refuses(
        "apply -f empty",
        2,
        "tortie: empty: no .yaml, .yml or .json file; give another directory\n",
    );
}

#[test]
fn input_without_an_object_is_bad_input() {
    let world = World::new();
    world.file("list.yaml", "{apiVersion: v1, kind: List, items: []}");
    for verb in ["apply", "create", "replace", "delete", "validate"] {
        world.refuses(
            &format!("{verb} -f list.yaml"),
            2,
            "tortie: list.yaml: there is no object in it; give some\n",
        );
        for text in ["", "# nothing\n"] {
            let answer = world.tortie_with(&format!("{verb} -f -"), text);
            assert_eq!(
                answer,
                Answer {
                    code: 2,
                    out: String::new(),
                    err: "tortie: stdin: there is no object in it; give some\n".into()
                },
                "{verb}"
            );
        }
    }
}

#[test]
fn input_is_taken_in_the_forms_in_which_an_api_server_prints_it() {
    let world = World::new();
    let namespace = |name: &str| format!("{{\"metadata\": {{\"name\": \"{name}\"}}}}");
    let list = format!(
        "{{\"kind\": \"NamespaceList\", \"apiVersion\": \"v1\", \"items\": [{}, {}]}}",
        namespace("a"),
        namespace("b")
    );
    world.file("list.json", &list);
    world.says("apply -f list.json", "namespace/a created\nnamespace/b created\n");
    let one =
        |name: &str| namespace(name).replacen('{', "{\"apiVersion\": \"v1\", \"kind\": \"Namespace\",\n ", 1);
    world.file("two.json", &format!("{}\n{}\n", one("a"), one("c")));
    world.says("apply -f two.json", "namespace/a unchanged\nnamespace/c created\n");
    world.file("two.json", &format!("{}\n{}\n", one("a"), one("c").replace("v1", "v2")));
    world.refuses("validate -f two.json", 2, "tortie: two.json:3: apiVersion: \"v2\" is unknown; use v1\n");
    // The same in the store: what stands beside is left as it is.
    world.file("s/list.json", &list);
    world.file("s/_cluster/namespace/a.yaml", &format!("{}\n{}\n", one("d"), one("e")));
    world.file("s/_cluster/namespace/b.yaml", "");
    world.says("label ns b x=y", "namespace/b labeled\n");
    world.says("label ns d x=y", "namespace/d labeled\n");
    world.says("get ns -l x=y --show-labels", "NAME   STATUS   AGE         LABELS\nb      Active   <unknown>   x=y\nd      Active   <unknown>   x=y\n");
    assert!(world.text("s/_cluster/namespace/a.yaml").ends_with(&format!("}}\n{}\n", one("e"))));
}

#[test]
fn a_whole_number_may_be_written_with_a_point() {
    let world = World::new();
    let service = |port: &str| {
        format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: s}}, spec: {{ports: [{{port: {port}}}]}}}}"
        )
    };
    for port in ["80", "80.0", "8e1"] {
        world.file("s.yaml", &service(port));
        assert_eq!(world.tortie("apply -f s.yaml").code, 0, "{port}");
        assert!(world.text("s/default/service/s.yaml").contains("port: 80\n"), "{port}");
    }
    world.file("s.yaml", &service("80.5"));
    let answer = world.tortie("apply -f s.yaml");
    assert!(answer.code == 2 && answer.err.contains("found 80.5"), "{}", answer.err);
}

#[test]
fn an_object_given_twice_is_refused() {
    let world = World::new();
    world.file("a.yaml", &format!("{POOL}---\n{POOL}"));
    world.refuses(
        "apply -f a.yaml",
        2,
        "tortie: a.yaml:6: IPPool main: is also given in a.yaml:1; give it once\n",
    );
}

#[test]
fn an_unknown_kind_is_not_written_and_an_unenforced_one_is_with_a_warning() {
    let world = World::new();
    world.file("a.yaml", &POOL.replace("IPPool", "IPPol"));
    world.refuses("apply -f a.yaml", 2, "tortie: a.yaml:1: IPPol main: kind IPPol of projectcalico.org is none of this program's; did you mean IPPool?\n");
    world.file("c.yaml", "{apiVersion: v1, kind: Secret, metadata: {name: s}}");
    world.refuses("apply -f c.yaml", 2, "tortie: c.yaml:1: Secret s: kind Secret of v1 is none of this program's; leave it out, and use kubectl for it\n");
    assert_eq!(world.files(), [""; 0]);
    world.file(
        "b.yaml",
        "{apiVersion: projectcalico.org/v3, kind: GlobalNetworkPolicy, metadata: {name: g}, spec: {}}",
    );
    let answer = world.tortie("apply -f b.yaml");
    assert_eq!(answer.out, "globalnetworkpolicy.projectcalico.org/g created\n");
    assert_eq!(
        answer.err,
        "warning: b.yaml:1: GlobalNetworkPolicy g: this kind is kept, but this version does not enforce it; do not rely on it, or remove it\n"
    );
}

#[test]
fn create_wants_nothing_there_and_replace_wants_something() {
    let world = World::new();
    world.file("p.yaml", POOL);
    world.refuses("replace -f p.yaml", 1, "tortie: p.yaml:1: ippools.projectcalico.org \"main\" not found; use apply or create; nothing has been changed\n");
    world.says("create -f p.yaml", "ippool.projectcalico.org/main created\n");
    world.refuses("create -f p.yaml", 1, "tortie: p.yaml:1: ippool.projectcalico.org/main already exists; use apply or replace; nothing has been changed\n");
    world.says("replace -f p.yaml", "ippool.projectcalico.org/main replaced\n");
}

#[test]
fn the_namespace_flag_places_objects_and_does_not_move_them() {
    let world = World::new();
    world.file("p.yaml", POLICY);
    world.says("apply -n shop -f p.yaml", "networkpolicy.networking.k8s.io/deny-all created\n");
    assert_eq!(world.files(), ["s/shop/networkpolicy.networking.k8s.io/deny-all.yaml"]);
    world.file("q.yaml", &POLICY.replace("name: deny-all", "name: deny-all, namespace: shop"));
    world.refuses("apply -n other -f q.yaml", 2, "tortie: q.yaml:1: NetworkPolicy shop/deny-all: metadata.namespace: is not the namespace given with -n; leave out -n, or the field\n");
}

#[test]
fn an_empty_namespace_is_the_usual_one() {
    let world = World::new();
    world.file("p.yaml", POLICY);
    world.says("apply -n '' -f p.yaml", "networkpolicy.networking.k8s.io/deny-all created\n");
    world.says("apply -n '' -f p.yaml", "networkpolicy.networking.k8s.io/deny-all unchanged\n");
    world.says("apply -n shop -f p.yaml", "networkpolicy.networking.k8s.io/deny-all created\n");
    world.says("delete netpol --all -n ''", "networkpolicy.networking.k8s.io/deny-all deleted\n");
    assert_eq!(world.files(), ["s/shop/networkpolicy.networking.k8s.io/deny-all.yaml"]);
}

#[test]
fn a_dry_run_writes_nothing() {
    let world = World::new();
    world.file("p.yaml", POOL);
    world.says("apply --dry-run -f p.yaml", "ippool.projectcalico.org/main created (dry run)\n");
    world.says("apply --dry-run=server -f p.yaml", "ippool.projectcalico.org/main created (dry run)\n");
    assert_eq!(world.files(), [""; 0]);
}

#[test]
fn apply_keeps_the_status_that_the_cluster_has_written() {
    let world = World::new();
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c}]}\n";
    world.file("s/mine.yaml", &format!("{pod}status: {{podIP: 10.0.0.9}}\n"));
    world.file("p.yaml", &pod.replace("name: p}", "name: p, labels: {a: b}}"));
    world.says("apply -f p.yaml", "pod/p configured\n");
    assert!(world.text("s/mine.yaml").contains("podIP: \"10.0.0.9\""), "{}", world.text("s/mine.yaml"));
}
