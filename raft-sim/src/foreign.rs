//! Frames of a version of the wire format that this one does not know, as while servers are upgraded one
//! by one: their checksums are right, and they are refused all the same.

use bytes::Bytes;
use raft_core::wire;
use twox_hash::XxHash3_64;

use crate::event::NodeAt;
use crate::fault::Fault;
use crate::nemesis::Strike;
use crate::workload::Workload;
use crate::world::World;

/// The version after this one. No bit that flips in a frame of this version makes it one of that.
pub(crate) const FOREIGN: u8 = wire::VERSION + 1;

/// How many bytes of a frame a checksum covers at most, but for all of them: what stands before the entries.
const COVERED_MAX: usize = 512;

const CHECKSUM_BYTES: usize = 8;

impl<W: Workload> World<W> {
    /// A process speaks another version for a while: always, or in every second, third or fourth frame.
    pub(crate) fn speak_another(&mut self, at: NodeAt, strike: &Strike) {
        let now = self.queue.now();
        let node = &mut self.nodes[at];
        if node.is_up() {
            node.foreign_until = (now + strike.lasts_us, 1 + strike.clients % 4);
            self.stats.tally.injected(Fault::WireVersion);
        }
    }

    /// A frame in the version that its sender speaks now, and whether that is another one.
    pub(crate) fn in_its_version(&self, from: NodeAt, frame: Bytes) -> (Bytes, bool) {
        let (until, every) = self.nodes[from].foreign_until;
        if self.queue.now() >= until || !self.stats.frames.is_multiple_of(every) {
            return (frame, false);
        }
        (foreign(&frame), true)
    }
}

/// The same message in another version, with a checksum that is right.
fn foreign(frame: &Bytes) -> Bytes {
    let mut bytes = frame.to_vec();
    bytes[0] = FOREIGN;
    let end = frame.len() - CHECKSUM_BYTES;
    let (content, checksum) = frame.split_at(end);
    let is_covered =
        |covered: &usize| XxHash3_64::oneshot(&content[..*covered]).to_le_bytes() == *checksum;
    // That of an append does not cover its entries.
    let covered = [end].into_iter().chain(2..end.min(COVERED_MAX)).find(is_covered).unwrap_or(end);
    let checksum = XxHash3_64::oneshot(&bytes[..covered]).to_le_bytes();
    bytes[end..].copy_from_slice(&checksum);
    Bytes::from(bytes)
}

#[cfg(test)]
mod tests {
    use raft_core::wire::{Limits, WireError};
    use raft_core::{
        ClusterId, Entries, EntryId, Envelope, GroupId, Index, Member, Payload, Round, Rpc,
        Session, Term,
    };

    use super::*;

    #[test]
    fn only_the_version_is_another() {
        let (cluster, group) = (ClusterId(1), GroupId(1));
        let (from, to) = (Member::new(1, 1), Member::new(2, 2));
        let (epoch, incarnation) = Default::default();
        let before = EntryId::default();
        let command = Payload::Command(Bytes::from_static(b"command"));
        let append = Rpc::AppendEntries {
            session: Session(1),
            round: Round::default(),
            prev: before,
            entries: Entries::after(before, [(Term(1), command)]),
            commit: Index::ZERO,
        };
        for rpc in [append, Rpc::RequestVoteResponse { granted: true }] {
            let term = Term(1);
            let frame =
                wire::encode(&Envelope { cluster, group, from, to, epoch, incarnation, term, rpc });
            let mut other = foreign(&frame).to_vec();
            let read =
                |bytes: &[u8]| wire::decode(Bytes::copy_from_slice(bytes), &Limits::default());
            assert_eq!(read(&other), Err(WireError::UnknownVersion(FOREIGN)));
            // Who does not look at the version finds nothing wrong but that.
            other[0] = wire::VERSION;
            assert_eq!(read(&other), Err(WireError::Checksum));
            let end = frame.len() - CHECKSUM_BYTES;
            assert_eq!((&other[..end], other[end..] == frame[end..]), (&frame[..end], false));
        }
    }
}
