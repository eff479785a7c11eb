//! The checker: what must never happen, looked for at the moment at which a promise is made.
//!
//! It keeps a *ghost*: what each node has asked its disk for, what is really durable, what was
//! committed by which quorum, what clients were told. The ghost records facts and compares them;
//! it contains no rule of the product. Each invariant has a file, named after what it keeps:
//! [`Invariant`] lists them.
//!
//! The world reports every step of a node in this order: what it asks its storage to make durable,
//! its other outputs in the order in which they came, then [`Checker::commit_observed`], which
//! closes the step. What a disk made durable is reported before the node hears of it, and only if
//! it is true.
//!
//! Absent: liveness and determinism, which no single event can break. The world judges them, with
//! the facts that the checker offers.

mod bounds;
mod clients;
mod commit_immutable;
mod commit_quorum;
mod configuration;
mod damage;
mod doubt;
mod election_safety;
mod exactly_once;
mod facts;
mod ghost;
mod history;
mod leader_completeness;
mod lease_overlap;
mod lease_promise;
mod leases;
mod linearizability;
mod log;
mod log_matching;
mod machine;
mod monotonic_terms;
mod patience;
mod promise_durability;
mod recovery;
mod state_machine_safety;
mod tickets;
mod violation;

use std::sync::Arc;

use raft_core::{
    Entries, Envelope, HardState, Index, Member, Membership, NodeId, PersistBatch, PersistSeq,
    RecoveredState, RepairRpc, Rpc, SnapshotMeta, Span, Term, Time,
};
use raft_replica::replica::ReplicaOptions;
use raft_replica::session::Sessions;

use crate::fault::Fault;
use crate::options::Options;
use crate::workload::{KeyValue, Workload};
use exactly_once::Told;
use ghost::Ghost;
use history::History;
use machine::Machine;
use tickets::Tickets;

pub use bounds::{Load, Resident};
pub use history::{Answered, Asked, ClientId, Operation, OperationId, Outcome};
pub use tickets::{Fate, Wish};
pub use violation::{Invariant, Violation};

/// Of each seed that this number divides, what clients saw is judged once more without the ghost.
const SAMPLED_EVERY: u64 = 16;

/// The simulator's own truth about a cluster, and the judge of every step.
#[derive(Clone, Debug)]
pub struct Checker<W: Workload = KeyValue> {
    ghost: Ghost,
    machine: Machine<W>,
    history: History<W::Machine>,
    told: Told,
    tickets: Tickets,
    /// What nodes must not exceed, if that is judged.
    bounds: Option<Box<ReplicaOptions>>,
    /// Clocks differ by more than leases bear.
    are_leases_excused: bool,
    /// Zero if nobody looks when nodes campaign.
    election_timeout: Span,
}

impl<W: Workload> Checker<W> {
    /// The checker of a run, for clocks as its options let them go.
    pub(crate) fn of_run(
        options: &Options,
        members: &[Member],
        founders: &Membership,
        machine: W::Machine,
    ) -> Self {
        let mut checker = Self::new(members, founders, machine);
        if options.faults.contains(Fault::Drift) {
            checker.excuse_leases();
        }
        if !options.faults.contains(Fault::Jump) {
            checker.expect_patience(Span(options.election_timeout_us));
        }
        checker.expect_promotion(options.promotion_lag_entries_max);
        checker.expect_drift(options.clock_drift_percent);
        checker.expect_bounds(crate::node::bounds(options));
        if options.seed.is_multiple_of(SAMPLED_EVERY) {
            checker.keep_sample();
        }
        checker
    }

    /// A checker for these nodes, none of which has started, founded by `founders`, which begin with
    /// this machine.
    #[must_use]
    pub fn new(members: &[Member], founders: &Membership, machine: W::Machine) -> Self {
        Self {
            ghost: Ghost::new(members, founders),
            machine: Machine::new(machine),
            history: History::new(),
            told: Told::default(),
            tickets: Tickets::default(),
            bounds: None,
            are_leases_excused: false,
            election_timeout: Span(0),
        }
    }

    /// Judges from now on how soon nodes campaign. The clocks that [`Self::stepped`] tells must run
    /// steadily: a node does not count what a jump has skipped.
    pub fn expect_patience(&mut self, election_timeout: Span) {
        self.election_timeout = election_timeout;
    }

    /// Judges from now on who becomes a voter: it may lack so many committed entries at most.
    pub fn expect_promotion(&mut self, lag_max: u64) {
        self.ghost.promotion_lag_max = lag_max;
    }

