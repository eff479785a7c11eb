//! The key-value store, as the clients of a run use it: puts, deletes, compare-and-swaps, gets and
//! scans of a few keys.

mod model;
mod sample;
mod words;

use bytes::Bytes;
use raft_core::Index;
use raft_replica::kv::{Kv, KvAnswer, KvCommand, KvQuery, KvResponse};

use super::{Turn, Workload};
use crate::options::{COMMAND_BYTES_MAX, ClientOptions};
use crate::rng::{Draw, Ratio};

pub use model::KvModel;

/// What a client does with the store, and what it has seen there.
#[derive(Clone, Debug)]
pub struct KeyValue {
    options: ClientOptions,
    /// The last value that it saw, per key.
    seen: Vec<Option<Bytes>>,
}

impl KeyValue {
    /// A client that has seen nothing.
    ///
    /// # Panics
    /// If there are more keys than a byte can name.
    #[must_use]
    pub fn new(options: ClientOptions) -> Self {
        let keys = usize::try_from(options.keys).expect("there are few keys");
        Self { options, seen: vec![None; keys] }
    }

    /// So that the next compare-and-swap of the key has a chance.
    fn remember(&mut self, command: &KvCommand) {
        let slot = self.slot(command.key());
        self.seen[slot] = match command {
            KvCommand::Put { value, .. } => Some(value.clone()),
            KvCommand::Delete { .. } => None,
            KvCommand::CompareAndSwap { new, .. } => new.clone(),
        };
    }

    fn slot(&self, key: &Bytes) -> usize {
        key.last().map_or(0, |&last| usize::from(last) % self.seen.len())
    }

    /// No two requests write one value, so that a read tells which write it saw.
    fn value(&self, turn: Turn, oversized: bool) -> Bytes {
        let padding = if oversized { COMMAND_BYTES_MAX } else { self.options.padding };
        let mut value = Vec::with_capacity(16 + padding);
        value.extend_from_slice(&turn.client.to_be_bytes());
        value.extend_from_slice(&turn.request.to_be_bytes());
        value.resize(16 + padding, b'.');
        Bytes::from(value)
    }
}

impl Workload for KeyValue {
    type Machine = Kv;
    type Model = KvModel;

    fn machine(&self) -> Kv {
        Kv::new()
    }

    fn command(&mut self, turn: Turn, draw: &mut Draw) -> KvCommand {
        let key = key(draw.below(self.options.keys));
        let value = self.value(turn, draw.chance(self.options.oversized));
        match draw.below(8) {
            0 => KvCommand::Delete { key },
            1..=3 => {
                let seen = self.seen[self.slot(&key)].clone();
                let expect = seen.filter(|_| draw.chance(Ratio::new(7, 8)));
                let new = (draw.below(8) > 0).then_some(value);
                KvCommand::CompareAndSwap { key, expect, new }
            }
            4.. => KvCommand::Put { key, value },
        }
    }

    fn query(&mut self, _: Turn, draw: &mut Draw) -> KvQuery {
        if draw.chance(Ratio::new(1, 8)) {
            let limit = 1 + u32::try_from(draw.below(8)).expect("below 8");
            return KvQuery::Scan { prefix: Bytes::from_static(b"k"), after: None, limit };
        }
        KvQuery::Get { key: key(draw.below(self.options.keys)) }
    }

    fn responded(&mut self, command: &KvCommand, response: &KvResponse) {
        if let KvResponse::Changed { .. } = response {
            self.remember(command);
        }
    }

    fn answered(&mut self, query: &KvQuery, answer: &KvAnswer) {
        if let (KvQuery::Get { key }, KvAnswer::Value(found)) = (query, answer) {
            let slot = self.slot(key);
            self.seen[slot] = found.as_ref().map(|found| found.value.clone());
        }
    }

    fn show_command(command: &KvCommand) -> String {
        words::command(command)
    }

    fn show_query(query: &KvQuery) -> String {
        words::query(query)
    }

    fn show_response(response: &KvResponse, index: Index) -> String {
        words::response(*response, index)
    }

    fn show_answer(answer: &KvAnswer, index: Index) -> String {
        words::answer(answer, index)
    }
}

fn key(number: u64) -> Bytes {
    Bytes::copy_from_slice(&[b'k', u8::try_from(number).expect("there are few keys")])
}
