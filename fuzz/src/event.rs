//! What can happen to a cluster, as values: an engine makes them of bytes, a property draws them.

use crate::cluster::{Cluster, LEADER};
use crate::server::Left;

/// One thing that happens. A server is taken modulo their number, or is the [`LEADER`]; a choice is
/// taken modulo the number of things that there are to choose from. What is not possible does not
/// happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A server's next deadline passes.
    Fire(usize),
    /// Time passes, and nobody notices yet.
    Pass(u64),
    /// A frame arrives; if it is kept, it arrives again later.
    Deliver {
        /// Which frame.
        choice: usize,
        /// Whether it is duplicated.
        is_kept: bool,
    },
    /// All frames for a server arrive in one batch.
    DeliverAll(usize),
    /// A frame is lost.
    Lose(usize),
    /// Batches become durable, without a word to the node.
    Sync {
        /// The server.
        at: usize,
        /// How many.
        batches: usize,
    },
    /// The node is told what is durable, perhaps again.
    Tell(usize),
    /// Entries are applied.
    Apply {
        /// The server.
        at: usize,
        /// How many of the handed out runs.
        times: usize,
    },
    /// The host does one of its jobs.
    Work {
        /// The server.
        at: usize,
        /// Which job.
        choice: usize,
    },
    /// A client proposes two commands of one size, and another one.
    Propose {
        /// The server.
        at: usize,
        /// The size of the first, in bytes.
        size: usize,
        /// How many more of one byte come with it.
        more: usize,
    },
    /// A client wants to read, perhaps by the leader's lease.
    Read(usize, bool),
    /// The host makes a snapshot.
    Snapshot(usize),
    /// The power fails and comes back.
    Crash {
        /// The server.
        at: usize,
        /// Whole batches that are left of those that were not synced.
        whole: usize,
        /// Fields and entries of the batch after them.
        steps: usize,
        /// Whether the state machine survives, or starts from the snapshot.
        state: bool,
    },
    /// A server stops, its disk loses something that was durable, and it starts again.
    Hurt {
        /// The server.
        at: usize,
        /// What is lost.
        choice: usize,
    },
    /// A write fails.
    Fail(usize),
    /// A server has no room left on its disk, or has some again.
    Fill {
        /// The server.
        at: usize,
        /// Whether the disk is full.
        is_full: bool,
    },
    /// An operator wants an election.
    Campaign(usize),
    /// A connection breaks.
    Disconnect {
        /// The server that notices.
        at: usize,
        /// Its peer.
        to: usize,
    },
    /// An operator wants another membership.
    Change {
        /// The server that is asked.
        at: usize,
        /// Which kind of change.
        what: usize,
        /// About whom: two servers, one in the remainder and one in the quotient.
        who: usize,
    },
    /// An operator wants another leader; any, or this one.
    Transfer(usize, Option<usize>),
    /// An operator wants the leader to follow.
    StepDown(usize),
    /// The host says that the leader is gone.
    ForgetLeader(usize),
    /// A server that is no voter gets an empty disk and another lineage.
    ReplaceDisk(usize),
    /// All servers but one are lost, and an operator lets it go on alone.
    Force(usize),
    /// Everything under way happens, until nothing is; a server may be cut off from the others.
    Settle(Option<usize>),
    /// A server sends heartbeats, another one answers, and a client reads by the lease.
    Borrow(usize, usize),
    /// Two servers do all their work and hear each other alone, until they have nothing to say.
    Talk(usize, usize),
    /// The worst order: every message arrives at once, some of them twice, and the other work is
    /// done, before any disk has written the next batch.
    Rush {
        /// How many such things happen.
        things: usize,
        /// Chooses among equals.
        seed: u8,
    },
}

