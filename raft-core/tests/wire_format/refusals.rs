//! What is not a message or a record is refused with its reason, and never panics.

use bytes::Bytes;
use raft_core::wire::{self, Limits, WireError};
use raft_core::{
    Chain, Entries, EntryId, Envelope, Epoch, HardState, Incarnation, Index, LIMIT, Member,
    MembershipError, Payload, ReadId, Round, Rpc, Session, SnapshotMeta, Span, Term,
};
use twox_hash::XxHash3_64;

use crate::samples;

fn frames() -> impl Iterator<Item = (&'static str, Bytes)> {
    samples::messages().into_iter().map(|(name, envelope)| (name, wire::encode(&envelope)))
}

fn decode(frame: impl Into<Bytes>) -> Result<Envelope, WireError> {
    wire::decode(frame.into(), &Limits::default())
}

/// How much of a frame without its checksum that covers: all, but for the entries of an append.
fn covered(content: &[u8]) -> usize {
    const APPEND_ENTRIES: u8 = 5;
    if content[1] != APPEND_ENTRIES {
        return content.len();
    }
    // Header and body: numbers of eight bytes, then six that end with a byte below 0x80.
    [3, 2].into_iter().fold(2, |start, longs| {
        let ends = (start + 8 * longs..content.len()).filter(|at| content[*at] < 0x80);
        ends.map(|at| at + 1).nth(5).unwrap_or(content.len())
    })
}

/// The frame with `change` made to all but its checksum, and the checksum that fits.
pub(crate) fn resealed(frame: &Bytes, change: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut forged = frame[..frame.len() - 8].to_vec();
    change(&mut forged);
    let checksum = XxHash3_64::oneshot(&forged[..covered(&forged)]);
    forged.extend_from_slice(&checksum.to_le_bytes());
    Bytes::from(forged)
}

#[test]
fn every_truncation_of_a_frame_is_refused() {
    for (name, frame) in frames() {
        for length in 0..frame.len() {
            assert!(decode(frame.slice(..length)).is_err(), "{name} cut to {length}");
        }
    }
}

#[test]
fn every_flipped_bit_of_a_frame_is_refused() {
    let mut by_chain = 0;
    for (name, frame) in frames() {
        let checksum = frame.len() - 8;
        let entries = covered(&frame[..checksum])..checksum;
        for bit in 0..frame.len() * 8 {
            let mut flipped = frame.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let refused = decode(flipped).expect_err("a flipped bit is noticed");
            if bit < 8 {
                let version = frame[0] ^ (1 << bit);
                assert_eq!(refused, WireError::UnknownVersion(version), "{name}, bit {bit}");
            } else if entries.contains(&(bit / 8)) {
                // Not a frame's checksum, but the chain, or what no entry looks like.
                assert_ne!(refused, WireError::Checksum, "{name}, bit {bit}");
                by_chain += usize::from(refused == WireError::BrokenChain);
            } else {
                assert_eq!(refused, WireError::Checksum, "{name}, bit {bit}");
            }
        }
    }
    assert!(by_chain > 100, "the chain covers the entries: {by_chain}");
}

