//! Golden vectors: the bytes of version 1. A change here is a change of what old nodes and old
//! disks understand, never a detail.
//!
//! `UPDATE_EXPECT=1 cargo test -p raft-core` writes the files again.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use raft_core::Payload;
use raft_core::wire::{self, Limits};

use crate::recorded::recorded;
use crate::samples;

#[test]
fn messages_have_their_golden_bytes_and_golden_bytes_are_the_messages() {
    for (name, envelope) in samples::messages() {
        let golden = golden(name, &envelope.to_string(), &wire::encode(&envelope));
        assert_eq!(wire::decode(golden, &Limits::default()), Ok(envelope), "{name}");
    }
}

#[test]
fn hard_states_have_their_golden_bytes() {
    for (name, state) in samples::hard_states() {
        let golden = golden(name, &state.to_string(), &wire::encode_hard_state(&state));
        assert_eq!(wire::decode_hard_state(&golden), Ok(state), "{name}");
    }
}

#[test]
fn payloads_have_their_golden_bytes() {
    let payloads = [
        ("payload_noop", 0, Payload::Noop),
        ("payload_command", 1, Payload::Command(Bytes::from_static(b"put colour blue"))),
        ("payload_membership", 2, Payload::Membership(Arc::new(samples::joint()))),
    ];
    for (name, kind, payload) in payloads {
        let (encoded_kind, record) = wire::encode_payload(&payload);
        assert_eq!(encoded_kind, kind, "{name}");
        let golden = golden(name, &format!("payload kind {kind}"), &record);
        assert_eq!(wire::decode_payload(kind, golden), Ok(payload), "{name}");
    }
}

#[test]
fn snapshot_descriptions_have_their_golden_bytes() {
    let meta = samples::snapshot_meta();
    let golden = golden("snapshot_meta", &meta.to_string(), &wire::encode_snapshot_meta(&meta));
    assert_eq!(wire::decode_snapshot_meta(&golden), Ok(meta));
}

#[test]
fn every_golden_file_belongs_to_a_sample() {
    let mut expected: BTreeMap<String, bool> =
        samples::messages().iter().map(|(name, _)| (format!("{name}.hex"), false)).collect();
    for (name, _) in samples::hard_states() {
        expected.insert(format!("{name}.hex"), false);
    }
    for name in ["snapshot_meta", "payload_noop", "payload_command", "payload_membership"] {
        expected.insert(format!("{name}.hex"), false);
    }
    for (name, _) in recorded() {
        expected.insert(format!("{name}.hex"), false);
    }
    if is_updating() {
        return;
    }
    for entry in fs::read_dir(folder()).expect("the golden folder is there") {
        let entry = entry.expect("the folder can be listed");
        let name = entry.file_name().into_string().expect("the names are plain");
        let seen = expected.get_mut(&name).unwrap_or_else(|| panic!("{name} is nobody's"));
        *seen = true;
    }
    assert!(expected.values().all(|&seen| seen), "a sample has no golden file: {expected:?}");
}

/// The bytes in the golden file, which must be `actual`; written first if that is asked for.
pub(crate) fn golden(name: &str, title: &str, actual: &[u8]) -> Bytes {
    let path = folder().join(format!("{name}.hex"));
    let text = format!("# {name}: {title}\n{}", hex(actual));
    if is_updating() {
        fs::write(&path, &text).expect("the golden folder can be written");
    }
    let expected = fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}; see the head of this file", path.display()));
    assert_eq!(text, expected.replace("\r\n", "\n"), "{name}: the format has changed");
    Bytes::from(unhex(&expected))
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

#[expect(clippy::disallowed_methods, reason = "a person asks for new golden files by it")]
fn is_updating() -> bool {
    std::env::var("UPDATE_EXPECT").is_ok()
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for row in bytes.chunks(32) {
        for byte in row {
            write!(text, "{byte:02x}").expect("a string grows");
        }
        text.push('\n');
    }
    text
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: String = text.lines().filter(|line| !line.starts_with('#')).collect();
    let digit = |position: usize| {
        u8::from_str_radix(&digits[position..position + 2], 16).expect("two hexadecimal digits")
    };
    (0..digits.len()).step_by(2).map(digit).collect()
}
