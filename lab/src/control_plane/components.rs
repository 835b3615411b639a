//! The programs of a control plane, and where they are.
//!
//! Owns: the places they are looked for, in the order of scripts/kubernetes.sh.
//! Does not: build them; that script does.
//! Invariant: all of them come from one place, so that no two versions meet.

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The programs that a control plane is made of, and the one that people use it with.
pub const ALL: [&str; 4] = ["etcd", "kube-apiserver", "kube-controller-manager", "kubectl"];

/// Pinned with the other tools; the script that builds reads the same file.
const TOOLS: &str = include_str!("../../../scripts/tools.env");

/// Finds all programs: KUBEBUILDER_ASSETS, else the path, else what scripts/kubernetes.sh has built.
pub fn find() -> Result<BTreeMap<String, PathBuf>> {
    let pinned = env::var_os("TORTIE_KUBERNETES").is_some_and(|value| value == "pinned");
    let assets = env::var_os("KUBEBUILDER_ASSETS").filter(|_| !pinned).map(PathBuf::from);
    let path = env::var_os("PATH").filter(|_| !pinned).unwrap_or_default();
    let path: Vec<PathBuf> = env::split_paths(&path).collect();
    let places = [assets.into_iter().collect(), path, cache().into_iter().collect::<Vec<_>>()];
    places.iter().find_map(|place| all_in(place)).ok_or_else(|| {
        Error::NotAllowed(anyhow::anyhow!(
            "--store kube needs {}: run `make kubernetes` (builds them once, in about five minutes), or set \
             KUBEBUILDER_ASSETS to a directory that has them",
            ALL.join(", ")
        ))
    })
}

/// The programs, when the directories have every one of them.
fn all_in(directories: &[PathBuf]) -> Option<BTreeMap<String, PathBuf>> {
    let find = |name: &str| directories.iter().map(|directory| directory.join(name)).find(|path| runs(path));
    ALL.iter().map(|name| Some(((*name).to_owned(), find(name)?))).collect()
}

fn runs(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Where scripts/kubernetes.sh puts what it builds.
fn cache() -> Option<PathBuf> {
    let version = TOOLS.lines().find_map(|line| line.strip_prefix("KUBERNETES_VERSION="))?;
    let base = env::var_os("TORTIE_CACHE").map(PathBuf::from).or_else(|| {
        let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        Some(cache.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache")))?.join("tortie"))
    })?;
    Some(base.join(format!("kubernetes-{version}")).join("bin"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_place_counts_only_when_it_has_every_program() {
        let directory = tempfile::tempdir().unwrap();
        for name in ALL {
            assert!(all_in(&[directory.path().to_owned()]).is_none(), "before {name}");
            fs::write(directory.path().join(name), "").unwrap();
            fs::set_permissions(directory.path().join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        assert_eq!(all_in(&[directory.path().to_owned()]).unwrap().len(), ALL.len());
    }
}