    /// Judges from now on how long promises last that clocks must not break which differ by so much.
    pub fn expect_drift(&mut self, percent: u8) {
        self.ghost.clock_drift_percent = u64::from(percent);
    }

    /// Judges from now on whether nodes keep within these options, which all of them have.
    pub fn expect_bounds(&mut self, options: ReplicaOptions) {
        self.bounds = Some(Box::new(options));
    }

    /// A node asks its storage to make a batch durable.
    ///
    /// # Errors
    /// LM, MT, CI, DMG, PS.
    ///
    /// # Panics
    /// Like every method here, if the node is not one of those that [`Self::new`] was given.
    pub fn persist_issued(&mut self, node: NodeId, batch: &PersistBatch) -> Result<(), Violation> {
        let ghost = &mut self.ghost;
        let slot = ghost.slot(node);
        promise_durability::lives(&ghost.nodes[slot], "writes")?;
        monotonic_terms::starts_anew(&ghost.nodes[slot], batch)?;
        damage::written(&ghost.nodes[slot], batch)?;
        if let Some(hard_state) = &batch.hard_state {
            monotonic_terms::check(node, &ghost.nodes[slot].issued.hard_state, hard_state)?;
            promise_durability::decides(&ghost.nodes[slot], hard_state)?;
            patience::staged(&mut ghost.nodes[slot], hard_state);
            ghost.nodes[slot].issued.hard_state = *hard_state;
        }
        if let Some(snapshot) = &batch.install {
            commit_immutable::installed(ghost, slot, snapshot)?;
            ghost.nodes[slot].installed = snapshot.last.index;
            ghost.nodes[slot].issued.log.install(snapshot);
        }
        if let Some(from) = batch.truncate_from {
            commit_immutable::truncated(ghost, slot, from)?;
            ghost.nodes[slot].issued.log.truncate(from);
        }
        log_matching::appended(ghost, slot, batch)?;
        configuration::appended(ghost, slot, batch)?;
        election_safety::appended(ghost, slot, batch);
        let node = &mut ghost.nodes[slot];
        node.note_read(batch);
        bounds::appended(node, batch);
        if let Some(options) = &self.bounds {
            bounds::commands(options, node, batch)?;
        }
        node.issued.log.append(&batch.append);
        if let Some(through) = batch.compact_to {
            // A snapshot that covers it is durable by then.
            node.damaged.retain(|index| *index > through);
            node.compacted = node.compacted.max(through);
        }
        node.pending.push_back(batch.clone());
        Ok(())
    }

    /// A storage says that what it was given is durable; `unsynced` names something that it wrote
    /// and that its disk could still lose.
    ///
    /// # Errors
    /// PS.
    pub fn confirmed(&self, node: NodeId, unsynced: Option<String>) -> Result<(), Violation> {
        promise_durability::confirmed(node, unsynced)
    }

    /// All of a node's batches through `seq` are durable: what the disk really holds, not what it
    /// has confirmed.
    ///
    /// # Errors
    /// MT.
    pub fn persist_durable(&mut self, node: NodeId, seq: PersistSeq) -> Result<(), Violation> {
        let slot = self.ghost.slot(node);
        while let Some(batch) = self.ghost.nodes[slot].next_pending(seq) {
            self.ghost.nodes[slot].note_vouched(&batch);
            if let Some(hard_state) = &batch.hard_state {
                doubt::ended(&mut self.ghost, slot, hard_state)?;
                monotonic_terms::durable(&mut self.ghost, slot, hard_state)?;
            }
            self.ghost.nodes[slot].durable.log.apply(&batch);
            self.ghost.nodes[slot].note_durable(&batch);
        }
        Ok(())
    }

    /// A node's disk was told that it is at rest: every entry there has two names, and the hard state vouches
    /// for all of them.
    pub fn named(&mut self, node: NodeId) {
        let slot = self.ghost.slot(node);
        let node = &mut self.ghost.nodes[slot];
        node.named = node.durable.log.last_index();
        node.vouched = node.vouched.max(node.named);
    }

    /// A node's state machine is to be replaced by a snapshot.
    ///
    /// # Errors
    /// PS.
    pub fn restore_asked(&self, node: NodeId, snapshot: &SnapshotMeta) -> Result<(), Violation> {
        promise_durability::restore_asked(&self.ghost.nodes[self.ghost.slot(node)], snapshot)
    }

