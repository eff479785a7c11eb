//! A run of the simulator as a story: what its cores were given, told again with the servers of a
//! script.
//!
//! A scribe watches a world and plays along: a frame that arrives there is the message here that
//! looks most like it, a deadline is `fire`, a batch that is durable is `persist`, and a start is the
//! `crash` that leaves what was found. The servers here are the same cores on ideal disks, so that
//! whatever the core does wrong by itself shows here too; then the story is short, and can be read
//! and changed by hand. What a script has no words for (storage, clocks, leases, bytes that change
//! on their way) is listed instead, and such a run is kept as a tape.

use raft_core::wire::{self, Limits};
use raft_core::{Envelope, Index, MembershipChange, NodeId, ReadMode, RecoveredState, RoleName};
use raft_replica::machine::StateMachine;
use raft_replica::request::{Input as Given, Request};
use raft_replica::storage::work::Done;

use super::language::{Ask, Command, SEPARATOR, Setting};
use super::play;
use super::player::{Player, Stop};
use crate::explore::bounds::SERVERS_MAX;
use crate::options::Options;

/// The most voters of a script.
const VOTERS_MAX: usize = 5;

/// A deadline of the simulator may be the second or third one here.
const FIRES_MAX: usize = 3;

/// A run told as a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Story {
    /// The transcript.
    pub text: String,
    /// The invariant with whose violation it ends.
    pub violated: Option<&'static str>,
    /// What happened that no script has words for, each once.
    pub untold: Vec<String>,
}

/// Who tells a run while it happens.
#[derive(Debug)]
pub(crate) struct Scribe {
    player: Player,
    lines: Vec<String>,
    /// Who the last line is about.
    last: Option<usize>,
    violated: Option<&'static str>,
    untold: Vec<String>,
}

/// What a core has been given, as far as a story may tell it.
#[derive(Clone, Debug)]
pub(crate) enum Overheard {
    /// Nothing that a story tells.
    Nothing,
    Tick,
    Frame(Box<Envelope>),
    /// Its batches through this one are durable.
    Persisted(u64),
    Asked(Ask),
    Untold(&'static str),
}

impl Overheard {
    pub(crate) fn of<M: StateMachine>(input: &Given<M>) -> Self {
        match input {
            Given::Tick => Self::Tick,
            Given::Frame(frame) => match wire::decode(frame.clone(), &Limits::default()) {
                Ok(envelope) => Self::Frame(Box::new(envelope)),
                Err(_) => Self::Untold("a frame that was changed on its way"),
            },
            Given::Unreachable(_) => Self::Nothing,
            Given::Request { request, .. } => Self::of_request(request),
            Given::Done(done) => Self::of_done(done),
            Given::Campaign => Self::Asked(Ask::Campaign),
            Given::StepDown => Self::Asked(Ask::StepDown),
            Given::DiskFull { .. } => Self::Untold("a disk that is full"),
            Given::ForgetLeader => Self::Untold("a follower that is told to forget its leader"),
        }
    }

    fn of_request<M: StateMachine>(request: &Request<M>) -> Self {
        match request {
            Request::OpenSession | Request::Command { .. } => Self::Asked(Ask::Propose),
            Request::Query { mode: ReadMode::ReadIndex, .. } => Self::Asked(Ask::Read),
            Request::Query { .. } => Self::Untold("a read by lease"),
            Request::ChangeMembership { change, .. } => Self::Asked(Ask::Change(change.clone())),
            Request::TransferLeadership { to: Some(to) } => match server(*to) {
                Some(to) => Self::Asked(Ask::Transfer { to }),
                None => Self::Nothing,
            },
            Request::TransferLeadership { to: None } => Self::Untold("a transfer to anybody"),
            Request::ForceMembership => Self::Untold("a forced membership"),
        }
    }

    fn of_done(done: &Done) -> Self {
        match done {
            Done::Persisted { seq } => Self::Persisted(seq.n),
            Done::SnapshotSaved { .. } => Self::Asked(Ask::Snapshot),
            Done::Failed => Self::Untold("a disk that fails"),
            Done::Damaged { .. } | Done::SnapshotDamaged { .. } => {
                Self::Untold("a disk that has lost something")
            }
            // What is read from a disk or staged there, a script's servers have at once.
            Done::SnapshotLoaded { .. }
            | Done::Loaded { .. }
            | Done::ChunkRead { .. }
            | Done::ChunkStaged { .. } => Self::Nothing,
        }
    }
}

fn server(id: NodeId) -> Option<usize> {
    usize::try_from(id.0).ok()?.checked_sub(1)
}

impl Scribe {
    /// A scribe for a run with these options, if a script has that many servers.
    pub(crate) fn new(options: &Options) -> Option<Self> {
        let Options { voters, learners, .. } = *options;
        if voters > VOTERS_MAX || voters + learners > SERVERS_MAX {
            return None;
        }
        let setting = Setting {
            voters: u8::try_from(voters).ok()?,
            learners: u8::try_from(learners).ok()?,
            pre_vote: options.pre_vote,
            check_quorum: options.check_quorum,
            // Its clocks are finer than those of a script.
            leases: false,
            is_slow: true,
            batch: Some(options.append_entries_max).filter(|&entries| entries < 64),
        };
        let mut scribe = Self {
            player: Player::new(&setting),
            lines: vec![format!("> {}", Command::Cluster(setting))],
            last: None,
            violated: None,
            untold: Vec::new(),
        };
        if options.has_mixed_pre_vote {
            scribe.untold("servers with pre-vote and without");
        }
        Some(scribe)
    }

