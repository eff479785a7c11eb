//! Dispatch of what nodes say to each other about damage: any role may ask and answer.

use alloc::sync::Arc;

use super::Raft;
use crate::effect::Refused;
use crate::message::{EntryResult, Envelope, RepairRpc, Rpc};
use crate::role::{Leader, Role, Transition};
use crate::types::{Incarnation, Member, RepairId};
use crate::{barrier, compaction, repair};

impl Raft {
    pub(super) fn on_repair_rpc(&mut self, envelope: &mut Envelope) -> Transition {
        let Envelope { from, incarnation, ref mut rpc, .. } = *envelope;
        let kind = rpc.kind();
        let Rpc::Repair(rpc) = rpc else { return Transition::Stay };
        let node = &mut self.node;
        let done = match *rpc {
            RepairRpc::Barrier => match leader_of(&mut self.role) {
                Some(leader) => barrier::on_barrier(node, leader, from, incarnation),
                None => Err(Refused::NotLeader),
            },
            RepairRpc::BarrierResponse { incarnation, index } => {
                barrier::on_barrier_response(node, incarnation, index)
            }
            RepairRpc::RequestEntry { id, wanted, is_snapshot } => {
                if is_snapshot {
                    let leads = matches!(self.role, Role::Leader(_));
                    compaction::on_request_state(node, leads, from, id, wanted);
                } else {
                    repair::on_request_entry(node, from, id, wanted);
                }
                Ok(())
            }
            RepairRpc::RequestEntryResponse { id, ref mut result } => {
                let result = core::mem::replace(result, EntryResult::HaveDamaged);
                match self.on_entry(from, incarnation, id, result) {
                    Ok(transition) => return transition,
                    Err(reason) => Err(reason),
                }
            }
            RepairRpc::RequestSnapshot { id, snapshot, offset } => {
                repair::on_request_snapshot(node, from, id, snapshot, offset)
            }
            RepairRpc::RequestSnapshotResponse { id, ref snapshot, offset, ref data, done } => {
                let place = (Arc::clone(snapshot), offset);
                let part = (data.clone(), done);
                let sender = (from, incarnation);
                repair::on_request_snapshot_response(node, sender, id, place, part)
            }
        };
        if let Err(reason) = done {
            self.node.refuse_peer(from, kind, reason);
        }
        Transition::Stay
    }

    /// What an earlier life of a peer has said counts for nothing.
    fn on_entry(
        &mut self,
        from: Member,
        incarnation: Incarnation,
        id: RepairId,
        result: EntryResult,
    ) -> Result<Transition, Refused> {
        let leader = leader_of(&mut self.role);
        let peer = leader.as_ref().and_then(|leader| leader.peer_ref(from));
        let known = peer.map_or(Incarnation::ZERO, |peer| peer.incarnation);
        if incarnation < known {
            return Err(Refused::StaleIncarnation { known, theirs: incarnation });
        }
        let sender = (from, incarnation);
        repair::on_request_entry_response(&mut self.node, leader, sender, id, result)
    }
}

fn leader_of(role: &mut Role) -> Option<&mut Leader> {
    match role {
        Role::Leader(leader) => Some(leader),
        Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) | Role::Halted => None,
    }
}
