//! Peers played by hand: what they say to one server, and what it answers.

use bytes::Bytes;
use raft_core::{
    AppendResult, Body, Entries, EntryId, Envelope, Index, Payload, RoleName, Round, Rpc, Session,
    Span, Term,
};

use crate::support::{Cluster, member};

/// A cluster in which candidates ask for votes at once, as in the paper: without pre-vote.
pub(crate) fn plain(voters: &[u64]) -> Cluster {
    Cluster::with(voters, &[], |config| {
        config.pre_vote = false;
        config.check_quorum = false;
    })
}

/// Delivers a message as `from` would send it in `term`, and returns what the receiver sends then.
pub(crate) fn say(cluster: &mut Cluster, from: u64, to: u64, term: u64, rpc: Rpc) -> Vec<Envelope> {
    let config = &cluster.server(to).config;
    let envelope = Envelope {
        cluster: config.cluster,
        group: config.group,
        from: member(from),
        to: member(to),
        epoch: cluster.status(to).epoch,
        incarnation: raft_core::Incarnation(1),
        term: Term(term),
        rpc,
    };
    cluster.step(to, Body::Peer(envelope));
    sent_by(cluster, to)
}

/// What a server has sent and nobody has received yet.
pub(crate) fn sent_by(cluster: &mut Cluster, id: u64) -> Vec<Envelope> {
    cluster.take(|sent| sent.from == member(id))
}

/// The answer to a leader's message, as its receiver would give it.
pub(crate) fn answer(cluster: &mut Cluster, to: &Envelope, result: AppendResult) -> Vec<Envelope> {
    let (Rpc::AppendEntries { session, round, .. } | Rpc::Heartbeat { session, round, .. }) =
        to.rpc
    else {
        panic!("{to} is not answered like this")
    };
    let rpc = Rpc::AppendEntriesResponse { session, round, result };
    say(cluster, to.to.id.0, to.from.id.0, to.term.0, rpc)
}

pub(crate) fn matched(index: u64) -> AppendResult {
    AppendResult::Matched { index: Index(index) }
}

pub(crate) fn append(prev: EntryId, entries: Entries, commit: u64) -> Rpc {
    let (session, round, commit) = (Session(1), Round(0), Index(commit));
    Rpc::AppendEntries { session, round, prev, entries, commit }
}

pub(crate) fn heartbeat(commit: u64) -> Rpc {
    leased(commit, Span(0))
}

/// A heartbeat that asks to elect no other leader for a while.
pub(crate) fn leased(commit: u64, lease: Span) -> Rpc {
    Rpc::Heartbeat { session: Session(1), round: Round(0), commit: Index(commit), lease }
}

/// An ordinary request for a vote, for a log that ends with `last`.
pub(crate) fn request(last: EntryId) -> Rpc {
    Rpc::RequestVote { last, is_forced: false }
}

pub(crate) fn grant() -> Rpc {
    Rpc::RequestVoteResponse { granted: true }
}

/// The entry before the first one, the same on all founders.
pub(crate) fn genesis(cluster: &Cluster) -> EntryId {
    let (_, server) = cluster.servers.first_key_value().expect("a cluster has servers");
    server.disk.snapshot.last
}

/// A log whose entries were made in these terms. Equal terms give equal entries.
pub(crate) fn log(cluster: &Cluster, terms: &[u64]) -> Entries {
    let command = |(offset, term): (usize, &u64)| {
        let text = format!("{}@{term}", offset + 1);
        (Term(*term), Payload::Command(Bytes::from(text)))
    };
    Entries::after(genesis(cluster), terms.iter().enumerate().map(command))
}

/// The identity of the last entry of such a log.
pub(crate) fn end(cluster: &Cluster, terms: &[u64]) -> EntryId {
    log(cluster, terms).last().map_or(genesis(cluster), raft_core::Entry::id)
}

/// A server starts anew from a disk with this term and a log made in these terms.
pub(crate) fn found(cluster: &mut Cluster, id: u64, term: u64, terms: &[u64]) {
    let entries = log(cluster, terms).to_vec();
    let server = cluster.servers.get_mut(&id).expect("a server of the cluster");
    server.disk.hard_state.term = Term(term);
    server.disk.log = entries;
    cluster.crash(id);
    cluster.network.retain(|sent| sent.from != member(id));
}

/// The terms of a server's log, as its disk has it.
pub(crate) fn terms(cluster: &Cluster, id: u64) -> Vec<u64> {
    cluster.server(id).disk.log.iter().map(|entry| entry.term().0).collect()
}

/// A server wins the next election with real votes, and everyone has its no-op.
pub(crate) fn lead(cluster: &mut Cluster, id: u64) {
    cluster.elect(id);
    assert_eq!(cluster.status(id).role, RoleName::Leader);
}

/// A server wins with these voters' grants, played by hand; returns what it sends as a leader.
pub(crate) fn lead_with(cluster: &mut Cluster, id: u64, voters: &[u64]) -> Vec<Envelope> {
    cluster.step(id, Body::Campaign);
    let term = cluster.status(id).term.0;
    cluster.network.clear();
    let mut sent = Vec::new();
    for voter in voters {
        sent.extend(say(cluster, *voter, id, term, grant()));
    }
    assert_eq!(cluster.status(id).role, RoleName::Leader);
    sent
}

/// The message among these that goes to `to`.
pub(crate) fn to(sent: &[Envelope], to: u64) -> &Envelope {
    sent.iter().find(|envelope| envelope.to == member(to)).expect("something is sent to it")
}

/// The one answer in these messages.
pub(crate) fn one(sent: &[Envelope]) -> &Rpc {
    assert_eq!(sent.len(), 1, "one answer and nothing else: {sent:?}");
    &sent[0].rpc
}

/// What an append's receiver says of it.
pub(crate) fn result(sent: &[Envelope]) -> AppendResult {
    let answer = one(sent);
    let Rpc::AppendEntriesResponse { result, .. } = answer else {
        panic!("{answer} answers no append")
    };
    *result
}
