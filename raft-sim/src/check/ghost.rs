//! The ghost: facts about all nodes at once, which no node can know.
//!
//! Everything that is asked after every event is one indexed access. Nothing is forgotten during a
//! run; its length bounds the memory.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use raft_core::{
    Chain, EntryId, HardState, Incarnation, Index, Member, Membership, NodeId, PersistBatch,
    PersistSeq, RecoveredState, RepairId, Term, Time,
};

use super::bounds::Uncommitted;
use super::damage::Question;
use super::lease_promise::Leases;
use super::log::Log;

/// All facts that the invariants compare.
#[derive(Clone, Debug)]
pub(super) struct Ghost {
    /// A server whose disk was replaced is somebody else: the later of two with one id is the one
    /// that lives.
    pub(super) nodes: Vec<Node>,
    pub(super) chains: Chains,
    pub(super) committed: Committed,
    pub(super) reigns: Reigns,
    /// By index: the digest of the state machine of whoever was first to stop there.
    pub(super) digests: Vec<Option<u64>>,
    /// How many committed entries a member may lack that becomes a voter.
    pub(super) promotion_lag_max: u64,
    /// By how many percent the fastest clock may outrun the slowest.
    pub(super) clock_drift_percent: u64,
    /// What a node has that was given nothing.
    blank: View,
}

impl Ghost {
    pub(super) fn new(members: &[Member], founders: &Membership) -> Self {
        let given = |membership: &Membership| {
            let genesis = RecoveredState::genesis(membership.clone()).before;
            View { hard_state: HardState::default(), log: Log::new(genesis, membership.clone()) }
        };
        let (start, blank) = (given(founders), given(&Membership::default()));
        let genesis = start.log.base();
        let view = |member| if founders.is_member(member) { &start } else { &blank };
        let nodes = members.iter().map(|&member| Node::new(member, view(member))).collect();
        Self {
            nodes,
            blank,
            chains: Chains::default(),
            committed: Committed::new(genesis, Arc::clone(start.log.membership())),
            reigns: Reigns::default(),
            digests: Vec::new(),
            promotion_lag_max: u64::MAX,
            clock_drift_percent: 0,
        }
    }

    /// The position of a node in all tables.
    ///
    /// # Panics
    /// If the world names a node that it has not announced.
    pub(super) fn slot(&self, id: NodeId) -> usize {
        let living = self.nodes.iter().rposition(|node| node.member.id == id);
        living.expect("the world names announced nodes only")
    }

    pub(super) fn find(&self, member: Member) -> Option<usize> {
        self.nodes.iter().position(|node| node.member == member)
    }

    /// A server has a new, empty disk.
    pub(super) fn replaced(&mut self, member: Member) {
        let node = Node::new(member, &self.blank);
        self.nodes.push(node);
    }

    /// A server goes on as somebody else, with its log.
    pub(super) fn readmitted(&mut self, member: Member, hard_state: HardState) {
        let old = &self.nodes[self.slot(member.id)];
        let start = View { hard_state, log: old.durable.log.clone() };
        let mut node = Node::new(member, &start);
        // Some of it may have become durable unnoticed, but for what it had promised.
        node.pending.clone_from(&old.pending);
        node.pending.iter_mut().for_each(|batch| batch.hard_state = None);
        self.nodes.push(node);
    }

    /// Of each server, the lineage that lives.
    pub(super) fn living(&self) -> impl Iterator<Item = &Node> {
        let is_last = |slot: &usize| self.slot(self.nodes[*slot].member.id) == *slot;
        (0..self.nodes.len()).filter(is_last).map(|slot| &self.nodes[slot])
    }

    /// Whether an entry is the beginning that a node has which was given nothing.
    pub(super) fn is_blank(&self, id: EntryId) -> bool {
        id == self.blank.log.base()
    }

    /// How far a majority of every half of `membership` has got, by `reached`.
    pub(super) fn quorum_index(
        &self,
        membership: &Membership,
        reached: impl Fn(usize) -> Index,
    ) -> Index {
        let half = |voters: &[Member]| {
            let mut indices: Vec<Index> = voters
                .iter()
                .map(|voter| self.find(*voter).map_or(Index::ZERO, &reached))
                .collect();
            indices.sort_unstable();
            // Of n in rising order, the element at (n - 1) / 2 is reached by n / 2 + 1 of them.
            indices.get(indices.len().saturating_sub(1) / 2).copied()
        };
        let incoming = half(membership.incoming()).unwrap_or(Index::ZERO);
        half(membership.outgoing()).map_or(incoming, |outgoing| outgoing.min(incoming))
    }
}

