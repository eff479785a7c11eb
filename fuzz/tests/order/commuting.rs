//! Effects that may be executed in any order lead to the same state in any order.

use fuzz::{Reached, Shape, Turn, twins};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

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
        1 => (at(), any::<bool>()).prop_map(|(at, is_full)| Turn::Fill { at, is_full }),
        1 => at().prop_map(Turn::StepDown),
        1 => at().prop_map(Turn::ForgetLeader),
        2 => (at(), 0usize..64).prop_map(|(at, choice)| Turn::Hurt { at, choice }),
    ]
}

fn life() -> impl Strategy<Value = (Shape, Vec<Turn>, u64)> {
    let shape = (1usize..=5, 0usize..=1, 0usize..=2, any::<u8>(), prop::bool::weighted(0.2));
    let shape = shape.prop_map(|(voters, learners, spares, options, is_mixed)| Shape {
        voters,
        learners,
        spares,
        options,
        is_mixed,
    });
    // After a forced membership most servers are halted: not in most lives.
    let force = prop::option::weighted(0.2, (0usize..250, at()));
    let turns = (prop::collection::vec(turn(), 0..250), force).prop_map(|(mut turns, force)| {
        if let Some((position, at)) = force {
            turns.insert(position.min(turns.len()), Turn::Force(at));
        }
        turns
    });
    (shape, turns, any::<u64>())
}

proptest! {
    /// Twins that execute what one step asks for in different orders stay equal.
    #[test]
    fn commuting_effects_give_equal_digests((shape, turns, seed) in life()) {
        twins(shape, &turns, seed);
    }
}

/// Lives in which nothing is damaged, forced or read back would leave twins equal as well.
#[test]
fn twins_live_through_what_could_tell_them_apart() {
    let mut runner = TestRunner::deterministic();
    let lives: Vec<Reached> = (0..300)
        .map(|_| {
            let tree = life().new_tree(&mut runner).expect("nothing is filtered");
            let (shape, turns, seed) = tree.current();
            twins(shape, &turns, seed)
        })
        .collect();
    let reaching = |what: fn(&Reached) -> usize| lives.iter().filter(|at| what(at) > 0).count();
    let counts = [
        reaching(|life| life.leaders),
        reaching(|life| life.healed),
        reaching(|life| life.certain),
        reaching(|life| life.left_behind),
        reaching(|life| life.loads),
        reaching(|life| life.full_disks),
    ];
    let least = [200, 20, 5, 10, 5, 20];
    assert!(counts.iter().zip(least).all(|(count, least)| *count >= least), "{counts:?}");
}
