//! The lines of a run: one per event that changes what a person sees of a node, or is a fault.
//!
//! Nothing is formatted unless somebody will see it: a run is traced only when it is shown, or when
//! it is repeated because it failed.

use std::collections::VecDeque;
use std::fmt;

use raft_core::RoleName;
use raft_core::wire::{self, Limits};

use crate::event::Event;
use crate::node::Seen;
use crate::world::World;

/// How many lines a failure shows.
const LAST_LINES: usize = 20;

/// Where lines go.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    kept: Option<VecDeque<String>>,
    all: bool,
}

impl Trace {
    /// Nowhere.
    #[must_use]
    pub fn off() -> Self {
        Self::default()
    }

    /// The last ones are kept.
    #[must_use]
    pub fn last() -> Self {
        Self { kept: Some(VecDeque::new()), all: false }
    }

    /// All are kept.
    #[must_use]
    pub fn all() -> Self {
        Self { kept: Some(VecDeque::new()), all: true }
    }

    /// Whether anybody will see them.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.kept.is_some()
    }

    /// The kept lines, oldest first.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.kept.iter().flatten().map(String::as_str)
    }

    /// The last kept lines, oldest first.
    pub fn tail(&self) -> impl Iterator<Item = &str> {
        let kept = self.kept.as_ref().map_or(0, VecDeque::len);
        self.lines().skip(kept.saturating_sub(LAST_LINES))
    }

    pub(crate) fn line(&mut self, event: u64, now: u64, what: &str, columns: &[Seen]) {
        let Some(kept) = &mut self.kept else { return };
        if kept.len() == LAST_LINES && !self.all {
            kept.pop_front();
        }
        let (ms, us) = (now / 1000, now % 1000);
        let mut line = format!("{event:>7} {ms:>8}.{us:03} {what:<60.60}");
        for (at, seen) in columns.iter().enumerate() {
            line.push_str(&format!(" | n{} {seen}", at + 1));
        }
        kept.push_back(line);
    }
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

impl World {
    pub(crate) fn columns(&self) -> Vec<Seen> {
        self.nodes.iter().map(|node| node.seen).collect()
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
            Event::Inbox { node, .. } => format!("{} inbox", name(*node)),
            Event::Disk { node, .. } => format!("{} disk", name(*node)),
            Event::Start { node, .. } => format!("! {} starts", name(*node)),
            Event::Resume { node, .. } => format!("! {} resumes", name(*node)),
            Event::Client { client, .. } => format!("client {client}"),
            Event::Strike { class } => format!("! {}", self.nemesis.name(*class)),
            Event::Mend { .. } => "! a partition ends".to_owned(),
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
