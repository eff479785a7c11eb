//! What a start must still find, or say that it does not find, on a disk that a wound has hurt.

use raft_core::Index;
use raft_replica::storage::Inspection;

use crate::check::{Invariant, Violation};

/// Whether a start finds all that was promised after one sector of `file` was lost, on a disk that had
/// lost nothing: who it is, what it has voted for, and no more of the log than a doubt about its end.
/// Identity, hard state and manifests are there twice, so of them nothing is missed at all.
pub(super) fn survives(
    before: &Inspection,
    after: Option<&Inspection>,
    file: &str,
) -> Result<(), Violation> {
    let broken = |actual: String| {
        let Inspection { identity, hard_state, last, .. } = before;
        let predicted = format!(
            "a sector of {file} is lost, and everything is there once more: {identity}, [{hard_state}], \
             {} and the log through {last}",
            covers(before)
        );
        Violation::new(Invariant::Recovery, predicted, actual)
    };
    let Some(after) = after else {
        return Err(broken("a start finds too little to begin with".to_owned()));
    };
    let Inspection { identity, hard_state, last, .. } = after;
    let is_kept_twice = !file.starts_with("wal/");
    let promises = |found: &Inspection| (found.identity, found.hard_state, found.generation);
    let is_whole = !is_kept_twice || (*last == before.last && !after.is_tail_unknown);
    let is_same = promises(before) == promises(after) && before.snapshots == after.snapshots;
    if is_same && last.index <= before.last.index && is_whole {
        return Ok(());
    }
    let snapshots = covers(after);
    let found = format!("{identity}, [{hard_state}], {snapshots} and the log through {last}");
    Err(broken(format!("a start finds {found}")))
}

/// The snapshots, in words.
fn covers(found: &Inspection) -> String {
    let through: Vec<String> = found.snapshots.iter().map(|one| one.last.to_string()).collect();
    format!("snapshots through {}", through.join(" and "))
}

/// Whether a start says so that finds less of the log than was vouched for, on a disk that had all of
/// that.
pub(super) fn admits(
    vouched: Index,
    before: &Inspection,
    after: &Inspection,
) -> Result<(), Violation> {
    let (had, left) = (before.last.index, after.last.index.max(covered(after)));
    if vouched > had || vouched <= left || after.is_tail_unknown {
        return Ok(());
    }
    let predicted = format!("the log was durable through {vouched}: a start misses the rest");
    let actual = format!("a start finds the log through {left}, and takes that for all of it");
    Err(Violation::new(Invariant::Recovery, predicted, actual))
}

/// Through where a snapshot covers the log: a log that ends before it is one that it is about to replace.
pub(super) fn covered(found: &Inspection) -> Index {
    found.snapshots.iter().map(|one| one.last.index).max().unwrap_or_default()
}

/// Whether a start says so that finds less of the log than all before its last batch, after one
/// sector was lost, and the slots of the last segment perhaps: of every other batch there is a
/// later one left to tell. Or less than what the disk was `told` at rest to have been acknowledged:
/// the hard state vouches for that.
pub(super) fn is_missed(
    told: Index,
    before: &Inspection,
    after: &Inspection,
) -> Result<(), Violation> {
    let left = after.last.index.max(covered(before));
    let end = before.last_batch.max(told.next());
    // Where something has been lost before, two losses may have met.
    if !before.report.is_clean() || left.next() >= end || after.is_tail_unknown {
        return Ok(());
    }
    let predicted = if end > before.last_batch {
        format!("at rest its disk was told that {told} was acknowledged: a start misses none of it")
    } else {
        format!("a batch from {end} on follows: a start misses what is between")
    };
    let actual = format!("a start finds the log through {left}, and takes that for all of it");
    Err(Violation::new(Invariant::Recovery, predicted, actual))
}

#[cfg(test)]
mod tests {
    use raft_core::EntryId;

