//! `raft-sim replay` with what a server's flight recorder has written.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use bytes::Bytes;
use raft_core::{
    Body, ClusterId, Config, Effect, GroupId, Member, Membership, Message, Raft, Recorded,
    RecordedBatch, RecordedStart, RecoveredState, Ticket, Time,
};
use raft_replica::recording;

/// The life of a sole voter: its records, the last of which is a proposal.
fn life() -> (Raft, Vec<Recorded>) {
    let me = Member::new(1, 0x5eed);
    let config = Config::new(ClusterId(1), GroupId(0), me);
    let found = RecoveredState::genesis(Membership::new(vec![me], vec![]).expect("it is one"));
    let (mut raft, mut effects) =
        Raft::recover(config.clone(), found.clone(), Time(0)).expect("a founder starts");
    let start = RecordedStart { config, found, now: Time(0), digest: raft.digest() };
    let mut records = vec![Recorded::Start(Box::new(start))];
    let command = Bytes::from_static(b"put a 1");
    let mut wishes = vec![Body::Propose { ticket: Ticket(1), command }, Body::Campaign];
    loop {
        let mut bodies: Vec<Body> = effects.drain(..).filter_map(answer).collect();
        if bodies.is_empty() {
            let Some(wish) = wishes.pop() else { return (raft, records) };
            bodies.push(wish);
        }
        let messages = bodies.into_iter().map(|body| Message { now: Time(7), body });
        let messages: Vec<Message> = messages.collect();
        raft.step_batch(messages.clone(), &mut effects);
        records.push(Recorded::Batch(RecordedBatch { messages, digest: raft.digest() }));
    }
}

fn answer(effect: Effect) -> Option<Body> {
    match effect {
        Effect::Persist(batch) => Some(Body::Persisted { seq: batch.seq }),
        Effect::Apply { entries } => {
            entries.last().map(|last| Body::Applied { through: last.index() })
        }
        Effect::Send(_)
        | Effect::RestoreState { .. }
        | Effect::Outcome { .. }
        | Effect::ReadReady { .. }
        | Effect::Load(_)
        | Effect::ReadChunk(_)
        | Effect::StageChunk { .. }
        | Effect::Observe(_) => None,
    }
}

fn file_of(records: &[Recorded]) -> Vec<u8> {
    let mut content = recording::MAGIC.to_vec();
    records.iter().for_each(|recorded| recording::write(recorded, &mut content));
    content
}

fn replay(name: &str, content: &[u8], more: &[&str]) -> (Option<i32>, String) {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, content).expect("the folder can be written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_raft-sim"));
    let Output { status, stdout, stderr } =
        command.arg("replay").arg(path).args(more).output().expect("the program runs");
    (status.code(), String::from_utf8([stdout, stderr].concat()).expect("it writes text"))
}

#[test]
fn a_recording_is_played_to_its_end() {
    let (raft, records) = life();
    let (code, told) = replay("whole.recording", &file_of(&records), &[]);
    assert_eq!(code, Some(0), "{told}");
    let batches = records.len() - 1;
    assert!(told.starts_with(&format!("1 starts, {batches} batches, ")), "{told}");
    assert!(told.contains(&raft.status().to_string()), "{told}");
    assert!(told.ends_with(&format!("digest {:016x}\n", raft.digest())), "{told}");
    let (code, verbose) = replay("whole.recording", &file_of(&records), &["-v"]);
    assert_eq!(code, Some(0), "{verbose}");
    assert!(verbose.contains(" propose #1 \"put a 1\"\n"), "{verbose}");
    assert!(verbose.ends_with(&told), "{verbose}");
    let (code, told) = replay("whole.recording", &file_of(&records), &["--trace", "none"]);
    assert_eq!(code, Some(64), "{told}");
}

/// Every crash of the server may cut the last record.
#[test]
fn a_recording_that_is_cut_ends_there() {
    let (_, records) = life();
    let whole = file_of(&records);
    let before = file_of(&records[..records.len() - 1]).len();
    for end in [before + 1, before + 4, whole.len() - 1] {
        let (code, told) = replay("cut.recording", &whole[..end], &[]);
        assert_eq!(code, Some(0), "{told}");
        let cut = format!("the last record is cut: {} bytes of it are there\n", end - before);
        assert!(told.ends_with(&cut), "{told}");
    }
}

#[test]
fn the_first_batch_that_differs_is_named() {
    let (_, mut records) = life();
    let is_proposal = |recorded: &Recorded| {
        let Recorded::Batch(batch) = recorded else { return false };
        matches!(batch.messages[0].body, Body::Propose { .. })
    };
    let place = records.iter().position(is_proposal).expect("it has proposed");
    let Recorded::Batch(batch) = &mut records[place] else { panic!("it is a batch") };
    let command = Bytes::from_static(b"put a 2");
    batch.messages[0].body = Body::Propose { ticket: Ticket(1), command };
    let (code, told) = replay("differs.recording", &file_of(&records), &[]);
    assert_eq!(code, Some(4), "{told}");
    assert!(told.starts_with(&format!("record {place}: the digest is ")), "{told}");
}

#[test]
fn what_is_damaged_or_no_recording_is_told_apart() {
    let (_, records) = life();
    let mut damaged = file_of(&records);
    let first = file_of(&records[..1]).len();
    damaged[first + 4 + 2] ^= 1; // Of the second record, behind its length, version and kind.
    let (code, told) = replay("damaged.recording", &damaged, &[]);
    assert_eq!(code, Some(64), "{told}");
    assert!(told.starts_with("record 1: the frame's checksum is wrong\n"), "{told}");
    let (code, told) = replay("headless.recording", &file_of(&records[1..]), &[]);
    assert_eq!(code, Some(4), "{told}");
    assert!(told.starts_with("the recording does not begin with a start\n"), "{told}");
    let (code, told) = replay("none.recording", &[0xff, 0xfe], &[]);
    assert_eq!(code, Some(64), "{told}");
    assert!(told.contains("is neither a tape nor a recording"), "{told}");
}