    /// A node hands a message to its network.
    ///
    /// # Errors
    /// ES, PS, LM, LC, CQ, CI, ET, DMG, BND.
    pub fn sent(&mut self, node: NodeId, envelope: &Envelope) -> Result<(), Violation> {
        let ghost = &mut self.ghost;
        let slot = ghost.slot(node);
        log_matching::sent(ghost, slot, envelope)?;
        match &envelope.rpc {
            Rpc::RequestVote { is_forced, .. } => {
                election_safety::votes(ghost, slot, envelope.term, envelope.from)?;
                if !is_forced {
                    patience::stands(&mut ghost.nodes[slot], self.election_timeout, envelope.term)?;
                }
            }
            Rpc::RequestPreVote { .. } => {
                patience::stands(&mut ghost.nodes[slot], self.election_timeout, envelope.term)?;
            }
            Rpc::RequestVoteResponse { granted: true } => {
                election_safety::votes(ghost, slot, envelope.term, envelope.to)?;
            }
            Rpc::AppendEntries { commit, .. }
            | Rpc::Commit { commit, .. }
            | Rpc::Heartbeat { commit, .. }
            | Rpc::ReadIndexResponse { index: commit, .. } => {
                election_safety::leads(ghost, slot, envelope.term)?;
                commit_quorum::claimed(ghost, slot, *commit)?;
            }
            Rpc::TimeoutNow | Rpc::Repair(RepairRpc::BarrierResponse { .. }) => {
                election_safety::leads(ghost, slot, envelope.term)?;
            }
            Rpc::Repair(RepairRpc::RequestSnapshotResponse { snapshot, .. }) => {
                commit_immutable::is_committed(ghost, node, snapshot.last)?;
            }
            Rpc::InstallSnapshot { snapshot, .. } => {
                election_safety::leads(ghost, slot, envelope.term)?;
                commit_immutable::is_committed(ghost, node, snapshot.last)?;
            }
            Rpc::RequestPreVoteResponse { .. }
            | Rpc::RequestVoteResponse { granted: false }
            | Rpc::AppendEntriesResponse { .. }
            | Rpc::HeartbeatResponse { .. }
            | Rpc::InstallSnapshotResponse { .. }
            | Rpc::ReadIndex { .. }
            | Rpc::Repair(_) => {}
        }
        promise_durability::sent(ghost, slot, envelope)?;
        lease_promise::sent(ghost, slot, envelope)?;
        damage::sent(ghost, slot, envelope)?;
        if let Some(options) = &self.bounds {
            bounds::sent(options, &ghost.nodes[slot], envelope)?;
        }
        commit_quorum::acknowledged(ghost, slot, envelope);
        Ok(())
    }

    /// A node whose disk has lost nothing hands this message to its network.
    ///
    /// # Errors
    /// DMG.
    pub fn sent_by_the_whole(&self, node: NodeId, envelope: &Envelope) -> Result<(), Violation> {
        damage::sent_by_the_whole(&self.ghost, self.ghost.slot(node), envelope)
    }

    /// A node has halted, or has been told that its disk has failed: in this life it says nothing more
    /// and writes nothing more.
    pub fn fell_silent(&mut self, node: NodeId) {
        let slot = self.ghost.slot(node);
        self.ghost.nodes[slot].is_over = true;
    }

    /// A step of a node is about to be reported; its clock shows `clock` in it.
    pub fn stepped(&mut self, node: NodeId, clock: Time) {
        let slot = self.ghost.slot(node);
        self.ghost.nodes[slot].clock = clock;
    }

    /// An operator asks a node to campaign: from now on in this life it may.
    pub fn urged(&mut self, node: NodeId) {
        let slot = self.ghost.slot(node);
        self.ghost.nodes[slot].is_urged = true;
        self.ghost.nodes[slot].has_stood = false;
    }

    /// A node says that it leads.
    ///
    /// # Errors
    /// ES, LC.
    pub fn became_leader(&mut self, node: NodeId, term: Term) -> Result<(), Violation> {
        let slot = self.ghost.slot(node);
        election_safety::leads(&mut self.ghost, slot, term)
    }

    /// Closes a step of a node, whose commit index is now `commit`.
    ///
    /// # Errors
    /// CQ, CI, BND.
    pub fn commit_observed(&mut self, node: NodeId, commit: Index) -> Result<(), Violation> {
        let slot = self.ghost.slot(node);
        self.ghost.nodes[slot].entered.clear();
        commit_immutable::observed(&self.ghost, slot, commit)?;
        commit_quorum::claimed(&mut self.ghost, slot, commit)?;
        let node = &mut self.ghost.nodes[slot];
        self.bounds.as_ref().map_or(Ok(()), |options| bounds::stepped(options, node, commit))
    }

