//! Which messages can still be reacted to.
//!
//! A message that was sent stays for ever: it may arrive at any time, again and again, or never. So
//! loss, delay, reordering and duplication need no steps of their own. But most of them soon mean
//! nothing any more, and states that differ in such messages alone would be explored one by one.
//! [`is_dead`] tells them, by kind. Every rule holds in each state that the receiver can still get
//! into, by crashes too: it speaks of the *floor*, the term that is durable there, which never falls.

use std::sync::Arc;

use raft_core::{
    AppendResult, Envelope, Epoch, Incarnation, Index, Member, RoleName, Round, Rpc, Session, Span,
    Status, Term,
};

use super::bounds::{Bounds, CLUSTER, GROUP};
use super::host::Host;
use super::outlook::Outlook;
use super::store::{IDLE, Store};
use super::symmetry::Origin;

/// The name of an inbox without the messages that mean nothing to its server any more.
pub(crate) fn collect(
    store: &mut Store,
    bounds: &Bounds,
    host: u32,
    inbox: u32,
    outlook: Outlook,
) -> u32 {
    let value = Arc::clone(store.hosts.get(host));
    let receiver = Receiver::new(&value, outlook, bounds);
    let mut kept: Vec<u32> = Vec::new();
    let mut stale: Vec<(Member, Term)> = Vec::new();
    let mut matches: Vec<Match> = Vec::new();
    let letters = Arc::clone(store.inboxes.get(inbox));
    for name in letters.iter() {
        let letter = Arc::clone(store.letters.get(*name));
        match fate(store, bounds, &receiver, host, *name) {
            Fate::Kept => kept.push(*name),
            Fate::Gone => {}
            Fate::Stale => stale.push((letter.from, Term::ZERO)),
            Fate::Over => stale.push((letter.from, letter.term)),
            Fate::Matched => Match::add(&mut matches, *name, &letter),
        }
    }
    stale.retain(|(from, _)| !outlook.is_informed(*from));
    stale.sort_unstable();
    // What is answered in more terms stands for the others too.
    stale.dedup_by_key(|(from, _)| *from);
    for (from, term) in stale {
        let letter = store.stand_in(from, receiver.member, term);
        if !is_answered_for_good(store, bounds, &receiver, host, letter) {
            kept.push(letter);
        }
    }
    kept.extend(matches.into_iter().map(|best| best.name));
    store.inbox(kept)
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Kept,
    Gone,
    /// One of term 0 stands for it.
    Stale,
    /// One of its term stands for it, until it is stale.
    Over,
    /// One of its kind is kept (see [`Match`]).
    Matched,
}

fn fate(store: &mut Store, bounds: &Bounds, receiver: &Receiver, host: u32, name: u32) -> Fate {
    let letter = Arc::clone(store.letters.get(name));
    if is_dead(&letter, receiver) {
        return Fate::Gone;
    }
    if is_stale(&letter, receiver) {
        return Fate::Stale;
    }
    if is_stand_in(&letter) {
        // Whatever term the receiver is in now, it may fall back to that of the floor, and speak of
        // every later one.
        return if letter.term >= receiver.last_term { Fate::Gone } else { Fate::Over };
    }
    let is_settling = letter.term == receiver.term && may_settle(&letter.rpc, receiver);
    if is_settling && store.deliver(bounds, host, name) == IDLE {
        return settled(&letter, receiver, store.is_disowned(host, name));
    }
    if is_over(&letter, receiver) && is_said_again(store, bounds, host, name) {
        return if letter.term >= receiver.last_term { Fate::Gone } else { Fate::Over };
    }
    Fate::Kept
}

