//! Bugs on purpose: with a feature `seed-bug-N`, which only objects of the differential suite have. The suite
//! proves with each that it would be found.

/// The port that policy sees is one too high.
pub(crate) const PORT_OFF_BY_ONE: bool = cfg!(feature = "seed-bug-1");
/// A field of the state keeps what the last packet left.
pub(crate) const STALE_FIELD: bool = cfg!(feature = "seed-bug-2");
/// Ports change, and the checksum does not follow.
pub(crate) const CHECKSUM_FORGOTTEN: bool = cfg!(feature = "seed-bug-3");
/// A change of policy leaves known flows alone.
pub(crate) const GENERATION_IGNORED: bool = cfg!(feature = "seed-bug-4");
/// A Service's reply is translated at the wrong end.
pub(crate) const REPLY_SWAPPED: bool = cfg!(feature = "seed-bug-5");
/// The hop limit stays.
pub(crate) const HOP_LIMIT_KEPT: bool = cfg!(feature = "seed-bug-6");
/// Every reset is believed.
pub(crate) const RESETS_BELIEVED: bool = cfg!(feature = "seed-bug-7");
/// Flows to an endpoint that is gone go on.
pub(crate) const STALE_TARGET: bool = cfg!(feature = "seed-bug-8");
/// The sweep forgets flows that one side still uses.
pub(crate) const SWEPT_EARLY: bool = cfg!(feature = "seed-bug-9");
/// A reply that leaves directly is taken for one whose request was translated here.
pub(crate) const DIRECT_MISKEYED: bool = cfg!(feature = "seed-bug-10");
