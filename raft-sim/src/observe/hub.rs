//! Where the world tells what happens, and what must be remembered to tell it: which message a
//! frame carries, and what a node was given.

use std::{fmt, mem};

use raft_core::wire::{self, Limits};
use raft_core::{Entry, EntryId, Envelope, Member, Observation, PersistBatch, Status, Time};
use raft_replica::machine::StateMachine;
use raft_replica::replica::Replica;
use raft_replica::request::{Input, Output, Request};
use raft_replica::storage::work::{Done, Work};

use super::mail::Mail;
use super::{Given, Happening, Last, Loss, Observer, Step};
use crate::check::{Answered, Asked, ClientId, OperationId};
use crate::event::{Event, NodeAt};
use crate::fault::{Fault, Tally};
use crate::network::Passage;
use crate::trace::Trace;
use crate::workload::{Machine, Workload, words};
use crate::world::World;

/// An observer, and what the world has told it.
pub(crate) struct Hub {
    observer: Box<dyn Observer>,
    mail: Mail,
    /// What was counted when the present event came up.
    tally: Tally,
    /// Who has ever had a process.
    known: Vec<Member>,
    /// The node that reads its inbox, before that.
    before: Option<Status>,
    /// What it reads.
    taken: Vec<Taken>,
}

/// One input of those that a node reads in one go.
#[derive(Debug)]
struct Taken {
    given: Given,
    /// What it does, if there are several.
    rehearsed: Option<Rehearsed>,
}

/// What an input has done to a copy of the node.
#[derive(Debug)]
struct Rehearsed {
    after: Status,
    written: Vec<PersistBatch>,
    is_refused: bool,
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("mail", &self.mail).finish_non_exhaustive()
    }
}

impl Hub {
    pub(crate) fn new(observer: Box<dyn Observer>) -> Self {
        Self {
            observer,
            mail: Mail::default(),
            tally: Tally::default(),
            known: Vec::new(),
            before: None,
            taken: Vec::new(),
        }
    }

    fn tell(&mut self, happening: &Happening<'_>) {
        self.observer.happens(happening);
    }

    fn starting(&mut self, member: Member) {
        let is_first = !self.known.contains(&member);
        if is_first {
            self.known.push(member);
        }
        self.before = None;
        self.taken = vec![Taken { given: Given::Start { is_first }, rehearsed: None }];
    }

    fn taking<M: StateMachine + Clone>(
        &mut self,
        node: NodeAt,
        now: Time,
        replica: &Replica<M>,
        inputs: &[Input<M>],
    ) {
        self.before = Some(replica.status());
        let mut copy = (inputs.len() > 1).then(|| replica.clone());
        self.taken.clear();
        for input in inputs {
            let given = self.given(node, input);
            let rehearsed = copy.as_mut().map(|copy| rehearse(copy, now, input));
            self.taken.push(Taken { given, rehearsed });
        }
    }

    fn given<M: StateMachine>(&mut self, node: NodeAt, input: &Input<M>) -> Given {
        match input {
            Input::Tick => Given::Deadline,
            Input::Frame(frame) => {
                let (message, is_copy) =
                    self.mail.read(node).expect("a frame that is read has arrived");
                match wire::decode(frame.clone(), &Limits::default()) {
                    Ok(envelope) => Given::Message { message, envelope: Box::new(envelope) },
                    Err(_) => Given::Unreadable { message, is_copy },
                }
            }
            Input::Unreachable(peer) => Given::Unreachable(*peer),
            Input::Request { request, .. } => match request {
                Request::OpenSession
                | Request::Command { .. }
                | Request::ChangeMembership { .. }
                | Request::ForceMembership => Given::Proposal,
                Request::Query { .. } => Given::Read,
                Request::TransferLeadership { .. } => Given::Transfer,
            },
            Input::Done(Done::Persisted { seq }) => Given::Persisted(*seq),
            Input::Done(
                Done::Failed
                | Done::SnapshotSaved { .. }
                | Done::SnapshotLoaded { .. }
                | Done::Loaded { .. }
                | Done::Damaged { .. }
                | Done::SnapshotDamaged { .. }
                | Done::ChunkRead { .. }
                | Done::ChunkStaged { .. },
            ) => Given::Disk,
            Input::Campaign => Given::Campaign,
            Input::StepDown => Given::StepDown,
            Input::ForgetLeader => Given::ForgetLeader,
            Input::DiskFull { .. } => Given::Disk,
        }
    }

