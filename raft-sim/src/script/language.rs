//! What a line of a script says: the commands, and how they are read.
//!
//! Reading knows the grammar alone. Whether there is such a server, or anything to persist, is found
//! out when the command is executed.

use std::fmt;

use raft_core::{Envelope, Index, MemberStep, MembershipChange, NodeId, RpcKind};

use crate::explore::bounds::{SERVERS_MAX, member};
use crate::explore::clock::SPEEDS;
use crate::ideal_disk::Loss;

/// A script that cannot be played: the first line that is wrong, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptError {
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong with it, in a sentence without its end.
    pub what: String,
}

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

impl std::error::Error for ScriptError {}

/// What is wrong with a command.
pub(super) type Wrong = String;

/// What separates the commands of one line.
pub(super) const SEPARATOR: &str = " ; ";

/// One command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Cluster(Setting),
    /// Something that the server at this position is given.
    Ask(usize, Ask),
    /// Until nothing moves, or only what is on its way now.
    Deliver {
        filter: Filter,
        is_round: bool,
    },
    /// One message, which may have arrived before.
    Hand(Name),
    Drop(Filter),
    /// The disks of these servers wait for `persist`, or do no longer.
    Pace {
        servers: Vec<usize>,
        is_slow: bool,
    },
    /// What follows the script must reach this landmark.
    Reach(String),
    Network,
    Status(Vec<usize>),
    Logs,
    /// The same, without telling.
    Quietly(Box<Self>),
}

/// What one server can be given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    Campaign,
    StepDown,
    Pass {
        beats: u8,
    },
    Fire,
    Silence,
    Patience,
    Propose,
    Read,
    Transfer {
        to: usize,
    },
    Change(MembershipChange),
    Snapshot,
    /// The entry at this index cannot be read any more, and its server finds that.
    Damage(Index),
    /// All batches on their way, or so many.
    Persist(Option<usize>),
    Crash {
        whole: usize,
        pieces: usize,
        loss: Option<Loss>,
        /// What its disk says of the commit index, which is committed: nothing, or through here.
        commit: Index,
    },
}

/// The servers of a story and their options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) voters: u8,
    pub(super) learners: u8,
    pub(super) pre_vote: bool,
    pub(super) check_quorum: bool,
    /// Whether reads are answered by lease.
    pub(super) leases: bool,
    /// Whether nothing is durable before `persist` says so.
    pub(super) is_slow: bool,
    /// The most entries in one message.
    pub(super) batch: Option<usize>,
}

/// Which messages are meant: between these ends and of these kinds; no ends or no kinds mean all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Filter {
    pub(super) ends: Vec<(Option<u64>, Option<u64>)>,
    pub(super) kinds: Vec<RpcKind>,
}

impl Filter {
    pub(super) fn passes(&self, envelope: &Envelope) -> bool {
        let is = |end: Option<u64>, id: NodeId| end.is_none_or(|end| end == id.0);
        let (from, to) = (envelope.from.id, envelope.to.id);
        (self.ends.is_empty() || self.ends.iter().any(|end| is(end.0, from) && is(end.1, to)))
            && (self.kinds.is_empty() || self.kinds.contains(&envelope.rpc.kind()))
    }
}

/// One message: the so-manyth, from 1, that begins with these words when it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) ordinal: usize,
    pub(super) text: String,
}

impl Name {
    pub(super) fn fits(&self, envelope: &Envelope) -> bool {
        let shown = envelope.to_string();
        let rest = shown.strip_prefix(&self.text);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
    }
}

/// Reads one command.
///
/// # Errors
/// What is wrong with it.
pub(super) fn command(text: &str) -> Result<Command, Wrong> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let Some((verb, rest)) = words.split_first() else { return Err("no command".into()) };
    Ok(match *verb {
        "quietly" => Command::Quietly(Box::new(quiet(rest)?)),
        "cluster" => Command::Cluster(setting(rest)?),
        "deliver" => match named(rest)? {
            Some(name) => Command::Hand(name),
            None => Command::Deliver { filter: filter(rest)?, is_round: false },
        },
        "round" => Command::Deliver { filter: filter(rest)?, is_round: true },
        "drop" => Command::Drop(filter(rest)?),
        "slow" => Command::Pace { servers: servers(some(rest)?)?, is_slow: true },
        "fast" => Command::Pace { servers: servers(some(rest)?)?, is_slow: false },
        "reach" => Command::Reach(rest.join(" ")),
        "network" => Command::Network.alone(rest)?,
        "status" => Command::Status(servers(rest)?),
        "logs" => Command::Logs.alone(rest)?,
        _ => asked(verb, rest)?,
    })
}

