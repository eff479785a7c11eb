//! What a data directory holds, read-only, for people and their scripts.
//!
//! The directory is read and judged exactly as a start would, and nothing is written. So the report
//! says what a start would find, repair and keep.

use core::fmt;
use core::fmt::Write as _;

use raft_core::{EntryId, HardState, Index};

use super::open::{Examined, examine};
use super::{Identity, Report, StorageError, StorageOptions};
use crate::disk::Disk;

/// What a data directory holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// Whose it is.
    pub identity: Identity,
    /// The newest hard state, as it stands on the disk.
    pub hard_state: HardState,
    /// How often the hard state has been written.
    pub generation: u64,
    /// The hard state says that the log is durable through here.
    pub log_through: Index,
    /// The highest index that is known to be committed.
    pub commit: Index,
    /// The snapshots, oldest first.
    pub snapshots: Vec<SnapshotSummary>,
    /// The entry before the first one of the log.
    pub before: EntryId,
    /// The last one.
    pub last: EntryId,
    /// The first entry of the batch that was written last, as far as it is left; the index after the last
    /// entry if there is none.
    pub last_batch: Index,
    /// The segments that hold the log, oldest first.
    pub segments: Vec<SegmentSummary>,
    /// Files of segments that hold nothing any more.
    pub dead: Vec<String>,
    /// Files of segments that are no part of the log, since it was cut off before them, and are kept: what is
    /// in them may be nowhere else.
    pub lost: Vec<String>,
    /// How many entries are read from a healed copy.
    pub healed: u64,
    /// How many payloads cannot be read.
    pub damaged: u64,
    /// Whether the node, once started, would have to learn from its group where its log ended.
    pub is_tail_unknown: bool,
    /// Everything that is not as a clean stop leaves it.
    pub report: Report,
}

/// A snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotSummary {
    /// The last entry that it covers.
    pub last: EntryId,
    /// The length of its bytes.
    pub bytes: u64,
    /// Whether they cannot be read. Only those of the newest have been looked at.
    pub is_damaged: bool,
}

/// A segment of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentSummary {
    /// The file.
    pub file: String,
    /// Its first entry, or where that would be.
    pub first: Index,
    /// Its last entry that counts; one less than `first` if there is none.
    pub last: Index,
    /// How many batches were read.
    pub batches: u32,
    /// Where they end.
    pub data_end: u32,
    /// The length of the file.
    pub file_bytes: u32,
}

/// Reads a data directory.
///
/// # Errors
/// What keeps a node from starting on it; or whatever the disk reports.
pub fn inspect<D: Disk>(disk: &mut D) -> Result<Inspection, StorageError> {
    let options = StorageOptions { resident_bytes: 0, ..StorageOptions::default() };
    let examined = examine(disk, &options, None, false)?;
    let Examined { identity, hard_state, snapshots, log, is_tail_unknown, report, .. } = examined;
    let record = hard_state.record();
    let summary = |(meta, bytes, is_damaged): (&std::sync::Arc<raft_core::SnapshotMeta>, _, _)| {
        SnapshotSummary { last: meta.last, bytes, is_damaged }
    };
    Ok(Inspection {
        identity,
        hard_state: record.state,
        generation: record.generation,
        log_through: record.log_through,
        commit: record.commit.max(log.entries.commit),
        snapshots: snapshots.list().map(summary).collect(),
        before: log.entries.before,
        last: log.last(),
        last_batch: log.tail(log.last()),
        segments: log
            .live
            .iter()
            .map(|live| SegmentSummary {
                file: live.path.clone(),
                first: live.name.first,
                last: live.last,
                batches: live.batches,
                data_end: live.data_end,
                file_bytes: live.file_bytes,
            })
            .collect(),
        dead: log.dead.iter().map(|name| name.path()).collect(),
        lost: log.lost(),
        healed: log.entries.healed.len() as u64,
        damaged: log.entries.damaged,
        is_tail_unknown,
        report,
    })
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "identity    {}", self.identity)?;
        writeln!(f, "hard state  {}, generation {}", self.hard_state, self.generation)?;
        writeln!(f, "            the log was durable through {}", self.log_through)?;
        for SnapshotSummary { last, bytes, is_damaged } in &self.snapshots {
            let flaw = if *is_damaged { ", DAMAGED" } else { "" };
            writeln!(f, "snapshot    {last}, {bytes} bytes{flaw}")?;
        }
        let entries = self.last.index.0 - self.before.index.0;
        writeln!(f, "log         {entries} entries after {}, to {}", self.before, self.last)?;
        writeln!(f, "            committed through {}", self.commit)?;
        if self.is_tail_unknown {
            writeln!(f, "            MAY HAVE REACHED FURTHER")?;
        }
        if self.damaged > 0 {
            writeln!(f, "            {} payloads cannot be read", self.damaged)?;
        }
        if self.healed > 0 {
            writeln!(f, "            {} payloads are read from healed copies", self.healed)?;
        }
        for segment in &self.segments {
            let SegmentSummary { file, first, last, batches, data_end, file_bytes } = segment;
            write!(f, "segment     {file}: ")?;
            if last < first {
                write!(f, "empty")?;
            } else {
                write!(f, "{first} to {last} in {batches} batches")?;
            }
            writeln!(f, ", {data_end} of {file_bytes} bytes")?;
        }
        for file in &self.dead {
            writeln!(f, "segment     {file}: holds nothing any more")?;
        }
        for file in &self.lost {
            writeln!(f, "segment     {file}: the log ends before it; kept, the group may need it")?;
        }
        if self.is_clean() {
            return writeln!(f, "found       nothing amiss");
        }
        if self.report.is_clean() {
            writeln!(f, "found       no damage; where the log ended, only the group can tell")?;
        }
        for finding in &self.report.findings {
            writeln!(f, "found       {finding}")?;
        }
        Ok(())
    }
}

