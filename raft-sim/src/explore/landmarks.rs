//! Facts that an exploration must have reached, lest its silence be taken for a proof.
//!
//! Each has a sentence, the bounds within which it must be reached, and how it is recognised. The
//! conditions are sufficient: within other bounds some of them may be reached all the same, which is
//! told and not demanded.

mod damage;
mod leases;
mod reads;

use std::fmt;

use raft_core::{
    EntryId, Index, Observation, Outcome, Refused, Rejection, RoleName, Rpc, RpcKind, Term,
};

use super::bounds::Bounds;
use super::coverage::{is_conflict, is_match};
use super::facts::Fact;
use super::host::{Host, Input};
use super::taken::Taken;

/// A fact that must have been reached.
#[derive(Clone, Copy)]
pub(crate) struct Landmark {
    /// A sentence.
    pub(crate) what: &'static str,
    /// Whether it must be reached within these bounds.
    pub(crate) is_expected: fn(&Bounds) -> bool,
    seen: Seen,
}

/// Who can recognise a landmark.
#[derive(Clone, Copy)]
enum Seen {
    /// A step of one server shows it.
    Step(fn(&Taken<'_>) -> bool),
    /// It is in the roles that servers have in which terms, when one of them has begun to lead.
    Leaders(fn(&[(RoleName, Term)]) -> bool),
}

impl Landmark {
    /// Whether it is about several servers at once. How often that is seen depends on how a search
    /// goes about it, and is not told.
    pub(crate) fn is_of_cluster(&self) -> bool {
        match self.seen {
            Seen::Step(_) => false,
            Seen::Leaders(_) => true,
        }
    }
}

impl fmt::Debug for Landmark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)
    }
}

/// The landmarks that a step of one server reaches, by their positions in [`all`].
pub(crate) fn of_step(taken: &Taken<'_>) -> impl Iterator<Item = usize> {
    positions(|landmark| match landmark.seen {
        Seen::Step(is_seen) => is_seen(taken),
        Seen::Leaders(_) => false,
    })
}

/// The landmarks that the servers show together after somebody has begun to lead.
pub(crate) fn of_cluster<'a>(hosts: impl Iterator<Item = &'a Host>) -> impl Iterator<Item = usize> {
    let roles = hosts.map(|host| host.raft.status());
    let roles: Vec<_> = roles.map(|status| (status.role, status.term)).collect();
    positions(move |landmark| match landmark.seen {
        Seen::Step(_) => false,
        Seen::Leaders(is_seen) => is_seen(&roles),
    })
}

fn positions(is_reached: impl Fn(&Landmark) -> bool) -> impl Iterator<Item = usize> {
    all().enumerate().filter(move |(_, landmark)| is_reached(landmark)).map(|(at, _)| at)
}

/// All landmarks.
pub(crate) fn all() -> impl Iterator<Item = &'static Landmark> {
    let chapters = [
        ELECTIONS,
        LOGS,
        CRASHES,
        damage::ALL,
        REQUESTS,
        reads::ALL,
        TRANSFERS,
        CHANGES,
        SNAPSHOTS,
        QUORUMS,
        leases::ALL,
    ];
    chapters.into_iter().flatten()
}

/// The sentence of a landmark, if it is one.
pub(crate) fn sentence(text: &str) -> Option<&'static str> {
    all().map(|landmark| landmark.what).find(|what| *what == text)
}

