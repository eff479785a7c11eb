//! The lines of a run: one per event that changes what a person sees of a node, or is a fault.
//!
//! Nothing is formatted unless somebody will see it: a run is traced only when it is shown, or when
//! it is repeated because it failed. Whoever wants all of it typed, and not in words, watches it
//! as an [`Observer`].

pub mod file;
mod inbox;
pub(crate) mod json;

use std::collections::VecDeque;
use std::fmt;

use raft_core::RoleName;
use raft_core::wire::{self, Limits};

use crate::digest::Digest;
use crate::event::{Event, NodeAt};
use crate::fault::Fault;
use crate::node::Seen;
use crate::observe::{Hub, Observer};
use crate::workload::Workload;
use crate::world::World;

/// How many lines a failure shows.
const LAST_LINES: usize = 20;

/// After how many events progress is told.
const PROGRESS_EVENTS: u64 = 4_096;

/// Where lines go, and how far a run has got.
#[derive(Debug, Default)]
pub struct Trace {
    lines: Lines,
    progress: Progress,
    ladder: Ladder,
    /// How many of the kept lines are of the time before the faults ended.
    before: usize,
    /// Who watches, if anybody does.
    pub(crate) hub: Option<Box<Hub>>,
}

/// Who is given the digest after each event, if anybody is.
#[derive(Default)]
struct Ladder(Option<Box<TellDigest>>);

type TellDigest = dyn FnMut(u64, &Digest);

impl fmt::Debug for Ladder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Told" } else { "Untold" })
    }
}

/// Who waits for a run, if anybody does.
#[derive(Default)]
struct Progress(Option<Box<dyn FnMut(u64)>>);

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Told" } else { "Untold" })
    }
}

#[derive(Default)]
enum Lines {
    #[default]
    Off,
    /// The last ones, oldest first.
    Last(VecDeque<String>),
    Shown(Box<dyn FnMut(&str)>),
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("Off"),
            Self::Last(kept) => f.debug_tuple("Last").field(kept).finish(),
            Self::Shown(_) => f.write_str("Shown"),
        }
    }
}

impl Trace {
    /// Nowhere.
    #[must_use]
    pub fn off() -> Self {
        Self::default()
    }

    /// The last ones are kept, as many as a failure shows.
    #[must_use]
    pub fn last() -> Self {
        Self { lines: Lines::Last(VecDeque::new()), ..Self::default() }
    }

    /// Each goes to `show` as soon as it is known, so that a run that hangs shows where it is.
    #[must_use]
    pub fn shown(show: impl FnMut(&str) + 'static) -> Self {
        Self { lines: Lines::Shown(Box::new(show)), ..Self::default() }
    }

    /// Now and then, `tell` is given the number of events that have come up.
    #[must_use]
    pub fn with_progress(self, tell: impl FnMut(u64) + 'static) -> Self {
        Self { progress: Progress(Some(Box::new(tell))), ..self }
    }

    /// After each event, `tell` is given its number and the digest of all until then.
    #[must_use]
    pub fn with_ladder(self, tell: impl FnMut(u64, &Digest) + 'static) -> Self {
        Self { ladder: Ladder(Some(Box::new(tell))), ..self }
    }

    pub(crate) fn over(&mut self, event: u64, digest: &Digest) {
        if let Some(tell) = &mut self.ladder.0 {
            tell(event, digest);
        }
    }

    /// All that happens is told to `observer`.
    #[must_use]
    pub fn watched_by(self, observer: impl Observer + 'static) -> Self {
        Self { hub: Some(Box::new(Hub::new(Box::new(observer)))), ..self }
    }

    pub(crate) fn passed(&mut self, events: u64) {
        if let Some(tell) = &mut self.progress.0
            && events.is_multiple_of(PROGRESS_EVENTS)
        {
            tell(events);
        }
    }

    /// Whether anybody will see them.
    #[must_use]
    pub fn is_on(&self) -> bool {
        match self.lines {
            Lines::Off => false,
            Lines::Last(_) | Lines::Shown(_) => true,
        }
    }

