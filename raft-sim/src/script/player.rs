//! Plays commands: servers, a network that forgets nothing, and a witness of every step.

use std::sync::Arc;

use raft_core::{Effect, Envelope, MemberStep, MembershipChange, RecoveredState, RoleName, Slot};

use super::language::{Ask, Command, Filter, Name, Setting, Wrong};
use super::tables;
use super::words::told_loss;
use crate::explore::bounds::{Bounds, member, position};
use crate::explore::demand::Demand;
use crate::explore::facts::{self, Broken};
use crate::explore::ghost::Ghost;
use crate::explore::host::{Host, Input};
use crate::explore::past::Kept;
use crate::explore::start::Start;
use crate::ideal_disk::{Disk, Loss};
use crate::run;

/// Why a command is the last one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// It makes no sense.
    Wrong(Wrong),
    /// It breaks an invariant.
    Broken(Broken),
}

/// One step of one server, for those who tell of it.
#[derive(Clone, Debug)]
pub(super) struct Taken {
    pub(super) at: usize,
    pub(super) input: Input,
    pub(super) effects: Vec<Effect>,
    pub(super) before: Arc<Host>,
    pub(super) after: Arc<Host>,
}

/// A message that was sent.
#[derive(Clone, Debug)]
struct Letter {
    envelope: Arc<Envelope>,
    /// It may arrive again, by name.
    has_arrived: bool,
}

/// A story so far.
#[derive(Clone, Debug)]
pub(super) struct Player {
    cluster: Bounds,
    hosts: Vec<Arc<Host>>,
    /// Oldest first, each once.
    letters: Vec<Letter>,
    /// Whose disks wait for `persist`.
    slow: Vec<bool>,
    ghost: Ghost,
    /// The landmarks that what follows must reach.
    demands: Vec<Demand>,
    /// The lines that the present command has to tell.
    told: Vec<String>,
    /// The steps that it has led to.
    taken: Vec<Taken>,
}

/// Commands, reads and so on are numbered, in the names of their tickets too, which leave room for
/// so many.
const NUMBERED_MAX: u8 = 99;

/// A command that leads to more steps than this does not come to rest.
const STEPS_MAX: usize = 1_000;

impl Player {
    pub(super) fn new(setting: &Setting) -> Self {
        let cluster = Bounds {
            nodes: setting.voters,
            learners: setting.learners,
            pre_vote: setting.pre_vote,
            check_quorum: setting.check_quorum,
            leases: setting.leases,
            ..Bounds::default()
        };
        let start = Start::founded(&cluster, |config| {
            config.append_entries_max = setting.batch.unwrap_or(config.append_entries_max);
        });
        Self {
            slow: vec![setting.is_slow; start.hosts.len()],
            hosts: start.hosts.into_iter().map(Arc::new).collect(),
            letters: Vec::new(),
            ghost: start.ghost,
            demands: Vec::new(),
            cluster,
            told: Vec::new(),
            taken: Vec::new(),
        }
    }

    /// Where the story has led to.
    pub(super) fn start(self) -> Start {
        let here = |host: Arc<Host>| {
            let mut host = Host::clone(&host);
            // What the bounds speak of begins now.
            (host.campaigns, host.heartbeats) = (0, 0);
            (host.questions, host.patiences) = (0, 0);
            host
        };
        let as_it_is = (0..self.hosts.len()).collect();
        let letters = (0..self.letters.len()).collect();
        Start {
            cluster: self.cluster,
            demands: self.demands,
            exchanges: vec![Kept { exchange: as_it_is, letters }],
            hosts: self.hosts.into_iter().map(here).collect(),
            letters: self.letters.into_iter().map(|letter| letter.envelope).collect(),
            ghost: self.ghost,
        }
    }

    /// The lines and the steps since they were last asked for.
    pub(super) fn heard(&mut self) -> (Vec<String>, Vec<Taken>) {
        (std::mem::take(&mut self.told), std::mem::take(&mut self.taken))
    }

