//! EO: what a server says of an attempt is true of the very entry that it appended for it.
//!
//! Clients try again within their session, which answers the same however often a command is in the
//! log: so a wrong word about one attempt shows nowhere else. The ghost notes which entry a server has
//! appended for which attempt, and holds every outcome against the committed log. "Superseded" must
//! be certain by then (Figure 8: a truncated entry may be committed by another leader), "unknown" is
//! said only by who cannot tell.
//!
//! An attempt that repeats a command under way is answered with it: it stands for all entries that
//! its server has appended for that command in this life. It is answered as soon as any entry with that
//! command is applied, its own or not.
//!
//! What an operator asks for is an attempt as well: an answer that a change is committed names its entry.
//!
//! Whoever is refused has nothing in the log, of which somebody might hear later all the same.
//!
//! Deliberately absent: which of several memberships or sessions that are asked for in one step an
//! entry is for, or whether a leader has left a joint one by itself or was told to, which nobody can
//! tell from outside.

use std::collections::{BTreeMap, BTreeSet};

use raft_core::{Entry, EntryId, Index, Payload, PersistBatch};
use raft_replica::request::RequestId;
use raft_replica::session::{LogCommand, SessionId};
use serde::de::DeserializeOwned;

use super::ghost::Ghost;
use super::violation::{Invariant, Violation};
use crate::said;

/// What an attempt wants to have in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wish {
    /// A new session.
    Session,
    /// The command of a session with this serial.
    Command(SessionId, u64),
    /// Another membership.
    Membership {
        /// It is what remains of a joint one.
        leaves: bool,
    },
}

impl Wish {
    /// Whether an entry for one attempt answers another that wishes the same.
    fn is_shared(self) -> bool {
        match self {
            Self::Command(..) => true,
            Self::Session | Self::Membership { .. } => false,
        }
    }
}

/// How an attempt ended, as far as it is about the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Its entry is committed, and was applied.
    Committed,
    /// Its entry is committed and stands there.
    CommittedAt(Index),
    /// It is certainly not.
    Superseded,
    /// Nobody can tell; whether the server has halted.
    Unknown {
        /// It has.
        is_over: bool,
    },
    /// Nothing was appended.
    Refused,
    /// Nothing is said about it.
    None,
}

/// An attempt that is not answered.
#[derive(Clone, Debug)]
struct Ticket {
    wish: Wish,
    /// The entries that stand for it.
    entries: Vec<EntryId>,
    /// Whether there is one of its own. Else it may be answered by what the session remembers.
    is_own: bool,
}

/// The attempts that are not answered.
#[derive(Clone, Debug, Default)]
pub(super) struct Tickets {
    open: BTreeMap<RequestId, Ticket>,
    /// By server: what it has appended in this life and said nothing about, by what was wished.
    appended: BTreeMap<usize, BTreeMap<Wish, Vec<EntryId>>>,
    /// The entries of each command, whoever has appended them: it takes effect with the first of them.
    written: BTreeMap<Wish, BTreeSet<EntryId>>,
}

