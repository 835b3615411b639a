//! `<run-dir>/map-sizes.json`: the sizes of maps that were chosen when they were acted on last.
//!
//! Owns: the file, and which choice is a new one. Does not: choose sizes or make maps.
//! Invariant: a map that has grown does not shrink while nobody chooses another size; without the file none does.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use tortie::replace::replace_json;
use tortie_host::maps::{Size, Sizes};

/// By the map's name.
#[derive(Debug)]
pub struct ChosenSizes {
    path: PathBuf,
    before: BTreeMap<String, u32>,
}

impl ChosenSizes {
    /// As the last agent of this directory has left them.
    pub fn read(run_dir: &Path) -> Self {
        let path = run_dir.join("map-sizes.json");
        let bytes = fs::read(&path).unwrap_or_default();
        Self { path, before: serde_json::from_slice(&bytes).unwrap_or_default() }
    }

    /// Says of each that may grow whether somebody has chosen another size for it.
    pub fn compare(&self, sizes: &mut Sizes) {
        for (name, size) in sizes {
            let chosen = size.chosen();
            if let Size::Growing { is_new, .. } = size {
                *is_new = self.before.get(*name).is_some_and(|before| *before != chosen);
            }
        }
    }

    /// They were acted on, for the maps that have their size now: for others the choice is a new one next time, too.
    pub fn remember(mut self, sizes: &Sizes, has_it: impl Fn(&str) -> bool) {
        let mut now = BTreeMap::new();
        for (name, size) in sizes {
            let before = self.before.remove(*name).filter(|_| !has_it(name));
            now.insert(*name, before.unwrap_or_else(|| size.chosen()));
        }
        if let Err(error) = replace_json(&self.path, &now) {
            tracing::warn!(path = %self.path.display(), %error, "which sizes of maps were chosen is not remembered");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(dir: &Path, least: u32, waits: &[&str]) -> bool {
        let of = |least| Size::Growing { least, needed: 0, is_new: false };
        let mut sizes = Sizes::from([("flow4", of(least)), ("flow6", of(7)), ("route4", Size::Fixed(least))]);
        let chosen = ChosenSizes::read(dir);
        chosen.compare(&mut sizes);
        assert_eq!(sizes["flow6"], of(7), "nobody touches it");
        chosen.remember(&sizes, |name| !waits.contains(&name));
        matches!(sizes["flow4"], Size::Growing { is_new: true, .. })
    }

    #[test]
    fn a_choice_is_new_until_it_was_acted_on() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        assert!(!new(dir, 65_536, &[]), "nobody knows what it was before");
        assert!(!new(dir, 65_536, &[]));
        assert!(new(dir, 4096, &["flow4"]));
        assert!(new(dir, 4096, &["flow6"]), "it had to wait");
        assert!(!new(dir, 4096, &[]));
        assert!(new(dir, 65_536, &[]));
        fs::write(dir.join("map-sizes.json"), "{").unwrap();
        assert!(!new(dir, 4096, &[]), "damaged");
        assert!(!new(dir, 4096, &[]));
    }
}
