//! The key-value machine: against a naive model, and the bytes of its commands and snapshots.

use bytes::Bytes;
use proptest::prelude::*;
use raft_core::Index;
use raft_replica::kv::{
    KEY_BYTES_MAX, Kv, KvAnswer, KvCommand, KvError, KvQuery, KvResponse, KvRestore,
    SCAN_BYTES_MAX, SCAN_ENTRIES_MAX, Versioned,
};
use raft_replica::machine::{Restore, StateMachine};

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn put(key: &str, value: &str) -> KvCommand {
    KvCommand::Put { key: bytes(key), value: bytes(value) }
}

fn swap(key: &str, expect: Option<&str>, new: Option<&str>) -> KvCommand {
    KvCommand::CompareAndSwap { key: bytes(key), expect: expect.map(bytes), new: new.map(bytes) }
}

fn scan(kv: &Kv, prefix: &str, after: Option<&str>, limit: u32) -> (Vec<String>, bool) {
    let query = KvQuery::Scan { prefix: bytes(prefix), after: after.map(bytes), limit };
    let KvAnswer::Page { entries, more } = kv.query(&query) else { panic!("a scan gives a page") };
    let keys = entries.iter().map(|(key, _)| String::from_utf8_lossy(key).into_owned()).collect();
    (keys, more)
}

#[test]
fn a_response_names_the_version_that_it_replaced() {
    let mut kv = Kv::new();
    let changed = |previous: Option<u64>| KvResponse::Changed { previous: previous.map(Index) };
    assert_eq!(kv.apply(Index(3), put("a", "1")), changed(None));
    assert_eq!(kv.apply(Index(5), put("a", "2")), changed(Some(3)));
    assert_eq!(kv.apply(Index(6), KvCommand::Delete { key: bytes("a") }), changed(Some(5)));
    assert_eq!(kv.apply(Index(7), KvCommand::Delete { key: bytes("a") }), changed(None));
    assert!(kv.is_empty());
}

#[test]
fn compare_and_swap_changes_only_what_it_expects() {
    let mut kv = Kv::new();
    let differs = |found: Option<u64>| KvResponse::Differs { found: found.map(Index) };
    let changed = |previous: Option<u64>| KvResponse::Changed { previous: previous.map(Index) };
    assert_eq!(kv.apply(Index(1), swap("a", Some("1"), Some("2"))), differs(None));
    assert_eq!(kv.apply(Index(2), swap("a", None, Some("1"))), changed(None));
    assert_eq!(kv.apply(Index(3), swap("a", None, Some("9"))), differs(Some(2)));
    assert_eq!(kv.apply(Index(4), swap("a", Some("9"), None)), differs(Some(2)));
    let there = Versioned { value: bytes("1"), version: Index(2) };
    assert_eq!(kv.get(b"a"), Some(&there));
    assert_eq!(kv.apply(Index(5), swap("a", Some("1"), None)), changed(Some(2)));
    assert_eq!(kv.get(b"a"), None);
    assert_eq!(kv.apply(Index(6), swap("a", None, None)), changed(None));
}

#[test]
fn a_key_that_is_too_long_changes_nothing() {
    let mut kv = Kv::new();
    let longest = Bytes::from(vec![b'k'; KEY_BYTES_MAX]);
    let too_long = Bytes::from(vec![b'k'; KEY_BYTES_MAX + 1]);
    let put = |key: &Bytes| KvCommand::Put { key: key.clone(), value: Bytes::new() };
    assert_eq!(kv.apply(Index(1), put(&too_long)), KvResponse::KeyTooLong);
    assert!(kv.is_empty());
    assert_eq!(kv.apply(Index(2), put(&longest)), KvResponse::Changed { previous: None });
    assert_eq!(kv.len(), 1);
}