impl Inspection {
    /// Whether all is as a clean stop leaves it, and this is the whole log.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.report.is_clean() && !self.is_tail_unknown
    }

    /// The same as JSON, on one line. Chains and lineages are hexadecimal strings, since they do not
    /// fit into the numbers of every reader.
    #[must_use]
    pub fn to_json(&self) -> String {
        let Identity { cluster, group, member } = self.identity;
        let mut text = format!(
            "{{\"cluster\":\"{:x}\",\"group\":{},\"node\":{},\"lineage\":\"{:x}\"",
            cluster.0, group.0, member.id.0, member.lineage.0
        );
        let HardState { epoch, incarnation, term, vote, promise, is_tail_unknown } =
            self.hard_state;
        let vote = vote.map_or("null".to_owned(), |vote| vote.id.0.to_string());
        let mut add = |part: fmt::Arguments<'_>| {
            text.write_fmt(part).expect("a string takes what is written to it");
        };
        add(format_args!(
            ",\"hard_state\":{{\"epoch\":{},\"incarnation\":{},\"term\":{},\"vote\":{vote},\
             \"promise_us\":{},\"is_tail_unknown\":{is_tail_unknown},\"generation\":{}}}",
            epoch.0, incarnation.0, term.0, promise.0, self.generation
        ));
        add(format_args!(
            ",\"log_through\":{},\"commit\":{},\"before\":{},\"last\":{}",
            self.log_through.0,
            self.commit.0,
            json_id(self.before),
            json_id(self.last)
        ));
        let snapshots = self.snapshots.iter().map(|snapshot| {
            let SnapshotSummary { last, bytes, is_damaged } = snapshot;
            let last = json_id(*last);
            format!("{{\"last\":{last},\"bytes\":{bytes},\"is_damaged\":{is_damaged}}}")
        });
        add(format_args!(",\"snapshots\":[{}]", list(snapshots)));
        let segments = self.segments.iter().map(|segment| {
            let SegmentSummary { file, first, last, batches, data_end, file_bytes } = segment;
            format!(
                "{{\"file\":{},\"first\":{},\"last\":{},\"batches\":{batches},\
                 \"data_end\":{data_end},\"file_bytes\":{file_bytes}}}",
                json_string(file),
                first.0,
                last.0
            )
        });
        add(format_args!(",\"segments\":[{}]", list(segments)));
        let files = |files: &[String]| list(files.iter().map(|file| json_string(file)));
        add(format_args!(",\"dead\":[{}],\"lost\":[{}]", files(&self.dead), files(&self.lost)));
        add(format_args!(
            ",\"healed\":{},\"damaged\":{},\"is_tail_unknown\":{}",
            self.healed, self.damaged, self.is_tail_unknown
        ));
        let findings = self.report.findings.iter().map(|finding| {
            let what = json_string(&finding.what.to_string());
            format!("{{\"file\":{},\"what\":{what}}}", json_string(&finding.file))
        });
        add(format_args!(",\"findings\":[{}]}}", list(findings)));
        text
    }
}

fn list(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(",")
}

fn json_id(id: EntryId) -> String {
    let EntryId { index, term, chain } = id;
    format!("{{\"index\":{},\"term\":{},\"chain\":\"{:016x}\"}}", index.0, term.0, chain.0)
}

fn json_string(text: &str) -> String {
    let mut quoted = String::from('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            letter if u32::from(letter) < 0x20 => {
                quoted.push_str(&format!("\\u{:04x}", u32::from(letter)));
            }
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}
