//! The simulated disk and real files: the same calls have the same results, and leave the same bytes.
//!
//! What a power loss takes back, files cannot show; here nothing is lost. Absent as well: calls that storage
//! never makes, such as opening a directory, for which the system has words of its own.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::fs;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use raft_core::{
    ChunkId, ClusterId, Entries, EntryId, GroupId, HardState, Incarnation, Index, LoadPurpose,
    LoadRequest, Member, Membership, Payload, PersistBatch, PersistSeq, RecoveredState,
    SnapshotMeta, Term,
};
use raft_replica::disk::{Disk, DiskError};
use raft_replica::file_disk::FileDisk;
use raft_replica::storage::work::Work;
use raft_replica::storage::{Identity, Storage, StorageOptions};
use raft_sim::disk::{Lie, SimDisk};
use tempfile::TempDir;

/// Few slots and short segments: a log soon goes on in another file, and most of it is read again.
const OPTIONS: StorageOptions = StorageOptions {
    segment_slots: 8,
    segment_bytes: 32 << 10,
    guard_bytes: 4096,
    chunk_bytes: 4096,
    resident_bytes: 2048,
};

fn identity() -> Identity {
    Identity { cluster: ClusterId(0xc1), group: GroupId(7), member: Member::new(1, 101) }
}

fn founders() -> Membership {
    Membership::new((1..=3).map(|id| Member::new(id, 100 + id)).collect(), Vec::new()).unwrap()
}

fn meta(last: EntryId) -> Arc<SnapshotMeta> {
    Arc::new(SnapshotMeta { last, membership: founders() })
}

/// A call of storage.
#[derive(Debug)]
enum Step {
    Write(Work),
    Sync,
    Rest,
    Scrub,
    /// The process ends and another one starts.
    Reopen,
}

/// What a core asks of its storage.
#[derive(Debug)]
struct Script {
    steps: Vec<Step>,
    hard_state: HardState,
    /// The entry before the first one, and all of them.
    log: Vec<EntryId>,
    seq: PersistSeq,
    commit: Index,
}

impl Script {
    /// A node is founded.
    fn founding() -> Self {
        let incarnation = Incarnation(1);
        let hard_state = HardState { incarnation, ..HardState::default() };
        let genesis = RecoveredState::genesis(founders()).snapshot;
        let mut script = Self {
            steps: Vec::new(),
            hard_state,
            log: vec![genesis.last],
            seq: PersistSeq { incarnation, n: 0 },
            commit: Index::ZERO,
        };
        script.persist(|batch| {
            batch.hard_state = Some(hard_state);
            batch.install = Some(genesis);
        });
        script
    }

    fn persist(&mut self, fill: impl FnOnce(&mut PersistBatch)) -> &mut Self {
        self.seq.n += 1;
        let mut batch = PersistBatch {
            seq: self.seq,
            hard_state: None,
            install: None,
            truncate_from: None,
            heal: Vec::new(),
            append: Entries::empty(),
            compact_to: None,
        };
        fill(&mut batch);
        let commit = self.commit;
        self.step(Step::Write(Work::Persist { batch, commit }))
    }

    fn step(&mut self, step: Step) -> &mut Self {
        self.steps.push(step);
        self
    }

    fn last(&self) -> EntryId {
        *self.log.last().unwrap()
    }

    fn term(&mut self, term: u64) -> &mut Self {
        let vote = Some(Member::new(1, 101));
        self.hard_state = HardState { term: Term(term), vote, ..self.hard_state };
        let hard_state = self.hard_state;
        self.persist(|batch| batch.hard_state = Some(hard_state))
    }

