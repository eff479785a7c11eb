//! Log replication beyond the paper: durability, chains, sessions, limits, tickets. The paper's own
//! rules are in `tests/paper`.

use bytes::Bytes;
use raft_core::{
    AppendResult, Body, Chain, Entries, EntryId, Envelope, Index, Outcome, Payload, Refused,
    Rejection, Round, Rpc, RpcKind, Session, Term, Ticket, Time, Violation,
};

use crate::support::{Cluster, member};

fn genesis(cluster: &Cluster) -> EntryId {
    cluster.server(1).disk.snapshot.last
}

/// Entries of these terms after `before`; commands name their index and term.
fn entries(before: EntryId, terms: &[u64]) -> Entries {
    let first = before.index.0 + 1;
    Entries::after(
        before,
        terms.iter().enumerate().map(|(offset, term)| {
            let command = format!("{}@{term}", first + offset as u64);
            (Term(*term), Payload::Command(Bytes::from(command)))
        }),
    )
}

/// An append from n1, as the leader of `term`.
fn append(
    cluster: &Cluster,
    to: u64,
    term: u64,
    prev: EntryId,
    entries: Entries,
    commit: u64,
) -> Body {
    let config = &cluster.server(1).config;
    let status = cluster.status(1);
    Body::Peer(Envelope {
        cluster: config.cluster,
        group: config.group,
        from: member(1),
        to: member(to),
        epoch: status.epoch,
        incarnation: status.incarnation,
        term: Term(term),
        rpc: Rpc::AppendEntries {
            session: Session(1),
            round: Round(0),
            prev,
            entries,
            commit: Index(commit),
        },
    })
}

fn results(cluster: &mut Cluster) -> Vec<AppendResult> {
    let sent = cluster.take(|_| true);
    sent.into_iter()
        .filter_map(|envelope| {
            let Rpc::AppendEntriesResponse { result, .. } = envelope.rpc else { return None };
            Some(result)
        })
        .collect()
}

/// An acknowledgement claims what is durable, grows with it, and a later append does not hold
/// back the one before.
#[test]
fn an_acknowledgement_claims_only_what_is_durable() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    let start = genesis(&cluster);
    let all = entries(start, &[1, 1]);
    cluster.is_disk_immediate = false;
    let message = append(&cluster, 2, 1, start, all.slice(Index(1), Index(2)), 0);
    cluster.step(2, message);
    let first = cluster.server(2).unsynced.last().expect("the append is to be written").seq;
    let message = append(&cluster, 2, 1, all[0].id(), all.slice(Index(2), Index(3)), 0);
    cluster.step(2, message);
    assert!(results(&mut cluster).is_empty(), "nothing is durable yet");
    // A duplicate adds nothing, and still may not be acknowledged before the disk has the entries.
    let message = append(&cluster, 2, 1, start, all, 0);
    cluster.step(2, message);
    assert!(results(&mut cluster).is_empty());
    cluster.step(2, Body::Persisted { seq: first });
    assert_eq!(results(&mut cluster), [AppendResult::Matched { index: Index(1) }]);
    cluster.sync(2);
    assert_eq!(results(&mut cluster), [AppendResult::Matched { index: Index(2) }]);
}

/// ABA: the completion of a batch whose entries were truncated since says nothing about the
/// entries that have taken their place.
#[test]
fn a_completion_of_truncated_entries_does_not_cover_their_successors() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    let start = genesis(&cluster);
    cluster.is_disk_immediate = false;
    let message = append(&cluster, 2, 1, start, entries(start, &[1, 1]), 0);
    cluster.step(2, message);
    let first = cluster.server(2).unsynced.last().expect("the append is to be written").seq;
    let message = append(&cluster, 2, 2, start, entries(start, &[2, 2]), 0);
    cluster.step(2, message);
    cluster.step(2, Body::Persisted { seq: first });
    assert!(results(&mut cluster).is_empty());
    assert_eq!(cluster.status(2).durable, Index(0));
    cluster.sync(2);
    assert_eq!(results(&mut cluster), [AppendResult::Matched { index: Index(2) }]);
}

/// The same where even the term comes back: a third leader puts back what the second had replaced, and
/// the completion of the first write finds the very entries that it speaks of in the log. What is on its
/// way to the disk takes them away again before it brings them back (etcd-io/raft
/// `newStorageAppendRespMsg`).
#[test]
fn etcd_async_append_of_the_same_entry_again() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    let start = genesis(&cluster);
    cluster.is_disk_immediate = false;
    let mut seqs = Vec::new();
    for (leader, terms) in [(1, &[1, 1][..]), (2, &[2, 2]), (3, &[1, 1, 3])] {
        let message = append(&cluster, 2, leader, start, entries(start, terms), 0);
        cluster.step(2, message);
        seqs.push(cluster.server(2).unsynced.last().expect("there is something to write").seq);
    }
    for seq in [seqs[0], seqs[1]] {
        cluster.step(2, Body::Persisted { seq });
        assert!(results(&mut cluster).is_empty(), "nothing is claimed that {seq} is not about");
        assert_eq!(cluster.status(2).durable, Index(0));
    }
    cluster.sync(2);
    assert_eq!(results(&mut cluster), [AppendResult::Matched { index: Index(3) }]);
}

