//! Sets of numbers as sorted spans that neither touch nor overlap.

use crate::form::PortRange;

/// Inclusive.
pub type Span = (u16, u16);

/// Every 16-bit number.
pub const EVERYTHING: Span = (0, u16::MAX);

/// The numbers in `wanted` (empty: all) that are not in `unwanted`.
pub fn allowed(wanted: &[PortRange], unwanted: &[PortRange]) -> Vec<Span> {
    let base = if wanted.is_empty() { vec![EVERYTHING] } else { union(wanted) };
    union(unwanted).into_iter().fold(base, |spans, hole| without(&spans, hole))
}

/// `spans` without `hole`.
pub fn without(spans: &[Span], hole: Span) -> Vec<Span> {
    let mut rest = Vec::with_capacity(spans.len() + 1);
    for &(first, last) in spans {
        if let Some(before) = hole.0.checked_sub(1).map(|end| end.min(last)).filter(|end| first <= *end) {
            rest.push((first, before));
        }
        if let Some(after) =
            hole.1.checked_add(1).map(|start| start.max(first)).filter(|start| *start <= last)
        {
            rest.push((after, last));
        }
    }
    rest
}

fn union(ranges: &[PortRange]) -> Vec<Span> {
    let mut sorted: Vec<Span> = ranges
        .iter()
        .filter(|range| range.first <= range.last)
        .map(|range| (range.first, range.last))
        .collect();
    sorted.sort_unstable();
    let mut spans: Vec<Span> = Vec::with_capacity(sorted.len());
    for (first, last) in sorted {
        match spans.last_mut() {
            Some(open) if u32::from(first) <= u32::from(open.1) + 1 => open.1 = open.1.max(last),
            _ => spans.push((first, last)),
        }
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(spans: &[Span]) -> Vec<PortRange> {
        spans.iter().map(|&(first, last)| PortRange { first, last }).collect()
    }

    #[test]
    fn spans_are_joined_cut_and_complemented() {
        let case = |wanted: &[Span], unwanted: &[Span]| allowed(&ranges(wanted), &ranges(unwanted));
        assert_eq!(case(&[], &[]), [EVERYTHING]);
        assert_eq!(case(&[(5, 9), (1, 4), (20, 20)], &[]), [(1, 9), (20, 20)]);
        assert_eq!(case(&[], &[(0, 0), (65535, 65535)]), [(1, 65534)]);
        assert_eq!(case(&[(1, 10)], &[(3, 4), (9, 20)]), [(1, 2), (5, 8)]);
        assert_eq!(case(&[(1, 10)], &[(0, 65535)]), []);
    }
}
