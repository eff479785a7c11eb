//! Arbitrary bytes as everything that a node can be told, true or not.

mod lies;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::Arc;

use raft_core::{
    Body, Chunk, ChunkId, ChunkPurpose, ChunkRequest, ClusterId, Config, Effect, EntryId, GroupId,
    Incarnation, Index, LoadPurpose, LoadRequest, Member, Membership, Message, Observation,
    PersistBatch, PersistSeq, Raft, ReadMode, RoleName, Session, SnapshotMeta, Ticket, Time,
};

use self::lies::repair_id;
use crate::cluster::Life;
use crate::disk::{Disk, Fault, Found};
use crate::ghost::check_claims;
use crate::script::Script;

/// Messages in one input.
const STEPS_MAX: usize = 300;

/// How often a node hears all of it: what grows a little each time shows.
const ROUNDS: usize = 3;

/// Messages between two looks at the size of the node.
const STEPS_BETWEEN: usize = 16;

/// A node that is told anything by peers and host stays up, claims nothing that its disk does not
/// hold, does not grow but by its log, and writes a disk from which it can start again: also one that
/// has lost something by then.
///
/// What peers may not do is not checked: a liar can break the safety of a group, not a node.
///
/// # Panics
/// If a promise is broken.
pub fn hostile(data: &[u8]) {
    hostile_life(data);
}

/// The same, and what has happened: so that a test can tell that a corpus is worth its name.
///
/// # Panics
/// If a promise is broken.
pub fn hostile_life(data: &[u8]) -> Life {
    let options = Script::new(data).byte();
    let mut target = Target::new(options);
    for _ in 0..ROUNDS {
        let mut script = Script::new(data);
        script.byte();
        for step in 0..STEPS_MAX {
            if script.is_over() {
                break;
            }
            let body = target.body(&mut script);
            target.step(body);
            if step % STEPS_BETWEEN == 0 {
                target.check_size();
            }
        }
        target.check_size();
        target.restart(options);
    }
    target.life
}

/// The most bytes of text that a node has without its log.
const NODE_MAX: usize = 30_000;

/// The most bytes of text of an entry: one that names a membership, twice.
const ENTRY_MAX: usize = 1_200;

/// The most bytes of text that a node keeps about a batch which is not durable.
const BATCH_MAX: usize = 50;

/// The most requests that wait at once: as many proposals and reads as the configuration admits,
/// and a transfer.
const OPEN_MAX: usize = 2 * REQUESTS_MAX + 1;

const REQUESTS_MAX: usize = 6;

/// Counts what is written.
struct Size(usize);

impl Write for Size {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0 += text.len();
        Ok(())
    }
}

struct Target {
    config: Config,
    founders: Membership,
    raft: Raft,
    disk: Disk,
    unsynced: Vec<PersistBatch>,
    handed_out: Index,
    now: Time,
    tickets: u64,
    /// Tickets that have no outcome.
    open: BTreeSet<Ticket>,
    /// The newest request for entries.
    load: Option<LoadRequest>,
    /// The newest chunk to stage.
    chunk: ChunkId,
    life: Life,
}

impl Target {
    fn new(options: u8) -> Self {
        let voters = vec![Member::new(1, 7), Member::new(2, 14), Member::new(3, 21)];
        let config = Config {
            pre_vote: options & 1 == 0,
            check_quorum: options & 2 == 0,
            lease_us: if options & 8 == 0 { 0 } else { 500_000 },
            resident_bytes_max: if options & 16 == 0 { 1 << 20 } else { 8 },
            append_entries_max: 3,
            requests_max: REQUESTS_MAX,
            uncommitted_bytes_max: 40,
            unapplied_bytes_max: 10,
            ..Config::new(ClusterId(1), GroupId(1), voters[0])
        };
        let founders = if options & 4 == 0 {
            Membership::new(voters, Vec::new()).expect("three voters")
        } else {
            Membership::default()
        };
        let disk = Disk::new();
        let (raft, effects) =
            Raft::recover(config.clone(), disk.recovered(&founders, Found::default()), Time(0))
                .expect("a new disk is accepted");
        let (unsynced, handed_out, now) = (Vec::new(), Index::ZERO, Time(0));
        let mut target = Self {
            config,
            founders,
            raft,
            disk,
            unsynced,
            handed_out,
            now,
            tickets: 0,
            open: BTreeSet::new(),
            load: None,
            chunk: ChunkId::default(),
            life: Life::default(),
        };
        target.execute(effects);
        target
    }