    /// Servers whose disks do not wait.
    pub(super) fn fast(&self) -> Vec<usize> {
        (0..self.slow.len()).filter(|at| !self.slow[*at]).collect()
    }

    /// Executes one command; what it tells is kept, also if it is the last one.
    ///
    /// # Errors
    /// What is wrong with it, or with the cluster.
    pub(super) fn execute(&mut self, command: &Command) -> Result<(), Stop> {
        match command {
            Command::Cluster(_) => return wrong("the cluster is there already"),
            Command::Ask(at, ask) => {
                let input = self.input(*at, ask).map_err(Stop::Wrong)?;
                self.give(*at, input)?;
            }
            Command::Deliver { filter, is_round } => self.deliver(filter, *is_round)?,
            Command::Hand(name) => {
                let fits = |at: &usize| name.fits(&self.letters[*at].envelope);
                let letter = (0..self.letters.len()).filter(fits).nth(name.ordinal - 1);
                let Some(letter) = letter else { return wrong(format!("no message is {name}")) };
                self.arrives(letter)?;
            }
            Command::Drop(filter) => self.drop(filter),
            Command::Pace { servers, is_slow } => {
                for at in servers {
                    self.has(*at).map_err(Stop::Wrong)?;
                    self.slow[*at] = *is_slow;
                    self.sync(*at)?;
                }
            }
            Command::Reach(text) => {
                let demand = Demand::read(text);
                let Some(demand) = demand else { return wrong(format!("no landmark: {text}")) };
                self.demands.push(demand);
            }
            Command::Network => {
                let moving = self.letters.iter().filter(|letter| !letter.has_arrived);
                self.told.extend(moving.map(|letter| format!("  {}", letter.envelope)));
            }
            Command::Status(servers) => {
                servers.iter().try_for_each(|at| self.has(*at)).map_err(Stop::Wrong)?;
                self.told.extend(tables::status(&self.hosts, servers));
            }
            Command::Logs => self.told.extend(tables::logs(&self.hosts)),
            Command::Quietly(command) => {
                let told = self.told.len();
                self.execute(command)?;
                self.told.truncate(told);
            }
        }
        Ok(())
    }

    /// The name of a message that has been sent.
    pub(super) fn name(&self, wanted: &Envelope) -> Option<Name> {
        let mut name = Name { ordinal: 0, text: wanted.to_string() };
        for letter in &self.letters {
            name.ordinal += usize::from(name.fits(&letter.envelope));
            if *letter.envelope == *wanted {
                return Some(name);
            }
        }
        None
    }

    /// How many batches are on their way to a disk.
    pub(super) fn unsynced(&self, at: usize) -> usize {
        self.hosts[at].unsynced.len()
    }

    /// How many of them come up to this number.
    pub(super) fn unsynced_through(&self, at: usize, number: u64) -> usize {
        let hosts = self.hosts.get(at).into_iter();
        hosts.flat_map(|host| &host.unsynced).filter(|batch| batch.seq.n <= number).count()
    }

    /// The role of a server.
    pub(super) fn role(&self, at: usize) -> Option<RoleName> {
        self.hosts.get(at).map(|host| host.raft.status().role)
    }

    /// The message here that looks most like one from elsewhere: of the same kind and term and
    /// between the same servers. Of those that do equally, one that is on its way, the oldest.
    pub(super) fn most_like(&self, wanted: &Envelope) -> Option<Name> {
        let is_kind = |one: &Envelope| {
            let ends = (one.from.id, one.to.id) == (wanted.from.id, wanted.to.id);
            ends && one.term == wanted.term && one.rpc.kind() == wanted.rpc.kind()
        };
        let shown = wanted.to_string();
        let words = |one: &Envelope| {
            let one = one.to_string();
            let pairs = one.split(' ').zip(shown.split(' '));
            pairs.filter(|(mine, theirs)| mine == theirs).count()
        };
        let letters = self.letters.iter().rev().filter(|letter| is_kind(&letter.envelope));
        let best = letters.max_by_key(|letter| (words(&letter.envelope), !letter.has_arrived))?;
        self.name(&best.envelope)
    }

