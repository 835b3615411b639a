//! Changing and removing what is there: `patch`, `label`, `delete`.

use super::{Answer, POLICY, POOL, World};

#[test]
fn an_empty_selector_deletes_nothing() {
    let world = World::new();
    world.file("s/a.yaml", POOL);
    for selector in ["''", "' '"] {
        world.refuses(
            &format!("delete ippools -l {selector}"),
            2,
            "tortie: --selector: is empty, which would mean all; write KEY=VALUE, or use --all\n",
        );
    }
    assert_eq!(world.text("s/a.yaml"), POOL);
    world.says("delete ippools --all -l ''", "ippool.projectcalico.org/main deleted\n");
}

#[test]
fn a_file_of_another_namespace_than_the_one_given_deletes_nothing() {
    let world = World::new();
    let policy = POLICY.replace("name: deny-all", "name: deny-all, namespace: shop");
    world.file("s/a.yaml", &policy);
    world.file("p.yaml", &policy);
    world.refuses("delete -n other -f p.yaml", 2, "tortie: p.yaml:1: NetworkPolicy shop/deny-all: metadata.namespace: is not the namespace given with -n; leave out -n, or the field\n");
    assert_eq!(world.text("s/a.yaml"), policy);
    world.says("delete -n shop -f p.yaml", "networkpolicy.networking.k8s.io/deny-all deleted\n");
}

#[test]
fn patches_of_both_types_change_fields_and_are_checked() {
    let world = World::new();
    world.file("s/a.yaml", POOL);
    world.says(
        "patch ippool main --patch '{\"spec\":{\"natOutgoing\":true}}'",
        "ippool.projectcalico.org/main patched\n",
    );
    world.says(
        "patch ippools/main -p 'spec: {natOutgoing: true}'",
        "ippool.projectcalico.org/main patched (no change)\n",
    );
    world.says(
        "patch ipp main --type json -p '[{\"op\":\"remove\",\"path\":\"/spec/natOutgoing\"}]'",
        "ippool.projectcalico.org/main patched\n",
    );
    assert!(!world.text("s/a.yaml").contains("natOutgoing"));
    world.says(
        "patch ipp main -p 'spec: {blockSize: 26, disabled: true}'",
        "ippool.projectcalico.org/main patched\n",
    );
    world.says("patch ipp main -p 'spec: {disabled: null}'", "ippool.projectcalico.org/main patched\n");
    assert!(!world.text("s/a.yaml").contains("disabled"));
    let before = world.text("s/a.yaml");
    for (patch, expected) in [
        (
            "patch ipp main -p 'spec: {cidr: 10.0.0.1/8}'",
            "tortie: --patch: IPPool main: spec.cidr: 10.0.0.1/8 has bits set outside its mask; write 10.0.0.0/8\n",
        ),
        (
            "patch ipp main -p 'metadata: {name: other}'",
            "tortie: --patch: IPPool main: kind, name and namespace cannot change; make a new object\n",
        ),
        ("patch ipp main -p '[]'", "tortie: --patch: IPPool main: found no fields; write {\"spec\": {…}}\n"),
        ("patch ipp main -p 'a: b\n---\nc: d'", "tortie: --patch: 2 documents are no patch; give one\n"),
        ("patch ipp main -p '{'", "tortie: --patch: line 1: unclosed bracket '{'; correct the YAML\n"),
        ("patch ipp -p 'a: b'", "tortie: \"ipp\" is no KIND/NAME; write it like pod/web\n"),
    ] {
        world.refuses(patch, 2, expected);
    }
    world.refuses(
        "patch ipp other -p 'spec: {}'",
        1,
        "tortie: ippools.projectcalico.org \"other\" not found\n",
    );
    assert_eq!(world.text("s/a.yaml"), before);
}

