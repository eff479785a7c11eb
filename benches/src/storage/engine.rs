//! `raft-engine`: a log-structured store for the logs of many groups, used here for one.

use std::path::Path;

use raft::eraftpb::Entry;
use raft_engine::{Config, LogBatch, MessageExt, ReadableSize};

use super::{Appender, Shape, noise};

struct Entries;

impl MessageExt for Entries {
    type Entry = Entry;

    fn index(entry: &Entry) -> u64 {
        entry.index
    }
}

/// An engine in a fresh directory.
pub(crate) struct Engine {
    engine: raft_engine::Engine,
    entries: Vec<Entry>,
    next: u64,
    bytes: u64,
}

impl Engine {
    pub(crate) fn new(path: &Path, shape: Shape) -> Self {
        let dir = path.display().to_string();
        let target_file_size = ReadableSize::mb(16);
        let config = Config { dir, target_file_size, ..Config::default() };
        let engine = raft_engine::Engine::open(config).expect("a fresh directory");
        // No two alike: it compresses a batch as a whole.
        let noise = noise(shape.payload_bytes * shape.batch);
        let entry = |data: &[u8]| Entry { term: 1, data: data.to_vec().into(), ..Entry::default() };
        let entries = noise.chunks(shape.payload_bytes).map(entry).collect();
        Self { engine, entries, next: 1, bytes: 0 }
    }
}

impl Appender for Engine {
    fn append(&mut self) {
        for entry in &mut self.entries {
            entry.index = self.next;
            self.next += 1;
        }
        let mut batch = LogBatch::default();
        batch.add_entries::<Entries>(1, &self.entries).expect("indices follow each other");
        let written = self.engine.write(&mut batch, true).expect("the disk works");
        self.bytes += written as u64;
    }

    fn take_bytes(&mut self) -> u64 {
        core::mem::take(&mut self.bytes)
    }
}