    /// What a crash must have written of what was on its way for a disk to be as it was found.
    pub(super) fn crash_that_leaves(
        &self,
        at: usize,
        found: &RecoveredState,
    ) -> Option<(usize, usize)> {
        let host = self.hosts.get(at)?;
        let last = found.slots.last().map_or(found.before, Slot::id);
        let (term, vote) = (found.hard_state.term, found.hard_state.vote.map(|vote| vote.id));
        let ways = (0..=host.unsynced.len()).flat_map(|whole| {
            let pieces = host.unsynced.get(whole).map_or(0, Disk::pieces);
            (0..pieces.max(1)).map(move |pieces| (whole, pieces))
        });
        ways.into_iter().find(|&(whole, pieces)| {
            let left = host.left(whole, pieces);
            let state = left.hard_state();
            left.last() == last && (state.term, state.vote.map(|vote| vote.id)) == (term, vote)
        })
    }

    fn has(&self, at: usize) -> Result<(), Wrong> {
        if at < self.hosts.len() { Ok(()) } else { Err(format!("there is no server {}", at + 1)) }
    }

    /// What a server is given, if it can be.
    fn input(&self, at: usize, ask: &Ask) -> Result<Input, Wrong> {
        self.has(at)?;
        let (host, spent) = (&self.hosts[at], self.ghost.spent);
        let next = |spent: u8| {
            let is_free = spent < NUMBERED_MAX;
            if is_free {
                Ok(spent + 1)
            } else {
                Err(format!("{NUMBERED_MAX} of these are the most"))
            }
        };
        Ok(match ask {
            Ask::Campaign => Input::Campaign,
            Ask::StepDown => Input::StepDown,
            Ask::Pass { beats } => Input::Pass { beats: *beats },
            Ask::Fire => {
                let deadline = host.raft.next_deadline();
                deadline.map(|_| Input::Fire).ok_or("no timer of it is armed")?
            }
            Ask::Silence => Input::Silence,
            Ask::Patience => Input::Patience,
            Ask::Propose => Input::Propose { number: next(spent.entries)? },
            Ask::Read => Input::Read { number: next(spent.reads)? },
            Ask::Transfer { to } => {
                self.has(*to)?;
                Input::Transfer { number: next(spent.transfers)?, to: member(*to).id.0 }
            }
            Ask::Change(change) => {
                self.knows(change)?;
                Input::Change { number: next(spent.changes)?, change: change.clone() }
            }
            Ask::Snapshot => {
                next(spent.snapshots)?;
                let status = host.raft.status();
                if status.applied <= status.snapshot.index {
                    return Err("nothing is applied that its snapshot lacks".into());
                }
                Input::Snapshot
            }
            Ask::Damage(index) => {
                next(spent.damages)?;
                if !host.disk.losses().contains(&Loss::Entry(*index)) {
                    return Err("its disk has no such thing to lose".into());
                }
                Input::Damage { index: *index }
            }
            Ask::Persist(batches) => {
                let (all, batches) = (host.unsynced.len(), batches.unwrap_or(host.unsynced.len()));
                if batches == 0 || batches > all {
                    return Err(format!("{all} batches are on their way to its disk"));
                }
                Input::Persist { batches }
            }
            Ask::Crash { whole, pieces, loss, commit } => {
                next(spent.crashes)?;
                let most = host.unsynced.get(*whole).map(Disk::pieces);
                if *whole > host.unsynced.len() || *pieces > most.unwrap_or(0) {
                    return Err("it has not written as much".into());
                }
                let left = host.left(*whole, *pieces);
                if loss.is_some_and(|loss| !left.losses().contains(&loss)) {
                    return Err("its disk has no such thing to lose".into());
                }
                if commit.0 > 0 && !host.commits(&left, *loss).any(|known| known == *commit) {
                    return Err("it cannot say that as much is committed".into());
                }
                Input::Crash { whole: *whole, pieces: *pieces, loss: *loss, commit: *commit }
            }
        })
    }

