//! Properties of what a leader knows about one peer (Figure 2, thesis §10.2.2, §7), against a naive
//! model: whatever the peer says, and once with a peer that is honest and a network that is not.
//!
//! The leader is the only voter and the peer a learner, so that nothing else happens.

mod model;
mod peer;
mod watched;

use std::collections::BTreeMap;

use proptest::prelude::*;
use raft_core::{AppendResult, EntryId, Flow, Index, Rpc, Session, Term};

use self::model::{Answer, Model, View};
use self::peer::Peer;
use self::watched::{Event, TERM, Watched};

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0usize..12, 1usize..5).prop_map(|(size, count)| Event::Propose(size, count)),
        1 => Just(Event::Compact),
        2 => Just(Event::Beat),
        1 => Just(Event::Unreachable),
        3 => prop::bool::weighted(0.8).prop_map(Event::Read),
    ]
}

/// Terms of a log, each at least as late as the one before; the leader's are even.
fn terms() -> impl Strategy<Value = Vec<u64>> {
    prop::collection::vec(0u64..3, 0..8).prop_map(|steps| {
        let mut term = 2;
        let rise = |step: u64| {
            term = (term + 2 * step).min(TERM - 2);
            term
        };
        steps.into_iter().map(rise).collect()
    })
}

/// A place in the log near one that means something to the leader.
#[derive(Clone, Copy, Debug)]
struct Place {
    from: Anchor,
    by: i64,
}

#[derive(Clone, Copy, Debug)]
enum Anchor {
    Match,
    Next,
    Base,
    Last,
}

impl Place {
    fn of(self, model: &Model) -> Index {
        let anchor = match self.from {
            Anchor::Match => model.matched,
            Anchor::Next => model.next,
            Anchor::Base => model.base,
            Anchor::Last => model.last(),
        };
        Index(anchor.saturating_add_signed(self.by))
    }
}

fn place() -> impl Strategy<Value = Place> {
    let anchor =
        prop::sample::select(vec![Anchor::Match, Anchor::Next, Anchor::Base, Anchor::Last]);
    (anchor, -3i64..3).prop_map(|(from, by)| Place { from, by })
}

/// Words that a peer may say, true or not.
#[derive(Clone, Copy, Debug)]
enum Word {
    Matched(Place),
    Conflict(Place, Place, u64),
    Blank,
    Diverged,
    Heartbeat,
    /// So many bytes of the snapshot on its way, or of another one.
    Staged(bool, u64),
}

fn word() -> impl Strategy<Value = Word> {
    prop_oneof![
        5 => place().prop_map(Word::Matched),
        3 => (place(), place(), 0..=TERM).prop_map(|(one, two, term)| Word::Conflict(one, two, term)),
        // The last probe, which a peer that looks for its place refuses.
        3 => (place(), 0..=TERM).prop_map(|(hint, term)| {
            Word::Conflict(Place { from: Anchor::Next, by: -1 }, hint, term)
        }),
        1 => Just(Word::Blank),
        1 => Just(Word::Diverged),
        3 => Just(Word::Heartbeat),
        3 => (prop::bool::weighted(0.8), 0u64..8).prop_map(|(own, staged)| Word::Staged(own, staged)),
    ]
}

impl Word {
    fn say(self, model: &Model) -> Answer {
        match self {
            Self::Matched(place) => {
                Answer::Append(AppendResult::Matched { index: place.of(model) })
            }
            Self::Conflict(rejected, hint, term) => {
                let (rejected, hint) = (rejected.of(model), hint.of(model));
                Answer::Append(AppendResult::Conflict { rejected, hint, hint_term: Term(term) })
            }
            Self::Blank => Answer::Append(AppendResult::Blank),
            Self::Diverged => Answer::Append(AppendResult::Diverged { index: Index(1) }),
            Self::Heartbeat => Answer::Heartbeat,
            Self::Staged(is_own, staged) => {
                let other = EntryId { index: Index(77), ..model.snapshot };
                let own = if let View::Snapshot { last, .. } = &model.view { *last } else { other };
                let last = if is_own { own } else { other };
                Answer::Staged { last, staged }
            }
        }
    }
}

/// A step of a history with a peer that says whatever it likes: which stream and which life it
/// speaks of, from the present ones, and what it says.
#[derive(Clone, Debug)]
enum Said {
    Event(Event),
    Answer { stream: i64, life: i64, word: Word },
}

fn said() -> impl Strategy<Value = Said> {
    // Nearly always the present ones, or no history would get anywhere.
    let present = || prop_oneof![14 => Just(0i64), 1 => Just(-1i64), 1 => Just(1i64)];
    prop_oneof![
        2 => event().prop_map(Said::Event),
        3 => (present(), present(), word())
            .prop_map(|(stream, life, word)| Said::Answer { stream, life, word }),
    ]
}

proptest! {
    /// Figure 2, thesis §10.2.2, §7: next and match, probes, windows and chunks are what the naive
    /// model says, whatever a peer answers, and what leaves is too. An answer of an earlier stream
    /// or life is refused with its reason and changes nothing.
    #[test]
    fn a_leader_sees_a_peer_as_the_model_does(
        terms in terms(),
        kept in 0u64..4,
        history in prop::collection::vec(said(), 0..60),
    ) {
        let (mut watched, _) = Watched::new(&terms, kept)?;
        for said in &history {
            match said {
                Said::Event(event) => drop(watched.happens(event)?),
                Said::Answer { stream, life, word } => {
                    let answer = word.say(&watched.model);
                    let session = watched.model.session.saturating_add_signed(*stream);
                    let life = watched.model.life.max(3).saturating_add_signed(*life);
                    watched.answers(session, life, answer)?;
                }
            }
        }
    }
}

