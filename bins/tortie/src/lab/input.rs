//! Reading what people give to the laboratory's verbs.
//!
//! Owns: durations, files with objects, and places that name a pod.
//! Does not: interpret objects.
//! Invariant: an error names the file or the flag.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use tortie_lab::{Object, Where, parse_objects};
use tortie_store::input::{DEFAULT_NAMESPACE, Item};
use tortie_store::resource::{Key, Resource};
use tortie_store::{Effect, wire};

use crate::exit::Failure;
use crate::output;
use crate::resources::given_twice;

/// `250ms`, `30s`, `2m`; a bare number is seconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: f64 =
        digits.parse().map_err(|_| "expected a duration such as 250ms, 30s or 2m".to_owned())?;
    let unit = match text.get(digits.len()..).unwrap_or_default() {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" | "" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        other => return Err(format!("{other:?} is no unit of time: use us, ms, s, m or h")),
    };
    Duration::try_from_secs_f64(number * unit).map_err(|_| "expected a duration from now on".to_owned())
}

/// All objects of the files, directories and stdin named. What an API server would refuse is refused here.
pub fn objects(paths: &[PathBuf]) -> Result<Vec<Object>, Failure> {
    let texts = texts(paths)?;
    let mut refused = Vec::new();
    let mut first = BTreeMap::new();
    for (path, text) in &texts {
        check(path, text, &mut first, &mut refused);
    }
    if !refused.is_empty() {
        return Err(Failure::BadInput(anyhow!(refused.join("\ntortie: "))));
    }
    parse(&texts)
}

/// The same without a look at anything but names: enough to remove what they name.
pub fn names(paths: &[PathBuf]) -> Result<Vec<Object>, Failure> {
    parse(&texts(paths)?)
}

fn parse(texts: &[(PathBuf, String)]) -> Result<Vec<Object>, Failure> {
    let mut objects = Vec::new();
    for (path, text) in texts {
        objects.extend(parse_objects(text, &path.display().to_string())?);
    }
    Ok(objects)
}

/// `first`: where each object was found first.
fn check(path: &Path, text: &str, first: &mut BTreeMap<Key, String>, refused: &mut Vec<String>) {
    for Item { line, resource, .. } in tortie_store::input::read(text.as_bytes(), DEFAULT_NAMESPACE) {
        let mut say = |resource: Option<&Resource>, fault, effect| {
            let text = tortie_store::input::rejection(path, line, resource, fault, effect).to_string();
            if effect == Effect::Absent {
                refused.push(text)
            } else {
                output::tell(format_args!("warning: {text}"))
            }
        };
        match resource {
            Err(fault) => say(None, fault, Effect::Absent),
            Ok(resource) => {
                let place = format!("{}:{line}", path.display());
                if let Some(other) = first.insert(resource.key.clone(), place) {
                    say(Some(&resource), given_twice(&other), Effect::Absent);
                }
                match wire::read(&resource) {
                    Ok(read) => {
                        read.notes.into_iter().for_each(|it| say(Some(&resource), it, Effect::NotEnforced))
                    }
                    Err(faults) => faults.into_iter().for_each(|it| say(Some(&resource), it, Effect::Absent)),
                }
            }
        }
    }
}

fn texts(paths: &[PathBuf]) -> Result<Vec<(PathBuf, String)>, Failure> {
    let mut texts = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            texts.push((PathBuf::from("stdin"), stdin()?));
            continue;
        }
        let mut files = Vec::new();
        collect(path, true, &mut files).map_err(Failure::bad_input)?;
        if files.is_empty() {
            return Err(Failure::BadInput(anyhow!("{}: no .yaml, .yml or .json file", path.display())));
        }
        for file in files {
            let text = fs::read_to_string(&file).with_context(|| file.display().to_string());
            texts.push((file, text.map_err(Failure::bad_input)?));
        }
    }
    Ok(texts)
}

/// All of stdin.
pub fn stdin() -> Result<String, Failure> {
    let mut text = String::new();
    io::stdin().read_to_string(&mut text).context("stdin").map_err(Failure::bad_input)?;
    Ok(text)
}

fn collect(path: &Path, named: bool, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    if path.is_dir() {
        let mut entries: Vec<PathBuf> = fs::read_dir(path)
            .with_context(|| path.display().to_string())?
            .flatten()
            .map(|e| e.path())
            .collect();
        entries.sort();
        return entries.iter().try_for_each(|entry| collect(entry, false, files));
    }
    let is_yaml = path.extension().is_some_and(|kind| kind == "yaml" || kind == "yml" || kind == "json");
    if named || is_yaml {
        files.push(path.to_owned());
    }
    Ok(())
}

/// Where a command runs, from the flags that say so.
pub fn place(
    pod: Option<&str>,
    namespace: &str,
    node: Option<String>,
    client: Option<String>,
) -> Result<Where, Failure> {
    match (pod, node, client) {
        (Some(pod), None, None) => {
            let pod = pod.strip_prefix("pod:").unwrap_or(pod);
            let (namespace, name) = pod.split_once('/').unwrap_or((namespace, pod));
            Ok(Where::Pod(namespace.to_owned(), name.to_owned()))
        }
        (None, Some(node), None) => Ok(Where::Node(node)),
        (None, None, Some(client)) => Ok(Where::Client(client)),
        _ => Err(Failure::BadInput(anyhow!("say where: a pod, --node or --client"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units_and_nonsense_is_refused() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("1.5m"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("2"), Ok(Duration::from_secs(2)));
        for wrong in ["", "s", "-1s", "1y", "ms", "1 s"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_an_api_server_refuses_is_refused_with_file_object_and_field() {
        let policy = |cidr: &str| {
            format!(
                "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: p}}\n\
                 spec: {{podSelector: {{}}, ingress: [{{from: [{{ipBlock: {{cidr: {cidr}}}}}]}}]}}\n"
            )
        };
        let refused = |text: &str| {
            let mut refused = Vec::new();
            check(Path::new("world.yaml"), text, &mut BTreeMap::new(), &mut refused);
            refused.join("\n")
        };
        assert_eq!(refused(&policy("10.0.0.0/8")), "");
        let text = refused(&policy("10.0.0.0/99"));
        assert!(text.contains("world.yaml") && text.contains("default/p") && text.contains("cidr"), "{text}");
        assert!(!refused("kind: [").is_empty());
    }

    #[test]
    fn an_object_that_is_given_twice_is_refused_with_both_places() {
        let pod =
            "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c, image: i}]}\n";
        let (mut first, mut refused) = (BTreeMap::new(), Vec::new());
        check(Path::new("a.yaml"), pod, &mut first, &mut refused);
        assert!(refused.is_empty(), "{refused:?}");
        check(Path::new("b.yaml"), &format!("# again\n---\n{pod}"), &mut first, &mut refused);
        assert_eq!(refused, ["b.yaml:3: Pod default/p: is also given in a.yaml:1; give it once"]);
    }

    #[test]
    fn a_pod_is_found_by_name_or_by_namespace_and_name() {
        let pod = |text| place(Some(text), "shop", None, None).unwrap();
        assert_eq!(pod("front"), Where::Pod("shop".into(), "front".into()));
        assert_eq!(pod("pod:other/front"), Where::Pod("other".into(), "front".into()));
    }
}
