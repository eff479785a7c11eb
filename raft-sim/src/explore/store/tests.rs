//! What is not seen in any exploration.

use super::*;
use crate::explore::by_hand::with_log;

#[test]
fn a_panic_is_a_broken_promise_of_its_step() {
    let mut store = Store::new(vec![vec![0, 1, 2]]);
    let host = store.start(with_log(0, 1, &[]));
    // Nothing is on its way to the disk: to complete two writes is a mistake.
    for batches in [1, 2] {
        let name = store.step(&Bounds::default(), host, &Input::Persist { batches });
        let step = Arc::clone(&store.steps[name as usize]);
        let broken = step.broken.as_ref().expect("it panics");
        assert_eq!((broken.id, step.to), ("PANIC", host));
        assert!(broken.what.starts_with("the product panics: "), "{}", broken.what);
    }
}
