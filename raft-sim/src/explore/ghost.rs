//! The history of the group, as nobody in it can see it, and the invariants that speak of it.
//!
//! It is part of an explored state: two ways to one cluster that differ in what has been committed,
//! acknowledged or led are two states.

mod held;

use std::sync::Arc;

use raft_core::{EntryId, Index, Member, Membership, RoleName, Term, Ticket};

use super::facts::{Broken, Fact, broken};
use super::host::Host;
use super::spent::Spent;

/// What has happened, and what was spent of the bounds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Ghost {
    /// No server will begin to lead this term or an earlier one.
    pub(crate) closed: Term,
    /// Who led which later term.
    leaders: Vec<(Term, u8)>,
    /// Every committed entry, from index 1, each with the term in which a leader counted it, or a
    /// later one as long as all those between have been led.
    committed: Vec<(EntryId, Term)>,
    /// Commands whose clients wait at a server, each with the entry that it became.
    proposed: Vec<(Ticket, u8, EntryId)>,
    /// Reads that wait at a server, each with the index that its answer must reach.
    reads: Vec<(Ticket, u8, Index)>,
    /// Entries that were durable at a server before its disk lost them, in order. What it said of
    /// them was true, and a leader may count it. Once the doubt is over, they are back or superseded.
    lost: Vec<(u8, EntryId)>,
    pub(crate) spent: Spent,
}

impl Ghost {
    /// Whether facts of this kind can be told without looking at the other servers: the history and
    /// the server after its step decide.
    pub(crate) fn is_alone(facts: &[Fact]) -> bool {
        facts.iter().all(|fact| match fact {
            Fact::Counts { .. }
            | Fact::Appends(_)
            | Fact::Leads
            | Fact::Lends
            | Fact::Knows { .. }
            | Fact::Believes(_)
            | Fact::Rewrites
            | Fact::Discards { .. } => false,
            Fact::Commits(_)
            | Fact::Reconfigures
            | Fact::Truncates(_)
            | Fact::Applies(_)
            | Fact::Restores(_)
            | Fact::Proposes { .. }
            | Fact::Acknowledges { .. }
            | Fact::Supersedes(_)
            | Fact::Asks(_)
            | Fact::Answers { .. }
            | Fact::Ends(_)
            | Fact::Restarts
            | Fact::Loses(_) => true,
        })
    }

    /// Whether facts of this kind can be told as soon as the other servers bear them out
    /// ([`Self::compare`]): nothing else hangs on these.
    pub(crate) fn is_compared(facts: &[Fact]) -> bool {
        let is_compared = |fact: &Fact| {
            let is_held = matches!(fact, Fact::Believes(_) | Fact::Rewrites);
            is_held || matches!(fact, Fact::Counts { .. } | Fact::Appends(_))
        };
        let others: Vec<Fact> = facts.iter().filter(|fact| !is_compared(fact)).cloned().collect();
        let counts = facts.iter().filter(|fact| matches!(fact, Fact::Counts { .. })).count();
        // What is counted is compared with the history before the step.
        let changes_it = |fact: &Fact| matches!(fact, Fact::Loses(_) | Fact::Knows { .. });
        counts <= 1 && Self::is_alone(&others) && !facts.iter().any(changes_it)
    }

    /// Whether the other servers bear out facts of such a kind.
    ///
    /// # Errors
    /// The invariant that they break.
    pub(crate) fn compare(&self, at: usize, facts: &[Fact], hosts: &[&Host]) -> Result<(), Broken> {
        for fact in facts {
            if let Fact::Appends(ids) = fact {
                log_matching(at, ids, hosts)?;
            }
            if let Fact::Believes(beliefs) = fact {
                held::is_believed(hosts[at], beliefs, hosts)?;
            }
            if *fact == Fact::Rewrites {
                held::is_kept(at, hosts)?;
            }
            if let Fact::Counts { id, quorum } = fact {
                self.may_count(*id, quorum, hosts[at], hosts)?;
            }
        }
        Ok(())
    }

