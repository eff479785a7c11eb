//! The node's thread: events in, frames, work and replies out.

mod names;
mod observe;
mod stall;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::mem;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use raft_core::{Config, PersistSeq, ReadMode, Span, Time};
use raft_replica::kv::KvQuery;
use raft_replica::replica::Replica;
use raft_replica::request::{Failure, Input, Output, Reply, Request, RequestId};
use raft_replica::storage::ScrubStep;
use raft_replica::storage::work::{Done, Work};
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};
use tracing::{error, info, warn};

use super::gateway::{Gateway, Write};
use super::{End, Event, Parts, Published, Recorder, Scrubbed, Share, View, encoder};
use crate::clock::Clock;
use crate::links::{Links, News};
use crate::log_thread::{DiskNews, LogThread};
use crate::metrics::{self, Metrics};
use crate::store::{Book, Store};

/// The most events in one batch: what comes later must not wait for too long.
const BATCH_MAX: usize = 4096;

/// The longest wait for an event: now and then the disk is looked at.
const WAIT_MAX: Duration = Duration::from_millis(500);

/// Who waits for a reply.
struct Waiting {
    answer: oneshot::Sender<Reply<Store>>,
    since: Time,
    kind: Kind,
    /// What a command takes of what may be under way, as long as it is.
    _share: Option<Share>,
}

#[derive(Clone, Debug)]
enum Kind {
    Write,
    Read,
    /// A read that may have been answered by a lease: the clock is looked at again.
    LeaseRead(KvQuery),
    Operation,
}

/// The thread's state.
pub(super) struct Driver {
    config: Config,
    replica: Replica<Store>,
    log: LogThread,
    links: Links,
    clock: Clock,
    metrics: Metrics,
    recorder: Option<Recorder>,
    events: Receiver<Event>,
    /// For what this thread has others do.
    inbox: Sender<Event>,
    published: watch::Sender<Published>,
    gateway: Gateway,
    waiting: BTreeMap<RequestId, Waiting>,
    last_request: u64,
    /// As of when the state is certainly complete: the last linearizable read was asked for then.
    current: Option<Time>,
    /// Batches with the disk, and since when.
    unsynced: VecDeque<(PersistSeq, Time)>,
    /// What looking through the disk has found.
    scrubbed: Scrubbed,
    /// Room for single names that are not known yet.
    new_names: names::NewNames,
    /// Whom it has asked to lead because of its disk.
    asked: stall::Asked,
    peers: Book,
    end: Option<End>,
    /// Two buffers, empty between steps, and what the frames of a step hold.
    inputs: Vec<Input<Store>>,
    out: Vec<Output<Store>>,
    budgets: Vec<OwnedSemaphorePermit>,
}

impl Driver {
    pub(super) fn new(
        parts: Parts,
        (inbox, events): (Sender<Event>, Receiver<Event>),
    ) -> io::Result<(Self, watch::Receiver<Published>)> {
        let Parts { options, found, log, links, clock, metrics, recorder } = parts;
        let config = options.config.clone();
        let mut out = Vec::new();
        let replica = Replica::start(options, found, Store::default(), clock.now(), &mut out)
            .map_err(io::Error::other)?;
        let status = replica.status();
        let published = Published {
            me: status.member,
            role: status.role,
            term: status.term,
            leader: status.leader,
            applied: status.applied,
            is_member: status.membership.is_member(status.member),
            end: None,
        };
        let (published, receiver) = watch::channel(published);
        let mut driver = Self {
            config,
            replica,
            log,
            links,
            clock,
            metrics,
            recorder,
            events,
            inbox,
            published,
            gateway: Gateway::Closed,
            waiting: BTreeMap::new(),
            last_request: 0,
            current: None,
            unsynced: VecDeque::new(),
            scrubbed: Scrubbed::default(),
            new_names: names::NewNames::new(clock.now()),
            asked: stall::Asked::default(),
            peers: Book::new(),
            end: None,
            inputs: Vec::new(),
            out,
            budgets: Vec::new(),
        };
        driver.record();
        driver.carry_out(clock.now());
        Ok((driver, receiver))
    }

