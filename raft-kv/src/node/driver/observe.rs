//! What the core has seen, for the log, for the metrics, and for the node's end.

use raft_core::{HaltReason, Observation, RoleName};
use tracing::{error, info, warn};

use super::{Driver, End};
use crate::metrics;

impl Driver {
    pub(super) fn observe(&mut self, observation: Observation) {
        match observation {
            Observation::RoleChanged { role, term } => {
                info!(?role, term = term.0, "role");
                if role == RoleName::Candidate {
                    self.metrics.count(metrics::Event::Election);
                }
                if role == RoleName::Leader {
                    self.asked = super::stall::Asked::default();
                    self.new_names = super::names::NewNames::new(self.clock.now());
                    self.open_gateway();
                }
            }
            Observation::LeaderChanged { leader, term } => {
                info!(leader = leader.map(|leader| leader.id.0), term = term.0, "leader");
                self.metrics.count(metrics::Event::LeaderChange);
            }
            Observation::MembershipChanged { membership } => info!(%membership, "membership"),
            Observation::Refused { .. } => self.metrics.count(metrics::Event::RefusedMessage),
            Observation::Retired { successor } => {
                info!(successor = successor.map(|member| member.id.0), "removed from the cluster");
            }
            Observation::Violation(violation) => {
                error!(?violation, "the protocol's assumptions are broken");
                self.metrics.count(metrics::Event::Violation);
            }
            Observation::Halted { reason: HaltReason::LeftBehind { epoch } } => {
                let what = format!("the cluster has gone on without this node, in epoch {epoch}");
                self.end = Some(End::Failed(what));
            }
            Observation::Healed { first, count } => {
                info!(first = first.0, count, "damaged entries are whole again");
                self.metrics.count(metrics::Event::Repair);
            }
            // The disk's failure has been reported where it happened; all else is rare, and shown.
            other @ (Observation::Halted { reason: HaltReason::PersistFailed }
            | Observation::EntryDamaged { .. }
            | Observation::EntryMissed { .. }
            | Observation::EntryDiscarded { .. }
            | Observation::SnapshotWanted { .. }
            | Observation::TailUnknown
            | Observation::TailCertain
            | _) => {
                warn!(?other, "the node reports");
            }
        }
    }
}
