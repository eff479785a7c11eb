//! What must hold in every story at every step: the five properties of Figure 3 as far as they can
//! be seen from outside, and the order of promises that clients rely on.

use std::collections::BTreeMap;

use super::story::{Told, must};
use super::subject::{Applied, Id, Outcome, Role, View};

/// Watches all servers through their views.
#[derive(Clone, Debug, Default)]
pub(super) struct Watch {
    /// Who led each term.
    leaders: BTreeMap<u64, u64>,
    /// Terms whose entries were there before the story began.
    given: Vec<u64>,
    /// What was applied anywhere, in order, with the lowest term in which that was seen.
    history: Vec<(Applied, u64)>,
    /// What clients were told to be committed, with the term in which they were.
    acknowledged: BTreeMap<u64, (Id, u64)>,
    /// What each server was, since it last started.
    lives: BTreeMap<u64, Life>,
    /// The least index at which each open read may be answered.
    reads: BTreeMap<u64, u64>,
}

#[derive(Clone, Debug, Default)]
struct Life {
    term: u64,
    vote: Option<u64>,
    commit: u64,
    applied: usize,
}

impl Watch {
    /// Entries of this term are part of the setting.
    pub(super) fn grant_term(&mut self, term: u64) {
        self.given.push(term);
    }

    /// A server went down: it may have forgotten what was not durable.
    pub(super) fn forget(&mut self, server: u64) {
        self.lives.remove(&server);
    }

    /// A client reads: everything acknowledged by now must be seen by it.
    pub(super) fn read(&mut self, ticket: u64) {
        let floor = self.committed();
        self.reads.insert(ticket, floor);
    }

    /// The highest index that anybody has applied or that a client was told about.
    pub(super) fn committed(&self) -> u64 {
        let acknowledged = self.acknowledged.keys().next_back().copied().unwrap_or_default();
        acknowledged.max(self.history.len() as u64)
    }

    /// Looks at a server.
    pub(super) fn look(&mut self, server: u64, view: &View) -> Told {
        if view.role == Role::Down {
            return Ok(());
        }
        must(
            view.complaints.is_empty(),
            format_args!("n{server} sees nothing impossible: {:?}", view.complaints),
        )?;
        self.look_at_life(server, view)?;
        self.look_at_log(server, view)?;
        self.look_at_machine(server, view)?;
        self.look_at_answers(server, view)?;
        if view.role == Role::Leader { self.look_at_leader(server, view) } else { Ok(()) }
    }

    /// Terms and commit indices rise, and a vote is given once in a term (§5.2).
    fn look_at_life(&mut self, server: u64, view: &View) -> Told {
        let life = self.lives.entry(server).or_default();
        must(view.term >= life.term, format_args!("the term of n{server} never falls"))?;
        must(view.commit >= life.commit, format_args!("n{server} never takes back a commit"))?;
        let is_kept = view.term > life.term || life.vote.is_none() || view.vote == life.vote;
        must(
            is_kept,
            format_args!(
                "n{server} votes once in t{}: {:?}, {:?}",
                view.term, life.vote, view.vote
            ),
        )?;
        let applied = view.applied.len().max(life.applied);
        *life = Life { term: view.term, vote: view.vote, commit: view.commit, applied };
        Ok(())
    }

    /// Entries are of terms that had a leader, and of none that the server does not know.
    fn look_at_log(&mut self, server: u64, view: &View) -> Told {
        must(
            view.log.is_empty() || view.last().term <= view.term,
            format_args!(
                "n{server} knows the term of its last entry {}: t{}",
                view.last(),
                view.term
            ),
        )?;
        if view.role == Role::Leader {
            // Election Safety (§5.2).
            let leader = *self.leaders.entry(view.term).or_insert(server);
            must(
                leader == server,
                format_args!("t{} has one leader: n{leader} and n{server}", view.term),
            )?;
        }
        let unknown = view.log.iter().find(|entry| {
            !self.given.contains(&entry.term) && !self.leaders.contains_key(&entry.term)
        });
        must(
            unknown.is_none(),
            format_args!("n{server} holds entries of terms that had a leader: {unknown:?}"),
        )
    }

    /// State Machine Safety (§5.4.3): everything once, in order, and the same everywhere.
    fn look_at_machine(&mut self, server: u64, view: &View) -> Told {
        for (position, applied) in view.applied.iter().enumerate() {
            must(
                applied.id.index == position as u64 + 1,
                format_args!("n{server} applies index {} in its turn", applied.id.index),
            )?;
            if let Some((known, term)) = self.history.get_mut(position) {
                must(
                    known == applied,
                    format_args!("all apply one command at an index: {known:?}, {applied:?}"),
                )?;
                *term = view.term.min(*term);
            } else {
                self.history.push((applied.clone(), view.term));
            }
        }
        must(
            view.applied.len() as u64 <= view.commit,
            format_args!("n{server} applies only what is committed"),
        )
    }

    /// What a client was told stays true; a read sees everything acknowledged before it.
    fn look_at_answers(&mut self, server: u64, view: &View) -> Told {
        for outcome in view.outcomes.values() {
            let Outcome::Committed(entry) = outcome else { continue };
            let (known, _) = *self.acknowledged.entry(entry.index).or_insert((*entry, view.term));
            let applied = self.history.get(index(entry.index) - 1).map(|(applied, _)| applied.id);
            must(
                known == *entry && applied.is_none_or(|applied| applied == *entry),
                format_args!("n{server} acknowledged {entry}, which is not what is there"),
            )?;
        }
        let may_be_given = |until: Option<u64>| until.is_none_or(|until| view.clock_us < until);
        for (ticket, answer) in &view.reads {
            if !may_be_given(answer.valid_until_us) {
                continue;
            }
            let floor = self.reads.get(ticket).copied().unwrap_or_default();
            must(
                answer.index >= floor,
                format_args!(
                    "a read at n{server} sees what was acknowledged before it: {} but {floor} was",
                    answer.index
                ),
            )?;
        }
        Ok(())
    }

    /// Leader Completeness (§5.4.3): whoever leads a later term has all that was committed before.
    fn look_at_leader(&self, server: u64, view: &View) -> Told {
        let has = |id: Id| id.index <= view.base || view.log.contains(&id);
        let missing = self
            .history
            .iter()
            .filter(|(_, term)| *term < view.term)
            .map(|(applied, _)| applied.id)
            .find(|entry| !has(*entry));
        must(
            missing.is_none(),
            format_args!(
                "n{server} leads t{} and has all that is committed: {missing:?}",
                view.term
            ),
        )?;
        let lost =
            self.acknowledged.values().find(|(entry, term)| *term < view.term && !has(*entry));
        must(
            lost.is_none(),
            format_args!("n{server} leads t{} and has all acknowledged: {lost:?}", view.term),
        )
    }
}

fn index(index: u64) -> usize {
    usize::try_from(index).expect("stories are short")
}