/// A sender that computes the checksum over nonsense: refused, or another message that can be
/// encoded again, but never a panic and never the same message.
#[test]
fn a_flipped_bit_under_a_right_checksum_is_refused_or_another_message() {
    let mut refusals = 0;
    for (name, envelope) in samples::messages() {
        let frame = wire::encode(&envelope);
        for bit in 0..(frame.len() - 8) * 8 {
            let forged = resealed(&frame, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
            match decode(forged) {
                Ok(other) => {
                    assert_ne!(other, envelope, "{name}, bit {bit}");
                    assert_eq!(decode(wire::encode(&other)), Ok(other), "{name}, bit {bit}");
                }
                Err(_) => refusals += 1,
            }
        }
    }
    assert!(refusals > 1000, "most of the format is checked: {refusals}");
}

#[test]
fn bytes_after_the_end_are_refused() {
    for (name, frame) in frames() {
        let longer = resealed(&frame, |bytes| bytes.push(0));
        assert_eq!(decode(longer), Err(WireError::TrailingBytes), "{name}");
    }
    let mut record = wire::encode_hard_state(&samples::hard_state()).to_vec();
    record.push(0);
    assert_eq!(wire::decode_hard_state(&record), Err(WireError::TrailingBytes));
    let mut record = wire::encode_snapshot_meta(&samples::snapshot_meta()).to_vec();
    record.push(0);
    assert_eq!(wire::decode_snapshot_meta(&record), Err(WireError::TrailingBytes));
    let noop = wire::decode_payload(0, Bytes::from_static(b"x"));
    assert_eq!(noop, Err(WireError::TrailingBytes));
}

#[test]
fn unknown_versions_and_kinds_are_told_apart_from_damage() {
    for (name, frame) in frames() {
        let newer = resealed(&frame, |bytes| bytes[0] = 2);
        assert_eq!(decode(newer), Err(WireError::UnknownVersion(2)), "{name}");
        for kind in [0, 21, 255] {
            let unknown = resealed(&frame, |bytes| bytes[1] = kind);
            assert_eq!(decode(unknown), Err(WireError::UnknownKind(kind)), "{name}");
        }
    }
    assert_eq!(wire::decode_payload(3, Bytes::new()), Err(WireError::UnknownPayload(3)));
    assert_eq!(wire::decode_hard_state(&[9, 0]), Err(WireError::UnknownVersion(9)));
    assert_eq!(wire::decode_hard_state(&[]), Err(WireError::TooShort));
    assert_eq!(wire::decode_snapshot_meta(&[]), Err(WireError::TooShort));
}

#[test]
fn truncated_records_are_refused_and_flipped_ones_are_others() {
    let state = samples::hard_state();
    let record = wire::encode_hard_state(&state);
    for length in 0..record.len() {
        assert!(wire::decode_hard_state(&record[..length]).is_err(), "cut to {length}");
    }
    for flipped in flips(&record) {
        assert_ne!(wire::decode_hard_state(&flipped), Ok(state));
    }
    let meta = samples::snapshot_meta();
    let record = wire::encode_snapshot_meta(&meta);
    for length in 0..record.len() {
        assert!(wire::decode_snapshot_meta(&record[..length]).is_err(), "cut to {length}");
    }
    for flipped in flips(&record) {
        assert_ne!(wire::decode_snapshot_meta(&flipped), Ok(meta.clone()));
    }
    let (kind, record) = wire::encode_payload(&Payload::Membership(samples::joint().into()));
    for length in 0..record.len() {
        assert!(wire::decode_payload(kind, record.slice(..length)).is_err(), "cut to {length}");
    }
}

fn flips(record: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    (0..record.len() * 8).map(|bit| {
        let mut flipped = record.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        flipped
    })
}

#[test]
fn limits_are_checked_before_anything_is_decoded() {
    let frame = wire::encode(&samples::envelope(samples::append_entries(
        samples::prev(),
        samples::entries(),
    )));
    let limits = |entries_max, bytes_max| Limits { entries_max, bytes_max };
    let length = frame.len();
    assert!(wire::decode(frame.clone(), &limits(4, length)).is_ok());
    let too_many = wire::decode(frame.clone(), &limits(3, length));
    assert_eq!(too_many, Err(WireError::Oversized));
    assert_eq!(wire::decode(frame, &limits(4, length - 1)), Err(WireError::Oversized));
}

/// Counts and lengths that no memory could hold.
#[test]
fn absurd_counts_are_refused_without_allocating_for_them() {
    let empty = samples::envelope(samples::append_entries(samples::prev(), Entries::empty()));
    let frame = wire::encode(&empty);
    let with_count = |count: u64| {
        resealed(&frame, |bytes| {
            assert_eq!(bytes.pop(), Some(0), "the count comes last");
            *bytes = postcard::to_extend(&count, core::mem::take(bytes)).expect("a vector grows");
        })
    };
    for count in [LIMIT, u64::MAX, 4097] {
        assert_eq!(decode(with_count(count)), Err(WireError::Oversized), "{count} entries");
    }
    assert_eq!(decode(with_count(4096)), Err(WireError::Malformed));
    let mut members = vec![wire::VERSION];
    members = postcard::to_extend(&u64::MAX, members).expect("a vector grows");
    assert_eq!(wire::decode_payload(2, members.into()), Err(WireError::Malformed));
}

#[test]
fn entries_that_do_not_lead_to_the_last_chain_are_refused() {
    let elsewhere = EntryId { chain: Chain(1), ..samples::prev() };
    let astray = samples::envelope(samples::append_entries(elsewhere, samples::entries()));
    assert_eq!(decode(wire::encode(&astray)), Err(WireError::BrokenChain));

    // One letter of the command is another one, and the sender's checksum vouches for it.
    let honest = samples::append_entries(samples::prev(), samples::entries());
    let frame = wire::encode(&samples::envelope(honest));
    let position = frame.windows(4).position(|window| window == b"blue").expect("it is there");
    let forged = resealed(&frame, |bytes| bytes[position] = b'g');
    assert_eq!(decode(forged), Err(WireError::BrokenChain));
}

#[test]
fn lists_that_make_no_membership_are_refused() {
    let member = |id| Member::new(id, id * 10);
    let refused = |voters: &[Member], learners: &[Member], auto_leave: bool| {
        let record = samples::membership_record(&(voters, &[], learners, &[], auto_leave));
        wire::decode_payload(2, record).expect_err("it is no membership")
    };
    let [one, two] = [member(1), member(2)];
    let invalid = WireError::InvalidMembership;
    let unsorted = invalid(MembershipError::NotSortedOrRepeated);
    assert_eq!(refused(&[two, one], &[], false), unsorted);
    assert_eq!(refused(&[one], &[one], false), invalid(MembershipError::LearnerIsVoter));
    assert_eq!(refused(&[], &[one], false), invalid(MembershipError::NoVoters));
    let joint_parts = invalid(MembershipError::JointPartsWithoutOutgoing);
    assert_eq!(refused(&[one], &[], true), joint_parts);
    let crowd: Vec<Member> = (1..=65).map(member).collect();
    assert_eq!(refused(&crowd, &[], false), invalid(MembershipError::TooManyMembers));
}

/// Its leader would append what it is left for by itself, and nobody could take that.
#[test]
fn a_joint_membership_that_is_left_for_none_is_refused() {
    let (one, two, three) = (Member::new(1, 10), Member::new(2, 20), Member::new(3, 30));
    let refused = |learners: &[Member], learners_next: &[Member]| {
        let lists = (&[one][..], &[one, two, three][..], learners, learners_next, true);
        wire::decode_payload(2, samples::membership_record(&lists)).expect_err("it is none")
    };
    let named_twice = WireError::InvalidMembership(MembershipError::NotSortedOrRepeated);
    assert_eq!(refused(&[Member::new(1, 11)], &[]), named_twice);
    assert_eq!(refused(&[Member::new(3, 31)], &[three]), named_twice);
}

#[test]
fn numbers_at_the_limit_are_refused() {
    let at_limit = EntryId { index: Index(LIMIT), ..samples::prev() };
    let too_late = EntryId { term: Term(LIMIT), ..samples::prev() };
    let last = EntryId { index: Index(LIMIT - 1), ..samples::prev() };
    let (session, round) = (Session(LIMIT), Round(LIMIT));
    let one = |term| Entries::after(last, [(term, Payload::Noop)]);
    let rpcs = [
        Rpc::RequestVote { last: at_limit, is_forced: false },
        Rpc::RequestPreVote { last: too_late, attempt: 0 },
        Rpc::RequestPreVote { last: samples::prev(), attempt: LIMIT },
        samples::append_entries(at_limit, Entries::empty()),
        samples::append_entries(last, one(Term(1))),
        samples::append_entries(
            samples::prev(),
            Entries::after(samples::prev(), [(Term(LIMIT), Payload::Noop)]),
        ),
        Rpc::Heartbeat { session, round: Round(1), commit: Index(1), lease: Span(0) },
        Rpc::Heartbeat { session: Session(1), round, commit: Index(1), lease: Span(0) },
        Rpc::Heartbeat {
            session: Session(1),
            round: Round(1),
            commit: Index(LIMIT),
            lease: Span(0),
        },
        Rpc::Heartbeat {
            session: Session(1),
            round: Round(1),
            commit: Index(1),
            lease: Span(LIMIT),
        },
        Rpc::Commit { session: Session(1), commit: Index(LIMIT) },
        Rpc::ReadIndex { id: ReadId { incarnation: Incarnation(1), n: LIMIT } },
        Rpc::HeartbeatResponse { session, round: Round(1) },
    ];
    for rpc in rpcs {
        let envelope = samples::envelope(rpc);
        assert_eq!(decode(wire::encode(&envelope)), Err(WireError::OutOfBounds), "{envelope}");
    }
    let good = samples::envelope(Rpc::RequestVoteResponse { granted: true });
    let headers = [
        Envelope { term: Term(LIMIT), ..good.clone() },
        Envelope { epoch: Epoch(LIMIT), ..good.clone() },
        Envelope { incarnation: Incarnation(LIMIT), ..good },
    ];
    for envelope in headers {
        assert_eq!(decode(wire::encode(&envelope)), Err(WireError::OutOfBounds), "{envelope}");
    }
    let state = HardState { term: Term(LIMIT), ..samples::hard_state() };
    let refused = wire::decode_hard_state(&wire::encode_hard_state(&state));
    assert_eq!(refused, Err(WireError::OutOfBounds));
    let meta = SnapshotMeta { last: at_limit, ..samples::snapshot_meta() };
    let refused = wire::decode_snapshot_meta(&wire::encode_snapshot_meta(&meta));
    assert_eq!(refused, Err(WireError::OutOfBounds));
}
