//! The first form: a table of rows × columns, a cell naming the node of the first rule that matches.

use super::analysis::Analysis;
use super::atoms::Residual;
use super::bits::Bits;
use super::columns::columns_of;
use super::nodes::{Node, NodeId, Nodes};
use std::collections::BTreeMap;

/// Fills rows of cells.
#[derive(Clone, Debug)]
pub struct Table {
    /// For each service its columns.
    columns_of: Vec<Vec<u32>>,
    columns: usize,
    /// What cells name.
    pub nodes: Nodes,
}

/// Marks a cell that no rule has taken yet; no node has this number in [`u32`].
const OPEN: u32 = u32::MAX;

impl Table {
    /// `None`: filling would take more than `max_work` steps a row.
    pub fn new(analysis: &Analysis, max_work: usize) -> Option<Self> {
        let columns = &analysis.columns.services;
        Some(Self {
            columns_of: columns_of(analysis.by_service.len(), columns, max_work)?,
            columns: columns.len(),
            nodes: Nodes::new(),
        })
    }

    /// The cells of a row, as bytes; `None`: more nodes than 16 bits can name.
    pub fn row(&mut self, analysis: &Analysis, holding: &Bits) -> Option<Vec<u8>> {
        let mut cells = vec![OPEN; self.columns];
        let mut open = self.columns;
        let mut waiting: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for number in analysis.row_atoms(holding).iter() {
            if open == 0 {
                break;
            }
            let Some(atom) = analysis.atoms.get(number) else { continue };
            for column in self.columns_of.get(atom.service).into_iter().flatten() {
                let Some(cell) = cells.get_mut(*column as usize).filter(|cell| **cell == OPEN) else {
                    continue;
                };
                if atom.residual != Residual::NONE {
                    waiting.entry(*column).or_default().push(number as u32);
                    continue;
                }
                let end = self.nodes.number(Node::last(atom.decision))?;
                *cell = u32::from(chain(&mut self.nodes, analysis, waiting.remove(column), end)?);
                open -= 1;
            }
        }
        let end = self.nodes.number(Node::last(analysis.default))?;
        for (column, cell) in cells.iter_mut().enumerate().filter(|(_, cell)| **cell == OPEN) {
            *cell = u32::from(chain(&mut self.nodes, analysis, waiting.remove(&(column as u32)), end)?);
        }
        Some(cells.into_iter().flat_map(|cell| (cell as NodeId).to_ne_bytes()).collect())
    }
}

/// The node that tries `atoms` in order and ends in `end`.
fn chain(nodes: &mut Nodes, analysis: &Analysis, atoms: Option<Vec<u32>>, end: NodeId) -> Option<NodeId> {
    atoms.unwrap_or_default().into_iter().rev().try_fold(end, |next, number| {
        let atom = analysis.atoms.get(number as usize)?;
        nodes.number(Node { decision: atom.decision, residual: atom.residual, next })
    })
}
