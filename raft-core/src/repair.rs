//! Damaged entries are replaced by intact copies from peers (protocol-aware recovery: Alagappan et
//! al., FAST'18, section 3.4).
//!
//! A node keeps the identity of every damaged entry, and its place in the log: it votes as if the
//! entry were there, acknowledges nothing from there on, and applies what is before it. Three ways
//! lead out:
//!
//! - the leader's appends bring the entry again, for the node's match ends before it (the
//!   replication chapter);
//! - any peer answers the question for the entry, by its identity;
//! - a snapshot covers it: the leader's, or that of a peer which is asked for it.
//!
//! A leader with a damaged entry cannot know whether the entry is committed. It appends nothing, not
//! even the entry of its term, and serves nothing until its log is whole. It may drop the entry, and
//! all after it, on one condition: so many voters of the membership in force *at that entry* never
//! had it that no quorum can have acknowledged it. Damage is no such answer, nor is silence, nor the
//! answer of a voter that was admitted later or does not know the end of its own log. Of a joint
//! membership the voters of the incoming half decide: the entry that leaves it may have been in
//! force already without anybody knowing.
//!
//! A leader whose snapshot alone is damaged leads: its log is whole, and without being told what is
//! committed its peers could not make another one. If its state machine has not applied as far as the
//! log begins, it applies nothing before another snapshot has come, and so its host can answer no read.
//!
//! If no intact copy is left and it cannot be ruled out that the entry is committed, the leader
//! stays, and says for what it waits on whom. It never invents an entry and never drops one.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::durable::SnapshotMeta;
use crate::effect::{Effect, HaltReason, Observation, Refused};
use crate::entry::{Entries, Payload};
use crate::message::{
    Chunk, ChunkPurpose, ChunkRequest, EntryResult, LoadPurpose, LoadRequest, RepairRpc, Rpc,
};
use crate::node::{Lending, Lent, Nack, Node, Repair};
use crate::progress::{Incoming, Origin, Staging};
use crate::quorum::majority;
use crate::role::{Leader, Role, Transition};
use crate::timers::Timer;
use crate::types::{ChunkId, EntryId, Incarnation, Index, Member, RepairId};

/// Keeps a question open about what is damaged first. A leader asks at once, and so does a node that has
/// just been helped; a follower first gives its leader's appends time to bring the entry.
pub(crate) fn ask(node: &mut Node, role: &Role) {
    drop_covered(node);
    let Some((wanted, is_snapshot)) = wanted(node) else {
        node.repair = None;
        return;
    };
    let is_it = |repair: &Repair| (repair.wanted, repair.is_snapshot) == (wanted, is_snapshot);
    if node.repair.as_deref().is_some_and(is_it) {
        return;
    }
    let is_urgent = node.repair.is_some() || matches!(role, Role::Leader(_));
    node.last_repair += 1;
    let id = RepairId { incarnation: node.hard_state().incarnation, n: node.last_repair };
    let patience = Timer::armed(node.config.election_timeout());
    let (is_overdue, answers) = (false, Vec::new());
    node.repair = Some(Box::new(Repair { id, wanted, is_snapshot, patience, is_overdue, answers }));
    node.observe(Observation::EntryDamaged { id: wanted });
    if is_urgent {
        send_question(node);
    }
}

/// Drops damaged entries that the node's own snapshot covers: the log begins after the last of them.
fn drop_covered(node: &mut Node) {
    let last = node.snapshot().last.index;
    let is_covered = node.gate.first_open_hole().is_some_and(|hole| hole <= last);
    // A snapshot that is being installed will cover the entry; one that was must be restored first.
    let is_whole = !node.is_snapshot_damaged() && !node.gate.is_installing();
    if is_covered && is_whole && last <= node.applied {
        node.compact(Arc::clone(node.snapshot()), Index::ZERO);
    }
}

/// A damaged entry that is applied is not needed once a snapshot covers it, and the host can take one.
fn want_own_snapshot(node: &mut Node) {
    let Some(Repair { wanted, .. }) = node.repair.as_deref() else { return };
    let index = wanted.index;
    if node.applied >= index {
        let by = node.member();
        node.observe(Observation::SnapshotWanted { by, index });
    }
}

