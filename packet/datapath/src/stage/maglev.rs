//! Owns: the choice of a back end by the flow alone: the same on every node, so that a flow that comes in at another one
//! than before is led to where it was. Does not: fill the table.
//! Invariant: the hash is part of what nodes of different versions agree on.

use crate::family::Family;
use crate::kernel::{Services, below};
use crate::tuple::Place;
use crate::tuple::Tuple;
use crate::verdict::Step;
use tortie_abi::DropReason;
use tortie_abi::service::{Frontend, MaglevKey};
use tortie_wire::Ip6;

const SEED: u32 = 0x7072_7469;

/// The back end of a flow. A Service with session affinity has one for each client.
#[inline(always)]
pub fn backend<F: Family, K: Services<F>>(
    k: &K,
    frontend: &Frontend,
    tuple: &Tuple<F::Addr>,
) -> Step<Place<F::Addr>> {
    let client = address::<F>(SEED, &tuple.source);
    let hash = if frontend.affinity != 0 { finish(client) } else { flow::<F>(client, tuple) };
    let place = below(frontend.maglev_slots, hash);
    let (key, within) = MaglevKey::of(frontend.service, place);
    let backend = k.maglev(&key, within).ok_or(DropReason::BackendMissing)?;
    Ok(F::backend(&backend))
}

/// Goes on with all else that makes a flow.
#[inline(always)]
fn flow<F: Family>(hash: u32, tuple: &Tuple<F::Addr>) -> u32 {
    let ports = (tuple.source_port.get() as u32) << 16 | tuple.destination_port.get() as u32;
    let hash = address::<F>(hash, &tuple.destination);
    finish(mix(mix(hash, ports), tuple.protocol as u32))
}

#[inline(always)]
fn address<F: Family>(hash: u32, address: &F::Addr) -> u32 {
    let Ip6([w0, w1, w2, w3]) = F::widen(address);
    let hash = mix(hash, w0.get());
    if F::VERSION == 4 { hash } else { mix(mix(mix(hash, w1.get()), w2.get()), w3.get()) }
}

/// One word more (MurmurHash3, 32 bits).
#[inline(always)]
const fn mix(hash: u32, word: u32) -> u32 {
    let word = word.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593);
    (hash ^ word).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64)
}

/// Every bit of the input reaches every bit of the result.
#[inline(always)]
const fn finish(hash: u32) -> u32 {
    let hash = (hash ^ hash >> 16).wrapping_mul(0x85eb_ca6b);
    let hash = (hash ^ hash >> 13).wrapping_mul(0xc2b2_ae35);
    hash ^ hash >> 16
}

#[cfg(test)]
mod tests {
    use super::{SEED, address, finish, flow};
    use crate::family::{V4, V6};
    use crate::tuple::Tuple;
    use core::net::{Ipv4Addr, Ipv6Addr};
    use tortie_wire::{Be16, Ip4, Ip6};

    fn tuple<A>(source: A, destination: A, source_port: u16) -> Tuple<A> {
        let (source_port, destination_port) = (Be16::new(source_port), Be16::new(443));
        Tuple { source, destination, source_port, destination_port, protocol: 6 }
    }

    #[test]
    fn the_hash_of_a_flow_is_what_it_was_in_every_version_before() {
        let v4 = tuple(
            Ip4::from(Ipv4Addr::new(203, 0, 113, 9)),
            Ip4::from(Ipv4Addr::new(198, 51, 100, 1)),
            40_000,
        );
        assert_eq!(flow::<V4>(address::<V4>(SEED, &v4.source), &v4), HASH4);
        assert_eq!(finish(address::<V4>(SEED, &v4.source)), CLIENT4);
        let client = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9);
        let v6 = tuple(Ip6::from(client), Ip6::from(Ipv6Addr::LOCALHOST), 40_000);
        assert_eq!(flow::<V6>(address::<V6>(SEED, &v6.source), &v6), HASH6);
    }

    const HASH4: u32 = 0xfa58_a98b;
    const CLIENT4: u32 = 0x32eb_f844;
    const HASH6: u32 = 0x9523_6136;

    #[test]
    fn flows_that_differ_by_a_port_spread_evenly() {
        let mut met = [0_u32; 100];
        for port in 0..50_000 {
            let flow4 = tuple(
                Ip4::from(Ipv4Addr::new(203, 0, 113, 9)),
                Ip4::from(Ipv4Addr::new(198, 51, 100, 1)),
                port,
            );
            let hash = flow::<V4>(address::<V4>(SEED, &flow4.source), &flow4);
            if let Some(met) = met.get_mut(((u64::from(hash) * 100) >> 32) as usize) {
                *met += 1;
            }
        }
        // 99 degrees of freedom: above 149 once in a thousand times.
        let chi: f64 = met.iter().map(|met| (f64::from(*met) - 500.0).powi(2) / 500.0).sum();
        assert!(chi < 149.0, "chi square {chi}");
    }
}
