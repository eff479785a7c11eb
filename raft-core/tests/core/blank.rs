//! A node that was given nothing: no history, not even the founders' membership.

use std::sync::Arc;

use bytes::Bytes;
use raft_core::{
    Body, Chain, ChunkId, ClusterId, Effect, EntryId, Envelope, Epoch, GroupId, Incarnation, Index,
    Membership, Message, PersistSeq, Raft, RecoveredState, Round, Rpc, Session, SnapshotMeta, Term,
    Time,
};

use crate::support::{config, member, membership};

/// A node that was given nothing claims no match before the first history that it is given is
/// durable: not of the genesis itself, and not of what a later snapshot has in common with nothing.
#[test]
fn a_blank_node_matches_nothing_before_its_first_history_is_durable() {
    let blank = RecoveredState::genesis(Membership::default());
    let genesis = RecoveredState::genesis(membership(&[1, 2, 3], &[])).snapshot;
    let chain = Chain(7);
    let last = EntryId { index: Index(5), term: Term(1), chain };
    let later = Arc::new(SnapshotMeta { last, membership: genesis.membership.clone() });
    for snapshot in [genesis, later] {
        let (mut raft, _) = Raft::recover(config(4), blank.clone(), Time(0)).unwrap();
        let mut step = |body| raft.step(Message { now: Time(1), body });
        let sent =
            |effects: &[Effect]| effects.iter().filter(|e| matches!(e, Effect::Send(_))).count();
        let rpc = Rpc::InstallSnapshot {
            session: Session(1),
            round: Round(1),
            snapshot: Arc::clone(&snapshot),
            offset: 0,
            data: Bytes::new(),
            done: true,
        };
        let mut effects = step(Body::Peer(Envelope {
            cluster: ClusterId(7),
            group: GroupId(1),
            from: member(1),
            to: member(4),
            epoch: Epoch(0),
            incarnation: Incarnation(1),
            term: Term(1),
            rpc,
        }));
        if snapshot.last.index > Index::ZERO {
            let id = ChunkId { incarnation: Incarnation(1), n: 1 };
            effects.extend(step(Body::ChunkStaged { id, staged: 0 }));
        }
        assert_eq!(sent(&effects), 0, "{effects:?}");
        let persists = effects.iter().filter_map(|effect| {
            let Effect::Persist(batch) = effect else { return None };
            Some(batch)
        });
        let install = persists.last().expect("the snapshot is installed");
        assert_eq!(install.install.as_ref(), Some(&snapshot));
        let PersistSeq { incarnation, n } = install.seq;
        let before = step(Body::Persisted { seq: PersistSeq { incarnation, n: n - 1 } });
        assert_eq!(sent(&before), 0, "{before:?}");
        let after = step(Body::Persisted { seq: install.seq });
        assert_eq!(sent(&after), 1, "{after:?}");
    }
}
