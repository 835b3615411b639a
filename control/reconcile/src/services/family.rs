//! The tables of one address family's Services.
//!
//! Owns: front ends, back ends and members, wanted and written. Does not: give out ids.
//! Invariant: a front end in the kernel never counts a back end that is not there.

use super::arrange::arrange;
use crate::delta::{DeltaTracker, Now, Part, Written};
use crate::dirty::Dirty;
use crate::kernel::{Dyn, Kernel};
use crate::table::TableError;
use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::net::IpAddr;
use tortie_abi::service::{BackendKey, Frontend, Member, flags};
use tortie_abi::{Tick, v4, v6};
use tortie_intent::{Backend, BackendState, Chosen, Frontend as Address, Scope, ServicePort};
use tortie_model::workload::Transport;

/// What differs between the families.
pub(super) trait Family {
    /// Key of `frontend`.
    type FrontendKey: Copy + Eq + Hash + std::fmt::Debug;
    /// Value of `backend`.
    type Backend: Copy + PartialEq + std::fmt::Debug;
    /// Key of `member`.
    type MemberKey: Copy + Eq + Hash + std::fmt::Debug;
    /// IPv6?
    const V6: bool;
    /// Names of the tables: front ends, back ends, members.
    const NAMES: [&'static str; 3];
    /// `None`: the address is of the other family.
    fn frontend_key(at: &Address, transport: Transport) -> Option<Self::FrontendKey>;
    /// `None`: the address is of the other family.
    fn member_key(service: u32, backend: &Backend) -> Option<Self::MemberKey>;
    /// The back end that a member is.
    fn backend_of(member: &Self::MemberKey) -> Self::Backend;
    /// The member that a back end of a Service is.
    fn member_of(service: u32, backend: &Self::Backend) -> Self::MemberKey;
    /// `frontend`.
    fn frontends(kernel: &mut Kernel) -> &mut Dyn<Self::FrontendKey, Frontend>;
    /// `backend`.
    fn backends(kernel: &mut Kernel) -> &mut Dyn<BackendKey, Self::Backend>;
    /// `member`.
    fn members(kernel: &mut Kernel) -> &mut Dyn<Self::MemberKey, Member>;
}

/// What a Service port has asked for, so that it can be taken back.
#[derive(Debug)]
struct Asked<F: Family> {
    frontends: HashSet<F::FrontendKey>,
    /// By ordinal.
    arranged: Vec<F::MemberKey>,
    members: HashSet<F::MemberKey>,
}

impl<F: Family> Default for Asked<F> {
    fn default() -> Self {
        Self { frontends: HashSet::new(), arranged: Vec::new(), members: HashSet::new() }
    }
}

/// The tables of one family.
#[derive(Debug)]
pub(super) struct Tables<F: Family> {
    asked: HashMap<u32, Asked<F>>,
    /// Every key that has named a Service, in the kernel or as a wish.
    keys_of: HashMap<u32, HashSet<F::FrontendKey>>,
    frontend: DeltaTracker<F::FrontendKey, Frontend>,
    backend: DeltaTracker<BackendKey, F::Backend>,
    member: DeltaTracker<F::MemberKey, Member>,
}

impl<F: Family> Default for Tables<F> {
    fn default() -> Self {
        Self {
            asked: HashMap::new(),
            keys_of: HashMap::new(),
            frontend: DeltaTracker::new(),
            backend: DeltaTracker::new(),
            member: DeltaTracker::new(),
        }
    }
}

impl<F: Family> Tables<F> {
    /// Reads the kernel's side; the highest id there.
    pub(super) fn read(&mut self, kernel: &mut Kernel) -> Result<u32, TableError> {
        let frontends = F::frontends(kernel).list()?;
        for (key, frontend) in &frontends {
            self.keys_of.entry(frontend.service).or_default().insert(*key);
        }
        let highest = frontends.iter().map(|(_, frontend)| frontend.service).max().unwrap_or(0);
        self.frontend.found(frontends);
        self.backend.found(F::backends(kernel).list()?);
        self.member.found(F::members(kernel).list()?);
        Ok(highest)
    }

    /// A Service port is as given from now on; `None`: it is gone.
    pub(super) fn want(&mut self, service: u32, transport: Transport, port: Option<&ServicePort>) {
        let before = self
            .asked
            .remove(&service)
            .unwrap_or_else(|| Asked { arranged: self.in_kernel(service), ..Asked::default() });
        let after = port.map(|port| self.ask(service, transport, port, &before.arranged)).unwrap_or_default();
        self.withdraw(service, &before, &after);
        if port.is_some() {
            self.asked.insert(service, after);
        }
    }

