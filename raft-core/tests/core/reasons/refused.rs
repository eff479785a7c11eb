//! Inputs that are refused aloud.

use std::sync::Arc;

use bytes::Bytes;
use raft_core::config::MESSAGE_ENTRIES_MAX;
use raft_core::{
    AppendResult, Body, ChunkId, ClusterId, Effect, Entries, EntryId, Envelope, Epoch, GroupId,
    Incarnation, Index, LIMIT, LoadPurpose, LoadRequest, Member, Membership, Observation, Payload,
    PersistSeq, Raft, ReadId, RecoveredState, Refused, RoleName, Round, Rpc, Session, SnapshotMeta,
    Span, Term, Time,
};

use super::{append, impossible_membership, led, noops, raft, says, step};
use crate::support::{Cluster, config, member, membership};

/// An input and the one reason for which it is refused.
pub(super) struct Case {
    raft: Raft,
    now: Time,
    body: Body,
    pub(super) reason: Refused,
    touches: Touches,
}

/// What a refused input may still do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Touches {
    /// Nothing but to be observed.
    Nothing,
    /// The sender is answered.
    Sender,
    /// It has shown that a later term has begun, or that its sender lives.
    Node,
}

impl Case {
    pub(super) fn check(self) {
        let Self { mut raft, now, body, reason, touches } = self;
        let before = raft.clone();
        let effects = step(&mut raft, now, body.clone());
        let reasons: Vec<Refused> = effects.iter().filter_map(refusal).collect();
        assert_eq!(reasons, [reason], "{body:?}");
        if touches != Touches::Node {
            assert_eq!(raft, before, "{reason:?}");
            assert_eq!(raft.digest(), before.digest(), "{reason:?}");
            let sent = effects.iter().filter(|effect| matches!(effect, Effect::Send(_))).count();
            assert_eq!(effects.len() - sent, 1, "{reason:?}: {effects:?}");
            assert_eq!(sent > 0, touches == Touches::Sender, "{reason:?}: {effects:?}");
        }
    }
}

fn refusal(effect: &Effect) -> Option<Refused> {
    let Effect::Observe(Observation::Refused { reason, .. }) = effect else { return None };
    Some(*reason)
}

pub(super) fn cases() -> Vec<Case> {
    [malformed(), stale(), candidates(), of_other_roles(), completions()]
        .into_iter()
        .flatten()
        .collect()
}

/// Messages that no correct peer sends to this node.
fn malformed() -> Vec<Case> {
    let cluster = led();
    let last = cluster.status(2).last;
    let probe = || says(1, 2, 1, append(last, Entries::empty()));
    let entries = |prev, entries| says(1, 2, 1, append(prev, entries));
    let membership = |membership| {
        let payload = Payload::Membership(Arc::new(membership));
        entries(last, Entries::after(last, [(Term(1), payload)]))
    };
    let after = noops(last, [1])[0].id();
    let ahead = EntryId { index: Index(last.index.0 + 5), term: Term(2), ..last };
    let too_many = noops(last, (0..=MESSAGE_ENTRIES_MAX).map(|_| 1));
    let rows = [
        (Envelope { cluster: ClusterId(8), ..probe() }, Refused::OtherGroup),
        (Envelope { group: GroupId(2), ..probe() }, Refused::OtherGroup),
        (Envelope { to: Member::new(2, 99), ..probe() }, Refused::NotForMe),
        (Envelope { from: Member::new(2, 99), ..probe() }, Refused::FromMyself),
        (Envelope { term: Term(LIMIT), ..probe() }, Refused::OutOfBounds),
        (entries(last, too_many), Refused::Oversized),
        (entries(last, noops(after, [1])), Refused::NotConsecutive),
        (entries(last, noops(last, [2])), Refused::NotConsecutive),
        (entries(last, noops(last, [0])), Refused::NotConsecutive),
        (entries(EntryId { chain: after.chain, ..last }, noops(last, [1])), Refused::BrokenChain),
        (membership(Membership::default()), Refused::InvalidMembership),
        (membership(impossible_membership()), Refused::InvalidMembership),
        (says(1, 2, 1, append(ahead, Entries::empty())), Refused::Impossible),
    ];
    rows.map(|(envelope, reason)| Case {
        raft: raft(&cluster, 2),
        now: cluster.now,
        body: Body::Peer(envelope),
        reason,
        touches: Touches::Nothing,
    })
    .into()
}

