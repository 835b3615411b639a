//! Columns: packets of which the same service conditions hold share a column.
//!
//! Owns: the partition of protocol × (destination port | ICMP type). Does not: know addresses. Invariant:
//! every packet has exactly one column, and two columns differ in some condition.

use super::atoms::Service;
use super::bits::Bits;
use super::spans::Span;
use crate::evaluate::{WITH_ICMP, WITH_PORTS};
use std::collections::{BTreeMap, HashMap};

/// What a protocol has besides its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Nothing that matters.
    Plain,
    /// Ports.
    Ports,
    /// ICMP types.
    Icmp,
}

impl Kind {
    fn of(protocol: u8) -> Self {
        if WITH_PORTS.contains(&protocol) {
            Self::Ports
        } else if WITH_ICMP.contains(&protocol) {
            Self::Icmp
        } else {
            Self::Plain
        }
    }

    fn spans(self, service: &Service) -> &[Span] {
        match self {
            Self::Plain => &[],
            Self::Ports => &service.ports,
            Self::Icmp => &service.types,
        }
    }
}

/// A function of a number in steps: from each start on, this value. The first start is 0.
pub type Steps = Vec<(u16, u32)>;

/// Protocols that the list treats alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// What `steps` are over.
    pub kind: Kind,
    /// Port or type → column.
    pub steps: Steps,
}

/// The partition.
#[derive(Clone, Debug, Default)]
pub struct Columns {
    /// Protocol → index in `groups`.
    pub protocols: Steps,
    /// Groups.
    pub groups: Vec<Group>,
    /// For each column, which services hold.
    pub services: Vec<Bits>,
}

/// More memory than allowed would be needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany;

impl Columns {
    /// Computes the partition for the distinct services of a list, within `max_bytes` of memory.
    pub fn new(services: &[Service], max_bytes: usize) -> Result<Self, TooMany> {
        let mut builder = Builder {
            services,
            columns: HashMap::new(),
            max: max_bytes / (services.len() / 8 + 64),
            out: Self::default(),
        };
        let mut groups: HashMap<(Kind, Bits), u32> = HashMap::new();
        for protocol in 0..=255u8 {
            let applicable = applicable(services, protocol);
            let key = (Kind::of(protocol), applicable);
            let group = match groups.get(&key) {
                Some(group) => *group,
                None => {
                    let group = builder.group(key.0, &key.1)?;
                    groups.insert(key, group);
                    group
                }
            };
            push_step(&mut builder.out.protocols, u16::from(protocol), group);
        }
        Ok(builder.out)
    }
}

fn applicable(services: &[Service], protocol: u8) -> Bits {
    let mut bits = Bits::new(services.len());
    let fitting = services.iter().enumerate().filter(|(_, service)| service.protocols.has(protocol));
    fitting.for_each(|(index, _)| bits.set(index));
    bits
}

fn push_step(steps: &mut Steps, start: u16, value: u32) {
    if steps.last().is_none_or(|(_, last)| *last != value) {
        steps.push((start, value));
    }
}

struct Builder<'a> {
    services: &'a [Service],
    columns: HashMap<Bits, u32>,
    max: usize,
    out: Columns,
}

impl Builder<'_> {
    fn group(&mut self, kind: Kind, applicable: &Bits) -> Result<u32, TooMany> {
        let steps = match kind {
            Kind::Plain => vec![(0, self.column(applicable)?)],
            Kind::Ports | Kind::Icmp => self.sweep(kind, applicable)?,
        };
        self.out.groups.push(Group { kind, steps });
        Ok(self.out.groups.len() as u32 - 1)
    }

    /// Goes over the numbers from 0, switching conditions on and off where their spans start and end.
    fn sweep(&mut self, kind: Kind, applicable: &Bits) -> Result<Steps, TooMany> {
        let mut switches: BTreeMap<u16, (Vec<usize>, Vec<usize>)> = BTreeMap::new();
        switches.entry(0).or_default();
        for index in applicable.iter() {
            let Some(service) = self.services.get(index) else { continue };
            for &(first, last) in kind.spans(service) {
                switches.entry(first).or_default().1.push(index);
                if let Some(next) = last.checked_add(1) {
                    switches.entry(next).or_default().0.push(index);
                }
            }
        }
        let mut holding = Bits::new(self.services.len());
        let mut steps = Steps::new();
        for (start, (off, on)) in switches {
            off.into_iter().for_each(|index| holding.clear(index));
            on.into_iter().for_each(|index| holding.set(index));
            let column = self.column(&holding)?;
            push_step(&mut steps, start, column);
        }
        Ok(steps)
    }

    fn column(&mut self, holding: &Bits) -> Result<u32, TooMany> {
        if let Some(column) = self.columns.get(holding) {
            return Ok(*column);
        }
        if self.out.services.len() >= self.max {
            return Err(TooMany);
        }
        let column = self.out.services.len() as u32;
        self.columns.insert(holding.clone(), column);
        self.out.services.push(holding.clone());
        Ok(column)
    }
}

/// For each service its columns, ascending; `None` when there are more than `max` of them in all.
pub fn columns_of(services: usize, columns: &[Bits], max: usize) -> Option<Vec<Vec<u32>>> {
    let mut lists = vec![Vec::new(); services];
    let mut total = 0;
    for (column, holding) in columns.iter().enumerate() {
        for service in holding.iter() {
            lists.get_mut(service)?.push(column as u32);
            total += 1;
        }
        if total > max {
            return None;
        }
    }
    Some(lists)
}
