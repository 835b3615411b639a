//! `get`, `create`, `apply`, `replace`, `delete`, `patch`, `label`, `validate`.
//!
//! Owns: their flags and messages. Does not: know what is valid or how it is written (control/store does).
//! Invariant: one call changes everything it names in a directory, or nothing; of a cluster it says what became of
//! each object. No agent is needed.

mod change;
mod columns;
pub(crate) mod dangling;
mod delete;
mod get;
mod input;
mod modify;
pub(crate) mod open;
mod printer;

pub use input::given_twice;

use clap::{Args, Subcommand};
use std::path::PathBuf;
use tortie_store::kind::{self, KINDS, Kind};
use tortie_store::objects::{Dry, Objects};
use tortie_store::strict::closest;

use crate::args::Global;
use crate::exit::{Failure, Outcome};

/// Verbs that read and write resources.
#[derive(Debug, Subcommand)]
pub enum Resources {
    /// List resources, or show some of them.
    Get(get::Get),
    /// Make resources that must not exist yet.
    Create(change::Create),
    /// Make resources what the files say, new or not; status is kept.
    Apply(change::Apply),
    /// Make resources that must exist what the files say; status is kept.
    Replace(change::Replace),
    /// Remove resources; a namespace goes with everything in it.
    Delete(delete::Delete),
    /// Change some fields of a resource.
    Patch(modify::Patch),
    /// Set and remove labels of a resource.
    Label(modify::Label),
    /// Check files without writing anything.
    Validate(change::Validate),
}

/// Files to read resources from.
#[derive(Debug, Clone, Args)]
pub struct Files {
    /// A file, a directory of YAML and JSON, or - for standard input; can be repeated.
    #[arg(short = 'f', long = "filename", value_name = "FILE|DIR|-")]
    pub files: Vec<PathBuf>,
    /// Look into subdirectories too.
    #[arg(short = 'R', long)]
    pub recursive: bool,
}

/// Where names are looked for.
#[derive(Debug, Clone, Args)]
pub struct Scope {
    /// The namespace; that of the kubeconfig's context, or `default`, when absent or empty.
    #[arg(short = 'n', long, value_name = "NS")]
    namespace: Option<String>,
    /// What is meant when it is absent.
    #[arg(skip)]
    usual: Option<String>,
}

impl Scope {
    /// The namespace that was asked for. An empty one, from a variable that is not set, is none.
    pub fn asked(&self) -> Option<&str> {
        self.namespace.as_deref().filter(|it| !it.is_empty())
    }

    /// The namespace that is meant.
    pub fn namespace(&self) -> &str {
        self.asked().or(self.usual.as_deref()).unwrap_or(tortie_store::input::DEFAULT_NAMESPACE)
    }

    /// Learns what is meant when none is given.
    fn resolve(&mut self, objects: &Objects) -> Result<(), Failure> {
        if self.asked().is_none() {
            self.usual = Some(objects.namespace().map_err(open::failure)?);
        }
        Ok(())
    }
}

/// A run that only says what it would do.
#[derive(Debug, Clone, Args)]
pub struct DryRun {
    /// Check everything and say what would happen, but write nothing.
    #[arg(long, value_name = "none|client|server", num_args = 0..=1, require_equals = true,
          default_value = "none", default_missing_value = "client",
          value_parser = ["none", "client", "server"])]
    dry_run: String,
}

impl DryRun {
    fn dry(&self) -> Dry {
        match self.dry_run.as_str() {
            "client" => Dry::Client,
            "server" => Dry::Server,
            _ => Dry::Not,
        }
    }

    fn suffix(&self) -> &'static str {
        if self.dry() == Dry::Not { "" } else { " (dry run)" }
    }
}

/// Runs one of the verbs.
pub fn run(verb: Resources, global: &Global) -> Outcome {
    match verb {
        Resources::Get(get) => get::run(get, global),
        Resources::Create(create) => change::create(create, global),
        Resources::Apply(apply) => change::apply(apply, global),
        Resources::Replace(replace) => change::replace(replace, global),
        Resources::Delete(delete) => delete::run(delete, global),
        Resources::Patch(patch) => modify::patch(patch, global),
        Resources::Label(label) => modify::label(label, global),
        Resources::Validate(validate) => change::validate(&validate, global),
    }
}

/// The kind a person means.
fn kind_named(word: &str) -> Result<&'static Kind, Failure> {
    kind::named(word).ok_or_else(|| {
        let names: Vec<&str> =
            KINDS.iter().flat_map(|kind| kind.aliases.iter().copied().chain([kind.plural])).collect();
        let hint = match closest(&word.to_lowercase(), &names) {
            Some(like) => format!("did you mean {like}?"),
            None => "use a kind such as pods, networkpolicies or ippools".to_owned(),
        };
        Failure::bad_input(anyhow::anyhow!("there is no kind {word:?}; {hint}"))
    })
}

/// What kubectl calls an object in its answers: `networkpolicy.networking.k8s.io/deny`.
fn called(kind: Option<&'static Kind>, key: &tortie_store::resource::Key) -> String {
    let resource = kind.map_or_else(|| key.kind.to_lowercase(), Kind::resource);
    format!("{resource}/{}", key.name)
}

/// `KIND[,KIND…]`.
fn kinds_named(words: &str) -> Result<Vec<&'static Kind>, Failure> {
    words.split(',').map(kind_named).collect()
}

/// `KIND[,KIND…] NAME …`, `KIND/NAME …`.
fn named_objects(words: &[String]) -> Result<Vec<(&'static Kind, String)>, Failure> {
    match words {
        [first, ..] if first.contains('/') => words.iter().map(|word| kind_and_name(word)).collect(),
        [kinds, names @ ..] => {
            let of = |kind| names.iter().map(move |name| (kind, name.clone()));
            Ok(kinds_named(kinds)?.into_iter().flat_map(of).collect())
        }
        [] => Ok(Vec::new()),
    }
}

fn kind_and_name(word: &str) -> Result<(&'static Kind, String), Failure> {
    match word.split_once('/') {
        Some((kind, name)) if !name.is_empty() => Ok((kind_named(kind)?, name.to_owned())),
        _ => Err(Failure::bad_input(anyhow::anyhow!("{word:?} is no KIND/NAME; write it like pod/web"))),
    }
}

/// Identity of an object that is named on the command line.
fn key_of(kind: &'static Kind, name: &str, scope: &Scope) -> tortie_store::resource::Key {
    let namespace = scope.namespace();
    tortie_store::resource::Key {
        group: kind.group.into(),
        kind: kind.kind.into(),
        namespace: if kind.namespaced { namespace.into() } else { String::new() },
        name: tortie_store::calico::name(kind.group, kind.kind, name).into(),
    }
}

/// As kubectl says it.
fn not_found(kind: &'static Kind, name: &str) -> String {
    let plural = match kind.group {
        "" => kind.plural.to_owned(),
        group => format!("{}.{group}", kind.plural),
    };
    format!("{plural} {name:?} not found")
}
