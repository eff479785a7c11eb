//! What of the whole cluster decides about the messages of one server.

use raft_core::{Envelope, Incarnation, Member, RoleName, Rpc, Status, Term};

use super::bounds::{Bounds, SERVERS_MAX, position};
use super::host::Host;

/// What of the whole cluster decides about messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Outlook {
    pub(crate) weather: Weather,
    /// Servers that no stale answer tells anything any more, one bit for each (see
    /// [`Future::is_informed`]).
    pub(crate) informed: u32,
}

/// Whether servers may still crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Weather {
    Stormy,
    /// Nobody crashes any more: these are the incarnations in which the servers stay, by position.
    Calm([Incarnation; SERVERS_MAX]),
}

impl Outlook {
    pub(crate) fn may_crash(self) -> bool {
        self.weather == Weather::Stormy
    }

    /// What of it decides about certain messages.
    pub(crate) fn concerning(self, Concern { asking, answering }: Concern) -> Self {
        let weather = match self.weather {
            Weather::Stormy => Weather::Stormy,
            Weather::Calm(mut lives) => {
                for (at, life) in lives.iter_mut().enumerate() {
                    if answering & (1 << at) == 0 {
                        *life = Incarnation::ZERO;
                    }
                }
                Weather::Calm(lives)
            }
        };
        Self { weather, informed: self.informed & u32::from(asking) }
    }

    /// Whether the sender of a message will have no other life than the one it speaks of.
    pub(crate) fn is_last_life(self, letter: &Envelope) -> bool {
        match self.weather {
            Weather::Stormy => false,
            Weather::Calm(lives) => lives[position(letter.from)] == letter.incarnation,
        }
    }

    /// Whether a stale answer tells this server nothing.
    pub(crate) fn is_informed(self, member: Member) -> bool {
        self.informed & (1 << position(member)) != 0
    }
}

/// Whom among the senders of an inbox an outlook is asked about, one bit for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Concern {
    /// Whether they are informed: those who have sent requests, which may be stale.
    asking: u8,
    /// Which life is their last: those who have answered heartbeats.
    answering: u8,
}

impl Concern {
    /// What concerns these messages.
    pub(crate) fn new<'a>(letters: impl Iterator<Item = &'a Envelope>) -> Self {
        let mut concern = Self::default();
        for letter in letters {
            let sender = 1 << position(letter.from);
            if letter.rpc.is_request() {
                concern.asking |= sender;
            }
            if matches!(letter.rpc, Rpc::HeartbeatResponse { .. }) {
                concern.answering |= sender;
            }
        }
        concern
    }

    /// A number of its own.
    pub(crate) fn number(self) -> u32 {
        u32::from(self.asking) << u8::BITS | u32::from(self.answering)
    }
}

/// What is certain about the future of a server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Future {
    /// It will never begin to lead this term or an earlier one.
    pub(crate) closed: Term,
    /// An answer to a stale request, which says nothing but the term and the life of who answers,
    /// is nothing to it in any term (the rule of `is_dead` in `letters.rs`): it is in the last term
    /// for good, and asked nobody anything in it; or there is no other life to tell of.
    pub(crate) is_informed: bool,
}

impl Future {
    /// A server is a candidate of a term only from the moment at which it enters the term; it cannot
    /// enter one again that is durable, nor any that it has entered if it does not crash.
    pub(crate) fn new(host: &Host, bounds: &Bounds, may_crash: bool) -> Self {
        let Status { term, role, .. } = host.raft.status();
        let floor = if may_crash { host.disk.hard_state().term } else { term };
        let is_candidate = role == RoleName::Candidate && term == floor;
        let is_asking = is_candidate || (role == RoleName::Leader && term == floor);
        let is_other_life = may_crash || bounds.is_watching() || bounds.is_lossy();
        let is_in_last_term = floor.0 >= u64::from(bounds.terms);
        Self {
            closed: if is_candidate { Term(floor.0.saturating_sub(1)) } else { floor },
            is_informed: is_in_last_term && !(is_asking && is_other_life),
        }
    }
}