    /// The node has read what it was given and has put this out.
    fn stepped<M: StateMachine>(&mut self, node: NodeAt, replica: &Replica<M>, out: &[Output<M>]) {
        let mut taken = mem::take(&mut self.taken);
        if taken.is_empty() && !out.is_empty() {
            taken.push(Taken { given: Given::Nothing, rehearsed: None });
        }
        let mut before = self.before.take();
        let end = look(replica, out);
        let issued = end.written.last().map(|batch| batch.seq);
        let count = taken.len();
        let is_true = is_true(&taken, &end);
        for (at, one) in taken.into_iter().enumerate() {
            let is_last = at + 1 == count;
            let did = one.rehearsed.as_ref().unwrap_or(&end);
            let (after, written) = match &before {
                _ if is_last => (&end.after, if is_true { &did.written } else { &end.written }),
                Some(before) if !is_true => (before, const { &Vec::new() }),
                Some(_) | None => (&did.after, &did.written),
            };
            self.observer.happens(&Happening::Step(&Step {
                node,
                given: &one.given,
                before: before.as_ref(),
                after,
                written,
                is_refused: did.is_refused,
                last: is_last.then(|| Last { raft: replica.raft(), issued }),
            }));
            before = Some(after.clone());
        }
    }

    /// The network has taken a message, or lets go one that it held.
    fn follow(&mut self, passages: Vec<(u32, Passage)>, sent: Option<u64>) {
        for (link, passage) in passages {
            let Some(message) = sent.or_else(|| self.mail.release(link)) else { continue };
            match passage {
                Passage::Sent { sequence, twice } => {
                    self.mail.flies(link, sequence, message);
                    if twice {
                        self.tell(&Happening::Doubled { message });
                    }
                }
                Passage::Held => self.mail.hold(link, message),
                Passage::Stopped(fault) => self.lose((message, false), Loss::Network(fault)),
            }
        }
    }

    fn lose(&mut self, (message, is_copy): (u64, bool), loss: Loss) {
        self.tell(&Happening::Lost { message, is_copy, loss });
    }
}

/// Whether the copy has come to where the node itself is, with the same entries in its log.
///
/// It does nearly always. But a leader that reads an acknowledgement and then steps down has
/// committed something only if it stops between the two.
fn is_true(taken: &[Taken], end: &Rehearsed) -> bool {
    let Some(last) = taken.last().and_then(|one| one.rehearsed.as_ref()) else { return true };
    let place = |status: &Status| {
        (status.role, status.term, status.vote, status.last, status.base, status.commit)
    };
    fn appended(written: &[PersistBatch]) -> impl Iterator<Item = EntryId> {
        written.iter().flat_map(|batch| batch.append.iter()).map(Entry::id)
    }
    let rehearsed = taken.iter().filter_map(|one| one.rehearsed.as_ref());
    place(&last.after) == place(&end.after)
        && rehearsed.flat_map(|did| appended(&did.written)).eq(appended(&end.written))
}

/// Gives an input to the copy of a node.
fn rehearse<M: StateMachine + Clone>(
    copy: &mut Replica<M>,
    now: Time,
    input: &Input<M>,
) -> Rehearsed {
    let mut out = Vec::new();
    copy.handle(now, input.clone(), &mut out);
    look(copy, &out)
}

fn look<M: StateMachine>(replica: &Replica<M>, out: &[Output<M>]) -> Rehearsed {
    let written = out.iter().filter_map(|output| match output {
        Output::Work(Work::Persist { batch, .. }) => Some(batch.clone()),
        Output::Work(_)
        | Output::Save { .. }
        | Output::Send { .. }
        | Output::Reply { .. }
        | Output::Applied { .. }
        | Output::Restored { .. }
        | Output::Observe(_)
        | Output::BadFrame(_)
        | Output::BadSnapshot { .. } => None,
    });
    let refused =
        |output: &Output<M>| matches!(output, Output::Observe(Observation::Refused { .. }));
    Rehearsed {
        after: replica.status(),
        written: written.collect(),
        is_refused: out.iter().any(refused),
    }
}

/// What is told while a node is in use: the rest of the world is out of reach then.
impl Trace {
    /// A node is about to read these inputs in one go, at this moment of its clock.
    pub(crate) fn taking<M: StateMachine + Clone>(
        &mut self,
        node: NodeAt,
        now: Time,
        replica: &Replica<M>,
        inputs: &[Input<M>],
    ) {
        if let Some(hub) = &mut self.hub {
            hub.taking(node, now, replica, inputs);
        }
    }

    /// A process has started.
    pub(crate) fn starting(&mut self, member: Member) {
        if let Some(hub) = &mut self.hub {
            hub.starting(member);
        }
    }

    /// A client makes a request.
    pub(crate) fn asked<W: Workload>(
        &mut self,
        client: ClientId,
        id: OperationId,
        operation: &Asked<W::Machine>,
    ) {
        if let Some(hub) = &mut self.hub {
            let what = &*words::operation::<W>(operation);
            hub.tell(&Happening::Asked { client, id, what });
        }
    }
}

impl<W: Workload> World<W> {
    pub(crate) fn tell(&mut self, happening: &Happening<'_>) {
        if let Some(hub) = &mut self.trace.hub {
            hub.tell(happening);
        }
    }