#[test]
fn a_scan_gives_pages_that_meet() {
    let mut kv = Kv::new();
    for (position, key) in (1..).zip(["a", "b", "b/1", "b/2", "b/3", "c"]) {
        kv.apply(Index(position), put(key, "v"));
    }
    let keys = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>();
    assert_eq!(scan(&kv, "b/", None, 2), (keys(&["b/1", "b/2"]), true));
    assert_eq!(scan(&kv, "b/", Some("b/2"), 2), (keys(&["b/3"]), false));
    assert_eq!(scan(&kv, "b/", Some("a"), 9), (keys(&["b/1", "b/2", "b/3"]), false));
    assert_eq!(scan(&kv, "b/", Some("c"), 9), (keys(&[]), false));
    assert_eq!(scan(&kv, "", None, 0), (keys(&[]), true));
    assert_eq!(scan(&kv, "x", None, 9), (keys(&[]), false));
}

#[test]
fn a_scan_is_bounded_in_entries_and_bytes() {
    let mut kv = Kv::new();
    for index in 1..=u64::from(SCAN_ENTRIES_MAX) + 1 {
        kv.apply(Index(index), put(&format!("small/{index:05}"), ""));
    }
    let (page, more) = scan(&kv, "small/", None, u32::MAX);
    assert_eq!((page.len(), more), (SCAN_ENTRIES_MAX as usize, true));
    let half = Bytes::from(vec![0; SCAN_BYTES_MAX / 2]);
    for key in ["large/1", "large/2", "large/3"] {
        kv.apply(Index(9999), KvCommand::Put { key: bytes(key), value: half.clone() });
    }
    assert_eq!(scan(&kv, "large/", None, 9).0.len(), 2);
}

fn encoded(kv: &Kv) -> Vec<u8> {
    let mut bytes = Vec::new();
    Kv::encode(kv, &mut bytes);
    bytes
}

#[test]
fn a_snapshot_has_the_documented_bytes() {
    let mut kv = Kv::new();
    kv.apply(Index(300), put("b", "xyz"));
    kv.apply(Index(301), put("a", ""));
    let golden = [1, 2, 1, b'a', 0, 0xad, 2, 1, b'b', 3, b'x', b'y', b'z', 0xac, 2];
    assert_eq!(encoded(&kv), golden);
}

#[test]
fn bytes_that_are_no_snapshot_are_refused_and_change_nothing() {
    let mut kv = Kv::new();
    kv.apply(Index(1), put("a", "1"));
    let before = kv.clone();
    let descending: &[u8] = &[1, 2, 1, b'b', 0, 1, 1, b'a', 0, 1];
    let repeated: &[u8] = &[1, 2, 1, b'a', 0, 1, 1, b'a', 0, 1];
    let trailing: &[u8] = &[1, 1, 1, b'a', 0, 1, 0];
    let endless: &[u8] = &[1, 0xff, 0xff, 0xff, 0xff, 7];
    for malformed in [&[][..], &[1], descending, repeated, trailing, endless] {
        assert_eq!(kv.restore(malformed), Err(KvError::Malformed), "{malformed:?}");
    }
    assert_eq!(kv.restore(&[2, 0]), Err(KvError::UnknownVersion(2)));
    assert_eq!(kv, before);
}

/// The naive model: a list of pairs that is searched from its beginning.
#[derive(Default)]
struct Model(Vec<(Bytes, Versioned)>);

impl Model {
    fn apply(&mut self, version: Index, command: &KvCommand) -> KvResponse {
        let found = self.0.iter().find(|(key, _)| key == command.key()).map(|pair| pair.1.clone());
        let version_found = found.as_ref().map(|found| found.version);
        let new = match command {
            KvCommand::Put { value, .. } => Some(value.clone()),
            KvCommand::Delete { .. } => None,
            KvCommand::CompareAndSwap { expect, new, .. } => {
                if found.map(|found| found.value) != *expect {
                    return KvResponse::Differs { found: version_found };
                }
                new.clone()
            }
        };
        self.0.retain(|(key, _)| key != command.key());
        self.0.extend(new.map(|value| (command.key().clone(), Versioned { value, version })));
        KvResponse::Changed { previous: version_found }
    }

