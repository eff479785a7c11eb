//! Effects that may be executed in any order lead to the same state in any order.

use fuzz::{Shape, Turn, twins};
use proptest::prelude::*;

fn at() -> std::ops::Range<usize> {
    0..6
}

fn turn() -> impl Strategy<Value = Turn> {
    prop_oneof![
        3 => at().prop_map(Turn::Fire),
        20 => (0usize..32).prop_map(Turn::Deliver),
        2 => at().prop_map(Turn::DeliverAll),
        1 => (0usize..32).prop_map(Turn::Lose),
        4 => (at(), 0usize..10, 1usize..4)
            .prop_map(|(at, size, count)| Turn::Propose { at, size, count }),
        2 => at().prop_map(Turn::Read),
        3 => (at(), 0usize..40, 0usize..36)
            .prop_map(|(at, what, who)| Turn::Change { at, what, who }),
        1 => at().prop_map(Turn::Transfer),
        2 => at().prop_map(Turn::Snapshot),
        2 => at().prop_map(Turn::Campaign),
        1 => (at(), at()).prop_map(|(at, to)| Turn::Disconnect(at, to)),
        1 => at().prop_map(Turn::Restart),
    ]
}

proptest! {
    /// Twins that execute what one step asks for in different orders stay equal.
    #[test]
    fn commuting_effects_give_equal_digests(
        voters in 1usize..=5,
        learners in 0usize..=1,
        spares in 0usize..=2,
        options in any::<u8>(),
        turns in prop::collection::vec(turn(), 0..250),
        seed in any::<u64>(),
    ) {
        twins(Shape { voters, learners, spares, options }, &turns, seed);
    }
}
