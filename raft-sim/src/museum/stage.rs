//! Where stories are told: a subject, links that can be cut, letters that can be kept back, disks
//! that can be slow, and the watch that looks at everybody after every step.
//!
//! Disks write at once unless a story holds one, and nothing is delivered unless it says so. So a
//! story names what is unusual in it, and nothing else.

mod network;

use std::collections::{BTreeMap, BTreeSet};

use super::story::{Told, Untold, must};
use super::subject::{
    Claim, HEARTBEAT_US, Input, Outcome, ReadAnswer, Role, Setup, Step, Subject, View,
};
use super::watch::Watch;

/// A story in progress.
pub struct Stage<'a> {
    subject: &'a mut dyn Subject,
    watch: Watch,
    servers: BTreeSet<u64>,
    down: BTreeSet<u64>,
    /// Servers that have founded a group of their own: what they do in it is none of this group's.
    strangers: BTreeSet<u64>,
    /// Servers whose disks write only when told.
    slow: BTreeSet<u64>,
    /// Directed links that lose everything.
    cut: BTreeSet<(u64, u64)>,
    /// Letters that wait to be delivered by name.
    kept_back: BTreeSet<u64>,
    tickets: u64,
    /// The server at which each request was made.
    asked: BTreeMap<u64, u64>,
}

impl std::fmt::Debug for Stage<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stage").field("watch", &self.watch).finish_non_exhaustive()
    }
}

impl<'a> Stage<'a> {
    /// An empty stage for this subject.
    pub fn new(subject: &'a mut dyn Subject) -> Self {
        Self {
            subject,
            watch: Watch::default(),
            servers: BTreeSet::new(),
            down: BTreeSet::new(),
            strangers: BTreeSet::new(),
            slow: BTreeSet::new(),
            cut: BTreeSet::new(),
            kept_back: BTreeSet::new(),
            tickets: 0,
            asked: BTreeMap::new(),
        }
    }

    // --- The setting

    /// Starts a new cluster; what an earlier one on this stage did is forgotten.
    ///
    /// # Errors
    /// If what is seen at the start is wrong already.
    pub fn found(&mut self, setup: &Setup) -> Told {
        self.subject.found(setup);
        self.watch = Watch::default();
        for term in setup.logs.values().flatten() {
            self.watch.grant_term(*term);
        }
        self.servers = setup.voters.iter().chain(&setup.learners).copied().collect();
        self.down.clear();
        self.strangers.clear();
        self.slow.clear();
        self.cut.clear();
        self.kept_back.clear();
        self.asked.clear();
        self.check()
    }

    /// Starts a server that knows of nobody, in place of one with this number if there is one.
    ///
    /// # Errors
    /// If servers cannot be added.
    pub fn add(&mut self, server: u64) -> Told {
        self.subject.add(server)?;
        self.servers.insert(server);
        self.down.remove(&server);
        self.strangers.remove(&server);
        self.watch.forget(server);
        self.check()
    }

    /// A server loses its disk, and founds a new cluster of itself alone. The stage looks at it no
    /// more.
    ///
    /// # Errors
    /// If that cannot be done.
    pub fn found_alone(&mut self, server: u64) -> Told {
        self.subject.found_alone(server)?;
        self.down.remove(&server);
        self.strangers.insert(server);
        self.check()
    }

    // --- What servers are told

    /// Gives a server an input.
    ///
    /// # Errors
    /// If the subject cannot take it, or something is broken afterwards.
    pub fn input(&mut self, server: u64, input: &Input) -> Told {
        self.subject.input(server, input)?;
        self.check()
    }

    /// A server campaigns.
    ///
    /// # Errors
    /// If something is broken afterwards.
    pub fn campaign(&mut self, server: u64) -> Told {
        self.input(server, &Input::Campaign)
    }

    /// A server campaigns, everything is delivered, and it leads.
    ///
    /// # Errors
    /// If it does not lead.
    pub fn elect(&mut self, server: u64) -> Told {
        self.campaign(server)?;
        self.settle()?;
        must(self.leads(server), format_args!("n{server} is elected, for nothing hinders it"))
    }

    /// A client proposes a command; the name of the request.
    ///
    /// # Errors
    /// If something is broken afterwards.
    pub fn propose(&mut self, server: u64, command: &str) -> Result<u64, Untold> {
        let ticket = self.ticket(server);
        let command = command.as_bytes().to_vec();
        self.input(server, &Input::Propose { ticket, command })?;
        Ok(ticket)
    }

