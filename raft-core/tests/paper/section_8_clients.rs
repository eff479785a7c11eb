//! §8 and thesis §6.2, §6.4: clients, redirection, reads that need no log entry.

use raft_core::{Body, Envelope, Index, Outcome, Payload, ReadMode, Rejection, RoleName, Ticket};

use crate::peers::{grant, heartbeat, lead, lead_with, plain, say, sent_by};
use crate::support::{Cluster, member};

fn read(cluster: &mut Cluster, id: u64, ticket: u64) {
    cluster.step(id, Body::Read { ticket: Ticket(ticket), mode: ReadMode::ReadIndex });
}

/// The answers to the leader, kept back instead of delivered.
fn answers_to(cluster: &mut Cluster, leader: u64) -> Vec<Envelope> {
    let mut kept = Vec::new();
    cluster.deliver_if(|sent| {
        if sent.to == member(leader) {
            kept.push(sent.clone());
        }
        sent.to != member(leader)
    });
    kept
}

/// §8, thesis §6.2: a server that does not lead refuses a command, and names the leader that it
/// has heard.
#[test]
fn a_server_that_does_not_lead_names_the_leader() {
    let mut cluster = plain(&[1, 2, 3]);
    cluster.propose(2, 1, "x");
    lead(&mut cluster, 1);
    cluster.propose(2, 2, "x");
    let refused = |hint| Outcome::Refused(Rejection::NotLeader { hint });
    let outcomes = &cluster.server(2).outcomes;
    assert_eq!(outcomes[&Ticket(1)], refused(None));
    assert_eq!(outcomes[&Ticket(2)], refused(Some(member(1))));
    assert_eq!(cluster.status(2).last.index, Index(1), "nothing is appended");
}

/// Thesis §6.2: a follower forgets its leader when it starts an election and when the term changes,
/// or two servers could send a client to each other for ever.
#[test]
fn a_follower_forgets_its_leader_with_the_term_and_with_an_election() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    lead(&mut cluster, 1);
    let mut campaigns = cluster.clone();
    campaigns.step(2, Body::Campaign);
    assert_eq!(campaigns.status(2).role, RoleName::PreCandidate);
    assert_eq!(campaigns.status(2).leader, None);
    cluster.now.0 += 1_000;
    let later = raft_core::Rpc::RequestVoteResponse { granted: false };
    say(&mut cluster, 3, 2, 5, later);
    assert_eq!(cluster.status(2).leader, None);
}

/// Thesis §6.2: a leader that hears no majority for an election timeout steps down, and those who
/// wait for it are told. It looks once in a timeout, so the second look at the latest decides.
#[test]
fn a_leader_that_hears_no_majority_steps_down() {
    let mut cluster = Cluster::new(&[1, 2, 3, 4, 5], &[]);
    lead(&mut cluster, 1);
    for _ in 0..30 {
        cluster.tick(1, 100);
        cluster.deliver_if(|sent| ![4, 5].contains(&sent.to.id.0));
        assert_eq!(cluster.status(1).role, RoleName::Leader, "three of five are enough");
    }
    read(&mut cluster, 1, 1);
    cluster.propose(1, 2, "x");
    let mut elapsed = 0;
    while cluster.status(1).role == RoleName::Leader {
        cluster.tick(1, 100);
        cluster.deliver_if(|sent| ![3, 4, 5].contains(&sent.to.id.0));
        elapsed += 100;
    }
    assert!((1_000..=2_000).contains(&elapsed), "{elapsed}us");
    let refused = Outcome::Refused(Rejection::NotLeader { hint: None });
    assert_eq!(cluster.server(1).outcomes[&Ticket(1)], refused);
    // The command may yet be committed by another leader: it has no outcome that says otherwise.
    assert!(!cluster.server(1).outcomes.contains_key(&Ticket(2)));
}

/// §8, thesis §6.4: a leader begins its term with an empty entry, and commits it as any other.
#[test]
fn a_leader_begins_its_term_with_an_empty_entry() {
    let mut cluster = plain(&[1, 2, 3]);
    for (leader, term) in [(1, 1), (2, 2), (3, 3)] {
        lead(&mut cluster, leader);
        let last = cluster.server(leader).disk.log.last().expect("its first entry");
        assert_eq!((last.payload(), last.term().0), (&Payload::Noop, term));
        assert_eq!(cluster.status(leader).commit, last.index());
    }
}

/// §8, thesis §6.4 step 1: until an entry of its own term is committed a leader does not know what
/// is, and serves no read.
#[test]
fn reads_wait_for_the_first_commit_of_the_term() {
    let mut cluster = plain(&[1, 2, 3]);
    lead_with(&mut cluster, 1, &[2]);
    cluster.network.clear();
    read(&mut cluster, 1, 1);
    // Heartbeats are answered, appends are lost: the leader is confirmed, its commit index is not.
    for _ in 0..5 {
        cluster.tick(1, 100);
        cluster.deliver_if(|sent| {
            let kind = sent.rpc.kind();
            use raft_core::RpcKind::{Heartbeat, HeartbeatResponse};
            kind == Heartbeat || kind == HeartbeatResponse
        });
        assert!(cluster.server(1).reads.is_empty());
    }
    cluster.tick(1, 100);
    cluster.deliver();
    assert_eq!(cluster.server(1).reads[&Ticket(1)], Index(1));
}

