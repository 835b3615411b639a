//! Clients outside that are always answered through the node that they have asked (`bpfDSROptoutCIDRs`).
//!
//! Owns: both families' tables of them. Does not: know whether anybody is answered in another way.
//! Invariant: what is not in the list is not in the tables.

use crate::delta::{DeltaTracker, Now, Part, Written};
use crate::dirty::Dirty;
use crate::kernel::Kernel;
use crate::table::TableError;
use ipnet::IpNet;
use tortie_abi::{v4, v6};

/// Value of every entry: that it is there says all.
const OPTED_OUT: u32 = 1;

/// Both families.
#[derive(Debug, Default)]
pub struct OptOuts {
    wanted: Vec<IpNet>,
    v4: DeltaTracker<v4::PrefixKey, u32>,
    v6: DeltaTracker<v6::PrefixKey, u32>,
}

impl OptOuts {
    /// These and no others from now on.
    pub fn want(&mut self, nets: &[IpNet]) {
        if self.wanted == nets {
            return;
        }
        let before = std::mem::replace(&mut self.wanted, nets.to_vec());
        before.iter().for_each(|net| self.set(net, None));
        nets.iter().for_each(|net| self.set(net, Some(OPTED_OUT)));
    }

    fn set(&mut self, net: &IpNet, value: Option<u32>) {
        let prefix_length = u32::from(net.prefix_len());
        match net {
            IpNet::V4(net) => {
                self.v4.want(v4::PrefixKey { prefix_length, address: net.network().into() }, value)
            }
            IpNet::V6(net) => {
                self.v6.want(v6::PrefixKey { prefix_length, address: net.network().into() }, value)
            }
        }
    }

    /// Reads the kernel's side.
    pub fn read(&mut self, kernel: &mut Kernel) -> Result<(), TableError> {
        self.v4.found(kernel.opt_out4.list()?);
        self.v6.found(kernel.opt_out6.list()?);
        Ok(())
    }

    /// Writes what differs.
    pub fn write(&mut self, kernel: &mut Kernel, now: Now) -> Written {
        let mut written = Written::default();
        for part in [Part::Upserts, Part::Deletes] {
            written += self.v4.apply(&mut kernel.opt_out4, part, now, |_, _| true);
            written += self.v6.apply(&mut kernel.opt_out6, part, now, |_, _| true);
        }
        written
    }

    /// What is not as wanted.
    pub fn dirty(&self) -> Vec<Dirty> {
        let mut dirty = Dirty::of_tracker("opt_out4", &self.v4);
        dirty.extend(Dirty::of_tracker("opt_out6", &self.v6));
        dirty
    }

    /// When a failed write may be tried again.
    pub fn next_retry(&self) -> Option<Now> {
        [self.v4.next_retry(), self.v6.next_retry()].into_iter().flatten().min()
    }
}
