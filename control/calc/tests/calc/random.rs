//! Random histories, random clusters.

use crate::support::bytes::{Op, body, decode};
use crate::support::expand::expand_on;
use proptest::prelude::*;
use tortie_model::Object;

fn changes(data: &[u8]) -> Vec<Object> {
    let ops = decode(data).into_iter();
    ops.filter_map(|op| match op {
        Op::Change(object) => Some(*object),
        Op::Flush | Op::InSync => None,
    })
    .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_history_keeps_every_guarantee_and_every_verdict_is_the_oracles(
        data in prop::collection::vec(any::<u8>(), 0..1200)
    ) {
        body(&data);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_history_in_any_order_and_any_batches_ends_the_same(
        data in prop::collection::vec(any::<u8>(), 0..500)
    ) {
        expand_on("n1", &changes(&data), 3);
    }
}

/// The random histories are worth something only while they make everything there is.
#[test]
fn random_histories_make_every_kind_of_object() {
    let data: Vec<u8> = (0u32..20_000).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let mut kinds: Vec<_> = changes(&data).iter().map(std::mem::discriminant).collect();
    let all = kinds.len();
    kinds.dedup_by_key(|kind| *kind);
    let distinct: std::collections::HashSet<_> = kinds.into_iter().collect();
    assert_eq!(distinct.len(), 11, "of {all} changes");
}