    /// Whether a change speaks of servers that are there.
    pub(super) fn knows(&self, change: &MembershipChange) -> Result<(), Wrong> {
        let steps = match change {
            MembershipChange::Steps(steps) | MembershipChange::EnterJoint(steps) => steps,
            MembershipChange::LeaveJoint => return Ok(()),
        };
        let last = member(self.hosts.len() - 1).id;
        let is_there = |step: &MemberStep| match step {
            MemberStep::AddLearner(member) => member.id <= last,
            MemberStep::Promote(id) | MemberStep::Demote(id) | MemberStep::Remove(id) => {
                *id <= last
            }
            MemberStep::Replace { old, new } => *old <= last && *new <= last,
        };
        let is_known = steps.iter().all(is_there);
        if is_known { Ok(()) } else { Err(format!("{last} is the last server")) }
    }

    /// Gives a server an input, and what its disk says at once if it does not wait.
    fn give(&mut self, at: usize, input: Input) -> Result<(), Stop> {
        self.take(at, input).map_err(Stop::Broken)?;
        self.sync(at)
    }

    fn sync(&mut self, at: usize) -> Result<(), Stop> {
        while !self.slow[at] && self.unsynced(at) > 0 {
            if self.taken.len() > STEPS_MAX {
                return wrong("the cluster does not come to rest");
            }
            let batches = self.unsynced(at);
            self.take(at, Input::Persist { batches }).map_err(Stop::Broken)?;
        }
        Ok(())
    }

    /// Takes one step, tells it, and judges it.
    pub(super) fn take(&mut self, at: usize, input: Input) -> Result<(), Broken> {
        if let Input::Crash { whole, pieces, loss, .. } = input {
            self.tell_loss(at, whole, pieces);
            self.told.extend(loss.map(|loss| told_loss(at, loss)));
        }
        if let Input::Damage { index } = input {
            self.told.push(told_loss(at, Loss::Entry(index)));
        }
        let before = Arc::clone(&self.hosts[at]);
        let mut after = Host::clone(&before);
        let effects = match run::quietly(|| after.take(&input)) {
            Ok(effects) => effects,
            Err(message) => {
                let (effects, after) = (Vec::new(), Arc::clone(&before));
                self.taken.push(Taken { at, input, effects, before, after });
                return Err(facts::panicked(&message));
            }
        };
        let facts = facts::of_step(Some(&before), Some(&input), &effects, &after);
        let after = Arc::new(after);
        self.hosts[at] = Arc::clone(&after);
        self.ghost.spent.count(&input);
        // Where all disks wait, that is no news.
        let waits = self.slow[at] && self.slow.contains(&false);
        for effect in &effects {
            let is_waiting = waits && matches!(effect, Effect::Persist(_));
            let note = if is_waiting { " (not durable yet)" } else { "" };
            self.told.push(format!("  n{} {effect}{note}", at + 1));
            if let Effect::Send(envelope) = effect {
                self.send(envelope);
            }
        }
        self.taken.push(Taken { at, input, effects, before, after });
        self.ghost.witness(at, &facts?, &self.hosts)
    }

    /// A message that is sent a second time is on its way again.
    fn send(&mut self, envelope: &Envelope) {
        match self.letters.iter_mut().find(|letter| *letter.envelope == *envelope) {
            Some(letter) => letter.has_arrived = false,
            None => {
                let envelope = Arc::new(envelope.clone());
                self.letters.push(Letter { envelope, has_arrived: false });
            }
        }
    }