    /// A client proposes, everything is delivered, and the command is committed.
    ///
    /// # Errors
    /// If it is not.
    pub fn commit(&mut self, server: u64, command: &str) -> Told {
        let ticket = self.propose(server, command)?;
        self.settle()?;
        let outcome = self.outcome(ticket);
        let is_committed = matches!(outcome, Some(Outcome::Committed(_)));
        must(is_committed, format_args!("n{server} commits {command}: {outcome:?}"))
    }

    /// As [`Stage::commit`], at whoever leads; and everybody who is up applies the command.
    ///
    /// # Errors
    /// If nobody leads, or the command is not committed and applied within a few heartbeats.
    pub fn commit_somewhere(&mut self, command: &str) -> Told {
        let leader = self.leader();
        must(leader.is_some(), "somebody leads")?;
        self.commit(leader.unwrap_or_default(), command)?;
        self.run_for(5 * HEARTBEAT_US)?;
        let missing = self.up().into_iter().find(|server| !self.view(*server).has_applied(command));
        must(missing.is_none(), format_args!("everybody applies {command}: {missing:?}"))
    }

    /// A client reads; the name of the request.
    ///
    /// # Errors
    /// If the subject has no such reads.
    pub fn read(&mut self, server: u64, by_lease: bool) -> Result<u64, Untold> {
        let ticket = self.ticket(server);
        self.watch.read(ticket);
        self.input(server, &Input::Read { ticket, by_lease })?;
        Ok(ticket)
    }

    /// An operator changes the membership; the name of the request.
    ///
    /// # Errors
    /// If the subject cannot.
    pub fn change(&mut self, server: u64, steps: &[Step]) -> Result<u64, Untold> {
        let ticket = self.ticket(server);
        let change = Input::Change { ticket, steps: steps.to_vec(), is_explicit: false };
        self.input(server, &change)?;
        Ok(ticket)
    }

    /// An operator enters a joint membership and stays there; the name of the request.
    ///
    /// # Errors
    /// If the subject cannot.
    pub fn enter_joint(&mut self, server: u64, steps: &[Step]) -> Result<u64, Untold> {
        let ticket = self.ticket(server);
        let change = Input::Change { ticket, steps: steps.to_vec(), is_explicit: true };
        self.input(server, &change)?;
        Ok(ticket)
    }

    /// An operator ends a joint membership; the name of the request.
    ///
    /// # Errors
    /// If the subject cannot.
    pub fn leave_joint(&mut self, server: u64) -> Result<u64, Untold> {
        let ticket = self.ticket(server);
        self.input(server, &Input::LeaveJoint { ticket })?;
        Ok(ticket)
    }

    /// An operator hands the leadership over; the name of the request.
    ///
    /// # Errors
    /// If the subject cannot.
    pub fn transfer(&mut self, server: u64, to: u64) -> Result<u64, Untold> {
        let ticket = self.ticket(server);
        self.input(server, &Input::Transfer { ticket, to })?;
        Ok(ticket)
    }

    fn ticket(&mut self, server: u64) -> u64 {
        self.tickets += 1;
        self.asked.insert(self.tickets, server);
        self.tickets
    }

    // --- Disks and power

    /// From now on this disk writes only when told.
    pub fn hold_disk(&mut self, server: u64) {
        self.slow.insert(server);
    }

    /// Everything that this disk was asked for is written, and from now on at once.
    ///
    /// # Errors
    /// If something is broken afterwards.
    pub fn release_disk(&mut self, server: u64) -> Told {
        self.slow.remove(&server);
        self.check()
    }

    /// A held disk writes the oldest of what it was asked for.
    ///
    /// # Errors
    /// If something is broken afterwards.
    pub fn write(&mut self, server: u64, writes: usize) -> Told {
        self.subject.complete(server, writes);
        self.check()
    }

    /// The unfinished writes of a server, each as its number of pieces.
    #[must_use]
    pub fn writes(&self, server: u64) -> Vec<usize> {
        self.subject.writes(server)
    }

    /// A server loses its power, and everything that is not durable.
    ///
    /// # Errors
    /// If something is broken afterwards.
    pub fn crash(&mut self, server: u64) -> Told {
        self.crash_keeping(server, 0)
    }

    /// A server loses its power; of its unfinished writes so many pieces survive.
    ///
    /// # Errors
    /// If something is broken afterwards.
    pub fn crash_keeping(&mut self, server: u64, pieces: usize) -> Told {
        self.subject.crash(server, pieces);
        self.down.insert(server);
        self.watch.forget(server);
        self.check()
    }

    /// An entry on the disk of a server that is down cannot be read any more.
    ///
    /// # Errors
    /// If the subject cannot bear it.
    pub fn damage(&mut self, server: u64, index: u64) -> Told {
        self.subject.damage(server, index)
    }

