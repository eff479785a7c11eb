//! The replicated state: equal commands give equal states, also by way of a snapshot.

use bytes::Bytes;
use raft_core::{Index, Member, NodeId};
use raft_kv::store::{
    Condition, Once, Page, Peer, Store, StoreCommand, StoreError, StoreResponse, StoreRestore,
};
use raft_replica::kv::{KvCommand, KvQuery};
use raft_replica::machine::{Restore as _, StateMachine as _};

fn put(key: &str, value: &str, once: Option<(&str, u64)>, condition: Condition) -> StoreCommand {
    let once =
        once.map(|(client, serial)| Once::Next { client: Bytes::from(client.to_owned()), serial });
    let (key, value) = (Bytes::from(key.to_owned()), Bytes::from(value.to_owned()));
    StoreCommand::Write { once, condition, write: KvCommand::Put { key, value } }
}

const ALL: Page = Page { changes_max: usize::MAX, bytes_max: usize::MAX };

fn plain(key: &str, value: &str) -> StoreCommand {
    put(key, value, None, Condition::Always)
}

fn written(version: u64, previous: Option<u64>) -> StoreResponse {
    StoreResponse::Written { version: Index(version), previous: previous.map(Index) }
}

#[test]
fn conditions_are_judged_when_the_command_is_executed() {
    let mut store = Store::default();
    let absent = || put("k", "1", None, Condition::Absent);
    assert_eq!(store.apply(Index(1), absent()), written(1, None));
    let found = StoreResponse::Unmet { found: Some(Index(1)) };
    assert_eq!(store.apply(Index(2), absent()), found);
    let old = || put("k", "2", None, Condition::VersionIn(vec![Index(9), Index(1)]));
    assert_eq!(store.apply(Index(3), old()), written(3, Some(1)));
    assert_eq!(store.apply(Index(4), old()), StoreResponse::Unmet { found: Some(Index(3)) });
    let missing = put("other", "1", None, Condition::Present);
    assert_eq!(store.apply(Index(5), missing), StoreResponse::Unmet { found: None });
}

#[test]
fn a_retry_is_answered_as_the_first_try_was_and_changes_nothing() {
    let mut store = Store::default();
    let first = || put("k", "1", Some(("alice", 1)), Condition::Absent);
    assert_eq!(store.apply(Index(1), first()), written(1, None));
    assert_eq!(store.apply(Index(2), plain("k", "2")), written(2, Some(1)));
    assert_eq!(store.apply(Index(3), first()), written(1, None));
    let unmet = || put("k", "3", Some(("alice", 2)), Condition::Absent);
    let found = StoreResponse::Unmet { found: Some(Index(2)) };
    assert_eq!(store.apply(Index(4), unmet()), found);
    assert_eq!(store.apply(Index(5), unmet()), found);
    assert_eq!(store.apply(Index(6), first()), StoreResponse::Overtaken);
    let other = put("k", "4", Some(("bob", 1)), Condition::Always);
    assert_eq!(store.apply(Index(7), other), written(7, Some(2)));
    assert_eq!(store.kv().get(b"k").unwrap().value, "4");
}

#[test]
fn the_client_that_was_silent_for_longest_is_forgotten_and_no_other() {
    let mut store = Store::default();
    for client in 0..10_000u64 {
        let name = format!("client-{client}");
        store.apply(Index(client + 1), put("k", "1", Some((&name, 1)), Condition::Always));
    }
    let again = |name: &str| put("k", "2", Some((name, 1)), Condition::Always);
    assert_eq!(store.apply(Index(10_001), again("client-1")), written(2, Some(1)));
    // One more client than there is room for: the first one goes.
    assert_eq!(store.apply(Index(10_002), again("new")), written(10_002, Some(10_000)));
    assert_eq!(store.apply(Index(10_003), again("client-1")), written(2, Some(1)));
    assert_eq!(store.names(), (10_000, 1));
    // Of who counts on it is known that it was forgotten; who begins is new.
    let second = || put("k", "3", Some(("client-0", 2)), Condition::Always);
    assert_eq!(store.apply(Index(10_004), second()), StoreResponse::Forgotten);
    assert_eq!(store.kv().get(b"k").unwrap().version, Index(10_002), "nothing was executed");
    assert_eq!(store.apply(Index(10_005), again("client-0")), written(10_005, Some(10_002)));
    assert_eq!(store.apply(Index(10_006), second()), written(10_006, Some(10_005)));
}

#[test]
fn single_commands_take_no_place_of_clients() {
    let mut store = Store::default();
    let alice = |serial| put("k", "1", Some(("alice", serial)), Condition::Always);
    let single = |name: String| {
        let StoreCommand::Write { condition, write, .. } = plain("k", "2") else { unreachable!() };
        StoreCommand::Write { once: Some(Once::Single { name: name.into() }), condition, write }
    };
    store.apply(Index(1), alice(1));
    store.apply(Index(2), single("alice".to_owned()));
    assert_eq!(store.apply(Index(3), single("alice".to_owned())), written(2, Some(1)));
    for n in 4..70_000u64 {
        store.apply(Index(n), single(n.to_string()));
    }
    assert_eq!(
        store.apply(Index(70_000), single("69999".to_owned())),
        written(69_999, Some(69_998))
    );
    // As many as there is room for, and not one more.
    let oldest = 70_000 - (1 << 16);
    let known = |n: u64| store.knows_single(&n.to_string().into());
    assert_eq!([known(oldest - 1), known(oldest)], [false, true]);
    let mut copy = Store::default();
    copy.restore(&encoded(&store)).unwrap();
    for mut store in [store, copy] {
        assert_eq!(store.apply(Index(70_001), alice(1)), written(1, None), "it is remembered");
        assert_eq!(store.apply(Index(70_002), alice(2)), written(70_002, Some(69_999)));
        assert_eq!(store.names(), ((1 << 16) + 1, 0));
    }
}