/// A new leader asks at once, for no appends will come to it; and it asks anew, for a peer that said in
/// an earlier term that it never had the entry may have acknowledged it since.
pub(crate) fn on_elected(node: &mut Node) {
    let Some(repair) = &mut node.repair else { return };
    node.last_repair += 1;
    repair.id.n = node.last_repair;
    repair.is_overdue = false;
    repair.answers.clear();
    send_question(node);
}

/// Nobody has helped for an election timeout: says who cannot, and asks all again.
pub(crate) fn on_patience_over(node: &mut Node) {
    let patience = Timer::armed(node.config.election_timeout());
    let Some(repair) = &mut node.repair else { return };
    repair.patience = patience;
    repair.is_overdue = true;
    let who = |nack: Nack| {
        let found = repair.answers.iter().filter(move |(_, answer)| *answer == nack);
        found.map(|(member, _)| *member).collect()
    };
    let (never, damaged) = (who(Nack::Never), who(Nack::Damaged));
    let missed = Observation::EntryMissed { id: repair.wanted, never, damaged };
    node.observe(missed);
    // A sender of a snapshot that has fallen silent is given up for another one.
    node.incoming.take_if(|incoming| !core::mem::take(&mut incoming.is_moving));
    want_own_snapshot(node);
    send_question(node);
}

/// Whether this node leads and has waited for help in vain. Then it hears removed servers too, although
/// what they say is of a later term and ends its own.
pub(crate) fn needs_anybody(node: &Node, role: &Role) -> bool {
    let is_overdue = node.repair.as_ref().is_some_and(|repair| repair.is_overdue);
    is_overdue && matches!(role, Role::Leader(_))
}

/// A peer asks for an entry that is damaged there.
pub(crate) fn on_request_entry(node: &mut Node, from: Member, id: RepairId, wanted: EntryId) {
    let index = wanted.index;
    if node.log().id(index) == Some(wanted) && index > node.log().base().index {
        lend(node, from, id, wanted);
        return;
    }
    let result = if index <= node.snapshot().last.index {
        if node.is_snapshot_damaged() {
            EntryResult::HaveDamaged
        } else {
            EntryResult::HaveSnapshot { snapshot: Arc::clone(node.snapshot()) }
        }
    } else if node.hard_state().is_tail_unknown {
        // It may have been here.
        EntryResult::HaveDamaged
    } else {
        EntryResult::DontHave
    };
    say(node, from, RepairRpc::RequestEntryResponse { id, result });
}

/// The entry is in this log: it is sent at once, or read first.
fn lend(node: &mut Node, to: Member, id: RepairId, wanted: EntryId) {
    let index = wanted.index;
    let prev = node.log().id(index.prev()).expect("what is before an entry has an identity");
    if node.gate.is_hole(index) {
        say(node, to, RepairRpc::RequestEntryResponse { id, result: EntryResult::HaveDamaged });
    } else if node.log().is_cold(index) {
        if begin_lending(node, Lending { to, id, what: Lent::Entry(wanted) }) {
            let purpose = LoadPurpose::Repair { member: to, id };
            let bytes_max = node.config.append_bytes_max;
            let request = LoadRequest { purpose, after: prev, through: index, bytes_max };
            node.effects.push(Effect::Load(request));
        }
    } else {
        let entries = node.log().read(index.prev(), index, usize::MAX, 1);
        say(
            node,
            to,
            RepairRpc::RequestEntryResponse { id, result: EntryResult::Have { entries } },
        );
    }
}

/// Whether the host may read this for a peer now. For each peer it reads at most one entry and one chunk
/// at a time, or a peer that asks without end could fill its queue. A peer without an answer asks again.
fn begin_lending(node: &mut Node, lending: Lending) -> bool {
    let mut open = node.lending.iter();
    let is_begun =
        open.len() < node.config.requests_max && !open.any(|open| open.is_in_the_way_of(&lending));
    node.lending.extend(is_begun.then_some(lending));
    is_begun
}

