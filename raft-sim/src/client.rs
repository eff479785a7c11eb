//! Simulated clients: they ask, wait, retry, give up, and tell the checker what they saw.
//!
//! A client has no latency to its node, because delay hides anomalies: an answer is judged at the
//! moment it is given. It keeps one session and has one request open at a time; all attempts at a
//! request carry one serial. Some clients stay with a node, even if it was deposed and does not
//! answer; some follow hints; some pick a node at random each time. A few requests go to two nodes
//! at once.

use raft_core::ReadMode;
use raft_replica::request::{Failure, Reply, Request};
use raft_replica::session::SessionId;

use crate::check::{Answered, Asked, Operation, OperationId, Outcome};
use crate::event::NodeAt;
use crate::options::ClientOptions;
use crate::rng::{Purpose, Stream};
use crate::said::Said;
use crate::tape::Choices;
use crate::workload::{Machine, Turn, Workload};

/// Where nothing is left to chance, each so-manyth request is a read.
const CALM_READS: u64 = 4;

/// After this many attempts a client gives up.
const ATTEMPTS_MAX: u32 = 12;

/// How much longer than at first a client waits for an answer.
const PATIENCE_MAX: u64 = 4;

/// How many of its timeouts a client takes at most until it gives up, pauses in between included: each
/// pause is at most a sixteenth of a timeout times the attempts before it.
pub(crate) const TIMEOUTS_PER_REQUEST_MAX: u64 =
    ATTEMPTS_MAX as u64 * (PATIENCE_MAX + ATTEMPTS_MAX as u64 / 16 + 1);

/// How a client chooses the node for its next attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Habit {
    /// It follows hints, and stays where it was served.
    Follows,
    /// It stays with its node, even if that does not answer a few times.
    Stays,
    /// Any node, each time.
    Roams,
}

/// A client.
#[derive(Debug)]
pub struct Client<W: Workload> {
    id: u64,
    workload: W,
    stream: Stream,
    options: ClientOptions,
    nodes: usize,
    habit: Habit,
    node: NodeAt,
    /// A node that it cannot leave for now, or that it cannot reach: what it shares the side of a
    /// partition with, or does not.
    bound: Option<Bound>,
    /// The next attempt goes to a node that a hint named.
    is_directed: bool,
    session: Option<SessionId>,
    serial: u64,
    operations: u64,
    open: Option<Open<Asked<W::Machine>>>,
    /// Every other read is by lease.
    reads_by_lease: bool,
    /// Its present request is a read by lease.
    is_lease_read: bool,
    /// The first request from which on reads are by ReadIndex.
    rounds_from: u64,
    /// Timers of an older generation mean nothing.
    pub generation: u32,
}

/// Where a client stands while a node is alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// It reaches this node only, and only reads.
    To(NodeAt),
    /// It reaches all others only.
    Without(NodeAt),
}

/// A request that waits for its answer.
#[derive(Debug)]
struct Open<O> {
    id: OperationId,
    operation: O,
    attempts: u32,
    /// Attempts that may still take effect.
    uncertain: u32,
}

/// What a client does when it wakes up.
#[derive(Debug)]
pub enum Act<O> {
    /// It sends a request to one node, or to two.
    Send {
        /// Whether these are the first attempts at it.
        begins: bool,
        /// The names of the attempts and where they go.
        attempts: [Option<(u64, NodeAt)>; 2],
    },
    /// It gives up and does something else after a pause.
    GiveUp {
        /// The request.
        id: OperationId,
        /// Whether it may have taken effect.
        outcome: O,
    },
}

/// What a client makes of an answer.
#[derive(Debug)]
pub enum Heard<O> {
    /// Nothing: it was for a request that is over.
    Late,
    /// The request is over.
    Over(OperationId, O),
    /// It will try again.
    Again,
}

impl<W: Workload> Client<W> {
    /// Client number `id` of a run with these choices, among `nodes` nodes.
    #[must_use]
    pub fn new(
        id: u64,
        choices: &Choices,
        nodes: usize,
        options: ClientOptions,
        workload: W,
    ) -> Self {
        let mut stream = choices.stream(Purpose::Client, id);
        let mut draw = stream.draw();
        let habit = match draw.below(4) {
            0 => Habit::Stays,
            1 => Habit::Roams,
            2.. => Habit::Follows,
        };
        Self {
            id,
            workload,
            stream,
            options,
            nodes,
            habit,
            node: draw.position(nodes),
            bound: None,
            is_directed: false,
            session: None,
            serial: 0,
            operations: 0,
            open: None,
            reads_by_lease: false,
            is_lease_read: false,
            rounds_from: u64::MAX,
            generation: 0,
        }
    }

