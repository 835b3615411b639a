//! The intermediate form of a list: atoms, rows and columns. Both forms of tables are made from it.

use super::atoms::{Atom, Residual, Service, lower};
use super::bits::Bits;
use super::columns::Columns;
use super::nodes::decision;
use super::rows::Conditions;
use super::{CompileError, Limits, Pressure};
use crate::form::{Action, List};
use std::collections::HashMap;

/// An atom with numbers in place of conditions.
#[derive(Clone, Copy, Debug)]
pub struct Numbered {
    /// Number of its address condition.
    pub condition: usize,
    /// Number of its service.
    pub service: usize,
    /// The rest.
    pub residual: Residual,
    /// What it decides.
    pub decision: u32,
}

/// The intermediate form.
#[derive(Clone, Debug)]
pub struct Analysis {
    /// In the order of the rules.
    pub atoms: Vec<Numbered>,
    /// Distinct address conditions.
    pub conditions: Conditions,
    /// For each address condition its atoms.
    pub by_condition: Vec<Vec<u32>>,
    /// For each service its atoms.
    pub by_service: Vec<Vec<u32>>,
    /// Columns.
    pub columns: Columns,
    /// What the end of the list decides.
    pub default: u32,
}

impl Analysis {
    /// Analyses a list; `rule_id` gives the index in `rule_counter` of each rule of it.
    pub fn new(list: &List, rule_id: &dyn Fn(usize) -> u32, limits: &Limits) -> Result<Self, CompileError> {
        let mut services = Services::default();
        let mut conditions = Conditions::default();
        let mut atoms = Vec::with_capacity(list.rules.len());
        for (index, rule) in list.rules.iter().enumerate() {
            let condition = conditions.number(&rule.remote);
            let decision = decision(rule.action == Action::Allow, rule_id(index));
            for Atom { service, residual, .. } in lower(index, rule) {
                atoms.push(Numbered { condition, service: services.number(service), residual, decision });
            }
            if atoms.len() > limits.atoms {
                return Err(CompileError::new(list, Pressure::Rules));
            }
        }
        let columns = Columns::new(&services.all, limits.working_bytes)
            .ok()
            .filter(|columns| columns.services.len() <= usize::from(u16::MAX))
            .ok_or_else(|| CompileError::new(list, Pressure::Services))?;
        Ok(Self {
            by_condition: index(&atoms, conditions.len(), |atom| atom.condition),
            by_service: index(&atoms, services.all.len(), |atom| atom.service),
            atoms,
            conditions,
            columns,
            default: decision(list.default == Action::Allow, tortie_abi::policy::NO_RULE),
        })
    }

    /// The atoms of which the address condition holds. Here and in columns there is room for one bit more.
    pub fn row_atoms(&self, holding: &Bits) -> Bits {
        self.gather(holding, &self.by_condition)
    }

    /// The atoms of which the service holds.
    pub fn column_atoms(&self, holding: &Bits) -> Bits {
        self.gather(holding, &self.by_service)
    }

    fn gather(&self, holding: &Bits, lists: &[Vec<u32>]) -> Bits {
        let mut bits = Bits::new(self.atoms.len() + 1);
        for list in holding.iter().filter_map(|number| lists.get(number)) {
            list.iter().for_each(|atom| bits.set(*atom as usize));
        }
        bits
    }
}

fn index(atoms: &[Numbered], length: usize, of: impl Fn(&Numbered) -> usize) -> Vec<Vec<u32>> {
    let mut lists = vec![Vec::new(); length];
    for (number, atom) in atoms.iter().enumerate() {
        if let Some(list) = lists.get_mut(of(atom)) {
            list.push(number as u32);
        }
    }
    lists
}

#[derive(Default)]
struct Services {
    all: Vec<Service>,
    numbers: HashMap<Service, usize>,
}

impl Services {
    fn number(&mut self, service: Service) -> usize {
        if let Some(number) = self.numbers.get(&service) {
            return *number;
        }
        self.all.push(service.clone());
        self.numbers.insert(service, self.all.len() - 1);
        self.all.len() - 1
    }
}
