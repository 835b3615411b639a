//! Every write into the kernel, with its time.
//!
//! Owns: wrapping tables, programs and hooks. Does not: change what they do or answer.
//! Invariant: reading is not written down, and no more than [`MOST`] writes of a round are kept.

use std::cell::RefCell;
use std::mem;
use std::rc::Rc;
use std::time::SystemTime;

use tortie_policy::compile::{Compiled, TableWrite};
use tortie_reconcile::{Dyn, HookError, Hooks, Kernel, Programs, Table, TableError};

/// Writes that are kept of one round; a start writes thousands.
const MOST: usize = 256;

/// A call that changed the kernel.
#[derive(Debug)]
pub struct Write {
    /// When it began.
    pub from: SystemTime,
    /// When it had ended.
    pub until: SystemTime,
    /// The map; `policy program`, `hook`.
    pub map: &'static str,
    /// What was done.
    pub operation: &'static str,
    /// To how many elements.
    pub elements: usize,
    /// How many of them failed.
    pub failed: usize,
}

#[derive(Debug, Default)]
struct Log {
    writes: Vec<Write>,
    left_out: u64,
}

/// What was written since it was asked last; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Writes(Rc<RefCell<Log>>);

struct Watched<T: ?Sized> {
    map: &'static str,
    writes: Writes,
    inner: Box<T>,
}

impl Writes {
    /// The writes so far, and how many more there were.
    pub fn take(&self) -> (Vec<Write>, u64) {
        let Log { writes, left_out } = mem::take(&mut *self.0.borrow_mut());
        (writes, left_out)
    }

    fn note(&self, write: Write) {
        let mut log = self.0.borrow_mut();
        match log.writes.len() < MOST {
            true => log.writes.push(write),
            false => log.left_out += 1,
        }
    }

    /// One table, whose writes are seen.
    pub(super) fn table<K: 'static, V: 'static>(&self, map: &'static str, inner: Dyn<K, V>) -> Dyn<K, V> {
        Box::new(Watched { map, writes: self.clone(), inner })
    }

    /// The same kernel, whose writes are seen.
    pub fn watch(&self, kernel: Kernel) -> Kernel {
        Kernel {
            endpoint: self.table("endpoint", kernel.endpoint),
            next_hop: self.table("next_hop", kernel.next_hop),
            settings: self.table("settings", kernel.settings),
            route4: self.table("route4", kernel.route4),
            route6: self.table("route6", kernel.route6),
            frontend4: self.table("frontend4", kernel.frontend4),
            frontend6: self.table("frontend6", kernel.frontend6),
            backend4: self.table("backend4", kernel.backend4),
            backend6: self.table("backend6", kernel.backend6),
            member4: self.table("member4", kernel.member4),
            member6: self.table("member6", kernel.member6),
            maglev4: self.table("maglev4", kernel.maglev4),
            maglev6: self.table("maglev6", kernel.maglev6),
            source_range4: self.table("source_range4", kernel.source_range4),
            source_range6: self.table("source_range6", kernel.source_range6),
            class_addr4: self.table("class_addr4", kernel.class_addr4),
            class_addr6: self.table("class_addr6", kernel.class_addr6),
            class_net4: self.table("class_net4", kernel.class_net4),
            class_net6: self.table("class_net6", kernel.class_net6),
            opt_out4: self.table("opt_out4", kernel.opt_out4),
            opt_out6: self.table("opt_out6", kernel.opt_out6),
            rule_counter: self.table("rule_counter", kernel.rule_counter),
            programs: Box::new(Watched {
                map: "policy program",
                writes: self.clone(),
                inner: kernel.programs,
            }),
            hooks: Box::new(Watched { map: "hook", writes: self.clone(), inner: kernel.hooks }),
        }
    }
}

impl<T: ?Sized> Watched<T> {
    fn see<R>(
        &mut self,
        operation: &'static str,
        elements: usize,
        act: impl FnOnce(&mut T) -> R,
        failures: impl FnOnce(&R) -> usize,
    ) -> R {
        if elements == 0 {
            return act(&mut self.inner);
        }
        let from = SystemTime::now();
        let result = act(&mut self.inner);
        let (until, failed) = (SystemTime::now(), failures(&result));
        self.writes.note(Write { from, until, map: self.map, operation, elements, failed });
        result
    }

    /// One thing, which works or does not.
    fn one<E>(
        &mut self,
        operation: &'static str,
        act: impl FnOnce(&mut T) -> Result<(), E>,
    ) -> Result<(), E> {
        self.see(operation, 1, act, |result| usize::from(result.is_err()))
    }
}

impl<K, V> Table<K, V> for Watched<dyn Table<K, V>> {
    fn list(&mut self) -> Result<Vec<(K, V)>, TableError> {
        self.inner.list()
    }

    fn upsert(&mut self, entries: &[(K, V)]) -> Vec<(usize, TableError)> {
        self.see("upsert", entries.len(), |table| table.upsert(entries), Vec::len)
    }

    fn delete(&mut self, keys: &[K]) -> Vec<(usize, TableError)> {
        self.see("delete", keys.len(), |table| table.delete(keys), Vec::len)
    }
}

impl Programs for Watched<dyn Programs> {
    fn list(&mut self) -> Result<Vec<(u32, String)>, TableError> {
        self.inner.list()
    }

    fn install(&mut self, slot: u32, name: &str, compiled: &Compiled) -> Result<(), TableError> {
        self.one("install", |programs| programs.install(slot, name, compiled))
    }

    fn write(&mut self, slot: u32, writes: &[TableWrite]) -> Result<(), TableError> {
        let failed = |result: &Result<(), TableError>| if result.is_err() { writes.len() } else { 0 };
        self.see("write", writes.len(), |programs| programs.write(slot, writes), failed)
    }

    fn clear(&mut self, slot: u32) -> Result<(), TableError> {
        self.one("clear", |programs| programs.clear(slot))
    }
}

impl Hooks for Watched<dyn Hooks> {
    fn list(&mut self) -> Result<Vec<(String, u32, u32)>, HookError> {
        self.inner.list()
    }

    fn attach(&mut self, interface: &str, ifindex: u32, slot: u32) -> Result<(), HookError> {
        self.one("attach", |hooks| hooks.attach(interface, ifindex, slot))
    }

    fn detach(&mut self, interface: &str, ifindex: u32) -> Result<(), HookError> {
        self.one("detach", |hooks| hooks.detach(interface, ifindex))
    }
}