/// The host has read an entry for a peer, or could not.
pub(crate) fn on_loaded(node: &mut Node, request: &LoadRequest, entries: Option<Entries>) {
    let LoadPurpose::Repair { member, id } = request.purpose else { return };
    let asked = node.lending.iter().enumerate().find_map(|(position, lending)| {
        let Lent::Entry(wanted) = lending.what else { return None };
        let is_asked = (lending.to, lending.id, wanted.index) == (member, id, request.through);
        is_asked.then_some((position, wanted))
    });
    let Some((position, wanted)) = asked else {
        node.refuse(Refused::UnknownLoad);
        return;
    };
    node.lending.remove(position);
    let is_it = |entries: &Entries| {
        entries.len() == 1 && entries.last().is_some_and(|entry| entry.id() == wanted)
    };
    let result = match entries {
        Some(entries) if is_it(&entries) => EntryResult::Have { entries },
        Some(_) => {
            node.refuse(Refused::UnknownLoad);
            return;
        }
        None => EntryResult::HaveDamaged,
    };
    say(node, member, RepairRpc::RequestEntryResponse { id, result });
}

/// A peer has answered.
pub(crate) fn on_request_entry_response(
    node: &mut Node,
    leader: Option<&mut Leader>,
    (from, incarnation): (Member, Incarnation),
    id: RepairId,
    result: EntryResult,
) -> Result<Transition, Refused> {
    let known = node.hard_state().incarnation;
    if id.incarnation != known {
        return Err(Refused::StaleIncarnation { known, theirs: id.incarnation });
    }
    let Some(repair) = node.repair.as_mut().filter(|repair| repair.id == id) else {
        return Err(Refused::Unasked);
    };
    let wanted = repair.wanted;
    let is_asked = asked(node, wanted).contains(&from);
    let nack = match result {
        EntryResult::Have { entries } => {
            let is_it = entries.len() == 1
                && entries[0].id() == wanted
                && node.log().id(wanted.index.prev()).map(|prev| prev.chain)
                    == Some(entries.chain_before());
            if !is_it {
                return Err(Refused::BrokenChain);
            }
            node.heal(&entries);
            return Ok(Transition::Stay);
        }
        // An entry proves itself, by its chain. A snapshot does not.
        EntryResult::HaveSnapshot { .. } if !is_asked => return Err(Refused::NotAMember),
        EntryResult::HaveSnapshot { snapshot } => {
            fetch(node, leader.is_some(), (from, incarnation), id, snapshot);
            return Ok(Transition::Stay);
        }
        EntryResult::DontHave => Nack::Never,
        EntryResult::HaveDamaged => Nack::Damaged,
    };
    let Some(repair) = node.repair.as_mut().filter(|_| is_asked) else {
        return Err(Refused::NotAMember);
    };
    match repair.answers.binary_search_by_key(&from, |(member, _)| *member) {
        Ok(position) => repair.answers[position].1 = nack,
        Err(position) => repair.answers.insert(position, (from, nack)),
    }
    match leader {
        Some(leader) if leader.is_damaged => Ok(discard(node, leader, wanted)),
        // A leader never drops entries of its own term, so it steps down. Then one of those that never
        // had the entry wins, or this node wins again and discards it as a damaged leader.
        Some(_) if is_open_and_ruled_out(node, wanted.index) => Ok(Transition::Follow(None)),
        Some(_) | None => Ok(Transition::Stay),
    }
}

/// Drops the damaged entry and all after it, if it cannot have been committed.
fn discard(node: &mut Node, leader: &mut Leader, wanted: EntryId) -> Transition {
    let index = wanted.index;
    if !is_open_and_ruled_out(node, index) {
        return Transition::Stay;
    }
    if index <= node.commit() {
        return Transition::Halt(HaltReason::CommittedLost { index });
    }
    node.observe(Observation::EntryDiscarded { id: wanted });
    node.truncate_from(index);
    // What was said about the log as it was says nothing about the log as it is, and a membership may
    // be gone with the entry.
    leader.peers_as_of = node.membership_index();
    let membership = Arc::clone(node.membership());
    let lives: Vec<(Member, Incarnation)> =
        leader.peers.iter().map(|peer| (peer.member, peer.incarnation)).collect();
    leader.begin_streams(node.member(), &membership, node.log().last().index);
    for (member, incarnation) in lives {
        if let Some(peer) = leader.peer(member) {
            peer.incarnation = incarnation;
        }
    }
    Transition::Stay
}