/// Whether the receiver answers a message in the same words for ever, as long as its term lasts.
fn is_said_again(store: &mut Store, bounds: &Bounds, host: u32, letter: u32) -> bool {
    let name = store.deliver(bounds, host, letter);
    if name == IDLE {
        return false;
    }
    let step = Arc::clone(&store.steps[name as usize]);
    let is_final = |letter: u32| match store.letters.get(letter).rpc {
        Rpc::RequestVoteResponse { .. } => true,
        Rpc::AppendEntriesResponse { result, .. } => matches!(result, AppendResult::Matched { .. }),
        Rpc::RequestPreVote { .. }
        | Rpc::RequestPreVoteResponse { .. }
        | Rpc::RequestVote { .. }
        | Rpc::AppendEntries { .. }
        | Rpc::Commit { .. }
        | Rpc::Heartbeat { .. }
        | Rpc::HeartbeatResponse { .. }
        | Rpc::InstallSnapshot { .. }
        | Rpc::InstallSnapshotResponse { .. }
        | Rpc::TimeoutNow
        | Rpc::ReadIndex { .. }
        | Rpc::ReadIndexResponse { .. }
        | Rpc::Repair(_) => false,
    };
    step.is_echo() && step.sent.iter().all(|(_, letter)| is_final(*letter))
}

/// Whether the one message that stands for all stale requests of a sender means nothing either.
///
/// Its answer names the receiver's term, which is the last one: it was said when the state was
/// settled, and there is no later term to speak of. Only the receiver's incarnation may be news the
/// next time, after a crash, and that concerns nobody but a leader of this term. (With timers that
/// ask who is alive, nor is an answer of every moment alike.)
fn is_answered_for_good(
    store: &mut Store,
    bounds: &Bounds,
    receiver: &Receiver,
    host: u32,
    letter: u32,
) -> bool {
    let from = store.letters.get(letter).from;
    let is_never_led = receiver.leader.is_some_and(|leader| leader != from);
    let is_last = receiver.floor >= receiver.last_term;
    if !is_last || (receiver.may_crash && !is_never_led) {
        return false;
    }
    let name = store.deliver(bounds, host, letter);
    name != IDLE && store.steps[name as usize].is_echo()
}

/// Whether a request of the receiver's present term has had all its effects, but for its answer,
/// which was sent at once. It is of use only when it is stale.
///
/// A vote that is durable is given for good, and every other candidate refused. A later life would
/// answer the same request once more, and say nothing new: the vote is in every life, and who has it
/// is granted it, and everybody else refused, before anything is asked of leaders, promises or logs.
/// (Only a doubt would be asked first; where there may be one this does not hold, see below.) The
/// answers differ in the incarnation alone, which nobody looks at in an answer to a candidate. And the
/// first one was sent when the request was forgotten; it is never lost, and who it is for forgets it
/// by rules that do not look at incarnations either ([`is_dead`]).
///
/// Entries that are
/// there and durable stay, and the leader is known, as long as the receiver does not crash. (A timer
/// that must be put off again and again, or a pre-candidate that must give up again, would need
/// either. And where a snapshot may take the place of the entries, the answer changes. So it does
/// where an entry is damaged, or the end of the log unknown: an append is answered with more once they
/// are healed, and who comes to doubt its log denies the vote that it has given.)
fn is_over(letter: &Envelope, receiver: &Receiver) -> bool {
    if receiver.is_timed || receiver.is_hurt || letter.term != receiver.term {
        return false;
    }
    let may_be_hurt = receiver.is_lossy && receiver.may_crash;
    match letter.rpc {
        Rpc::RequestVote { .. } => receiver.has_voted && !may_be_hurt,
        Rpc::AppendEntries { .. } => {
            !receiver.may_crash && !receiver.is_compacting && !receiver.may_rot
        }
        Rpc::RequestPreVote { .. }
        | Rpc::RequestPreVoteResponse { .. }
        | Rpc::RequestVoteResponse { .. }
        | Rpc::AppendEntriesResponse { .. }
        | Rpc::Commit { .. }
        | Rpc::Heartbeat { .. }
        | Rpc::HeartbeatResponse { .. }
        | Rpc::InstallSnapshot { .. }
        | Rpc::InstallSnapshotResponse { .. }
        | Rpc::TimeoutNow
        | Rpc::ReadIndex { .. }
        | Rpc::ReadIndexResponse { .. }
        | Rpc::Repair(_) => false,
    }
}

