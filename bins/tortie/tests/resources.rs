//! The resource verbs as a person types them: output, messages, exit codes, and what is in the directory after.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

struct World {
    root: TempDir,
}

#[derive(Debug, PartialEq)]
struct Answer {
    code: i32,
    out: String,
    err: String,
}

const POLICY: &str = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: deny-all}\nspec: {podSelector: {}}\n";
const POOL: &str =
    "apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {name: main}\nspec: {cidr: 10.244.0.0/16}\n";

impl World {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("s")).unwrap();
        Self { root }
    }

    fn file(&self, name: &str, text: &str) {
        let path = self.root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.root.path().join(name)).unwrap()
    }

    fn tortie(&self, arguments: &str) -> Answer {
        self.tortie_with(arguments, "")
    }

    fn tortie_with(&self, arguments: &str, input: &str) -> Answer {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tortie"));
        command.current_dir(self.root.path()).env("TORTIE_STORE", "dir:s");
        command.args(words(arguments)).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        Answer {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    #[track_caller]
    fn says(&self, arguments: &str, out: &str) {
        assert_eq!(
            self.tortie(arguments),
            Answer { code: 0, out: out.into(), err: String::new() },
            "{arguments}"
        );
    }

    #[track_caller]
    fn refuses(&self, arguments: &str, code: i32, err: &str) {
        assert_eq!(
            self.tortie(arguments),
            Answer { code, out: String::new(), err: err.into() },
            "{arguments}"
        );
    }

    fn files(&self) -> Vec<String> {
        let mut found = Vec::new();
        walk(&self.root.path().join("s"), &mut found);
        found.iter().map(|path| path.strip_prefix(self.root.path()).unwrap().display().to_string()).collect()
    }
}

/// Split at spaces, except between single quotes.
fn words(line: &str) -> Vec<String> {
    line.split('\'')
        .enumerate()
        .flat_map(|(n, part)| match n % 2 {
            1 => vec![part.to_owned()],
            _ => part.split_whitespace().map(str::to_owned).collect(),
        })
        .collect()
}

fn walk(directory: &Path, found: &mut Vec<std::path::PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            walk(&path, found);
        } else if path.file_name().unwrap() != ".lock" {
            found.push(path);
        }
    }
}

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
fn tables_say_what_kubectl_says() {
    let world = World::new();
    let service = |name: &str, spec: &str, status: &str| {
        format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: {name}}}, spec: {{{spec}}}, status: {{{status}}}}}\n---\n"
        )
    };
    let given = "loadBalancer: {ingress: [{ip: 192.0.2.9}, {hostname: lb.example}]}";
    world.file(
        "s/services.yaml",
        &[
            service("a", "type: LoadBalancer, ports: [{port: 1}]", ""),
            service("b", "type: LoadBalancer, ports: [{port: 1}], externalIPs: [198.51.100.1]", given),
            service("c", "type: LoadBalancer, ports: [{port: 1}]", given),
            service("d", "type: ExternalName, externalName: db.example", ""),
            service("e", "ports: [{port: 1}], externalIPs: [198.51.100.1]", ""),
        ]
        .concat(),
    );
    let column = |line: &str, heading: &str| -> Vec<String> {
        let out = world.tortie(line).out;
        let at = out.find(heading).unwrap_or_else(|| panic!("{out}"));
        out.lines()
            .skip(1)
            .map(|it| it[at..].split_whitespace().next().unwrap_or_default().to_owned())
            .collect()
    };
    assert_eq!(
        column("get svc", "EXTERNAL-IP"),
        [
            "<pending>",
            "192.0.2.9,lb.example,198.51.100.1",
            "192.0.2.9,lb.example",
            "db.example",
            "198.51.100.1"
        ]
    );
    let pod = |name: &str, metadata: &str, status: &str| {
        format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}{metadata}}}, spec: {{containers: [{{name: c}}]}}, status: {{{status}}}}}\n---\n"
        )
    };
    let going = ", deletionTimestamp: 2026-01-31T12:00:00Z";
    world.file(
        "s/pods.yaml",
        &[
            pod("a", "", "phase: Running"),
            pod("b", going, "phase: Running"),
            pod("c", going, "phase: Succeeded"),
            pod("d", "", "phase: Failed, reason: Evicted"),
        ]
        .concat(),
    );
    assert_eq!(column("get pods", "STATUS"), ["Running", "Terminating", "Succeeded", "Evicted"]);
    let node = |name: &str, labels: &str, spec: &str, status: &str| {
        format!(
            "{{apiVersion: v1, kind: Node, metadata: {{name: {name}, labels: {{{labels}}}}}, spec: {{{spec}}}, status: {{{status}}}}}\n---\n"
        )
    };
    let ready = |status: &str| format!("conditions: [{{type: Ready, status: {status}}}]");
    world.file(
        "s/nodes.yaml",
        &[
            node("a", "node-role.kubernetes.io/etcd: '', kubernetes.io/role: door", "", &ready("'True'")),
            node("b", "", "unschedulable: true", &ready("'True'")),
            node("c", "", "", &ready("'False'")),
            node("d", "", "", &ready("Unknown")),
            node("e", "", "", ""),
        ]
        .concat(),
    );
    assert_eq!(
        column("get nodes", "STATUS"),
        ["Ready", "Ready,SchedulingDisabled", "NotReady", "NotReady", "Unknown"]
    );
    assert_eq!(column("get nodes", "ROLES"), ["door,etcd", "<none>", "<none>", "<none>", "<none>"]);
}