    /// Which client an attempt belongs to.
    #[must_use]
    pub fn of_attempt(attempt: u64) -> usize {
        usize::try_from(attempt >> 48).expect("there are few clients")
    }

    /// Whether no request is open.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.open.is_none()
    }

    /// How long it pauses before its next request, in microseconds.
    pub fn think_us(&mut self) -> u64 {
        self.stream.draw().pause(self.options.think_us)
    }

    /// How long it pauses before it tries again, in microseconds.
    pub fn backoff_us(&mut self) -> u64 {
        let attempts = self.open.as_ref().map_or(1, |open| u64::from(open.attempts));
        let most = (self.options.timeout_us / 16).max(1) * attempts;
        self.stream.draw().range(most / 4 + 1, most + 1)
    }

    /// How long it waits for an answer, in microseconds: twice as long after each attempt that brought
    /// none, up to four times. Clients that stay impatient while the log is long open
    /// sessions faster than the log takes them in, and each expires before it is of use: no server
    /// gets out of that.
    #[must_use]
    pub fn timeout_us(&self) -> u64 {
        let attempts = self.open.as_ref().map_or(0, |open| open.attempts);
        let patience = 1 << attempts.saturating_sub(1).min(PATIENCE_MAX.ilog2());
        self.options.timeout_us * patience
    }

    /// Its timer fired: it begins a request, or tries again, or gives up.
    pub fn wake(&mut self) -> Act<Answered<W::Machine>> {
        let mut draw = self.stream.draw();
        let begins = self.open.is_none();
        if begins {
            self.begin();
        } else if !std::mem::take(&mut self.is_directed) && !self.insists() {
            self.node = (self.node + 1 + draw.position(self.nodes.max(2) - 1)) % self.nodes;
        }
        let twice = draw.chance(self.options.twice);
        if self.habit == Habit::Roams {
            self.node = draw.position(self.nodes);
        }
        let other = (self.node + 1 + draw.position(self.nodes)) % self.nodes;
        let other = self.reachable(other);
        self.node = self.reachable(self.node);
        let open = self.open.as_mut().expect("a request is open by now");
        if open.attempts >= ATTEMPTS_MAX {
            return self.give_up();
        }
        let client = self.id;
        let attempts = [Some(self.node), twice.then_some(other)].map(|node| {
            let node = node?;
            open.attempts += 1;
            open.uncertain += 1;
            Some((client << 48 | open.id.0 << 16 | u64::from(open.attempts), node))
        });
        Act::Send { begins, attempts }
    }

    /// From now on every other read is by lease.
    pub fn use_leases(&mut self) {
        self.reads_by_lease = true;
    }

    /// From now on no read that it begins is by lease.
    pub fn use_rounds(&mut self) {
        self.rounds_from = self.operations + 1;
    }

    /// How its present read is done.
    #[must_use]
    pub fn mode(&self) -> ReadMode {
        let may_lease = self.reads_by_lease && self.operations < self.rounds_from;
        if may_lease && self.operations.is_multiple_of(2) {
            ReadMode::Lease
        } else {
            ReadMode::ReadIndex
        }
    }

    /// Whether its request, be it over by now, is a read by lease.
    #[must_use]
    pub fn is_lease_read(&self) -> bool {
        self.is_lease_read
    }

    /// The request that is open.
    #[must_use]
    pub fn operation(&self) -> Option<(OperationId, &Asked<W::Machine>)> {
        self.open.as_ref().map(|open| (open.id, &open.operation))
    }

    /// Its session, if it has one, and the serial of its next command.
    #[must_use]
    pub fn name(&self) -> Option<(SessionId, u64)> {
        self.session.map(|session| (session, self.serial))
    }

    /// From now on it reaches only some nodes; `None`: all again.
    pub fn bind(&mut self, bound: Option<Bound>) {
        self.bound = bound;
    }

    fn reachable(&self, node: NodeAt) -> NodeAt {
        match self.bound {
            None => node,
            Some(Bound::To(only)) => only,
            Some(Bound::Without(gone)) if node == gone => (gone + 1) % self.nodes,
            Some(Bound::Without(_)) => node,
        }
    }

    /// Whether it tries the same node again: it may have been deposed, and answer all the same.
    fn insists(&self) -> bool {
        let attempts = self.open.as_ref().map_or(0, |open| open.attempts);
        self.habit == Habit::Stays && !attempts.is_multiple_of(4)
    }

    /// The node did not take the request: it is down.
    pub fn refused(&mut self) {
        if let Some(open) = &mut self.open {
            open.uncertain -= 1;
        }
    }

    fn give_up(&mut self) -> Act<Answered<W::Machine>> {
        let open = self.open.take().expect("only an open request is given up");
        if matches!(open.operation, Operation::Command { .. }) {
            self.serial += 1;
        }
        let outcome = if open.uncertain == 0 { Outcome::Failed } else { Outcome::Unknown };
        Act::GiveUp { id: open.id, outcome }
    }

    /// An answer has come.
    pub fn hear(&mut self, attempt: u64, reply: Reply<Machine<W>>) -> Heard<Answered<W::Machine>> {
        let number = attempt >> 16 & 0xffff_ffff;
        if self.open.as_ref().is_none_or(|open| open.id.0 != number) {
            return Heard::Late;
        }
        let outcome = match reply {
            Reply::SessionOpened { session } => {
                self.session = Some(session);
                self.serial = 1;
                Outcome::Opened { session }
            }
            Reply::Response { response, index } => Outcome::Response { response, index },
            Reply::Answer { answer, index } => Outcome::Answer { answer, index },
            Reply::MembershipChanged { .. } | Reply::Transferred { .. } => {
                unreachable!("clients ask for nothing of the kind")
            }
            Reply::Failed(failure) => match self.failed(failure) {
                Some(outcome) => outcome,
                None => return Heard::Again,
            },
        };
        self.finish(outcome)
    }

    /// What a failed attempt means for the request; nothing yet if it can be tried again.
    fn failed(&mut self, failure: Failure) -> Option<Answered<W::Machine>> {
        let open = self.open.as_mut().expect("the caller has looked");
        match failure {
            Failure::NotLeader { hint } => {
                open.uncertain -= 1;
                if let (Some(hint), Habit::Follows) = (hint, self.habit) {
                    self.node = usize::try_from(hint.id.0 - 1).expect("there are few nodes");
                    self.is_directed = true;
                }
                None
            }
            Failure::Busy | Failure::Superseded | Failure::Transferring | Failure::Refused(_) => {
                open.uncertain -= 1;
                None
            }
            Failure::TooLarge => {
                open.uncertain -= 1;
                Some(if open.uncertain == 0 { Outcome::Failed } else { Outcome::Unknown })
            }
            Failure::Expired => {
                self.session = None;
                Some(Outcome::Expired)
            }
            Failure::StaleSerial => Some(Outcome::Stale),
            // These promise nothing, and neither does a failure that is not known here.
            Failure::Unknown | Failure::Halted | Failure::Malformed | _ => None,
        }
    }

    fn finish(&mut self, outcome: Answered<W::Machine>) -> Heard<Answered<W::Machine>> {
        let open = self.open.take().expect("an answered request is open");
        if matches!(open.operation, Operation::Command { .. }) {
            self.serial += 1;
        }
        match (&open.operation, &outcome) {
            (Operation::Command { command, .. }, Outcome::Response { response, .. }) => {
                self.workload.responded(command, response);
            }
            (Operation::Query { query }, Outcome::Answer { answer, .. }) => {
                self.workload.answered(query, answer);
            }
            // Nothing to learn; what does not fit together, the checker judges.
            (
                Operation::OpenSession | Operation::Command { .. } | Operation::Query { .. },
                Outcome::Opened { .. }
                | Outcome::Response { .. }
                | Outcome::Answer { .. }
                | Outcome::Expired
                | Outcome::Stale
                | Outcome::Failed
                | Outcome::Unknown,
            ) => {}
        }
        Heard::Over(open.id, outcome)
    }

    fn begin(&mut self) {
        self.operations += 1;
        let id = OperationId(self.operations);
        let mut draw = self.stream.draw();
        // Left to itself, it does a little of everything.
        let reads = self.operations.is_multiple_of(CALM_READS) && !self.options.reads.is_never();
        let is_read =
            draw.chance_or(self.options.reads, reads) || matches!(self.bound, Some(Bound::To(_)));
        self.is_lease_read = is_read && self.mode() == ReadMode::Lease;
        let turn = Turn { client: self.id, request: self.operations };
        let operation = match self.session {
            _ if is_read => Operation::Query { query: self.workload.query(turn, &mut draw) },
            None => Operation::OpenSession,
            Some(session) => {
                let (serial, command) = (self.serial, self.workload.command(turn, &mut draw));
                Operation::Command { session, serial, command }
            }
        };
        self.open = Some(Open { id, operation, attempts: 0, uncertain: 0 });
    }
}

/// An operation as a replica is asked for it.
pub(crate) fn request<W: Workload>(
    operation: &Asked<W::Machine>,
    mode: ReadMode,
) -> Request<Machine<W>> {
    match operation {
        Operation::OpenSession => Request::OpenSession,
        Operation::Command { session, serial, command } => {
            let (session, serial) = (*session, *serial);
            let command = Said::Plain(command.clone());
            Request::Command { session, serial, command }
        }
        Operation::Query { query } => Request::Query { query: query.clone(), mode },
    }
}
