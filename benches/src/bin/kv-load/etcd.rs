//! One connection that speaks as much gRPC as etcd's key-value service needs, and no more: the client
//! beside it speaks as little HTTP/1.1, and neither shall cost the other's server the machine.
//!
//! Requests are made of constant headers (HPACK literals, nothing indexed) and one message; of an
//! answer only the message is read. An answer without one is a refusal: gRPC tells errors in trailers
//! alone. Deliberately absent: several requests at once, messages beyond one flow-control window, TLS.

use std::io::{Error, ErrorKind, Result};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEAD: usize = 9;
/// The window that every stream begins with, in both directions.
const WINDOW: u32 = 65_535;
/// After so many bytes the server is told that they have been read.
const REPLENISH: u32 = 1 << 14;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

const PUT: &str = "/etcdserverpb.KV/Put";
const RANGE: &str = "/etcdserverpb.KV/Range";
const STATUS: &str = "/etcdserverpb.Maintenance/Status";

/// A connection to one server.
pub(crate) struct Connection {
    stream: TcpStream,
    host: String,
    out: Vec<u8>,
    buffer: Vec<u8>,
    next_stream: u32,
    /// What may still be sent, and what was read and not acknowledged.
    window: i64,
    unacknowledged: u32,
}

impl Connection {
    pub(crate) async fn open(address: &str) -> Result<Self> {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut out = PREFACE.to_vec();
        frame(&mut out, SETTINGS, 0, 0, &[]);
        stream.write_all(&out).await?;
        let (host, buffer) = (address.to_owned(), Vec::new());
        let window = i64::from(WINDOW);
        Ok(Self { stream, host, out, buffer, next_stream: 1, window, unacknowledged: 0 })
    }

    /// Writes a value; whether it was acknowledged.
    pub(crate) async fn put(&mut self, key: &str, value: &[u8]) -> Result<bool> {
        let mut message = Vec::with_capacity(key.len() + value.len() + 16);
        field(&mut message, 1, key.as_bytes());
        field(&mut message, 2, value);
        Ok(self.call(PUT, &message).await?.is_some())
    }

    /// Reads a value, by the leader's word or as this server has it; whether it was answered.
    pub(crate) async fn get(&mut self, key: &str, is_stale: bool) -> Result<bool> {
        let mut message = Vec::with_capacity(key.len() + 8);
        field(&mut message, 1, key.as_bytes());
        if is_stale {
            // serializable = true
            message.extend_from_slice(&[7 << 3, 1]);
        }
        Ok(self.call(RANGE, &message).await?.is_some())
    }

    /// Whether this server leads.
    pub(crate) async fn is_leader(&mut self) -> Result<bool> {
        let refused = || Error::other("the server does not tell its state");
        let status = self.call(STATUS, &[]).await?.ok_or_else(refused)?;
        let header = find(&status, 1).and_then(Found::bytes).ok_or_else(refused)?;
        let me = find(header, 2).and_then(Found::number);
        let leader = find(&status, 4).and_then(Found::number);
        Ok(me.is_some() && me == leader)
    }

    /// One call; the message of its answer, if there is one.
    async fn call(&mut self, path: &str, message: &[u8]) -> Result<Option<Vec<u8>>> {
        let length = u32::try_from(message.len()).map_err(Error::other)?;
        if length + 5 > WINDOW {
            return Err(Error::new(ErrorKind::InvalidInput, "the value is too long"));
        }
        while self.window < i64::from(length) + 5 {
            self.frame(0).await?;
        }
        self.window -= i64::from(length) + 5;
        let stream = self.next_stream;
        self.next_stream += 2;
        let headers = headers(&self.host, path);
        let mut body = vec![0];
        body.extend_from_slice(&length.to_be_bytes());
        body.extend_from_slice(message);
        self.out.clear();
        frame(&mut self.out, HEADERS, END_HEADERS, stream, &headers);
        frame(&mut self.out, DATA, END_STREAM, stream, &body);
        self.stream.write_all(&self.out).await?;
        let mut answer = Vec::new();
        loop {
            let (data, is_over) = self.frame(stream).await?;
            answer.extend_from_slice(&data);
            if is_over {
                return Ok(answer.split_at_checked(5).map(|(_, message)| message.to_vec()));
            }
        }
    }