    /// Runs until it is asked to stop or cannot go on.
    pub(super) fn run(mut self) {
        while self.end.is_none() {
            match self.events.recv_timeout(self.patience()) {
                Ok(event) => self.take(event),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => self.end = Some(End::Stopped),
            }
            // What clients ask to look at takes time, and heartbeats must not wait for all of them.
            let until = self.clock.now().after(Span(self.config.heartbeat_interval_us / 2));
            for _ in 1..BATCH_MAX {
                if self.clock.now() >= until {
                    break;
                }
                let Ok(event) = self.events.try_recv() else { break };
                self.take(event);
            }
            self.step();
        }
        let Self { published, log, end, .. } = self;
        // What the disk was asked for is done before anybody hears of the end.
        drop(log);
        published.send_modify(|published| published.end = end);
    }

    /// How long nothing needs to be done unless something happens.
    fn patience(&self) -> Duration {
        if !self.inputs.is_empty() {
            return Duration::ZERO;
        }
        let next = self.replica.next_deadline();
        next.map_or(WAIT_MAX, |next| self.clock.until(next).min(WAIT_MAX))
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Link(News::Frame { frame, budget }) => {
                self.inputs.push(Input::Frame(frame));
                self.budgets.push(budget);
            }
            Event::Link(News::Unreachable(peer)) => self.inputs.push(Input::Unreachable(peer)),
            Event::Disk(DiskNews::Done(done)) => {
                if let Done::Persisted { seq } = &done {
                    while self.unsynced.front().is_some_and(|(first, _)| first <= seq) {
                        self.unsynced.pop_front();
                    }
                }
                self.inputs.push(Input::Done(done));
            }
            Event::Disk(DiskNews::Full(is_full)) => self.inputs.push(Input::DiskFull { is_full }),
            Event::Disk(DiskNews::Scrubbed(step)) => self.scrubbed(step),
            Event::Disk(DiskNews::Failed(error)) => {
                error!(%error, "the disk has failed: this node stops");
                self.inputs.push(Input::Done(Done::Failed));
                self.end = Some(End::Failed(format!("the disk has failed: {error}")));
            }
            Event::Disk(DiskNews::Panicked) => {
                self.inputs.push(Input::Done(Done::Failed));
                self.end = Some(End::Failed("the log thread has panicked".to_owned()));
            }
            Event::Encoded(snapshot, data) => {
                self.log.ask(Work::SaveSnapshot { snapshot, data });
            }
            Event::NotEncoded => {
                self.end = Some(End::Failed("a snapshot cannot be made of the state".to_owned()));
            }
            Event::Write(write) => self.admit(write),
            Event::Ask(request, answer) => self.ask(request, answer),
            Event::Inspect(look) => look(&self.view(self.clock.now())),
            Event::Stop => self.end = Some(End::Stopped),
        }
    }

    fn view(&self, now: Time) -> View<'_> {
        View {
            replica: &self.replica,
            now,
            links: &self.links,
            current: self.current,
            election_timeout: self.config.election_timeout(),
            scrubbed: &self.scrubbed,
        }
    }

    /// What cannot be read any more is asked of the others, while they have it.
    fn scrubbed(&mut self, mut step: ScrubStep) {
        // What the log has dropped is of no use to anybody.
        let base = self.replica.status().base.index;
        step.damaged.retain(|entry| entry.index > base);
        if !(step.damaged.is_empty() && step.snapshots.is_empty()) {
            let first = step.damaged.first().map(|entry| entry.index.0);
            let (entries, snapshots) = (step.damaged.len(), step.snapshots.len());
            warn!(entries, first, snapshots, "the disk has lost what was durable");
        }
        self.scrubbed.add(&step);
        let lost = step.snapshots.last().copied();
        self.inputs.extend(lost.map(|snapshot| Input::Done(Done::SnapshotDamaged { snapshot })));
        if !step.damaged.is_empty() {
            self.inputs.push(Input::Done(Done::Damaged { entries: step.damaged }));
        }
    }

    /// Refuses single names that come faster than they could be remembered for a while.
    fn admit(&mut self, write: Write) {
        let is_new = |name| !self.replica.machine().knows_single(name);
        if write.command.single().is_some_and(is_new) && !self.new_names.take(self.clock.now()) {
            drop(write.answer.send(Reply::Failed(Failure::Busy)));
            return;
        }
        self.write(write);
    }

    fn write(&mut self, write: Write) {
        if let Some((session, serial)) = self.gateway.next() {
            let Write { command, answer, share } = write;
            let id = self.wait_for(answer, Kind::Write, share);
            let request = Request::Command { session, serial, command };
            return self.inputs.push(Input::Request { id, request });
        }
        self.open_gateway();
        if let Gateway::Opening { writes, .. } = &mut self.gateway {
            writes.push(write);
        }
    }

    fn open_gateway(&mut self) {
        if matches!(self.gateway, Gateway::Closed) {
            let request = self.name();
            self.gateway = Gateway::Opening { request, writes: Vec::new() };
            self.inputs.push(Input::Request { id: request, request: Request::OpenSession });
        }
    }

    fn ask(&mut self, request: Request<Store>, answer: oneshot::Sender<Reply<Store>>) {
        let kind = match &request {
            Request::Query { query, mode: ReadMode::Lease } => Kind::LeaseRead(query.clone()),
            Request::Query { mode: ReadMode::ReadIndex, .. } => Kind::Read,
            Request::OpenSession
            | Request::Command { .. }
            | Request::ChangeMembership { .. }
            | Request::TransferLeadership { .. }
            | Request::ForceMembership => Kind::Operation,
        };
        let id = self.wait_for(answer, kind, None);
        self.inputs.push(Input::Request { id, request });
    }

    fn wait_for(
        &mut self,
        answer: oneshot::Sender<Reply<Store>>,
        kind: Kind,
        share: Option<Share>,
    ) -> RequestId {
        let id = self.name();
        let since = self.clock.now();
        self.waiting.insert(id, Waiting { answer, since, kind, _share: share });
        id
    }

    fn name(&mut self) -> RequestId {
        self.last_request += 1;
        RequestId(self.last_request)
    }

    fn step(&mut self) {
        let now = self.clock.now();
        if self.replica.next_deadline().is_some_and(|deadline| deadline <= now) {
            self.inputs.push(Input::Tick);
        }
        self.give_up_if_stalled(now);
        let applied = self.replica.applied();
        let inputs = mem::take(&mut self.inputs);
        self.replica.handle_batch(now, inputs, &mut self.out);
        self.budgets.clear();
        if self.replica.applied() > applied {
            self.metrics.applied(self.clock.now().since(now));
        }
        self.record();
        self.carry_out(now);
        self.publish();
    }

    /// Writes down what the core was given, before anything of what it wants is done.
    fn record(&mut self) {
        let recorded = self.replica.take_recorded();
        if !recorded.is_empty() && !self.recorder.as_mut().is_some_and(|it| it.keep(&recorded)) {
            self.recorder = None;
            self.replica.stop_recording();
        }
    }

    /// Carries out what the replica has said in a step that began at `now`.
    fn carry_out(&mut self, now: Time) {
        let mut out = mem::take(&mut self.out);
        for output in out.drain(..) {
            match output {
                Output::Send { to, frame } => self.links.send(to.id, frame),
                Output::Work(work) => {
                    if let Work::Persist { batch, .. } = &work {
                        self.unsynced.push_back((batch.seq, now));
                    }
                    self.log.ask(work);
                }
                Output::Save { snapshot, state } => {
                    let tools = (self.clock, self.metrics.clone());
                    encoder::encode(snapshot, state, tools, self.inbox.clone());
                }
                Output::Reply { id, reply } => self.reply(id, reply, now),
                Output::Applied { .. } => {}
                Output::Restored { snapshot, .. } => {
                    info!(through = snapshot.last.index.0, "the state comes from a snapshot");
                }
                Output::Observe(observation) => self.observe(observation),
                Output::BadFrame(reason) => {
                    self.metrics.count(metrics::Event::BadFrame);
                    warn!(%reason, "a frame is no message");
                }
                Output::BadSnapshot { snapshot, error } => {
                    let what = format!("the snapshot {} is unusable: {error}", snapshot.last);
                    error!("{what}");
                    self.end = Some(End::Failed(what));
                }
            }
        }
        self.out = out;
    }

    fn reply(&mut self, id: RequestId, reply: Reply<Store>, began: Time) {
        if self.gateway.asked(id) {
            return self.gateway_opened(&reply);
        }
        if self.was_asked(id, &reply) {
            return;
        }
        let Some(waiting) = self.waiting.remove(&id) else { return };
        let now = self.clock.now();
        match &waiting.kind {
            Kind::Write if matches!(reply, Reply::Failed(_)) => {
                self.metrics.count(metrics::Event::FailedWrite);
                if matches!(reply, Reply::Failed(Failure::Expired)) {
                    self.gateway.close();
                }
            }
            Kind::Write => {
                self.metrics.committed(Duration::from_micros(now.since(waiting.since).0))
            }
            Kind::LeaseRead(query) => {
                // By a lease it was good at `began`; if it is not any more, a round must confirm it.
                let is_over = |until: Time| began < until && until <= now;
                if self.replica.leased_until().is_some_and(is_over) {
                    let mode = ReadMode::ReadIndex;
                    let request = Request::Query { query: query.clone(), mode };
                    let kind = Kind::Read;
                    self.waiting.insert(id, Waiting { kind, ..waiting });
                    return self.inputs.push(Input::Request { id, request });
                }
                self.read_answered(&reply, waiting.since);
            }
            Kind::Read => self.read_answered(&reply, waiting.since),
            Kind::Operation => {}
        }
        // Who has gone away needs no answer.
        drop(waiting.answer.send(reply));
    }

    /// Whatever was answered before the read was asked for is in the state.
    fn read_answered(&mut self, reply: &Reply<Store>, since: Time) {
        if matches!(reply, Reply::Answer { .. }) {
            self.current = self.current.max(Some(since));
            self.metrics.read(Duration::from_micros(self.clock.now().since(since).0));
        }
    }

    fn gateway_opened(&mut self, reply: &Reply<Store>) {
        let (session, failure) = match reply {
            Reply::SessionOpened { session } => (Some(*session), Failure::Superseded),
            // Nothing was done, for a reason that holds for the commands as well.
            Reply::Failed(
                failure @ (Failure::NotLeader { .. }
                | Failure::Busy
                | Failure::Transferring
                | Failure::Refused(_)),
            ) => (None, *failure),
            // The session may yet come about; the commands that waited for it certainly do not.
            Reply::Failed(_)
            | Reply::Response { .. }
            | Reply::Answer { .. }
            | Reply::MembershipChanged { .. }
            | Reply::Transferred { .. } => (None, Failure::Superseded),
        };
        for write in self.gateway.opened(session) {
            if session.is_some() {
                self.write(write);
            } else {
                drop(write.answer.send(Reply::Failed(failure)));
            }
        }
    }

    fn publish(&mut self) {
        let status = self.replica.status();
        let applied = self.replica.applied();
        if *self.replica.machine().peers() != self.peers {
            self.learn_peers();
        }
        self.published.send_if_modified(|published| {
            let next = Published {
                me: status.member,
                role: status.role,
                term: status.term,
                leader: status.leader,
                applied,
                is_member: status.membership.is_member(status.member),
                end: None,
            };
            let is_new = *published != next;
            *published = next;
            is_new
        });
    }

    /// The address book has changed.
    fn learn_peers(&mut self) {
        let me = self.config.id;
        let next = self.replica.machine().peers().clone();
        for id in self.peers.keys().filter(|id| !next.contains_key(id)) {
            self.links.forget(*id);
        }
        for noted in next.values().filter(|noted| noted.peer.member.id != me) {
            self.links.note_address(noted.peer.member, &noted.peer.address);
        }
        self.peers = next;
    }
}