    /// The kept lines, oldest first.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        match &self.lines {
            Lines::Last(kept) => kept.iter().cloned().collect(),
            Lines::Off | Lines::Shown(_) => Vec::new(),
        }
    }

    /// The faults end: what failed after that is told from here on.
    pub(crate) fn healed(&mut self, event: u64, now: u64, columns: &[Seen]) {
        if let Lines::Last(kept) = &mut self.lines {
            self.before = kept.len();
        }
        self.line(event, now, "! the faults end", columns);
    }

    /// The kept lines since the faults have ended, oldest first; all of them if nothing has healed.
    #[must_use]
    pub fn lines_since_healed(&self) -> Vec<String> {
        self.lines().split_off(self.before)
    }

    pub(crate) fn line(&mut self, event: u64, now: u64, what: &str, columns: &[Seen]) {
        match &mut self.lines {
            Lines::Off => {}
            Lines::Last(kept) => {
                if kept.len() == LAST_LINES {
                    kept.pop_front();
                    self.before = self.before.saturating_sub(1);
                }
                kept.push_back(format_line(event, now, what, columns));
            }
            Lines::Shown(show) => show(&format_line(event, now, what, columns)),
        }
    }
}

fn format_line(event: u64, now: u64, what: &str, columns: &[Seen]) -> String {
    let (ms, us) = (now / 1000, now % 1000);
    let mut line = format!("{event:>7} {ms:>8}.{us:03} {what:<60.60}");
    for (at, seen) in columns.iter().enumerate() {
        line.push_str(&format!(" | n{} {seen}", at + 1));
    }
    line
}

/// A column: role, term, commit and last index.
impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = match self.role {
            None => '-',
            Some(RoleName::Follower) => 'F',
            Some(RoleName::PreCandidate) => 'P',
            Some(RoleName::Candidate) => 'C',
            Some(RoleName::Leader) => 'L',
            Some(RoleName::Halted) => 'H',
        };
        write!(f, "{role} t{:<3} {:>4}/{:<4}", self.term, self.commit, self.last)
    }
}

impl<W: Workload> World<W> {
    pub(crate) fn columns(&self) -> Vec<Seen> {
        self.nodes.iter().map(|node| node.seen).collect()
    }

    fn unread_of(&self, at: NodeAt) -> String {
        self.nodes[at].process.as_ref().map_or(String::new(), |one| inbox::told(&one.inbox))
    }

    /// What a strike was, and where.
    pub(crate) fn describe_strike(&self, (fault, at, lasts_us): (Fault, NodeAt, u64)) -> String {
        let (ms, us) = (lasts_us / 1000, lasts_us % 1000);
        format!("! {} at {}, {ms}.{us:03} ms", fault.name(), self.nodes[at].member)
    }

    /// What an event is, in words; faults begin with an exclamation mark.
    pub(crate) fn describe(&self, event: &Event) -> String {
        let name = |at: usize| self.nodes[at].member;
        match event {
            Event::Frame { frame, .. } => match wire::decode(frame.clone(), &Limits::default()) {
                Ok(envelope) => envelope.to_string(),
                Err(error) => format!("! a frame that is none: {error}"),
            },
            Event::Deadline { node, .. } => format!("{} deadline", name(*node)),
            Event::Inbox { node, .. } => format!("{} reads {}", name(*node), self.unread_of(*node)),
            Event::Disk { node, .. } => format!("{} disk", name(*node)),
            Event::Encoded { node, .. } => format!("{} encoded", name(*node)),
            Event::Start { node, .. } => format!("! {} starts", name(*node)),
            Event::Leave { node, .. } => format!("! {} is to end", name(*node)),
            Event::Resume { node, .. } => {
                format!("! {} resumes, reads {}", name(*node), self.unread_of(*node))
            }
            Event::Client { client, .. } => format!("client {client}"),
            Event::Strike { class } => format!("! {}", self.nemesis.name(*class)),
            Event::Mend { .. } => "! a partition ends".to_owned(),
            Event::Flap { node, cut } => {
                let what = if *cut { "is cut off" } else { "comes back" };
                format!("! {} {what}", name(*node))
            }
            Event::Scrub { node, .. } => format!("{} scrub", name(*node)),
            Event::Rest { node, .. } => format!("{} rest", name(*node)),
            Event::Operator => "operator".to_owned(),
            Event::Freeze { node, .. } => format!("! {} stands still", name(*node)),
            Event::Urge { node } => format!("operator asks {} to campaign", name(*node)),
            Event::Readmit { node } => format!("operator looks after {}", name(*node)),
            Event::Clog { link, .. } => {
                let (from, to) = self.network.ends(*link);
                format!("! {}->{} is clogged", name(from), name(to))
            }
            Event::Release { link } => {
                let (from, to) = self.network.ends(*link);
                format!("! {}->{} is released", name(from), name(to))
            }
            Event::Unreachable { link, .. } => {
                let (from, to) = self.network.ends(*link);
                format!("{} cannot reach {}", name(from), name(to))
            }
        }
    }
}