fn is_open_and_ruled_out(node: &Node, index: Index) -> bool {
    node.gate.is_open_hole(index) && is_ruled_out(node, index)
}

/// Whether so many voters never had the entry that no quorum can have acknowledged it. The leader
/// does not count itself: it had the entry.
fn is_ruled_out(node: &Node, index: Index) -> bool {
    let (Some(membership), Some(repair)) = (node.membership_at(index), &node.repair) else {
        return false;
    };
    let voters = membership.incoming();
    let never = |voter: &&Member| {
        let answer = repair.answers.iter().find(|(member, _)| member == *voter);
        **voter != node.member() && answer.is_some_and(|(_, nack)| *nack == Nack::Never)
    };
    let nacks = voters.iter().filter(never).count();
    nacks + majority(voters.len()) > voters.len()
}

/// A leader whose log is whole again leads like any new one: it appends an entry of its term.
pub(crate) fn resume_if_whole(node: &mut Node, leader: &mut Leader) {
    if !leader.is_damaged || node.gate.first_hole().is_some() {
        return;
    }
    leader.is_damaged = false;
    let last = node.log().last();
    leader.noop_index = last.index.next();
    node.append(Entries::just(last, node.term(), Payload::Noop));
}

/// The host has found damage while it runs. What is still in memory is written again at once.
#[inline(never)]
pub(crate) fn on_damaged(node: &mut Node, found: &[EntryId]) {
    for id in found {
        let is_there = node.log().id(id.index) == Some(*id) && id.index > node.log().base().index;
        if !is_there || id.index > node.gate.written_index() || node.gate.is_open_hole(id.index) {
            continue; // It is gone, on its way to the disk, or known to be damaged.
        }
        node.gate.open_hole(id.index);
        let before = node.log().id(id.index.prev()).expect("what is before it has an identity");
        if !node.log().is_cold(id.index) {
            let entries = node.log().read(before.index, id.index, usize::MAX, 1);
            node.heal(&entries);
        } else if let Some(membership) = node.membership_appended_at(id.index) {
            node.heal(&Entries::just(before, id.term, Payload::Membership(membership)));
        }
    }
}

/// Goes on with a snapshot that covers what is damaged here, or begins with it.
fn fetch(
    node: &mut Node,
    is_leader: bool,
    (from, incarnation): (Member, Incarnation),
    id: RepairId,
    snapshot: Arc<SnapshotMeta>,
) {
    let last = snapshot.last;
    let mine = node.log().id(last.index);
    let is_use = node.is_missed_by(last.index) && last.index >= node.log().base().index;
    // A snapshot covers only what is committed, so another entry at that index is not: a leader must
    // replace it first. A leader takes only a snapshot whose last entry it has.
    let is_mine = mine == Some(last) || (mine.is_none() && !is_leader);
    let is_busy = node.staging.is_some() || node.gate.is_installing();
    if !is_use || !is_mine || is_busy {
        return;
    }
    if let Some(violation) = node.contradiction(&snapshot) {
        node.violation(violation);
        return;
    }
    let is_same = |incoming: &Incoming| {
        incoming.snapshot.last == last && incoming.sender() == (from, incarnation)
    };
    match &mut node.incoming {
        Some(incoming) if is_same(incoming) => incoming.origin = Origin::Repair { id },
        Some(_) => return, // Another one is on its way.
        None => {
            let origin = Origin::Repair { id };
            let staged = 0;
            let incoming =
                Incoming { snapshot, staged, from, incarnation, origin, is_moving: true };
            node.incoming = Some(Box::new(incoming));
        }
    }
    request_chunk(node);
}

/// A peer asks for a part of a snapshot.
pub(crate) fn on_request_snapshot(
    node: &mut Node,
    from: Member,
    id: RepairId,
    snapshot: EntryId,
    offset: u64,
) -> Result<(), Refused> {
    if node.snapshot().last != snapshot || node.is_snapshot_damaged() {
        return Err(Refused::UnknownSnapshot { snapshot });
    }
    if snapshot.index == Index::ZERO {
        // The genesis is a membership alone: there is nothing to read.
        let (snapshot, data, done) = (Arc::clone(node.snapshot()), Bytes::new(), true);
        say(node, from, RepairRpc::RequestSnapshotResponse { id, snapshot, offset, data, done });
        return Ok(());
    }
    if begin_lending(node, Lending { to: from, id, what: Lent::Chunk }) {
        let purpose = ChunkPurpose::Repair { id };
        let bytes_max = node.config.snapshot_chunk_bytes;
        let request = ChunkRequest { to: from, purpose, snapshot, offset, bytes_max };
        node.effects.push(Effect::ReadChunk(request));
    }
    Ok(())
}