const fn step(
    what: &'static str,
    is_expected: fn(&Bounds) -> bool,
    is_seen: fn(&Taken<'_>) -> bool,
) -> Landmark {
    Landmark { what, is_expected, seen: Seen::Step(is_seen) }
}

/// Leader election (§5.2, §5.4.1).
const ELECTIONS: &[Landmark] = &[
    step("a server wins an election", |_| true, leads),
    step(
        "a server wins an election in a later term than the first",
        |bounds| bounds.terms >= 2,
        |taken| leads(taken) && taken.is.term >= Term(2),
    ),
    step(
        "a vote is refused because it is given",
        |bounds| bounds.nodes >= 2,
        |taken| refuses(taken, RpcKind::RequestVote, |r| matches!(r, Refused::AlreadyVoted { .. })),
    ),
    step(
        "a vote is given once more to the candidate that has it",
        |bounds| bounds.nodes >= 2,
        |taken| {
            let is_known = |envelope: &raft_core::Envelope| {
                let is_asked = matches!(envelope.rpc, Rpc::RequestVote { .. });
                is_asked && taken.was.term == envelope.term && taken.was.vote == Some(envelope.from)
            };
            let is_granted = |rpc: &Rpc| matches!(rpc, Rpc::RequestVoteResponse { granted: true });
            taken.letter().is_some_and(is_known) && taken.sends(is_granted)
        },
    ),
    step(
        "a vote is refused for a stale log",
        |bounds| is_contested(bounds) && !bounds.check_quorum,
        |taken| refuses(taken, RpcKind::RequestVote, is_log_behind),
    ),
    step(
        "a candidate gives way to the leader of its term",
        |bounds| bounds.nodes >= 3,
        |taken| {
            let is_told = taken.letter().is_some_and(|envelope| {
                envelope.rpc.is_from_leader() && envelope.term == taken.was.term
            });
            is_told && taken.turns(RoleName::Candidate, RoleName::Follower)
        },
    ),
    step(
        "a leader steps down for a candidate of a later term",
        |bounds| is_contested(bounds) && !bounds.check_quorum,
        |taken| is_deposed(taken, |kind| kind == RpcKind::RequestVote),
    ),
    step("a deposed leader learns of the later term by an answer", is_contested, |taken| {
        is_deposed(taken, |kind| {
            matches!(
                kind,
                RpcKind::AppendEntriesResponse
                    | RpcKind::HeartbeatResponse
                    | RpcKind::RequestVoteResponse
                    | RpcKind::InstallSnapshotResponse
            )
        })
    }),
    Landmark {
        what: "two servers lead at once, in different terms",
        is_expected: |bounds| bounds.nodes >= 3 && bounds.terms >= 2,
        seen: Seen::Leaders(|roles| {
            roles.iter().filter(|(role, _)| *role == RoleName::Leader).count() >= 2
        }),
    },
];

/// Log replication and commitment (§5.3, §5.4.2).
const LOGS: &[Landmark] = &[
    step(
        "an acknowledgement waits for the disk",
        |bounds| bounds.servers() >= 2,
        |taken| matches!(taken.input, Input::Persist { .. }) && taken.sends(is_match),
    ),
    step("a leader commits by counting", |_| true, commits),
    step(
        "a follower learns what is committed",
        |bounds| bounds.servers() >= 2,
        |taken| {
            let is_told = taken.letter().is_some() && taken.is.commit > taken.was.commit;
            is_told && taken.is.role == RoleName::Follower
        },
    ),
    step(
        "an entry of the leader's own term commits older ones with it",
        // Of two servers that ask first, the one that leads keeps the other from trying.
        |bounds| is_contested(bounds) && (bounds.nodes >= 3 || !bounds.pre_vote),
        |taken| {
            let oldest = taken.after.raft.entry_id(Index(taken.was.commit.0 + 1));
            commits(taken) && oldest.is_some_and(|id| id.term < taken.is.term)
        },
    ),
    step(
        "an append is refused because the logs differ before it",
        |bounds| bounds.nodes >= 3 && bounds.terms >= 2,
        |taken| taken.letter().is_some() && taken.sends(is_conflict),
    ),
    step(
        "a leader goes back to where the logs agree",
        |bounds| bounds.nodes >= 3 && bounds.terms >= 2,
        |taken| {
            let is_asked = taken.letter().is_some_and(|envelope| is_conflict(&envelope.rpc));
            is_asked && taken.sends(|rpc| matches!(rpc, Rpc::AppendEntries { .. }))
        },
    ),
    step(
        "a conflicting suffix is truncated",
        |bounds| bounds.nodes >= 3 && bounds.terms >= 2,
        |taken| taken.is_fact(|fact| matches!(fact, Fact::Truncates(_))),
    ),
    step("a stale append is answered with the present term", is_contested, |taken| {
        let is_stale = |reason: &Refused| matches!(reason, Refused::StaleTerm { .. });
        let is_told = |rpc: &Rpc| matches!(rpc, Rpc::HeartbeatResponse { .. });
        refuses(taken, RpcKind::AppendEntries, is_stale) && taken.sends(is_told)
    }),
];

/// Persistent state (Figure 2), and what a crash leaves of it.
const CRASHES: &[Landmark] = &[
    step(
        "a leader crashes",
        |bounds| bounds.crashes >= 1,
        |taken| taken.is_crash() && taken.was.role == RoleName::Leader,
    ),
    step(
        "a crash comes between two writes: the first is kept, the second is lost",
        |bounds| bounds.crashes >= 1 && (bounds.terms >= 2 || bounds.nodes >= 3),
        |taken| {
            let unsynced = taken.before.unsynced.len();
            matches!(taken.input, Input::Crash { whole, pieces: 0, .. } if (1..unsynced).contains(whole))
        },
    ),
    step(
        "a crash comes within a write: a beginning of it is kept",
        |bounds| bounds.crashes >= 1 && bounds.nodes >= 3,
        |taken| matches!(taken.input, Input::Crash { pieces, .. } if *pieces > 0),
    ),
    step(
        "a crash takes back a vote that nobody has heard of",
        |bounds| bounds.crashes >= 1 && bounds.nodes >= 2,
        |taken| taken.is_vote_lost() && taken.was.vote != Some(taken.was.member),
    ),
    step(
        "a crash takes entries that nobody was promised",
        |bounds| bounds.crashes >= 1,
        |taken| taken.is_crash() && taken.lost().next().is_some(),
    ),
];

/// Commands and reads of clients (§8, thesis §6.4).
const REQUESTS: &[Landmark] = &[
    step(
        "a client's command is committed",
        |bounds| bounds.entries >= 1,
        |taken| taken.is_fact(|fact| matches!(fact, Fact::Acknowledges { .. })),
    ),
    step(
        "a client's command is superseded by another leader's entry",
        |bounds| bounds.entries >= 1 && bounds.nodes >= 3 && bounds.terms >= 2,
        |taken| ends(taken, |outcome| *outcome == Outcome::Superseded),
    ),
    step(
        "a read waits at a new leader, which has not committed in its term",
        |bounds| bounds.reads >= 1,
        |taken| {
            let commit = taken.is.commit;
            let is_old = taken.after.raft.entry_id(commit).is_none_or(|id| id.term < taken.is.term);
            let is_asked = matches!(taken.input, Input::Read { .. });
            is_asked && taken.is.role == RoleName::Leader && is_old && is_waiting(taken)
        },
    ),
    step(
        "a read is confirmed by a round",
        |bounds| bounds.reads >= 1 && bounds.nodes >= 2,
        |taken| {
            let is_ready = taken.is_fact(|fact| matches!(fact, Fact::Answers { .. }));
            taken.letter().is_some() && is_ready
        },
    ),
    step(
        "a read ends without an answer because its leader is deposed",
        |bounds| bounds.reads >= 1 && is_contested(bounds),
        |taken| {
            let is_asked_now = matches!(taken.input, Input::Read { .. });
            taken.was.role == RoleName::Leader
                && !is_asked_now
                && ends(taken, |outcome| {
                    matches!(outcome, Outcome::Refused(Rejection::NotLeader { .. }))
                })
        },
    ),
];

/// Leadership transfer (thesis §3.10).
const TRANSFERS: &[Landmark] = &[
    step(
        "a successor is asked to campaign at once",
        |bounds| bounds.transfers >= 1,
        |taken| taken.sends(|rpc| *rpc == Rpc::TimeoutNow),
    ),
    step(
        "a successor campaigns at once",
        |bounds| bounds.transfers >= 1 && bounds.terms >= 2,
        |taken| {
            let is_asked = taken.letter().is_some_and(|envelope| envelope.rpc == Rpc::TimeoutNow);
            is_asked && taken.is.role == RoleName::Candidate
        },
    ),
    step(
        "a transfer is completed",
        |bounds| bounds.transfers >= 1 && bounds.terms >= 2,
        |taken| ends(taken, |outcome| matches!(outcome, Outcome::Transferred { .. })),
    ),
    step(
        "a transfer is aborted",
        |bounds| bounds.transfers >= 2 || (bounds.transfers >= 1 && bounds.heartbeats >= 2),
        |taken| ends(taken, |outcome| *outcome == Outcome::Refused(Rejection::TransferAborted)),
    ),
    step(
        "a command is refused while the leader hands over",
        |bounds| bounds.transfers >= 1 && bounds.entries >= 1,
        |taken| ends(taken, |outcome| *outcome == Outcome::Refused(Rejection::Transferring)),
    ),
];

/// Membership changes (§6, thesis §4).
const CHANGES: &[Landmark] = &[
    step(
        "a change is refused before the leader has committed in its term",
        |bounds| bounds.changes >= 1,
        |taken| ends(taken, |outcome| *outcome == Outcome::Refused(Rejection::NoOwnCommit)),
    ),
    step(
        "a joint membership is entered",
        |bounds| bounds.changes >= 1,
        |taken| enters_joint(taken) && taken.is.role == RoleName::Leader,
    ),
    step(
        "a joint membership is left",
        |bounds| bounds.changes >= 1,
        |taken| leaves_joint(taken) && taken.is.role == RoleName::Leader,
    ),
    step(
        "a joint membership is left by a later leader than the one that entered it",
        |bounds| bounds.changes >= 1 && bounds.terms >= 2 && bounds.nodes >= 3,
        |taken| {
            let before = taken.before.memberships();
            let entered = before.last().and_then(|(index, _)| taken.before.raft.entry_id(*index));
            let is_older = entered.is_some_and(|id| id.term < taken.is.term);
            leaves_joint(taken) && taken.is.role == RoleName::Leader && is_older
        },
    ),
    step(
        "a joint membership is rolled back",
        |bounds| bounds.changes >= 1 && bounds.terms >= 2 && bounds.nodes >= 3,
        |taken| {
            let is_truncated = taken.is_fact(|fact| matches!(fact, Fact::Truncates(_)));
            is_truncated && taken.was.membership.is_joint() && !taken.is.membership.is_joint()
        },
    ),
    step(
        "a learner becomes a voter",
        |bounds| bounds.changes >= 1 && bounds.learners >= 1,
        |taken| {
            let me = taken.is.member;
            taken.is.membership.is_voter(me) && !taken.was.membership.is_voter(me)
        },
    ),
    step(
        "a removed leader steps down",
        |bounds| bounds.changes >= 1 && bounds.nodes >= 2,
        |taken| taken.observes(|seen| matches!(seen, Observation::Retired { .. })),
    ),
];

/// Snapshots (§7).
const SNAPSHOTS: &[Landmark] = &[
    step(
        "a snapshot is taken and the log before it is dropped",
        |bounds| bounds.snapshots >= 1,
        |taken| taken.is.base.index > taken.was.base.index && *taken.input == Input::Snapshot,
    ),
    step(
        "a snapshot is sent",
        |bounds| bounds.snapshots >= 1 && bounds.nodes >= 3 && bounds.heartbeats >= 1,
        |taken| taken.sends(|rpc| matches!(rpc, Rpc::InstallSnapshot { .. })),
    ),
    step(
        "a snapshot is installed",
        |bounds| bounds.snapshots >= 1 && bounds.nodes >= 3 && bounds.heartbeats >= 1,
        |taken| !taken.is_crash() && taken.is_fact(|fact| matches!(fact, Fact::Restores(_))),
    ),
];

/// Pre-vote (thesis §9.6), sticky leaders (thesis §4.2.3) and the check of the quorum (thesis §6.2).
const QUORUMS: &[Landmark] = &[
    step(
        "a pre-vote is granted",
        |bounds| bounds.pre_vote && bounds.nodes >= 2,
        |taken| taken.sends(|rpc| matches!(rpc, Rpc::RequestPreVoteResponse { granted: true, .. })),
    ),
    step(
        "a pre-vote is refused for a stale log",
        |bounds| bounds.pre_vote && bounds.nodes >= 3 && bounds.terms >= 2,
        |taken| refuses(taken, RpcKind::RequestPreVote, is_log_behind),
    ),
    step(
        "a pre-vote is refused because a leader is alive",
        |bounds| bounds.pre_vote && bounds.nodes >= 2,
        |taken| refuses(taken, RpcKind::RequestPreVote, is_sticky),
    ),
    step(
        "a candidate is ignored because a leader is alive",
        |bounds| bounds.check_quorum && is_contested(bounds),
        |taken| refuses(taken, RpcKind::RequestVote, is_sticky),
    ),
    step(
        "a leader steps down for lack of a quorum",
        |bounds| bounds.check_quorum && bounds.nodes >= 2 && bounds.heartbeats >= 4,
        |taken| {
            let is_timer = *taken.input == Input::Fire && taken.was.term == taken.is.term;
            is_timer && taken.turns(RoleName::Leader, RoleName::Follower)
        },
    ),
];

/// Whether two servers can compete in two terms.
fn is_contested(bounds: &Bounds) -> bool {
    bounds.nodes >= 2 && bounds.terms >= 2
}

fn leads(taken: &Taken<'_>) -> bool {
    taken.is_fact(|fact| *fact == Fact::Leads)
}

fn commits(taken: &Taken<'_>) -> bool {
    taken.is.role == RoleName::Leader && taken.is.commit > taken.was.commit
}

fn refuses(taken: &Taken<'_>, asked: RpcKind, is_meant: fn(&Refused) -> bool) -> bool {
    taken.observes(|seen| {
        matches!(seen, Observation::Refused { kind, reason, .. }
            if *kind == Some(asked) && is_meant(reason))
    })
}

fn is_log_behind(reason: &Refused) -> bool {
    matches!(reason, Refused::LogBehind { .. })
}

fn is_sticky(reason: &Refused) -> bool {
    matches!(reason, Refused::StickyLeader { .. })
}

fn is_deposed(taken: &Taken<'_>, is_meant: fn(RpcKind) -> bool) -> bool {
    let is_told = taken.letter().is_some_and(|envelope| is_meant(envelope.rpc.kind()));
    is_told && taken.turns(RoleName::Leader, RoleName::Follower) && taken.was.term < taken.is.term
}

fn ends(taken: &Taken<'_>, is_meant: impl Fn(&Outcome) -> bool) -> bool {
    taken.effects.iter().any(
        |effect| matches!(effect, raft_core::Effect::Outcome { outcome, .. } if is_meant(outcome)),
    )
}

/// Whether a read that is asked for is neither answered nor refused.
fn is_waiting(taken: &Taken<'_>) -> bool {
    let is_over = |fact: &Fact| matches!(fact, Fact::Answers { .. } | Fact::Ends(_));
    !taken.is_fact(is_over)
}

fn enters_joint(taken: &Taken<'_>) -> bool {
    !taken.was.membership.is_joint() && taken.is.membership.is_joint()
}

/// Whether the log goes on from a joint membership to the one that follows.
fn leaves_joint(taken: &Taken<'_>) -> bool {
    let appended = |id: &EntryId| taken.after.raft.entry_id(id.index) == Some(*id);
    let is_longer = appended(&taken.was.last);
    is_longer && taken.was.membership.is_joint() && !taken.is.membership.is_joint()
}