/// What of a receiver decides about its messages.
#[derive(Clone, Debug)]
struct Receiver {
    member: Member,
    /// No later life of it is in an earlier term.
    floor: Term,
    term: Term,
    /// Nobody goes beyond this term.
    last_term: Term,
    role: RoleName,
    leader: Option<Member>,
    /// Its vote in this term is given, in every later life too.
    has_voted: bool,
    outlook: Outlook,
    may_crash: bool,
    /// Whether it matters how often, or when, somebody was heard: to followers that stick to a
    /// leader or wait for its answer, and to pre-candidates. Not where there are clocks: followers hear of their leader
    /// whenever time passes.
    is_timed: bool,
    /// Whether logs may lose their beginnings.
    is_compacting: bool,
    is_watching: bool,
    /// Something of its log is damaged, or its snapshot, or the end unknown.
    is_hurt: bool,
    /// Whether disks lose what was durable, and while servers run.
    is_lossy: bool,
    may_rot: bool,
    /// Through which index a peer is known to have a leader's log.
    peers: Vec<(Member, Index)>,
}

impl Receiver {
    /// A node that may crash falls back to what its disk holds; one that cannot crash any more
    /// never falls.
    fn new(host: &Host, outlook: Outlook, bounds: &Bounds) -> Self {
        let may_crash = outlook.may_crash();
        let status = host.raft.status();
        let is_hurt = host.is_asking() || status.is_tail_unknown;
        let Status { member, term, role, leader, vote, .. } = status;
        let durable = host.disk.hard_state();
        let is_vote_durable = durable.term == term && durable.vote.is_some();
        let peers = host.raft.peers().into_iter();
        Self {
            member,
            floor: if may_crash { durable.term } else { term },
            term,
            last_term: Term(u64::from(bounds.terms)),
            role,
            leader,
            has_voted: if may_crash { is_vote_durable } else { vote.is_some() },
            outlook,
            may_crash,
            is_timed: bounds.is_listening(),
            is_compacting: bounds.snapshots > 0,
            is_watching: bounds.is_watching(),
            is_hurt,
            is_lossy: bounds.is_lossy(),
            may_rot: bounds.rot,
            peers: peers.map(|peer| (peer.member, peer.match_index)).collect(),
        }
    }

    /// Whether the receiver holds this role in this term.
    fn is(&self, term: Term, roles: &[RoleName]) -> bool {
        self.term == term && roles.contains(&self.role)
    }

    fn match_index(&self, peer: Member) -> Index {
        let known = self.peers.iter().find(|(member, _)| *member == peer);
        known.map_or(Index::ZERO, |(_, index)| *index)
    }
}

/// Whether nothing can react to a message any more, whatever happens to its receiver.
fn is_dead(letter: &Envelope, receiver: &Receiver) -> bool {
    let is_past = letter.term < receiver.floor;
    match letter.rpc {
        // An answer to a candidate. A node is a candidate of a term only from the moment at which it
        // enters the term, with its own vote; once the term is durable it cannot enter it again.
        Rpc::RequestVoteResponse { .. } => {
            letter.term <= receiver.floor && !receiver.is(letter.term, &[RoleName::Candidate])
        }
        // An answer to a leader, which was a candidate of the term before.
        Rpc::AppendEntriesResponse { .. } | Rpc::InstallSnapshotResponse { .. } => {
            let roles = [RoleName::Candidate, RoleName::Leader];
            letter.term <= receiver.floor && !receiver.is(letter.term, &roles)
        }
        // The same. Without a session it tells a leader of its term only that the sender is alive,
        // and in which life: from then on earlier lives are refused, and later ones start over. If
        // there is no later one, a leader that knows of none may do whatever one that knows it may.
        Rpc::HeartbeatResponse { session, .. } => {
            let roles = [RoleName::Candidate, RoleName::Leader];
            // (Not so if the disk may have lost something on the way to that life: who does not know
            // of it does not send again what was acknowledged.)
            let is_nothing = !receiver.is_watching && !receiver.is_lossy;
            let is_old_news = receiver.outlook.is_last_life(letter) && is_nothing;
            let is_for_nobody = session == Session::ZERO && is_old_news;
            letter.term <= receiver.floor && (is_for_nobody || !receiver.is(letter.term, &roles))
        }
        // Pre-votes may be asked for again and again in one term.
        Rpc::RequestPreVoteResponse { .. } => is_past,
        // Of an earlier term these are refused without an answer. A node forwards a read within one
        // term; the answer to a read names that question.
        Rpc::Commit { .. }
        | Rpc::TimeoutNow
        | Rpc::ReadIndex { .. }
        | Rpc::ReadIndexResponse { .. } => is_past,
        // A stale request is answered with the present term, which may be news to its sender.
        Rpc::RequestPreVote { .. }
        | Rpc::RequestVote { .. }
        | Rpc::AppendEntries { .. }
        | Rpc::Heartbeat { .. }
        | Rpc::InstallSnapshot { .. } => false,
        // Questions are answered with what the server has then: they stay. Answers of an earlier term
        // are refused. (Those to a question that is over mean nothing either; few are on their way.)
        Rpc::Repair(ref rpc) => is_past && !rpc.is_request(),
    }
}