    /// Takes what a step of one server means.
    ///
    /// # Errors
    /// The invariant that it breaks.
    pub(crate) fn witness(
        &mut self,
        at: usize,
        facts: &[Fact],
        hosts: &[Arc<Host>],
    ) -> Result<(), Broken> {
        let actor = u8::try_from(at).expect("a handful of servers");
        let hosts: Vec<&Host> = hosts.iter().map(AsRef::as_ref).collect();
        let hosts = &hosts[..];
        for fact in facts {
            match fact {
                Fact::Leads => {
                    self.leads(actor, hosts[at])?;
                    lease_lasts(at, hosts)?;
                }
                Fact::Lends => lease_lasts(at, hosts)?,
                Fact::Appends(ids) => log_matching(at, ids, hosts)?,
                Fact::Truncates(ids) => self.truncates(ids)?,
                Fact::Commits(id) => self.commits(*id, hosts[at])?,
                Fact::Counts { id, quorum } => self.counts(*id, quorum, hosts[at], hosts)?,
                Fact::Applies(ids) => self.applies(ids)?,
                Fact::Restores(id) => self.applies(&[*id])?,
                Fact::Proposes { ticket, id } => self.proposed.push((*ticket, actor, *id)),
                Fact::Acknowledges { ticket, term, index } => {
                    self.acknowledges(*ticket, *term, *index)?;
                }
                Fact::Supersedes(ticket) => self.supersedes(*ticket)?,
                Fact::Asks(ticket) => self.reads.push((*ticket, actor, self.last())),
                Fact::Answers { ticket, index } => self.answers(*ticket, *index)?,
                Fact::Ends(ticket) => self.ends(*ticket),
                Fact::Restarts => self.restarts(actor),
                Fact::Loses(ids) => self.loses(actor, ids),
                Fact::Knows { through } => {
                    held::is_equal(at, *through, hosts)?;
                    self.lost.retain(|(by, _)| *by != actor);
                }
                Fact::Believes(beliefs) => held::is_believed(hosts[at], beliefs, hosts)?,
                Fact::Rewrites => held::is_kept(at, hosts)?,
                Fact::Discards { id, voters } => self.discards(*id, voters, hosts)?,
                Fact::Reconfigures => self.reconfigures(hosts[at])?,
            }
        }
        self.forget();
        Ok(())
    }

    /// The same history with the names of servers exchanged.
    pub(crate) fn exchanged(&self, places: &[usize]) -> Self {
        let place =
            |server: u8| u8::try_from(places[usize::from(server)]).expect("a handful of servers");
        let mut history = self.clone();
        for (_, leader) in &mut history.leaders {
            *leader = place(*leader);
        }
        for (_, server, _) in &mut history.reads {
            *server = place(*server);
        }
        for (_, server, _) in &mut history.proposed {
            *server = place(*server);
        }
        for (server, _) in &mut history.lost {
            *server = place(*server);
        }
        history.lost.sort_unstable();
        history
    }

    /// A request ends. What it was is of no interest any more.
    fn ends(&mut self, ticket: Ticket) {
        self.reads.retain(|(open, ..)| *open != ticket);
        self.proposed.retain(|(open, ..)| *open != ticket);
    }

    fn restarts(&mut self, actor: u8) {
        self.reads.retain(|(_, server, _)| *server != actor);
        self.proposed.retain(|(_, server, _)| *server != actor);
    }

    fn loses(&mut self, actor: u8, ids: &[EntryId]) {
        self.lost.extend(ids.iter().map(|id| (actor, *id)));
        self.lost.sort_unstable();
        self.lost.dedup();
    }

    /// Whether an entry is known to be committed.
    pub(crate) fn is_committed(&self, id: EntryId) -> bool {
        self.at(id.index) == Some(id)
    }

    /// Nobody will begin to lead a term through this one: who did is asked no more, nor whether an
    /// entry was counted before it.
    pub(crate) fn close(&mut self, term: Term) {
        self.closed = self.closed.max(term);
        self.leaders.retain(|(led, _)| *led > term);
        for (_, counted) in &mut self.committed {
            *counted = (*counted).max(term);
        }
        self.forget();
    }

    /// In which term an entry was counted is asked when a later term gets its leader, so a term that
    /// has one already says as much as the one before it.
    fn forget(&mut self) {
        for (_, counted) in &mut self.committed {
            while self.leaders.iter().any(|(term, _)| *term == counted.next()) {
                *counted = counted.next();
            }
        }
    }

    fn last(&self) -> Index {
        Index(self.committed.len() as u64)
    }

    fn at(&self, index: Index) -> Option<EntryId> {
        let position = usize::try_from(index.0.checked_sub(1)?).ok()?;
        self.committed.get(position).map(|(id, _)| *id)
    }

    /// Election Safety (§5.2) and Leader Completeness (§5.4.3).
    fn leads(&mut self, actor: u8, host: &Host) -> Result<(), Broken> {
        let status = host.raft.status();
        if status.term <= self.closed {
            let late = format!("{} leads {}, which was over", status.member, status.term);
            return broken("ES", late);
        }
        if let Some((term, other)) =
            self.leaders.iter().find(|(term, by)| *term == status.term && *by != actor)
        {
            return broken(
                "ES",
                format!("{term} is led by {} and by n{}", status.member, other + 1),
            );
        }
        if self.leaders.iter().any(|(term, _)| *term == status.term) {
            // The same server, in a later life: the first one's entries may be gone.
            return broken("ES", format!("{} leads {} a second time", status.member, status.term));
        }
        self.leaders.push((status.term, actor));
        self.leaders.sort_unstable();
        for (id, counted) in &self.committed {
            let is_there =
                id.index <= status.base.index || host.raft.entry_id(id.index) == Some(*id);
            if *counted < status.term && !is_there {
                return broken("LC", format!("the leader of {} lacks {id}", status.term));
            }
        }
        Ok(())
    }

