//! Rows: which address conditions of a list hold for a class.
//!
//! Owns: the distinct address conditions, and row numbers. Does not: know services. Invariant: two
//! classes have one row number exactly when the same conditions hold for both.

use super::atoms::canonical;
use super::bits::Bits;
use crate::form::{Clause, SetId};
use std::collections::HashMap;

/// Number of a row.
pub type Row = u16;

/// The distinct address conditions of a list, with a way to the few that a class can fulfil.
#[derive(Clone, Debug, Default)]
pub struct Conditions {
    all: Vec<Vec<Clause>>,
    numbers: HashMap<Vec<Clause>, usize>,
    /// Conditions by each set of their first clause that asks for one.
    by_set: HashMap<SetId, Vec<usize>>,
    /// Conditions that ask for no set.
    without_set: Vec<usize>,
}

impl Conditions {
    /// The number of a condition.
    pub fn number(&mut self, remote: &[Clause]) -> usize {
        let condition = canonical(remote);
        if let Some(number) = self.numbers.get(&condition) {
            return *number;
        }
        let number = self.all.len();
        match condition.iter().find(|clause| !clause.negated) {
            Some(clause) => {
                clause.sets.iter().for_each(|set| self.by_set.entry(*set).or_default().push(number));
            }
            None => self.without_set.push(number),
        }
        self.all.push(condition.clone());
        self.numbers.insert(condition, number);
        number
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Which hold for an address in exactly these sets (sorted).
    pub fn holding(&self, sets: &[SetId]) -> Bits {
        let mut bits = Bits::new(self.all.len());
        let asking = sets.iter().filter_map(|set| self.by_set.get(set)).flatten();
        for &number in asking.chain(&self.without_set) {
            if !bits.get(number) && self.all.get(number).is_some_and(|clauses| holds(clauses, sets)) {
                bits.set(number);
            }
        }
        bits
    }
}

fn holds(clauses: &[Clause], sets: &[SetId]) -> bool {
    clauses
        .iter()
        .all(|clause| clause.sets.iter().any(|set| sets.binary_search(set).is_ok()) != clause.negated)
}

/// Row numbers by the conditions that hold.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    numbers: HashMap<Bits, Row>,
}

impl Rows {
    /// The number of a row that exists.
    pub fn get(&self, holding: &Bits) -> Option<Row> {
        self.numbers.get(holding).copied()
    }

    /// A new row; `None` when there are too many for 16 bits. The highest number stays unused: it marks
    /// classes without a row.
    pub fn add(&mut self, holding: Bits) -> Option<Row> {
        let number = Row::try_from(self.numbers.len()).ok().filter(|number| *number != NO_ROW)?;
        self.numbers.insert(holding, number);
        Some(number)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.numbers.len()
    }

    /// All rows in the order of their numbers.
    pub fn in_order(&self) -> Vec<&Bits> {
        let mut rows: Vec<(&Bits, &Row)> = self.numbers.iter().collect();
        rows.sort_unstable_by_key(|(_, number)| **number);
        rows.into_iter().map(|(bits, _)| bits).collect()
    }
}

/// In the row table: this class has no row, its packets are denied.
pub const NO_ROW: Row = Row::MAX;
