//! Proof that an exploration has looked: which inputs met a server in which role, and what came of
//! them.
//!
//! A cell is a role, an input and an outcome. Counted are distinct steps: one server in one state,
//! given one input. How often such a step is part of a step of the whole cluster says more about the
//! bounds than about the core. The facts that must have been reached are in [`super::landmarks`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use raft_core::{AppendResult, Effect, Envelope, Observation, Rejection, RoleName, Rpc, RpcKind};

use super::facts::Fact;
use super::host::{Host, Input};
use super::landmarks;
use super::taken::Taken;
use crate::ideal_disk::Loss;

/// What a server is given, kinds of messages apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Given {
    Message(RpcKind),
    Fire,
    Silence,
    Patience,
    Persisted,
    Crash,
    Found,
    Damage,
    DamagedSnapshot,
    LostTail,
    Propose,
    Read,
    Transfer,
    Change,
    Snapshot,
    Campaign,
    StepDown,
    Pass,
}

impl Given {
    fn new(input: &Input) -> Self {
        match input {
            Input::Deliver(envelope) => Self::Message(envelope.rpc.kind()),
            Input::Fire => Self::Fire,
            Input::Silence => Self::Silence,
            Input::Patience => Self::Patience,
            Input::Persist { .. } => Self::Persisted,
            Input::Damage { .. } => Self::Found,
            Input::Crash { loss: None, .. } => Self::Crash,
            Input::Crash { loss: Some(Loss::Entry(_)), .. } => Self::Damage,
            Input::Crash { loss: Some(Loss::Snapshot), .. } => Self::DamagedSnapshot,
            Input::Crash { loss: Some(Loss::Tail(_)), .. } => Self::LostTail,
            Input::Propose { .. } => Self::Propose,
            Input::Read { .. } => Self::Read,
            Input::Transfer { .. } => Self::Transfer,
            Input::Change { .. } => Self::Change,
            Input::Snapshot => Self::Snapshot,
            Input::Campaign => Self::Campaign,
            Input::StepDown => Self::StepDown,
            Input::Pass { .. } => Self::Pass,
        }
    }
}

impl fmt::Display for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Message(kind) => return f.pad(&kind.to_string()),
            Self::Fire => "fire",
            Self::Silence => "silence",
            Self::Patience => "patience",
            Self::Persisted => "persisted",
            Self::Crash => "crash",
            Self::Found => "damage",
            Self::Damage => "crash, damage",
            Self::DamagedSnapshot => "crash, damaged snapshot",
            Self::LostTail => "crash, lost tail",
            Self::Propose => "propose",
            Self::Read => "read",
            Self::Transfer => "transfer",
            Self::Change => "change",
            Self::Snapshot => "snapshot",
            Self::Campaign => "campaign",
            Self::StepDown => "step down",
            Self::Pass => "time",
        })
    }
}

/// What a step did, the most telling first: only the first that fits is told.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    Halts,
    /// A message is refused, for this reason.
    Refuses(String),
    /// A request of a client or an operator is refused, for this reason.
    Rejects(String),
    /// A crash that takes entries, or a term or a vote, or nothing.
    LosesEntries,
    LosesState,
    LosesNothing,
    Installs,
    Retires,
    Leads,
    StepsDown,
    GivesUp,
    Truncates,
    AnswersRead,
    Commits,
    Campaigns,
    Votes,
    Appends,
    AdoptsTerm,
    Acknowledges,
    /// It tells the sender that the logs part before what it was sent.
    Conflicts,
    /// It sends another answer, or a message that answers nothing.
    Answers,
    Sends,
    /// It changes, and nobody else hears of it.
    Notes,
    Nothing,
}

impl Outcome {
    fn new(taken: &Taken<'_>) -> Self {
        use RoleName::{Candidate, Follower, Halted, Leader, PreCandidate};
        let Taken { was, is, .. } = taken;
        if is.role == Halted && was.role != Halted {
            return Self::Halts;
        }
        // An answer that deposes a leader is refused too, since nobody waits for it any more.
        let is_deposed = taken.turns(Leader, Follower) && taken.letter().is_some_and(is_answer_in);
        if let Some(refused) = refusal(taken).filter(|_| !is_deposed) {
            return refused;
        }
        if taken.is_crash() {
            return Self::of_crash(taken);
        }
        let campaigns = |role| is.role == role && (was.role != role || was.term < is.term);
        if taken.is_fact(|fact| matches!(fact, Fact::Restores(_))) {
            Self::Installs
        } else if taken.observes(|seen| matches!(seen, Observation::Retired { .. })) {
            Self::Retires
        } else if taken.is_fact(|fact| *fact == Fact::Leads) {
            Self::Leads
        } else if taken.turns(Leader, Follower) {
            Self::StepsDown
        } else if taken.turns(Candidate, Follower) || taken.turns(PreCandidate, Follower) {
            Self::GivesUp
        } else if taken.is_fact(|fact| matches!(fact, Fact::Truncates(_))) {
            Self::Truncates
        } else if taken.is_fact(|fact| matches!(fact, Fact::Answers { .. })) {
            Self::AnswersRead
        } else if is.commit > was.commit {
            Self::Commits
        } else if campaigns(Candidate) || campaigns(PreCandidate) {
            Self::Campaigns
        } else {
            Self::of_quiet_step(taken)
        }
    }

