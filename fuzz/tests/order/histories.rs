//! Random histories, with the effects executed in random order and in the worst one.

use fuzz::{Event, LEADER, Shape, live};
use proptest::prelude::*;

fn shape() -> impl Strategy<Value = Shape> {
    let shape = (1usize..=5, 0usize..=1, 0usize..=2, any::<u8>(), prop::bool::weighted(0.2));
    shape.prop_map(|(voters, learners, spares, options, is_mixed)| Shape {
        voters,
        learners,
        spares,
        options,
        is_mixed,
    })
}

/// Any server, or whoever leads.
fn at() -> impl Strategy<Value = usize> {
    prop_oneof![3 => 0usize..60, 1 => Just(LEADER)]
}

/// What clients, operators and fate do, whatever the order of effects.
fn fate() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => at().prop_map(Event::Fire),
        1 => (0u64..3_000_000).prop_map(Event::Pass),
        4 => (at(), 0usize..10, 0usize..3)
            .prop_map(|(at, size, more)| Event::Propose { at, size, more }),
        2 => (at(), any::<bool>()).prop_map(|(at, is_by_lease)| Event::Read(at, is_by_lease)),
        1 => at().prop_map(Event::Snapshot),
        3 => (at(), 0usize..4, 0usize..8, any::<bool>())
            .prop_map(|(at, whole, steps, state)| Event::Crash { at, whole, steps, state }),
        3 => (at(), 0usize..64).prop_map(|(at, choice)| Event::Hurt { at, choice }),
        2 => at().prop_map(Event::Campaign),
        1 => (at(), any::<bool>()).prop_map(|(at, is_full)| Event::Fill { at, is_full }),
        4 => (at(), 0usize..40, 0usize..36)
            .prop_map(|(at, what, who)| Event::Change { at, what, who }),
        1 => (at(), prop::option::of(at())).prop_map(|(at, to)| Event::Transfer(at, to)),
        1 => prop_oneof![
            4 => at().prop_map(Event::StepDown),
            4 => at().prop_map(Event::ForgetLeader),
            4 => at().prop_map(Event::ReplaceDisk),
            1 => at().prop_map(Event::Force),
        ],
        1 => (at(), at()).prop_map(|(at, to)| Event::Disconnect { at, to }),
        3 => (at(), at()).prop_map(|(one, two)| Event::Talk(one, two)),
        1 => at().prop_map(|to| Event::Borrow(LEADER, to)),
        1 => (0usize..64).prop_map(Event::Lose),
        1 => prop::option::of(at()).prop_map(Event::Settle),
    ]
}

/// One effect of one server is executed, whichever.
fn any_effect() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => (0usize..64, prop::bool::weighted(0.1))
            .prop_map(|(choice, is_kept)| Event::Deliver { choice, is_kept }),
        1 => at().prop_map(Event::DeliverAll),
        3 => (at(), 1usize..4).prop_map(|(at, batches)| Event::Sync { at, batches }),
        3 => at().prop_map(Event::Tell),
        1 => (at(), 1usize..3).prop_map(|(at, times)| Event::Apply { at, times }),
        1 => (at(), 0usize..4).prop_map(|(at, choice)| Event::Work { at, choice }),
    ]
}

fn rush() -> impl Strategy<Value = Event> {
    (1usize..40, any::<u8>()).prop_map(|(things, seed)| Event::Rush { things, seed })
}

proptest! {
    /// Every effect at any time: disks lag and are told of late or twice, messages overtake each
    /// other, are lost and come again, and crashes leave any beginning of what was to be written.
    #[test]
    fn effects_in_any_order_are_safe(
        shape in shape(),
        events in prop::collection::vec(prop_oneof![1 => fate(), 3 => any_effect()], 0..300),
    ) {
        live(shape, events);
    }

    /// The order that tempts most: every message arrives at once, and no disk writes a batch while
    /// anything else is left to do.
    #[test]
    fn the_worst_order_is_safe(
        shape in shape(),
        events in prop::collection::vec(prop_oneof![2 => fate(), 1 => rush()], 0..120),
    ) {
        live(shape, events);
    }
}
