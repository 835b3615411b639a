//! The kernel as the reconciler sees it: tables, policy programs, hooks.

use crate::table::{Table, TableError};
use tortie_abi::counter::Counter;
use tortie_abi::endpoint::{Endpoint, NextHop};
use tortie_abi::route::Route;
use tortie_abi::service::{BackendKey, Frontend, MaglevKey, Member};
use tortie_abi::settings::Settings;
use tortie_abi::{v4, v6};
use tortie_policy::compile::{Compiled, TableWrite};

/// A table behind its trait.
pub type Dyn<K, V> = Box<dyn Table<K, V>>;

/// Everything that is written.
pub struct Kernel {
    /// `endpoint`: an element of zeroes is no element.
    pub endpoint: Dyn<u32, Endpoint>,
    /// `next_hop`, likewise.
    pub next_hop: Dyn<u32, NextHop>,
    /// `settings`.
    pub settings: Dyn<u32, Settings>,
    /// `route4`.
    pub route4: Dyn<v4::PrefixKey, Route>,
    /// `route6`.
    pub route6: Dyn<v6::PrefixKey, Route>,
    /// `frontend4`.
    pub frontend4: Dyn<v4::FrontendKey, Frontend>,
    /// `frontend6`.
    pub frontend6: Dyn<v6::FrontendKey, Frontend>,
    /// `backend4`.
    pub backend4: Dyn<BackendKey, v4::Backend>,
    /// `backend6`.
    pub backend6: Dyn<BackendKey, v6::Backend>,
    /// `member4`.
    pub member4: Dyn<v4::MemberKey, Member>,
    /// `member6`.
    pub member6: Dyn<v6::MemberKey, Member>,
    /// `maglev4`.
    pub maglev4: Dyn<MaglevKey, v4::MaglevPiece>,
    /// `maglev6`.
    pub maglev6: Dyn<MaglevKey, v6::MaglevPiece>,
    /// `source_range4`.
    pub source_range4: Dyn<v4::SourceRangeKey, u32>,
    /// `source_range6`.
    pub source_range6: Dyn<v6::SourceRangeKey, u32>,
    /// `class_addr4`.
    pub class_addr4: Dyn<v4::AddressKey, u32>,
    /// `class_addr6`.
    pub class_addr6: Dyn<v6::AddressKey, u32>,
    /// `class_net4`.
    pub class_net4: Dyn<v4::PrefixKey, u32>,
    /// `class_net6`.
    pub class_net6: Dyn<v6::PrefixKey, u32>,
    /// `opt_out4`.
    pub opt_out4: Dyn<v4::PrefixKey, u32>,
    /// `opt_out6`.
    pub opt_out6: Dyn<v6::PrefixKey, u32>,
    /// `rule_counter`.
    pub rule_counter: Dyn<u32, Counter>,
    /// The policy programs in their slots.
    pub programs: Box<dyn Programs>,
    /// Programs on workloads' interfaces.
    pub hooks: Box<dyn Hooks>,
}

/// The policy programs in their slots.
pub trait Programs {
    /// Which slots are taken, and the name of the program there.
    fn list(&mut self) -> Result<Vec<(u32, String)>, TableError>;

    /// Makes tables and program of a compiled list and puts the program into the slot, in one step for
    /// packets. On an error the slot keeps what it had.
    fn install(&mut self, slot: u32, name: &str, compiled: &Compiled) -> Result<(), TableError>;

    /// Writes into the tables of the program in a slot.
    fn write(&mut self, slot: u32, writes: &[TableWrite]) -> Result<(), TableError>;

    /// Empties a slot.
    fn clear(&mut self, slot: u32) -> Result<(), TableError>;
}

/// A hook could not be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HookError {
    /// The interface went away meanwhile.
    #[error("the interface is gone")]
    Gone,
    /// The kernel refused.
    #[error("{0}")]
    Kernel(String),
}

/// Programs on workloads' interfaces: the preamble of a slot, in both directions.
pub trait Hooks {
    /// Workload interfaces that carry a preamble of ours in both directions: name, index and slot.
    fn list(&mut self) -> Result<Vec<(String, u32, u32)>, HookError>;

    /// Puts the preambles of a slot on an interface, in place of those that are there.
    fn attach(&mut self, interface: &str, ifindex: u32, slot: u32) -> Result<(), HookError>;

    /// Takes them off; nothing happens when the interface is gone.
    fn detach(&mut self, interface: &str, ifindex: u32) -> Result<(), HookError>;
}