fn in_parts(bytes: &[u8], part_bytes: usize) -> Result<Store, StoreError> {
    let (mut store, mut restore) = (Store::default(), StoreRestore::default());
    bytes.chunks(part_bytes).try_for_each(|part| restore.feed(part))?;
    restore.finish(&mut store)?;
    Ok(store)
}

fn encoded(store: &Store) -> Vec<u8> {
    let mut bytes = Vec::new();
    Store::encode(&store.snapshot(), &mut bytes);
    bytes
}

#[test]
fn a_snapshot_holds_the_map_the_clients_and_the_addresses_and_refuses_damage() {
    let mut store = Store::default();
    store.apply(Index(1), put("k", "1", Some(("alice", 1)), Condition::Always));
    store.apply(Index(2), StoreCommand::SetPeer(peer(4)));
    let bytes = encoded(&store);
    let mut copy = Store::default();
    copy.restore(&bytes).unwrap();
    assert_eq!(encoded(&copy), bytes);
    assert_eq!(copy.peers(), store.peers());
    assert_eq!(copy.names(), (1, 0));
    let retry = put("k", "1", Some(("alice", 1)), Condition::Always);
    assert_eq!(copy.apply(Index(3), retry), written(1, None));

    let mut newer = bytes.clone();
    *newer.last_mut().unwrap() = 3;
    assert_eq!(copy.restore(&newer), Err(StoreError::UnknownVersion(3)));
    for length in 0..bytes.len() {
        assert!(Store::default().restore(&bytes[..length]).is_err(), "{length} bytes");
        let mut damaged = bytes.clone();
        damaged[length] ^= 0x41;
        for part_bytes in 1..=bytes.len() {
            assert_eq!(in_parts(&bytes, part_bytes).map(|copy| encoded(&copy)), Ok(bytes.clone()));
            assert_eq!(in_parts(&newer, part_bytes).err(), Some(StoreError::UnknownVersion(3)));
            let expected = in_parts(&damaged, bytes.len()).map(|copy| encoded(&copy));
            let copy = in_parts(&damaged, part_bytes).map(|copy| encoded(&copy));
            assert_eq!(copy, expected, "{length} in parts of {part_bytes}");
        }
    }
    let remove = |since| StoreCommand::RemovePeer { id: NodeId(4), since: Index(since) };
    assert_eq!(copy.apply(Index(4), remove(1)), StoreResponse::Noted);
    assert_eq!(copy.peers(), store.peers(), "it meant another entry");
    assert_eq!(copy.apply(Index(5), remove(2)), StoreResponse::Noted);
    assert!(copy.peers().is_empty());
}

fn peer(id: u64) -> Peer {
    Peer {
        member: Member::new(id, 7),
        address: format!("10.0.0.{id}:9001"),
        client_url: format!("http://10.0.0.{id}:8001"),
        shall_vote: true,
        replaces: None,
        is_joining: true,
    }
}

#[test]
fn changes_are_told_in_pages_and_old_ones_refused() {
    let mut store = Store::default();
    for index in 1..=5 {
        store.apply(Index(index), plain(if index % 2 == 0 { "even" } else { "odd" }, "v"));
    }
    store.apply(Index(6), put("odd", "w", None, Condition::Absent));
    let told = |store: &Store, after: u64, prefix: &str, limit: usize| {
        let page = Page { changes_max: limit, bytes_max: 1 << 20 };
        let (changes, through) = store.changes(Index(after), prefix.as_bytes(), page).unwrap();
        (changes.iter().map(|change| change.index.0).collect::<Vec<_>>(), through.0)
    };
    assert_eq!(told(&store, 0, "", 100), (vec![1, 2, 3, 4, 5], 6));
    assert_eq!(told(&store, 0, "odd", 2), (vec![1, 3], 3));
    assert_eq!(told(&store, 3, "odd", 2), (vec![5], 6));
    assert_eq!(told(&store, 6, "", 2), (vec![], 6));

    let mut copy = Store::default();
    copy.restore(&encoded(&store)).unwrap();
    assert_eq!(copy.changes(Index(5), b"", ALL).unwrap_err().oldest, Index(6));
    assert_eq!(told(&copy, 6, "", 1), (vec![], 6));
    let query = KvQuery::Get { key: Bytes::from("odd") };
    assert_eq!(copy.query(&query), store.query(&query));
}

#[test]
fn the_ring_forgets_the_oldest_changes_first() {
    let mut store = Store::default();
    let large = "x".repeat(1 << 20);
    for index in 1..=20 {
        store.apply(Index(index), plain("k", &large));
    }
    let oldest = store.changes(Index(0), b"", ALL).unwrap_err().oldest;
    assert!((4..10).contains(&oldest.0), "{oldest:?}");
    let (changes, _) = store.changes(oldest, b"", ALL).unwrap();
    assert_eq!(changes.len() as u64, 20 - oldest.0);
    let small = Page { bytes_max: 2 << 20, ..ALL };
    let (changes, through) = store.changes(oldest, b"", small).unwrap();
    assert_eq!(changes.len(), 2, "a page ends when it is large enough, and not before");
    assert_eq!(through.0, oldest.0 + 2);
}