/// Thesis §6.4 steps 2 and 3: a read is answered at the commit index of when it came, once a
/// majority has acknowledged a message that was sent after it came.
#[test]
fn a_read_needs_a_round_that_began_after_it() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    lead(&mut cluster, 1);
    cluster.tick(1, 100);
    let earlier = answers_to(&mut cluster, 1);
    read(&mut cluster, 1, 1);
    let later = answers_to(&mut cluster, 1);
    for answer in earlier {
        cluster.step(1, Body::Peer(answer));
    }
    assert!(cluster.server(1).reads.is_empty(), "those answers are to an earlier question");
    cluster.step(1, Body::Peer(later[0].clone()));
    assert_eq!(cluster.server(1).reads[&Ticket(1)], Index(1));
}

/// Thesis §6.4 step 3: a leader that was replaced without knowing it answers no read.
#[test]
fn a_deposed_leader_answers_no_read() {
    let mut cluster = plain(&[1, 2, 3]);
    lead(&mut cluster, 1);
    let is_apart = |sent: &Envelope| sent.from == member(1) || sent.to == member(1);
    cluster.step(2, Body::Campaign);
    cluster.deliver_if(|sent| !is_apart(sent));
    cluster.propose(2, 1, "newer");
    cluster.deliver_if(|sent| !is_apart(sent));
    assert_eq!(cluster.status(2).commit, Index(3));
    assert_eq!(cluster.status(1).role, RoleName::Leader, "it does not know");
    read(&mut cluster, 1, 7);
    cluster.deliver();
    assert!(!cluster.server(1).reads.contains_key(&Ticket(7)));
    let refused = Outcome::Refused(Rejection::NotLeader { hint: None });
    assert_eq!(cluster.server(1).outcomes[&Ticket(7)], refused);
}

/// Thesis §6.4 step 4: the index that a read is given is committed, and at least that of every
/// command that was answered before the read came.
#[test]
fn a_read_sees_every_command_that_was_answered_before_it() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    lead(&mut cluster, 1);
    for round in 0..5 {
        cluster.propose(1, 2 * round, "x");
        cluster.deliver();
        let Outcome::Committed { index, .. } = cluster.server(1).outcomes[&Ticket(2 * round)]
        else {
            panic!("everyone is there, so it is committed")
        };
        read(&mut cluster, 1, 2 * round + 1);
        cluster.deliver();
        assert_eq!(cluster.server(1).reads[&Ticket(2 * round + 1)], index);
    }
}

/// Thesis §6.4: one round of messages serves all reads that have come by then.
#[test]
fn one_round_serves_many_reads() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    lead(&mut cluster, 1);
    let now = cluster.now;
    let reads = (0..100).map(|ticket| {
        let body = Body::Read { ticket: Ticket(ticket), mode: ReadMode::ReadIndex };
        raft_core::Message { now, body }
    });
    let mut effects = Vec::new();
    let server = cluster.servers.get_mut(&1).expect("n1 is there");
    server.raft.step_batch(reads, &mut effects);
    let sent = effects.iter().filter(|effect| matches!(effect, raft_core::Effect::Send(_)));
    assert_eq!(sent.count(), 2, "one message to each follower, for a hundred reads");
}

/// Thesis §6.4: acknowledgements of voters count, and of nobody else; a sole voter needs none.
#[test]
fn reads_are_confirmed_by_voters() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[4]);
    lead(&mut cluster, 1);
    read(&mut cluster, 1, 1);
    cluster.deliver_if(|sent| [sent.from.id.0, sent.to.id.0].iter().all(|id| [1, 4].contains(id)));
    assert!(cluster.server(1).reads.is_empty());
    let mut alone = Cluster::new(&[1], &[2]);
    lead(&mut alone, 1);
    read(&mut alone, 1, 1);
    assert_eq!(alone.server(1).reads[&Ticket(1)], Index(1));
}

/// §8: a candidate or a follower that lost its leader serves nobody, and says so at once.
#[test]
fn nobody_waits_at_a_server_without_a_leader() {
    let mut cluster = plain(&[1, 2, 3]);
    cluster.step(1, Body::Campaign);
    sent_by(&mut cluster, 1);
    read(&mut cluster, 1, 1);
    cluster.propose(1, 2, "x");
    let refused = Outcome::Refused(Rejection::NotLeader { hint: None });
    assert_eq!(cluster.server(1).outcomes[&Ticket(1)], refused);
    assert_eq!(cluster.server(1).outcomes[&Ticket(2)], refused);
    say(&mut cluster, 2, 1, 1, grant());
    assert_eq!(cluster.status(1).role, RoleName::Leader);
    say(&mut cluster, 3, 1, 2, heartbeat(0));
    assert_eq!(cluster.status(1).leader, Some(member(3)));
}
