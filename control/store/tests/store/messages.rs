//! Everything that can be wrong in a resource, with what the user reads: its text, its kind and name, its metadata; `fields` has the rest.

use std::path::Path;
use tortie_store::dir::content::{self, Content};
use tortie_store::{Effect, Rejection};

pub fn said(text: &str) -> Vec<String> {
    let content = content::read(Path::new("f.yaml"), text.as_bytes(), &Content::default());
    content.rejections.iter().map(|rejection| rejection.to_string()).collect()
}

/// Checks a list of texts, each with the one line that is said about it.
pub fn check(cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        assert_eq!(said(text), [expected.to_string()], "{text}");
    }
}

pub fn policy(spec: &str) -> String {
    format!(
        "{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: p, namespace: n}}, \
         spec: {{podSelector: {{}}, {spec}}}}}"
    )
}

/// Checks what is said about a field of a policy, a Service, …
pub fn check_in(object: impl Fn(&str) -> String, name: &str, cases: &[(&str, &str)]) {
    for (spec, expected) in cases {
        assert_eq!(said(&object(spec)), [format!("f.yaml:1: {name}: {expected}")], "{spec}");
    }
}

#[test]
fn text_that_is_no_yaml() {
    check(&[
        ("a: b: c", "f.yaml:1: mapping values are not allowed in this context; correct the YAML"),
        (
            "kind: Pod\nkind: Pod\n",
            "f.yaml:2: duplicate mapping key `kind` is not allowed here; correct the YAML",
        ),
    ]);
    assert_eq!(
        said("apiVersion: v1\n---\nx: [\n").last().unwrap(),
        "f.yaml:3: unclosed bracket '['; correct the YAML"
    );
}

#[test]
fn bytes_that_are_no_text() {
    let content = content::read(Path::new("f.yaml"), b"a: 1\nb: \xff\n", &Content::default());
    assert_eq!(content.rejections[0].to_string(), "f.yaml:2: is not UTF-8 text; save the file as UTF-8");
    let large = vec![b' '; (16 << 20) + 1];
    let content = content::read(Path::new("f.yaml"), &large, &Content::default());
    let expected = "f.yaml: 16777217 bytes are more than the 16777216 a file may have; split the file";
    assert_eq!(content.rejections[0].to_string(), expected);
}

#[test]
fn bombs() {
    let mut nested = String::from("a: ");
    nested.extend(std::iter::repeat_n('[', 100));
    nested.extend(std::iter::repeat_n(']', 100));
    let aliases = (0..9).fold("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned(), |text, n| {
        let inner = vec![format!("*a{n}"); 10].join(", ");
        format!("{text}a{}: &a{} [{inner}]\n", n + 1, n + 1)
    });
    for text in [nested, aliases] {
        let said = said(&text);
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].contains("budget") || said[0].contains("limit"), "{said:?}");
    }
    let many = "---\na\n".repeat(20_001);
    assert_eq!(
        said(&many),
        ["f.yaml: 20001 documents are more than the 20000 a file may have; split the file"]
    );
}

#[test]
fn objects_that_do_not_say_who_they_are() {
    check(&[
        (
            "hello",
            "f.yaml:1: found text, expected an object with apiVersion and kind; write an object with apiVersion and kind",
        ),
        ("kind: Pod", "f.yaml:1: apiVersion: is missing; give such as v1 or networking.k8s.io/v1"),
        ("apiVersion: v1", "f.yaml:1: kind: is missing; give such as Pod"),
        ("apiVersion: v1\nkind: 3", "f.yaml:1: kind: found a number, expected text; put it in quotes"),
        ("{apiVersion: v1, kind: Pod}", "f.yaml:1: metadata: is missing; give metadata with a name"),
        ("{apiVersion: v1, kind: Pod, metadata: {}}", "f.yaml:1: metadata.name: is missing; give a name"),
        (
            "{apiVersion: v2, kind: Pod, metadata: {name: a}}",
            "f.yaml:1: apiVersion: \"v2\" is unknown; use v1",
        ),
        (
            "{apiVersion: v1, kind: List, items: x}",
            "f.yaml:1: items: found text, expected a list; write a list, each item after '- '",
        ),
        (
            "{apiVersion: v1, kind: Node, metadata: {name: a, namespace: b}}",
            "f.yaml:1: metadata.namespace: this kind has no namespace; remove the field",
        ),
        (
            "{apiVersion: extensions/v1beta1, kind: NetworkPolicy, metadata: {name: a}}",
            "f.yaml:1: apiVersion: \"extensions/v1beta1\" has no NetworkPolicy; use networking.k8s.io/v1 or projectcalico.org/v3",
        ),
    ]);
}

