//! What must be true of a whole cluster, known to nobody in it.

use std::collections::BTreeMap;

use raft_core::{AppendResult, EntryId, Envelope, Index, Member, Rpc, Term};

use crate::disk::Disk;

/// The history of a group of voters, as nobody in it can see it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ghost {
    leaders: BTreeMap<Term, Member>,
    committed: BTreeMap<Index, EntryId>,
}

impl Ghost {
    /// A node leads. Election Safety (§5.2): at most one leader in a term. Whether this is news.
    pub(crate) fn leads(&mut self, term: Term, member: Member) -> bool {
        let known = self.leaders.len();
        let leader = *self.leaders.entry(term).or_insert(member);
        assert_eq!(leader, member, "{term} has two leaders");
        self.leaders.len() > known
    }

    /// An entry was applied or acknowledged somewhere. State Machine Safety (§5.4.3): no other
    /// one ever is at its index. A majority has it on disk.
    pub(crate) fn commits<'a>(&mut self, id: EntryId, disks: impl Iterator<Item = &'a Disk>) {
        let committed = *self.committed.entry(id.index).or_insert(id);
        assert_eq!(committed, id, "two entries are committed at {}", id.index);
        let (mut holders, mut all) = (0, 0);
        for disk in disks {
            all += 1;
            holders += usize::from(disk.holds(id));
        }
        assert!(holders * 2 > all, "{id} is committed, but only {holders} disks hold it");
    }

    /// The highest index that was applied or acknowledged anywhere.
    pub(crate) fn last_committed(&self) -> Index {
        self.committed.last_key_value().map_or(Index::ZERO, |(index, _)| *index)
    }
}

/// What a message claims is durable on its sender (the table of the durability gate).
pub(crate) fn check_claims(envelope: &Envelope, disk: &Disk) {
    let hard_state = disk.hard_state();
    assert!(hard_state.term >= envelope.term, "the term is durable: {envelope}");
    assert!(hard_state.incarnation >= envelope.incarnation, "the incarnation is: {envelope}");
    let is_present = hard_state.term == envelope.term;
    match &envelope.rpc {
        Rpc::RequestVote { last, is_forced: _ } => {
            let vote = hard_state.vote;
            assert!(!is_present || vote == Some(envelope.from), "its own vote: {envelope}");
            assert!(disk.holds(*last), "the log that it advertises: {envelope}");
        }
        Rpc::RequestVoteResponse { granted: true } => {
            let vote = hard_state.vote;
            assert!(!is_present || vote == Some(envelope.to), "the vote given: {envelope}");
        }
        Rpc::AppendEntriesResponse { result, .. } => {
            if let AppendResult::Matched { index } = result {
                assert!(*index <= disk.last().index, "the entries acknowledged: {envelope}");
            }
        }
        Rpc::RequestVoteResponse { granted: false }
        | Rpc::RequestPreVote { .. }
        | Rpc::RequestPreVoteResponse { .. }
        | Rpc::AppendEntries { .. }
        | Rpc::Commit { .. }
        | Rpc::Heartbeat { .. }
        | Rpc::HeartbeatResponse { .. }
        | Rpc::InstallSnapshot { .. }
        | Rpc::InstallSnapshotResponse { .. }
        | Rpc::TimeoutNow
        | Rpc::ReadIndex { .. }
        | Rpc::ReadIndexResponse { .. } => {}
    }
}