    fn of_crash(taken: &Taken<'_>) -> Self {
        if taken.lost().next().is_some() {
            Self::LosesEntries
        } else if taken.is.term < taken.was.term || taken.is_vote_lost() {
            Self::LosesState
        } else {
            Self::LosesNothing
        }
    }

    fn of_quiet_step(taken: &Taken<'_>) -> Self {
        let Taken { was, is, .. } = taken;
        if is.vote.is_some() && (was.vote != is.vote || was.term < is.term) {
            Self::Votes
        } else if taken.is_fact(|fact| matches!(fact, Fact::Appends(_))) {
            Self::Appends
        } else if is.term > was.term {
            Self::AdoptsTerm
        } else if taken.sends(is_match) {
            Self::Acknowledges
        } else if taken.sends(is_conflict) {
            Self::Conflicts
        } else if taken.sends(is_answer) {
            Self::Answers
        } else if taken.sends(|_| true) {
            Self::Sends
        } else if taken.before != taken.after {
            Self::Notes
        } else {
            Self::Nothing
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refuses(reason) => return write!(f, "refuses: {reason}"),
            Self::Rejects(reason) => return write!(f, "rejects: {reason}"),
            Self::Halts => "halts",
            Self::LosesEntries => "loses entries",
            Self::LosesState => "loses term or vote",
            Self::LosesNothing => "loses nothing",
            Self::Installs => "installs",
            Self::Retires => "retires",
            Self::Leads => "leads",
            Self::StepsDown => "steps down",
            Self::GivesUp => "gives up",
            Self::Truncates => "truncates",
            Self::AnswersRead => "answers a read",
            Self::Commits => "commits",
            Self::Campaigns => "campaigns",
            Self::Votes => "votes",
            Self::Appends => "appends",
            Self::AdoptsTerm => "adopts a term",
            Self::Acknowledges => "acknowledges",
            Self::Conflicts => "conflicts",
            Self::Answers => "answers",
            Self::Sends => "sends",
            Self::Notes => "notes",
            Self::Nothing => "nothing",
        })
    }
}

pub(crate) fn is_match(rpc: &Rpc) -> bool {
    matches!(rpc, Rpc::AppendEntriesResponse { result: AppendResult::Matched { .. }, .. })
}

pub(crate) fn is_conflict(rpc: &Rpc) -> bool {
    matches!(rpc, Rpc::AppendEntriesResponse { result: AppendResult::Conflict { .. }, .. })
}

fn is_answer_in(letter: &Envelope) -> bool {
    is_answer(&letter.rpc)
}

pub(crate) fn is_answer(rpc: &Rpc) -> bool {
    match rpc.kind() {
        RpcKind::RequestPreVoteResponse
        | RpcKind::RequestVoteResponse
        | RpcKind::AppendEntriesResponse
        | RpcKind::HeartbeatResponse
        | RpcKind::InstallSnapshotResponse
        | RpcKind::ReadIndexResponse
        | RpcKind::BarrierResponse
        | RpcKind::RequestEntryResponse
        | RpcKind::RequestSnapshotResponse => true,
        RpcKind::RequestPreVote
        | RpcKind::RequestVote
        | RpcKind::AppendEntries
        | RpcKind::Commit
        | RpcKind::Heartbeat
        | RpcKind::InstallSnapshot
        | RpcKind::TimeoutNow
        | RpcKind::ReadIndex
        | RpcKind::Barrier
        | RpcKind::RequestEntry
        | RpcKind::RequestSnapshot => false,
    }
}

/// Why a message or a request is refused, if it is. What a step does to requests that came before is
/// not meant: their refusal follows from something more telling.
fn refusal(taken: &Taken<'_>) -> Option<Outcome> {
    taken.effects.iter().find_map(|effect| match effect {
        Effect::Observe(Observation::Refused { reason, .. }) => {
            Some(Outcome::Refuses(name(reason)))
        }
        Effect::Outcome { outcome: raft_core::Outcome::Refused(reason), .. }
            if is_request(taken.input) && *reason != Rejection::TransferAborted =>
        {
            Some(Outcome::Rejects(name(reason)))
        }
        Effect::Persist(_)
        | Effect::Send(_)
        | Effect::Apply { .. }
        | Effect::RestoreState { .. }
        | Effect::Outcome { .. }
        | Effect::ReadReady { .. }
        | Effect::Load(_)
        | Effect::ReadChunk(_)
        | Effect::StageChunk { .. }
        | Effect::Observe(_) => None,
    })
}

