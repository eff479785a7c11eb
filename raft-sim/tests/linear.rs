//! The checker of histories against a search of every order, on small histories of every kind.

use std::collections::BTreeSet;

use raft_sim::linear::generate::{Plan, jsonl};
use raft_sim::linear::{
    Action, History, Judge, Limits, Model, Operation, Verdict, core, explain, read, validate,
};
use raft_sim::rng::Ratio;

/// How many histories are tried.
const SEEDS: u64 = 20_000;

fn judge(history: &History) -> Verdict {
    Judge::new().judge(history, Limits::default(), || false)
}

/// Every order that respects time, one operation after the other.
fn has_order(history: &History, key: u32) -> bool {
    let operations: Vec<Operation> =
        history.operations().iter().filter(|operation| operation.key == key).copied().collect();
    extend(history, &operations, 0, "\0")
}

fn extend(history: &History, operations: &[Operation], done: u32, state: &str) -> bool {
    let is_left = |at: usize| done >> at & 1 == 0;
    let left = || operations.iter().enumerate().filter(|(at, _)| is_left(*at));
    let Some(first_end) = left().filter_map(|(_, operation)| operation.end).min() else {
        return true;
    };
    left().filter(|(_, operation)| operation.call < first_end).any(|(at, operation)| {
        after(history, operation.action, state)
            .is_some_and(|state| extend(history, operations, done | 1 << at, &state))
    })
}

/// The state as a text; a register that holds nothing is shown by one that is no value.
fn after(history: &History, action: Action, state: &str) -> Option<String> {
    let absent = raft_sim::linear::ABSENT;
    let text = |value| if value == absent { "\0" } else { history.value(value) };
    let is_register = history.model() == Model::Register;
    match action {
        Action::Read(value) => (text(value) == state).then(|| state.to_owned()),
        Action::Differs(value) => (text(value) != state).then(|| state.to_owned()),
        Action::Write(value) => Some(text(value).to_owned()),
        Action::Swap { from, to } => (text(from) == state).then(|| text(to).to_owned()),
        Action::Append(value) => {
            assert!(!is_register, "only texts are appended to");
            let before = state.trim_start_matches('\0');
            Some(format!("{before}{}", history.value(value)))
        }
    }
}

fn plans(seed: u64) -> Plan {
    let pick = |shift: u32, of: u64| u32::try_from((seed >> shift) % of).expect("small");
    Plan {
        operations: 4 + pick(0, 9),
        clients: 2 + pick(3, 5),
        keys: 1 + pick(11, 5) / 4,
        values: pick(5, 4),
        reads: Ratio::new(1 + pick(7, 3), 4),
        swaps: Ratio::new(pick(2, 4), 4),
        deletes: Ratio::new(pick(9, 3), 6),
        unknown: Ratio::new(pick(6, 4), 10),
        lies: pick(1, 4),
        append: seed.is_multiple_of(13),
    }
}

#[test]
fn verdicts_are_those_of_a_search_of_every_order() {
    let mut counts = [0; 2];
    for seed in 0..SEEDS {
        let text = jsonl(&plans(seed), seed);
        let history = read::history(text.as_bytes()).unwrap();
        let keys = u32::try_from(history.keys()).unwrap();
        let expected = (0..keys).all(|key| has_order(&history, key));
        counts[usize::from(expected)] += 1;
        match judge(&history) {
            Verdict::Linearizable(orders) => {
                assert!(expected, "seed {seed} has no order\n{text}");
                for (key, order) in (0..).zip(&orders) {
                    assert_eq!(validate(&history, key, order), Ok(()), "seed {seed}\n{text}");
                }
            }
            Verdict::Violated { key } => {
                assert!(!expected, "seed {seed} has an order\n{text}");
                assert!(!has_order(&history, key), "seed {seed}: key {key} has an order\n{text}");
            }
            Verdict::Unknown { .. } => panic!("seed {seed} is small"),
        }
    }
    assert!(counts.iter().all(|count| *count > 3_000), "both are well tried: {counts:?}");
}

