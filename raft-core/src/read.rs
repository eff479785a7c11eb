//! Linearizable reads without log entries: ReadIndex (thesis §6.4), at the leader or by way of a
//! follower.
//!
//! A read is answered at the commit index of the moment at which its round opened, once a quorum
//! has acknowledged a message that was sent after that moment. Rounds are numbered by the leader,
//! so an acknowledgement of an earlier message never confirms a later read.
//!
//! A follower or learner asks its leader for the index, once for all reads of a step. Its questions
//! are numbered within its incarnation: the answer to one ends every read that came before it was
//! asked. What is lost is asked again when a heartbeat of the leader comes; a leader that falls
//! silent, or is replaced, ends all of them.
//!
//! Deliberately absent: reads by lease, which need no round (the lease chapter).

use alloc::vec::Vec;

use crate::effect::{Effect, Refused, Rejection};
use crate::message::Rpc;
use crate::node::Node;
use crate::quorum::is_quorum;
use crate::role::{Follower, ForwardedRead, Leader, Question, ReadRound};
use crate::timers::Timer;
use crate::types::{Index, Member, ReadId, Ticket};

/// Accepts a read at the leader; it waits for a round.
pub(crate) fn on_read(node: &mut Node, leader: &mut Leader, ticket: Ticket) {
    if leader.is_damaged {
        node.reject(ticket, Rejection::Damaged { index: node.damaged_at() });
        return;
    }
    if waiting(leader) >= node.config.requests_max {
        node.reject(ticket, Rejection::Busy);
    } else {
        leader.reads.push(ticket);
    }
}

/// A follower or learner asks for the read index. It is answered like a read of the leader's own.
pub(crate) fn on_read_index(
    node: &Node,
    leader: &mut Leader,
    from: Member,
    id: ReadId,
) -> Result<(), Refused> {
    if !node.membership().is_member(from) {
        return Err(Refused::NotAMember);
    }
    let in_rounds = leader.rounds.iter().flat_map(|round| &round.questions);
    if in_rounds.chain(&leader.questions).any(|known| known.from == from && known.id >= id) {
        // Asked again, or overtaken: an answer that covers it is on its way.
        return Ok(());
    }
    if let Some(known) = leader.questions.iter_mut().find(|known| known.from == from) {
        known.id = id;
        return Ok(());
    }
    if waiting(leader) >= node.config.requests_max {
        return Err(Refused::Busy);
    }
    leader.questions.push(Question { from, id });
    Ok(())
}

/// Opens one round for all reads and questions that came in this step.
///
/// A new leader opens none before the first commit of its own term: until then its commit index
/// may lie behind what an earlier leader has acknowledged (§8).
pub(crate) fn open_round(node: &Node, leader: &mut Leader) {
    let is_idle = leader.reads.is_empty() && leader.questions.is_empty();
    if is_idle || node.commit() < leader.noop_index {
        return;
    }
    leader.round = leader.round.next();
    let tickets = core::mem::take(&mut leader.reads);
    let questions = core::mem::take(&mut leader.questions);
    for question in &questions {
        supersede(leader, question.from);
    }
    let (round, index) = (leader.round, node.commit());
    leader.rounds.push(ReadRound { round, index, tickets, questions });
}

/// Answers the reads of every round that a quorum has confirmed.
pub(crate) fn close_rounds(node: &mut Node, leader: &mut Leader) {
    if leader.rounds.is_empty() {
        return;
    }
    let me = node.member();
    let confirmed = leader
        .rounds
        .iter()
        .take_while(|open| {
            is_quorum(node.membership(), |member| {
                let has = |peer: &crate::progress::Progress| peer.round >= open.round;
                member == me || leader.peer_ref(member).is_some_and(has)
            })
        })
        .count();
    for round in leader.rounds.drain(..confirmed) {
        let index = round.index;
        for ticket in round.tickets {
            node.effects.push(Effect::ReadReady { ticket, index, valid_until: None });
        }
        for Question { from, id } in round.questions {
            node.send(from, Rpc::ReadIndexResponse { id, index });
        }
    }
}

/// All reads that wait at a leader which ceases to be one. Questions of peers end without an answer: the
/// peer learns of the next leader, or gives up when it hears none.
pub(crate) fn abandoned(leader: &mut Leader) -> Vec<Ticket> {
    let rounds = leader.rounds.drain(..).flat_map(|round| round.tickets);
    let mut tickets: Vec<Ticket> = rounds.collect();
    tickets.append(&mut leader.reads);
    leader.questions.clear();
    tickets
}

