//! Reads at a follower or learner: it asks its leader for the index (thesis §6.4).

use raft_core::{
    Body, Config, Envelope, Incarnation, Index, MemberStep, MembershipChange, Message, Outcome,
    ReadId, ReadMode, Refused, Rejection, RoleName, Rpc, RpcKind, Term, Ticket, Time,
};

use crate::support::{Cluster, member};

fn led(voters: &[u64], learners: &[u64], adjust: impl Fn(&mut Config)) -> Cluster {
    let mut cluster = Cluster::with(voters, learners, adjust);
    cluster.elect(1);
    cluster.tick(1, 100);
    cluster.deliver();
    cluster
}

fn read(cluster: &mut Cluster, id: u64, ticket: u64) {
    cluster.step(id, Body::Read { ticket: Ticket(ticket), mode: ReadMode::ReadIndex });
}

fn ready(cluster: &Cluster, id: u64, ticket: u64) -> Option<Index> {
    cluster.server(id).reads.get(&Ticket(ticket)).copied()
}

fn outcome(cluster: &Cluster, id: u64, ticket: u64) -> Option<Outcome> {
    cluster.server(id).outcomes.get(&Ticket(ticket)).copied()
}

fn not_leader(hint: Option<u64>) -> Option<Outcome> {
    Some(Outcome::Refused(Rejection::NotLeader { hint: hint.map(member) }))
}

fn is_question(sent: &Envelope) -> bool {
    sent.rpc.kind() == RpcKind::ReadIndex
}

fn is_answer(sent: &Envelope) -> bool {
    sent.rpc.kind() == RpcKind::ReadIndexResponse
}

fn last_refusal(cluster: &Cluster, id: u64) -> Option<Refused> {
    cluster.refusals(id).last().copied()
}

/// The index covers what was committed before the read came, though the follower does not know of
/// it yet; a learner asks like anybody else.
#[test]
fn a_follower_and_a_learner_answer_at_the_leaders_commit_index() {
    let mut cluster = led(&[1, 2, 3], &[4], |_| {});
    cluster.propose(1, 1, "x");
    cluster.deliver_if(|sent| [1, 3].contains(&sent.to.id.0));
    assert_eq!(cluster.status(1).commit, Index(2));
    for (id, mode) in [(2, ReadMode::ReadIndex), (4, ReadMode::Lease)] {
        assert_eq!(cluster.status(id).commit, Index(1));
        cluster.step(id, Body::Read { ticket: Ticket(7), mode });
        assert_eq!(ready(&cluster, id, 7), None);
    }
    cluster.deliver();
    for id in [2, 4] {
        assert_eq!(ready(&cluster, id, 7), Some(Index(2)));
        assert!(cluster.server(id).valid_until.is_empty(), "a lease is the leader's own affair");
    }
}

/// One question for all reads of a step, one answer for all that came before it was asked.
#[test]
fn reads_of_one_step_share_a_question_and_an_answer_ends_the_earlier_ones() {
    let mut cluster = led(&[1, 2, 3], &[], |_| {});
    let now = cluster.now;
    let body = |ticket| Body::Read { ticket: Ticket(ticket), mode: ReadMode::ReadIndex };
    let inbox = (1..=5).map(|ticket| Message { now, body: body(ticket) });
    let server = cluster.servers.get_mut(&2).expect("it is there");
    let mut effects = Vec::new();
    server.raft.step_batch(inbox, &mut effects);
    let incarnation = cluster.status(2).incarnation;
    let sent: Vec<Rpc> = effects
        .into_iter()
        .map(|effect| {
            let raft_core::Effect::Send(envelope) = effect else { panic!("nothing but a message") };
            envelope.rpc
        })
        .collect();
    assert_eq!(sent, [Rpc::ReadIndex { id: ReadId { incarnation, n: 1 } }]);
    // The first question is lost; the answer to the second one ends all.
    read(&mut cluster, 2, 6);
    cluster.deliver();
    for ticket in 1..=6 {
        assert_eq!(ready(&cluster, 2, ticket), Some(Index(1)));
    }
}

