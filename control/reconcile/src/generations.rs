//! Policy generations: numbers on a ring, given out in their order, over restarts too.
//!
//! Owns: which number comes next, and how much of what is found counts. Does not: write records or files.
//! Invariant: a generation is handed out only up to the ceiling that the file names, and the sum of two ends' generations
//! differs from what a flow remembers as long as neither end has gone half way round since.

/// The last number of the ring; 1 comes after it.
///
/// A flow is compared with a sum of two, which never overflows: were the ring all of `u32`, two ends that both go half
/// way round would come back to their sum.
const RING: u32 = (1 << 30) - 1;
/// The numbers of records are as near as this to the newest; those that fall behind are replaced.
const SPAN: u32 = RING / 16;
const RESERVE: u32 = 4096;
/// More than are handed out while a flow lives that nobody judges again.
const LEAP: u32 = 1 << 16;

const _: () = assert!(RING.checked_mul(2).is_some() && 2 * LEAP < SPAN);

/// What gives them out.
#[derive(Clone, Copy, Debug)]
pub struct Generations {
    /// 0: none yet.
    last: u32,
    ceiling: u32,
    /// The file named a ceiling that nobody wrote.
    is_damaged: bool,
}

impl Generations {
    /// Goes on after everything that may have been used. Of a ceiling that is none, the next numbers are far from those
    /// that a node begins with.
    pub const fn new(ceiling: u32) -> Self {
        let is_damaged = ceiling > RING;
        let last = if is_damaged { RING / 4 } else { ceiling };
        Self { last, ceiling: last, is_damaged }
    }

    /// A generation was found in the kernel. One that is not near is none of ours.
    pub fn seen(&mut self, generation: u32) {
        if is_one(generation) && way(self.last, generation) <= 2 * SPAN {
            if way(self.last, generation) > self.room() {
                self.ceiling = generation;
            }
            self.last = generation;
        }
    }

    /// All that are in the kernel, before any is handed out. If they are not close behind the ceiling, the file was lost or
    /// damaged: others begin far after those that flows of endpoints without a record may still name. Whether it was.
    pub fn found(&mut self, in_kernel: impl IntoIterator<Item = u32>) -> bool {
        let later = |one, other| if way(one, other) < RING / 2 { other } else { one };
        let newest = in_kernel.into_iter().filter(|generation| is_one(*generation)).reduce(later);
        let Some(newest) = newest else { return self.is_damaged };
        let is_lost = self.is_damaged || self.ceiling == 0 || way(newest, self.ceiling) > 2 * SPAN;
        if is_lost {
            self.last = after(newest, LEAP);
            self.ceiling = self.last;
        }
        is_lost
    }

    /// Makes room for this many before the file is written.
    pub fn reserve(&mut self, count: usize) {
        let count = u32::try_from(count).unwrap_or(SPAN).min(SPAN);
        if self.room() < count {
            self.ceiling = after(self.last, count + RESERVE);
        }
    }

    /// The next one; never 0.
    pub fn take(&mut self) -> u32 {
        self.reserve(1);
        self.last = after(self.last, 1);
        self.last
    }

    /// Whether a record may keep this one: the newest is not so far ahead that sums could come to repeat.
    pub const fn is_fresh(&self, generation: u32) -> bool {
        is_one(generation) && way(generation, self.last) <= SPAN
    }

    /// The last one handed out or found.
    pub const fn last(&self) -> u32 {
        self.last
    }

    /// For the file.
    pub const fn ceiling(&self) -> u32 {
        self.ceiling
    }

    /// So many may be handed out.
    const fn room(&self) -> u32 {
        way(self.last, self.ceiling)
    }
}

const fn is_one(generation: u32) -> bool {
    generation != 0 && generation <= RING
}

/// How far it is from one to the other, forwards. 0, before the first one, lies with the last.
const fn way(from: u32, to: u32) -> u32 {
    (to + RING - from) % RING
}

