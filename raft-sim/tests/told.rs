//! What a person reads of a run: the lines name who was struck and what was read, and a cluster that does not
//! get going again says what it lacks.

use std::cell::RefCell;
use std::rc::Rc;

use raft_sim::fault::{Fault, FaultSet};
use raft_sim::options::Options;
use raft_sim::run::{self, How};
use raft_sim::trace::Trace;

#[test]
fn a_line_names_who_was_struck_and_what_was_read() {
    let mut faults = FaultSet::default();
    faults.insert(Fault::Crash);
    let options =
        Options { faults, events: 2_000, inbox_us: 200, strike_events: 128, ..Options::default() };
    let lines = Rc::new(RefCell::new(Vec::new()));
    let kept = Rc::clone(&lines);
    let trace = Trace::shown(move |line| kept.borrow_mut().push(line.to_owned()));
    let report = run::options_twice(&options, How::once(options.events), trace, |trace| trace);
    assert_eq!(report.failure, None, "{report}");
    let lines = lines.borrow();
    let count = |what: &str| lines.iter().filter(|line| line.contains(what)).count();
    assert!(count(" ! crash at n") > 4, "{} lines", lines.len());
    assert_eq!(count(" ! crash at n"), count(" ! crash"));
    assert!(count(" reads n") > 0, "one message is shown as a whole");
    assert!(count("Response from n") > 0, "several are shown by their kinds");
    assert_eq!(count(" reads nothing"), 0, "who reads nothing changes nothing");
    assert_eq!(count("! the faults end"), 1);
}

#[test]
fn a_cluster_that_does_not_get_going_says_what_it_lacks() {
    let mut options = Options::draw(7, 2_000);
    options.set("disk_bytes", "200000").unwrap_or_else(|error| panic!("{error}"));
    let report = run::options(&options, How::once(options.events));
    assert_eq!(report.exit_code(), 3, "{report}");
    // Nothing is told of the time in which nobody owed anything.
    let event = |line: &String| line.split_whitespace().next()?.parse::<u64>().ok();
    let since: Vec<u64> = report.lines.iter().filter_map(event).collect();
    assert!(
        !since.is_empty() && since.iter().all(|&at| at >= report.stats.chaos_events),
        "{report}"
    );
    let text = report.to_string();
    for part in ["\ncommitted  i", " lacks ", "\npredicted  a leader in the core", "\nactual "] {
        assert!(text.contains(part), "{part}: {report}");
    }
    assert_eq!(report.lacking.len(), 1 + options.nodes());
}