    /// How the last agent has arranged a Service's back ends.
    fn in_kernel(&self, service: u32) -> Vec<F::MemberKey> {
        let at = |ordinal| self.backend.actual(&BackendKey { service, ordinal });
        (0..).map_while(at).map(|backend| F::member_of(service, backend)).collect()
    }

    fn ask(
        &mut self,
        service: u32,
        transport: Transport,
        port: &ServicePort,
        before: &[F::MemberKey],
    ) -> Asked<F> {
        let keys = |backends: &[&Backend]| -> Vec<F::MemberKey> {
            backends.iter().filter_map(|backend| F::member_key(service, backend)).collect()
        };
        let Chosen { local_only, local, remote } = port.chosen(F::V6);
        let groups = [keys(&local_only), keys(&local), keys(&remote)];
        let [first, both, elsewhere] = groups.each_ref().map(|group| group.len() as u32);
        let record = Frontend {
            service,
            first,
            backends: both.saturating_add(elsewhere),
            local_backends: first.saturating_add(both),
            affinity: port.affinity_seconds.map_or(0, ticks),
            maglev_slots: 0,
            flags: 0,
        };
        let mut asked = Asked { arranged: arrange(before, groups), ..Asked::default() };
        let known = port.backends.iter().filter(|backend| backend.state != BackendState::NotReady);
        for key in known.filter_map(|backend| F::member_key(service, backend)) {
            asked.members.insert(key);
        }
        for (ordinal, key) in (0..).zip(&asked.arranged) {
            self.backend.want(BackendKey { service, ordinal }, Some(F::backend_of(key)));
            self.member.want(*key, Some(Member { ordinal }));
        }
        let arranged: HashSet<&F::MemberKey> = asked.arranged.iter().collect();
        for key in asked.members.iter().filter(|key| !arranged.contains(key)) {
            self.member.want(*key, Some(Member { ordinal: Member::NOT_CHOSEN }));
        }
        for (at, scope) in &port.frontends {
            let Some(key) = F::frontend_key(at, transport) else { continue };
            self.frontend.want(key, Some(Frontend { flags: flags_of(port, *scope), ..record }));
            self.keys_of.entry(service).or_default().insert(key);
            asked.frontends.insert(key);
        }
        asked
    }

    /// Takes back what is no longer asked for, where no other Service has taken it over.
    fn withdraw(&mut self, service: u32, before: &Asked<F>, after: &Asked<F>) {
        for key in before.frontends.difference(&after.frontends) {
            if self.frontend.desired(key).is_some_and(|f| f.service == service) {
                self.frontend.want(*key, None);
            }
        }
        for ordinal in after.arranged.len()..before.arranged.len() {
            self.backend.want(BackendKey { service, ordinal: ordinal as u32 }, None);
        }
        for key in before.members.difference(&after.members) {
            self.member.want(*key, None);
        }
    }

    /// Back ends, then the front ends whose back ends are all there.
    pub(super) fn write(&mut self, kernel: &mut Kernel, now: Now) -> Written {
        let mut written = self.backend.apply(F::backends(kernel), Part::Upserts, now, |_, _| true);
        written += self.member.apply(F::members(kernel), Part::Upserts, now, |_, _| true);
        let backends = &self.backend;
        let complete = |_: &F::FrontendKey, wanted: Option<&Frontend>| {
            wanted.is_some_and(|f| {
                let there = |ordinal| backends.actual(&BackendKey { service: f.service, ordinal }).is_some();
                (0..counts(f)).all(there)
            })
        };
        written += self.frontend.apply(F::frontends(kernel), Part::Upserts, now, complete);
        written
    }

