//! Which starts are symmetric, and that nothing is missed by it.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;

use super::super::canon::Canon;
use super::super::order::Order;
use super::super::search::{End, Search};
use super::super::start::Start;
use super::*;

const ALL_REPLACED: &str = include_str!("../../../tests/scripts/all_replaced.txt");
const BOTH_REPLACED: &str = include_str!("../../../tests/scripts/both_replaced.txt");
const HALF_FINISHED: &str = include_str!("../../../tests/scripts/half_finished_joint_change.txt");

fn started(script: &str) -> Start {
    Start::from_script(script).expect("it is a script")
}

fn least() -> Bounds {
    Bounds { entries: 0, crashes: 0, ..Bounds::default() }
}

fn exchanges_of(script: &str) -> Vec<Exchange> {
    let start = started(script);
    let alike = start.alike(&start.within(&least()));
    alike.iter().map(|kept| kept.exchange.clone()).collect()
}

#[test]
fn a_start_is_symmetric_as_far_as_its_past_is() {
    assert_eq!(exchanges_of(BOTH_REPLACED), [[0, 1, 2, 3], [0, 1, 3, 2]]);
    let expected = [[0, 1, 2, 3, 4], [0, 1, 2, 4, 3], [0, 2, 1, 3, 4], [0, 2, 1, 4, 3]];
    assert_eq!(exchanges_of(HALF_FINISHED), expected);
    let all = exchanges_of(ALL_REPLACED);
    assert_eq!(all.len(), 12);
    assert!(all.iter().all(|exchange| exchange[0] == 0), "n1 leads: {all:?}");
    let one = |story: &str| {
        let head = "> cluster 1 2 3 pre_vote=off check_quorum=off\n> fire 1\n";
        assert_eq!(exchanges_of(&format!("{head}{story}")).len(), 1, "{story}");
    };
    // What has arrived, what may still arrive, and who is asked for by name.
    one("> deliver 1->2 2->1\n");
    one("> drop 1->3\n");
    one("> deliver\n> transfer 1 2\n");
    one("> deliver\n> fire 2\n");
}

#[test]
fn a_change_that_is_still_to_come_names_its_servers() {
    let start = started(ALL_REPLACED);
    let alike = |bounds: &Bounds| start.alike(&start.within(bounds)).len();
    assert_eq!(alike(&least()), 12);
    assert_eq!(alike(&Bounds { changes: 1, ..least() }), 1);
    assert_eq!(alike(&Bounds { symmetry: false, ..least() }), 1);
}

/// Servers and history of a state.
type Group = Vec<u64>;

/// How many states are visited, and servers and history of each with those of its images.
fn visited(script: &str, bounds: &Bounds) -> (usize, BTreeSet<BTreeSet<Group>>) {
    let start = started(script);
    let mut search = Search::new(start.within(bounds), start, Order::Achievement);
    let (end, progress) = search.run(1, &AtomicBool::new(false), |_| {});
    assert!(matches!(end, End::Complete), "{end:?}");
    let exchanges = search.store.get_mut().expect("no thread panics").exchanges.clone();
    let mut canon = Canon::new(exchanges.clone());
    let mut image = |at: usize, exchange: usize| -> Group {
        let mut state = search.visited.state(at).to_vec();
        canon.exchange(exchange, &mut state, &search.bounds, &search.store);
        let store = search.store.lock().expect("no thread panics");
        let (history, servers) = state.split_last().expect("a state is never empty");
        let servers = servers.iter().step_by(2).map(|host| store.hosts.hash(*host));
        servers.chain([store.ghosts.hash(*history)]).collect()
    };
    let mut images = |at: usize| (0..exchanges.len()).map(|exchange| image(at, exchange)).collect();
    (progress.states, (0..search.visited.len()).map(&mut images).collect())
}

/// Each group that is reached with names apart is an image of one that is visited, and each that is
/// visited is an image of one that is reached. The choice of a leader that goes is among them: after
/// `both_replaced` it may hand over to either of two.
#[test]
fn what_is_visited_is_what_is_reached_but_for_names() {
    for (script, terms) in [(BOTH_REPLACED, 2), (HALF_FINISHED, 1)] {
        let bounds = Bounds { terms, ..least() };
        let (fewer, alike) = visited(script, &bounds);
        let (more, apart) = visited(script, &Bounds { symmetry: false, ..bounds });
        assert!(3 * fewer < 2 * more, "{fewer} of {more}");
        let apart: BTreeSet<Group> = apart.into_iter().flatten().collect();
        assert!(alike.iter().all(|images| !images.is_disjoint(&apart)));
        let alike: BTreeSet<Group> = alike.into_iter().flatten().collect();
        assert!(apart.is_subset(&alike));
    }
}