/// Messages from before: of an earlier epoch, term, life or stream.
fn stale() -> Vec<Case> {
    let cluster = led();
    let last = cluster.status(2).last;
    let peer = |from, to, term, rpc| Body::Peer(says(from, to, term, rpc));
    let to = |id, body, reason, touches| Case {
        raft: raft(&cluster, id),
        now: cluster.now,
        body,
        reason,
        touches,
    };
    let (session, round) = (Session(99), Round(0));
    let result = AppendResult::Matched { index: last.index };
    let answer = says(2, 1, 1, Rpc::AppendEntriesResponse { session, round, result });
    let known = Incarnation(1);
    let earlier = Envelope { incarnation: Incarnation(0), ..answer.clone() };
    let mine = stream(&cluster, 2);

    let mut founder = RecoveredState::genesis(membership(&[1, 2, 3], &[]));
    founder.hard_state.epoch = Epoch(1);
    let later_epoch = Refused::StaleEpoch { mine: Epoch(1), theirs: Epoch(0) };
    vec![
        Case {
            raft: started(founder),
            now: Time(0),
            body: peer(1, 2, 1, append(last, Entries::empty())),
            reason: later_epoch,
            touches: Touches::Sender,
        },
        to(
            2,
            peer(3, 2, 0, Rpc::RequestVote { last: EntryId::default(), is_forced: false }),
            Refused::StaleTerm { mine: Term(1), theirs: Term(0) },
            Touches::Sender,
        ),
        to(
            1,
            Body::Peer(earlier),
            Refused::StaleIncarnation { known, theirs: Incarnation(0) },
            Touches::Nothing,
        ),
        // It shows that the peer lives, of which a leader takes note.
        to(1, Body::Peer(answer), Refused::StaleSession { mine, theirs: session }, Touches::Node),
    ]
}

/// Candidates that do not get a vote, or an answer to what they asked before.
fn candidates() -> Vec<Case> {
    let cluster = led();
    let (now, mine) = (cluster.now, cluster.status(2).last);
    let theirs = EntryId::default();
    let request =
        |term, last| Body::Peer(says(3, 2, term, Rpc::RequestVote { last, is_forced: false }));
    let mut forgetful = raft(&cluster, 2);
    step(&mut forgetful, now, Body::ForgetLeader);
    // n3 has learnt of the leader without having voted.
    let mut elected = Cluster::new(&[1, 2, 3], &[]);
    elected.step(1, Body::Campaign);
    elected.deliver_if(|sent| sent.to != member(3));
    elected.tick(1, 100);
    elected.deliver();
    assert_eq!((elected.status(3).leader, elected.status(3).vote), (Some(member(1)), None));
    let ask_third = Body::Peer(says(2, 3, 1, Rpc::RequestVote { last: mine, is_forced: false }));

    let mut lent = Cluster::with(&[1, 2, 3], &[], |config| config.lease_us = 500);
    lent.elect(1);
    lent.tick(1, 100);
    lent.deliver();

    let mut asking = Cluster::new(&[1, 2, 3], &[]);
    asking.step(1, Body::Campaign);
    assert_eq!(asking.status(1).role, RoleName::PreCandidate);
    let late = Rpc::RequestPreVoteResponse { attempt: 0, granted: true };

    let mut doubtful = RecoveredState::genesis(membership(&[1, 2, 3], &[]));
    doubtful.hard_state.is_tail_unknown = true;

    let case = |raft, now, body, reason, touches| Case { raft, now, body, reason, touches };
    let promised = config(2).promise(Span(500));
    let voted = Refused::AlreadyVoted { candidate: member(1) };
    let known = Refused::LeaderKnown { leader: member(1) };
    let sticky = Refused::StickyLeader { left: Span(1_000) };
    let attempt = Refused::StaleAttempt { mine: 1, theirs: 0 };
    let late = Body::Peer(says(2, 1, 0, late));
    vec![
        case(raft(&cluster, 2), now, request(2, mine), sticky, Touches::Sender),
        case(
            raft(&lent, 2),
            lent.now,
            request(2, mine),
            Refused::Promised { left: promised },
            Touches::Sender,
        ),
        // The later term is adopted all the same.
        case(
            forgetful.clone(),
            now,
            request(2, theirs),
            Refused::LogBehind { mine, theirs },
            Touches::Node,
        ),
        case(forgetful, now, request(1, mine), voted, Touches::Sender),
        case(raft(&elected, 3), elected.now, ask_third, known, Touches::Sender),
        case(raft(&asking, 1), asking.now, late, attempt, Touches::Nothing),
        case(started(doubtful), Time(0), request(1, mine), Refused::TailUnknown, Touches::Node),
    ]
}