    /// A committed entry stays (§5.4).
    fn truncates(&self, ids: &[EntryId]) -> Result<(), Broken> {
        match ids.iter().find(|id| self.at(id.index) == Some(**id)) {
            Some(id) => broken("CI", format!("{id} is committed, and truncated")),
            None => Ok(()),
        }
    }

    /// Only a leader counts (§5.3): everybody else holds for committed what was counted before.
    fn commits(&self, id: EntryId, host: &Host) -> Result<(), Broken> {
        if id.index > self.last() {
            let member = host.raft.status().member;
            return broken(
                "CQ",
                format!("{member} holds {id} for committed, which nobody counted"),
            );
        }
        let known = self.at(id.index);
        if id.index > Index::ZERO && known != Some(id) {
            return broken("CI", format!("{id} is committed in the place of {known:?}"));
        }
        Ok(())
    }

    /// Commit on a quorum (§5.3, §5.4.2, §6): a leader counts an entry of its own term, durable on a
    /// quorum of every half.
    fn may_count(
        &self,
        id: EntryId,
        quorum: &Membership,
        host: &Host,
        hosts: &[&Host],
    ) -> Result<(), Broken> {
        let status = host.raft.status();
        // Although another one may have counted the entry before.
        if id.term != status.term {
            return broken("CQ", format!("the leader of {} commits {id} by counting", status.term));
        }
        if id.index <= self.last() {
            return self.commits(id, host);
        }
        if !is_quorum(quorum, |member| self.had(member, id, hosts)) {
            return broken(
                "CQ",
                format!("{id} is committed and not durable on a quorum of {quorum}"),
            );
        }
        // Who leads a later term already had to have it when it was elected (§5.4.3).
        for leader in hosts.iter().map(|host| (host, host.raft.status())) {
            let (host, later) = leader;
            let leads = later.role == RoleName::Leader && later.term > status.term;
            if leads && id.index > later.base.index && host.raft.entry_id(id.index) != Some(id) {
                return broken("LC", format!("the leader of {} lacks {id}", later.term));
            }
        }
        Ok(())
    }

    /// A leader counts an entry: it is committed, and all before it.
    fn counts(
        &mut self,
        id: EntryId,
        quorum: &Membership,
        host: &Host,
        hosts: &[&Host],
    ) -> Result<(), Broken> {
        self.may_count(id, quorum, host, hosts)?;
        let status = host.raft.status();
        for index in self.last().0 + 1..=id.index.0 {
            let id = host.raft.entry_id(Index(index));
            let id = id.unwrap_or_else(|| panic!("a leader that counts {index} has it"));
            if self.committed.last().is_some_and(|(before, _)| before.term > id.term) {
                return broken("LM", format!("terms fall along the log before {id}"));
            }
            self.committed.push((id, status.term));
        }
        Ok(())
    }

    /// Whether an entry is durable at a server, or was before its disk lost it: then what it said of
    /// the entry was true, and it knows that it may have said so.
    fn had(&self, member: Member, id: EntryId, hosts: &[&Host]) -> bool {
        let found = hosts.iter().position(|host| host.raft.status().member == member);
        let is_lost =
            |at: usize| self.lost.iter().any(|lost| (usize::from(lost.0), lost.1) == (at, id));
        found.is_some_and(|at| hosts[at].disk.holds(id) || is_lost(at))
    }

    /// Who says in a term that it never had an entry gets it from nobody else in that term. So what
    /// enough voters have denied is not on a quorum of disks, whether or not anybody has counted it.
    fn discards(&self, id: EntryId, voters: &[Member], hosts: &[&Host]) -> Result<(), Broken> {
        if self.is_committed(id) {
            return broken("CI", format!("{id} is committed, and ruled out"));
        }
        let holders = voters.iter().filter(|voter| self.had(**voter, id, hosts)).count();
        if holders * 2 > voters.len() {
            return broken("CQ", format!("{id} is ruled out, and durable on a quorum"));
        }
        Ok(())
    }

    /// State Machine Safety (§5.4.3).
    fn applies(&self, ids: &[EntryId]) -> Result<(), Broken> {
        match ids.iter().find(|id| id.index > Index::ZERO && self.at(id.index) != Some(**id)) {
            Some(id) => broken("SM", format!("{id} is applied and not what is committed")),
            None => Ok(()),
        }
    }

