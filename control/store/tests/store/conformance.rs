//! The directory passes the suite that every store passes.

use std::fs;
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

    fn open(&self) -> Store {
        let options = dir::Options { node: "node1".into(), ..dir::Options::default() };
        dir::open(self.0.path(), options).unwrap()
    }
}

crate::conformance! { Directory:
    what_was_there_is_said_in_order_before_in_sync
    an_empty_store_is_in_sync
    the_same_again_says_nothing
    changes_and_deletions_are_said
    a_bad_version_keeps_the_last_good_one
    an_object_that_was_never_good_is_not_there
    settings_are_merged
    a_kind_that_is_not_enforced_is_reported
    a_dropped_store_is_gone
}
