//! Random workloads, each crashed in random places, again and again: the node lives on with what
//! it found. The same seeds everywhere, so a failure is found again by its number.

use raft_core::{EntryId, Index, Term};

use crate::crash::{Rng, fates, formatted, open, reopen};
use crate::model::{Durable, Script, entries};

/// Adds a random piece of work that a core could ask for.
fn random_work(script: &mut Script, rng: &mut Rng) {
    let state = script.now().clone();
    let (last, term) = (state.last().index.0, state.hard_state.term.0);
    let first = state.snapshot.unwrap().index.0 + 1;
    match rng.below(12) {
        0..=4 => {
            let sizes: Vec<usize> = (0..=rng.below(6)).map(|_| size(rng)).collect();
            script.append(&sizes);
        }
        5 => {
            script.term(term + 1, Some(1 + rng.below(3)).filter(|id| *id < 3));
        }
        6 => {
            // What is committed is never truncated.
            let from = script.committed().0.max(first - 1) + 1;
            if from <= last {
                let sizes: Vec<usize> = (0..rng.below(5)).map(|_| size(rng)).collect();
                script.term(term + 1, None).rewrite(from + rng.below(last + 1 - from), &sizes);
            }
        }
        7 => {
            script.membership(4 + rng.below(9));
        }
        8 if last >= first => {
            script.sync().commit(first + rng.below(last + 1 - first));
        }
        9 if script.committed().0 >= first => {
            let through = first + rng.below(script.committed().0 + 1 - first);
            let length = rng.below(3000);
            script.snapshot(through, &vec![7; usize::try_from(length).unwrap()]);
        }
        10 => {
            let before = EntryId { index: Index(last + rng.below(20)), ..EntryId::default() };
            let elsewhere =
                entries(before, Term(term), &[usize::try_from(rng.next() >> 50).unwrap()]);
            script.receive(elsewhere[0].id(), &[6; 1500], 700).commit(before.index.0 + 1);
        }
        _ => {
            script.sync();
        }
    }
}

/// Mostly small, sometimes larger than a page or a segment.
fn size(rng: &mut Rng) -> usize {
    let max = [1, 40, 40, 700, 700, 5000, 12_000][usize::try_from(rng.below(7)).unwrap()];
    usize::try_from(rng.below(max)).unwrap()
}

#[test]
fn a_node_lives_on_through_many_crashes() {
    let (mut crashes, mut losses, mut truncations, mut installs) = (0, 0, 0, 0);
    for seed in 0..150 {
        let mut rng = Rng(seed);
        let disk = formatted();
        let mut storage = open(&disk).unwrap().0;
        Script::founding().run(&mut storage).unwrap();
        let (mut state, mut commit) = (Script::founding().now().clone(), 0);
        for life in 0..12 {
            let context = format!("seed {seed}, life {life}");
            let mut script = Script::new(state.clone());
            script.commit(commit);
            for _ in 0..3 + rng.below(12) {
                random_work(&mut script, &mut rng);
            }
            let before = disk.calls();
            disk.crash_at(1 + rng.below(100));
            let allowed = match script.run(&mut storage) {
                Err((step, _)) if disk.is_down() => script.allowed(step).to_vec(),
                Err((step, error)) => panic!("{context}, step {step}: {error}"),
                Ok(()) => vec![script.now().clone()],
            };
            // Without a last sync, what was accepted may go.
            let allowed = if disk.is_down() { allowed } else { script.unconfirmed().to_vec() };
            crashes += u64::from(disk.calls() > before);
            disk.crash(fates(rng.below(10), &mut rng));
            if rng.below(3) == 0 {
                disk.crash_at(1 + rng.below(30));
                drop(open(&disk));
                disk.crash(fates(rng.below(10), &mut rng));
            }
            let (reopened, found) = reopen(&disk, &allowed, script.now(), &context);
            (storage, commit) = (reopened, found.commit.0);
            let found = Durable::found(&mut storage, &found);
            losses += u64::from(Some(&found) != allowed.last());
            truncations += u64::from(found.last().index < state.last().index);
            installs += u64::from(found.snapshot != state.snapshot);
            state = found;
        }
    }
    let all = [crashes, losses, truncations, installs];
    assert!(crashes > 1500 && losses > 300 && truncations > 50 && installs > 200, "{all:?}");
}
