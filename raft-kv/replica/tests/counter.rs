//! The example host: what it has counted is there after a restart.

use std::fs;
use std::path::Path;

#[expect(dead_code, reason = "its own main is for the command line")]
#[path = "../examples/counter.rs"]
mod counter;

#[test]
fn the_counter_goes_on_where_it_stopped() {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("counter");
    if root.exists() {
        fs::remove_dir_all(&root).unwrap();
    }
    for sum in 1..=3 {
        assert_eq!(counter::count(&root).unwrap(), sum);
    }
    // A server whose directory is gone is not founded anew.
    fs::remove_dir_all(root.join("2")).unwrap();
    assert!(counter::count(&root).is_err());
    fs::remove_dir_all(&root).unwrap();
}
