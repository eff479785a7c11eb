//! Which starts are symmetric, and that nothing is missed by it.

use std::sync::atomic::AtomicBool;

use raft_core::Member;

use super::super::order::Order;
use super::super::search::Search;
use super::super::seen::Seen;
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
fn changes_and_restarts_that_are_still_to_come_tell_servers_apart() {
    let start = started(ALL_REPLACED);
    let alike = |bounds: &Bounds| start.alike(&start.within(bounds)).len();
    assert_eq!(alike(&least()), 12);
    assert_eq!(alike(&Bounds { changes: 1, ..least() }), 1);
    assert_eq!(alike(&Bounds { crashes: 1, ..least() }), 1, "a restart opens a stream");
    assert_eq!(alike(&Bounds { symmetry: false, ..least() }), 1);
}

/// Whoever goes after `both_replaced` chooses n3, and whose image it is chooses it too.
#[test]
fn a_leader_that_goes_hands_over_to_each_of_those_that_are_alike() {
    let start = started(BOTH_REPLACED);
    let bounds = start.within(&Bounds { terms: 1, ..least() });
    let mut search = Search::new(bounds.clone(), start, Order::Breadth);
    search.run(1, &AtomicBool::new(false), |_| {});
    let store = search.store.get_mut().expect("no thread panics");
    assert!(!store.choices.is_empty(), "the search has looked at them");
    let goes = |step: &Arc<Step>| step.from != step.to && step.successor == Some(2);
    let step = store.steps.iter().position(goes).expect("somebody goes");
    let step = u32::try_from(step).expect("there are few");
    let chosen = store.with_choices(&bounds, vec![step]);
    let [real, other] = [0, 1].map(|at| Step::clone(&store.steps[chosen[at] as usize]));
    assert_eq!((chosen.len(), other.successor), (2, Some(3)));
    assert_eq!((real.from, real.to, &real.input), (other.from, other.to, &other.input));
    let asked = |step: &Step| -> Vec<Member> {
        let letters = step.sent.iter().map(|(_, letter)| store.letters.get(*letter));
        let asks = letters.filter(|letter| letter.rpc == Rpc::TimeoutNow);
        asks.map(|letter| letter.to).collect()
    };
    assert_eq!((asked(&real), asked(&other)), (vec![member(2)], vec![member(3)]));
}

/// Each group that is reached with names apart is an image of one that is visited, and each that is
/// visited is an image of one that is reached.
#[test]
fn what_is_visited_is_what_is_reached_but_for_names() {
    for (script, terms, campaigns) in
        [(BOTH_REPLACED, 2, None), (BOTH_REPLACED, 2, Some(0)), (HALF_FINISHED, 1, None)]
    {
        let bounds = Bounds { terms, campaigns, ..least() };
        let start = started(script);
        let bounds = start.within(&bounds);
        let alike = Seen::from(&start, &bounds);
        let apart = Seen::from(&start, &Bounds { symmetry: false, ..bounds });
        assert!(alike.states < apart.states, "{} of {}", alike.states, apart.states);
        let reached = apart.groups();
        assert!(alike.images.iter().all(|images| images.iter().any(|one| reached.contains(one))));
        assert!(reached.is_subset(&alike.groups()));
    }
}