/// An answer says nothing about a read that came after its question was asked.
#[test]
fn an_answer_does_not_end_a_later_read() {
    let mut cluster = led(&[1, 2, 3], &[], |_| {});
    read(&mut cluster, 2, 1);
    cluster.deliver_if(|sent| !is_answer(sent));
    read(&mut cluster, 2, 2);
    let incarnation = cluster.status(2).incarnation;
    let id = ReadId { incarnation, n: 1 };
    cluster.network.clear();
    cluster.say(1, 2, 1, Rpc::ReadIndexResponse { id, index: Index(1) });
    assert_eq!((ready(&cluster, 2, 1), ready(&cluster, 2, 2)), (Some(Index(1)), None));
    // The same once more answers nothing.
    cluster.say(1, 2, 1, Rpc::ReadIndexResponse { id, index: Index(1) });
    assert_eq!(last_refusal(&cluster, 2), Some(Refused::Unasked));
}

/// What is lost, question or answer, is asked again when a heartbeat comes that the question itself
/// has not caused.
#[test]
fn a_lost_question_or_answer_is_asked_again() {
    for is_lost in [is_question, is_answer] {
        let mut cluster = led(&[1, 2, 3], &[], |_| {});
        read(&mut cluster, 2, 1);
        cluster.deliver_if(|sent| !is_lost(sent));
        assert_eq!(ready(&cluster, 2, 1), None);
        cluster.tick(1, 100);
        cluster.deliver();
        assert_eq!(ready(&cluster, 2, 1), Some(Index(1)));
        cluster.tick(1, 100);
        cluster.deliver_if(|sent| {
            assert!(!is_question(sent), "nothing waits any more");
            true
        });
    }
}

/// The leader confirms its leadership after the question came, as for a read of its own.
#[test]
fn a_leader_that_was_deposed_answers_no_question() {
    // Without pre-vote and check-quorum, 3 can win although the others hear their leader.
    let mut cluster = led(&[1, 2, 3, 4, 5], &[], |config| {
        config.check_quorum = false;
        config.pre_vote = false;
    });
    let old = [member(1), member(2)];
    // 3 leads the others and commits; 1 and 2 do not hear of it.
    for id in [3, 4, 5] {
        cluster.step(id, Body::ForgetLeader);
    }
    cluster.step(3, Body::Campaign);
    cluster.deliver_if(|sent| !old.contains(&sent.to) && !old.contains(&sent.from));
    cluster.propose(3, 1, "newer");
    cluster.deliver_if(|sent| !old.contains(&sent.to) && !old.contains(&sent.from));
    assert_eq!(cluster.status(3).commit, Index(3));
    read(&mut cluster, 2, 1);
    cluster.deliver_if(|sent| old.contains(&sent.to) && old.contains(&sent.from));
    assert_eq!(cluster.status(1).role, RoleName::Leader, "it does not know");
    assert_eq!((ready(&cluster, 2, 1), outcome(&cluster, 2, 1)), (None, None));
    // Once the new leader is heard, the read is refused with its name.
    cluster.tick(3, 100);
    cluster.deliver_if(|sent| sent.to == member(2) && sent.from == member(3));
    assert_eq!(outcome(&cluster, 2, 1), not_leader(Some(3)));
    // What the old one may yet answer is of an earlier term.
    let id = ReadId { incarnation: cluster.status(2).incarnation, n: 1 };
    cluster.say(1, 2, 1, Rpc::ReadIndexResponse { id, index: Index(1) });
    assert_eq!(
        last_refusal(&cluster, 2),
        Some(Refused::StaleTerm { mine: Term(2), theirs: Term(1) })
    );
    // And another node of this term cannot answer in the leader's place.
    read(&mut cluster, 2, 2);
    let id = ReadId { n: 2, ..id };
    cluster.say(4, 2, 2, Rpc::ReadIndexResponse { id, index: Index(1) });
    assert_eq!(last_refusal(&cluster, 2), Some(Refused::Impossible));
    assert_eq!((ready(&cluster, 2, 1), ready(&cluster, 2, 2)), (None, None));
}