    /// A server starts again. Its disk writes at once, unless it was held and still is.
    ///
    /// # Errors
    /// If it does not start from what is there.
    pub fn restart(&mut self, server: u64) -> Told {
        self.restart_claiming(server, Claim::default())
    }

    /// A server starts again with what its host claims to know.
    ///
    /// # Errors
    /// If it does not start from what is there.
    pub fn restart_claiming(&mut self, server: u64, claim: Claim) -> Told {
        self.subject.restart(server, claim)?;
        self.down.remove(&server);
        self.check()
    }

    /// A server loses everything that is not durable, and starts again with a disk that writes.
    ///
    /// # Errors
    /// If it does not start from what is there.
    pub fn reboot(&mut self, server: u64) -> Told {
        self.slow.remove(&server);
        self.crash(server)?;
        self.restart(server)
    }

    // --- Time

    /// The clocks of all servers move on by so much, in small steps, and the network delivers.
    ///
    /// # Errors
    /// If something is broken on the way.
    pub fn run_for(&mut self, span_us: u64) -> Told {
        self.run_until(span_us, |_| false).map(|_| ())
    }

    /// The clocks of all servers move on by so much at once, and nothing is delivered.
    ///
    /// # Errors
    /// If something is broken afterwards.
    pub fn run_idle(&mut self, span_us: u64) -> Told {
        for server in self.servers.clone() {
            self.input(server, &Input::Pass(span_us))?;
        }
        Ok(())
    }

    /// As [`Stage::run_for`], until something is so; whether it came to be.
    ///
    /// # Errors
    /// If something is broken on the way.
    pub fn run_until(
        &mut self,
        span_us: u64,
        is_so: impl Fn(&Self) -> bool,
    ) -> Result<bool, Untold> {
        let step = HEARTBEAT_US / 4;
        for _ in 0..span_us / step {
            if is_so(self) {
                return Ok(true);
            }
            for server in self.servers.clone() {
                self.input(server, &Input::Pass(step))?;
            }
            self.settle()?;
        }
        Ok(is_so(self))
    }

    // --- What can be seen

    /// A server.
    #[must_use]
    pub fn view(&self, server: u64) -> View {
        self.subject.view(server)
    }

    /// The servers of the group, without those that are down.
    #[must_use]
    pub fn up(&self) -> Vec<u64> {
        let is_here = |server: &&u64| !self.strangers.contains(server);
        self.servers.difference(&self.down).filter(is_here).copied().collect()
    }

    /// Whether a server leads.
    #[must_use]
    pub fn leads(&self, server: u64) -> bool {
        self.view(server).role == Role::Leader
    }

    /// The leader of the highest term that has one.
    #[must_use]
    pub fn leader(&self) -> Option<u64> {
        let leaders = self.up().into_iter().filter(|server| self.leads(*server));
        leaders.max_by_key(|server| self.view(*server).term)
    }

    /// The commit index of a server.
    #[must_use]
    pub fn commit_of(&self, server: u64) -> u64 {
        self.view(server).commit
    }

    /// The highest index that anybody has applied or that a client was told about.
    #[must_use]
    pub fn committed(&self) -> u64 {
        self.watch.committed()
    }

    /// How a request ended, if it did.
    #[must_use]
    pub fn outcome(&self, ticket: u64) -> Option<Outcome> {
        let server = self.asked.get(&ticket)?;
        self.view(*server).outcomes.get(&ticket).cloned()
    }

    /// Whether a request was refused.
    #[must_use]
    pub fn is_refused(&self, ticket: u64) -> bool {
        matches!(self.outcome(ticket), Some(Outcome::Refused(_)))
    }

    /// The answer to a read, if it may be given by now.
    #[must_use]
    pub fn answer(&self, ticket: u64) -> Option<ReadAnswer> {
        let view = self.view(*self.asked.get(&ticket)?);
        let answer = view.reads.get(&ticket)?;
        let is_valid = answer.valid_until_us.is_none_or(|until| view.clock_us < until);
        is_valid.then_some(*answer)
    }

    /// Lets disks that are not held write, and looks at everybody.
    fn check(&mut self) -> Told {
        loop {
            let mut is_idle = true;
            for server in self.servers.difference(&self.slow).copied().collect::<Vec<_>>() {
                let writes = self.subject.writes(server).len();
                if writes > 0 {
                    is_idle = false;
                    self.subject.complete(server, writes);
                }
            }
            for server in self.up() {
                let view = self.subject.view(server);
                self.watch.look(server, &view)?;
            }
            if is_idle {
                return Ok(());
            }
        }
    }
}