#[test]
fn unknown_kinds_are_kept_and_said_to_be() {
    let content = content::read(
        Path::new("f.yaml"),
        b"{apiVersion: networking.k8s.io/v1, kind: NetworkPolicies, metadata: {name: a, namespace: b}}",
        &Content::default(),
    );
    let expected = "f.yaml:1: NetworkPolicies b/a: kind NetworkPolicies of networking.k8s.io is unknown; it is \
                    kept, not enforced; did you mean NetworkPolicy?";
    assert_eq!(content.rejections[0].to_string(), expected);
    assert_eq!(content.rejections[0].effect, Effect::NotEnforced);
    assert_eq!(content.entries.len(), 1);
}

#[test]
fn metadata() {
    let namespace =
        |metadata: &str| format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: a, {metadata}}}}}");
    check_in(
        namespace,
        "Namespace a",
        &[
            (
                "labels: {-x: y}",
                "metadata.labels[-x]: \"-x\" is no label key; use [prefix/]name, the name at most 63 letters, digits, '-', '_', '.', starting and ending with a letter or digit",
            ),
            (
                "labels: {x: a b}",
                "metadata.labels[x]: \"a b\" is no label value; use at most 63 letters, digits, '-', '_', '.', starting and ending with a letter or digit",
            ),
            ("labels: {x: 8}", "metadata.labels[x]: found 8, expected text; put it in quotes"),
            ("labels: {x: true}", "metadata.labels[x]: found true, expected text; put it in quotes"),
            ("label: {x: y}", "metadata.label: unknown field; did you mean labels?"),
            (
                "annotations: {a b: y}",
                "metadata.annotations[a b]: \"a b\" is no label key; use [prefix/]name, the name at most 63 letters, digits, '-', '_', '.', starting and ending with a letter or digit",
            ),
        ],
    );
    check(&[(
        "{apiVersion: v1, kind: Namespace, metadata: {name: A_b}}",
        "f.yaml:1: Namespace A_b: metadata.name: \"A_b\" is no DNS label; use at most 63 lower-case letters, digits and '-', starting and ending with a letter or digit",
    )]);
}

#[test]
fn every_unknown_field_is_named() {
    let text = policy("ingres: [], egres: []");
    let said = said(&text);
    assert_eq!(said.len(), 2, "{said:?}");
}

#[test]
fn rejections_say_what_they_mean_for_what_is_in_force() {
    let effects = |text: &str, previous: &Content| {
        let content = content::read(Path::new("f.yaml"), text.as_bytes(), previous);
        content.rejections.iter().map(|r: &std::sync::Arc<Rejection>| r.effect).collect::<Vec<_>>()
    };
    let good = content::read(Path::new("f.yaml"), policy("").as_bytes(), &Content::default());
    assert_eq!(effects(&policy("ingress: {}"), &Content::default()), [Effect::Absent]);
    assert_eq!(effects(&policy("ingress: {}"), &good), [Effect::KeepsLast]);
    assert_eq!(effects("{", &good), [Effect::KeepsLast]);
    let both = format!("{}\n---\n{{", policy(""));
    assert_eq!(effects(&both, &good), [Effect::Absent], "what is read anew is not kept by anything");
}
