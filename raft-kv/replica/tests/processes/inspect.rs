//! What `raft-inspect` says of directories, good and bad. It changes none.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use raft_replica::file_disk::FileDisk;
use raft_replica::storage::{Storage, StorageOptions, inspect};

use crate::Directory;
use crate::life::{Life, identity};

/// A directory in which a node has lived.
fn lived_in(name: &str) -> Directory {
    let directory = Directory::new(name);
    Storage::format(&mut FileDisk::new(&directory.0).unwrap(), identity()).unwrap();
    let mut life = Life::begin(&directory.0);
    life.raise_term();
    life.append(60);
    life.sync();
    life.snapshot();
    life.append(20);
    life.sync();
    directory
}

/// Every file, with its bytes.
fn contents(path: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(contents(&path));
        } else {
            all.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    all
}

fn raft_inspect(arguments: &[&str]) -> (i32, String, String) {
    let program = env!("CARGO_BIN_EXE_raft-inspect");
    let Output { status, stdout, stderr } = Command::new(program).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// It looks at a directory that somebody else has locked.
pub(crate) fn an_inspection_shows_what_is_there() {
    let directory = lived_in("inspect");
    let locked = FileDisk::new(&directory.0).unwrap();
    let before = contents(&directory.0);
    let path = directory.0.display().to_string();
    let (code, text, errors) = raft_inspect(&[&path]);
    assert_eq!((code, errors.as_str()), (0, ""), "{text}");
    for part in [
        "identity    n1/l65 of cc1 g7",
        "hard state  t1 inc1, generation 6",
        "snapshot    (t1,i60), 9000 bytes",
        "log         80 entries after (t0,i0), to (t1,i80)",
        "segment     wal/seg-1-1.wal: i1 to i64 in 2 batches",
        "segment     wal/seg-65-1.wal: i65 to i80 in 1 batches",
        "nothing amiss",
    ] {
        assert!(text.contains(part), "no {part} in\n{text}");
    }
    drop(locked);
    assert!(contents(&directory.0) == before);

    // The first byte of the first payload.
    let mut bytes = fs::read(directory.0.join("wal/seg-1-1.wal")).unwrap();
    bytes[8192 + 4096 + 64 + 40] ^= 1;
    fs::write(directory.0.join("wal/seg-1-1.wal"), bytes).unwrap();
    let before = contents(&directory.0);
    let (code, text, _) = raft_inspect(&[&path]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("the payload of (t1,i1) cannot be read"), "{text}");
    let (code, json, _) = raft_inspect(&["--json", &path]);
    assert_eq!(code, 1, "{json}");
    let expected = inspect(&mut FileDisk::new(&directory.0).unwrap()).unwrap().to_json();
    assert_eq!(json.trim_end(), expected);
    assert!(json.contains("\"damaged\":1,") && json.contains("\"findings\":[{\"file\":\"wal/"));
    let (open, close) = (json.matches(['{', '[']).count(), json.matches(['}', ']']).count());
    assert_eq!((open, json.matches('"').count() % 2), (close, 0), "{json}");
    assert!(contents(&directory.0) == before);
}

pub(crate) fn an_inspection_says_why_it_cannot() {
    let directory = lived_in("inspect-amnesia");
    let path = directory.0.display().to_string();
    fs::remove_file(directory.0.join("hs.a")).unwrap();
    let file = directory.0.join("hs.b").display().to_string();
    let cases: [(&[&str], i32, &str); 6] = [
        (&[&path], 2, "hs.a: it is missing"),
        (&["/nowhere/at/all"], 2, "/nowhere/at/all: not found"),
        (&[&file], 2, "hs.b: not a directory"),
        (&[], 64, "usage"),
        (&[&path, &path], 64, "usage"),
        (&["--yaml", &path], 64, "--yaml is no option"),
    ];
    for (arguments, expected, says) in cases {
        let (code, text, errors) = raft_inspect(arguments);
        assert_eq!((code, text.as_str()), (expected, ""), "{arguments:?}");
        assert!(errors.contains(says), "{arguments:?}: {errors}");
    }
    assert_eq!(raft_inspect(&["--help"]).0, 0);
}

/// A start of what had lost its log leaves no damage behind; that it may have known more it still says.
pub(crate) fn a_log_that_may_have_reached_further_is_amiss() {
    let directory = lived_in("inspect-doubt");
    let path = directory.0.display().to_string();
    for entry in fs::read_dir(directory.0.join("wal")).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    assert_eq!(raft_inspect(&[&path]).0, 1);
    let disk = FileDisk::new(&directory.0).unwrap();
    drop(Storage::open(disk, StorageOptions::default(), Some(identity())).unwrap());
    let (code, text, _) = raft_inspect(&[&path]);
    assert_eq!(code, 1, "{text}");
    let says = ["MAY HAVE REACHED FURTHER", "only the group can tell"];
    assert!(says.iter().all(|part| text.contains(part)), "{text}");
}

/// What nobody can read was not told.
#[cfg(target_os = "linux")]
pub(crate) fn an_inspection_that_cannot_be_written_fails() {
    let directory = lived_in("inspect-full");
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let program = env!("CARGO_BIN_EXE_raft-inspect");
    let output = Command::new(program).arg(&directory.0).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(74));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.starts_with("raft-inspect: standard output: "), "{errors}");
}
