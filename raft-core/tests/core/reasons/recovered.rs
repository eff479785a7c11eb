//! What a node does not start from.

use std::sync::Arc;

use raft_core::{
    Config, ConfigError, EntryId, Index, LIMIT, MembershipError, Payload, Raft, RecoverError,
    RecoveredState, Slot, SnapshotMeta, Term, Time,
};

use super::{impossible_membership, led, noops};
use crate::support::{config, membership};

/// What a disk gives, and the reason not to start from it.
pub(super) struct Case {
    config: Config,
    found: RecoveredState,
    pub(super) reason: RecoverError,
}

impl Case {
    pub(super) fn check(self) {
        let Self { config, found, reason } = self;
        assert_eq!(Raft::recover(config, found, Time(0)).err(), Some(reason));
    }
}

pub(super) fn cases() -> Vec<Case> {
    let intact = valid();
    assert!(Raft::recover(config(2), intact, Time(0)).is_ok(), "each case spoils a valid state");
    let options = Config { requests_max: 0, ..config(2) };
    let reason = RecoverError::Config(ConfigError::ZeroLimit { option: "requests_max" });
    let mut all = vec![Case { config: options, found: valid(), reason }];
    all.extend(of_the_log());
    all.extend(of_the_rest());
    all
}

/// A log of three entries, of which two are committed and one is applied.
fn valid() -> RecoveredState {
    let mut cluster = led();
    cluster.propose(1, 1, "x");
    cluster.propose(1, 2, "y");
    cluster.deliver();
    let mut found = cluster.server(2).disk.recovered();
    (found.commit, found.applied) = (Index(2), Index(1));
    assert_eq!(found.slots.len(), 3);
    found
}

fn spoilt(reason: RecoverError, spoil: impl FnOnce(&mut RecoveredState)) -> Case {
    let mut found = valid();
    spoil(&mut found);
    Case { config: config(2), found, reason }
}

fn of_the_log() -> Vec<Case> {
    let second = Index(2);
    let misses = RecoverError::LogMissesSnapshot;
    let (commit, last) = (Index(4), Index(3));
    vec![
        spoilt(RecoverError::NotConsecutive { index: second }, |found| drop(found.slots.remove(1))),
        spoilt(RecoverError::BrokenChain { index: second }, |found| {
            let id = found.slots[1].id();
            found.slots[1] = Slot::Resident { id, payload: Payload::Noop };
        }),
        // The log ends before the snapshot, begins after it, or passes it in another history.
        spoilt(misses, |found| snapshot_at(found, |last| EntryId { index: Index(9), ..last })),
        spoilt(misses, |found| found.before = found.slots.remove(0).id()),
        spoilt(misses, |found| {
            let other = noops(found.before, [1, 1])[1].id();
            snapshot_at(found, |_| other);
        }),
        spoilt(RecoverError::CommitBeyondLog { commit, last }, |found| found.commit = commit),
    ]
}

fn of_the_rest() -> Vec<Case> {
    let learner = RecoverError::Membership(MembershipError::LearnerIsVoter);
    let behind = RecoverError::TermBehindLog { term: Term(0), log: Term(1) };
    let (applied, commit) = (Index(3), Index(2));
    let mut founder = RecoveredState::genesis(membership(&[1, 2, 3], &[]));
    founder.slots = valid().slots;
    vec![
        Case { config: config(2), found: founder, reason: RecoverError::NotGenesis },
        spoilt(RecoverError::OutOfBounds, |found| found.hard_state.term = Term(LIMIT)),
        spoilt(learner, |found| {
            let snapshot =
                SnapshotMeta { membership: impossible_membership(), ..(*found.snapshot).clone() };
            found.snapshot = Arc::new(snapshot);
        }),
        spoilt(learner, |found| {
            let id = found.slots[1].id();
            let payload = Payload::Membership(Arc::new(impossible_membership()));
            found.slots[1] = Slot::Resident { id, payload };
        }),
        spoilt(behind, |found| found.hard_state.term = Term(0)),
        spoilt(RecoverError::AppliedBeyondCommit { applied, commit }, |found| {
            found.applied = applied;
        }),
    ]
}

fn snapshot_at(found: &mut RecoveredState, last: impl FnOnce(EntryId) -> EntryId) {
    let snapshot = SnapshotMeta { last: last(found.snapshot.last), ..(*found.snapshot).clone() };
    found.snapshot = Arc::new(snapshot);
}
