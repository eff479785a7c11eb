//! Evidence that an assumption of the protocol is broken.

use std::sync::Arc;

use bytes::Bytes;
use raft_core::{
    AppendResult, Body, Effect, Entries, Envelope, Index, Observation, Raft, Round, Rpc,
    SnapshotMeta, Term, Time, Violation,
};

use super::refused::stream;
use super::{append, led, noops, raft, says, step};
use crate::support::{member, membership};

/// A message that cannot be, where nobody lies.
pub(super) struct Case {
    raft: Raft,
    now: Time,
    envelope: Envelope,
    pub(super) violation: Violation,
}

impl Case {
    /// It is seen, and what the node holds is left as it was.
    pub(super) fn check(self) {
        let Self { mut raft, now, envelope, violation } = self;
        let before = raft.status();
        let effects = step(&mut raft, now, Body::Peer(envelope));
        let seen = effects.contains(&Effect::Observe(Observation::Violation(violation)));
        assert!(seen, "{violation:?}: {effects:?}");
        let after = raft.status();
        assert_eq!((after.last, after.commit), (before.last, before.commit), "{violation:?}");
        let writes = |effect: &&Effect| {
            let Effect::Persist(batch) = effect else { return false };
            !batch.append.is_empty() || batch.truncate_from.is_some() || batch.install.is_some()
        };
        assert_eq!(effects.iter().find(writes), None, "{violation:?}");
    }
}

pub(super) fn cases() -> Vec<Case> {
    let mut cluster = led();
    let base = cluster.status(2).base;
    // The second entry is not committed yet.
    cluster.propose(1, 1, "x");
    cluster.deliver_if(|sent| sent.to == member(2));
    let (commit, last) = (cluster.status(2).commit, cluster.status(2).last);
    assert_eq!((commit, last.index), (Index(1), Index(2)));
    let first = raft(&cluster, 2).entry_id(Index(1)).expect("it has the first entry");
    let at = |id, envelope, violation| Case {
        raft: raft(&cluster, id),
        now: cluster.now,
        envelope,
        violation,
    };
    let (other, index) = (noops(first, [1]), Index(2));
    let (mine, theirs) = (last.chain, other[0].chain());
    assert_ne!(mine, theirs);
    let two = Violation::TwoLeaders { term: Term(1), known: member(1), other: member(3) };
    let result = AppendResult::Diverged { index };
    let (session, round) = (stream(&cluster, 2), Round(0));
    let diverged = Rpc::AppendEntriesResponse { session, round, result };
    let snapshot = Arc::new(SnapshotMeta { last: first, membership: membership(&[1, 3], &[]) });
    let (offset, data, done) = (0, Bytes::new(), true);
    let other_members = Rpc::InstallSnapshot { session, round, snapshot, offset, data, done };
    vec![
        at(
            2,
            says(1, 2, 1, append(first, other)),
            Violation::ChainMismatch { index, mine, theirs },
        ),
        at(
            2,
            says(3, 2, 2, append(base, noops(base, [2]))),
            Violation::CommittedConflict { index: Index(1), commit },
        ),
        at(1, says(2, 1, 1, diverged), Violation::PeerDiverged { peer: member(2), index }),
        at(2, says(3, 2, 1, append(last, Entries::empty())), two),
        at(2, says(1, 2, 1, other_members), Violation::MembershipMismatch { index: first.index }),
    ]
}

/// A peer whose history contradicts its leader's is sent nothing any more but signs of life.
#[test]
fn nothing_is_replicated_to_a_peer_that_has_diverged() {
    let mut cluster = led();
    let index = cluster.status(2).last.index;
    let (session, round) = (stream(&cluster, 2), Round(0));
    let result = AppendResult::Diverged { index };
    let diverged = Rpc::AppendEntriesResponse { session, round, result };
    cluster.step(1, Body::Peer(says(2, 1, 1, diverged)));
    cluster.propose(1, 1, "x");
    cluster.tick(1, 100);
    let to_second = cluster.take(|sent| sent.to == member(2));
    assert!(!to_second.is_empty());
    let is_heartbeat = |sent: &Envelope| matches!(sent.rpc, Rpc::Heartbeat { .. });
    assert!(to_second.iter().all(is_heartbeat), "{to_second:?}");
}