/// Whether a message of the receiver's term that changes nothing now and is not answered may be
/// needless for good. An answer to a candidate counts once. What a leader's peers say is looked at
/// more closely ([`settled`]). What a follower was told to be committed it knows until it crashes, unless
/// it does not have as much any more, and is to be told again when it has.
fn may_settle(rpc: &Rpc, receiver: &Receiver) -> bool {
    match rpc {
        Rpc::RequestVoteResponse { .. } => receiver.role == RoleName::Candidate,
        Rpc::AppendEntriesResponse { .. }
        | Rpc::HeartbeatResponse { .. }
        | Rpc::InstallSnapshotResponse { .. } => receiver.role == RoleName::Leader,
        Rpc::Commit { .. } => {
            let is_calm = !receiver.may_crash && !receiver.is_timed && !receiver.is_hurt;
            receiver.role == RoleName::Follower && is_calm && !receiver.may_rot
        }
        Rpc::RequestPreVote { .. }
        | Rpc::RequestPreVoteResponse { .. }
        | Rpc::RequestVote { .. }
        | Rpc::AppendEntries { .. }
        | Rpc::Heartbeat { .. }
        | Rpc::InstallSnapshot { .. }
        | Rpc::TimeoutNow
        | Rpc::ReadIndex { .. }
        | Rpc::ReadIndexResponse { .. }
        | Rpc::Repair(_) => false,
    }
}

/// What becomes of such a message.
///
/// A leader counts streams up and incarnations too: an answer that it disowns, since it belongs to
/// an earlier stream or life of the peer, it disowns for ever, and all that it could still learn from
/// it is that the peer is alive. An answer that it owns is owned until the stream ends, and changes
/// nothing now; so its round is confirmed already. Then
///
/// - a conflict below what is acknowledged is old for ever, since what is acknowledged only grows;
/// - a match stays of use: a leader that goes back to probing in the same stream goes on by it
///   ([`Match`]);
/// - the others may be of use again.
fn settled(letter: &Envelope, receiver: &Receiver, is_disowned: bool) -> Fate {
    match letter.rpc {
        Rpc::RequestVoteResponse { .. } | Rpc::Commit { .. } => Fate::Gone,
        Rpc::AppendEntriesResponse { .. }
        | Rpc::HeartbeatResponse { .. }
        | Rpc::InstallSnapshotResponse { .. }
            if is_disowned =>
        {
            if receiver.is_watching {
                Fate::Kept
            } else {
                Fate::Gone
            }
        }
        Rpc::AppendEntriesResponse { result: AppendResult::Conflict { rejected, .. }, .. } => {
            let is_old = rejected < receiver.match_index(letter.from);
            if is_old && !receiver.is_watching { Fate::Gone } else { Fate::Kept }
        }
        Rpc::AppendEntriesResponse { result: AppendResult::Matched { index }, .. } => {
            // A claim that cannot be, or of a stranger, is none.
            let is_known = index <= receiver.match_index(letter.from);
            if is_known { Fate::Matched } else { Fate::Kept }
        }
        Rpc::AppendEntriesResponse {
            result: AppendResult::Blank | AppendResult::Diverged { .. },
            ..
        }
        | Rpc::HeartbeatResponse { .. }
        | Rpc::InstallSnapshotResponse { .. }
        | Rpc::RequestPreVote { .. }
        | Rpc::RequestPreVoteResponse { .. }
        | Rpc::RequestVote { .. }
        | Rpc::AppendEntries { .. }
        | Rpc::Heartbeat { .. }
        | Rpc::InstallSnapshot { .. }
        | Rpc::TimeoutNow
        | Rpc::ReadIndex { .. }
        | Rpc::ReadIndexResponse { .. }
        | Rpc::Repair(_) => Fate::Kept,
    }
}