    use super::super::tests::at_rest;
    use super::*;

    #[test]
    fn what_a_later_batch_follows_is_missed() {
        let world = at_rest();
        let before = world.inspect(0).expect("it can be read");
        let cut = |index: Index, is_tail_unknown: bool| Inspection {
            last: EntryId { index, ..before.last },
            is_tail_unknown,
            ..before.clone()
        };
        assert!(before.report.is_clean() && before.last_batch.0 > 2, "{before}");
        let whole = before.last_batch.prev();
        let judge = |told, before: &_, after: &_| is_missed(Index(told), before, after);
        assert_eq!(judge(0, &before, &cut(whole, false)), Ok(()));
        assert_eq!(judge(0, &before, &cut(whole.prev(), true)), Ok(()));
        let broken = judge(0, &before, &cut(whole.prev(), false)).expect_err("it is broken");
        assert_eq!(broken.invariant, Invariant::Recovery);
        let mut covered = before.clone();
        let snapshot = covered.snapshots.last_mut().expect("there is the founders' at least");
        snapshot.last = before.last;
        assert_eq!(judge(0, &covered, &cut(whole.prev(), false)), Ok(()));
        // What was told at rest is missed as well, be it of the last batch.
        let last = before.last.index;
        assert_eq!(judge(last.0, &before, &before), Ok(()));
        assert_eq!(judge(whole.0, &before, &cut(whole, false)), Ok(()));
        assert_eq!(judge(last.0, &before, &cut(last.prev(), true)), Ok(()));
        let broken = judge(last.0, &before, &cut(last.prev(), false)).expect_err("it is broken");
        assert!(broken.predicted.contains("at rest"), "{}", broken.predicted);
    }

    #[test]
    fn one_sector_never_costs_a_promise_and_who_says_so_is_wrong() {
        let world = at_rest();
        let before = world.inspect(0).expect("it can be read");
        assert_eq!(survives(&before, Some(&before), "hs.a"), Ok(()));
        let broken = |after: Option<&Inspection>, file: &str| {
            survives(&before, after, file).expect_err("it is broken").invariant
        };
        assert_eq!(broken(None, "hs.a"), Invariant::Recovery);
        assert_eq!(broken(None, "wal/seg"), Invariant::Recovery);
        let mut older = before.clone();
        older.hard_state.vote = None;
        assert_eq!(broken(Some(&older), "hs.b"), Invariant::Recovery);
        let mut unknown = before.clone();
        unknown.is_tail_unknown = true;
        assert_eq!(broken(Some(&unknown), "hs.a"), Invariant::Recovery);
        let mut uncovered = before.clone();
        uncovered.snapshots.pop();
        assert_eq!(broken(Some(&uncovered), "snap/0-0.manifest2"), Invariant::Recovery);
        assert_eq!(survives(&before, Some(&unknown), "wal/seg"), Ok(()));
    }

    #[test]
    fn who_has_lost_the_vouched_end_of_its_log_says_so() {
        let before = at_rest().inspect(0).expect("it can be read");
        let last = before.last.index;
        let mut after = before.clone();
        assert_eq!(admits(last, &before, &after), Ok(()));
        after.last.index.0 -= 1;
        let broken = admits(last, &before, &after).expect_err("it does not say so");
        assert_eq!(broken.invariant, Invariant::Recovery);
        // Nobody has vouched for the last entry, or it was not there before either.
        let fits = |vouched| admits(vouched, &before, &after).is_ok();
        assert!(fits(after.last.index) && fits(last.next()));
        // Of what a snapshot covers the log is not asked.
        let mut covered = after.clone();
        let snapshot = covered.snapshots.last_mut().expect("there is the founders' at least");
        snapshot.last = before.last;
        assert_eq!(admits(last, &before, &covered), Ok(()));
        after.is_tail_unknown = true;
        assert_eq!(admits(last, &before, &after), Ok(()));
    }
}
