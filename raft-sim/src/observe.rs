//! What happens in a run, typed, for whoever watches it: the trace for other programs and the page
//! for people.
//!
//! Watching changes nothing: no draw, no order, no byte of the digest. A run that nobody watches
//! pays a branch for each hook.
//!
//! A node that reads several inputs in one go takes one step for all of them. It is told as one
//! [`Step`] per input all the same: what each of them does is found out on a copy of the node that
//! reads them one by one. Should that lead elsewhere, the last step does all of it, and those before
//! it nothing. What the node sends leaves with the last one.

mod hub;
mod mail;

use std::cell::RefCell;
use std::rc::Rc;

use raft_core::{Envelope, Member, Membership, PersistBatch, PersistSeq, Raft, Status};

use crate::check::{ClientId, OperationId};
use crate::event::{Event, NodeAt};
use crate::fault::Fault;
use crate::options::Options;

pub(crate) use hub::Hub;

/// Who watches a run.
pub trait Observer {
    /// Something happens.
    fn happens(&mut self, happening: &Happening<'_>);
}

/// Somebody keeps the observer, to ask it afterwards.
impl<T: Observer> Observer for Rc<RefCell<T>> {
    fn happens(&mut self, happening: &Happening<'_>) {
        self.borrow_mut().happens(happening);
    }
}

/// Something that happens in a run. Messages are numbered in the order in which they are sent.
#[derive(Debug)]
pub enum Happening<'a> {
    /// The run begins.
    Began {
        /// How.
        options: &'a Options,
        /// The members that found the cluster.
        founders: &'a Membership,
    },
    /// An event comes up; what follows belongs to it.
    Event {
        /// How many came up before it, and one.
        number: u64,
        /// The true time, in microseconds.
        now: u64,
        /// What comes up.
        event: &'a Event,
        /// The nodes at the ends of the link that it is about, if it is about one.
        ends: Option<(NodeAt, NodeAt)>,
    },
    /// A node has taken an input.
    Step(&'a Step<'a>),
    /// All that the last step of a node has put out has been executed.
    Closed {
        /// The node.
        node: NodeAt,
    },
    /// A node hands a message to the network.
    Sent {
        /// Its number.
        message: u64,
        /// The message.
        envelope: &'a Envelope,
    },
    /// A message is on its way that nobody sent.
    Forged {
        /// Its number.
        message: u64,
        /// In whose name.
        from: NodeAt,
        /// To whom.
        to: NodeAt,
    },
    /// The network makes a second copy of a message.
    Doubled {
        /// Its number.
        message: u64,
    },
    /// A copy of a message reaches its receiver, and may wait there.
    Arrived {
        /// Its number.
        message: u64,
        /// Whether it is the second copy.
        is_copy: bool,
    },
    /// A copy of a message will never be read.
    Lost {
        /// Its number.
        message: u64,
        /// Whether it is the second copy.
        is_copy: bool,
        /// Why.
        loss: Loss,
    },
    /// A fault strikes.
    Struck {
        /// What.
        fault: Fault,
        /// Where.
        node: NodeAt,
        /// How long it would last, in microseconds.
        lasts_us: u64,
    },
    /// A partition begins; an event ends it, or the healing.
    Cut {
        /// Its number.
        partition: usize,
        /// The directed links that pass nothing.
        links: &'a [(NodeAt, NodeAt)],
    },
    /// A node stands still.
    Paused {
        /// The node.
        node: NodeAt,
        /// For how long, in microseconds.
        lasts_us: u64,
    },
    /// A node's process has ended.
    Ended {
        /// The node.
        node: NodeAt,
    },
    /// A client makes a request.
    Asked {
        /// The client.
        client: ClientId,
        /// Its number for the request.
        id: OperationId,
        /// What it asks for, in words.
        what: &'a str,
    },
    /// A request has ended for its client.
    Answered {
        /// The client.
        client: ClientId,
        /// Its number for the request.
        id: OperationId,
        /// How, in words.
        what: &'a str,
    },
    /// In this event a class of faults was injected, or took effect.
    Counted {
        /// The class.
        fault: Fault,
        /// How often it was injected.
        injected: u64,
        /// How often it took effect.
        effective: u64,
    },
    /// The faults end; the cluster must live.
    Healed,
}

/// Why a copy of a message is never read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The network did it.
    Network(Fault),
    /// Its receiver is down.
    Down,
    /// Its receiver's process ended while it waited there.
    Unread,
}

/// One input of a node, and the node after it.
#[derive(Debug)]
pub struct Step<'a> {
    /// The node.
    pub node: NodeAt,
    /// What it has taken.
    pub given: &'a Given,
    /// The node before, unless it has just started.
    pub before: Option<&'a Status>,
    /// The node after.
    pub after: &'a Status,
    /// What it asks its disk to write because of this.
    pub written: &'a [PersistBatch],
    /// Whether it has refused the input.
    pub is_refused: bool,
    /// The node itself, if this is the last input of those that it has read in one go.
    pub last: Option<Last<'a>>,
}

/// What is known once all that a node has read in one go is done.
#[derive(Debug)]
pub struct Last<'a> {
    /// The core.
    pub raft: &'a Raft,
    /// The newest batch that the disk was asked for, if it was asked for any.
    pub issued: Option<PersistSeq>,
}

/// What a node is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Given {
    /// A process begins on what the disk holds.
    Start {
        /// Whether no process of this member ran before.
        is_first: bool,
    },
    /// A message.
    Message {
        /// Its number.
        message: u64,
        /// As it arrives.
        envelope: Box<Envelope>,
    },
    /// A frame that is no message any more.
    Unreadable {
        /// The number of the message that it was.
        message: u64,
        /// Whether it is the second copy.
        is_copy: bool,
    },
    /// Its deadline.
    Deadline,
    /// The news that a connection is broken.
    Unreachable(Member),
    /// A request for something new in the log.
    Proposal,
    /// A read.
    Read,
    /// An operator's wish that it hands over.
    Transfer,
    /// The news that what it wrote is durable.
    Persisted(PersistSeq),
    /// Other news of its disk.
    Disk,
    /// An operator's wish that it campaigns.
    Campaign,
    /// An operator's wish that it leads no more.
    StepDown,
    /// An operator's wish that it follows nobody.
    ForgetLeader,
    /// Nothing: it has looked at an empty inbox.
    Nothing,
}