    /// Commands of these sizes after the last entry.
    fn entries(&mut self, sizes: &[usize]) -> Entries {
        let (last, term) = (self.last(), self.hard_state.term);
        let command = |(number, size): (usize, &usize)| {
            let byte = u8::try_from(number).unwrap() ^ 0x5a;
            (term, Payload::Command(Bytes::from(vec![byte; *size])))
        };
        let entries = Entries::after(last, sizes.iter().enumerate().map(command));
        self.log.extend(entries.iter().map(|entry| entry.id()));
        entries
    }

    fn append(&mut self, sizes: &[usize]) -> &mut Self {
        let entries = self.entries(sizes);
        self.persist(|batch| batch.append = entries)
    }

    /// The log from an index on is another one.
    fn rewrite(&mut self, from: u64, sizes: &[usize]) -> &mut Self {
        self.log.retain(|id| id.index.0 < from);
        let entries = self.entries(sizes);
        self.persist(|batch| {
            batch.truncate_from = Some(Index(from));
            batch.append = entries;
        })
    }

    /// A snapshot through this entry takes the place of what is before it.
    fn snapshot(&mut self, index: u64, bytes: usize) -> &mut Self {
        self.step(Step::Sync);
        let last = *self.log.iter().find(|id| id.index.0 == index).unwrap();
        let (snapshot, data) = (meta(last), Bytes::from(vec![9; bytes]));
        self.step(Step::Write(Work::SaveSnapshot { snapshot: Arc::clone(&snapshot), data }));
        self.persist(|batch| batch.compact_to = Some(Index(index)));
        let load = Work::LoadSnapshot { snapshot, offset: 0, bytes_max: usize::MAX };
        self.step(Step::Sync).step(Step::Write(load))
    }

    /// A snapshot comes from elsewhere, in parts, and replaces the log.
    fn receive(&mut self, index: u64, parts: &[usize]) -> &mut Self {
        let before = EntryId { index: Index(index - 1), ..EntryId::default() };
        let noop = [(self.hard_state.term, Payload::Noop)];
        let last = Entries::after(before, noop).last().unwrap().id();
        let mut offset = 0;
        for (number, &part) in parts.iter().enumerate() {
            let (id, snapshot, data) = (ChunkId::default(), meta(last), vec![6; part].into());
            let done = number + 1 == parts.len();
            self.step(Step::Write(Work::StageChunk { id, snapshot, offset, data, done }));
            offset += part as u64;
        }
        self.log = vec![last];
        self.persist(|batch| batch.install = Some(meta(last)))
    }

    /// All payloads from this entry on are read.
    fn load(&mut self, from: u64) -> &mut Self {
        let after = *self.log.iter().find(|id| id.index.0 + 1 == from).unwrap();
        let (purpose, through) = (LoadPurpose::Apply, self.last().index);
        let request = LoadRequest { purpose, after, through, bytes_max: 1 << 20 };
        self.step(Step::Write(Work::Load(request)))
    }
}

/// What storage says to each step on this disk; the disk is let go in the end.
fn play<D: Disk>(mut disk: D, steps: &[Step]) -> Vec<String> {
    let mut told = vec![format!("{:?}", Storage::format(&mut disk, identity()))];
    let open = |disk: D, told: &mut Vec<String>| {
        let (storage, found) = Storage::open(disk, OPTIONS, Some(identity())).unwrap();
        told.push(format!("{found:?}"));
        storage
    };
    let mut storage = open(disk, &mut told);
    for step in steps {
        told.push(match step {
            Step::Write(work) => format!("{:?}", storage.write(work.clone())),
            Step::Sync => format!("{:?}", storage.sync()),
            Step::Rest => format!("{:?}", storage.rest()),
            Step::Scrub => format!("{:?}", storage.scrub(1 << 20)),
            Step::Reopen => {
                storage = open(storage.into_disk(), &mut told);
                continue;
            }
        });
    }
    let failed: Vec<&String> = told.iter().filter(|answer| answer.starts_with("Err")).collect();
    assert!(failed.is_empty(), "{failed:?}");
    told
}