/// A leader and an honest peer, and between them a network that is not.
#[derive(Debug)]
struct Line {
    watched: Watched,
    peer: Peer,
    /// On their way, oldest first.
    parcels: Vec<Parcel>,
}

#[derive(Clone, Debug)]
enum Parcel {
    Order(Rpc),
    /// The life in which it was given, and the stream.
    Answer(u64, Session, Answer),
}

/// What happens between them; places in the network go round.
#[derive(Clone, Debug)]
enum Move {
    Event(Event),
    Deliver(usize),
    Lose(usize),
    Repeat(usize),
    /// The peer starts again from its disk.
    Restart,
}

fn moves() -> impl Strategy<Value = Move> {
    // Mostly the oldest first, or pipelines would never fill.
    let at = || prop_oneof![3 => Just(0usize), 1 => 0usize..8];
    prop_oneof![
        6 => event().prop_map(Move::Event),
        12 => at().prop_map(Move::Deliver),
        2 => at().prop_map(Move::Lose),
        1 => at().prop_map(Move::Repeat),
        1 => Just(Move::Restart),
    ]
}

impl Line {
    fn happens(&mut self, what: &Move) -> Result<(), TestCaseError> {
        let place =
            |at: usize| Some(at % self.parcels.len().max(1)).filter(|_| !self.parcels.is_empty());
        match *what {
            Move::Event(ref event) => {
                let sent = self.watched.happens(event)?;
                self.parcels.extend(sent.into_iter().map(Parcel::Order));
            }
            Move::Deliver(at) => {
                let Some(at) = place(at) else { return Ok(()) };
                let parcel = self.parcels.remove(at);
                self.arrives(parcel)?;
            }
            Move::Lose(at) => {
                let Some(at) = place(at) else { return Ok(()) };
                self.parcels.remove(at);
            }
            Move::Repeat(at) => {
                let Some(at) = place(at) else { return Ok(()) };
                self.parcels.push(self.parcels[at].clone());
            }
            Move::Restart => self.peer.restart(),
        }
        Ok(())
    }

    fn arrives(&mut self, parcel: Parcel) -> Result<(), TestCaseError> {
        match parcel {
            Parcel::Order(rpc) => {
                let answer = self.peer.hear(&rpc);
                let life = self.peer.life;
                let parcel = answer.map(|(session, answer)| Parcel::Answer(life, session, answer));
                self.parcels.extend(parcel);
            }
            Parcel::Answer(life, session, answer) => {
                let sent = self.watched.answers(session.0, life, answer)?;
                self.parcels.extend(sent.into_iter().map(Parcel::Order));
            }
        }
        Ok(())
    }

    /// Everything arrives, in order, until nothing is left.
    fn deliver(&mut self) -> Result<(), TestCaseError> {
        for _ in 0..1000 {
            self.happens(&Move::Event(Event::Read(true)))?;
            if self.parcels.is_empty() && self.watched.reads.is_empty() {
                return Ok(());
            }
            self.happens(&Move::Deliver(0))?;
        }
        Err(TestCaseError::fail("they do not come to rest"))
    }
}

/// The log of a peer: so many entries of the leader's, and then some in terms of its own, which are
/// odd. Or it has never had a log.
fn peer_log() -> impl Strategy<Value = Option<(usize, Vec<u64>)>> {
    let own = prop::collection::vec(0u64..3, 0..6);
    prop::option::weighted(0.8, (0usize..8, own))
}

fn grown(terms: &[u64], log: Option<(usize, Vec<u64>)>) -> BTreeMap<u64, u64> {
    let Some((shared, own)) = log else { return BTreeMap::new() };
    let shared = &terms[..shared.min(terms.len())];
    let mut term = shared.last().map_or(1, |term| term + 1);
    let own = own.into_iter().map(|step| {
        term = (term + 2 * step).min(TERM - 1);
        term
    });
    (0..).zip([0].into_iter().chain(shared.iter().copied()).chain(own)).collect()
}

proptest! {
    /// §5.3, §7: whatever the network has lost, repeated and mixed up, once it is well a peer has the
    /// whole log three heartbeats later, and entries flow.
    #[test]
    fn entries_flow_again_once_answers_come(
        terms in terms(),
        log in peer_log(),
        kept in 0u64..4,
        history in prop::collection::vec(moves(), 0..80),
    ) {
        let (watched, sent) = Watched::new(&terms, kept)?;
        let parcels = sent.into_iter().map(Parcel::Order).collect();
        let mut line = Line { watched, peer: Peer::new(grown(&terms, log)), parcels };
        for what in &history {
            line.happens(what)?;
        }
        line.deliver()?;
        for _ in 0..3 {
            line.happens(&Move::Event(Event::Beat))?;
            line.deliver()?;
        }
        let (status, peer) = (line.watched.raft.status(), line.watched.peer());
        prop_assert_eq!(peer.flow, Flow::Replicate { appends: 0, bytes: 0 });
        prop_assert_eq!(peer.match_index, status.last.index);
        let log = &line.watched.model.log;
        prop_assert_eq!(line.peer.log.last_key_value().map(|(last, _)| *last), Some(status.last.index.0));
        for (index, term) in &line.peer.log {
            prop_assert_eq!(*term, log[usize::try_from(*index).expect("small")].0, "at {}", index);
        }
    }
}
