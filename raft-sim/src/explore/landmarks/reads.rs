//! What must have been seen where followers answer reads too.

use raft_core::{Outcome, Rejection, RoleName, RpcKind};

use super::{Bounds, Landmark, Taken, ends, step};
use crate::explore::facts::Fact;
use crate::explore::host::Input;

/// Reads at followers, by way of their leader (thesis §6.4).
pub(super) const ALL: &[Landmark] = &[
    step("a follower's read is answered by way of the leader", is_forwarded, |taken| {
        answers(taken) > 0
    }),
    step(
        "one answer of the leader ends several reads of a follower",
        |bounds| is_forwarded(bounds) && bounds.reads >= 2,
        |taken| answers(taken) > 1,
    ),
    step("a question waits at a new leader, which has not committed in its term", is_forwarded, {
        |taken| {
            let commit = taken.is.commit;
            let is_old = taken.after.raft.entry_id(commit).is_none_or(|id| id.term < taken.is.term);
            is_led(taken, RpcKind::ReadIndex) && is_old && taken.before != taken.after
        }
    }),
    step("a follower's read ends because its leader is silent", is_forwarded, |taken| {
        let is_timer = matches!(taken.input, Input::Fire | Input::Silence);
        is_timer && taken.was.role == RoleName::Follower && ends(taken, is_refused)
    }),
    step(
        "a follower's read ends because of a later term",
        |bounds| is_forwarded(bounds) && bounds.terms >= 2 && bounds.nodes >= 3,
        |taken| {
            let is_later = taken.letter().is_some() && taken.was.term < taken.is.term;
            is_later && taken.was.role == RoleName::Follower && ends(taken, is_refused)
        },
    ),
];

fn is_forwarded(bounds: &Bounds) -> bool {
    bounds.forward && bounds.reads >= 1 && bounds.nodes >= 2
}

fn is_led(taken: &Taken<'_>, kind: RpcKind) -> bool {
    let is_kind = taken.letter().is_some_and(|envelope| envelope.rpc.kind() == kind);
    is_kind && taken.is.role == RoleName::Leader
}

/// How many reads the answer of a leader ends here.
fn answers(taken: &Taken<'_>) -> usize {
    let is_response =
        taken.letter().is_some_and(|letter| letter.rpc.kind() == RpcKind::ReadIndexResponse);
    let answers = taken.facts.iter().filter(|fact| matches!(fact, Fact::Answers { .. }));
    if is_response { answers.count() } else { 0 }
}

fn is_refused(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Refused(Rejection::NotLeader { .. }))
}