/// What a node does not do in its role, or not now.
fn of_other_roles() -> Vec<Case> {
    let cluster = led();
    let to = |id, body, reason| Case {
        raft: raft(&cluster, id),
        now: cluster.now,
        body,
        reason,
        touches: Touches::Nothing,
    };
    let vote = Rpc::RequestVoteResponse { granted: true };
    let question = Rpc::ReadIndex { id: ReadId { incarnation: Incarnation(1), n: 1 } };
    let mut halted = raft(&cluster, 2);
    step(&mut halted, cluster.now, Body::PersistFailed);
    let mut staging = raft(&cluster, 2);
    step(&mut staging, cluster.now, Body::Peer(says(1, 2, 1, chunk())));
    let mut full = raft(&cluster, 2);
    step(&mut full, cluster.now, Body::DiskFull { is_full: true });
    vec![
        to(1, Body::Peer(says(9, 1, 1, question)), Refused::NotAMember),
        to(2, Body::Peer(says(3, 2, 1, vote.clone())), Refused::Unasked),
        to(2, Body::StepDown, Refused::NotLeader),
        to(1, Body::ForgetLeader, Refused::NotFollower),
        to(4, Body::Campaign, Refused::NotAVoter),
        Case { raft: staging, ..to(2, Body::Peer(says(1, 2, 1, chunk())), Refused::Busy) },
        Case { raft: halted, ..to(2, Body::Peer(says(3, 2, 1, vote)), Refused::Halted) },
        Case { raft: full, ..to(2, Body::Campaign, Refused::DiskFull) },
    ]
}

/// Completions of what was never asked for.
fn completions() -> Vec<Case> {
    let cluster = led();
    let to = |body, reason| Case {
        raft: raft(&cluster, 2),
        now: cluster.now,
        body,
        reason,
        touches: Touches::Nothing,
    };
    let seq = PersistSeq { incarnation: Incarnation(1), n: 1_000 };
    let of_earlier_life = PersistSeq { incarnation: Incarnation(0), n: 1 };
    let through = Index(1_000);
    let snapshot = snapshot();
    let id = ChunkId { incarnation: Incarnation(1), n: 7 };
    let request = LoadRequest {
        purpose: LoadPurpose::Apply,
        after: EntryId::default(),
        through: Index(1),
        bytes_max: 1,
    };
    vec![
        to(Body::Persisted { seq }, Refused::UnknownPersist { seq }),
        to(
            Body::Persisted { seq: of_earlier_life },
            Refused::UnknownPersist { seq: of_earlier_life },
        ),
        to(Body::Applied { through }, Refused::UnknownApplied { through }),
        to(
            Body::SnapshotTaken { snapshot: Arc::clone(&snapshot) },
            Refused::UnknownSnapshot { snapshot: snapshot.last },
        ),
        to(Body::ChunkStaged { id, staged: 4 }, Refused::UnknownChunk { id }),
        to(Body::Loaded { request, entries: None }, Refused::UnknownLoad),
    ]
}

fn snapshot() -> Arc<SnapshotMeta> {
    let last = EntryId { index: Index(50), term: Term(1), ..EntryId::default() };
    Arc::new(SnapshotMeta { last, membership: membership(&[1, 2, 3], &[4]) })
}

fn chunk() -> Rpc {
    Rpc::InstallSnapshot {
        session: Session(1),
        round: Round(0),
        snapshot: snapshot(),
        offset: 0,
        data: Bytes::from_static(b"abcd"),
        done: false,
    }
}

/// The stream of appends from n1 to a peer.
pub(super) fn stream(cluster: &Cluster, to: u64) -> Session {
    let sent = cluster.trace.iter().rev().find_map(|(from, effect)| {
        let Effect::Send(envelope) = effect else { return None };
        let Rpc::Heartbeat { session, .. } = envelope.rpc else { return None };
        (*from == 1 && envelope.to == member(to)).then_some(session)
    });
    sent.expect("the leader has sent a heartbeat")
}

/// n2, whose first batch is durable.
fn started(found: RecoveredState) -> Raft {
    let (mut raft, effects) =
        Raft::recover(config(2), found, Time(0)).expect("the state is a valid one");
    for effect in effects {
        if let Effect::Persist(batch) = effect {
            step(&mut raft, Time(0), Body::Persisted { seq: batch.seq });
        }
    }
    raft
}