#[test]
fn a_kubeconfig_or_context_that_is_typed_wins_over_a_directory_of_the_environment() {
    let world = World::new();
    world.file("s/a.yaml", POOL);
    for flag in ["--kubeconfig no.config", "--context elsewhere"] {
        let answer = world.tortie(&format!("get ippools {flag}"));
        assert_eq!((answer.code, answer.out.as_str()), (3, ""), "{flag}: {}", answer.err);
        let both = world.tortie(&format!("--store dir:s get ippools {flag}"));
        assert_eq!((both.code, both.out.as_str()), (2, ""), "{flag}");
        assert!(both.err.contains("--store dir: is no cluster"), "{flag}: {}", both.err);
    }
    assert!(world.tortie("get ippools --kubeconfig no.config").err.contains("no.config"));
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
fn a_flag_of_another_verb_is_refused() {
    let world = World::new();
    world.file("s/a.yaml", POOL);
    world.file("p.yaml", &POOL.replace("/16", "/15"));
    for line in [
        "apply --skip-exists -f p.yaml",
        "replace --skip-exists -f p.yaml",
        "replace --force -f p.yaml",
        "create --force-conflicts -f p.yaml",
    ] {
        let answer = world.tortie(line);
        assert_eq!((answer.code, answer.out.as_str()), (2, ""), "{line}: {}", answer.err);
        assert!(answer.err.contains("unexpected argument"), "{line}: {}", answer.err);
    }
    assert_eq!(world.text("s/a.yaml"), POOL);
    world.says("create --skip-exists -f p.yaml", "ippool.projectcalico.org/main skipped: it exists\n");
    world.says("apply --force -f p.yaml", "ippool.projectcalico.org/main configured\n");
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
fn get_shows_tables_lists_and_single_objects() {
    let world = World::new();
    world.file("s/all.yaml", &format!(
        "{POOL}---\n{POLICY}---\n{{apiVersion: v1, kind: Pod, metadata: {{name: web, namespace: shop, labels: {{app: web}}}}, \
         spec: {{nodeName: n1, containers: [{{name: c}}]}}, status: {{phase: Running, podIP: 10.244.0.7, \
         containerStatuses: [{{name: c, ready: true, image: i, imageID: i, restartCount: 0}}]}}}}\n"
    ));
    world.says(
        "get pods -A",
        "NAMESPACE   NAME   READY   STATUS    AGE\nshop        web    1/1     Running   <unknown>\n",
    );
    world.says("get po -n shop -o wide", "NAME   READY   STATUS    IP           NODE   AGE\nweb    1/1     Running   10.244.0.7   n1     <unknown>\n");
    assert_eq!(
        world.tortie("get pods"),
        Answer { code: 0, out: String::new(), err: "No resources found in default namespace.\n".into() }
    );
    let list: serde_json::Value = serde_json::from_str(&world.tortie("get pods -A -o json").out).unwrap();
    assert_eq!(list["items"][0]["status"]["podIP"], "10.244.0.7");
    let one: serde_json::Value =
        serde_json::from_str(&world.tortie("get netpol deny-all -o json").out).unwrap();
    assert_eq!(one["metadata"]["namespace"], "default", "where the file does not say");
    world.refuses("get pod web", 1, "tortie: pods \"web\" not found\n");
    world.refuses("get pdos", 2, "tortie: there is no kind \"pdos\"; did you mean pods?\n");
    world.refuses("get pods -l 'a of (b)'", 2, "tortie: --selector: \"a of (b)\" is no requirement; write key, !key, key=value, key!=value, key in (a,b) or key notin (a,b)\n");
    assert_eq!(world.tortie("get nodes").err, "No resources found\n", "nodes are in no namespace");
    assert_eq!(
        world.tortie("get pod web db -n shop"),
        Answer {
            code: 1,
            out: "NAME   READY   STATUS    AGE\nweb    1/1     Running   <unknown>\n".into(),
            err: "tortie: pods \"db\" not found\n".into()
        }
    );
    assert_eq!(
        world.tortie("get pods,svc web -n shop"),
        Answer {
            code: 1,
            out: "NAME   READY   STATUS    AGE\nweb    1/1     Running   <unknown>\n".into(),
            err: "tortie: services \"web\" not found\n".into()
        }
    );
    world.refuses(
        "get pod web -n shop -l app=db",
        2,
        "tortie: names and -l cannot be combined; leave out one of them\n",
    );
    world.says(
        "get pods,netpol -n shop",
        "NAME   READY   STATUS    AGE\nweb    1/1     Running   <unknown>\n",
    );
}

#[test]
fn what_get_prints_can_be_applied_again() {
    let world = World::new();
    world.file("s/all.yaml", &format!("{POOL}---\n{POLICY}"));
    let printed = world.tortie("get all -A -o yaml").out;
    let answer = world.tortie_with("apply -f -", &printed);
    assert_eq!(
        answer.out,
        "networkpolicy.networking.k8s.io/deny-all configured\nippool.projectcalico.org/main unchanged\n"
    );
}

#[test]
fn every_name_of_a_kind_finds_it() {
    let world = World::new();
    for name in [
        "po",
        "pod",
        "pods",
        "Pod",
        "no",
        "node",
        "nodes",
        "ns",
        "namespaces",
        "svc",
        "services",
        "eps",
        "endpointslice",
        "endpointslices.discovery.k8s.io",
        "netpol",
        "networkpolicy",
        "networkpolicies",
        "networkpolicies.networking.k8s.io",
        "networkpolicy.v1.networking.k8s.io",
        "np",
        "gnp",
        "globalnetworkpolicies",
        "caliconetworkpolicies",
        "networkpolicies.projectcalico.org",
        "networkpolicies.crd.projectcalico.org",
        "ippool",
        "ippools",
        "ipPool",
        "ippools.projectcalico.org",
        "felixconfig",
        "felixconfigs",
        "felixconfiguration",
        "felixconfigurations",
        "bgpp",
        "hep",
        "netset",
        "tiers",
        "sa",
        "cm",
        "cnp",
    ] {
        let answer = world.tortie(&format!("get {name}"));
        assert_eq!((answer.code, answer.out.as_str()), (0, ""), "{name}: {answer:?}");
    }
}

#[test]
fn a_policy_of_the_default_tier_is_one_object_under_both_of_its_names() {
    let world = World::new();
    let policy = |name: &str| {
        format!(
            "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {{name: {name}}}\nspec: {{selector: all()}}\n"
        )
    };
    let said = |verb: &str| format!("globalnetworkpolicy.projectcalico.org/deny {verb}\n");
    world.file("short.yaml", &policy("deny"));
    world.file("long.yaml", &policy("default.deny"));
    assert_eq!(world.tortie("create -f long.yaml").out, said("created"));
    assert_eq!(world.tortie("create -f short.yaml").code, 1, "it exists");
    assert_eq!(world.tortie("apply -f long.yaml").out, said("unchanged"));
    for name in ["deny", "default.deny"] {
        let labelled = world.tortie(&format!("label --overwrite globalnetworkpolicy {name} by={name}"));
        assert_eq!((labelled.code, labelled.out), (0, said("labeled")), "{}", labelled.err);
        let shown = world.tortie(&format!("get globalnetworkpolicy {name}"));
        assert_eq!(shown.out, "NAME   AGE\ndeny   <unknown>\n", "{}", shown.err);
    }
    assert_eq!(world.files().len(), 1);
    world.says("delete globalnetworkpolicy default.deny", &said("deleted"));
    assert_eq!(world.files(), [""; 0]);
    // Two files may hold it under both names: one of them is in force, and the other is named.
    world.file("s/1.yaml", &policy("deny"));
    world.file("s/2.yaml", &policy("default.deny"));
    let listed = world.tortie("get globalnetworkpolicies");
    assert_eq!(listed.out, "NAME   AGE\ndeny   <unknown>\n");
    assert!(
        listed.err.contains("s/2.yaml:1") && listed.err.contains("is also in s/1.yaml:1"),
        "{}",
        listed.err
    );
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

#[test]
fn a_store_that_cannot_be_used_says_what_to_do() {
    let world = World::new();
    world.refuses("--store dir:nowhere get pods", 3, "tortie: nowhere: cannot be read: No such file or directory (os error 2); check --store and the permissions\n");
    // Without a store it is the cluster that kubectl would take.
    for words in [&["get", "pods"][..], &["--store", "kube", "get", "pods"]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tortie"));
        command.env_clear().env("HOME", world.root.path()).args(words);
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(3), "{words:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("--store dir:PATH") && said.contains("KUBECONFIG"), "{said}");
    }
    let nowhere = world.root.path().join("missing.kubeconfig");
    let mut command = Command::new(env!("CARGO_BIN_EXE_tortie"));
    let output =
        command.env("KUBECONFIG", &nowhere).args(["--store", "kube", "get", "pods"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8(output.stderr).unwrap().contains("missing.kubeconfig"));
}
