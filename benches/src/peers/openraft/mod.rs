//! The crate `openraft` 0.9: Raft as tasks of an asynchronous runtime.
//!
//! The crate is a set of tasks that talk through channels, so it cannot be stepped; what fits one
//! thread best is its feature `singlethreaded` on a current-thread tokio. The clock of that runtime
//! stands still while anybody works: timers cost what they cost, but nobody waits for them. Its
//! ticks are off, since nothing fails here; elections and heartbeats are triggered. It has no
//! pre-vote and no check-quorum. Proposals are `client_write_ff`, whose answers are awaited in
//! order. Storage and network are written here, as the crate has none in memory ([`store`],
//! [`network`]): a write is durable within the call that makes it. A cold election is
//! `initialize`, which the crate needs once to know its members. It limits an append by entries
//! alone, here as many as ours. Over the wire: postcard over the crate's own feature `serde`.

mod network;
mod store;

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::{Config, EmptyNode, Raft, SnapshotPolicy};
use tokio::runtime::{Builder, Runtime};
use tokio::task::LocalSet;

use self::network::{Factory, Hub};
use self::store::{Log, Machine};
use crate::contest::{COMPACT_EVERY, Compaction, Contestant, Cut, Shape};

openraft::declare_raft_types!(
    /// Commands are the client's bytes, answers say nothing, and a snapshot holds nothing.
    pub(super) Types:
        D = Bytes,
        R = (),
        Node = EmptyNode,
        SnapshotData = (),
);

/// The replicas of one group; the first one will lead.
pub(super) struct Group {
    hub: Rc<Hub>,
    shape: Shape,
}

/// Where all groups of this thread live.
struct Host {
    runtime: Runtime,
    tasks: LocalSet,
}

thread_local! {
    // Never dropped: tasks of many groups point at each other, and the process ends soon.
    static HOST: &'static Host = Box::leak(Box::new(Host {
        runtime: Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime without input and output needs nothing"),
        tasks: LocalSet::new(),
    }));
}

/// Virtual time after which something that was awaited will not come any more.
const PATIENCE: Duration = Duration::from_secs(600);

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let host = HOST.with(|host| *host);
    let patient = async { tokio::time::timeout(PATIENCE, future).await };
    host.tasks.block_on(&host.runtime, patient).expect("it comes to rest in time")
}

impl Contestant for Group {
    type Buffers = ();

    const NAME: &'static str = "openraft";
    /// A group asks for two megabytes, most of it for queues that it never fills.
    const IDLE_GROUPS: u64 = 1_000;

    fn cold(shape: Shape) -> Self {
        let hub = Rc::new(Hub::new(shape));
        let config = Arc::new(config(shape));
        for position in 0..shape.servers {
            let log = Log::new(Rc::clone(&hub), position);
            let machine = Machine::new(Rc::clone(&hub), position);
            let network = Factory::new(Rc::clone(&hub), position);
            let id = position as u64 + 1;
            let raft = Raft::new(id, Arc::clone(&config), network, log, machine);
            let raft = block_on(raft).expect("an empty store is a good one");
            hub.add(raft);
        }
        Self { hub, shape }
    }

    fn elect(&mut self) {
        let members: BTreeMap<u64, EmptyNode> =
            (1..=self.shape.servers as u64).map(|id| (id, EmptyNode::new())).collect();
        block_on(async {
            self.hub.leader().initialize(members).await.expect("nobody was a member before");
            // The members, and the leader's first entry.
            self.hub.applied_everywhere(1).await;
        });
    }

    fn commit(&mut self, commands: u64, outstanding: u64) {
        let goal = self.hub.goal(commands);
        block_on(async {
            let mut answers = VecDeque::new();
            for _ in 0..commands {
                if answers.len() as u64 == outstanding {
                    await_first(&mut answers).await;
                }
                answers.push_back(self.propose().await);
            }
            while !answers.is_empty() {
                await_first(&mut answers).await;
            }
            self.hub.applied_everywhere(goal).await;
        });
    }

    fn commit_batches(&mut self, batches: u64, size: u64) {
        for _ in 0..batches {
            let goal = self.hub.goal(size);
            block_on(async {
                for _ in 0..size {
                    drop(self.propose().await);
                }
                self.hub.applied_everywhere(goal).await;
            });
        }
    }

    fn pile_up(&mut self, batches: u64, size: u64) {
        for _ in 0..batches {
            let goal = self.hub.appended() + size;
            block_on(async {
                for _ in 0..size {
                    drop(self.propose().await);
                }
                self.hub.appended_by_leader(goal).await;
            });
        }
    }

    fn cut(&mut self, cut: Cut) {
        self.hub.cut(cut);
    }

    fn catch_up(&mut self) {
        self.hub.cut(Cut::Nobody);
        let goal = self.hub.goal(0);
        block_on(self.hub.applied_everywhere(goal));
    }

    fn exchange(&mut self, (): &mut ()) {}

    fn idle(&mut self) {
        let answers = self.hub.answers() + self.shape.servers as u64 - 1;
        block_on(async {
            self.hub.leader().trigger().heartbeat().await.expect("it runs");
            self.hub.answered(answers).await;
        });
    }
}

impl Group {
    async fn propose(&self) -> Answer {
        self.hub.leader().client_write_ff(self.shape.command()).await.expect("it runs")
    }
}

type Answer =
    <<Types as openraft::RaftTypeConfig>::Responder as openraft::raft::responder::Responder<
        Types,
    >>::Receiver;

async fn await_first(answers: &mut VecDeque<Answer>) {
    let answer = answers.pop_front().expect("somebody waits");
    answer.await.expect("every proposal is answered").expect("nothing is refused");
}

fn config(shape: Shape) -> Config {
    let snapshot_policy = match shape.compaction {
        Compaction::Regular => SnapshotPolicy::LogsSinceLast(COMPACT_EVERY),
        Compaction::Off => SnapshotPolicy::Never,
    };
    let config = Config {
        max_payload_entries: 1024,
        snapshot_policy,
        // A follower that lags is sent entries, as long as there are any.
        replication_lag_threshold: u64::MAX,
        max_in_snapshot_log_to_keep: 0,
        enable_tick: false,
        enable_heartbeat: false,
        enable_elect: false,
        ..Config::default()
    };
    config.validate().expect("the options are legal")
}