/// Of the matches of one stream that change nothing now, the one that claims most.
///
/// From now on they all say the same: the leader knows that the peer has as much, and the rounds that
/// they confirm. They only end a probe, which goes on behind what is acknowledged and not behind what
/// they claim, or tell that the peer is alive. (The one that claims most also ends the sending of a
/// snapshot wherever another one does.)
#[derive(Clone, Copy, Debug)]
struct Match {
    stream: (Member, Incarnation, Session),
    claim: (Index, Round),
    name: u32,
}

impl Match {
    fn add(matches: &mut Vec<Self>, name: u32, letter: &Envelope) {
        let Rpc::AppendEntriesResponse { session, round, result: AppendResult::Matched { index } } =
            letter.rpc
        else {
            unreachable!("only matches are taken for such");
        };
        let stream = (letter.from, letter.incarnation, session);
        let new = Self { stream, claim: (index, round), name };
        match matches.iter_mut().find(|known| known.stream == stream) {
            Some(known) if known.claim < new.claim => *known = new,
            Some(_) => {}
            None => matches.push(new),
        }
    }
}

/// Whether a request is stale for good. All of them are answered alike: with the present term and
/// nothing else. So one, of term 0, stands for all that a sender has sent.
fn is_stale(letter: &Envelope, receiver: &Receiver) -> bool {
    letter.term < receiver.floor && letter.rpc.is_request()
}

/// Whether a message was never sent, and stands for requests that were.
pub(crate) fn is_stand_in(letter: &Envelope) -> bool {
    matches!(letter.rpc, Rpc::Heartbeat { session: Session::ZERO, .. })
}

impl Store {
    /// The message that stands for requests of a sender: all stale ones, in term 0, or those of a
    /// term that are over but for the answer that they get when they are stale. Nobody opens a stream
    /// with session 0, so nothing that is sent is like it.
    pub(crate) fn stand_in(&mut self, from: Member, to: Member, term: Term) -> u32 {
        let (session, round, commit) = (Session::ZERO, Round::ZERO, Index::ZERO);
        let letter = Envelope {
            cluster: CLUSTER,
            group: GROUP,
            from,
            to,
            epoch: Epoch::ZERO,
            incarnation: Incarnation(1),
            term,
            rpc: Rpc::Heartbeat { session, round, commit, lease: Span(0) },
        };
        self.letter(letter, &Origin::Written)
    }
}

#[cfg(test)]
mod tests {
    use super::super::bounds::member;
    use super::super::by_hand::{noop, sync, with_log};
    use super::super::host::Input;
    use super::super::outlook::Weather;
    use super::*;

    /// What stands for requests of t1 is answered with t2 as soon as that is durable, whether or not t2
    /// is the last term.
    #[test]
    fn a_request_that_is_over_is_kept_until_a_later_term_is_durable_in_which_it_is_answered() {
        let bounds = Bounds { terms: 2, ..Bounds::default() };
        let mut store = Store::new(vec![vec![0, 1, 2]]);
        let outlook = Outlook { weather: Weather::Stormy, informed: 0 };
        let mut kept = |host: Host, term| -> Vec<Term> {
            let host = store.start(host);
            let letter = store.stand_in(member(2), member(0), Term(term));
            let inbox = store.inbox(vec![letter]);
            let kept = collect(&mut store, &bounds, host, inbox, outlook);
            store.inboxes.get(kept).iter().map(|name| store.letters.get(*name).term).collect()
        };
        let terms = |terms: &[u64]| terms.iter().map(|term| Term(*term)).collect::<Vec<_>>();
        let mut host = with_log(0, 1, &[noop(1)]);
        assert_eq!(kept(host.clone(), 1), terms(&[1]));
        host.take(&Input::Fire);
        assert_eq!((host.raft.status().term, host.disk.hard_state().term), (Term(2), Term(1)));
        assert_eq!(kept(host.clone(), 1), terms(&[1]), "t2 is not durable");
        sync(&mut host);
        assert_eq!(kept(host.clone(), 1), terms(&[0]), "any stale one stands for it");
        assert_eq!(kept(host, 2), terms(&[]), "there is no later term");
    }
}
