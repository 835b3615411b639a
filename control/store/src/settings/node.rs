//! The layers that the node itself has: variables, and a file that is looked at again and again.
//!
//! Owns: what they said last, and what is wrong with them. Does not: say when to look.
//! Invariant: a file that is gone, cannot be read or has a wrong value leaves the last good settings in force; what it says
//! while somebody writes it does not count.

use super::{Layer, local};
use crate::rejection::{Effect, Origin, Rejection};
use crate::state::State;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How often to look at the file.
pub(crate) const LOOK: Duration = Duration::from_secs(1);

/// Variables and file, as they were read.
pub(crate) struct NodeSettings {
    variables: Vec<Arc<Rejection>>,
    file: Option<File>,
}

struct File {
    path: PathBuf,
    read: Reading,
    /// What it was when it was looked at last, where that is something else.
    new: Option<Reading>,
    rejections: Vec<Arc<Rejection>>,
}

/// Its text, or why there is none.
type Reading = Result<String, String>;

impl NodeSettings {
    /// Reads both, for a state in which nothing has been said.
    pub fn start(node: &str, file: Option<&Path>, variables: &[(String, String)]) -> (State, Self) {
        let (environment, rejections) = local::environment(variables);
        let mut state = State::new(node, environment);
        let mut file = file.map(File::new);
        if let Some(file) = &mut file {
            let (layer, rejections) = file.take();
            file.rejections = rejections;
            state.set_file(layer.unwrap_or_default());
        }
        (state, Self { variables: rejections.into_iter().map(Arc::new).collect(), file })
    }

    /// Whether there is something to look at from time to time.
    pub fn have_file(&self) -> bool {
        self.file.is_some()
    }

    /// Reads the file again. Something new counts when it is the same as at the last look, or `at_once`. `true`: what is wrong
    /// may be something else.
    pub fn look(&mut self, at_once: bool, state: &mut State) -> bool {
        let Some(file) = &mut self.file else { return false };
        let read = file.text();
        if read == file.read {
            file.new = None;
            return false;
        }
        if !at_once && file.new.as_ref() != Some(&read) {
            file.new = Some(read);
            return false;
        }
        (file.read, file.new) = (read, None);
        let (layer, rejections) = file.take();
        // A value that is wrong keeps the last good settings.
        if let Some(layer) = layer
            && rejections.iter().all(|rejection| rejection.effect == Effect::NotEnforced)
        {
            state.set_file(layer);
        }
        file.rejections = rejections;
        true
    }

    /// What is wrong with them.
    pub fn rejections(&self) -> impl Iterator<Item = &Arc<Rejection>> {
        self.variables.iter().chain(self.file.iter().flat_map(|file| &file.rejections))
    }
}

impl File {
    fn new(path: &Path) -> Self {
        let mut file =
            Self { path: path.to_owned(), read: Ok(String::new()), new: None, rejections: Vec::new() };
        file.read = file.text();
        file
    }

    fn text(&self) -> Reading {
        std::fs::read_to_string(&self.path).map_err(|error| error.to_string())
    }

    fn take(&self) -> (Option<Layer>, Vec<Arc<Rejection>>) {
        let (layer, rejections) = match &self.read {
            Ok(text) => {
                let (layer, rejections) = local::file(&self.path, text);
                (Some(layer), rejections)
            }
            Err(why) => (None, vec![self.unreadable(why)]),
        };
        (layer, rejections.into_iter().map(Arc::new).collect())
    }

    fn unreadable(&self, why: &str) -> Rejection {
        Rejection {
            origin: Origin::File { path: self.path.clone(), line: 0 },
            object: None,
            field: None,
            problem: format!("the file of --config cannot be read: {why}"),
            fix: "bring it back; until then its settings stay as they were".into(),
            effect: Effect::KeepsLast,
        }
    }
}
