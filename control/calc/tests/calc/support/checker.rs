//! Folds intents one by one and panics on the first that breaks a guarantee of `tortie_intent`, or that says
//! nothing new.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tortie_intent::{
    Endpoint, Intent, List, ListId, Member, Route, Rules, ServicePort, ServicePortId, SetChange, SetId,
};
use tortie_model::WorkloadId;
use tortie_model::settings::Settings;
use tortie_policy::form::Direction;

/// What a data plane holds.
#[derive(Debug, Default)]
pub struct Folded {
    pub sets: BTreeMap<SetId, BTreeSet<Member>>,
    pub lists: BTreeMap<ListId, Arc<List>>,
    pub endpoints: BTreeMap<WorkloadId, Endpoint>,
    pub routes: BTreeMap<ipnet::IpNet, Route>,
    pub services: BTreeMap<ServicePortId, ServicePort>,
    pub settings: Option<Settings>,
    pub in_sync: bool,
    seen: Seen,
}

/// What this batch has already said.
#[derive(Debug, Default)]
struct Seen {
    member_removed: bool,
    list_or_endpoint: bool,
    removal: bool,
}

impl Folded {
    /// A new batch begins.
    pub fn begin(&mut self) {
        self.seen = Seen::default();
    }

    /// One intent.
    pub fn fold(&mut self, intent: Intent) {
        match intent {
            Intent::Set(id, change) => self.fold_set(id, change),
            Intent::List(id, list) => self.fold_list(id, list),
            Intent::Endpoint(id, endpoint) => self.fold_endpoint(id, endpoint),
            Intent::Route(net, route) => self.fold_route(net, route),
            Intent::Service(id, port) => {
                self.fold_service(Arc::unwrap_or_clone(id), port.map(Arc::unwrap_or_clone))
            }
            Intent::Settings(settings) => {
                assert_ne!(self.settings.as_ref(), Some(&*settings), "settings said twice");
                self.settings = Some(*settings);
            }
            Intent::InSync => {
                assert!(!self.in_sync, "in-sync said twice");
                self.in_sync = true;
            }
        }
    }

    /// The batch is over: nothing may be left that nobody uses.
    pub fn end(&self) {
        let named: BTreeSet<ListId> = self.endpoints.values().flat_map(lists_of).collect();
        let kept: BTreeSet<ListId> = self.lists.keys().copied().collect();
        assert_eq!(named, kept, "lists named by endpoints, and lists that exist");
        let named: BTreeSet<SetId> = self.lists.values().flat_map(|list| sets_of(list)).collect();
        let kept: BTreeSet<SetId> = self.sets.keys().copied().collect();
        assert!(named.is_subset(&kept), "{named:?} named, {kept:?} exist");
        let contents: BTreeSet<&List> = self.lists.values().map(Arc::as_ref).collect();
        assert_eq!(contents.len(), self.lists.len(), "equal lists share one id");
    }

    fn fold_set(&mut self, id: SetId, change: SetChange) {
        match change {
            SetChange::Create => {
                assert!(!self.seen.list_or_endpoint, "{id:?} created after lists or endpoints");
                assert!(self.sets.insert(id, BTreeSet::new()).is_none(), "{id:?} created twice");
            }
            SetChange::Update { add, remove } => {
                assert!(!self.seen.list_or_endpoint, "members of {id:?} change after lists or endpoints");
                assert!(!(add.is_empty() && remove.is_empty()), "empty update of {id:?}");
                assert!(add.is_sorted() && remove.is_sorted(), "unsorted members");
                let set = self.sets.get_mut(&id).unwrap_or_else(|| panic!("{id:?} does not exist"));
                for member in &add {
                    assert!(!self.seen.member_removed, "{member} added after a removal");
                    assert!(set.insert(*member), "{member} is in {id:?} already");
                }
                for member in &remove {
                    assert!(set.remove(member), "{member} is not in {id:?}");
                    assert!(!add.contains(member), "{member} added and removed");
                    self.seen.member_removed = true;
                }
            }
            SetChange::Remove => {
                self.seen.removal = true;
                let user = self.lists.iter().find(|(_, list)| sets_of(list).any(|set| set == id));
                assert!(user.is_none(), "{id:?} removed while {user:?} names it");
                assert!(self.sets.remove(&id).is_some(), "{id:?} removed twice");
            }
        }
    }