/// The files below a directory, each with its bytes.
fn files(root: &Path, dir: &str) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root.join(dir)).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let path = if dir.is_empty() { name } else { format!("{dir}/{name}") };
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(root, &path));
        } else {
            found.push((path, fs::read(entry.path()).unwrap()));
        }
    }
    found.sort_unstable();
    found
}

/// Files whose bytes are compared by whoever reads them, not printed.
fn same_files(name: &str, sim: &SimDisk, directory: &TempDir) {
    let (simulated, real) = (sim.contents(), files(directory.path(), ""));
    let paths = |files: &[(String, Vec<u8>)]| -> Vec<String> {
        files.iter().map(|(path, _)| path.clone()).collect()
    };
    assert_eq!(paths(&simulated), paths(&real), "{name}");
    for ((path, simulated), (_, real)) in simulated.iter().zip(&real) {
        assert!(simulated == real, "{name}: {path} differs");
    }
}

fn same_on_both(name: &str, script: &Script) {
    // One disk reads by sectors, another by more than any file has.
    for read_ahead in [0, 1 << 20] {
        let directory = TempDir::new().unwrap();
        let sim = SimDisk::new(Lie::None);
        sim.set_read_ahead(read_ahead);
        let simulated = play(sim.clone(), &script.steps);
        let real = play(FileDisk::new(directory.path()).unwrap(), &script.steps);
        for (number, (simulated, real)) in simulated.iter().zip(&real).enumerate() {
            assert_eq!(simulated, real, "{name}, answer {number}");
        }
        assert_eq!(simulated.len(), real.len(), "{name}");
        same_files(name, &sim, &directory);
        assert!(sim.contents().len() >= 6, "{name}");
    }
}

#[test]
fn the_same_scripts_leave_the_same_bytes() {
    let mut append = Script::founding();
    append.term(1).append(&[0, 10, 700]).step(Step::Sync);
    append.append(&[3000]).append(&[1, 2]).step(Step::Sync).load(1);
    same_on_both("append", &append);

    let mut rewrite = append;
    rewrite.term(2).rewrite(4, &[9000, 1]).step(Step::Sync).load(1);
    rewrite.step(Step::Reopen).term(3).rewrite(3, &[5; 3]).step(Step::Sync).step(Step::Rest);
    same_on_both("rewrite", &rewrite);

    let mut roll = rewrite;
    for _ in 0..6 {
        roll.append(&[1500; 5]).step(Step::Sync);
    }
    roll.load(1).step(Step::Scrub).step(Step::Reopen).step(Step::Scrub).load(1);
    same_on_both("roll", &roll);

    let mut snapshot = roll;
    snapshot.commit = Index(20);
    snapshot.snapshot(20, 10_000).append(&[3]).step(Step::Sync).step(Step::Reopen);
    snapshot.commit = Index(30);
    snapshot.snapshot(30, 100).step(Step::Rest).step(Step::Scrub).load(31);
    same_on_both("snapshot", &snapshot);

    let mut install = snapshot;
    install.receive(99, &[4000, 5000, 1]).step(Step::Sync).append(&[2; 2]).step(Step::Sync);
    install.step(Step::Scrub).step(Step::Reopen).append(&[7]).step(Step::Sync).load(100);
    same_on_both("install", &install);
}

