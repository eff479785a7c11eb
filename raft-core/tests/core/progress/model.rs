//! What a leader should know about one peer, told as plainly as it can be (Figure 2: `nextIndex`,
//! `matchIndex`; thesis §10.2.2; §7). Indices are numbers, the log is a list of terms and sizes, and
//! nothing is fast.

use std::collections::VecDeque;

use raft_core::{AppendResult, EntryId, Incarnation, Refused, Session};

pub(crate) const WINDOW: usize = 3;
pub(crate) const WINDOW_BYTES: usize = 20;
pub(crate) const MESSAGE_BYTES: usize = 8;
pub(crate) const MESSAGE_ENTRIES: usize = 3;

/// How entries flow to the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum View {
    /// One append at a time; `is_paused`: it is on its way.
    Probe { is_paused: bool },
    /// Appends on their way, by last index and bytes; `is_poked`: one more is due, be it empty.
    Replicate { sent: VecDeque<(u64, usize)>, is_poked: bool },
    /// A snapshot, of which the peer has so many bytes.
    Snapshot { last: EntryId, staged: u64, part: Part },
    /// Nothing flows.
    Diverged,
}

/// Where the next part of a snapshot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Wanted,
    AtHost,
    /// On its way; so many heartbeats have left since.
    Sent(u8),
}

/// What a leader sends to the peer, or asks its host to read for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    Append { after: u64, through: u64 },
    Read { last: EntryId, offset: u64 },
    Chunk { last: EntryId, offset: u64 },
}

/// What the peer says, in the words of this model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Append(AppendResult),
    Heartbeat,
    Staged { last: EntryId, staged: u64 },
}

#[derive(Clone, Debug)]
pub(crate) struct Model {
    /// The term and the bytes of each entry; the first is the place before all entries.
    pub(crate) log: Vec<(u64, usize)>,
    /// Through here the log is gone.
    pub(crate) base: u64,
    pub(crate) snapshot: EntryId,
    pub(crate) matched: u64,
    pub(crate) next: u64,
    pub(crate) session: u64,
    /// Zero until it has answered.
    pub(crate) life: u64,
    pub(crate) view: View,
}

impl Model {
    /// A leader has just been elected; its no-op is the last entry.
    pub(crate) fn new(log: Vec<(u64, usize)>, genesis: EntryId) -> Self {
        let (next, view) = (log.len() as u64 - 1, View::Probe { is_paused: false });
        Self { log, base: 0, snapshot: genesis, matched: 0, next, session: 1, life: 0, view }
    }

    pub(crate) fn last(&self) -> u64 {
        self.log.len() as u64 - 1
    }

    /// The term and the bytes at an index; nothing at a place where there is no entry.
    fn at(&self, index: u64) -> (u64, usize) {
        let place = usize::try_from(index).expect("logs are short");
        self.log.get(place).copied().unwrap_or_default()
    }

    /// A snapshot through `last` was taken, of which so many entries stay in the log.
    pub(crate) fn compact(&mut self, last: EntryId, kept: u64) {
        self.snapshot = last;
        self.base = self.base.max(last.index.0.saturating_sub(kept));
    }

    /// A heartbeat leaves: the second one after a chunk calls for that chunk again.
    pub(crate) fn beat(&mut self) {
        if let View::Snapshot { part, .. } = &mut self.view
            && let Part::Sent(beats) = *part
        {
            *part = if beats == 1 { Part::Wanted } else { Part::Sent(beats + 1) };
        }
    }

    /// What was on its way may be lost. Whether the peer is there, a heartbeat will tell.
    pub(crate) fn unreachable(&mut self) {
        if matches!(self.view, View::Replicate { .. }) {
            self.next = self.matched + 1;
            self.view = View::Probe { is_paused: true };
        }
    }

    /// The host has read a part, or does not have the snapshot any more.
    pub(crate) fn read(
        &mut self,
        (session, of, from): (u64, EntryId, u64),
        is_there: bool,
    ) -> Result<Option<Sent>, Refused> {
        let newest = self.snapshot;
        let is_present = session == self.session;
        match &mut self.view {
            View::Snapshot { last, staged, part }
                if is_present && (*last, *staged, *part) == (of, from, Part::AtHost) =>
            {
                *part = Part::Sent(0);
                if is_there {
                    return Ok(Some(Sent::Chunk { last: of, offset: from }));
                }
                if newest.index > last.index {
                    self.view = View::Snapshot { last: newest, staged: 0, part: Part::Wanted };
                }
                Ok(None)
            }
            View::Snapshot { .. }
            | View::Probe { .. }
            | View::Replicate { .. }
            | View::Diverged => Err(Refused::Unasked),
        }
    }

