//! Backups and restores, against a server that has its own ideas.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::time::{Duration, Instant};

use bytes::Bytes;
use raft_core::Index;
use raft_kv::backup;
use raft_replica::kv::{Kv, KvCommand};
use raft_replica::machine::StateMachine as _;

use crate::support::{Three, arg, command, run, text};

/// Reads one request; returns its path and its `Idempotency-Key`.
fn heard(client: &TcpStream) -> Option<(String, String)> {
    let mut reader = BufReader::new(client);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let path = line.split(' ').nth(1)?.to_owned();
    let (mut name, mut length) = (String::new(), 0);
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        match line.trim_end().split_once(": ") {
            Some(("idempotency-key", value)) => value.clone_into(&mut name),
            Some(("content-length", value)) => length = value.parse().ok()?,
            Some(_) => {}
            None => break,
        }
    }
    reader.take(length).read_to_end(&mut Vec::new()).ok()?;
    Some((path, name))
}

/// A backup of so many keys.
fn backup_of(keys: u64) -> Vec<u8> {
    let mut kv = Kv::new();
    for n in 1..=keys {
        let (key, value) = (Bytes::from(format!("key-{n}")), Bytes::from_static(b"v"));
        kv.apply(Index(n), KvCommand::Put { key, value });
    }
    let mut bytes = Vec::new();
    backup::encode(None, Index(keys), &kv, |part| {
        bytes.extend_from_slice(&part);
        true
    });
    bytes
}

/// However large it is, and slow the way: it is enough that something comes.
#[test]
fn a_backup_takes_as_long_as_it_comes() {
    const TAKES: Duration = Duration::from_millis(2500);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("backup");
    let bytes = backup_of(10);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("--endpoints={}", listener.local_addr().unwrap());
    let sent = bytes.clone();
    let server = std::thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        heard(&client).unwrap();
        client.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n").unwrap();
        let pace = TAKES / u32::try_from(sent.len()).unwrap();
        let (began, mut due) = (Instant::now(), Duration::ZERO);
        for byte in sent {
            due += pace;
            while began.elapsed() < due {
                std::thread::yield_now();
            }
            if client.write_all(&[byte]).is_err() {
                return;
            }
        }
    });
    let made = run(&["backup", "--timeout=1", arg(&file), &endpoint]);
    server.join().unwrap();
    assert_eq!(text(&made.stdout), "10 keys through index 10\n", "{}", text(&made.stderr));
    assert_eq!(std::fs::read(&file).unwrap(), bytes);
}

/// Answers so many requests for a backup.
fn serve(bytes: Vec<u8>, times: usize) -> (String, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("--endpoints={}", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        for _ in 0..times {
            let (mut client, _) = listener.accept().unwrap();
            heard(&client).unwrap();
            client.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n").unwrap();
            client.write_all(&bytes).unwrap();
        }
    });
    (endpoint, server)
}

#[cfg(unix)]
#[test]
fn a_backup_replaces_a_file_and_nothing_else() {
    use std::os::unix::fs::PermissionsExt as _;

    let directory = tempfile::tempdir().unwrap();
    let bytes = backup_of(3);
    let (endpoint, server) = serve(bytes.clone(), 2);
    let (file, link) = (directory.path().join("backup"), directory.path().join("link"));
    std::fs::write(&file, "an older one").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::os::unix::fs::symlink(&file, &link).unwrap();
    let made = run(&["backup", arg(&link), &endpoint]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(std::fs::read(&file).unwrap(), bytes);
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "who could not read the older one cannot read it");
    let made = run(&["backup", arg(directory.path()), &endpoint]);
    assert_eq!(made.status.code(), Some(1));
    assert!(text(&made.stderr).contains("it is not a regular file"), "{}", text(&made.stderr));
    server.join().unwrap();
}

#[test]
fn a_restore_takes_few_names_and_waits_for_who_is_busy() {
    const KEYS: usize = 100;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("backup");
    std::fs::write(&file, backup_of(100)).unwrap();

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("--endpoints={}", listener.local_addr().unwrap());
    // It answers everybody's first try of a key that it has too much to do.
    let server = std::thread::spawn(move || {
        let mut tries: BTreeMap<String, Vec<String>> = BTreeMap::new();
        while tries.values().filter(|names| names.len() > 1).count() < KEYS {
            let (mut client, _) = listener.accept().unwrap();
            let Some((path, name)) = heard(&client) else { continue };
            let names = tries.entry(path).or_default();
            names.push(name);
            let (status, body) = match names.len() {
                1 => ("429 Too Many Requests", r#"{"retry_after_ms":1}"#),
                _ => ("200 OK", "ok"),
            };
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
            );
            client.write_all(answer.as_bytes()).unwrap();
        }
        tries
    });
    let restored = run(&["restore", "--timeout=60", arg(&file), &endpoint]);
    let said = text(&restored.stderr);
    assert_eq!(text(&restored.stdout), "100 keys written, 0 were there and kept\n", "{said}");
    let tries = server.join().unwrap();
    let mut clients: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for names in tries.values() {
        assert!(names.iter().all(|name| *name == names[0]), "a number is used again: {names:?}");
        let (client, serial) = names[0].rsplit_once('/').expect("CLIENT/SEQ");
        clients.entry(client).or_default().push(serial.parse().unwrap());
    }
    assert!(clients.len() <= 32, "{clients:?}");
    for serials in clients.values_mut() {
        serials.sort_unstable();
        let expected: Vec<u64> = (1..=serials.len() as u64).collect();
        assert_eq!(*serials, expected, "they count from 1, and none is used twice");
    }
}

/// What somebody writes while a backup is restored is newer than the backup.
#[test]
fn a_restore_keeps_what_is_written_meanwhile() {
    const KEYS: u64 = 300;
    let three = Three::start();
    let file = three.directory.path().join("backup");
    std::fs::write(&file, backup_of(KEYS)).unwrap();
    // The last one in the order of the keys is there before the restore gets to it.
    assert_eq!(three.put(1, "/kv/key-99", "mine"), "ok");
    let servers = three.endpoints();
    let restore = command(&["restore", "--timeout=60", arg(&file), "--endpoints", &servers])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    for n in (1..KEYS).rev().step_by(3) {
        assert_eq!(three.put(1, &format!("/kv/key-{n}"), "mine"), "ok");
    }
    let restored = restore.wait_with_output().unwrap();
    let told = text(&restored.stdout);
    assert!(restored.status.success(), "{told}");
    let (written, kept) = told.split_once(" keys written, ").expect("it says how many");
    let kept = kept.strip_suffix(" were there and kept\n").expect("it says how many");
    let (written, kept): (u64, u64) = (written.parse().unwrap(), kept.parse().unwrap());
    assert_eq!(written + kept, KEYS);
    assert!((1..=KEYS / 3 + 1).contains(&kept), "{told}");
    for n in 1..=KEYS {
        let is_mine = n == 99 || (n < KEYS && (KEYS - 1 - n).is_multiple_of(3));
        let expected = if is_mine { "mine" } else { "v" };
        assert_eq!(three.get(1, &format!("/kv/key-{n}")), expected, "key {n}");
    }
}
