//! Client sessions (thesis §6.3): exactly once, bounded, deterministic, part of the snapshot.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use raft_core::{Chain, EntryId, Index, Term};
use raft_replica::kv::KvCommand;
use raft_replica::session::{Executed, LogCommand, SessionId, Sessions, Verdict};
use raft_replica::{Image, ImageError};

fn executed(serial: u64, index: u64) -> Executed {
    Executed { serial, index: Index(index), response: Bytes::from(index.to_le_bytes().to_vec()) }
}

/// Runs one command and returns what the table said to it.
fn run(sessions: &mut Sessions, index: u64, session: SessionId, serial: u64) -> Verdict {
    let verdict = sessions.admit(Index(index), session, serial);
    if verdict == Verdict::Fresh {
        sessions.record(session, executed(serial, index));
    }
    verdict
}

#[test]
fn a_retry_is_answered_as_the_first_time() {
    let mut sessions = Sessions::new();
    let session = sessions.open(Index(1), 8);
    assert_eq!(session, SessionId(1));
    assert_eq!(run(&mut sessions, 2, session, 1), Verdict::Fresh);
    assert_eq!(run(&mut sessions, 3, session, 1), Verdict::Duplicate(executed(1, 2)));
    assert_eq!(run(&mut sessions, 4, session, 5), Verdict::Fresh);
    assert_eq!(run(&mut sessions, 5, session, 1), Verdict::Stale);
    assert_eq!(run(&mut sessions, 6, session, 4), Verdict::Stale);
    assert_eq!(run(&mut sessions, 7, session, 5), Verdict::Duplicate(executed(5, 4)));
    assert_eq!(sessions.last(session), Some(&executed(5, 4)));
}

#[test]
fn a_session_that_is_not_open_executes_nothing() {
    let mut sessions = Sessions::new();
    assert_eq!(run(&mut sessions, 1, SessionId(1), 1), Verdict::Expired);
    assert!(sessions.is_empty());
}

#[test]
fn the_session_used_least_recently_expires() {
    let mut sessions = Sessions::new();
    let (one, two) = (sessions.open(Index(1), 3), sessions.open(Index(2), 3));
    let three = sessions.open(Index(3), 3);
    // A retry is a use; so `two` is the one whose last use lies furthest back.
    assert_eq!(run(&mut sessions, 4, one, 1), Verdict::Fresh);
    assert_eq!(run(&mut sessions, 5, three, 1), Verdict::Fresh);
    assert!(matches!(run(&mut sessions, 6, one, 1), Verdict::Duplicate(_)));
    let four = sessions.open(Index(7), 3);
    assert_eq!([one, two, three, four].map(|id| sessions.is_open(id)), [true, false, true, true]);
    assert_eq!(run(&mut sessions, 8, two, 1), Verdict::Expired);
    // A smaller bound, from a member configured otherwise, holds for everybody.
    let five = sessions.open(Index(9), 0);
    assert_eq!((sessions.len(), sessions.is_open(five)), (1, true));
}

#[test]
fn exactly_once_survives_a_snapshot() {
    let mut sessions = Sessions::new();
    let (idle, session) = (sessions.open(Index(1), 8), sessions.open(Index(2), 8));
    assert_eq!(run(&mut sessions, 3, session, 7), Verdict::Fresh);
    let last = EntryId { index: Index(3), term: Term(2), chain: Chain(99) };
    let image = Image { applied: last, digest: 5, sessions: sessions.clone(), machine: b"state" };
    let bytes = image.encode();
    let mut restored = Image::decode(&bytes).expect("an image that was just written").sessions;
    assert_eq!(restored, sessions);
    assert_eq!(run(&mut restored, 4, session, 7), Verdict::Duplicate(executed(7, 3)));
    assert_eq!(run(&mut restored, 5, session, 6), Verdict::Stale);
    assert_eq!(run(&mut restored, 6, idle, 1), Verdict::Fresh);
}

#[test]
fn an_image_has_the_documented_bytes() {
    let mut sessions = Sessions::new();
    let session = sessions.open(Index(1), 8);
    let response = Bytes::from_static(b"ok");
    assert_eq!(sessions.admit(Index(2), session, 9), Verdict::Fresh);
    sessions.record(session, Executed { serial: 9, index: Index(2), response });
    let applied = EntryId { index: Index(2), term: Term(1), chain: Chain(0x7f) };
    let bytes = Image { applied, digest: 4, sessions, machine: b"kv" }.encode();
    let (covered, checksum) = bytes.split_at(bytes.len() - 8);
    let golden = [1, 2, 1, 0x7f, 4, 1, 1, 2, 1, 9, 2, 2, b'o', b'k', 2, b'k', b'v'];
    assert_eq!(covered, golden);
    assert_eq!(checksum, twox_hash::XxHash3_64::oneshot(&golden).to_le_bytes());
}