    /// The peer answers, in this stream and in this life.
    pub(crate) fn answer(
        &mut self,
        session: u64,
        life: u64,
        answer: Answer,
    ) -> Result<(), Refused> {
        if life < self.life {
            let (known, theirs) = (Incarnation(self.life), Incarnation(life));
            return Err(Refused::StaleIncarnation { known, theirs });
        }
        let is_reborn = self.life != 0 && life > self.life;
        if is_reborn {
            // A new life may have lost what an earlier one had: all is asked for again.
            (self.next, self.matched) = (self.matched + 1, 0);
            self.session += 1;
            self.view = View::Probe { is_paused: false };
        }
        if is_reborn || session == self.session {
            self.life = life;
        }
        if is_reborn || session != self.session {
            // What a new life says first, it says in a stream that is over.
            let (mine, theirs) = (Session(self.session), Session(session));
            return Err(Refused::StaleSession { mine, theirs });
        }
        match answer {
            Answer::Append(AppendResult::Matched { index }) => return self.matches(index.0),
            Answer::Append(AppendResult::Conflict { rejected, hint, hint_term }) => {
                self.conflicts(rejected.0, hint.0, hint_term.0);
            }
            Answer::Append(AppendResult::Blank) => {
                if let View::Probe { .. } = self.view {
                    self.needs_snapshot();
                }
            }
            Answer::Append(AppendResult::Diverged { .. }) => self.view = View::Diverged,
            Answer::Heartbeat => self.is_there(),
            Answer::Staged { last: of, staged: now } => {
                if let View::Snapshot { last, staged, part } = &mut self.view
                    && *last == of
                    && *staged != now
                {
                    (*staged, *part) = (now, Part::Wanted);
                }
            }
        }
        Ok(())
    }

    /// The peer has the log through here.
    fn matches(&mut self, index: u64) -> Result<(), Refused> {
        if index > self.last() {
            return Err(Refused::Impossible);
        }
        self.matched = self.matched.max(index);
        let is_open = match &mut self.view {
            View::Replicate { sent, .. } => {
                sent.retain(|(last, _)| *last > index);
                false
            }
            View::Probe { .. } => true,
            View::Snapshot { last, .. } => index >= last.index.0,
            View::Diverged => false,
        };
        if is_open {
            self.next = self.matched + 1;
            self.view = View::Replicate { sent: VecDeque::new(), is_poked: false };
        }
        self.next = self.next.max(self.matched + 1);
        Ok(())
    }

    /// The peer's log differs at `rejected`; the logs may meet at `hint`, where it has `hint_term`.
    fn conflicts(&mut self, rejected: u64, hint: u64, hint_term: u64) {
        let is_news = match self.view {
            View::Probe { .. } => rejected + 1 == self.next,
            View::Replicate { .. } => rejected > self.matched,
            View::Snapshot { .. } | View::Diverged => false,
        };
        if !is_news {
            return;
        }
        // The last place here, at or before the hint, that is of no later term than the hint's.
        let may_meet = |index: &u64| self.at(*index).0 <= hint_term;
        let meeting = (self.base..=hint.min(self.last())).rev().find(may_meet);
        let next = meeting.map_or(self.base.min(hint + 1), |index| index + 1);
        self.next = next.max(self.matched + 1);
        self.view = View::Probe { is_paused: false };
    }

    fn is_there(&mut self) {
        let is_behind = self.matched < self.last();
        match &mut self.view {
            View::Probe { is_paused } => *is_paused = false,
            View::Replicate { is_poked, .. } => *is_poked = is_behind,
            View::Snapshot { .. } | View::Diverged => {}
        }
    }

    fn needs_snapshot(&mut self) {
        self.view = View::Snapshot { last: self.snapshot, staged: 0, part: Part::Wanted };
    }

    /// What leaves now.
    pub(crate) fn settle(&mut self) -> Vec<Sent> {
        let mut all = Vec::new();
        while self.is_append_due() {
            let after = self.next - 1;
            if after < self.base {
                self.needs_snapshot();
                break;
            }
            let through = if self.has_room() { self.fitting() } else { after };
            let bytes = (self.next..=through).map(|index| self.at(index).1).sum();
            match &mut self.view {
                View::Probe { is_paused } => *is_paused = true,
                View::Replicate { sent, is_poked } => {
                    *is_poked = false;
                    if through > after {
                        sent.push_back((through, bytes));
                        self.next = through + 1;
                    }
                }
                View::Snapshot { .. } | View::Diverged => unreachable!("no append is due"),
            }
            all.push(Sent::Append { after, through });
        }
        if let View::Snapshot { last, staged, part: part @ Part::Wanted } = &mut self.view {
            let (last, offset) = (*last, *staged);
            // The genesis has no bytes that a host would have to read.
            let is_genesis = last.index.0 == 0;
            *part = if is_genesis { Part::Sent(0) } else { Part::AtHost };
            let read = Sent::Read { last, offset };
            all.push(if is_genesis { Sent::Chunk { last, offset: 0 } } else { read });
        }
        all
    }

    fn is_append_due(&self) -> bool {
        match &self.view {
            View::Probe { is_paused } => !is_paused,
            View::Replicate { is_poked, .. } => *is_poked || self.has_room(),
            View::Snapshot { .. } | View::Diverged => false,
        }
    }

    /// Whether there is a next entry, and room for a whole message in the window.
    fn has_room(&self) -> bool {
        let View::Replicate { sent, .. } = &self.view else { return self.next <= self.last() };
        let bytes: usize = sent.iter().map(|(_, bytes)| bytes).sum();
        // What is compacted has no size any more.
        let first = if self.next > self.base { self.at(self.next).1 } else { 0 };
        let is_within = sent.len() < WINDOW && bytes + MESSAGE_BYTES.max(first) <= WINDOW_BYTES;
        self.next <= self.last() && (sent.is_empty() || is_within)
    }

    /// The last entry of the next message: one entry always goes.
    fn fitting(&self) -> u64 {
        let (mut through, mut bytes) = (self.next, self.at(self.next).1);
        while through < self.last() && through + 1 - self.next < MESSAGE_ENTRIES as u64 {
            bytes += self.at(through + 1).1;
            if bytes > MESSAGE_BYTES {
                break;
            }
            through += 1;
        }
        through
    }
}