impl Tickets {
    /// A server has taken these requests in one step, and has asked for these batches in it.
    pub(super) fn took<'a, C: DeserializeOwned>(
        &mut self,
        ghost: &Ghost,
        slot: usize,
        requests: &[(RequestId, Wish)],
        batches: impl Iterator<Item = &'a PersistBatch>,
    ) {
        // What another leader has sent in the same step is not appended for anybody here.
        let is_own = |entry: &&Entry| {
            let reign = ghost.reigns.get(entry.term());
            reign.is_none_or(|reign| reign.leader == ghost.nodes[slot].member.id)
        };
        let mut taken: Vec<(EntryId, Wish)> = Vec::new();
        for entry in batches.flat_map(|batch| batch.append.iter()).filter(is_own) {
            let Some(wish) = wish::<C>(ghost, slot, entry) else { continue };
            // Nor is what this server had appended once, and had lost.
            if self.written.entry(wish).or_default().insert(entry.id()) {
                taken.push((entry.id(), wish));
            }
        }
        let appended = self.appended.entry(slot).or_default();
        // Sessions and memberships that are asked for in one step look alike: which entry is whose
        // cannot be told.
        let alike = |wish: Wish| requests.iter().filter(|(_, other)| *other == wish).count();
        for (request, wish) in requests {
            if !wish.is_shared() && alike(*wish) > 1 {
                continue;
            }
            let all = appended.entry(*wish).or_default();
            let own = taken.iter().position(|(_, taken)| taken == wish);
            let entries = match own {
                Some(own) => {
                    all.push(taken.remove(own).0);
                    all[all.len() - 1..].to_vec()
                }
                None if !wish.is_shared() => Vec::new(),
                None => all.clone(),
            };
            // One of two repetitions may have been refused, before its server was elected, and the other
            // appended after that: which one cannot be told.
            let is_own = own.is_some() && alike(*wish) == 1;
            self.open.insert(*request, Ticket { wish: *wish, entries, is_own });
        }
    }

    /// A server's process has ended: nobody will be answered by it.
    pub(super) fn crashed(&mut self, slot: usize) {
        self.appended.remove(&slot);
    }

    /// A server has ended an attempt.
    pub(super) fn ended(
        &mut self,
        ghost: &Ghost,
        slot: usize,
        request: RequestId,
        fate: Fate,
    ) -> Result<(), Violation> {
        let Some(ticket) = self.open.remove(&request) else { return Ok(()) };
        let Ticket { wish, entries, is_own } = ticket;
        // What stands for a refused attempt, but is not its own, stands for others still.
        if fate == Fate::None || (fate == Fate::Refused && !is_own) {
            return Ok(());
        }
        if let Some(all) = self.appended.get_mut(&slot).and_then(|appended| appended.get_mut(&wish))
        {
            all.retain(|id| !entries.contains(id));
        }
        let (node, through) = (&ghost.nodes[slot], ghost.committed.last());
        let broken = |predicted: String, actual: &str| {
            let index = entries.last().map_or(Index::ZERO, |id| id.index);
            let broken = Violation::new(Invariant::ExactlyOnce, predicted, actual.to_owned());
            Err(broken.on(node.member.id).at(index))
        };
        let is_committed = |id: &EntryId| ghost.committed.at(id.index) == Some(*id);
        // An earlier attempt, perhaps by another server, may have been what took effect.
        let written = self.written.get(&wish).filter(|_| wish.is_shared());
        let has_effect = written.is_some_and(|all| all.iter().any(is_committed));
        match fate {
            Fate::Committed if !is_own || has_effect || entries.iter().any(is_committed) => Ok(()),
            Fate::Committed => broken(
                format!("{} is not committed, the entry for {request}", show(&entries)),
                "it is taken for committed",
            ),
            Fate::CommittedAt(index)
                if !is_own || entries.iter().any(|id| id.index == index && is_committed(id)) =>
            {
                Ok(())
            }
            Fate::CommittedAt(index) => broken(
                format!("{} is committed, the entry for {request}", show(&entries)),
                &format!("it is said to stand at {index}, of what is committed through {through}"),
            ),
            Fate::Superseded if !entries.is_empty() => {
                match entries.iter().find(|id| !is_superseded(ghost, **id)) {
                    None => Ok(()),
                    Some(id) => broken(
                        format!(
                            "{id}, for {request}, may be or become committed: the log is through {through}"
                        ),
                        "it is said to be certainly not",
                    ),
                }
            }
            Fate::Superseded => broken(
                format!("nothing was appended for {request}"),
                "what was is said to be superseded",
            ),
            Fate::Unknown { is_over } => {
                let is_gone = |id: &EntryId| id.index <= node.installed;
                if is_over || entries.iter().any(is_gone) {
                    return Ok(());
                }
                broken(
                    format!("its log tells what became of {}, for {request}", show(&entries)),
                    "it is said to be unknown",
                )
            }
            Fate::Refused => broken(
                format!("{} is in its log, the entry for {request}", show(&entries)),
                "it is refused as if nothing had been appended",
            ),
            Fate::None => unreachable!("it is about no entry"),
        }
    }
}

/// Whether no leader will ever commit an entry: another one is committed in its place, or one of a later
/// term before it, behind which terms never fall.
fn is_superseded(ghost: &Ghost, id: EntryId) -> bool {
    match ghost.committed.at(id.index) {
        Some(committed) => committed != id,
        None => ghost.committed.last().term > id.term,
    }
}

fn show(entries: &[EntryId]) -> String {
    let shown: Vec<String> = entries.iter().map(EntryId::to_string).collect();
    if shown.is_empty() { "nothing".to_owned() } else { shown.join(" ") }
}

/// What an entry is for that a server has appended to its log.
fn wish<C: DeserializeOwned>(ghost: &Ghost, slot: usize, entry: &Entry) -> Option<Wish> {
    match entry.payload() {
        Payload::Command(bytes) => match said::understood::<C>(bytes)? {
            LogCommand::OpenSession { .. } => Some(Wish::Session),
            LogCommand::Apply { session, serial, .. } => Some(Wish::Command(session, serial)),
        },
        Payload::Membership(_) => {
            let mut newest_first = ghost.nodes[slot].issued.log.memberships().iter().rev();
            let (_, before) = newest_first.find(|(since, _)| *since < entry.index())?;
            // What a leader does by itself is for nobody, though somebody may have asked as well.
            let by_itself = before.is_joint() && before.auto_leave();
            (!by_itself).then_some(Wish::Membership { leaves: before.is_joint() })
        }
        Payload::Noop => None,
    }
}