    /// Takes one frame: the data in it that belongs to `stream`, and whether that ends.
    async fn frame(&mut self, stream: u32) -> Result<(Vec<u8>, bool)> {
        self.fill(FRAME_HEAD).await?;
        let head = self.buffer.first_chunk::<FRAME_HEAD>().copied();
        let [a, b, c, kind, flags, id @ ..] = head.ok_or(ErrorKind::UnexpectedEof)?;
        let id = u32::from_be_bytes(id) & 0x7fff_ffff;
        let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        self.fill(FRAME_HEAD + length).await?;
        let payload = self.buffer[FRAME_HEAD..FRAME_HEAD + length].to_vec();
        self.buffer.drain(..FRAME_HEAD + length);
        let is_mine = id == stream;
        match kind {
            DATA => {
                self.acknowledge(u32::try_from(length).map_err(Error::other)?).await?;
                return Ok((if is_mine { payload } else { Vec::new() }, is_over(flags, is_mine)));
            }
            HEADERS => return Ok((Vec::new(), is_over(flags, is_mine))),
            RST_STREAM if is_mine => return Ok((Vec::new(), true)),
            SETTINGS if flags & ACK == 0 => self.reply(SETTINGS, &[]).await?,
            PING if flags & ACK == 0 => self.reply(PING, &payload).await?,
            GOAWAY => return Err(ErrorKind::ConnectionAborted.into()),
            WINDOW_UPDATE if id == 0 => {
                let more = payload.first_chunk::<4>().copied().map_or(0, u32::from_be_bytes);
                self.window += i64::from(more & 0x7fff_ffff);
            }
            _ => {}
        }
        Ok((Vec::new(), false))
    }

    async fn reply(&mut self, kind: u8, payload: &[u8]) -> Result<()> {
        self.out.clear();
        frame(&mut self.out, kind, ACK, 0, payload);
        self.stream.write_all(&self.out).await
    }

    async fn acknowledge(&mut self, read: u32) -> Result<()> {
        self.unacknowledged += read;
        if self.unacknowledged < REPLENISH {
            return Ok(());
        }
        self.out.clear();
        frame(&mut self.out, WINDOW_UPDATE, 0, 0, &self.unacknowledged.to_be_bytes());
        self.unacknowledged = 0;
        self.stream.write_all(&self.out).await
    }

    async fn fill(&mut self, length: usize) -> Result<()> {
        while self.buffer.len() < length {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    }
}

fn is_over(flags: u8, is_mine: bool) -> bool {
    is_mine && flags & END_STREAM != 0
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).expect("a frame is shorter than a window");
    out.extend_from_slice(&length.to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// The headers of a call. The numbers name entries of HPACK's static table (RFC 7541, appendix A).
fn headers(host: &str, path: &str) -> Vec<u8> {
    let mut block = vec![0x83, 0x86];
    let mut literal = |name: &[u8], value: &str| {
        block.extend_from_slice(name);
        block.push(u8::try_from(value.len()).expect("addresses and paths are short"));
        block.extend_from_slice(value.as_bytes());
    };
    literal(&[0x04], path);
    literal(&[0x01], host);
    literal(&[0x0f, 0x10], "application/grpc");
    literal(b"\x00\x02te", "trailers");
    block
}

/// Appends a field of bytes to a protobuf message.
fn field(message: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    message.push(number << 3 | 2);
    let mut left = bytes.len();
    while left >= 0x80 {
        message.push(u8::try_from(left & 0x7f).expect("seven bits") | 0x80);
        left >>= 7;
    }
    message.push(u8::try_from(left).expect("seven bits"));
    message.extend_from_slice(bytes);
}

/// What a field of a protobuf message holds.
enum Found<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Found<'a> {
    fn number(self) -> Option<u64> {
        match self {
            Self::Number(number) => Some(number),
            Self::Bytes(_) => None,
        }
    }

    fn bytes(self) -> Option<&'a [u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            Self::Number(_) => None,
        }
    }
}

/// The first field of this number.
fn find(mut message: &[u8], wanted: u64) -> Option<Found<'_>> {
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        let found = match tag & 7 {
            0 => Found::Number(varint(&mut message)?),
            2 => {
                let length = usize::try_from(varint(&mut message)?).ok()?;
                let (bytes, rest) = message.split_at_checked(length)?;
                message = rest;
                Found::Bytes(bytes)
            }
            _ => return None,
        };
        if tag >> 3 == wanted {
            return Some(found);
        }
    }
    None
}

fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = message.split_first()?;
        *message = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}