    /// What a node holds at the end of a step, by its own account.
    ///
    /// # Errors
    /// BND.
    pub fn load_observed(&self, node: NodeId, load: &Load) -> Result<(), Violation> {
        let node = &self.ghost.nodes[self.ghost.slot(node)];
        self.bounds.as_ref().map_or(Ok(()), |options| bounds::holds(options, node, load))
    }

    /// The membership that a node shows at the end of a step, after its commit index.
    ///
    /// # Errors
    /// CF.
    pub fn membership_observed(
        &mut self,
        node: NodeId,
        membership: &Arc<Membership>,
    ) -> Result<(), Violation> {
        let slot = self.ghost.slot(node);
        configuration::in_force(&mut self.ghost, slot, membership)
    }

    /// A node has applied these entries; `digest` covers all that it has applied.
    ///
    /// # Errors
    /// CQ, CI, PS, SM, DMG, BND, EO.
    pub fn applied(
        &mut self,
        node: NodeId,
        entries: &Entries,
        digest: u64,
    ) -> Result<(), Violation> {
        let Some(last) = entries.last() else { return Ok(()) };
        let slot = self.ghost.slot(node);
        commit_quorum::claimed(&mut self.ghost, slot, last.index())?;
        state_machine_safety::applied(&mut self.ghost, slot, entries, digest)?;
        promise_durability::applied(&self.ghost, slot, last.id())?;
        damage::applied(&self.ghost.nodes[slot], last.id())?;
        if let Some(options) = &self.bounds {
            bounds::applied(options, &self.ghost.nodes[slot], entries)?;
        }
        exactly_once::applied(&self.told, &mut self.machine, entries)
    }

    /// A node's machine is not what the workload says that it must be.
    ///
    /// # Errors
    /// AP, if anything is wrong with it.
    pub fn inspected(
        &self,
        node: NodeId,
        applied: Index,
        found: Result<(), String>,
    ) -> Result<(), Violation> {
        let predicted = || "what the workload demands of every state".to_owned();
        let broken = |why| Violation::new(Invariant::Application, predicted(), why);
        found.map_err(|why| broken(why).on(node).at(applied))
    }

    /// A node that has applied the log through `applied` has this state. Says whether that could be
    /// judged: only who has applied as much as anybody else can be compared with the truth.
    ///
    /// # Errors
    /// SM.
    pub fn has_state(
        &self,
        node: NodeId,
        applied: Index,
        state: &W::Machine,
        sessions: &Sessions,
    ) -> Result<bool, Violation> {
        if applied != self.machine.applied() {
            return Ok(false);
        }
        state_machine_safety::has_state(&self.machine, node, state, sessions).map(|()| true)
    }

    /// A node has replaced its state machine by a snapshot.
    ///
    /// # Errors
    /// CI, PS, SM.
    pub fn restored(
        &mut self,
        node: NodeId,
        snapshot: &SnapshotMeta,
        digest: u64,
    ) -> Result<(), Violation> {
        let slot = self.ghost.slot(node);
        commit_immutable::is_committed(&self.ghost, node, snapshot.last)?;
        state_machine_safety::restored(&mut self.ghost, slot, snapshot, digest)?;
        promise_durability::applied(&self.ghost, slot, snapshot.last)
    }

    /// A node's process has ended; what was not durable may be lost.
    pub fn crashed(&mut self, node: NodeId) {
        let slot = self.ghost.slot(node);
        self.ghost.nodes[slot].crash();
        self.tickets.crashed(slot);
    }

    /// A server has a new, empty disk: from now on its id means this member.
    pub fn replaced(&mut self, member: Member) {
        self.ghost.replaced(member);
    }

    /// A server has lost what it had promised and is opened as `member`, with the log that it has and
    /// this hard state: from now on its id means this member.
    ///
    /// # Errors
    /// REC, if that hard state claims a promise of the old lineage.
    pub fn readmitted(&mut self, member: Member, hard_state: &HardState) -> Result<(), Violation> {
        let old = self.ghost.slot(member.id);
        recovery::starts_over(&self.ghost.nodes[old], hard_state)?;
        self.ghost.readmitted(member, *hard_state);
        Ok(())
    }

    /// A node starts again, from what its storage found. Also allowed for the first start.
    ///
    /// # Errors
    /// MT, REC, CI.
    pub fn recovered(&mut self, node: NodeId, found: &RecoveredState) -> Result<(), Violation> {
        let slot = self.ghost.slot(node);
        recovery::check(&mut self.ghost, slot, found)
    }
}
