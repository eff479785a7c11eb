//! A leader whose disk stands still hands over: the others can go on without it.
//!
//! Who is asked may have died a moment ago, or be as slow. So the leader asks again, later each time:
//! while it waits for a successor it takes no writes, and with those of the others they may still come
//! about.

use raft_core::{RoleName, Span, Time};
use raft_replica::request::Input;
use raft_replica::request::{Reply, Request, RequestId};
use tracing::warn;

use super::Driver;
use crate::store::Store;

/// For how many election timeouts nobody is asked again after the first time in vain: who has died is
/// known to be silent by then.
const BACK_OFF: u64 = 2;

/// How often that is doubled at most.
const DOUBLED_MAX: u32 = 5;

/// What has come of asking others to lead, in this leadership.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Asked {
    /// The request that is under way.
    request: Option<RequestId>,
    /// How many were in vain.
    in_vain: u32,
    /// Not again before this.
    due: Option<Time>,
}

impl Driver {
    /// Lets somebody else lead if the disk has not answered for half of an election timeout.
    pub(super) fn give_up_if_stalled(&mut self, now: Time) {
        let patience = Span(self.config.election_timeout_us / 2);
        let is_stalled =
            self.unsynced.front().is_some_and(|(_, since)| now.since(*since) >= patience);
        let is_due = self.asked.request.is_none() && self.asked.due.is_none_or(|due| due <= now);
        if !(is_stalled && is_due) {
            return;
        }
        let status = self.replica.status();
        let is_leader = status.role == RoleName::Leader && status.transferee.is_none();
        if !is_leader || !self.view(now).has_heir() {
            return;
        }
        warn!("the disk does not answer: handing over");
        let id = self.name();
        self.asked.request = Some(id);
        let request = Request::TransferLeadership { to: None };
        self.inputs.push(Input::Request { id, request });
    }

    /// Whether a reply is to what the node has asked for itself.
    pub(super) fn was_asked(&mut self, id: RequestId, reply: &Reply<Store>) -> bool {
        if self.asked.request != Some(id) {
            return false;
        }
        self.asked.request = None;
        if !matches!(reply, Reply::Transferred { .. }) {
            let timeouts = BACK_OFF << self.asked.in_vain.min(DOUBLED_MAX);
            let pause = Span(self.config.election_timeout_us.saturating_mul(timeouts));
            self.asked.in_vain = self.asked.in_vain.saturating_add(1);
            self.asked.due = Some(self.clock.now().after(pause));
            warn!(?reply, "nobody takes over: asking again in {} ms", pause.0 / 1000);
        }
        true
    }
}