/// The host has read a part of the snapshot for a peer, or found that it is gone: then the peer
/// asks again, and hears of a newer one.
pub(crate) fn on_chunk_read(
    node: &mut Node,
    request: ChunkRequest,
    id: RepairId,
    read: Option<Chunk>,
) {
    let lending = Lending { to: request.to, id, what: Lent::Chunk };
    let Some(position) = node.lending.iter().position(|open| *open == lending) else {
        node.refuse(Refused::Unasked);
        return;
    };
    node.lending.remove(position);
    let snapshot = Arc::clone(node.snapshot());
    let Some(Chunk { data, done }) = read.filter(|_| snapshot.last == request.snapshot) else {
        return;
    };
    let offset = request.offset;
    say(node, request.to, RepairRpc::RequestSnapshotResponse { id, snapshot, offset, data, done });
}

/// A part of the snapshot has come.
pub(crate) fn on_request_snapshot_response(
    node: &mut Node,
    sender: (Member, Incarnation),
    id: RepairId,
    (snapshot, offset): (Arc<SnapshotMeta>, u64),
    (data, done): (Bytes, bool),
) -> Result<(), Refused> {
    let is_asked = |incoming: &&mut Incoming| {
        incoming.sender() == sender
            && incoming.origin == (Origin::Repair { id })
            && incoming.snapshot == snapshot
    };
    let Some(incoming) = node.incoming.as_deref_mut().filter(is_asked) else {
        return Err(Refused::Unasked);
    };
    if node.staging.is_some() || node.gate.is_installing() || incoming.staged != offset {
        return Err(Refused::Busy);
    }
    node.last_chunk += 1;
    let chunk = ChunkId { incarnation: node.hard_state().incarnation, n: node.last_chunk };
    let end = offset + data.len() as u64;
    node.staging = Some(Box::new(Staging { id: chunk, end, is_last: done }));
    node.effects.push(Effect::StageChunk { id: chunk, snapshot, offset, data, done });
    Ok(())
}

/// Asks for the next part of the snapshot that is on its way.
pub(crate) fn request_chunk(node: &mut Node) {
    let Some(Incoming { snapshot, staged, from, origin: Origin::Repair { id }, .. }) =
        node.incoming.as_deref()
    else {
        return;
    };
    let rpc = RepairRpc::RequestSnapshot { id: *id, snapshot: snapshot.last, offset: *staged };
    say(node, *from, rpc);
}

/// What is asked for: the oldest damaged entry, and only then a snapshot in the place of a damaged one.
/// As long as a leader's log is not whole its peers hear of no commit, and can make no snapshot.
fn wanted(node: &Node) -> Option<(EntryId, bool)> {
    let hole = node.gate.first_open_hole().and_then(|hole| node.log().id(hole));
    let snapshot = node.is_snapshot_damaged().then(|| node.snapshot().last);
    hole.map(|id| (id, false)).or(snapshot.map(|id| (id, true)))
}

fn send_question(node: &mut Node) {
    let Some(Repair { id, wanted, is_snapshot, .. }) = node.repair.as_deref() else { return };
    let (id, wanted, is_snapshot) = (*id, *wanted, *is_snapshot);
    for member in asked(node, wanted) {
        say(node, member, RepairRpc::RequestEntry { id, wanted, is_snapshot });
    }
}

/// The members to ask: all others, of now and of when the entry was appended.
fn asked(node: &Node, wanted: EntryId) -> Vec<Member> {
    let mut members = node.membership().members();
    members.extend(node.membership_at(wanted.index).into_iter().flat_map(|then| then.members()));
    members.retain(|member| *member != node.member());
    members.sort_unstable();
    members.dedup();
    members
}

fn say(node: &mut Node, to: Member, rpc: RepairRpc) {
    node.send(to, Rpc::Repair(rpc));
}