/// Calls that go wrong, or nearly: what each of them says.
fn calls<D: Disk>(disk: &mut D) -> Vec<String> {
    let mut told = Vec::new();
    let mut say = |what: &str, result: Result<String, DiskError>| {
        told.push(format!("{what}: {result:?}"));
    };
    let nothing = |()| String::new();
    let none = |_: D::File| String::new();
    let names = |names: Vec<String>| names.join(" ");
    say("an empty disk", disk.list("").map(names));
    say("open what is not there", disk.open("none").map(none));
    say("remove what is not there", disk.remove("none").map(nothing));
    say("rename what is not there", disk.rename("none", "other").map(nothing));
    say("list what is not there", disk.list("none").map(names));
    say("sync what is not there", disk.sync_dir("none").map(nothing));
    say("a file in no directory", disk.create("none/file", 1).map(none));
    say("a directory in none", disk.create_dir("none/dir").map(nothing));
    say("a directory", disk.create_dir("dir").map(nothing));
    say("the same again", disk.create_dir("dir").map(nothing));
    say("a file of that name", disk.create("dir", 1).map(none));
    let file = disk.create("dir/file", 5).unwrap();
    say("a file twice", disk.create("dir/file", 9).map(none));
    let read = |disk: &mut D, file: &D::File, offset: u64, bytes: usize| {
        let mut buffer = vec![1; bytes];
        disk.read(file, offset, &mut buffer).map(|()| format!("{buffer:?}"))
    };
    say("fresh", read(disk, &file, 0, 5));
    say("more than there is", read(disk, &file, 0, 6));
    say("behind the end", read(disk, &file, 5, 1));
    say("nothing at the end", read(disk, &file, 5, 0));
    say("nothing behind the end", read(disk, &file, 9, 0));
    say("write nothing behind the end", disk.write(&file, 9, b"").map(nothing));
    say("its length", disk.len(&file).map(|bytes| bytes.to_string()));
    say("write over the end", disk.write(&file, 4, b"abc").map(nothing));
    say("write behind the end", disk.write(&file, 600, b"d").map(nothing));
    say("its beginning", read(disk, &file, 0, 9));
    say("its end", read(disk, &file, 598, 3));
    say("sync", disk.sync(&file).map(nothing));
    say("rename", disk.rename("dir/file", "dir/other").map(nothing));
    say("rename to itself", disk.rename("dir/other", "dir/other").map(nothing));
    say("rename into no directory", disk.rename("dir/other", "none/other").map(nothing));
    say("the directory", disk.list("dir").map(names));
    let second = disk.create("dir/second", 2).unwrap();
    disk.write(&second, 0, b"xy").unwrap();
    say("rename over a file", disk.rename("dir/second", "dir/other").map(nothing));
    say("the old file", read(disk, &file, 4, 3));
    say("write to it", disk.write(&file, 0, b"z").map(nothing));
    let other = disk.open("dir/other").unwrap();
    say("the new one", read(disk, &other, 0, 2));
    say("its length", disk.len(&other).map(|bytes| bytes.to_string()));
    disk.create("dir/b", 0).map(none).unwrap();
    disk.create("dir/a", 0).map(none).unwrap();
    disk.create("e", 3).map(none).unwrap();
    disk.create_dir("dir/deep").unwrap();
    disk.create("dir/deep/file", 3).map(none).unwrap();
    say("everything", disk.list("").map(names));
    say("in the directory", disk.list("dir").map(names));
    say("below it", disk.list("dir/deep").map(names));
    say("remove", disk.remove("dir/other").map(nothing));
    say("remove it again", disk.remove("dir/other").map(nothing));
    say("open it", disk.open("dir/other").map(none));
    say("read on", read(disk, &other, 0, 2));
    say("make it anew", disk.create("dir/other", 1).map(none));
    say("names are durable", disk.sync_dir("dir").map(nothing));
    told
}

#[test]
fn the_same_calls_say_the_same() {
    let directory = TempDir::new().unwrap();
    let mut sim = SimDisk::new(Lie::None);
    let simulated = calls(&mut sim);
    let real = calls(&mut FileDisk::new(directory.path()).unwrap());
    let differ = simulated.iter().zip(&real).filter(|(simulated, real)| simulated != real);
    assert_eq!(differ.collect::<Vec<_>>(), []);
    same_files("calls", &sim, &directory);
    for error in ["NotFound", "Exists", "Short"] {
        assert!(real.iter().any(|told| told.ends_with(&format!("Err({error})"))), "{error}");
    }
}