/// The one that comes so many later.
const fn after(generation: u32, by: u32) -> u32 {
    (generation + by - 1) % RING + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Anywhere, and where something begins or ends more often.
    fn anywhere() -> impl Strategy<Value = u32> {
        let edge = prop::sample::select(vec![0, RING / 4, RING / 2, RING, 1 << 30, 1 << 31, u32::MAX]);
        prop_oneof![
            any::<u32>(),
            1..=RING,
            (edge, -70_000_i32..70_000).prop_map(|(at, by)| at.wrapping_add_signed(by))
        ]
    }

    /// What happens to a node.
    #[derive(Clone, Copy, Debug)]
    enum Event {
        /// The client's egress, or the server's ingress, is judged by something else.
        Changes { client: bool },
        /// Others' policies change, so often.
        Others(u32),
        /// The agent starts again, with the file.
        Start,
        /// And without one.
        Lost,
        /// And with another number in it.
        Damaged(u32),
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            4 => any::<bool>().prop_map(|client| Event::Changes { client }),
            2 => (1_u32..20_000).prop_map(Event::Others),
            1 => Just(Event::Start),
            1 => Just(Event::Lost),
            2 => anywhere().prop_map(Event::Damaged),
        ]
    }

    /// A node with a flow between two of its pods, whose records outlive the agent.
    struct Node {
        generations: Generations,
        records: [u32; 2],
    }

    impl Node {
        fn start(&mut self, ceiling: u32) {
            self.generations = Generations::new(ceiling);
            self.generations.found(self.records);
            self.generations.reserve(64);
        }

        /// As `Side::advance`; whether a record was given another one.
        fn renew(&mut self) -> bool {
            let old = self.records;
            for record in &mut self.records {
                if !self.generations.is_fresh(*record) {
                    *record = self.generations.take();
                }
            }
            old != self.records
        }
    }

    proptest! {
        /// The flow's own judgement is `sum`; it says nothing in the meantime.
        #[test]
        fn no_sum_of_two_ends_comes_back_while_a_flow_may_hold_it(
            ceiling in anywhere().prop_map(|ceiling| ceiling % (RING + 1)),
            behind in [0..SPAN, 0..SPAN],
            events in prop::collection::vec(event(), 1..40),
        ) {
            let records = behind.map(|behind| after(ceiling, RING - behind));
            let mut node = Node { generations: Generations::new(ceiling), records };
            node.start(ceiling);
            prop_assert!(!node.renew());
            let sum = |node: &Node| node.records[0].wrapping_add(node.records[1]);
            let held = sum(&node);
            let (mut has_changed, mut damages) = (false, 0);
            for event in events {
                match event {
                    Event::Changes { client } => {
                        let had = node.records;
                        node.records[usize::from(!client)] = node.generations.take();
                        prop_assert_ne!(had, node.records);
                        has_changed = true;
                    }
                    Event::Others(many) => (0..many).for_each(|_| {
                        node.generations.take();
                    }),
                    Event::Start => node.start(node.generations.ceiling()),
                    Event::Lost => node.start(0),
                    // Nobody's file is damaged again and again while a packet of one flow is awaited.
                    Event::Damaged(_) if damages == 2 => {}
                    Event::Damaged(ceiling) => {
                        damages += 1;
                        node.start(ceiling);
                    }
                }
                has_changed |= node.renew();
                prop_assert!(node.records.iter().all(|record| is_one(*record)));
                if has_changed {
                    prop_assert_ne!(sum(&node), held, "{:?}", event);
                }
            }
        }

        #[test]
        fn none_is_handed_out_twice_or_beyond_the_ceiling(ceiling in anywhere(), count in 1_usize..10_000) {
            let mut generations = Generations::new(ceiling);
            generations.reserve(count);
            let (before, ceiling) = (generations.last(), generations.ceiling());
            let room = way(before, ceiling) as usize;
            prop_assert!((count..RING as usize / 2).contains(&room));
            for nth in 1..=count {
                let one = generations.take();
                prop_assert!(is_one(one));
                prop_assert_eq!(way(before, one) as usize, nth);
            }
            prop_assert_eq!(generations.ceiling(), ceiling);
            let next = Generations::new(ceiling);
            prop_assert_eq!((next.last(), next.is_damaged), (ceiling, false), "the file goes on");
        }
    }

    #[test]
    fn a_ceiling_that_no_record_is_near_does_not_count() {
        for ceiling in [u32::MAX, 1 << 30, RING, RING / 2, 3, 0] {
            let mut generations = Generations::new(ceiling);
            assert!(generations.found([0, 5000, u32::MAX, 4990]), "{ceiling}");
            assert_eq!((generations.last(), generations.ceiling()), (5000 + LEAP, 5000 + LEAP), "{ceiling}");
            assert!(generations.is_fresh(5000) && !generations.is_fresh(u32::MAX));
        }
    }

    #[test]
    fn one_comes_after_the_last() {
        let mut generations = Generations::new(RING - 1);
        assert!(!generations.found([RING - 20]));
        assert_eq!([(); 3].map(|()| generations.take()), [RING, 1, 2]);
        generations.seen(7);
        assert_eq!(generations.take(), 8);
        assert!(generations.is_fresh(RING - 20));
        let mut next = Generations::new(generations.ceiling());
        assert!(!next.found([RING - 20, 8, 2]));
        assert!(way(8, next.take()) <= RESERVE + 2);
    }

    #[test]
    fn a_node_begins_with_one() {
        let mut generations = Generations::new(0);
        assert!(!generations.found([0, 0]));
        assert_eq!([generations.take(), generations.take()], [1, 2]);
    }
}