    /// Front ends, then the back ends that no front end in the kernel counts.
    pub(super) fn clean(&mut self, kernel: &mut Kernel, now: Now) -> Written {
        let mut written = self.frontend.apply(F::frontends(kernel), Part::Deletes, now, |_, _| true);
        let (frontend, keys_of) = (&self.frontend, &mut self.keys_of);
        let mut counted: HashMap<u32, u32> = HashMap::new();
        let mut most = |service: u32| {
            *counted.entry(service).or_insert_with(|| {
                let Some(keys) = keys_of.get_mut(&service) else { return 0 };
                let names = |f: Option<&Frontend>| f.is_some_and(|f| f.service == service);
                keys.retain(|key| names(frontend.actual(key)) || names(frontend.desired(key)));
                let there = keys.iter().filter_map(|key| frontend.actual(key));
                let most = there.filter(|f| f.service == service).map(counts).max().unwrap_or(0);
                if keys.is_empty() {
                    keys_of.remove(&service);
                }
                most
            })
        };
        let free = |key: &BackendKey, _: Option<&F::Backend>| key.ordinal >= most(key.service);
        let mut removed = self.backend.apply(F::backends(kernel), Part::Deletes, now, free);
        removed += self.member.apply(F::members(kernel), Part::Deletes, now, |_, _| true);
        if removed.done > 0 {
            self.backend.retry_full();
            self.member.retry_full();
        }
        written += removed;
        written
    }

    /// What is not as wanted.
    pub(super) fn dirty(&self) -> Vec<Dirty> {
        let [frontend, backend, member] = F::NAMES;
        let mut dirty = Dirty::of_tracker(frontend, &self.frontend);
        dirty.extend(Dirty::of_tracker(backend, &self.backend));
        dirty.extend(Dirty::of_tracker(member, &self.member));
        dirty
    }

    /// When the next failed write may be tried again.
    pub(super) fn next_retry(&self) -> Option<Now> {
        let retries = [self.frontend.next_retry(), self.backend.next_retry(), self.member.next_retry()];
        retries.into_iter().flatten().min()
    }
}

/// How many back ends, from ordinal 0, must be there for a front end.
fn counts(frontend: &Frontend) -> u32 {
    frontend.first.saturating_add(frontend.backends).max(frontend.local_backends)
}

fn ticks(seconds: u32) -> u32 {
    Tick::ticks_of_millis(u64::from(seconds).saturating_mul(1000))
}

fn flags_of(port: &ServicePort, scope: Scope) -> u32 {
    let external = match scope {
        Scope::Cluster => 0,
        Scope::NodePort => flags::EXTERNAL | flags::NODE_PORT,
        Scope::External | Scope::LoadBalancer => flags::EXTERNAL,
    };
    external
        | if port.internal_local { flags::INTERNAL_LOCAL } else { 0 }
        | if port.external_local { flags::EXTERNAL_LOCAL } else { 0 }
}

macro_rules! family {
    ($name:ident, $v6:literal, $layouts:ident, $variant:ident, $names:expr,
     $frontends:ident, $backends:ident, $members:ident) => {
        /// The family.
        #[derive(Debug)]
        pub(super) enum $name {}

        impl Family for $name {
            type FrontendKey = $layouts::FrontendKey;
            type Backend = $layouts::Backend;
            type MemberKey = $layouts::MemberKey;
            const V6: bool = $v6;
            const NAMES: [&'static str; 3] = $names;
            fn frontend_key(at: &Address, transport: Transport) -> Option<Self::FrontendKey> {
                let IpAddr::$variant(address) = at.address else { return None };
                let (port, protocol) = (at.port.into(), transport.number());
                Some($layouts::FrontendKey { address: address.into(), port, protocol, _zero: 0 })
            }
            fn member_key(service: u32, backend: &Backend) -> Option<Self::MemberKey> {
                let IpAddr::$variant(address) = backend.address else { return None };
                Some($layouts::MemberKey {
                    service,
                    address: address.into(),
                    port: backend.port.into(),
                    _zero: 0,
                })
            }
            fn backend_of(member: &Self::MemberKey) -> Self::Backend {
                $layouts::Backend { address: member.address, port: member.port, _zero: 0 }
            }
            fn member_of(service: u32, backend: &Self::Backend) -> Self::MemberKey {
                $layouts::MemberKey { service, address: backend.address, port: backend.port, _zero: 0 }
            }
            fn frontends(kernel: &mut Kernel) -> &mut Dyn<Self::FrontendKey, Frontend> {
                &mut kernel.$frontends
            }
            fn backends(kernel: &mut Kernel) -> &mut Dyn<BackendKey, Self::Backend> {
                &mut kernel.$backends
            }
            fn members(kernel: &mut Kernel) -> &mut Dyn<Self::MemberKey, Member> {
                &mut kernel.$members
            }
        }
    };
}

family!(V4, false, v4, V4, ["frontend4", "backend4", "member4"], frontend4, backend4, member4);
family!(V6, true, v6, V6, ["frontend6", "backend6", "member6"], frontend6, backend6, member6);