/// Equal index and term with another chain is a broken assumption, not a conflict to resolve.
#[test]
fn two_histories_with_one_identity_are_reported_and_not_merged() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    let start = genesis(&cluster);
    let mine = Entries::after(start, [(Term(1), Payload::Command(Bytes::from_static(b"mine")))]);
    let theirs = Entries::after(start, [(Term(1), Payload::Noop)]);
    let message = append(&cluster, 2, 1, start, mine.clone(), 0);
    cluster.step(2, message);
    let message = append(&cluster, 2, 1, start, theirs.clone(), 1);
    cluster.step(2, message);
    let expected = Violation::ChainMismatch {
        index: Index(1),
        mine: mine[0].chain(),
        theirs: theirs[0].chain(),
    };
    assert_eq!(cluster.violations(2), [expected]);
    assert_eq!(results(&mut cluster)[1], AppendResult::Diverged { index: Index(1) });
    assert_eq!(cluster.status(2).commit, Index(0));
}

/// What is committed here is never replaced, whoever asks.
#[test]
fn a_conflict_with_what_is_committed_is_a_violation() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    let start = genesis(&cluster);
    let message = append(&cluster, 2, 1, start, entries(start, &[1]), 1);
    cluster.step(2, message);
    let message = append(&cluster, 2, 2, start, entries(start, &[2]), 0);
    cluster.step(2, message);
    let expected = Violation::CommittedConflict { index: Index(1), commit: Index(1) };
    assert_eq!(cluster.violations(2), [expected]);
    assert_eq!(cluster.log_of(2), [(Term(1), Index(1))]);
}

/// Entries whose chain does not start where the message says are refused whole.
#[test]
fn a_broken_chain_is_refused() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    let start = genesis(&cluster);
    let elsewhere = EntryId { chain: Chain(1), ..start };
    let message = append(&cluster, 2, 1, start, entries(elsewhere, &[1]), 0);
    cluster.step(2, message);
    assert_eq!(cluster.refusals(2), [Refused::BrokenChain]);
    assert!(cluster.log_of(2).is_empty());
}

/// One leader, one stream: what an earlier stream or an earlier life answers does not count.
#[test]
fn answers_of_another_session_or_incarnation_do_not_count() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    cluster.elect(1);
    cluster.propose(1, 1, "x");
    let mut delayed = Vec::new();
    cluster.deliver_if(|sent| {
        if sent.to == member(1) {
            delayed.push(sent.clone());
        }
        sent.to == member(2)
    });
    assert!(!delayed.is_empty());
    cluster.crash(2);
    cluster.tick(1, 100);
    cluster.deliver_if(|sent| sent.from != member(3) && sent.to != member(3));
    let commit = cluster.status(1).commit;
    for envelope in delayed {
        if envelope.to == member(1) {
            cluster.step(1, Body::Peer(envelope));
        }
    }
    assert_eq!(cluster.status(1).commit, commit);
    assert!(
        cluster.refusals(1).iter().any(|reason| matches!(reason, Refused::StaleIncarnation { .. }))
    );
}

/// A peer cannot acknowledge what the leader does not have.
#[test]
fn a_match_beyond_the_log_is_refused() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    cluster.elect(1);
    cluster.propose(1, 1, "x");
    let mut answers = Vec::new();
    cluster.deliver_if(|sent| {
        if sent.to == member(1) {
            answers.push(sent.clone());
        }
        sent.to != member(1)
    });
    let mut answer = answers.pop().expect("somebody has answered");
    if let Rpc::AppendEntriesResponse { result, .. } = &mut answer.rpc {
        *result = AppendResult::Matched { index: Index(99) };
    }
    cluster.step(1, Body::Peer(answer));
    assert_eq!(cluster.status(1).commit, Index(1));
    assert_eq!(cluster.refusals(1).last(), Some(&Refused::Impossible));
}

/// Limits refuse, they do not drop; an empty quota always admits one proposal.
#[test]
fn limits_refuse_with_their_reason() {
    let mut cluster = Cluster::with(&[1, 2, 3], &[], |config| {
        config.uncommitted_bytes_max = 4;
        config.command_bytes_max = 16;
    });
    cluster.elect(1);
    cluster.propose(1, 1, "longer than the quota");
    cluster.propose(1, 2, "within");
    cluster.propose(1, 3, "y");
    let refused = |reason| Some(&Outcome::Refused(reason)).copied();
    let outcomes = cluster.server(1).outcomes.clone();
    assert_eq!(outcomes.get(&Ticket(1)).copied(), refused(Rejection::TooLarge));
    assert_eq!(outcomes.get(&Ticket(3)).copied(), refused(Rejection::Busy));
    cluster.propose(2, 4, "x");
    let hint = Some(member(1));
    let outcome = cluster.server(2).outcomes[&Ticket(4)];
    assert_eq!(outcome, Outcome::Refused(Rejection::NotLeader { hint }));
    cluster.deliver();
    let committed = cluster.server(1).outcomes[&Ticket(2)];
    assert!(matches!(committed, Outcome::Committed { .. }));
}

