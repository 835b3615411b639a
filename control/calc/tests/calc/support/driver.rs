//! A calculation with a checker behind it.

use super::checker::Folded;
use super::state::State;
use tortie_calc::Calc;
use tortie_intent::Intent;
use tortie_model::Object;

/// Drives one node's calculation.
#[derive(Debug)]
pub struct Driver {
    pub calc: Calc,
    pub folded: Folded,
}

impl Driver {
    /// A node that is not yet in sync.
    pub fn before_sync(node: &str) -> Self {
        Self { calc: Calc::new(node.into()), folded: Folded::default() }
    }

    /// A node in sync with an empty datastore.
    pub fn new(node: &str) -> Self {
        let mut driver = Self::before_sync(node);
        driver.calc.in_sync();
        assert_eq!(driver.flush(), [Intent::InSync]);
        driver
    }

    /// A node in sync with these objects.
    pub fn with(node: &str, objects: &[Object]) -> Self {
        let mut driver = Self::new(node);
        driver.step(objects);
        driver
    }

    pub fn apply(&mut self, objects: &[Object]) {
        objects.iter().for_each(|object| self.calc.apply(object));
    }

    /// Flushes, checks every intent, and returns them.
    pub fn flush(&mut self) -> Vec<Intent> {
        let mut said = Vec::new();
        self.folded.begin();
        self.calc.flush(&mut |intent: Intent| {
            said.push(intent.clone());
            self.folded.fold(intent);
        });
        self.folded.end();
        said
    }

    /// One batch.
    pub fn step(&mut self, objects: &[Object]) -> Vec<Intent> {
        self.apply(objects);
        self.flush()
    }

    pub fn state(&self) -> State {
        State::of(&self.folded, self.calc.conflicts())
    }
}