    /// A core has been given something, and has put out something or nothing; then it had this role.
    pub(crate) fn hear(&mut self, at: usize, heard: &Overheard, is_silent: bool, role: RoleName) {
        match heard {
            Overheard::Nothing => {}
            Overheard::Untold(what) => self.untold(what),
            Overheard::Tick if is_silent => {}
            Overheard::Tick => self.fire(at, role),
            Overheard::Frame(envelope) => self.deliver(envelope),
            Overheard::Persisted(seq) => {
                let batches = self.player.unsynced_through(at, *seq);
                let all = self.player.unsynced(at);
                if batches > 0 {
                    let some = Some(batches).filter(|&batches| batches < all);
                    self.say(at, &Command::Ask(at, Ask::Persist(some)));
                }
            }
            Overheard::Asked(Ask::Change(change)) if !self.knows(change) => {
                self.untold("a change that names a server from outside");
            }
            Overheard::Asked(ask) => {
                // Who does not lead refuses; a read is passed on to the leader.
                let is_request = matches!(ask, Ask::Propose | Ask::Change(_));
                if !is_request || self.player.role(at) == Some(RoleName::Leader) {
                    self.say(at, &Command::Ask(at, ask.clone()));
                }
            }
        }
    }

    /// A process starts on what its disk has kept.
    pub(crate) fn start(&mut self, at: usize, found: &RecoveredState) {
        match self.player.crash_that_leaves(at, found) {
            Some((whole, pieces)) => {
                let (loss, commit) = (None, Index::ZERO);
                self.say(at, &Command::Ask(at, Ask::Crash { whole, pieces, loss, commit }));
            }
            None => {
                self.untold("a disk that has kept something else than a script's would");
                let crash = Ask::Crash { whole: 0, pieces: 0, loss: None, commit: Index::ZERO };
                self.say(at, &Command::Ask(at, crash));
            }
        }
    }

    /// The run is over.
    pub(crate) fn story(self) -> Story {
        let text = self.lines.join("\n") + "\n";
        let text = play(&text).expect("what was played can be played");
        Story { text, violated: self.violated, untold: self.untold }
    }

    fn knows(&self, change: &MembershipChange) -> bool {
        self.player.knows(change).is_ok()
    }

    /// Until the server has the role that the deadline has led to there.
    fn fire(&mut self, at: usize, role: RoleName) {
        let campaigns = |role| matches!(role, RoleName::PreCandidate | RoleName::Candidate);
        for _ in 0..FIRES_MAX {
            self.say(at, &Command::Ask(at, Ask::Fire));
            if !campaigns(role) || self.player.role(at).is_none_or(campaigns) {
                return;
            }
        }
    }

    fn deliver(&mut self, envelope: &Envelope) {
        let Some(to) = server(envelope.to.id) else { return };
        match self.player.most_like(envelope) {
            Some(name) => self.say(to, &Command::Hand(name)),
            None => self.untold(&format!("{envelope}, which no server here has sent")),
        }
    }

    /// Executes a command and writes it down, unless it makes no sense here.
    fn say(&mut self, at: usize, command: &Command) {
        if self.violated.is_some() {
            return;
        }
        match self.player.execute(command) {
            Ok(()) => {}
            Err(Stop::Wrong(_)) => {
                self.untold(&format!("`{command}`, which its server cannot be given"));
                return;
            }
            Err(Stop::Broken(broken)) => self.violated = Some(broken.id),
        }
        drop(self.player.heard());
        let is_persist = matches!(command, Command::Ask(_, Ask::Persist(_)));
        match self.lines.last_mut() {
            Some(line) if is_persist && self.last == Some(at) => {
                line.push_str(&format!("{SEPARATOR}{command}"));
            }
            Some(_) | None => self.lines.push(format!("> {command}")),
        }
        self.last = Some(at);
    }

    fn untold(&mut self, what: &str) {
        if self.violated.is_none() && !self.untold.iter().any(|one| one == what) {
            self.untold.push(what.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Fault;
    use crate::run;
    use crate::sabotage::Sabotage;

    #[test]
    fn a_run_without_faults_is_told_as_a_script() {
        let options = Options { events: 120, seed: 3, ..Options::default() };
        let (_, tape) = run::record(&options, Sabotage::None);
        let story = run::story(&tape, Sabotage::None).expect("three servers are few");
        assert_eq!((story.violated, &story.untold), (None, &Vec::new()), "{}", story.text);
        assert_eq!(play(&story.text), Ok(story.text.clone()));
        for part in ["> fire", "> deliver n", "> propose", " ; persist", "role leader"] {
            assert!(story.text.contains(part), "{part} is missing:\n{}", story.text);
        }
        // Everything that was committed there is committed here.
        let committed = run::replay(&tape, false, Sabotage::None, crate::trace::Trace::off());
        let status = play(&format!("{}> status\n", story.text)).expect("it is a script");
        let leads =
            status.lines().rev().find(|line| line.contains(" leader  ")).expect("one leads");
        let commit = format!("commit=i{} ", committed.committed);
        assert!(leads.contains(&commit), "{commit}: {leads}");
    }

    #[test]
    fn crashes_are_told_by_what_they_leave() {
        let mut options = Options { events: 600, strike_events: 64, ..Options::default() };
        options.faults.insert(Fault::Crash);
        let mut crashes = 0;
        for seed in 0..8 {
            let (_, tape) = run::record(&Options { seed, ..options.clone() }, Sabotage::None);
            let story = run::story(&tape, Sabotage::None).expect("three servers are few");
            assert_eq!(story.violated, None, "{}", story.text);
            crashes += story.text.matches("> crash").count();
        }
        assert!(crashes > 8, "{crashes}");
    }
}
