//! The checker has nothing to say about a product that keeps its promises.

use crate::group::{Counts, Group};

#[test]
fn real_replicas_in_a_bad_world_break_no_promise() {
    let mut total = Counts::default();
    for seed in 0..100 {
        let mut group = Group::new(seed, 1 + seed % 5).unwrap();
        for step in 0..6_000 {
            if let Err(violation) = group.step() {
                panic!("seed {seed} step {step}: {violation}");
            }
        }
        total.add(group.counts);
    }
    // The world was as bad as it should be, and the group worked all the same.
    let Counts { elections, crashes, truncations, installs, answers, reads } = total;
    assert!(elections > 500 && crashes > 1_000, "{total:?}");
    assert!(truncations > 30 && installs > 30, "{total:?}");
    assert!(answers > 5_000 && reads > 2_500, "{total:?}");
}
