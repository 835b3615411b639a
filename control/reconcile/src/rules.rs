//! Rule ids: an index into `rule_counter` for each rule of each policy and direction.
//!
//! Invariant: an id names one rule while any list uses it, and after a restart still the same one; a freed
//! id is given out again as late as possible, with its counter at zero.

use crate::saved::{Saved, SavedMatches, SavedRule, put};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tortie_abi::maps::RULE_SLOTS;
use tortie_policy::form::{Action, Direction, List, Matches, Origin, Rule};

/// The origin without its words: a rule whose words change is still the same rule and keeps its counter.
type Key = (Direction, Arc<Origin>, Action);

/// Rules and their ids.
#[derive(Clone, Debug, Default)]
pub struct RuleIds {
    by_rule: BTreeMap<Key, (u32, usize)>,
    by_id: BTreeMap<u32, Key>,
    /// What the latest list that uses the rule says it asks for.
    words: BTreeMap<u32, Matches>,
    last: u32,
    /// Given out since the last time: their counters have to be set to zero.
    new: BTreeSet<u32>,
    /// Something has changed since it was saved.
    unsaved: bool,
    /// Rules may be without users.
    released: bool,
}

impl RuleIds {
    /// What was known before a restart.
    pub fn restore(saved: &[SavedRule], last: u32) -> Self {
        let mut ids = Self { last, unsaved: true, released: true, ..Self::default() };
        for rule in saved.iter().filter(|rule| rule.id != 0 && rule.id < RULE_SLOTS) {
            let (Some(direction), Some(action)) = (direction(&rule.direction), action(&rule.action)) else {
                continue;
            };
            let key = key(direction, &rule.tier, &rule.policy, rule.rule, action);
            let SavedMatches { peers, ports } = rule.matches.clone();
            if !ids.by_id.contains_key(&rule.id) && !ids.by_rule.contains_key(&key) {
                ids.by_rule.insert(key.clone(), (rule.id, 0));
                ids.by_id.insert(rule.id, key);
                ids.words.insert(rule.id, Matches { peers, ports });
            }
        }
        ids
    }

    /// Ids for the rules of a list, in order. A rule without a free id counts as "the end of the list".
    pub fn acquire(&mut self, list: &List) -> Vec<u32> {
        list.rules.iter().map(|rule| self.acquire_one(list.direction, rule)).collect()
    }

    fn acquire_one(&mut self, direction: Direction, rule: &Rule) -> u32 {
        let Origin { tier, policy, rule: number, matches } = &*rule.origin;
        let key = key(direction, tier, policy, *number, rule.action);
        if let Some((id, users)) = self.by_rule.get_mut(&key) {
            *users += 1;
            if self.words.get(id) != Some(matches) {
                self.words.insert(*id, matches.clone());
                self.unsaved = true;
            }
            return *id;
        }
        let Some(id) = self.free_id() else { return tortie_abi::policy::NO_RULE };
        self.words.insert(id, matches.clone());
        self.last = id;
        self.unsaved = true;
        self.new.insert(id);
        self.by_id.insert(id, key.clone());
        self.by_rule.insert(key, (id, 1));
        id
    }

    fn free_id(&self) -> Option<u32> {
        if self.by_id.len() >= RULE_SLOTS as usize - 1 {
            return None;
        }
        let after = (self.last.saturating_add(1)..RULE_SLOTS).chain(1..=self.last.min(RULE_SLOTS - 1));
        after.into_iter().find(|id| !self.by_id.contains_key(id))
    }

    /// A list no longer uses them.
    pub fn release(&mut self, ids: &[u32]) {
        self.released = true;
        for id in ids {
            let Some(key) = self.by_id.get(id) else { continue };
            let Some((_, users)) = self.by_rule.get_mut(key) else { continue };
            *users = users.saturating_sub(1);
        }
    }

    /// Forgets rules that no list uses.
    pub fn collect(&mut self) {
        if !std::mem::take(&mut self.released) {
            return;
        }
        let unused: Vec<u32> =
            self.by_rule.values().filter(|(_, users)| *users == 0).map(|(id, _)| *id).collect();
        self.unsaved |= !unused.is_empty();
        for id in unused {
            self.words.remove(&id);
            if let Some(key) = self.by_id.remove(&id) {
                self.by_rule.remove(&key);
            }
        }
    }

    /// Ids whose counters have to be set to zero before they are used.
    pub fn take_new(&mut self) -> BTreeSet<u32> {
        std::mem::take(&mut self.new)
    }

    /// For the file; `false`: it is as it was.
    pub fn save(&mut self, saved: &mut Saved) -> bool {
        if !std::mem::take(&mut self.unsaved) {
            return false;
        }
        let rule = |(id, (direction, origin, action)): (&u32, &Key)| SavedRule {
            id: *id,
            direction: direction_name(*direction).to_owned(),
            tier: origin.tier.clone(),
            policy: origin.policy.clone(),
            rule: origin.rule,
            action: action_name(*action).to_owned(),
            matches: self.words.get(id).cloned().map(saved_words).unwrap_or_default(),
        };
        let rules = self.by_id.iter().map(rule).collect();
        put(&mut saved.rules, rules) | put(&mut saved.last_rule, self.last)
    }
}

fn key(direction: Direction, tier: &str, policy: &str, rule: u32, action: Action) -> Key {
    let (tier, policy) = (tier.to_owned(), policy.to_owned());
    (direction, Arc::new(Origin { tier, policy, rule, matches: Matches::default() }), action)
}

fn saved_words(Matches { peers, ports }: Matches) -> SavedMatches {
    SavedMatches { peers, ports }
}

/// `ingress`, `egress`.
pub const fn direction_name(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    }
}

/// `allow`, `deny`.
pub const fn action_name(action: Action) -> &'static str {
    match action {
        Action::Allow => "allow",
        Action::Deny => "deny",
    }
}

fn direction(name: &str) -> Option<Direction> {
    [Direction::Ingress, Direction::Egress].into_iter().find(|d| direction_name(*d) == name)
}

fn action(name: &str) -> Option<Action> {
    [Action::Allow, Action::Deny].into_iter().find(|a| action_name(*a) == name)
}