#[test]
fn a_changed_image_is_refused() {
    let mut sessions = Sessions::new();
    sessions.open(Index(1), 8);
    let applied = EntryId { index: Index(1), term: Term(1), chain: Chain(1) };
    let bytes = Image { applied, digest: 4, sessions: sessions.clone(), machine: b"kv" }.encode();
    for at in 0..bytes.len() * 8 {
        let mut changed = bytes.to_vec();
        changed[at / 8] ^= 1 << (at % 8);
        assert!(Image::decode(&changed).is_err(), "bit {at} has changed");
    }
    for length in 0..bytes.len() {
        assert!(Image::decode(&bytes[..length]).is_err(), "{length} bytes are left");
    }
    // A session that was used after the image was made cannot be.
    let applied = EntryId::default();
    let impossible = Image { applied, digest: 4, sessions, machine: b"kv" }.encode();
    assert_eq!(Image::decode(&impossible), Err(ImageError::Malformed));
}

#[test]
fn log_commands_have_the_documented_bytes() {
    let open = LogCommand::<KvCommand>::OpenSession { sessions_max: 300 };
    assert_eq!(open.encode()[..], [1, 0, 0xac, 2]);
    let command = KvCommand::CompareAndSwap {
        key: Bytes::from_static(b"k"),
        expect: None,
        new: Some(Bytes::from_static(b"v")),
    };
    let apply = LogCommand::Apply { session: SessionId(5), serial: 6, command };
    assert_eq!(apply.encode()[..], [1, 1, 5, 6, 2, 1, b'k', 0, 1, 1, b'v']);
    assert_eq!(LogCommand::decode(&apply.encode()), Ok(apply));
}

#[test]
fn what_is_no_log_command_is_refused() {
    let good = LogCommand::<KvCommand>::OpenSession { sessions_max: 3 }.encode();
    for length in 0..good.len() {
        assert!(LogCommand::<KvCommand>::decode(&good[..length]).is_err());
    }
    for bad in [&[2, 0, 3][..], &[1, 2, 0], &[1, 0, 3, 0], &[1, 1, 5, 6, 3, 0]] {
        assert!(LogCommand::<KvCommand>::decode(bad).is_err(), "{bad:?}");
    }
}

/// The naive model: what each session has executed, and when it was last used.
#[derive(Default)]
struct Model {
    last: BTreeMap<u64, Option<(u64, u64)>>,
    used: BTreeMap<u64, u64>,
}

impl Model {
    fn open(&mut self, index: u64, sessions_max: usize) {
        while self.last.len() >= sessions_max {
            let oldest = self.used.iter().min_by_key(|(_, used)| **used);
            let oldest = *oldest.expect("a full table is not empty").0;
            self.last.remove(&oldest);
            self.used.remove(&oldest);
        }
        self.last.insert(index, None);
        self.used.insert(index, index);
    }

    fn run(&mut self, index: u64, session: u64, serial: u64) -> Verdict {
        let Some(last) = self.last.get_mut(&session) else { return Verdict::Expired };
        self.used.insert(session, index);
        match *last {
            Some((last, at)) if last == serial => Verdict::Duplicate(executed(serial, at)),
            Some((last, _)) if last > serial => Verdict::Stale,
            Some(_) | None => {
                *last = Some((serial, index));
                Verdict::Fresh
            }
        }
    }
}

proptest! {
    #[test]
    fn the_table_agrees_with_a_naive_model(
        steps in prop::collection::vec((0u64..12, 0u64..4, 0u8..5), 0..80),
        sessions_max in 1u32..5,
    ) {
        let (mut sessions, mut model) = (Sessions::new(), Model::default());
        for (index, (session, serial, what)) in (1..).zip(steps) {
            if what == 0 {
                prop_assert_eq!(sessions.open(Index(index), sessions_max), SessionId(index));
                model.open(index, sessions_max as usize);
            } else {
                let verdict = run(&mut sessions, index, SessionId(session), serial);
                prop_assert_eq!(verdict, model.run(index, session, serial));
            }
            prop_assert!(sessions.len() <= sessions_max as usize);
            prop_assert!(sessions.is_valid(Index(index)));
        }
    }

    #[test]
    fn decoding_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        if let Ok(command) = LogCommand::<KvCommand>::decode(&bytes) {
            prop_assert_eq!(LogCommand::decode(&command.encode()), Ok(command));
        }
        prop_assert!(Image::decode(&bytes).is_err());
    }
}
