//! Arbitrary bytes as frames, as durable records, and as what a node was given.

use bytes::Bytes;
use raft_core::wire::{
    Limits, WireError, decode, decode_hard_state, decode_payload, decode_recorded,
    decode_snapshot_meta, encode, encode_hard_state, encode_payload, encode_recorded,
    encode_snapshot_meta,
};
use twox_hash::XxHash3_64;

/// Bytes are refused, or understood: then encoding and decoding them again gives the same.
///
/// They are tried as a frame or what was recorded, whose kinds differ, with and without a checksum at
/// the end (which no engine would ever guess), and as each durable record.
///
/// # Panics
/// If that does not hold.
pub fn wire(data: &[u8]) {
    whole(Bytes::copy_from_slice(data));
    let mut sealed = data.to_vec();
    sealed.extend_from_slice(&XxHash3_64::oneshot(&data[..covered(data)]).to_le_bytes());
    whole(Bytes::from(sealed));
    records(data);
}

/// How much of a frame its checksum covers: all, but for the entries of an append, which the chain
/// covers.
fn covered(content: &[u8]) -> usize {
    const APPEND_ENTRIES: u8 = 5;
    if content.get(1) != Some(&APPEND_ENTRIES) {
        return content.len();
    }
    // Header and body: numbers of eight bytes, then six that end with a byte below 0x80.
    [3, 2].into_iter().fold(2, |start, longs| {
        let ends = (start + 8 * longs..content.len()).filter(|at| content[*at] < 0x80);
        ends.map(|at| at + 1).nth(5).unwrap_or(content.len())
    })
}

fn whole(bytes: Bytes) {
    recorded(bytes.clone());
    frame(bytes);
}

fn recorded(bytes: Bytes) {
    if let Ok(recorded) = decode_recorded(bytes, &Limits::for_recorded()) {
        let again = decode_recorded(encode_recorded(&recorded), &Limits::for_recorded());
        assert_eq!(again, Ok(recorded), "it comes back");
    }
}

fn frame(frame: Bytes) {
    let limits = Limits { entries_max: 64, bytes_max: 4096 };
    let is_long = frame.len() > limits.bytes_max;
    match decode(frame, &limits) {
        Ok(envelope) => {
            assert!(!is_long, "a frame above the limit is refused");
            // Fewer bytes may say the same, more are never needed: numbers have a shortest form.
            assert_eq!(decode(encode(&envelope), &limits), Ok(envelope), "it comes back");
        }
        Err(error) => assert!(!is_long || error == WireError::Oversized, "{error}"),
    }
}

fn records(data: &[u8]) {
    if let Ok(state) = decode_hard_state(data) {
        assert_eq!(decode_hard_state(&encode_hard_state(&state)), Ok(state), "it comes back");
    }
    if let Ok(meta) = decode_snapshot_meta(data) {
        assert_eq!(decode_snapshot_meta(&encode_snapshot_meta(&meta)), Ok(meta), "it comes back");
    }
    let Some((&kind, payload)) = data.split_first() else { return };
    if let Ok(payload) = decode_payload(kind, Bytes::copy_from_slice(payload)) {
        let (kind, record) = encode_payload(&payload);
        assert_eq!(decode_payload(kind, record), Ok(payload), "it comes back");
    }
}