    fn tell_loss(&mut self, at: usize, whole: usize, pieces: usize) {
        for (place, batch) in self.hosts[at].unsynced.iter().enumerate().skip(whole) {
            let kept = if place == whole { pieces } else { 0 };
            let how = match kept {
                0 => "forgets".to_owned(),
                kept => format!("keeps {kept} of {} pieces of", Disk::pieces(batch)),
            };
            self.told.push(format!("  n{} {how} {batch}", at + 1));
        }
    }

    /// Delivers the oldest message that moves and passes, again and again; in a round, only those
    /// that move now.
    fn deliver(&mut self, filter: &Filter, is_round: bool) -> Result<(), Stop> {
        let is_next = |letter: &Letter| !letter.has_arrived && filter.passes(&letter.envelope);
        let round: Vec<usize> =
            (0..self.letters.len()).filter(|at| is_next(&self.letters[*at])).collect();
        let mut round = round.into_iter();
        let first = self.taken.len();
        loop {
            let next = if is_round { round.next() } else { self.letters.iter().position(is_next) };
            let Some(next) = next else { return Ok(()) };
            if self.taken.len() - first > STEPS_MAX {
                return wrong("the cluster does not come to rest");
            }
            let letter = &self.letters[next].envelope;
            let (from, to, kind) = (letter.from, letter.to, letter.rpc.kind());
            self.told.push(format!("{from}->{to} {kind}"));
            self.arrives(next)?;
        }
    }

    fn arrives(&mut self, letter: usize) -> Result<(), Stop> {
        let letter = &mut self.letters[letter];
        letter.has_arrived = true;
        let to = position(letter.envelope.to);
        let input = Input::Deliver(Arc::clone(&letter.envelope));
        self.give(to, input)
    }

    /// Loses every copy of what passes, also of what has arrived.
    fn drop(&mut self, filter: &Filter) {
        let told = &mut self.told;
        self.letters.retain(|letter| {
            let is_lost = filter.passes(&letter.envelope);
            if is_lost && !letter.has_arrived {
                told.push(format!("lost    {}", letter.envelope));
            }
            !is_lost
        });
    }
}

fn wrong<T>(what: impl Into<Wrong>) -> Result<T, Stop> {
    Err(Stop::Wrong(what.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::language::command;

    #[test]
    fn a_disk_that_forgets_is_told_of() {
        let setting = command("cluster 1 2 3 pre_vote=off").expect("it is a command");
        let Command::Cluster(setting) = setting else { panic!("it is a cluster") };
        let mut player = Player::new(&setting);
        for text in ["fire 1", "round 1->2"] {
            player.execute(&command(text).expect("it is a command")).expect("nothing is broken");
        }
        // n2 has voted for n1. It comes back with an empty disk.
        let mut other = Host::clone(&player.hosts[1]);
        other.disk = Disk::new(player.cluster.genesis());
        player.hosts[1] = Arc::new(other);
        let crash = command("crash 2").expect("it is a command");
        player.execute(&crash).expect("an empty disk by itself breaks nothing");
        for text in ["fire 3", "deliver 3->2"] {
            let done = player.execute(&command(text).expect("it is a command"));
            done.expect("a second vote by itself breaks nothing");
        }
        let ends = player.execute(&command("deliver").expect("it is a command"));
        let what = "t1 is led by n3 and by n1".to_owned();
        assert_eq!(ends, Err(Stop::Broken(Broken { id: "ES", what })));
    }

    #[test]
    fn a_step_that_panics_is_the_last_one() {
        let setting = command("cluster 1 2 3 pre_vote=off").expect("it is a command");
        let Command::Cluster(setting) = setting else { panic!("it is a cluster") };
        let mut player = Player::new(&setting);
        // Nothing is on its way to the disk.
        let broken = player.take(0, Input::Persist { batches: 1 }).expect_err("it panics");
        assert_eq!(broken.id, "PANIC");
        let (_, taken) = player.heard();
        assert_eq!(taken.len(), 1, "it is told");
    }
}
