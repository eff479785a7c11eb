//! Where the randomness of a run comes from, and who takes note of it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::{Key, Planned, Tape, When};
use crate::nemesis::{Strike, Target};
use crate::options::{Options, Profile};
use crate::rng::{CALM, Draw, Draws, Purpose, Stream, Words};

/// Who decides what is left open in a run.
#[derive(Clone, Debug)]
pub struct Choices {
    source: Source,
    recording: Option<Rc<RefCell<Recording>>>,
}

#[derive(Clone, Debug)]
enum Source {
    Seed(u64),
    Tape { draws: Rc<BTreeMap<Key, Rc<Draws>>>, strikes: Rc<Vec<Planned>> },
}

impl Choices {
    /// A seed decides.
    #[must_use]
    pub fn of_seed(seed: u64) -> Self {
        Self { source: Source::Seed(seed), recording: None }
    }

    /// A tape decides.
    #[must_use]
    pub fn of_tape(tape: &Tape) -> Self {
        let source =
            Source::Tape { draws: Rc::new(tape.draws.clone()), strikes: Rc::clone(&tape.strikes) };
        Self { source, recording: None }
    }

    /// The same, and what is used is recorded.
    #[must_use]
    pub fn recorded(self) -> (Self, Rc<RefCell<Recording>>) {
        let recording = Rc::new(RefCell::new(Recording::default()));
        (Self { recording: Some(Rc::clone(&recording)), ..self }, recording)
    }

    /// The stream of `entity` for `purpose`.
    #[must_use]
    pub fn stream(&self, purpose: Purpose, entity: u64) -> Stream {
        let stream = match &self.source {
            Source::Seed(seed) => Stream::new(*seed, purpose, entity),
            Source::Tape { draws, .. } => {
                Stream::taped(draws.get(&(purpose, entity)).cloned().unwrap_or_default())
            }
        };
        stream.noted(self.note(Of::Stream((purpose, entity))))
    }

    /// The strikes, if a tape has planned them.
    pub(crate) fn plan(&self) -> Option<Rc<Vec<Planned>>> {
        match &self.source {
            Source::Seed(_) => None,
            Source::Tape { strikes, .. } => Some(Rc::clone(strikes)),
        }
    }

    /// Takes note of a strike before this event, at this time.
    pub(crate) fn note_strike(&self, strike: Strike, (event, now_us): (u64, u64)) -> Strike {
        let Some(recording) = &self.recording else { return strike };
        let of = Of::Strike(recording.borrow_mut().strike(&strike, event, now_us));
        Strike { draw: strike.draw.noted(self.note(of)), ..strike }
    }

    fn note(&self, of: Of) -> Option<Note> {
        let recording = Rc::clone(self.recording.as_ref()?);
        Some(Note { recording, of, number: 0 })
    }
}

/// What was used of a draw goes here.
#[derive(Clone, Debug)]
pub(crate) struct Note {
    recording: Rc<RefCell<Recording>>,
    of: Of,
    number: u64,
}

#[derive(Clone, Copy, Debug)]
enum Of {
    Stream(Key),
    /// What else there is to decide about a strike, by its position.
    Strike(usize),
}

impl Note {
    pub(crate) fn of_draw(&self, number: u64) -> Self {
        Self { number, ..self.clone() }
    }

    /// Of the word at this position, as much as `enough` says was used.
    pub(crate) fn used(&self, position: u8, word: u64, enough: u64) {
        let mut recording = self.recording.borrow_mut();
        let used = match self.of {
            Of::Stream(key) => recording.draws.entry(key).or_default().entry(self.number),
            Of::Strike(at) => recording.of_strikes.entry(at as u64),
        };
        used.or_default().note(usize::from(position), word, enough);
    }
}

/// What a run has used so far.
#[derive(Debug, Default)]
pub struct Recording {
    draws: BTreeMap<Key, BTreeMap<u64, Used>>,
    of_strikes: BTreeMap<u64, Used>,
    strikes: Vec<Planned>,
    times_us: Vec<u64>,
}

/// The words of a draw as far as they were used.
#[derive(Clone, Debug, Default)]
struct Used([Option<u64>; 8]);

impl Used {
    fn note(&mut self, position: usize, word: u64, enough: u64) {
        let kept = &mut self.0[position];
        // What has decided two things must go on deciding both.
        *kept = Some(if kept.is_none_or(|kept| kept == enough) { enough } else { word });
    }

    fn words(&self) -> Option<Words> {
        let words = self.0.map(|word| word.unwrap_or(CALM));
        words.iter().any(|&word| word != CALM).then_some(words)
    }
}

impl Recording {
    fn strike(&mut self, strike: &Strike, event: u64, now_us: u64) -> usize {
        let (is_aimed, node) = match strike.at {
            Target::Leader(node) => (true, node),
            Target::Node(node) => (false, node),
        };
        self.strikes.push(Planned {
            when: When::Event(event),
            fault: strike.fault,
            is_aimed,
            node,
            lasts_us: strike.lasts_us,
            operations: strike.operations,
            clients: strike.clients,
            words: [CALM; 8],
        });
        self.times_us.push(now_us);
        self.strikes.len() - 1
    }

    /// The tape of the run so far, which had these options.
    #[must_use]
    pub fn tape(&self, options: &Options) -> Tape {
        let draws = self.draws.iter().filter_map(|(&key, used)| {
            let words = used.iter().filter_map(|(&number, used)| Some((number, used.words()?)));
            let draws: Draws = words.collect();
            (!draws.is_empty()).then(|| (key, Rc::new(draws)))
        });
        let strikes = self.strikes.iter().enumerate().map(|(at, strike)| {
            let used = self.of_strikes.get(&(at as u64));
            Planned { words: used.and_then(Used::words).unwrap_or([CALM; 8]), ..*strike }
        });
        Tape {
            options: Options { profile: Profile::Swarm, ..options.clone() },
            strikes: Rc::new(strikes.collect()),
            draws: draws.collect(),
        }
    }

    /// When the strikes came, in microseconds.
    #[must_use]
    pub fn times_us(&self) -> &[u64] {
        &self.times_us
    }
}

/// A strike of a tape as one of the nemesis.
impl Planned {
    pub(crate) fn strike(&self) -> Strike {
        Strike {
            fault: self.fault,
            at: if self.is_aimed { Target::Leader(self.node) } else { Target::Node(self.node) },
            lasts_us: self.lasts_us,
            operations: self.operations,
            clients: self.clients,
            draw: Draw::of(self.words),
        }
    }
}
