//! The bytes on the disk, record by record. They change only with a new version number: a
//! directory that an earlier build wrote must stay readable.

use std::fmt::Write;

use raft_replica::storage::{Storage, StorageOptions};

use crate::memory_disk::MemoryDisk;
use crate::model::{Script, identity};

/// Where a record begins in a file.
const RECORDS: [(&str, &str, usize, usize); 10] = [
    ("identity, first copy", "IDENTITY", 0, 60),
    ("identity, second copy", "IDENTITY", 4096, 60),
    ("hard state, generation 7", "hs.a", 4096, 86),
    ("hard state, generation 7, the other copy", "hs.b", 4096, 86),
    ("membership in the ring", "hs.b", 3 * 4096 + 8192, 92),
    ("segment head", "wal/seg-1-1.wal", 0, 64),
    ("slot of a command", "wal/seg-1-1.wal", 8192 + 64, 64),
    ("batch: header, no-op, command", "wal/seg-1-1.wal", 12288, 64 + 40 + 40 + 3),
    ("slot in the segment that a truncation began", "wal/seg-2-2.wal", 8192, 64),
    ("manifest of a snapshot of two chunks", "snap/2-2.manifest", 0, 96),
];

const GOLDEN: &str = include_str!("golden.txt");

fn dump(disk: &MemoryDisk) -> String {
    let mut text = String::new();
    for (name, file, offset, length) in RECORDS {
        let bytes = disk.bytes(file).unwrap_or_else(|| panic!("{file} of {:?}", disk.files()));
        writeln!(text, "# {name}: {file} at {offset}").unwrap();
        for line in bytes[offset..(offset + length).min(bytes.len())].chunks(32) {
            for word in line.chunks(4) {
                let hex: String = word.iter().map(|byte| format!("{byte:02x}")).collect();
                write!(text, "{hex} ").unwrap();
            }
            text.truncate(text.trim_end().len());
            text.push('\n');
        }
    }
    text
}

#[test]
fn every_record_has_the_bytes_that_it_always_had() {
    let mut disk = MemoryDisk::default();
    Storage::format(&mut disk, identity()).unwrap();
    let mut script = Script::founding();
    script.term(1, Some(2)).append(&[0, 3]).commit(1).sync();
    script.term(2, None).rewrite(2, &[5]).membership(9).sync().snapshot(2, &[9; 4100]);
    let (mut storage, _) = Storage::open(disk.clone(), StorageOptions::small(), None).unwrap();
    script.run(&mut storage).unwrap();
    storage.rest().unwrap();
    let dump = dump(&disk);
    assert!(dump == GOLDEN, "the format has changed:\n{dump}");
}