#[test]
fn a_core_has_no_order_and_has_one_without_any_of_its_operations() {
    let (mut cores, mut sizes) = (0, 0);
    for seed in 0..SEEDS / 4 {
        let text = jsonl(&plans(seed), seed);
        let history = read::history(text.as_bytes()).unwrap();
        let Verdict::Violated { key } = judge(&history) else { continue };
        let core = core::find(&history, key, Limits::default(), || false).unwrap();
        assert!(core.is_minimal, "seed {seed} is small");
        let is_explained = |operations: &[u32]| {
            let fast = core::is_explained(&history, key, operations, Limits::default()).unwrap();
            // Texts that grow without bound have too many orders to try them all.
            if history.model() == Model::Register {
                let slow = has_order_without(&history, key, operations);
                assert_eq!(fast, slow, "seed {seed}\n{text}");
            }
            fast
        };
        assert!(!is_explained(&core.operations), "seed {seed}: {core:?}\n{text}");
        for left_out in &core.operations {
            let others: Vec<u32> =
                core.operations.iter().copied().filter(|other| other != left_out).collect();
            assert!(is_explained(&others), "seed {seed}: {left_out} in {core:?}\n{text}");
        }
        assert!(!explain::sentence(&history, &core).is_empty());
        is_furthest(&history, &core);
        cores += 1;
        sizes += core.operations.len();
    }
    assert!(cores > 300 && sizes < cores * 4, "cores are small: {sizes} in {cores}");
}

/// The longest order of a core is one of all that ended before the stuck operation, and there is none
/// with that one as well.
fn is_furthest(history: &History, core: &core::Core) {
    let all = history.operations();
    let cut = all[core.stuck as usize].end.expect("what fits nowhere must take effect");
    let until = |end: u32| -> Vec<Operation> {
        let begun = all.iter().filter(|one| one.key == core.key && one.call < end);
        begun.map(|one| Operation { end: one.end.filter(|at| *at <= end), ..*one }).collect()
    };
    // What looks and has not ended need not have found anything.
    assert!(extend(history, &until(cut - 1), 0, "\0"), "{core:?}");
    assert!(!extend(history, &until(cut), 0, "\0"), "{core:?}");
    let order: Vec<Operation> = core.longest.iter().map(|at| all[*at as usize]).collect();
    let mut state = "\0".to_owned();
    for (place, one) in order.iter().enumerate() {
        state = after(history, one.action, &state).unwrap_or_else(|| panic!("{one:?}, {core:?}"));
        assert!(one.key == core.key && one.call < cut, "{one:?}, {core:?}");
        let is_too_late = |earlier: &Operation| one.end.is_some_and(|end| end < earlier.call);
        assert!(!order[..place].iter().any(is_too_late), "{one:?}, {core:?}");
    }
    let mut places: Vec<u32> = core.longest.clone();
    places.sort_unstable();
    places.dedup();
    assert_eq!(places.len(), order.len(), "{core:?}");
    let must = (0..).zip(all).filter(|(_, one)| one.key == core.key);
    let must = must.filter(|(_, one)| one.end.is_some_and(|end| end < cut));
    must.for_each(|(at, _)| assert!(places.binary_search(&at).is_ok(), "{at}, {core:?}"));
}

/// Every order of these answers, where the other updates may take effect after their calls, as often
/// as anybody likes.
fn has_order_without(history: &History, key: u32, kept: &[u32]) -> bool {
    let all = (0..).zip(history.operations()).filter(|(_, operation)| operation.key == key);
    let (kept, free): (Vec<_>, Vec<_>) =
        all.partition(|(number, operation)| operation.end.is_none() || kept.contains(number));
    let operations: Vec<Operation> = kept.into_iter().map(|(_, operation)| *operation).collect();
    let mut repeated = Vec::new();
    for (_, operation) in free {
        let action = match operation.action {
            Action::Write(value) | Action::Swap { to: value, .. } => Action::Write(value),
            Action::Read(_) | Action::Differs(_) | Action::Append(_) => continue,
        };
        repeated.push((operation.call, action));
    }
    extend_freely(history, &operations, &repeated, 0, "\0", &mut BTreeSet::new())
}

fn extend_freely(
    history: &History,
    operations: &[Operation],
    free: &[(u32, Action)],
    done: u32,
    state: &str,
    seen: &mut BTreeSet<(u32, String)>,
) -> bool {
    if !seen.insert((done, state.to_owned())) {
        return false;
    }
    let left = || operations.iter().enumerate().filter(|(at, _)| done >> at & 1 == 0);
    let Some(first_end) = left().filter_map(|(_, operation)| operation.end).min() else {
        return true;
    };
    let mut go_on = |action, done| {
        after(history, action, state)
            .is_some_and(|state| extend_freely(history, operations, free, done, &state, seen))
    };
    left()
        .filter(|(_, operation)| operation.call < first_end)
        .any(|(at, operation)| go_on(operation.action, done | 1 << at))
        || free.iter().any(|(call, action)| *call < first_end && go_on(*action, done))
}
