//! The cluster's objects, kept in a directory of YAML that the agents watch.
//!
//! Owns: reading every file of the directory, and writing back the few that changed, each in one step.
//! Does not: compute; `cluster` does.
//! Invariant: an object has one place; a file that other objects share keeps them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::error::Result;
use crate::files;
use crate::object::{self, Key, Object};

/// All objects of a laboratory.
#[derive(Debug, Default)]
pub struct World {
    directory: PathBuf,
    objects: BTreeMap<Key, Object>,
    places: BTreeMap<Key, PathBuf>,
    touched: BTreeSet<PathBuf>,
    unreadable: Vec<String>,
}

impl World {
    /// Reads the directory. A file that cannot be read is left alone and named in [`World::unreadable`].
    pub fn read(directory: &Path) -> Result<Self> {
        let mut world = Self { directory: directory.to_owned(), ..Self::default() };
        let mut files = Vec::new();
        collect(directory, &mut files)?;
        files.sort();
        for file in files {
            let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
            match object::parse(&text, &file.display().to_string()) {
                Ok(objects) => {
                    for object in objects {
                        world.places.insert(object.key(), file.clone());
                        world.objects.insert(object.key(), object);
                    }
                }
                Err(error) => world.unreadable.push(error.to_string()),
            }
        }
        Ok(world)
    }

    /// Why some files are not part of this world.
    pub fn unreadable(&self) -> &[String] {
        &self.unreadable
    }

    /// One object.
    pub fn get(&self, key: &Key) -> Option<&Object> {
        self.objects.get(key)
    }

    /// All objects of a kind of the core group or any other, in order of namespace and name.
    pub fn of_kind(&self, kind: &str) -> impl Iterator<Item = &Object> {
        self.objects.values().filter(move |object| object.kind() == kind)
    }

    /// The file that an object is in.
    pub fn place(&self, key: &Key) -> Option<&Path> {
        self.places.get(key).map(PathBuf::as_path)
    }

    /// Every key.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.objects.keys()
    }

    /// Every namespace that an object lives in.
    pub fn namespaces(&self) -> impl Iterator<Item = String> {
        self.objects.keys().filter_map(|key| key.namespace.clone())
    }

    /// Adds an object or replaces it.
    pub fn put(&mut self, object: Object) {
        let key = object.key();
        if self.objects.get(&key) == Some(&object) {
            return;
        }
        let place = self.places.entry(key.clone()).or_insert_with(|| place_of(&self.directory, &key));
        self.touched.insert(place.clone());
        self.objects.insert(key, object);
    }

    /// Removes an object; says whether it was there.
    pub fn remove(&mut self, key: &Key) -> bool {
        if let Some(place) = self.places.remove(key) {
            self.touched.insert(place);
        }
        self.objects.remove(key).is_some()
    }

    /// Writes what changed since the last time.
    pub fn write(&mut self) -> Result<()> {
        for file in std::mem::take(&mut self.touched) {
            let objects: Vec<Object> = self
                .places
                .iter()
                .filter(|(_, place)| **place == file)
                .filter_map(|(key, _)| self.objects.get(key).cloned())
                .collect();
            if objects.is_empty() {
                fs::remove_file(&file).with_context(|| file.display().to_string())?;
            } else {
                files::write_atomically(&file, object::print(&objects)?.as_bytes())?;
            }
        }
        Ok(())
    }
}

fn place_of(directory: &Path, key: &Key) -> PathBuf {
    let group = if key.group.is_empty() { String::new() } else { format!(".{}", key.group) };
    let file = format!("{}{group}.{}.yaml", key.kind.to_lowercase(), key.name);
    directory.join(key.namespace.as_deref().unwrap_or("_cluster")).join(file)
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(directory).with_context(|| directory.display().to_string())? {
        let path = entry?.path();
        let hidden = path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
        let readable =
            path.extension().is_some_and(|kind| ["yaml", "yml", "json"].contains(&&*kind.to_string_lossy()));
        if path.is_dir() && !hidden {
            collect(&path, files)?;
        } else if readable && !hidden {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, node: &str) -> Object {
        Object::make("v1", "Pod", Some("default"), name, json!({"spec": {"nodeName": node}}))
    }

    #[test]
    fn what_is_written_is_read_back_and_a_removed_object_leaves_no_file() {
        let directory = tempfile::tempdir().unwrap();
        let mut world = World::read(directory.path()).unwrap();
        world.put(pod("a", "node1"));
        world.write().unwrap();
        let mut world = World::read(directory.path()).unwrap();
        assert_eq!(world.get(&pod("a", "").key()), Some(&pod("a", "node1")));
        assert!(world.remove(&pod("a", "").key()));
        world.write().unwrap();
        assert_eq!(World::read(directory.path()).unwrap().of_kind("Pod").count(), 0);
    }

    #[test]
    fn a_file_with_several_objects_keeps_the_others() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("mine.yaml");
        fs::write(&file, object::print(&[pod("a", "node1"), pod("b", "node1")]).unwrap()).unwrap();
        let mut world = World::read(directory.path()).unwrap();
        world.put(pod("a", "node2"));
        world.write().unwrap();
        let text = fs::read_to_string(&file).unwrap();
        assert_eq!(object::parse(&text, "mine").unwrap(), [pod("a", "node2"), pod("b", "node1")]);
    }

    #[test]
    fn calicos_two_forms_of_an_object_are_one() {
        let directory = tempfile::tempdir().unwrap();
        let mut world = World::read(directory.path()).unwrap();
        for version in ["projectcalico.org/v3", "crd.projectcalico.org/v1"] {
            world.put(Object::make(version, "FelixConfiguration", None, "default", json!({})));
        }
        world.write().unwrap();
        assert_eq!(World::read(directory.path()).unwrap().of_kind("FelixConfiguration").count(), 1);
    }

    #[test]
    fn a_broken_file_hides_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("broken.yaml"), "kind: [").unwrap();
        fs::write(directory.path().join("good.yaml"), object::print(&[pod("a", "node1")]).unwrap()).unwrap();
        let world = World::read(directory.path()).unwrap();
        assert_eq!((world.of_kind("Pod").count(), world.unreadable().len()), (1, 1));
    }
}
