//! Nodes: what a cell (or an atom) decides, perhaps under a residual condition, else where to go on.
//!
//! Owns: node numbers and their bytes, which `emit` reads. Invariant: a chain ends in a node without a
//! residual condition; number 0, which is what unwritten memory holds, denies.

use super::atoms::Residual;
use std::collections::HashMap;

/// Bytes of a node in the table.
pub const NODE_BYTES: u32 = 16;
/// Offsets of its fields.
pub mod offset {
    /// u32: [`super::decision`].
    pub const DECISION: i16 = 0;
    /// u16: the node to try when the residual condition fails.
    pub const NEXT: i16 = 4;
    /// u16 each: source port.
    pub const SOURCE_PORT: (i16, i16) = (6, 8);
    /// u8 each: ICMP code.
    pub const CODE: (i16, i16) = (10, 11);
    /// u8 each: family.
    pub const FAMILY: (i16, i16) = (12, 13);
}

/// Number of a node: what a cell holds.
pub type NodeId = u16;

/// Denies by no rule: an element of a table that nobody has written.
pub const UNWRITTEN: NodeId = 0;

/// Verdict and rule id in one word: the highest bit allows.
pub const fn decision(allow: bool, rule: u32) -> u32 {
    (allow as u32) << 31 | rule & (u32::MAX >> 1)
}

/// One node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    /// See [`decision`].
    pub decision: u32,
    /// The condition.
    pub residual: Residual,
    /// Where to go on when it fails.
    pub next: NodeId,
}

impl Node {
    /// Decides without a condition.
    pub fn last(decision: u32) -> Self {
        Self { decision, residual: Residual::NONE, next: UNWRITTEN }
    }

    /// As `emit` reads it.
    pub fn bytes(&self) -> [u8; NODE_BYTES as usize] {
        let mut bytes = [0; NODE_BYTES as usize];
        let Residual { source_port, code, family } = self.residual;
        let fields = [
            self.decision.to_ne_bytes().to_vec(),
            self.next.to_ne_bytes().to_vec(),
            source_port.0.to_ne_bytes().to_vec(),
            source_port.1.to_ne_bytes().to_vec(),
            vec![code.0, code.1, family.0, family.1],
        ];
        bytes.iter_mut().zip(fields.into_iter().flatten()).for_each(|(place, byte)| *place = byte);
        bytes
    }
}

/// Nodes, equal ones shared.
#[derive(Clone, Debug)]
pub struct Nodes {
    all: Vec<(Node, u32)>,
    numbers: HashMap<Node, NodeId>,
}

impl Nodes {
    /// Only [`UNWRITTEN`].
    pub fn new() -> Self {
        let deny = Node::last(decision(false, tortie_abi::policy::NO_RULE));
        Self { all: vec![(deny, 1)], numbers: HashMap::from([(deny, UNWRITTEN)]) }
    }

    /// The number of a node, new or not; `None` when there are too many for 16 bits.
    pub fn number(&mut self, node: Node) -> Option<NodeId> {
        if let Some(number) = self.numbers.get(&node) {
            return Some(*number);
        }
        self.push(node)
    }

    /// A new node, even when there is an equal one.
    pub fn push(&mut self, node: Node) -> Option<NodeId> {
        let number = NodeId::try_from(self.all.len()).ok()?;
        let steps = match node.residual {
            Residual::NONE => 1,
            _ => 1 + self.all.get(usize::from(node.next)).map_or(1, |(_, steps)| *steps),
        };
        self.all.push((node, steps));
        self.numbers.insert(node, number);
        Some(number)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// The longest way from any node to a decision, in nodes.
    pub fn longest_chain(&self) -> u32 {
        self.all.iter().map(|(_, steps)| *steps).max().unwrap_or(1)
    }

    /// The bytes of the nodes from `first` on.
    pub fn bytes_from(&self, first: usize) -> Vec<u8> {
        self.all.iter().skip(first).flat_map(|(node, _)| node.bytes()).collect()
    }
}