    /// The run begins: the network tells what becomes of frames, if anybody watches.
    pub(crate) fn watch_begin(&mut self) {
        if let Some(hub) = &mut self.trace.hub {
            self.network.watch();
            hub.tell(&Happening::Began { options: &self.options, founders: &self.founders });
        }
    }

    pub(crate) fn watch_event(&mut self, event: &Event) {
        let Some(hub) = &mut self.trace.hub else { return };
        let ends = match event {
            Event::Frame { link, .. }
            | Event::Clog { link, .. }
            | Event::Release { link }
            | Event::Unreachable { link, .. } => Some(self.network.ends(*link)),
            Event::Deadline { .. }
            | Event::Inbox { .. }
            | Event::Disk { .. }
            | Event::Scrub { .. }
            | Event::Rest { .. }
            | Event::Encoded { .. }
            | Event::Start { .. }
            | Event::Leave { .. }
            | Event::Resume { .. }
            | Event::Client { .. }
            | Event::Strike { .. }
            | Event::Mend { .. }
            | Event::Flap { .. }
            | Event::Freeze { .. }
            | Event::Urge { .. }
            | Event::Operator
            | Event::Readmit { .. } => None,
        };
        let (number, now) = (self.stats.events, self.queue.now());
        hub.tell(&Happening::Event { number, now, event, ends });
        hub.tally.clone_from(&self.stats.tally);
    }

    /// Tells which faults the event that is over has injected, and which took effect in it.
    pub(crate) fn watch_tally(&mut self) {
        let Some(hub) = &mut self.trace.hub else { return };
        for &fault in Fault::ALL {
            let (was, is) = (hub.tally.of(fault), self.stats.tally.of(fault));
            if was != is {
                let (injected, effective) = (is.0 - was.0, is.1 - was.1);
                hub.tell(&Happening::Counted { fault, injected, effective });
            }
        }
    }

    /// A node has read its inbox; what it has put out is about to be executed.
    pub(crate) fn watch_step(&mut self, at: NodeAt, outputs: &[Output<Machine<W>>]) {
        if let (Some(hub), Some(process)) = (&mut self.trace.hub, &self.nodes[at].process) {
            hub.stepped(at, &process.replica, outputs);
        }
    }

    /// A node has handed a message to the network.
    pub(crate) fn watch_sent(&mut self, envelope: &Envelope) {
        let Some(hub) = &mut self.trace.hub else { return };
        let message = hub.mail.number();
        hub.tell(&Happening::Sent { message, envelope });
        hub.follow(self.network.take_passages(), Some(message));
    }

    /// The network delivers what nobody sent.
    pub(crate) fn watch_forged(&mut self, from: NodeAt, to: NodeAt) {
        let Some(hub) = &mut self.trace.hub else { return };
        let message = hub.mail.number();
        hub.tell(&Happening::Forged { message, from, to });
        hub.follow(self.network.take_passages(), Some(message));
    }

    /// Clogged links let go what they held.
    pub(crate) fn watch_released(&mut self) {
        if let Some(hub) = &mut self.trace.hub {
            hub.follow(self.network.take_passages(), None);
        }
    }

    /// A frame has come to the end of its link; `loss` says why nobody will read it.
    pub(crate) fn watch_arrival(&mut self, at: (u32, u32), is_copy: bool, loss: Option<Loss>) {
        let Some(hub) = &mut self.trace.hub else { return };
        let (link, sequence) = at;
        let message = hub.mail.at(link, sequence).expect("what arrives was sent");
        match loss {
            Some(loss) => hub.lose((message, is_copy), loss),
            None => {
                let (_, to) = self.network.ends(link);
                hub.mail.arrive(to, (message, is_copy));
                hub.tell(&Happening::Arrived { message, is_copy });
            }
        }
    }

    /// A connection breaks: what its link holds is lost now, and what is in flight when it arrives.
    pub(crate) fn watch_reset(&mut self, link: u32) {
        let Some(hub) = &mut self.trace.hub else { return };
        for message in hub.mail.forget(link) {
            hub.lose((message, false), Loss::Network(Fault::Reset));
        }
    }

    pub(crate) fn watch_end(&mut self, node: NodeAt) {
        let Some(hub) = &mut self.trace.hub else { return };
        hub.tell(&Happening::Ended { node });
        for copied in hub.mail.unread(node) {
            hub.lose(copied, Loss::Unread);
        }
    }

    pub(crate) fn watch_answered(
        &mut self,
        client: ClientId,
        id: OperationId,
        outcome: &Answered<W::Machine>,
    ) {
        if self.trace.hub.is_some() {
            let what = &*words::outcome::<W>(outcome);
            self.tell(&Happening::Answered { client, id, what });
        }
    }

    pub(crate) fn watch_cut(&mut self, partition: usize) {
        if self.trace.hub.is_none() {
            return;
        }
        let ends = |&link: &u32| self.network.ends(link);
        let links: Vec<(NodeAt, NodeAt)> = self.partitions[partition].iter().map(ends).collect();
        self.tell(&Happening::Cut { partition, links: &links });
    }
}
