//! A replicated state machine on [`raft_core`]: sessions, linearizable reads, snapshots, storage.
//!
//! The core knows terms and logs. This crate adds what a service needs around it, and still waits
//! for nothing: no socket, no clock, no thread. A server and a simulator drive the same code.
//!
//! | module | what it is |
//! |---|---|
//! | [`machine`] | the trait that an embedder implements: a deterministic state machine |
//! | [`kv`] | the one that comes along: an ordered map with compare-and-swap |
//! | [`session`] | how a command that is sent twice takes effect once (thesis §6.3) |
//! | [`replica`] | core, machine and sessions as one: inputs in, outputs out |
//! | [`request`] | those inputs and outputs, and what clients are told |
//! | [`disk`], [`storage`] | the log on a disk: executes the work that a replica issues |
//!
//! A host does three things with what a replica gives it: it sends frames, which may be lost; it
//! executes disk work in order and reports completions; it hands replies to clients. And it owes a
//! tick once [`replica::Replica::next_deadline`] has passed. `examples/counter.rs` does all of it for three
//! servers on real files; here is the least of it, without a disk:
//!
//! ```
//! use bytes::Bytes;
//! use raft_core::{ClusterId, Config, GroupId, Member, Membership, RecoveredState, Time};
//! use raft_replica::kv::{Kv, KvCommand};
//! use raft_replica::replica::{Replica, ReplicaOptions};
//! use raft_replica::request::{Input, Output, Reply, Request, RequestId};
//! use raft_replica::storage::work::{Done, Work};
//!
//! /// Completes disk work at once, as no disk does, and returns the replies.
//! fn drive(replica: &mut Replica<Kv>, mut out: Vec<Output<Kv>>) -> Vec<Reply<Kv>> {
//!     let mut replies = Vec::new();
//!     while !out.is_empty() {
//!         let mut done = Vec::new();
//!         for output in out.drain(..) {
//!             match output {
//!                 Output::Work(Work::Persist { batch, .. }) => {
//!                     done.push(Input::Done(Done::Persisted { seq: batch.seq }));
//!                 }
//!                 Output::Reply { reply, .. } => replies.push(reply),
//!                 _ => {}
//!             }
//!         }
//!         replica.handle_batch(Time(0), done, &mut out);
//!     }
//!     replies
//! }
//!
//! let me = Member::new(1, 0xfeed);
//! let founders = Membership::new(vec![me], vec![])?;
//! let options = ReplicaOptions::new(Config::new(ClusterId(1), GroupId(1), me));
//! let mut out = Vec::new();
//! let found = RecoveredState::genesis(founders);
//! let mut replica = Replica::start(options, found, Kv::new(), Time(0), &mut out)?;
//! drive(&mut replica, out);
//!
//! let mut tell = |input| {
//!     let mut out = Vec::new();
//!     replica.handle(Time(0), input, &mut out);
//!     drive(&mut replica, out)
//! };
//! tell(Input::Campaign);
//! let opened = tell(Input::Request { id: RequestId(1), request: Request::OpenSession });
//! let [Reply::SessionOpened { session }] = opened[..] else { panic!("{opened:?}") };
//!
//! let command = KvCommand::Put { key: Bytes::from("leader"), value: Bytes::from("me") };
//! let request = Request::Command { session, serial: 1, command };
//! let written = tell(Input::Request { id: RequestId(2), request: request.clone() });
//! let retried = tell(Input::Request { id: RequestId(3), request });
//! assert_eq!(written, retried);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod applier;
pub mod disk;
pub mod file_disk;
pub mod kv;
pub mod layer;
pub mod machine;
mod pending;
pub mod recording;
pub mod replica;
pub mod request;
pub mod session;
pub mod storage;

pub use applier::{Frozen, Image, ImageError, RestoreError};
