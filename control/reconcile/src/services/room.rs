//! What Services take in the tables, counted as they come and go.
//!
//! Invariant: never less than is written for what is wanted; what is about to be removed is not in it.

use std::ops::{AddAssign, SubAssign};
use tortie_intent::ServicePort;

/// Elements of the tables, by family: IPv4, IPv6.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// Front ends.
    pub frontends: [usize; 2],
    /// Back ends.
    pub backends: [usize; 2],
    /// Back ends that are looked for by their address.
    pub members: [usize; 2],
}

impl Room {
    /// What one takes, whose back ends are looked for by their address or not.
    pub(super) fn of(port: &ServicePort, by_address: bool) -> Self {
        let mut room = Self::default();
        for (at, _) in &port.frontends {
            *of_family(&mut room.frontends, at.address.is_ipv6()) += 1;
        }
        for backend in &port.backends {
            *of_family(&mut room.backends, backend.address.is_ipv6()) += 1;
        }
        if by_address {
            room.members = room.backends;
        }
        room
    }

    fn pairs<'a>(&'a mut self, other: &'a Self) -> impl Iterator<Item = (&'a mut usize, &'a usize)> {
        let frontends = self.frontends.iter_mut().zip(&other.frontends);
        let backends = self.backends.iter_mut().zip(&other.backends);
        frontends.chain(backends).chain(self.members.iter_mut().zip(&other.members))
    }
}

fn of_family(counts: &mut [usize; 2], v6: bool) -> &mut usize {
    let [count4, count6] = counts;
    if v6 { count6 } else { count4 }
}

impl AddAssign for Room {
    fn add_assign(&mut self, other: Self) {
        self.pairs(&other).for_each(|(count, more)| *count = count.saturating_add(*more));
    }
}

impl SubAssign for Room {
    fn sub_assign(&mut self, other: Self) {
        self.pairs(&other).for_each(|(count, less)| *count = count.saturating_sub(*less));
    }
}