/// Whether a client or an operator wants an answer. (A transfer that another one replaces is aborted;
/// that is no answer to the other one.)
fn is_request(input: &Input) -> bool {
    match input {
        Input::Propose { .. }
        | Input::Read { .. }
        | Input::Transfer { .. }
        | Input::Change { .. } => true,
        Input::Deliver(_)
        | Input::Fire
        | Input::Silence
        | Input::Patience
        | Input::Persist { .. }
        | Input::Crash { .. }
        | Input::Damage { .. }
        | Input::Snapshot
        | Input::Campaign
        | Input::StepDown
        | Input::Pass { .. } => false,
    }
}

/// The name of a reason, without its particulars.
fn name(reason: &impl fmt::Debug) -> String {
    let text = format!("{reason:?}");
    text.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default().to_owned()
}

/// A role, an input and an outcome.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cell {
    pub(crate) role: RoleName,
    pub(crate) given: Given,
    pub(crate) outcome: Outcome,
}

impl Cell {
    fn new(taken: &Taken<'_>) -> Self {
        let given = Given::new(taken.input);
        Self { role: taken.was.role, given, outcome: Outcome::new(taken) }
    }
}

/// What a step covers; every other step that covers the same has the same note.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Note(usize);

/// What was seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Coverage {
    /// A cell and the landmarks that go with it, by their positions in the list of all.
    notes: BTreeMap<(Cell, Vec<usize>), Note>,
    /// Steps by note.
    counts: Vec<u64>,
    /// Landmarks that the cluster as a whole has shown.
    shown: BTreeSet<usize>,
}

impl Coverage {
    /// What a step covers. It is not counted yet.
    pub(crate) fn note(&mut self, taken: &Taken<'_>) -> Note {
        let key = (Cell::new(taken), landmarks::of_step(taken).collect());
        let next = Note(self.counts.len());
        let note = *self.notes.entry(key).or_insert(next);
        if note == next {
            self.counts.push(0);
        }
        note
    }

    /// Counts a step, to be done once for each server state and input.
    pub(crate) fn count(&mut self, note: Note) {
        self.counts[note.0] += 1;
    }

    /// Looks at a cluster after a step that one server alone cannot judge.
    pub(crate) fn look<'a>(&mut self, facts: &[Fact], hosts: impl Iterator<Item = &'a Host>) {
        if !facts.contains(&Fact::Leads) {
            return;
        }
        for landmark in landmarks::of_cluster(hosts) {
            self.shown.insert(landmark);
        }
    }

    /// What was counted, in order.
    pub(crate) fn sum(&self) -> Covered {
        let mut covered = Covered::default();
        for ((cell, landmarks), note) in &self.notes {
            let count = self.counts[note.0];
            if count > 0 {
                *covered.cells.entry(cell.clone()).or_default() += count;
            }
            for landmark in landmarks.iter().filter(|_| count > 0) {
                *covered.landmarks.entry(*landmark).or_default() += count;
            }
        }
        covered.landmarks.extend(self.shown.iter().map(|landmark| (*landmark, 1)));
        covered
    }
}

/// Distinct steps by cell, and by landmark.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Covered {
    cells: BTreeMap<Cell, u64>,
    /// By the position in the list of all; 1 for those that only the whole cluster shows.
    landmarks: BTreeMap<usize, u64>,
}

impl Covered {
    /// How often a landmark was seen.
    pub(crate) fn reached(&self, landmark: usize) -> u64 {
        self.landmarks.get(&landmark).copied().unwrap_or_default()
    }

    /// How many cells are not empty.
    pub(crate) fn cells(&self) -> usize {
        self.cells.len()
    }

    /// How many steps were counted.
    pub(crate) fn steps(&self) -> u64 {
        self.cells.values().sum()
    }
}

/// One row for each role and input, with its outcomes; long rows go on in the next line.
impl fmt::Display for Covered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows: BTreeMap<(RoleName, Given), Vec<String>> = BTreeMap::new();
        for (cell, count) in &self.cells {
            let row = rows.entry((cell.role, cell.given)).or_default();
            row.push(format!("{} {count}", cell.outcome));
        }
        for ((role, given), outcomes) in rows {
            let mut width = ROW_WIDTH;
            for (at, outcome) in outcomes.iter().enumerate() {
                if width + outcome.len() > ROW_WIDTH {
                    width = 0;
                    match at {
                        0 => write!(f, "  {role:<13} {given:<24}")?,
                        _ => write!(f, ",\n  {:<13} {:<24}", "", "")?,
                    }
                } else {
                    f.write_str(", ")?;
                }
                f.write_str(outcome)?;
                width += outcome.len() + 2;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// The width of the outcomes in a row.
const ROW_WIDTH: usize = 60;