    fn step(&mut self, body: Body) {
        if let Body::SnapshotTaken { snapshot } = &body {
            self.save_if_true(snapshot);
        }
        let effects = self.raft.step(Message { now: self.now, body });
        self.execute(effects);
    }

    fn execute(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Persist(batch) => self.unsynced.push(batch),
                Effect::Send(envelope) => {
                    check_claims(&envelope, &self.disk);
                }
                Effect::Apply { entries } => {
                    let last = entries.last().expect("something is handed out").index();
                    assert!(last > self.handed_out, "entries are handed out once");
                    self.handed_out = last;
                    self.life.commits += entries.len() as u64;
                }
                Effect::RestoreState { snapshot } => {
                    self.handed_out = snapshot.last.index;
                    self.life.restores += 1;
                }
                Effect::Outcome { ticket, .. } | Effect::ReadReady { ticket, .. } => {
                    assert!(self.open.remove(&ticket), "{ticket} ends once");
                }
                Effect::Load(request) => self.load = Some(request),
                Effect::StageChunk { id, .. } => self.chunk = id,
                Effect::Observe(observation) => {
                    let leads = Observation::RoleChanged {
                        role: RoleName::Leader,
                        term: self.raft.status().term,
                    };
                    self.life.leaders += u64::from(observation == leads);
                    self.life.count(&observation);
                }
                Effect::ReadChunk(_) => {}
            }
        }
        assert!(self.open.len() <= OPEN_MAX, "{} requests wait", self.open.len());
    }

    /// What a node keeps beside its log, and beside a few numbers for each batch on its way to the
    /// disk, has a fixed limit, whoever says whatever how often.
    ///
    /// Sizes are those of the node's text: a measure that no forgotten field escapes.
    fn check_size(&self) {
        let status = self.raft.status();
        let entries = usize::try_from(status.last.index.0 - status.base.index.0);
        let log = ENTRY_MAX * entries.expect("a log in memory");
        let disk = BATCH_MAX * self.unsynced.len();
        let mut size = Size(0);
        write!(size, "{:?}", self.raft).expect("counting cannot fail");
        assert!(size.0 <= NODE_MAX + log + disk, "{} bytes: {:#?}", size.0, self.raft);
    }

    /// A host that tells of a snapshot which it never asked about has nothing on its disk.
    fn save_if_true(&mut self, snapshot: &Arc<SnapshotMeta>) {
        let newest = self.disk.snapshot().map_or(Index::ZERO, |newest| newest.last.index);
        let described = self.raft.snapshot_at(snapshot.last.index);
        if described.as_ref() == Some(snapshot) && snapshot.last.index > newest {
            self.disk.save(Arc::clone(snapshot));
        }
    }

    /// The node stops when everything is durable, its disk loses what the options say, and it starts
    /// again.
    fn restart(&mut self, options: u8) {
        for batch in self.unsynced.drain(..) {
            self.disk.write_beginning(&batch, usize::MAX);
        }
        if options & 32 != 0 {
            let ids: Vec<EntryId> = self.disk.ids().collect();
            let damaged = ids.iter().step_by(2).map(|id| Fault::Entry(id.index));
            damaged.for_each(|fault| self.disk.hurt(fault));
        }
        if options & 64 != 0 {
            self.disk.hurt(Fault::Tail(self.disk.last().index));
        }
        let has_state = self.disk.snapshot().is_some_and(|newest| newest.last.index > Index::ZERO);
        if options & 128 != 0 && has_state {
            self.disk.hurt(Fault::Snapshot);
        }
        let cold = if options & 16 == 0 { Index::ZERO } else { self.disk.last().index };
        let found = self.disk.recovered(&self.founders, Found { cold, ..Found::default() });
        let again = Raft::recover(self.config.clone(), found, self.now);
        let (raft, effects) = again.expect("its own disk is accepted");
        self.raft = raft;
        self.open.clear();
        (self.load, self.chunk, self.handed_out) = (None, ChunkId::default(), Index::ZERO);
        self.life.crashes += 1;
        self.execute(effects);
    }

    fn body(&mut self, script: &mut Script<'_>) -> Body {
        match script.below(24) {
            0..=11 => Body::Peer(self.envelope(script)),
            12 => self.due(),
            13 => {
                self.now = Time(self.now.0 + (1 << (script.below(40))));
                Body::Tick
            }
            14 => self.sync(),
            15 => self.claim_synced(script),
            16 => Body::Applied { through: self.handed_out },
            17 => Body::Applied { through: Index(script.number()) },
            18 => Body::Propose { ticket: self.ticket(), command: script.command() },
            19 => Body::Read { ticket: self.ticket(), mode: ReadMode::ReadIndex },
            20 => Body::SnapshotTaken { snapshot: self.snapshot(script) },
            21 => self.chunk_read(script),
            22 => self.chunk_staged(script),
            _ => self.order(script),
        }
    }

    /// An answer to the newest chunk, to an earlier one, or to one that was never asked for.
    fn chunk_staged(&self, script: &mut Script<'_>) -> Body {
        let ChunkId { incarnation, n } = self.chunk;
        let id = if script.flag() { self.chunk } else { ChunkId { incarnation, n: n ^ 1 } };
        Body::ChunkStaged { id, staged: script.number() }
    }

    /// What operators and the host want.
    fn order(&mut self, script: &mut Script<'_>) -> Body {
        match script.below(14) {
            0 => Body::Campaign,
            1 => Body::PeerUnreachable { peer: script.member() },
            2 => Body::PersistFailed,
            3 | 4 => {
                let (ticket, change) = (self.ticket(), script.change());
                let expect = script.flag().then(|| Arc::new(script.membership()));
                Body::ProposeMembership { ticket, change, expect }
            }
            5 => {
                let (ticket, to) = (self.ticket(), script.flag().then(|| script.member().id));
                Body::TransferLeadership { ticket, to }
            }
            6 => Body::StepDown,
            7 => Body::ForgetLeader,
            8 => Body::ForceMembership { ticket: self.ticket() },
            9 => Body::Read { ticket: self.ticket(), mode: ReadMode::Lease },
            10 => self.loaded(script),
            11 => {
                let count = script.below(4);
                let entries = (0..count).map(|_| self.entry_id(script)).collect();
                Body::Damaged { entries }
            }
            12 => Body::DiskFull { is_full: script.flag() },
            _ => self.due(),
        }
    }

    /// Entries that were asked for, or not; the right ones, or any.
    fn loaded(&self, script: &mut Script<'_>) -> Body {
        let any = LoadRequest {
            purpose: match script.below(3) {
                0 => LoadPurpose::Apply,
                1 => {
                    let (member, session) = (script.member(), Session(script.number()));
                    LoadPurpose::Peer { member, session }
                }
                _ => LoadPurpose::Repair { member: script.member(), id: repair_id(script) },
            },
            after: self.entry_id(script),
            through: Index(script.number()),
            bytes_max: script.below(64),
        };
        let request = self.load.filter(|_| script.flag()).unwrap_or(any);
        let entries = match script.below(4) {
            0 => None,
            1 => Some(script.entries(request.after)),
            _ => self.disk.load(&request),
        };
        Body::Loaded { request, entries }
    }

    fn due(&mut self) -> Body {
        self.now = self.raft.next_deadline().map_or(self.now, |deadline| self.now.max(deadline));
        Body::Tick
    }

    fn sync(&mut self) -> Body {
        let mut seq = PersistSeq::default();
        for batch in self.unsynced.drain(..) {
            self.disk.write_beginning(&batch, usize::MAX);
            seq = batch.seq;
        }
        Body::Persisted { seq }
    }

    /// A completion for any batch. One that was issued is synced first: what a disk says that it
    /// has, it has.
    fn claim_synced(&mut self, script: &mut Script<'_>) -> Body {
        let seq = PersistSeq { incarnation: Incarnation(script.number()), n: script.number() };
        if self.unsynced.iter().any(|batch| batch.seq == seq) {
            self.sync()
        } else {
            Body::Persisted { seq }
        }
    }

    fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        self.open.insert(Ticket(self.tickets));
        Ticket(self.tickets)
    }

    fn chunk_read(&self, script: &mut Script<'_>) -> Body {
        let request = ChunkRequest {
            to: script.member(),
            purpose: if script.flag() {
                ChunkPurpose::Lag { session: Session(script.number()) }
            } else {
                ChunkPurpose::Repair { id: repair_id(script) }
            },
            snapshot: self.entry_id(script),
            offset: script.number(),
            bytes_max: script.below(256),
        };
        let chunk = Chunk { data: script.command(), done: script.flag() };
        Body::ChunkRead { request, chunk: script.flag().then_some(chunk) }
    }
}