#[test]
fn labels_are_set_changed_and_removed() {
    let world = World::new();
    world.file("s/a.yaml", POOL);
    world.says("label ippool main tier=front zone=a", "ippool.projectcalico.org/main labeled\n");
    world.says("label ippool main tier=front", "ippool.projectcalico.org/main not labeled\n");
    world.refuses(
        "label ippool main tier=back",
        2,
        "tortie: label main: IPPool main: label tier already has the value \"front\"; use --overwrite\n",
    );
    world.says("label ippool/main --overwrite tier=back", "ippool.projectcalico.org/main labeled\n");
    world.says("get ippools -l tier=back,zone", "NAME   CIDR            NAT     IPIPMODE   VXLANMODE   DISABLED   AGE\nmain   10.244.0.0/16   false   Never      Never       false      <unknown>\n");
    world.says("label ippool main tier- zone-", "ippool.projectcalico.org/main unlabeled\n");
    assert!(!world.text("s/a.yaml").contains("labels"));
    world.refuses(
        "label ippool main",
        2,
        "tortie: no label is given; write KEY=VALUE, or KEY- to remove it\n",
    );
    world.refuses(
        "label ippool main tier",
        2,
        "tortie: label \"tier\": is no change; write KEY=VALUE, or KEY- to remove it\n",
    );
    for (words, word, key) in [("q=1 q-", "q-", "q"), ("a=1 a=2", "a=2", "a")] {
        world.refuses(
            &format!("label ippool main {words}"),
            2,
            &format!("tortie: label \"{word}\": {key} is given twice; set it once, or remove it\n"),
        );
    }
    let answer = world.tortie("label ippool main 'tier=a b'");
    assert_eq!(
        (answer.code, answer.err.starts_with("tortie: label \"tier=a b\": \"a b\" is no label value; use")),
        (2, true),
        "{answer:?}"
    );
}

#[test]
fn delete_takes_names_files_and_selectors_and_says_what_was_not_there() {
    let world = World::new();
    world.file("all.yaml", &format!("{POOL}---\n{POLICY}"));
    world.tortie("apply -f all.yaml");
    world.says("delete netpol deny-all", "networkpolicy.networking.k8s.io/deny-all deleted\n");
    assert_eq!(
        world.tortie("delete -f all.yaml"),
        Answer {
            code: 1,
            out: "ippool.projectcalico.org/main deleted\n".into(),
            err: "tortie: networkpolicies.networking.k8s.io \"deny-all\" not found\n".into()
        }
    );
    world.says("delete --ignore-not-found -f all.yaml", "");
    assert_eq!(world.files(), [""; 0]);
    world.tortie("apply -f all.yaml");
    world.says("delete ippools -l a=b", "");
    world.says("delete ippools --all", "ippool.projectcalico.org/main deleted\n");
    world.refuses(
        "delete",
        2,
        "tortie: nothing is named; use KIND NAME, KIND -l SELECTOR, KIND --all or -f FILE\n",
    );
    world.refuses("delete pods x --all", 2, "tortie: give KIND[,KIND…] and no names with -l or --all\n");
    world.tortie("apply -f all.yaml");
    world.says(
        "delete ippools,netpol --all",
        "ippool.projectcalico.org/main deleted\nnetworkpolicy.networking.k8s.io/deny-all deleted\n",
    );
}

#[test]
fn a_namespace_goes_with_everything_in_it() {
    let world = World::new();
    let namespace = "{apiVersion: v1, kind: Namespace, metadata: {name: shop}}";
    world.file("all.yaml", &format!("{namespace}\n---\n{POLICY}"));
    world.tortie("apply -f all.yaml");
    world.tortie("apply -n shop -f all.yaml");
    world
        .says("delete ns shop", "namespace/shop deleted\nnetworkpolicy.networking.k8s.io/deny-all deleted\n");
    assert_eq!(world.files(), ["s/default/networkpolicy.networking.k8s.io/deny-all.yaml"]);
}

#[test]
fn an_object_that_stands_among_others_is_changed_there() {
    let world = World::new();
    let pool = "# keep me\napiVersion: projectcalico.org/v3 # and me\nkind: IPPool\nmetadata: {name: main}\nspec: {cidr: 10.244.0.0/16}\n";
    world.file("s/mine.yaml", &format!("{pool}---\n{POLICY}"));
    world.says("label netpol deny-all a=b", "networkpolicy.networking.k8s.io/deny-all labeled\n");
    assert!(world.text("s/mine.yaml").starts_with(&format!("{pool}---\napiVersion: networking.k8s.io/v1\n")));
    assert_eq!(world.files(), ["s/mine.yaml"]);
}
