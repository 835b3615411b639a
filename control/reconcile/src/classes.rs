//! Address classes in the kernel's four tables.
//!
//! Invariant: entries are written before others are removed, so that no address loses a membership on its
//! way from one entry to another.

use crate::delta::{DeltaTracker, Now, Part, Written};
use crate::kernel::Kernel;
use crate::table::TableError;
use ipnet::IpNet;
use std::net::IpAddr;
use tortie_abi::{v4, v6};
use tortie_policy::classes::ClassChange;

/// `class_addr*` and `class_net*`.
#[derive(Debug, Default)]
pub struct ClassTables {
    /// `class_addr4`.
    pub addr4: DeltaTracker<v4::AddressKey, u32>,
    /// `class_addr6`.
    pub addr6: DeltaTracker<v6::AddressKey, u32>,
    /// `class_net4`.
    pub net4: DeltaTracker<v4::PrefixKey, u32>,
    /// `class_net6`.
    pub net6: DeltaTracker<v6::PrefixKey, u32>,
}

/// The trie key of an IPv4 prefix.
pub fn prefix4(net: ipnet::Ipv4Net) -> v4::PrefixKey {
    v4::PrefixKey { prefix_length: u32::from(net.prefix_len()), address: net.network().into() }
}

/// The trie key of an IPv6 prefix.
pub fn prefix6(net: ipnet::Ipv6Net) -> v6::PrefixKey {
    v6::PrefixKey { prefix_length: u32::from(net.prefix_len()), address: net.network().into() }
}

impl ClassTables {
    /// One change.
    pub fn want(&mut self, change: &ClassChange) {
        match *change {
            ClassChange::Address { address: IpAddr::V4(a), class } => {
                self.addr4.want(v4::AddressKey { address: a.into() }, class);
            }
            ClassChange::Address { address: IpAddr::V6(a), class } => {
                self.addr6.want(v6::AddressKey { address: a.into() }, class);
            }
            ClassChange::Prefix { net: IpNet::V4(net), class } => self.net4.want(prefix4(net), class),
            ClassChange::Prefix { net: IpNet::V6(net), class } => self.net6.want(prefix6(net), class),
        }
    }

    /// The class in the kernel under the key of a change.
    pub fn actual(&self, change: &ClassChange) -> Option<u32> {
        match *change {
            ClassChange::Address { address: IpAddr::V4(a), .. } => {
                self.addr4.actual(&v4::AddressKey { address: a.into() }).copied()
            }
            ClassChange::Address { address: IpAddr::V6(a), .. } => {
                self.addr6.actual(&v6::AddressKey { address: a.into() }).copied()
            }
            ClassChange::Prefix { net: IpNet::V4(net), .. } => self.net4.actual(&prefix4(net)).copied(),
            ClassChange::Prefix { net: IpNet::V6(net), .. } => self.net6.actual(&prefix6(net)).copied(),
        }
    }

    /// Every class that the kernel has an entry of.
    pub fn actual_classes(&self) -> impl Iterator<Item = u32> {
        let exact =
            self.addr4.actual_entries().map(|(_, c)| *c).chain(self.addr6.actual_entries().map(|(_, c)| *c));
        let nets =
            self.net4.actual_entries().map(|(_, c)| *c).chain(self.net6.actual_entries().map(|(_, c)| *c));
        exact.chain(nets)
    }

    /// Reads the kernel's side.
    pub fn read(&mut self, kernel: &mut Kernel) -> Result<(), TableError> {
        self.addr4.found(kernel.class_addr4.list()?);
        self.addr6.found(kernel.class_addr6.list()?);
        self.net4.found(kernel.class_net4.list()?);
        self.net6.found(kernel.class_net6.list()?);
        Ok(())
    }

    /// How many entries differ.
    pub fn pending_count(&self) -> usize {
        self.addr4.pending_count()
            + self.addr6.pending_count()
            + self.net4.pending_count()
            + self.net6.pending_count()
    }

    /// Writes what is due: new and changed entries, then removals.
    pub fn apply(&mut self, kernel: &mut Kernel, now: Now) -> Written {
        let mut written = Written::default();
        for part in [Part::Upserts, Part::Deletes] {
            written += self.net4.apply(&mut kernel.class_net4, part, now, |_, _| true);
            written += self.net6.apply(&mut kernel.class_net6, part, now, |_, _| true);
            written += self.addr4.apply(&mut kernel.class_addr4, part, now, |_, _| true);
            written += self.addr6.apply(&mut kernel.class_addr6, part, now, |_, _| true);
        }
        written
    }
}
