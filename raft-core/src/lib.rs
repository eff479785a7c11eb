//! Raft as a deterministic state machine: messages in, effects out.
//!
//! This crate is the protocol and nothing else. It has no clock, no thread, no disk, no network and
//! no logging; it is `no_std`. A host calls one function, [`Raft::step`], and executes what it
//! returns. The same inputs give the same effects, on any machine: what a host records ([`replay`]), it
//! can play again.
//!
//! # Raft, through this crate
//!
//! A group of servers keeps one log, so that state machines which apply it in order stay equal
//! (§2). Raft makes one of them the leader of a *term*, a number that only rises ([`Term`], §5.1).
//! The leader appends to its log and makes the others' logs equal to its own. All that a server
//! knows is in Figure 2 of the paper, and here in `node.rs`; what only some roles know is in
//! `role.rs`, so that a rule which takes `&mut Leader` can only run on a leader.
//!
//! **Elections** (`election.rs`). A follower that hears no leader for an election timeout asks
//! whether it could win (pre-vote), then enters the next term, votes for itself and asks for votes
//! (§5.2). A vote is given once in a term, and only to a log that is at least as up to date
//! (§5.4.1). A follower that hears its leader ignores candidates; a leader that does not hear a
//! quorum steps down.
//!
//! **Replication** (`replication.rs`). [`Rpc::AppendEntries`] names the entry before the ones it
//! carries; a follower that does not have it answers with a hint, and the leader goes back over
//! whole terms until the logs meet (§5.3). Then it pipelines. The logs are compared not by index
//! and term alone: every entry carries a [`Chain`], a checksum of the log through it, so the Log
//! Matching Property is checked wherever logs meet.
//!
//! **Commitment** (`commit.rs`). An entry of the leader's own term is committed once a quorum has
//! it *durably*; everything before it is committed with it (§5.4.2). Committed entries leave as
//! [`Effect::Apply`], within a limit of bytes that the host has not confirmed.
//!
//! **Reads** (`read.rs`) need no log entry: the leader notes its commit index and hears from a quorum
//! once more (thesis §6.4); a follower or learner asks its leader for that index and answers from its
//! own state. With leases (`lease.rs`, thesis §6.4.1) the leader asks nobody: those who answer its
//! heartbeats promise to elect no other leader for a while, and the answer says until when it holds.
//! **Snapshots** (`compaction.rs`) replace a prefix of the log, and travel in chunks to a follower
//! that needs it (§7).
//!
//! **Membership** (`reconfiguration.rs`) changes while the group works (§6). Voters change by way of a
//! *joint* membership, in which the majorities of the old and of the new voters must both agree, so
//! that no two leaders can ever be elected apart. A membership is in force from the moment it is in
//! the log, committed or not, and whoever leads completes what an earlier leader began (unless the
//! operator wants to leave the joint membership by hand, [`MembershipChange::EnterJoint`]). Everybody
//! joins as a learner, which receives the log and has no vote until it has caught up. A voter is a
//! server together with the [`Lineage`] of its disk: a server that comes back with an empty directory
//! is another member.
//!
//! **Handing over** (`transfer.rs`): a leader brings its successor up to date and asks it to campaign
//! at once (thesis §3.10).
//!
//! **A quorum that is lost for good** ends in an operator's decision, [`Body::ForceMembership`], and
//! in a new cluster [`Epoch`] that nobody enters by accident.
//!
//! **Durability** (`gate.rs`). Every promise of Raft is about what survives a crash. So no rule
//! sends a message: it hands it to the gate, which keeps it back until the disk has what the
//! message speaks of. A host may execute effects late, in any order, and drop or repeat messages;
//! it cannot lose data by it. See [`effect`] for what little order there is.
//!
//! **Damage** (`repair.rs`, `barrier.rs`; Alagappan et al., FAST 2018). A disk may give back less than
//! was written. A damaged entry keeps its identity and its place in the log: the node votes by it,
//! claims nothing from there on, and is healed in place by its leader's appends, by any peer that it
//! asks, or by a snapshot. A leader serves nothing while its log has a hole, and drops the entry only
//! when so many voters never had it that no quorum can have. A node that does not know the end of its
//! log votes for nobody until the log has come as far as a leader's.
//!
//! **Limits** (`config.rs`). Whatever waits has a bound, in entries or in bytes: requests, entries that
//! are not committed or not applied, appends on their way to a peer. Payloads of old entries leave
//! memory and are asked for with [`Effect::Load`] when somebody needs them.
//!
//! The [`guide`] has a page on each of these, on hosting, and for readers who know another library.
//!
//! # A host
//!
//! ```
//! use bytes::Bytes;
//! use raft_core::{
//!     Body, ClusterId, Config, Effect, GroupId, Member, Membership, Message, Outcome, Raft,
//!     RecoveredState, Ticket, Time,
//! };
//!
//! let me = Member::new(1, 0x5eed);
//! let founders = Membership::new(vec![me], vec![])?;
//! let config = Config::new(ClusterId(1), GroupId(0), me);
//! let (mut raft, mut effects) =
//!     Raft::recover(config, RecoveredState::genesis(founders), Time(0))?;
//! let mut inbox = vec![Body::Campaign];
//! let mut applied = Vec::new();
//! let mut proposed = false;
//! loop {
//!     for effect in effects.drain(..) {
//!         match effect {
//!             // A real host writes the batch and syncs; only then is this true.
//!             Effect::Persist(batch) => inbox.push(Body::Persisted { seq: batch.seq }),
//!             Effect::Send(envelope) => println!("to {}: {}", envelope.to, envelope.rpc),
//!             Effect::Apply { entries } => {
//!                 applied.extend(entries.iter().map(|entry| entry.payload().clone()));
//!                 let through = entries.last().expect("never empty").index();
//!                 inbox.push(Body::Applied { through });
//!             }
//!             Effect::Outcome { ticket, outcome } => {
//!                 assert_eq!(ticket, Ticket(1));
//!                 assert!(matches!(outcome, Outcome::Committed { .. }));
//!             }
//!             Effect::RestoreState { .. } | Effect::ReadReady { .. } => {}
//!             Effect::ReadChunk(_) | Effect::StageChunk { .. } | Effect::Load(_) => {}
//!             Effect::Observe(observation) => println!("{observation:?}"),
//!         }
//!     }
//!     if inbox.is_empty() && !proposed {
//!         let command = Bytes::from_static(b"x = 1");
//!         inbox.push(Body::Propose { ticket: Ticket(1), command });
//!         proposed = true;
//!     }
//!     if inbox.is_empty() {
//!         break;
//!     }
//!     let now = Time(0); // the host's monotonic clock, read after the input arrived
//!     let messages = inbox.drain(..).map(|body| Message { now, body });
//!     raft.step_batch(messages, &mut effects);
//! }
//! assert_eq!(applied.len(), 2); // the leader's no-op and the command
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A real host also sends a [`Body::Tick`] once [`Raft::next_deadline`] has passed.
//!
//! # In which order to read
//!
//! [`types`], [`entry`] and [`message`] for the words; `node.rs` and `role.rs` for the state;
//! `election.rs`, `replication.rs`, `commit.rs` for the protocol; `gate.rs` for what makes it hold
//! across crashes; then `raft.rs`, where the chapters meet. Modules stand on floors and import
//! only from lower ones; a chapter never imports another chapter.
//!
//! To see it at work first: `tests/transcripts` tells an election, Figures 7 and 8, a change of
//! members and more, message by message; `tests/paper` has each rule of the paper as a test.
//!
//! # Absent
//!
//! Absent in this version: an entry of which not even the identity is left (the log is cut there, and
//! its end is unknown).
//!
//! Absent on purpose, for good: storage, transport, clocks, threads, configuration files, logging. And of
//! what other libraries have:
//!
//! | what | why not here |
//! |---|---|
//! | followers that pass proposals on | A follower that passes a proposal on cannot know what became of it, and to repeat it may execute it twice. Sessions prevent that, and they are the host's. A refusal names the leader. |
//! | options that change while a node runs | What a node does follows from its start and its inputs. To change an option, start the node again, which costs an incarnation. |
//! | commits that wait for a replica in each zone | A quorum that depends on places is another protocol. Joint memberships and priorities move the group instead. |
//! | groups that fall silent when idle | Then nobody notices that a leader is gone. An idle group costs one microsecond for each heartbeat interval. |
//! | a heartbeat on request | A read opens a round at once. |
//!
//! # Where it differs from the paper
//!
//! | what | why | test, in `tests` |
//! |---|---|---|
//! | A candidate's own vote counts only once it is durable, and its requests leave only then. | Otherwise a crash lets it lead one term twice. | `core/stories.rs` |
//! | Pre-vote and check-quorum are part of every election (both can be turned off). | A node that cannot win must not disrupt; a leader that nobody hears must not stay. | `paper/thesis_9_6_pre_vote.rs`, `paper/section_8_clients.rs` |
//! | A refused pre-vote carries the refuser's term, which the asker adopts. | Long logs and high terms could otherwise block each other for ever. | `core/elections.rs` |
//! | A node that knows the leader of a term does not vote in that term any more. | The vote could decide nothing. | `core/elections.rs` |
//! | Entries match by chain, not by index and term alone. | Log Matching is checked, not assumed. | `core/replication.rs` |
//! | A proposal whose entry was truncated has no outcome until another entry is committed at its index, or one of a later term before it. | A truncated entry can still be committed (Figure 8). | `core/replication.rs` |
//! | No membership change before an entry of the leader's own term is committed. | Otherwise two leaders could append different changes after one and the same membership, and commit with quorums that have no node in common (Ongaro, 2015). | `core/membership.rs` |
//! | A leader leaves a joint membership by itself, whoever began it, unless it was entered by `EnterJoint`. | The operator or leader that began may be gone. | `core/membership.rs` |
//! | A removed server is told before it is forgotten. | It stops campaigning by itself; pre-vote and stickiness need not hold it off for ever. | `core/membership.rs` |
//! | A member is a server and the lineage of its disk. | A wiped disk has forgotten its votes and its log, and cannot know it. | `core/membership.rs` |
//! | A commit index alone travels in a message that is not answered. | Half of the messages of a quiet group were answers that say nothing. | `core/flow.rs` |
//! | A successor is asked to campaign, and a joint membership left, only once no read by a lease that was given out can be answered. | The election of the successor passes all promises. An election after the joint membership may need nobody who has promised. | `core/leases.rs` |
//! | The leader promises as its followers do. | It may step down and give the vote that decides while its host still answers. | `core/leases.rs` |
//! | A damaged leader appends nothing, not even the entry of its term. | What it cannot read may be committed. | `damage/leader.rs` |
//! | A candidate that installs a snapshot is a candidate no more. | Its votes were requested under another membership. The snapshot may come from any peer, and the leader of this very term may have made the membership in it. | `damage/found_snapshots.rs` |
//! | What a server outside of the group says of a later term is not heard while a leader lives, unless that leader can be helped by nobody else. | A removed server is asked for damaged entries that it may have. It campaigns in vain and has a higher term, and must not depose a live leader by answering or asking such a question. | `damage/removed.rs` |
//! | A member that asks for a snapshot in the place of its damaged one tells how far the log is committed. | Without that snapshot the node commits nothing. If the others do not know what is committed, none of them can take the snapshot that it needs. | `damage/snapshots.rs` |
//! | A node whose log may have lost its end does not vote. | A quorum may rest on what it has forgotten. | `damage/barrier.rs` |
//! | A learner is promoted if it answers and lacks at most a configured number of committed entries; otherwise the leader refuses at once. (In thesis §4.2.1 it waits, in rounds that it measures.) | A limit in entries needs no clock, and a refusal says what is missing. | `core/membership.rs` |
//! | A node whose disk is full takes no commands and no entries and does not campaign; it votes and answers on, and a leader hands over. | The paper's disks have no end. A node that halted instead could not help to elect one that has room. | `core/disk_full.rs` |
//! | A node of low priority waits longer before it campaigns; how anybody votes does not depend on it. | Operators want leaders in some places rather than in others. A vote that asked for priority could leave nobody who can win. | `core/transfer.rs` |
//! | Every message names a cluster epoch. An operator may make one node the only voter of the next one, and no node enters it that has a history of an earlier one. | A quorum that is lost for good would be the end. Without the epoch, those who come back would be a second group under the same name. | `core/quorum_loss.rs` |
//! | Heartbeats are messages of their own and carry the commit index only as far as the peer is known to match. | They need no look at the log. | `core/replication.rs` |
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod admission;
mod barrier;
mod commit;
mod compaction;
pub mod config;
mod digest;
pub mod durable;
pub mod effect;
mod election;
pub mod entry;
mod gate;
pub mod guide;
mod lease;
mod log;
pub mod membership;
pub mod message;
mod node;
mod progress;
pub mod quorum;
mod raft;
mod read;
mod reconfiguration;
pub mod recovery;
mod repair;
pub mod replay;
mod replication;
mod rng;
mod role;
mod status;
mod timers;
mod transfer;
pub mod types;
pub mod wire;

pub use config::{Config, ConfigError};
pub use durable::{HardState, PersistBatch, RecoveredState, Slot, SnapshotMeta};
pub use effect::{
    Effect, HaltReason, Observation, Outcome, Refused, Rejection, RoleName, Violation,
};
pub use entry::{Entries, Entry, Payload};
pub use membership::{ChangeError, MemberStep, Membership, MembershipChange, MembershipError};
pub use message::{
    AppendResult, Body, Chunk, ChunkPurpose, ChunkRequest, EntryResult, Envelope, LoadPurpose,
    LoadRequest, Message, ReadMode, RepairRpc, Rpc, RpcKind,
};
pub use raft::Raft;
pub use recovery::RecoverError;
pub use replay::{Recorded, RecordedBatch, RecordedStart, Replay, ReplayError};
pub use status::{Flow, PeerStatus, Status};
pub use types::*;