/// A truncated proposal is not known to be lost until another entry is committed in its place.
#[test]
fn a_truncated_proposal_ends_when_its_index_is_committed() {
    let mut cluster = Cluster::with(&[1, 2, 3], &[], |config| config.pre_vote = false);
    cluster.elect(1);
    cluster.propose(1, 1, "lost");
    cluster.network.clear();
    cluster.now = Time(cluster.now.0 + 1_000);
    cluster.step(2, Body::Campaign);
    // n1 hears of the new leader's no-op, which nobody else has yet.
    cluster.deliver_if(|sent| {
        let answers = sent.from == member(1) && sent.rpc.kind() == RpcKind::AppendEntriesResponse;
        let reaches_n3 = sent.to == member(3) && sent.rpc.kind() == RpcKind::AppendEntries;
        !(answers || reaches_n3)
    });
    assert_eq!(cluster.log_of(1).last(), Some(&(Term(2), Index(2))));
    assert!(!cluster.server(1).outcomes.contains_key(&Ticket(1)));
    cluster.tick(2, 100);
    cluster.deliver();
    assert_eq!(cluster.server(1).outcomes[&Ticket(1)], Outcome::Superseded);
}

/// What was proposed after it, in the same term, ends with it, although nothing is committed at those
/// indices yet: nothing of the earlier term can follow an entry of a later one.
#[test]
fn truncated_proposals_end_when_a_later_term_is_committed_before_them() {
    let mut cluster = Cluster::with(&[1, 2, 3], &[], |config| config.pre_vote = false);
    cluster.elect(1);
    for ticket in 1..=3 {
        cluster.propose(1, ticket, "lost");
    }
    cluster.network.clear();
    cluster.now = Time(cluster.now.0 + 1_000);
    cluster.step(2, Body::Campaign);
    cluster.deliver();
    assert_eq!(cluster.status(1).commit, Index(2), "no more than the no-op of n2");
    let outcomes = &cluster.server(1).outcomes;
    assert!((1..=3).all(|ticket| outcomes[&Ticket(ticket)] == Outcome::Superseded), "{outcomes:?}");
}

/// A message lost at the end of the log is noticed with the next heartbeat.
#[test]
fn a_lost_append_is_sent_again_after_a_heartbeat() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    cluster.elect(1);
    cluster.propose(1, 1, "x");
    cluster.network.clear();
    assert_eq!(cluster.status(1).commit, Index(1));
    cluster.tick(1, 100);
    cluster.deliver();
    assert_eq!(cluster.status(1).commit, Index(2));
    assert_eq!(cluster.status(3).commit, Index(2), "and the followers know it at once");
}

/// Back-pressure: no more than the limit is with the state machine, but always one entry.
#[test]
fn apply_waits_for_the_state_machine() {
    use raft_core::{Effect, Message, Raft};
    let founders = crate::support::membership(&[1], &[]);
    let mut config = crate::support::config(1);
    config.unapplied_bytes_max = 10;
    let found = raft_core::RecoveredState::genesis(founders);
    let (mut raft, first) = Raft::recover(config, found, Time(0)).expect("genesis is valid");
    let mut handed: Vec<Index> = Vec::new();
    let mut inbox: Vec<Effect> = first;
    let mut feed = |raft: &mut Raft, body: Body, handed: &mut Vec<Index>| {
        let mut effects = raft.step(Message { now: Time(0), body });
        effects.append(&mut inbox);
        while let Some(effect) = effects.pop() {
            if let Effect::Persist(batch) = &effect {
                let body = Body::Persisted { seq: batch.seq };
                effects.extend(raft.step(Message { now: Time(0), body }));
            }
            if let Effect::Apply { entries } = effect {
                handed.extend(entries.iter().map(raft_core::Entry::index));
            }
        }
    };
    feed(&mut raft, Body::Campaign, &mut handed);
    for ticket in 0..5 {
        let command = Bytes::from_static(b"eight by");
        feed(&mut raft, Body::Propose { ticket: Ticket(ticket), command }, &mut handed);
    }
    handed.sort_unstable();
    assert_eq!(raft.status().commit, Index(6));
    assert_eq!(handed, [1, 2, 3].map(Index), "no-op and commands until the limit is passed");
    feed(&mut raft, Body::Applied { through: Index(3) }, &mut handed);
    assert_eq!(handed.len(), 5, "two more once there is room");
}