/// What is known about one node.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) member: Member,
    /// What the node has asked for: its state as it knows it.
    pub(super) issued: View,
    /// What its disk would give back after a crash now, at least.
    pub(super) durable: View,
    /// The last entry that was ever durable on its disk.
    pub(super) reached: Index,
    /// Through where its hard state says that the log was durable, at least.
    pub(super) vouched: Index,
    /// Through where its disk was told at rest that its log was acknowledged.
    pub(super) named: Index,
    /// The entries that its last start could not read, and that nothing durable has replaced since.
    pub(super) damaged: BTreeSet<Index>,
    /// Where its log has memberships of which its last start could read no copy.
    pub(super) unread: Vec<Index>,
    /// What it has ever asked its peers for, because its own is damaged.
    pub(super) questions: BTreeMap<RepairId, Question>,
    /// Questions, by who asked, for entries that it did not have then.
    pub(super) lacked: BTreeSet<(Member, RepairId)>,
    /// Through where its log may be gone, for a snapshot covers it.
    pub(super) compacted: Index,
    /// What its disk has lost of the end of its log while it is in doubt.
    pub(super) owed: Vec<EntryId>,
    /// What was asked for and is not known to be durable.
    pub(super) pending: VecDeque<PersistBatch>,
    /// Every vote that was ever durable, by term.
    pub(super) votes: BTreeMap<Term, Member>,
    /// The commit index that the node has shown in this life.
    pub(super) commit: Index,
    /// Through where its state machine has applied in this life.
    pub(super) applied: Index,
    /// What it has appended as a leader and does not know to be committed.
    pub(super) uncommitted: Uncommitted,
    /// Through where a snapshot has replaced its log in this life.
    pub(super) installed: Index,
    /// The last term that it has led.
    pub(super) led: Option<Term>,
    /// Memberships were appended in the step that is under way.
    pub(super) is_changing: bool,
    /// The terms whose first entries were appended in the step that is under way, each with the
    /// membership in force before that.
    pub(super) entered: Vec<(Term, Arc<Membership>)>,
    /// The incarnation that its disk had when it started.
    pub(super) found: Incarnation,
    /// What its clock shows in the step that is under way.
    pub(super) clock: Time,
    /// The last vote that it has given to another in this life: the term, and when by its clock.
    pub(super) granted: Option<(Term, Time)>,
    /// An operator has asked it to campaign in this life.
    pub(super) is_urged: bool,
    /// It has campaigned since.
    pub(super) has_stood: bool,
    /// The last lease by which it has answered in this life: the term, and its end in true time.
    pub(super) lease: Option<(Term, Time)>,
    /// It has halted in this life, or knows that its disk has failed.
    pub(super) is_over: bool,
}

impl Node {
    fn new(member: Member, start: &View) -> Self {
        Self {
            member,
            issued: start.clone(),
            durable: start.clone(),
            reached: start.log.last_index(),
            vouched: Index::ZERO,
            named: Index::ZERO,
            damaged: BTreeSet::new(),
            unread: Vec::new(),
            questions: BTreeMap::new(),
            lacked: BTreeSet::new(),
            compacted: Index::ZERO,
            owed: Vec::new(),
            pending: VecDeque::new(),
            votes: BTreeMap::new(),
            commit: Index::ZERO,
            applied: Index::ZERO,
            uncommitted: Uncommitted::new(),
            installed: Index::ZERO,
            led: None,
            is_changing: false,
            entered: Vec::new(),
            found: Incarnation::ZERO,
            clock: Time(0),
            granted: None,
            is_urged: false,
            has_stood: false,
            lease: None,
            is_over: false,
        }
    }

    /// Its process has ended, and with it what only its memory knew.
    pub(super) fn crash(&mut self) {
        self.led = None;
        self.is_changing = false;
        self.entered.clear();
        self.commit = Index::ZERO;
        self.applied = Index::ZERO;
        self.uncommitted.clear();
        self.installed = Index::ZERO;
        self.granted = None;
        self.is_urged = false;
        self.has_stood = false;
        self.lease = None;
        self.is_over = false;
    }

    /// A batch is about to be durable: a hard state that changes counts what was durable before it, and so
    /// does one before entries are healed; it stops to count what goes.
    pub(super) fn note_vouched(&mut self, batch: &PersistBatch) {
        let is_new = batch.hard_state.is_some_and(|state| state != self.durable.hard_state);
        if is_new || !batch.heal.is_empty() {
            self.vouched = self.vouched.max(self.durable.log.last_index());
        }
        if let Some(end) = ends_at(batch) {
            self.vouched = self.vouched.min(end);
            self.named = self.named.min(end);
        }
    }