/// §8: a new leader answers nobody before its own first commit.
#[test]
fn a_question_waits_for_the_first_commit_of_the_term() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    cluster.step(1, Body::Campaign);
    let is_append = |sent: &Envelope| sent.rpc.kind() == RpcKind::AppendEntries;
    cluster.deliver_if(|sent| !is_append(sent));
    cluster.tick(1, 100);
    cluster.deliver_if(|sent| !is_append(sent));
    read(&mut cluster, 2, 1);
    cluster.deliver_if(|sent| !is_append(sent));
    assert_eq!(ready(&cluster, 2, 1), None);
    cluster.tick(1, 100);
    cluster.deliver();
    assert_eq!(ready(&cluster, 2, 1), Some(Index(1)));
}

/// Whoever knows no leader says so at once: nobody would answer.
#[test]
fn without_a_leader_a_read_is_refused_at_once() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[4]);
    for id in [2, 4] {
        read(&mut cluster, id, 1);
        assert_eq!(outcome(&cluster, id, 1), not_leader(None));
    }
    cluster.step(1, Body::Campaign);
    read(&mut cluster, 1, 1);
    assert_eq!(outcome(&cluster, 1, 1), not_leader(None));
}

/// Every way in which a follower loses its leader ends its reads.
#[test]
fn reads_end_when_the_leader_or_the_role_is_lost() {
    let waiting = || {
        let mut cluster = led(&[1, 2, 3], &[], |_| {});
        read(&mut cluster, 2, 1);
        cluster.network.clear();
        assert_eq!(outcome(&cluster, 2, 1), None);
        cluster
    };
    let mut forgets = waiting();
    forgets.step(2, Body::ForgetLeader);
    assert_eq!(outcome(&forgets, 2, 1), not_leader(None));

    let mut campaigns = waiting();
    campaigns.step(2, Body::Campaign);
    assert_eq!(outcome(&campaigns, 2, 1), not_leader(None));

    let mut later = waiting();
    later.say(3, 2, 9, Rpc::RequestVoteResponse { granted: false });
    assert_eq!(outcome(&later, 2, 1), not_leader(None));

    let mut forced = waiting();
    forced.step(2, Body::ForceMembership { ticket: Ticket(2) });
    assert_eq!(outcome(&forced, 2, 1), not_leader(None));

    let mut halts = waiting();
    halts.step(2, Body::PersistFailed);
    assert_eq!(outcome(&halts, 2, 1), Some(Outcome::Halted));
}

/// A learner never campaigns, so it must notice by itself that nobody answers: after an election
/// timeout of silence it says so, and until it hears the leader again it does not forward.
#[test]
fn a_learner_whose_leader_is_silent_does_not_wait_for_ever() {
    let mut cluster = led(&[1, 2, 3], &[4], |_| {});
    assert_eq!(cluster.server(4).raft.next_deadline(), None, "a learner has nothing to do");
    cluster.now = Time(600);
    read(&mut cluster, 4, 1);
    cluster.network.clear();
    let heard = 100;
    assert_eq!(cluster.server(4).raft.next_deadline(), Some(Time(heard + 1_000)));
    cluster.tick(4, 499);
    assert_eq!(outcome(&cluster, 4, 1), None);
    cluster.tick(4, 1);
    assert_eq!(outcome(&cluster, 4, 1), not_leader(Some(1)));
    assert_eq!(cluster.server(4).raft.next_deadline(), None);
    read(&mut cluster, 4, 2);
    assert_eq!(outcome(&cluster, 4, 2), not_leader(Some(1)));
    cluster.tick(1, 100);
    cluster.deliver();
    read(&mut cluster, 4, 3);
    cluster.deliver();
    assert_eq!(ready(&cluster, 4, 3), Some(Index(1)));
}

