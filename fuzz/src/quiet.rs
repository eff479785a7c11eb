//! Stretches of a life without choices: some or all servers do all that there is to do.

use raft_core::{Body, RoleName, Time};

use crate::cluster::Cluster;
use crate::dice::Dice;
use crate::server::{Left, Server};

impl Cluster {
    /// The worst order of effects, for so many of them.
    pub(crate) fn rush(&mut self, things: usize, seed: u8) {
        let mut dice = Dice::new(u64::from(seed));
        for _ in 0..things {
            let choice = dice.below(1 << 24);
            let late = |server: &Server| !server.jobs.is_empty() || !server.unapplied.is_empty();
            if self.frame(|_| true).is_some() {
                self.deliver(choice, choice >> 20 == 0);
            } else if let Some(at) = self.find(choice, late) {
                self.work(at, choice);
                self.apply(at, 1);
            } else if let Some(at) = self.find(choice, Server::owes_word) {
                self.tell(at);
            } else if let Some(at) = self.find(choice, |server| !server.unsynced.is_empty()) {
                self.sync(at, 1);
            } else {
                self.fire_earliest();
            }
        }
    }

    /// Everything that is under way happens, until nothing is. A server that is cut off takes no
    /// part: frames from it and to it are lost.
    pub(crate) fn settle(&mut self, cut_off: Option<usize>) {
        let cut_off = cut_off.map(|at| self.server(at));
        let cut = cut_off.map(|at| self.member(at));
        for _ in 0..2000 {
            let mut is_quiet = true;
            for at in (0..self.servers.len()).filter(|&at| Some(at) != cut_off) {
                is_quiet &= self.servers[at].is_idle();
                self.do_work(at);
            }
            if self.frame(|_| true).is_some() {
                is_quiet = false;
                let is_cut = |envelope: &raft_core::Envelope| {
                    cut == Some(envelope.from) || cut == Some(envelope.to)
                };
                if self.frame(is_cut) == Some(0) {
                    self.lose(0);
                } else {
                    self.deliver(0, false);
                }
            }
            if is_quiet {
                return;
            }
        }
        panic!("a cluster without faults comes to rest");
    }

    /// Two servers do all their work and hear each other, until they have nothing to say.
    pub(crate) fn talk(&mut self, one: usize, two: usize) {
        let pair = [self.server(one), self.server(two)];
        let members = pair.map(|at| self.member(at));
        for _ in 0..500 {
            for at in pair {
                self.do_work(at);
            }
            let between = self.frame(|envelope| {
                members.contains(&envelope.from) && members.contains(&envelope.to)
            });
            match between {
                Some(position) => self.deliver(position, false),
                None if pair.iter().all(|at| self.servers[*at].is_idle()) => return,
                None => {}
            }
        }
        panic!("two servers come to rest");
    }

    /// A server sends heartbeats, one peer answers, and a client reads by the lease.
    pub(crate) fn borrow_time(&mut self, at: usize, to: usize) {
        let at = self.server(at);
        self.fire(at);
        self.talk(at, to);
        self.read(at, true);
    }

    /// All faults end: a command is committed, everyone learns of it, every request has ended.
    pub(crate) fn heal(&mut self) {
        for at in 0..self.servers.len() {
            if self.servers[at].raft.status().role == RoleName::Halted {
                self.crash(at, Left { whole: usize::MAX - 1, steps: 0, state: false });
            }
            self.step(at, Body::DiskFull { is_full: false });
        }
        self.settle(None);
        let before = self.life.commits;
        for _ in 0..200 {
            if self.life.commits > before {
                break;
            }
            self.fire_member();
            self.settle(None);
            if let Some(at) = self.leader() {
                self.propose(at, 1, 0);
                self.settle(None);
            }
        }
        let nodes = self.servers.iter().map(|server| server.raft.status()).collect::<Vec<_>>();
        assert!(self.life.commits > before, "a healed cluster commits: {nodes:#?}");
        self.check_rest();
    }

    /// After some heartbeats, every member has applied what is committed and owes no outcome.
    fn check_rest(&mut self) {
        let committed = self.ghost.last_committed();
        for _ in 0..40 {
            self.fire_member();
            self.settle(None);
        }
        let leader = self.leader().expect("somebody leads");
        let membership = self.servers[leader].raft.status().membership;
        for server in &self.servers {
            if membership.is_member(server.member()) {
                let status = server.raft.status();
                assert!(status.applied >= committed, "everyone catches up: {status:?}");
                assert!(!server.disk.is_hurt(), "everyone is whole again: {status:?}");
                assert!(server.open.is_empty(), "every request ends: {:?}", server.open);
            }
        }
        self.ghost.check_losses();
    }

    fn do_work(&mut self, at: usize) {
        self.sync(at, usize::MAX);
        if self.servers[at].owes_word() {
            self.tell(at);
        }
        self.work(at, 0);
        self.apply(at, 1);
    }

    fn fire_earliest(&mut self) {
        self.fire_first(|_| true);
    }

    /// Who is removed is switched off when the faults end: without pre-votes nothing else keeps it
    /// from disturbing the others (§6).
    fn fire_member(&mut self) {
        let ghost = self.ghost.clone();
        self.fire_first(|server| ghost.is_member(server.member()));
    }

    fn fire_first(&mut self, is: impl Fn(&Server) -> bool) {
        let deadline = |at: &usize| self.deadline(*at).unwrap_or(Time(u64::MAX));
        let among = (0..self.servers.len()).filter(|at| is(&self.servers[*at]));
        if let Some(at) = among.min_by_key(deadline) {
            self.fire(at);
        }
    }

    /// The leader of the latest term.
    pub(crate) fn leader(&self) -> Option<usize> {
        let age = |at: &usize| {
            let status = self.servers[*at].raft.status();
            (status.epoch, status.term)
        };
        let leads = |at: &usize| self.servers[*at].raft.status().role == RoleName::Leader;
        (0..self.servers.len()).filter(leads).max_by_key(age)
    }

    /// One of the servers of which something is true.
    fn find(&self, choice: usize, is: impl Fn(&Server) -> bool) -> Option<usize> {
        let count = self.servers.len();
        (0..count).map(|step| (choice + step) % count).find(|&at| is(&self.servers[at]))
    }
}