impl Event {
    /// Two bytes, read as an event: what, and where.
    #[must_use]
    pub fn from_bytes(what: u8, choice: u8, servers: usize) -> Self {
        let choice = usize::from(choice);
        let (at, rest) = (choice % (servers + 1), choice / (servers + 1));
        let at = if at == servers { LEADER } else { at };
        match what % 64 {
            0..=2 => Self::Fire(at),
            3..=8 => Self::Deliver { choice, is_kept: false },
            9 => Self::Deliver { choice, is_kept: true },
            10 => Self::DeliverAll(at),
            11 => Self::Lose(choice),
            12..=14 => Self::Sync { at, batches: 1 + rest % 4 },
            15..=17 => Self::Tell(at),
            18 => Self::Apply { at, times: 1 + rest % 3 },
            19 | 20 => Self::Work { at, choice: rest },
            21 | 22 => Self::Propose { at, size: rest % 10, more: rest / 10 % 3 },
            23 => Self::Read(at, rest % 2 == 1),
            24 => Self::Snapshot(at),
            25 | 26 => Self::Crash { at, whole: rest % 4, steps: rest / 4 % 8, state: rest >= 26 },
            27 => Self::Fail(at),
            28 => Self::Campaign(at),
            29 => Self::Disconnect { at, to: rest },
            30 => Self::Settle(Some(at)),
            31 => Self::Settle(None),
            32 => Self::Pass(1 << (rest % 22)),
            33 => Self::Talk(at, rest),
            36..=41 => {
                // The newest kinds of requests are of no use anywhere but at the leader.
                let what = usize::from(what % 64 - 36) + 6 * (rest % 8);
                Self::Change { at, what, who: choice / 2 }
            }
            42 => Self::Transfer(at, (rest % 4 > 0).then_some(rest)),
            43 => Self::StepDown(at),
            44 => Self::ForgetLeader(at),
            45 => Self::ReplaceDisk(at),
            47 => Self::Borrow(LEADER, choice),
            46 if rest % 8 == 0 => Self::Force(at),
            34 | 35 => Self::Rush { things: 1 + rest, seed: what },
            48 => Self::Hurt { at, choice: rest },
            49 => Self::Fill { at, is_full: rest % 2 == 0 },
            _ => Self::Deliver { choice, is_kept: false },
        }
    }

    pub(crate) fn happen(self, cluster: &mut Cluster) {
        match self {
            Self::Fire(at) => cluster.fire(at),
            Self::Pass(us) => cluster.pass(us),
            Self::Deliver { choice, is_kept } => cluster.deliver(choice, is_kept),
            Self::DeliverAll(at) => cluster.deliver_all(at),
            Self::Lose(choice) => cluster.lose(choice),
            Self::Sync { at, batches } => cluster.sync(at, batches),
            Self::Tell(at) => cluster.tell(at),
            Self::Apply { at, times } => cluster.apply(at, times),
            Self::Work { at, choice } => cluster.work(at, choice),
            Self::Propose { at, size, more } => cluster.propose(at, size, more),
            Self::Read(at, is_by_lease) => cluster.read(at, is_by_lease),
            Self::Snapshot(at) => cluster.snapshot(at),
            Self::Crash { at, whole, steps, state } => {
                cluster.crash(at, Left { whole, steps, state });
            }
            Self::Hurt { at, choice } => cluster.hurt(at, choice),
            Self::Fail(at) => cluster.fail(at),
            Self::Fill { at, is_full } => cluster.fill(at, is_full),
            Self::Campaign(at) => cluster.campaign(at),
            Self::Disconnect { at, to } => cluster.disconnect(at, to),
            Self::Change { at, what, who } => cluster.change(at, what, who),
            Self::Transfer(at, to) => cluster.transfer(at, to),
            Self::StepDown(at) => cluster.step_down(at),
            Self::ForgetLeader(at) => cluster.forget_leader(at),
            Self::ReplaceDisk(at) => cluster.replace_disk(at),
            Self::Force(at) => cluster.force(at),
            Self::Settle(cut_off) => cluster.settle(cut_off),
            Self::Borrow(at, to) => cluster.borrow_time(at, to),
            Self::Talk(one, two) => cluster.talk(one, two),
            Self::Rush { things, seed } => cluster.rush(things, seed),
        }
    }
}