/// Accepts a read at a follower or learner, for the next question to its leader.
pub(crate) fn on_read_to_forward(node: &mut Node, follower: &mut Follower, ticket: Ticket) {
    let hint = follower.leader;
    if hint.is_none() || follower.contact.is_due() {
        // Nobody would answer: a leader that is silent has gone, or this node was removed.
        node.reject(ticket, Rejection::NotLeader { hint });
    } else if follower.reads.len() >= node.config.requests_max {
        node.reject(ticket, Rejection::Busy);
    } else {
        follower.reads.push(ForwardedRead { ticket, question: node.last_question + 1 });
    }
}

/// Asks the leader once for all reads that came in this step.
pub(crate) fn ask(node: &mut Node, follower: &mut Follower) {
    let newest = follower.reads.last().map_or(0, |read| read.question);
    if newest > node.last_question {
        if follower.reads.first().is_some_and(|read| read.question > node.last_question) {
            follower.unanswered = 0; // No question was open.
        }
        node.last_question = newest;
        send_question(node, follower);
    }
}

/// A heartbeat of the leader has come: asks it again, since the question or its answer may be lost.
///
/// At most once in a heartbeat interval, because a question makes the leader send a heartbeat, which
/// leads here again. Gives up after as many heartbeats without an answer as two election timeouts have:
/// a leader that repairs its log does not answer, nor does one that hears nothing of this node.
pub(crate) fn ask_again(node: &mut Node, follower: &mut Follower) {
    let is_asked = follower.reads.first().is_some_and(|read| read.question <= node.last_question);
    if !is_asked {
        return;
    }
    follower.unanswered += 1;
    let interval = node.config.heartbeat_interval_us.max(1);
    if follower.unanswered > 2 * node.config.election_timeout_us / interval {
        give_up(node, follower);
    } else if follower.patience.is_due() {
        send_question(node, follower);
    }
}

/// The leader has answered: every read that came before the question is ready.
pub(crate) fn on_read_index_response(
    node: &mut Node,
    follower: &mut Follower,
    id: ReadId,
    index: Index,
) -> Result<(), Refused> {
    let known = node.hard_state().incarnation;
    if id.incarnation < known {
        return Err(Refused::StaleIncarnation { known, theirs: id.incarnation });
    }
    if id.incarnation > known || id.n > node.last_question {
        return Err(Refused::Impossible);
    }
    let covered = follower.reads.partition_point(|read| read.question <= id.n);
    if covered == 0 {
        return Err(Refused::Unasked);
    }
    follower.unanswered = 0;
    for read in follower.reads.drain(..covered) {
        let ticket = read.ticket;
        node.effects.push(Effect::ReadReady { ticket, index, valid_until: None });
    }
    Ok(())
}

/// Ends all reads that wait for the leader: it has been silent for an election timeout, or it speaks and
/// does not answer. (A voter would campaign sooner or later, but a learner's reads would wait for ever.)
pub(crate) fn give_up(node: &mut Node, follower: &mut Follower) {
    for read in follower.reads.drain(..) {
        node.reject(read.ticket, Rejection::NotLeader { hint: follower.leader });
    }
}

fn waiting(leader: &Leader) -> usize {
    let in_round = |round: &ReadRound| round.tickets.len() + round.questions.len();
    let in_rounds: usize = leader.rounds.iter().map(in_round).sum();
    in_rounds + leader.reads.len() + leader.questions.len()
}

/// A newer question of a peer covers its older ones. Its oldest stays all the same: a peer that
/// asks faster than rounds are confirmed would else never be answered.
fn supersede(leader: &mut Leader, from: Member) {
    let asks = |round: &&mut ReadRound| round.questions.iter().any(|asked| asked.from == from);
    for round in leader.rounds.iter_mut().filter(asks).skip(1) {
        round.questions.retain(|asked| asked.from != from);
    }
    leader.rounds.retain(|round| !(round.tickets.is_empty() && round.questions.is_empty()));
}

fn send_question(node: &mut Node, follower: &mut Follower) {
    let Some(leader) = follower.leader else { return };
    follower.patience = Timer::armed(node.config.heartbeat_interval());
    let id = ReadId { incarnation: node.hard_state().incarnation, n: node.last_question };
    node.send(leader, Rpc::ReadIndex { id });
}