    /// A batch was asked for: what it heals the node knows, and what goes need not be known.
    pub(super) fn note_read(&mut self, batch: &PersistBatch) {
        let is_healed =
            |at| batch.heal.iter().any(|run| run.iter().any(|entry| entry.index() == at));
        let is_covered =
            |at| batch.install.as_ref().is_some_and(|snapshot| at <= snapshot.last.index);
        let is_gone = |at| batch.truncate_from.is_some_and(|from| at >= from);
        self.unread.retain(|at| !is_healed(*at) && !is_covered(*at) && !is_gone(*at));
    }

    /// A batch is durable: what was damaged is whole again, or gone.
    pub(super) fn note_durable(&mut self, batch: &PersistBatch) {
        self.reached = self.reached.max(self.durable.log.last_index());
        if self.damaged.is_empty() {
            return;
        }
        for entry in batch.heal.iter().flat_map(|run| run.iter()) {
            self.damaged.remove(&entry.index());
        }
        if let Some(snapshot) = &batch.install {
            self.damaged.retain(|index| *index > snapshot.last.index);
        }
        // Another history may have taken the place of all of it.
        let last = self.durable.log.last_index();
        self.damaged.retain(|index| *index <= last);
        let replaced = batch.truncate_from.or(batch.append.first().map(|entry| entry.index()));
        if let Some(from) = replaced {
            self.damaged.retain(|index| *index < from);
        }
    }

    /// Takes the oldest pending batch, unless it is newer than `through`.
    pub(super) fn next_pending(&mut self, through: PersistSeq) -> Option<PersistBatch> {
        self.pending.front().filter(|batch| batch.seq <= through)?;
        self.pending.pop_front()
    }
}

/// Where a log ends before a batch appends to it, if the batch takes something away.
pub(super) fn ends_at(batch: &PersistBatch) -> Option<Index> {
    let cut = batch.truncate_from.map(Index::prev);
    cut.into_iter().chain(batch.install.iter().map(|snapshot| snapshot.last.index)).min()
}

/// Hard state and log: what a node's memory or its disk says.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) hard_state: HardState,
    pub(super) log: Log,
}

/// Every entry that ever was in a log: its chain, by index and term.
#[derive(Clone, Debug, Default)]
pub(super) struct Chains {
    /// The first term seen at each index from 1 on; nearly always the only one.
    first: Vec<(Term, Chain)>,
    others: BTreeMap<(Index, Term), Chain>,
}

impl Chains {
    pub(super) fn get(&self, index: Index, term: Term) -> Option<Chain> {
        let first = position(index).and_then(|position| self.first.get(position));
        match first {
            Some(&(known, chain)) if known == term => Some(chain),
            Some(_) | None if self.others.is_empty() => None,
            Some(_) | None => self.others.get(&(index, term)).copied(),
        }
    }

    pub(super) fn insert(&mut self, id: EntryId) {
        if position(id.index) == Some(self.first.len()) {
            self.first.push((id.term, id.chain));
        } else {
            self.others.insert((id.index, id.term), id.chain);
        }
    }
}

/// The committed prefix, and in which term each entry of it was committed.
#[derive(Clone, Debug)]
pub(super) struct Committed {
    genesis: EntryId,
    /// The entries from index 1 on, each with the term of the leader that committed it.
    entries: Vec<(Term, Chain, Term)>,
    /// The newest membership among them, and where it stands.
    membership: (Index, Arc<Membership>),
}

impl Committed {
    fn new(genesis: EntryId, membership: Arc<Membership>) -> Self {
        Self { genesis, entries: Vec::new(), membership: (Index::ZERO, membership) }
    }

    pub(super) fn membership(&self) -> &(Index, Arc<Membership>) {
        &self.membership
    }

    pub(super) fn last_index(&self) -> Index {
        Index(self.entries.len() as u64)
    }

    pub(super) fn at(&self, index: Index) -> Option<EntryId> {
        let Some(position) = position(index) else { return Some(self.genesis) };
        let &(term, chain, _) = self.entries.get(position)?;
        Some(EntryId { index, term, chain })
    }

    pub(super) fn last(&self) -> EntryId {
        self.at(self.last_index()).expect("its last entry is one of its entries")
    }

    /// The last entry that was committed in a term before `term`.
    pub(super) fn before_term(&self, term: Term) -> EntryId {
        // Terms of commitment rise with the index, and a new leader is the newest nearly always.
        let behind = self.entries.iter().rev().take_while(|&&(_, _, by)| by >= term).count();
        let index = Index((self.entries.len() - behind) as u64);
        self.at(index).expect("an index up to its last one is one of its entries")
    }

