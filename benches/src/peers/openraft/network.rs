//! Calls from one server to another, in one thread.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use openraft::error::{
    Fatal, RPCError, RaftError, RemoteError, ReplicationClosed, StreamingError, Unreachable,
};
use openraft::network::{Backoff, RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::{EmptyNode, Raft, Snapshot, Vote};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Notify;

use super::Types;
use crate::contest::{Cut, Link, Shape};

/// What the servers of a group share: each other, and what the bench waits for.
pub(super) struct Hub {
    shape: Shape,
    cut: Cell<Cut>,
    rafts: RefCell<Vec<Raft<Types>>>,
    /// The last index that each has applied.
    applied: Vec<Cell<u64>>,
    /// The last index in the leader's log.
    appended: Cell<u64>,
    /// Append calls that were answered.
    answers: Cell<u64>,
    changed: Notify,
    /// Lent to every call and always returned empty.
    frame: RefCell<Vec<u8>>,
}

const LEADER: usize = 0;

impl Hub {
    pub(super) fn new(shape: Shape) -> Self {
        Self {
            shape,
            cut: Cell::new(Cut::Nobody),
            rafts: RefCell::new(Vec::with_capacity(shape.servers)),
            applied: vec![Cell::new(0); shape.servers],
            appended: Cell::new(0),
            answers: Cell::new(0),
            changed: Notify::new(),
            frame: RefCell::default(),
        }
    }

    pub(super) fn add(&self, raft: Raft<Types>) {
        self.rafts.borrow_mut().push(raft);
    }

    pub(super) fn leader(&self) -> Raft<Types> {
        self.rafts.borrow()[LEADER].clone()
    }

    pub(super) fn cut(&self, cut: Cut) {
        self.cut.set(cut);
    }

    /// The last index after so many more commands: each is one entry.
    pub(super) fn goal(&self, commands: u64) -> u64 {
        self.applied[LEADER].get() + commands
    }

    pub(super) fn appended(&self) -> u64 {
        self.appended.get()
    }

    pub(super) fn answers(&self) -> u64 {
        self.answers.get()
    }

    pub(super) fn on_applied(&self, position: usize, index: u64) {
        self.applied[position].set(index);
        self.changed.notify_waiters();
    }

    pub(super) fn on_appended(&self, position: usize, index: u64) {
        if position == LEADER {
            self.appended.set(index);
            self.changed.notify_waiters();
        }
    }

    /// Waits until everybody within reach has applied through `goal`.
    pub(super) async fn applied_everywhere(&self, goal: u64) {
        let is_there = |position: usize| {
            self.applied[position].get() >= goal || !self.reaches(position, position)
        };
        self.when(|| (0..self.shape.servers).all(is_there)).await;
    }

    pub(super) async fn appended_by_leader(&self, goal: u64) {
        self.when(|| self.appended.get() >= goal).await;
    }

    pub(super) async fn answered(&self, goal: u64) {
        self.when(|| self.answers.get() >= goal).await;
    }

    async fn when(&self, is_so: impl Fn() -> bool) {
        while !is_so() {
            self.changed.notified().await;
        }
    }

    fn reaches(&self, from: usize, to: usize) -> bool {
        let (cut, servers) = (self.cut.get(), self.shape.servers);
        !cut.hits(from, servers) && !cut.hits(to, servers)
    }

    /// What arrives at the other end.
    fn carry<T: Serialize + DeserializeOwned>(&self, message: T) -> T {
        match self.shape.link {
            Link::Direct => message,
            Link::Wire => {
                let buffer = self.frame.take();
                let mut frame = postcard::to_extend(&message, buffer).expect("memory suffices");
                let message = postcard::from_bytes(&frame).expect("an intact frame is understood");
                frame.clear();
                self.frame.replace(frame);
                message
            }
        }
    }
}

/// Makes connections for one server.
pub(super) struct Factory {
    hub: Rc<Hub>,
    from: usize,
}

impl Factory {
    pub(super) fn new(hub: Rc<Hub>, from: usize) -> Self {
        Self { hub, from }
    }
}

impl RaftNetworkFactory<Types> for Factory {
    type Network = Connection;

    async fn new_client(&mut self, target: u64, _node: &EmptyNode) -> Connection {
        let to = usize::try_from(target).expect("a small id") - 1;
        Connection { hub: Rc::clone(&self.hub), from: self.from, to }
    }
}

/// From one server to another.
pub(super) struct Connection {
    hub: Rc<Hub>,
    from: usize,
    to: usize,
}

type Failure = RPCError<u64, EmptyNode, RaftError<u64>>;

impl Connection {
    fn peer(&self) -> Option<Raft<Types>> {
        let is_there = self.hub.reaches(self.from, self.to);
        is_there.then(|| self.hub.rafts.borrow()[self.to].clone())
    }

    fn refused(&self, reason: RaftError<u64>) -> Failure {
        RPCError::RemoteError(RemoteError::new(self.to as u64 + 1, reason))
    }
}

fn unreachable() -> Failure {
    let reason = io::Error::from(io::ErrorKind::NotConnected);
    RPCError::Unreachable(Unreachable::new(&reason))
}

impl RaftNetwork<Types> for Connection {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, Failure> {
        let peer = self.peer().ok_or_else(unreachable)?;
        let answer = peer.append_entries(self.hub.carry(request)).await;
        let answer = self.hub.carry(answer.map_err(|reason| self.refused(reason))?);
        self.hub.answers.set(self.hub.answers.get() + 1);
        self.hub.changed.notify_waiters();
        Ok(answer)
    }

    async fn vote(
        &mut self,
        request: VoteRequest<u64>,
        _option: RPCOption,
    ) -> Result<VoteResponse<u64>, Failure> {
        let peer = self.peer().ok_or_else(unreachable)?;
        let answer = peer.vote(self.hub.carry(request)).await;
        Ok(self.hub.carry(answer.map_err(|reason| self.refused(reason))?))
    }

    async fn full_snapshot(
        &mut self,
        _vote: Vote<u64>,
        _snapshot: Snapshot<Types>,
        _cancel: impl Future<Output = ReplicationClosed> + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<u64>, StreamingError<Types, Fatal<u64>>> {
        unreachable!("nobody lags behind a snapshot")
    }

    /// The clock stands still while anybody works, so this is no real time.
    fn backoff(&self) -> Backoff {
        Backoff::new(core::iter::repeat(Duration::from_millis(500)))
    }
}
