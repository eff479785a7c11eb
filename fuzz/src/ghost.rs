//! What must be true of a whole cluster, known to nobody in it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use raft_core::{
    AppendResult, Entry, EntryId, Envelope, Incarnation, Index, Member, Membership, Payload, Raft,
    RoleName, Rpc, Status, Term,
};

use crate::disk::Disk;

/// The history of a group, as nobody in it can see it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ghost {
    leaders: BTreeMap<Term, Member>,
    votes: BTreeMap<(Term, Member), Member>,
    /// What each node has last spoken under.
    spoken: BTreeMap<Member, (Incarnation, Term)>,
    /// All entries that any node ever wrote.
    entries: BTreeMap<(Index, Term), Entry>,
    /// Each with the term in which a leader first counted it.
    committed: BTreeMap<Index, (EntryId, Term)>,
    /// Commands that a client was told are lost.
    lost: BTreeSet<Bytes>,
}

impl Ghost {
    /// A node leads. Election Safety (§5.2): at most one leader in a term. Leader Completeness
    /// (§5.4.3): a new one has all that was committed in earlier terms. Whether this is news.
    pub(crate) fn leads(&mut self, raft: &Raft) -> bool {
        let Status { term, member, base, .. } = raft.status();
        let known = self.leaders.len();
        let leader = *self.leaders.entry(term).or_insert(member);
        assert_eq!(leader, member, "{term} has two leaders");
        let is_new = self.leaders.len() > known;
        if is_new {
            for (id, _) in self.committed.values().filter(|(_, counted)| *counted < term) {
                let is_there = id.index < base.index || raft.entry_id(id.index) == Some(*id);
                assert!(is_there, "the leader of {term} has {id}");
            }
        }
        is_new
    }

    /// A node writes entries. Log Matching (§5.3): an index and a term name one entry, and with its
    /// chain all before it.
    pub(crate) fn writes(&mut self, entries: &[Entry]) {
        for entry in entries {
            let known = self.entries.entry((entry.index(), entry.term()));
            assert_eq!(known.or_insert_with(|| entry.clone()), entry, "one entry for each name");
        }
    }

    /// A node speaks: its terms and incarnations never fall, it votes once in a term however often
    /// it starts again, and what it promises is durable, the same as the receiver's own log.
    pub(crate) fn hears(&mut self, envelope: &Envelope, disk: &Disk, receiver: Option<&Raft>) {
        let Envelope { from, to, term, incarnation, .. } = *envelope;
        let last = self.spoken.entry(from).or_default();
        assert!(last.0 <= incarnation && last.1 <= term, "{envelope} after {last:?}");
        *last = (incarnation, term);
        let vote = match &envelope.rpc {
            Rpc::RequestVote { .. } => Some(from),
            Rpc::RequestVoteResponse { granted: true } => Some(to),
            Rpc::RequestVoteResponse { granted: false }
            | Rpc::RequestPreVote { .. }
            | Rpc::RequestPreVoteResponse { .. }
            | Rpc::AppendEntries { .. }
            | Rpc::AppendEntriesResponse { .. }
            | Rpc::Commit { .. }
            | Rpc::Heartbeat { .. }
            | Rpc::HeartbeatResponse { .. }
            | Rpc::InstallSnapshot { .. }
            | Rpc::InstallSnapshotResponse { .. }
            | Rpc::TimeoutNow
            | Rpc::ReadIndex { .. }
            | Rpc::ReadIndexResponse { .. }
            | Rpc::Repair(_) => None,
        };
        if let Some(candidate) = vote {
            let given = *self.votes.entry((term, from)).or_insert(candidate);
            assert_eq!(given, candidate, "{from} votes once in {term}");
        }
        check_claims(envelope, disk);
        if let Some(leader) = receiver {
            check_match(envelope, disk, leader);
        }
    }