    pub(super) fn push(&mut self, id: EntryId, by: Term, membership: Option<&Arc<Membership>>) {
        assert!(id.index == self.last_index().next(), "the committed prefix has no gaps");
        self.entries.push((id.term, id.chain, by));
        if let Some(membership) = membership {
            self.membership = (id.index, Arc::clone(membership));
        }
    }
}

/// The leadership of one term.
#[derive(Clone, Debug)]
pub(super) struct Reign {
    pub(super) term: Term,
    pub(super) leader: NodeId,
    /// By node: through where it has told this leader that its disk holds the leader's log.
    acknowledged: Vec<Index>,
    /// By node: the leases that this leader has asked it for.
    leases: Vec<Leases>,
}

impl Reign {
    /// The leases that this leader has asked a node for.
    pub(super) fn leases(&self, slot: usize) -> Option<&Leases> {
        self.leases.get(slot)
    }

    /// The same, to add one.
    pub(super) fn leases_mut(&mut self, slot: usize) -> &mut Leases {
        if self.leases.len() <= slot {
            self.leases.resize(slot + 1, Leases::new());
        }
        &mut self.leases[slot]
    }

    /// Through where a node has acknowledged.
    pub(super) fn acknowledged(&self, slot: usize) -> Index {
        self.acknowledged.get(slot).copied().unwrap_or(Index::ZERO)
    }

    /// A node has acknowledged through `index`.
    pub(super) fn acknowledge(&mut self, slot: usize, index: Index) {
        if self.acknowledged.len() <= slot {
            self.acknowledged.resize(slot + 1, Index::ZERO);
        }
        self.acknowledged[slot] = self.acknowledged[slot].max(index);
    }
}

/// All leaderships, in the order of their terms.
#[derive(Clone, Debug, Default)]
pub(super) struct Reigns(Vec<Reign>);

impl Reigns {
    pub(super) fn get(&self, term: Term) -> Option<&Reign> {
        self.position(term).ok().map(|position| &self.0[position])
    }

    pub(super) fn get_mut(&mut self, term: Term) -> Option<&mut Reign> {
        self.position(term).ok().map(|position| &mut self.0[position])
    }

    pub(super) fn begin(&mut self, term: Term, leader: NodeId) {
        let Err(position) = self.position(term) else { return };
        self.0
            .insert(position, Reign { term, leader, acknowledged: Vec::new(), leases: Vec::new() });
    }

    /// The newest one.
    pub(super) fn last(&self) -> Option<&Reign> {
        self.0.last()
    }

    fn position(&self, term: Term) -> Result<usize, usize> {
        match self.0.last() {
            Some(last) if last.term == term => Ok(self.0.len() - 1),
            Some(last) if last.term < term => Err(self.0.len()),
            Some(_) | None => self.0.binary_search_by_key(&term, |reign| reign.term),
        }
    }
}

/// Where the entry at `index` stands in a table that begins with index 1.
fn position(index: Index) -> Option<usize> {
    usize::try_from(index.0.checked_sub(1)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quorum_is_a_majority_of_every_half() {
        for voters in 1..=7u64 {
            let members: Vec<Member> = (1..=voters).map(|id| Member::new(id, id)).collect();
            let membership = Membership::new(members.clone(), vec![]).unwrap();
            let ghost = Ghost::new(&members, &membership);
            // Node k has reached index k: the index that exactly a majority has reached.
            let reached = ghost.quorum_index(&membership, |slot| Index(slot as u64 + 1));
            let holders = voters - reached.0 + 1;
            assert_eq!(holders, voters / 2 + 1, "{voters} voters");
        }
    }

    #[test]
    fn reigns_are_found_whatever_order_they_began_in() {
        let mut reigns = Reigns::default();
        for term in [5, 2, 9, 3] {
            reigns.begin(Term(term), NodeId(term));
        }
        for term in 0..11 {
            let found = reigns.get(Term(term)).map(|reign| reign.leader.0);
            assert_eq!(found, [5, 2, 9, 3].contains(&term).then_some(term));
        }
    }

    #[test]
    fn what_was_committed_in_a_later_term_is_no_duty_of_an_earlier_leader() {
        let founders = Membership::new(vec![Member::new(1, 1)], vec![]).unwrap();
        let mut committed = Committed::new(EntryId::default(), Arc::new(founders));
        for (index, by) in [(1, 2), (2, 2), (3, 4)] {
            let id = EntryId { index: Index(index), term: Term(2), chain: Chain(index) };
            committed.push(id, Term(by), None);
        }
        assert_eq!(committed.before_term(Term(2)).index, Index(0));
        assert_eq!(committed.before_term(Term(3)).index, Index(2));
        assert_eq!(committed.before_term(Term(5)).index, Index(3));
    }
}