    fn fold_list(&mut self, id: ListId, list: Option<Arc<List>>) {
        self.seen.list_or_endpoint = true;
        let Some(list) = list else {
            self.seen.removal = true;
            let user = self.endpoints.iter().find(|(_, endpoint)| lists_of(endpoint).any(|list| list == id));
            assert!(user.is_none(), "{id:?} removed while {user:?} names it");
            assert!(self.lists.remove(&id).is_some(), "{id:?} removed twice");
            return;
        };
        assert!(!self.seen.removal, "{id:?} comes after removals");
        for set in sets_of(&list) {
            assert!(self.sets.contains_key(&set), "{id:?} names {set:?}, which does not exist");
        }
        for rule in &list.rules {
            assert!(rule.remote.iter().all(|clause| !clause.sets.is_empty()), "empty clause in {rule:?}");
            assert!(rule.destination_ports.iter().all(|range| range.first <= range.last), "{rule:?}");
        }
        assert!(self.lists.insert(id, list).is_none(), "{id:?} changed; lists are their content");
    }

    fn fold_endpoint(&mut self, id: WorkloadId, endpoint: Option<Endpoint>) {
        self.seen.list_or_endpoint = true;
        let Some(endpoint) = endpoint else {
            self.seen.removal = true;
            let route = self.routes.iter().find(|(_, route)| **route == Route::LocalPod(id.clone()));
            assert!(route.is_none(), "{id} removed while {route:?} names it");
            assert!(self.endpoints.remove(&id).is_some(), "{id} removed twice");
            return;
        };
        assert!(!self.seen.removal, "{id} comes after removals");
        for (rules, direction) in
            [(endpoint.ingress, Direction::Ingress), (endpoint.egress, Direction::Egress)]
        {
            if let Rules::List(list) = rules {
                let list =
                    self.lists.get(&list).unwrap_or_else(|| panic!("{id} names {list:?}, which is not"));
                assert_eq!(list.direction, direction);
            }
        }
        assert_ne!(self.endpoints.insert(id.clone(), endpoint.clone()), Some(endpoint), "{id} said twice");
    }

    fn fold_route(&mut self, net: ipnet::IpNet, route: Option<Route>) {
        assert_eq!(net, net.trunc());
        let Some(route) = route else {
            self.seen.removal = true;
            assert!(self.routes.remove(&net).is_some(), "route {net} removed twice");
            return;
        };
        assert!(!self.seen.removal, "route {net} comes after removals");
        if let Route::LocalPod(id) = &route {
            assert!(self.endpoints.contains_key(id), "route {net} names {id}, which does not exist");
        }
        assert_ne!(self.routes.insert(net, route.clone()), Some(route), "route {net} said twice");
    }

    fn fold_service(&mut self, id: ServicePortId, port: Option<ServicePort>) {
        let Some(port) = port else {
            assert!(self.services.remove(&id).is_some(), "{id:?} removed twice");
            return;
        };
        for (other, of_other) in self.services.iter().filter(|(other, _)| **other != id) {
            let shared = of_other.frontends.keys().find(|at| port.frontends.contains_key(at));
            assert!(shared.is_none() || other.transport != id.transport, "{shared:?}: {other:?} and {id:?}");
        }
        assert_ne!(self.services.insert(id.clone(), port.clone()), Some(port), "{id:?} said twice");
    }
}

/// Lists that an endpoint names.
pub fn lists_of(endpoint: &Endpoint) -> impl Iterator<Item = ListId> + use<> {
    [endpoint.ingress, endpoint.egress].into_iter().filter_map(|rules| match rules {
        Rules::List(id) => Some(id),
        Rules::Unknown | Rules::AllowAll => None,
    })
}

/// Sets that a list names.
pub fn sets_of(list: &List) -> impl Iterator<Item = SetId> {
    list.rules.iter().flat_map(|rule| &rule.remote).flat_map(|clause| clause.sets.iter().copied())
}
