//! What stands for the connections of a group: frames are written into one growing buffer, from
//! which they are split off, as a transport does with what it has read.
//!
//! A frame that is kept, because a payload is a slice of it, costs no memory of its own: several
//! share a chunk. Hosts whose peers copy what they decode keep a `Vec` instead and clear it; protobuf
//! counts first and asks for just that much memory, which for `raft` is the cheaper way.

use bytes::BytesMut;

/// New memory comes in chunks of this size, or of a frame that is larger. No more, for there may
/// be many groups.
const CHUNK_BYTES: usize = 8 << 10;
/// Where frames are so large that only a few fit into a chunk, what is left of it would often be too
/// small for the next one, and is kept for nothing as long as that one's payload.
const LARGE_CHUNK_BYTES: usize = 64 << 10;

/// Where frames are written.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    buffer: BytesMut,
}

impl Frames {
    /// An empty buffer to split frames from; whoever writes one clears the room for it.
    pub(crate) fn buffer(&mut self) -> &mut BytesMut {
        if self.buffer.capacity() == 0 {
            self.buffer = BytesMut::with_capacity(CHUNK_BYTES);
        }
        &mut self.buffer
    }

    /// A frame of this length was split off; the next is expected to be like it.
    pub(crate) fn make_room_for_another(&mut self, frame_bytes: usize) {
        let is_large = frame_bytes > CHUNK_BYTES / 8 && frame_bytes < LARGE_CHUNK_BYTES;
        if is_large && self.buffer.capacity() < frame_bytes {
            self.buffer = BytesMut::with_capacity(LARGE_CHUNK_BYTES);
        }
    }
}