    fn scan(&self, prefix: &[u8], after: Option<&Bytes>, limit: usize) -> KvAnswer {
        let mut entries: Vec<_> =
            self.0.iter().filter(|(key, _)| key.starts_with(prefix)).cloned().collect();
        entries.retain(|(key, _)| after.is_none_or(|after| key > after));
        entries.sort();
        let more = entries.len() > limit;
        entries.truncate(limit);
        KvAnswer::Page { entries, more }
    }
}

fn keys() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(b'a'..b'c', 0..4).prop_map(Bytes::from)
}

fn values() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(b'x'..b'z', 0..2).prop_map(Bytes::from)
}

fn commands() -> impl Strategy<Value = KvCommand> {
    prop_oneof![
        (keys(), values()).prop_map(|(key, value)| KvCommand::Put { key, value }),
        keys().prop_map(|key| KvCommand::Delete { key }),
        (keys(), prop::option::of(values()), prop::option::of(values()))
            .prop_map(|(key, expect, new)| KvCommand::CompareAndSwap { key, expect, new }),
    ]
}

proptest! {
    #[test]
    fn it_agrees_with_a_naive_model(
        commands in prop::collection::vec(commands(), 0..60),
        questions in prop::collection::vec((keys(), prop::option::of(keys()), 0u32..6), 1..8),
    ) {
        let (mut kv, mut model) = (Kv::new(), Model::default());
        for (index, command) in (1..).map(Index).zip(&commands) {
            prop_assert_eq!(kv.apply(index, command.clone()), model.apply(index, command));
        }
        let mut restored = Kv::new();
        prop_assert_eq!(restored.restore(&encoded(&kv)), Ok(()));
        prop_assert_eq!(&restored, &kv);
        prop_assert_eq!(encoded(&restored), encoded(&kv));
        for (prefix, after, limit) in questions {
            let found = model.0.iter().find(|(key, _)| *key == prefix).map(|pair| pair.1.clone());
            let get = KvQuery::Get { key: prefix.clone() };
            prop_assert_eq!(restored.query(&get), KvAnswer::Value(found));
            let expected = model.scan(&prefix, after.as_ref(), limit as usize);
            let scan = KvQuery::Scan { prefix, after, limit };
            prop_assert_eq!(restored.query(&scan), expected);
        }
    }

    #[test]
    fn where_a_snapshot_is_cut_means_nothing(
        count in 0u64..3000,
        damage in prop::option::of((any::<prop::sample::Index>(), 1u8..)),
        parts in prop::collection::vec(1usize..4000, 1..4),
    ) {
        let mut kv = Kv::new();
        for n in 0..count {
            kv.apply(Index(n + 1), put(&format!("{n:05}"), &"v".repeat((n % 7) as usize)));
        }
        let mut bytes = encoded(&kv);
        if let Some((at, flip)) = damage {
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
        }
        let (mut whole, mut restored) = (Kv::new(), Kv::new());
        let expected = whole.restore(&bytes);
        prop_assert!(damage.is_some() || expected.is_ok());
        let mut restore = KvRestore::default();
        let (mut rest, mut lengths) = (&bytes[..], parts.iter().cycle());
        let mut outcome = Ok(());
        while outcome.is_ok() && !rest.is_empty() {
            let (part, after) = rest.split_at((*lengths.next().unwrap()).min(rest.len()));
            outcome = restore.feed(part);
            rest = after;
        }
        let outcome = outcome.and_then(|()| restore.finish(&mut restored));
        prop_assert_eq!(outcome, expected);
        prop_assert_eq!(restored.bytes(), whole.bytes());
        prop_assert!(restored == whole);
    }

    #[test]
    fn restore_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let mut kv = Kv::new();
        if kv.restore(&bytes).is_err() {
            prop_assert!(kv.is_empty());
        }
    }
}
