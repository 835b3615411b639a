//! The directory passes the suite that every store passes.

use std::fs;
use std::path::Path;
use tempfile::TempDir;
use tortie_store::{Store, dir};

struct Directory(TempDir);

impl crate::suite::Backend for Directory {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn put(&mut self, name: &str, yaml: &str) {
        fs::write(self.0.path().join(format!("{name}.yaml")), yaml).unwrap();
    }

    fn delete(&mut self, name: &str) {
        fs::remove_file(self.0.path().join(format!("{name}.yaml"))).unwrap();
    }

    fn open_with(&self, config_file: Option<&Path>) -> Store {
        let config_file = config_file.map(Path::to_owned);
        let options = dir::Options { node: "node1".into(), config_file, ..dir::Options::default() };
        dir::open(self.0.path(), options).unwrap()
    }
}

crate::conformance! { Directory }