/// Without this, a line of a thousand `quietly` would be a thousand calls deep.
fn quiet(words: &[&str]) -> Result<Command, Wrong> {
    if words.first() == Some(&"quietly") {
        return Err("quietly, once".into());
    }
    command(&words.join(" "))
}

impl Command {
    fn alone(self, rest: &[&str]) -> Result<Self, Wrong> {
        if rest.is_empty() { Ok(self) } else { Err(format!("{} is too much", rest.join(" "))) }
    }
}

/// The commands that begin with the server that they are for.
fn asked(verb: &str, words: &[&str]) -> Result<Command, Wrong> {
    let mut words = Words(words);
    let words = &mut words;
    let mut at = || words.server();
    let (at, ask) = match verb {
        "campaign" => (at()?, Ask::Campaign),
        "stepdown" => (at()?, Ask::StepDown),
        "pass" => (at()?, Ask::Pass { beats: beats(words.next().ok_or("how many beats?")?)? }),
        "fire" => (at()?, Ask::Fire),
        "silence" => (at()?, Ask::Silence),
        "patience" => (at()?, Ask::Patience),
        "propose" => (at()?, Ask::Propose),
        "read" => (at()?, Ask::Read),
        "transfer" => (at()?, Ask::Transfer { to: at()? }),
        "change" => (at()?, Ask::Change(change(words)?)),
        "snapshot" => (at()?, Ask::Snapshot),
        "damage" => {
            let at = at()?;
            let index = count(words.next().ok_or("which entry?")?)?;
            (at, Ask::Damage(Index(index as u64)))
        }
        "persist" => (at()?, Ask::Persist(words.next().map(count).transpose()?)),
        "crash" => (at()?, crash(words)?),
        _ => return Err(format!("no command is called {verb}")),
    };
    Command::Ask(at, ask).alone(words.0)
}

/// What is left of a command.
struct Words<'a>(&'a [&'a str]);

impl<'a> Words<'a> {
    fn next(&mut self) -> Option<&'a str> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    fn server(&mut self) -> Result<usize, Wrong> {
        server(self.next().ok_or("a server is missing")?)
    }

    fn id(&mut self) -> Result<NodeId, Wrong> {
        self.server().map(|at| member(at).id)
    }
}

fn crash(words: &mut Words<'_>) -> Result<Ask, Wrong> {
    let (mut whole, mut pieces) = (0, 0);
    let mut next = words.next();
    if next == Some("keep") {
        whole = count(words.next().ok_or("keep how many batches?")?)?;
        next = words.next();
        if let Some(word) = next.filter(|word| !matches!(*word, "damage" | "lose" | "commit")) {
            pieces = count(word)?;
            next = words.next();
        }
    }
    let index = |words: &mut Words<'_>| {
        let index = count(words.next().ok_or("which entry?")?)?;
        Ok::<Index, Wrong>(Index(index as u64))
    };
    let loss = match next {
        Some("damage") if words.0.first() == Some(&"snapshot") => {
            words.next();
            Some(Loss::Snapshot)
        }
        Some("damage") => Some(Loss::Entry(index(words)?)),
        Some("lose") => Some(Loss::Tail(index(words)?)),
        Some(_) | None => None,
    };
    if loss.is_some() {
        next = words.next();
    }
    let commit = match next {
        None => Index::ZERO,
        Some("commit") => index(words)?,
        Some(other) => return Err(format!("{other} is not `keep`, `damage`, `lose` or `commit`")),
    };
    Ok(Ask::Crash { whole, pieces, loss, commit })
}

/// Steps, after `joint` if nobody leaves the joint membership by itself; or `leave`.
fn change(words: &mut Words<'_>) -> Result<MembershipChange, Wrong> {
    if words.0.first() == Some(&"leave") {
        words.next();
        return Ok(MembershipChange::LeaveJoint);
    }
    let stays = words.0.first() == Some(&"joint");
    if stays {
        words.next();
    }
    let mut steps = Vec::new();
    while let Some(verb) = words.next() {
        steps.push(match verb {
            "add" => MemberStep::AddLearner(member(words.server()?)),
            "promote" => MemberStep::Promote(words.id()?),
            "demote" => MemberStep::Demote(words.id()?),
            "remove" => MemberStep::Remove(words.id()?),
            "replace" => MemberStep::Replace { old: words.id()?, new: words.id()? },
            other => return Err(format!("no step is called {other}")),
        });
    }
    match (steps.is_empty(), stays) {
        (true, _) => Err("change what?".into()),
        (false, true) => Ok(MembershipChange::EnterJoint(steps)),
        (false, false) => Ok(MembershipChange::Steps(steps)),
    }
}

