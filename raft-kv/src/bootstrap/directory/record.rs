//! `founding.toml`, and the same again beside it: one bad sector must not cost a server its place.
//!
//! Each is written whole under another name, synced, and renamed: a crash leaves the old one or the new
//! one. The first is written first, so where both can be read it is the newer one, and nobody is told
//! what it says before the second says so too. Each carries a checksum, since what it says must not
//! change by itself: a lineage that is read wrong is somebody else.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::path::Path;

use raft_core::{ClusterId, Member};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use tracing::warn;
use twox_hash::XxHash3_64;

use super::{DirectoryError, Founding};
use crate::bootstrap::Settled;

pub(super) const FILES: [&str; 2] = ["founding.toml", "founding.copy.toml"];
pub(super) const SCRATCH: &str = "founding.toml.new";
const VERSION: u32 = 1;

/// The file. Numbers of 64 bits are written in hexadecimal: the format has only signed ones.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    version: u32,
    id: u64,
    lineage: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cluster: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    founders: Vec<(u64, String)>,
    formatted: bool,
}

/// What every version of the file says.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

/// Why a file says nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Flaw {
    Missing,
    Newer(u32),
    Bad(String),
}

/// What was read.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) founding: Founding,
    /// Whether both copies say so.
    pub(super) is_whole: bool,
}

/// What the directory says of its founding; `None`: nothing yet. Nothing is changed.
pub(super) fn read(path: &Path) -> Result<Option<Found>, DirectoryError> {
    let fail = |error| DirectoryError::io(path, error);
    let mut copies = Vec::with_capacity(FILES.len());
    for name in FILES {
        let copy = match fs::read(path.join(name)) {
            Ok(bytes) => parse(&bytes),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(Flaw::Missing),
            // A bad sector, which the copy is there for.
            Err(error) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => {
                Err(Flaw::Bad(error.to_string()))
            }
            Err(error) => return Err(fail(error)),
        };
        if let Err(Flaw::Newer(found)) = copy {
            let path = path.join(name);
            return Err(DirectoryError::NewerFormat { path, found, supported: VERSION });
        }
        copies.push(copy);
    }
    if copies.iter().all(|copy| *copy == Err(Flaw::Missing)) {
        return Ok(None);
    }
    let Some(founding) = copies.iter().find_map(|copy| copy.as_ref().ok()).cloned() else {
        let bad = copies.into_iter().find_map(|copy| match copy {
            Err(Flaw::Bad(what)) => Some(what),
            Ok(_) | Err(Flaw::Missing | Flaw::Newer(_)) => None,
        });
        return Err(DirectoryError::damaged(path, bad.unwrap_or_default()));
    };
    for (name, copy) in FILES.iter().zip(&copies) {
        if let Err(Flaw::Bad(what)) = copy {
            warn!(file = name, what, "it is damaged, its copy is not");
        }
    }
    let is_whole = copies.iter().all(|copy| copy.as_ref() == Ok(&founding));
    Ok(Some(Found { founding, is_whole }))
}

/// Writes both copies, durable on return.
pub(super) fn write(path: &Path, founding: &Founding) -> io::Result<()> {
    FILES.iter().try_for_each(|name| write_copy(path, name, founding))
}

fn write_copy(path: &Path, name: &str, founding: &Founding) -> io::Result<()> {
    let hex = |number: u64| format!("{number:016x}");
    let settled = founding.settled.as_ref();
    let founders = settled.map_or(&[][..], |settled| &settled.founders);
    let record = Record {
        version: VERSION,
        id: founding.member.id.0,
        lineage: hex(founding.member.lineage.0),
        cluster: settled.map(|settled| hex(settled.cluster.0)),
        founders: founders.iter().map(|member| (member.id.0, hex(member.lineage.0))).collect(),
        formatted: founding.is_formatted,
    };
    let body = toml::to_string(&record).map_err(io::Error::other)?;
    let text = format!(
        "# Written by raft-kv. Do not edit: {:016x}\n{body}",
        XxHash3_64::oneshot(body.as_bytes())
    );
    let scratch = path.join(SCRATCH);
    let mut file = File::create(&scratch)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&scratch, path.join(name))?;
    File::open(path)?.sync_all()
}

fn parse(bytes: &[u8]) -> Result<Founding, Flaw> {
    let bad = |what: String| Flaw::Bad(what);
    let body = unseal(bytes).map_err(|what| bad(what.to_owned()))?;
    // What a later version has more must not look like damage.
    let Versioned { version } = toml::from_str(body).map_err(|error| bad(error.to_string()))?;
    if version != VERSION {
        return Err(Flaw::Newer(version));
    }
    decode(body).map_err(bad)
}

/// What the checksum covers, if it does.
fn unseal(bytes: &[u8]) -> Result<&str, &'static str> {
    let text = str::from_utf8(bytes).map_err(|_| "it is no text")?;
    let (head, body) = text.split_once('\n').ok_or("it ends too early")?;
    let checksum = head.rsplit(' ').next().and_then(unhex).ok_or("it has no checksum")?;
    if checksum != XxHash3_64::oneshot(body.as_bytes()) {
        return Err("its checksum is wrong");
    }
    Ok(body)
}

fn decode(body: &str) -> Result<Founding, String> {
    let record: Record = toml::from_str(body).map_err(|error| error.to_string())?;
    let number = |text: &str| unhex(text).ok_or_else(|| format!("{text} is no number"));
    let member = Member::new(record.id, number(&record.lineage)?);
    let founders: Result<_, String> = record
        .founders
        .iter()
        .map(|(id, lineage)| Ok(Member::new(*id, number(lineage)?)))
        .collect();
    let founders: Vec<Member> = founders?;
    let cluster = record.cluster.as_deref().map(number).transpose()?.map(ClusterId);
    let settled = cluster.map(|cluster| Settled { cluster, founders });
    Ok(Founding { member, settled, is_formatted: record.formatted })
}

fn unhex(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}