    /// A node has moved. What it holds for committed is: a leader has counted it (§5.4.2), or some
    /// leader had before. `disk` gives the disk of a member.
    pub(crate) fn moved<'a>(
        &mut self,
        before: &Status,
        raft: &Raft,
        disk: impl Fn(Member) -> Option<&'a Disk>,
    ) {
        let after = raft.status();
        let is_same_life = after.incarnation == before.incarnation;
        assert!(!is_same_life || after.commit >= before.commit, "the commit index only rises");
        assert!(after.term >= before.term, "the term only rises");
        if after.commit == before.commit {
            return;
        }
        let id = raft.entry_id(after.commit).expect("the committed entry is in the log");
        // Who commits that it is removed leads no more.
        let has_led = before.role == RoleName::Leader && before.term == after.term;
        let is_leader = has_led || after.role == RoleName::Leader;
        if is_leader && self.last_committed() < after.commit {
            assert_eq!(id.term, after.term, "only an entry of its own term is counted");
            let holds = |member| disk(member).is_some_and(|disk: &Disk| disk.held(id));
            // Another membership may have come into force in the same step, just after.
            let memberships = [&before.membership, &after.membership];
            let is_held = memberships.into_iter().any(|membership| is_quorum(membership, holds));
            assert!(is_held, "{id} is committed without a quorum");
            let from = self.last_committed().next();
            for index in (from.0..=after.commit.0).map(Index) {
                let id = raft.entry_id(index).expect("a leader has what it commits");
                self.committed.insert(index, (id, after.term));
            }
        }
        let from = before.commit.next().max(after.base.index);
        for index in (from.0..=after.commit.0).map(Index).filter(|index| *index > Index::ZERO) {
            self.is_committed(raft.entry_id(index).expect("it lies between base and end"));
        }
    }

    /// State Machine Safety (§5.4.3): what is applied or acknowledged is committed, and nothing else
    /// ever is at its index.
    pub(crate) fn is_committed(&self, id: EntryId) {
        let committed = self.committed.get(&id.index).map(|(id, _)| *id);
        assert_eq!(committed, Some(id), "what is taken for committed is");
    }

    /// A client is told that its command is committed there, or an operator that a membership is.
    pub(crate) fn acknowledges(&self, term: Term, index: Index, command: Option<&Bytes>) {
        let id = self.committed.get(&index);
        assert_eq!(id.map(|(id, _)| id.term), Some(term), "an acknowledged entry is committed");
        let found = match self.entries[&(index, term)].payload() {
            Payload::Command(found) => Some(found),
            Payload::Membership(_) => None,
            Payload::Noop => panic!("nobody has asked for the entry at {index}"),
        };
        assert_eq!(found, command, "it is the client's own");
    }

    /// A client is told that its command certainly is not committed, and never will be.
    pub(crate) fn loses(&mut self, command: Bytes) {
        // Short commands are not told apart.
        if command.len() >= 2 {
            self.lost.insert(command);
        }
    }

    /// A new epoch: an operator has decided that what this node has is the history. What others
    /// have seen counts no more.
    pub(crate) fn begins_anew(&mut self, raft: &Raft) {
        let status = raft.status();
        let has =
            |id: &EntryId| id.index < status.base.index || raft.entry_id(id.index) == Some(*id);
        let committed = std::mem::take(&mut self.committed).into_iter();
        let committed = committed.filter(|(_, (id, _))| has(id)).collect();
        let entries = std::mem::take(&mut self.entries).into_iter();
        let entries = entries.filter(|(_, entry)| has(&entry.id())).collect();
        let spoken = std::mem::take(&mut self.spoken);
        *self = Self { committed, entries, spoken, ..Self::default() };
    }

    /// Whether the newest committed membership names a member.
    pub(crate) fn is_member(&self, member: Member) -> bool {
        let newest = self.committed.values().rev().find_map(|(id, _)| {
            match self.entries.get(&(id.index, id.term))?.payload() {
                Payload::Membership(membership) => Some(membership),
                Payload::Noop | Payload::Command(_) => None,
            }
        });
        newest.is_none_or(|membership| membership.is_member(member))
    }

    /// At the end: nothing is committed of which a client was told that it is not.
    pub(crate) fn check_losses(&self) {
        for (id, _) in self.committed.values() {
            // Genesis and what came with it was never written as an entry.
            let Some(entry) = self.entries.get(&(id.index, id.term)) else { continue };
            if let Payload::Command(command) = entry.payload() {
                assert!(!self.lost.contains(command), "{id} was said to be superseded");
            }
        }
    }

    /// The highest index that any leader committed.
    pub(crate) fn last_committed(&self) -> Index {
        self.committed.last_key_value().map_or(Index::ZERO, |(index, _)| *index)
    }
}

/// A majority of every half (§6), counted here once more.
fn is_quorum(membership: &Membership, holds: impl Fn(Member) -> bool) -> bool {
    let agrees =
        |half: &[Member]| half.iter().filter(|member| holds(**member)).count() * 2 > half.len();
    let outgoing = membership.outgoing();
    agrees(membership.incoming()) && (outgoing.is_empty() || agrees(outgoing))
}

/// A claim to match, made to the leader of the term, is true (Log Matching, §5.3).
fn check_match(envelope: &Envelope, disk: &Disk, leader: &Raft) {
    let Status { role, term, .. } = leader.status();
    let Rpc::AppendEntriesResponse { result: AppendResult::Matched { index }, .. } = envelope.rpc
    else {
        return;
    };
    // Who matches nothing promises nothing.
    if role == RoleName::Leader && term == envelope.term && index > Index::ZERO {
        let (mine, theirs) = (disk.id_at(index), leader.entry_id(index));
        // What lies below a base is told apart by nobody any more.
        if let (Some(mine), Some(theirs)) = (mine, theirs) {
            assert_eq!(mine, theirs, "the log that is said to match does: {envelope}");
        }
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
                let is_intact = disk.first_damaged().is_none_or(|damaged| *index < damaged);
                assert!(is_intact, "the entries acknowledged are intact: {envelope}");
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
        | Rpc::ReadIndexResponse { .. }
        | Rpc::Repair(_) => {}
    }
}