fn setting(words: &[&str]) -> Result<Setting, Wrong> {
    let (options, names): (Vec<&str>, Vec<&str>) =
        words.iter().copied().partition(|word| word.contains('='));
    let (voters, learners) = match names.iter().position(|word| *word == "learners") {
        Some(at) => (&names[..at], &names[at + 1..]),
        None => (&names[..], &[][..]),
    };
    for (at, name) in voters.iter().chain(learners).enumerate() {
        if server(name)? != at {
            return Err(format!("servers are named 1, 2, 3 and so on, voters first; not {name}"));
        }
    }
    if voters.is_empty() || voters.len() > 5 {
        return Err("one voter is the least, and five are the most".into());
    }
    let small = |names: &[&str]| u8::try_from(names.len()).expect("names are distinct digits");
    let mut setting = Setting {
        voters: small(voters),
        learners: small(learners),
        pre_vote: true,
        check_quorum: true,
        leases: false,
        is_slow: false,
        batch: None,
    };
    for option in options {
        match option.split_once('=') {
            Some(("pre_vote", "off")) => setting.pre_vote = false,
            Some(("check_quorum", "off")) => setting.check_quorum = false,
            Some(("leases", "on")) => setting.leases = true,
            Some(("disk", "slow")) => setting.is_slow = true,
            Some(("batch", entries)) if count(entries)? > 0 => {
                setting.batch = Some(count(entries)?)
            }
            Some(_) | None => return Err(format!("no option is called {option}")),
        }
    }
    Ok(setting)
}

/// A message by name: `[#ORDINAL] nFROM->nTO WORDS`. A filter has no `n` before its numbers.
fn named(words: &[&str]) -> Result<Option<Name>, Wrong> {
    let (ordinal, words) = match words.split_first() {
        Some((first, rest)) if first.starts_with('#') => (Some(count(&first[1..])?), rest),
        Some(_) | None => (None, words),
    };
    let is_name = words.first().is_some_and(|word| word.starts_with('n') && word.contains("->n"));
    match (ordinal, is_name) {
        (None, false) => Ok(None),
        (Some(0), _) => Err("the first one is #1".into()),
        (Some(_), false) => Err("the so-manyth of which messages?".into()),
        (ordinal, true) => Ok(Some(Name { ordinal: ordinal.unwrap_or(1), text: words.join(" ") })),
    }
}

fn filter(words: &[&str]) -> Result<Filter, Wrong> {
    let mut filter = Filter::default();
    for word in words {
        if let Some((from, to)) = word.split_once("->") {
            filter.ends.push((end(from)?, end(to)?));
        } else {
            let known = KINDS.iter().find(|kind| kind.to_string() == *word);
            filter.kinds.push(*known.ok_or_else(|| format!("no message is called {word}"))?);
        }
    }
    Ok(filter)
}

fn end(word: &str) -> Result<Option<u64>, Wrong> {
    if word.is_empty() { Ok(None) } else { server(word).map(|at| Some(member(at).id.0)) }
}

/// All kinds of messages, by the words that show them.
const KINDS: [RpcKind; 20] = [
    RpcKind::RequestPreVote,
    RpcKind::RequestPreVoteResponse,
    RpcKind::RequestVote,
    RpcKind::RequestVoteResponse,
    RpcKind::AppendEntries,
    RpcKind::AppendEntriesResponse,
    RpcKind::Commit,
    RpcKind::Heartbeat,
    RpcKind::HeartbeatResponse,
    RpcKind::InstallSnapshot,
    RpcKind::InstallSnapshotResponse,
    RpcKind::TimeoutNow,
    RpcKind::ReadIndex,
    RpcKind::ReadIndexResponse,
    RpcKind::Barrier,
    RpcKind::BarrierResponse,
    RpcKind::RequestEntry,
    RpcKind::RequestEntryResponse,
    RpcKind::RequestSnapshot,
    RpcKind::RequestSnapshotResponse,
];

fn some<'a>(words: &'a [&'a str]) -> Result<&'a [&'a str], Wrong> {
    if words.is_empty() { Err("which servers?".into()) } else { Ok(words) }
}

fn servers(words: &[&str]) -> Result<Vec<usize>, Wrong> {
    words.iter().map(|word| server(word)).collect()
}

/// The position of a server, from its number.
fn server(word: &str) -> Result<usize, Wrong> {
    let number = word.parse().ok().filter(|number| (1..=SERVERS_MAX).contains(number));
    number.map(|number| number - 1).ok_or_else(|| format!("no server is called {word}"))
}

/// A clock runs at one of two speeds.
fn beats(word: &str) -> Result<u8, Wrong> {
    let speed = word.parse().ok().filter(|beats| SPEEDS.contains(beats));
    speed.ok_or_else(|| format!("{word} is neither 1 nor 2 beats"))
}

fn count(word: &str) -> Result<usize, Wrong> {
    word.parse().map_err(|_| format!("{word} is no number"))
}