    fn acknowledges(&self, ticket: Ticket, term: Term, index: Index) -> Result<(), Broken> {
        let Some(id) = self.at(index).filter(|id| id.term == term) else {
            return broken("CQ", format!("a client is told that {index} of {term} is committed"));
        };
        match self.proposal(ticket) {
            Some(mine) if mine != id => {
                broken("LIN", format!("{mine} is told to be committed, which is {id}"))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn proposal(&self, ticket: Ticket) -> Option<EntryId> {
        self.proposed.iter().find(|(open, ..)| *open == ticket).map(|(_, _, id)| *id)
    }

    /// A command that a client was told to be lost stays lost. Where its entry would be, another one
    /// is committed; or one of a later term is, before it, and terms never fall along a log.
    fn supersedes(&self, ticket: Ticket) -> Result<(), Broken> {
        let Some(mine) = self.proposal(ticket) else { return Ok(()) };
        let rules_out = |id: &EntryId| {
            let is_there = id.index == mine.index && *id != mine;
            is_there || (id.index < mine.index && id.term > mine.term)
        };
        if self.committed.iter().any(|(id, _)| rules_out(id)) {
            return Ok(());
        }
        broken("LIN", format!("{mine} is told to be lost, and may yet be committed"))
    }

    /// Linearizability of reads (thesis §6.4): all that was committed when the read was asked.
    fn answers(&mut self, ticket: Ticket, index: Index) -> Result<(), Broken> {
        let Some(position) = self.reads.iter().position(|(open, ..)| *open == ticket) else {
            return broken("LIN", format!("the read {ticket} is answered and not open"));
        };
        let (_, _, floor) = self.reads.remove(position);
        if index > self.last() {
            return broken("LIN", format!("a read is answered at {index}, which is not committed"));
        }
        if index < floor {
            return broken(
                "LIN",
                format!(
                    "a read is answered at {index}, and {floor} was committed when it was asked"
                ),
            );
        }
        Ok(())
    }

    /// At most one membership is not committed, and it shares its quorums with the one before (§6).
    fn reconfigures(&self, host: &Host) -> Result<(), Broken> {
        let memberships = host.memberships();
        let open = memberships.iter().filter(|(index, _)| *index > self.last()).count();
        // What a follower has, a leader had at that time or before.
        if open > 1 {
            return broken("CF", format!("{open} memberships are not committed"));
        }
        if let Some((_, newest)) = memberships.last()
            && **newest != *host.raft.status().membership
        {
            return broken("CF", format!("{newest} is the newest in the log, and not in force"));
        }
        for pair in memberships.windows(2) {
            let (before, after) = (&pair[0].1, &pair[1].1);
            let is_entered = after.is_joint() && after.outgoing() == before.incoming();
            let is_left = before.is_joint() && after.incoming() == before.incoming();
            let is_same = before.incoming() == after.incoming() && !before.is_joint();
            if !(is_entered || is_left || is_same) {
                return broken("CF", format!("{before} is followed by {after}"));
            }
        }
        Ok(())
    }
}

/// While a server may answer by a lease that it has as the leader of a term, nobody else leads a later
/// one (thesis §6.4.1). Looked at when one of the two begins.
fn lease_lasts(at: usize, hosts: &[&Host]) -> Result<(), Broken> {
    for (holder, (term, left)) in hosts.iter().filter_map(|host| Some((host, host.lent?))) {
        let holder = holder.raft.status().member;
        let leaders = hosts.iter().map(|host| host.raft.status());
        let mut later = leaders.filter(|other| {
            other.role == RoleName::Leader && other.term > term && other.member != holder
        });
        if let Some(other) = later.next() {
            let actor = hosts[at].raft.status().member;
            return broken(
                "LZ",
                format!(
                    "{} leads {}, and {holder} may answer by its lease in {term} for {left}: by {actor}",
                    other.member, other.term
                ),
            );
        }
    }
    Ok(())
}

/// An index and a term name one entry, and all before it (§5.3).
fn log_matching(at: usize, ids: &[EntryId], hosts: &[&Host]) -> Result<(), Broken> {
    let others = hosts.iter().enumerate().filter(|(other, _)| *other != at);
    for (_, host) in others {
        for id in ids {
            let other = host.raft.entry_id(id.index).filter(|other| other.term == id.term);
            if let Some(other) = other.filter(|other| other != id) {
                return broken("LM", format!("{id} and {other} have one name"));
            }
        }
    }
    Ok(())
}

/// A majority of every half (§6), counted here once more.
fn is_quorum(membership: &Membership, holds: impl Fn(Member) -> bool) -> bool {
    let agrees =
        |half: &[Member]| half.iter().filter(|member| holds(**member)).count() * 2 > half.len();
    let outgoing = membership.outgoing();
    agrees(membership.incoming()) && (outgoing.is_empty() || agrees(outgoing))
}

#[cfg(test)]
mod tests;
