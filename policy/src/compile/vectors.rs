//! The second form: a bit for each atom in every row and every column, and a last bit that is always set, for
//! the end of the list: a row or column that nobody has written has no bit at all, and denies.

use super::Pressure;
use super::analysis::Analysis;
use super::atoms::Residual;
use super::bits::Bits;
use super::nodes::{Node, Nodes};

/// Atoms with a residual condition that this form takes: each is a few instructions and branches, and the
/// verifier follows at most 8,192 branches ahead.
const MAX_RESIDUALS: usize = 1024;

/// An atom that has more to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResidualAtom {
    /// Number of the atom.
    pub atom: usize,
    /// What it asks.
    pub residual: Residual,
}

/// Makes rows and columns of bits.
#[derive(Clone, Debug)]
pub struct Vectors {
    words: usize,
    /// The last bit.
    end: usize,
    /// Node of atom n: n + 1.
    pub nodes: Nodes,
    /// In the order of atoms.
    pub residuals: Vec<ResidualAtom>,
}

impl Vectors {
    /// Refuses too many residual conditions.
    pub fn new(analysis: &Analysis) -> Result<Self, Pressure> {
        let mut nodes = Nodes::new();
        let decisions = analysis.atoms.iter().map(|atom| atom.decision).chain([analysis.default]);
        for decision in decisions {
            nodes.push(Node::last(decision)).ok_or(Pressure::Rules)?;
        }
        let atoms = analysis.atoms.iter().enumerate();
        let residuals: Vec<ResidualAtom> = atoms
            .filter(|(_, atom)| atom.residual != Residual::NONE)
            .map(|(number, atom)| ResidualAtom { atom: number, residual: atom.residual })
            .collect();
        if residuals.len() > MAX_RESIDUALS {
            return Err(Pressure::Residuals { found: residuals.len(), allowed: MAX_RESIDUALS });
        }
        Ok(Self { end: analysis.atoms.len(), words: analysis.atoms.len() / 64 + 1, nodes, residuals })
    }

    /// 64-bit words of a row or column.
    pub fn words(&self) -> usize {
        self.words
    }

    /// Bytes of a row or column.
    pub fn row_bytes(&self) -> usize {
        self.words * 8
    }

    /// One row.
    pub fn row(&self, analysis: &Analysis, holding: &Bits) -> Vec<u8> {
        self.bytes(analysis.row_atoms(holding))
    }

    /// All columns.
    pub fn columns(&self, analysis: &Analysis) -> Vec<u8> {
        let columns = analysis.columns.services.iter();
        columns.flat_map(|holding| self.bytes(analysis.column_atoms(holding))).collect()
    }

    fn bytes(&self, mut bits: Bits) -> Vec<u8> {
        bits.set(self.end);
        bits.words().iter().copied().flat_map(u64::to_ne_bytes).collect()
    }
}
