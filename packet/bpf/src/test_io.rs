//! The map through which a test gives a program its time and randomness and learns its verdict. Not in the product.

use crate::map::Map;
use tortie_abi::Tick;
use tortie_abi::maps::{MapKind, MapSpec, Writer};
use tortie_datapath::{Family, Next, State};
use tortie_wire::Ip6;

/// Value of `test_io`; `tests/progrun` has the same layout.
#[repr(C)]
pub struct TestIo {
    /// In: monotonic nanoseconds.
    now_nanos: u64,
    /// In and out: state of the xorshift generator.
    random: u32,
    /// Out: [`Next`] as its number.
    verdict: u32,
    /// Out: the verdict's value.
    argument: u32,
    /// Out: packets concluded.
    concluded: u32,
    /// In: where the tunnel's packet came from; all zero: it is none.
    tunnel_source: Ip6,
    /// In: the network that it is of.
    tunnel_network: u32,
    /// Zero.
    _zero: u32,
}

/// The interface that leads to every address outside.
pub const WAY_OUT: u32 = 100;

#[unsafe(export_name = "test_io")]
#[unsafe(link_section = "maps")]
static TEST_IO: Map<u32, TestIo> = Map::new(&MapSpec {
    name: "test_io",
    kind: MapKind::Array,
    key_bytes: size_of::<u32>() as u32,
    value_bytes: size_of::<TestIo>() as u32,
    max_entries: 1,
    flags: 0,
    version: 1,
    writer: Writer::Both,
});

/// What the test says the time is.
#[inline(always)]
pub fn now() -> Tick {
    TEST_IO.with(&0, |io| Tick::from_nanos(io.now_nanos)).unwrap_or(Tick(0))
}

/// Where the test says the packet came from.
#[inline(always)]
pub fn tunnel_source() -> Option<(Ip6, u32)> {
    let said = TEST_IO.with(&0, |io| (io.tunnel_source, io.tunnel_network));
    said.filter(|(source, _)| *source != Ip6::UNSPECIFIED)
}

/// The next number of the generator.
#[inline(always)]
pub fn random() -> u32 {
    let next = TEST_IO.with(&0, |io| {
        let mut x = io.random;
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        io.random = x;
        x
    });
    next.unwrap_or(0)
}

/// Tells the test.
#[inline(always)]
pub fn record<F: Family>(s: &State<F>, end: Next) {
    let argument = match end {
        Next::Peer | Next::Interface | Next::Neighbour | Next::Routed => s.output,
        Next::Tunnel => s.output | s.tunnel_network() << 30,
        Next::Pass | Next::Answer | Next::Local => 0,
        _ => s.reason as u32,
    };
    // What could not be followed is dropped.
    let number = (end as u32).min(Next::Drop as u32);
    TEST_IO.with(&0, |io| {
        io.verdict = number;
        io.argument = argument;
        io.concluded = io.concluded.wrapping_add(1);
    });
}