/// The asker restarts: its tickets died with it, and an answer to its earlier life ends no read of
/// the later one.
#[test]
fn an_answer_to_an_earlier_incarnation_is_refused() {
    let mut cluster = led(&[1, 2, 3], &[], |_| {});
    read(&mut cluster, 2, 1);
    let early = cluster.take(is_question);
    cluster.crash(2);
    cluster.tick(1, 100);
    cluster.deliver();
    cluster.propose(1, 5, "x");
    cluster.deliver();
    read(&mut cluster, 2, 1);
    cluster.network.clear();
    for question in early {
        cluster.step(1, Body::Peer(question));
    }
    cluster.deliver();
    assert_eq!(ready(&cluster, 2, 1), None);
    let stale = Refused::StaleIncarnation { known: Incarnation(2), theirs: Incarnation(1) };
    assert!(cluster.refusals(2).contains(&stale));
    // Nor does an answer to what was never asked.
    for id in [(3, 1), (2, 2)] {
        let id = ReadId { incarnation: Incarnation(id.0), n: id.1 };
        cluster.say(1, 2, 1, Rpc::ReadIndexResponse { id, index: Index(1) });
        assert_eq!(last_refusal(&cluster, 2), Some(Refused::Impossible));
    }
    cluster.tick(1, 100);
    cluster.deliver();
    assert_eq!(ready(&cluster, 2, 1), Some(Index(2)));
}

/// A leader answers members alone, and nobody but a leader answers.
#[test]
fn questions_of_strangers_and_to_followers_are_refused() {
    let mut cluster = led(&[1, 2, 3], &[4], |_| {});
    let id = ReadId { incarnation: Incarnation(1), n: 1 };
    cluster.say(3, 2, 1, Rpc::ReadIndex { id });
    assert_eq!(last_refusal(&cluster, 2), Some(Refused::NotLeader));
    cluster.say(2, 1, 1, Rpc::ReadIndexResponse { id, index: Index(1) });
    assert_eq!(last_refusal(&cluster, 1), Some(Refused::Impossible), "it leads itself");
    let change = MembershipChange::Steps(vec![MemberStep::Remove(member(4).id)]);
    cluster.step(1, Body::ProposeMembership { ticket: Ticket(1), change, expect: None });
    cluster.deliver();
    cluster.say(4, 1, 1, Rpc::ReadIndex { id });
    assert_eq!(last_refusal(&cluster, 1), Some(Refused::NotAMember));
    assert!(cluster.network.is_empty());
}

/// However often a peer asks, it is answered, and a leader remembers a few of its questions only.
#[test]
fn a_peer_that_asks_without_pause_is_answered_and_costs_little() {
    let mut cluster = led(&[1, 2, 3], &[], |config| config.requests_max = 8);
    let mut acknowledgements = Vec::new();
    for ticket in 1..=8 {
        read(&mut cluster, 2, ticket);
        // The leader hears the questions, and the confirmations of their rounds much later.
        cluster.deliver_if(|sent| {
            if sent.to == member(1) && !is_question(sent) {
                acknowledgements.push(sent.clone());
                return false;
            }
            true
        });
    }
    assert!(!cluster.refusals(1).contains(&Refused::Busy), "they never counted as eight");
    for ticket in 10..=15 {
        read(&mut cluster, 1, ticket);
    }
    assert_eq!(outcome(&cluster, 1, 15), None, "two questions and six reads fit");
    read(&mut cluster, 1, 16);
    assert_eq!(outcome(&cluster, 1, 16), Some(Outcome::Refused(Rejection::Busy)));
    let id = ReadId { incarnation: Incarnation(1), n: 1 };
    cluster.say(3, 1, 1, Rpc::ReadIndex { id });
    assert_eq!(last_refusal(&cluster, 1), Some(Refused::Busy));
    cluster.network.clear();
    // The confirmation of the first round ends the first read: newer questions did not put it off.
    let first = acknowledgements.remove(0);
    cluster.step(1, Body::Peer(first));
    cluster.deliver_if(|sent| sent.to == member(2) && is_answer(sent));
    assert_eq!(ready(&cluster, 2, 1), Some(Index(1)));
    assert_eq!(ready(&cluster, 2, 8), None);
    for acknowledgement in acknowledgements {
        cluster.step(1, Body::Peer(acknowledgement));
    }
    cluster.deliver();
    assert_eq!(ready(&cluster, 2, 8), Some(Index(1)));
}
