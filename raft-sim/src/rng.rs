//! Randomness: streams keyed by (seed, stream, entity), whose n-th draw is the n-th ChaCha8 block.
//!
//! A stream can also come from a tape, which holds the words that some run has used. What is not on
//! it is [`CALM`]: all ones, the word of which nothing special follows.
//!
//! Every entity (a link, a disk, a client, an option) has its own stream, and every decision takes
//! one whole [`Draw`]. So a decision that falls away, or asks for fewer words, does not shift any
//! other one: a run with one fault class switched off stays as close to the original as it can.
//! There are integers and ratios only, never floating point, so all machines draw the same.

use std::collections::BTreeMap;
use std::rc::Rc;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::tape::Note;

/// The word of which nothing special follows: what may happen with some probability does not, a
/// delay is short, a pause is the mean one, and of several things it is the last one.
///
/// A seed draws it once in 2^64 times.
pub const CALM: u64 = u64::MAX;

/// The words of one decision.
pub type Words = [u64; 8];

/// The draws of one stream that are not calm, by their numbers from 0.
pub type Draws = BTreeMap<u64, Words>;

/// What a stream is for; part of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// The options of a run; the entity is the option.
    Options = 1,
    /// What happens to frames on one directed link.
    Link = 2,
    /// What a disk keeps at a crash.
    DiskCrash = 3,
    /// How long a disk takes.
    DiskLatency = 4,
    /// What a client does.
    Client = 5,
    /// When a fault of one class strikes, where and how.
    Nemesis = 6,
    /// How long a node takes to look at its inbox.
    Schedule = 7,
    /// The lineage of a data directory.
    Lineage = 8,
    /// What an operator asks for.
    Operator = 9,
    /// What sets one node apart from the others.
    Node = 10,
    /// A history that is made up to be judged.
    History = 11,
}

impl Purpose {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Options,
        Self::Link,
        Self::DiskCrash,
        Self::DiskLatency,
        Self::Client,
        Self::Nemesis,
        Self::Schedule,
        Self::Lineage,
        Self::Operator,
        Self::Node,
        Self::History,
    ];

    /// Its name on a tape.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Options => "options",
            Self::Link => "link",
            Self::DiskCrash => "disk-crash",
            Self::DiskLatency => "disk-latency",
            Self::Client => "client",
            Self::Nemesis => "nemesis",
            Self::Schedule => "schedule",
            Self::Lineage => "lineage",
            Self::Operator => "operator",
            Self::Node => "node",
            Self::History => "history",
        }
    }
}

/// A stream of independent draws.
#[derive(Clone, Debug)]
pub struct Stream {
    rng: ChaCha8Rng,
    /// What is drawn instead, if it does not come from a seed.
    taped: Option<Rc<Draws>>,
    /// Who wants to know what is used of it.
    listener: Option<Note>,
    drawn: u64,
}

/// The randomness of one decision: eight words, taken in order.
#[derive(Clone, Debug)]
pub struct Draw {
    words: Words,
    used: u8,
    listener: Option<Rc<Note>>,
}

/// A probability as a ratio: `num` in `den`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ratio {
    /// How often it happens.
    pub num: u32,
    /// Out of how many times; zero means never.
    pub den: u32,
}

impl Ratio {
    /// Never.
    pub const NEVER: Self = Self { num: 0, den: 1 };

    /// `num` times in `den`; all that never happens is [`Ratio::NEVER`].
    #[must_use]
    pub const fn new(num: u32, den: u32) -> Self {
        if num == 0 || den == 0 { Self::NEVER } else { Self { num, den } }
    }

    /// Whether it never happens.
    #[must_use]
    pub fn is_never(self) -> bool {
        self.num == 0 || self.den == 0
    }
}

impl Stream {
    /// The stream of `entity` for `purpose` in the run of `seed`.
    #[must_use]
    pub fn new(seed: u64, purpose: Purpose, entity: u64) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..16].copy_from_slice(&(purpose as u64).to_le_bytes());
        key[16..24].copy_from_slice(&entity.to_le_bytes());
        key[24..].copy_from_slice(b"raft-sim");
        Self { rng: ChaCha8Rng::from_seed(key), taped: None, listener: None, drawn: 0 }
    }

    /// A stream that draws these, and is calm otherwise.
    #[must_use]
    pub fn taped(draws: Rc<Draws>) -> Self {
        Self { taped: Some(draws), ..Self::new(0, Purpose::Options, 0) }
    }

    /// The same stream; whatever is used of it is noted.
    #[must_use]
    pub(crate) fn noted(self, listener: Option<Note>) -> Self {
        Self { listener, ..self }
    }

    /// The randomness for the next decision.
    pub fn draw(&mut self) -> Draw {
        let mut words = [CALM; 8];
        match &self.taped {
            None => words.iter_mut().for_each(|word| *word = self.rng.next_u64()),
            Some(draws) => words = draws.get(&self.drawn).copied().unwrap_or(words),
        }
        let number = self.drawn;
        self.drawn += 1;
        let listener = self.listener.as_ref().map(|note| Rc::new(note.of_draw(number)));
        Draw { words, used: 0, listener }
    }
}

impl Draw {
    /// The draw with these words.
    #[must_use]
    pub fn of(words: Words) -> Self {
        Self { words, used: 0, listener: None }
    }

    /// The same draw; whatever is used of it is noted here instead.
    #[must_use]
    pub(crate) fn noted(self, listener: Option<Note>) -> Self {
        Self { listener: listener.map(Rc::new), ..self }
    }

    /// What follows from the next word.
    ///
    /// # Panics
    /// If the decision needs more than eight words: it must be cut into two.
    fn decide<T: PartialEq>(&mut self, follows: impl Fn(u64) -> T) -> T {
        let word = *self.words.get(usize::from(self.used)).expect("a decision has eight words");
        let value = follows(word);
        if let Some(listener) = &self.listener {
            listener.used(self.used, word, shortest(word, &value, follows));
        }
        self.used += 1;
        value
    }

    /// The next word.
    ///
    /// # Panics
    /// If the decision needs more than eight words: it must be cut into two.
    pub fn word(&mut self) -> u64 {
        self.decide(|word| word)
    }

    /// Passes over a word of which nothing follows this time.
    pub fn skip(&mut self) {
        self.used += 1;
    }

    /// A number below `bound`; zero if the bound is.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.decide(|word| below(word, bound))
    }

    /// A number below `bound`, which is `calm` where nothing special happens.
    pub fn below_or(&mut self, bound: u64, calm: u64) -> u64 {
        self.decide(|word| if word == CALM { calm } else { below(word, bound) })
    }

    /// A position in a list of `len` items; zero if it is empty.
    pub fn position(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).expect("below a usize")
    }

    /// A number in `low..=high`.
    pub fn range(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// Whether something of this probability happens.
    pub fn chance(&mut self, ratio: Ratio) -> bool {
        self.decide(|word| below(word, u64::from(ratio.den)) < u64::from(ratio.num))
    }

    /// The same, with what is the case where nothing special happens.
    pub fn chance_or(&mut self, ratio: Ratio, calm: bool) -> bool {
        let (num, den) = (u64::from(ratio.num), u64::from(ratio.den));
        self.decide(|word| if word == CALM { calm } else { below(word, den) < num })
    }

    /// A number in `low..=high` whose logarithm is about uniform; takes two words.
    pub fn log_uniform(&mut self, low: u64, high: u64) -> u64 {
        let octaves = u64::from((high / low.max(1)).max(1).ilog2()) + 1;
        let base = low.max(1) << self.below(octaves);
        (base + self.below(base)).clamp(low, high)
    }

    /// A number with about an exponential distribution of this mean.
    ///
    /// The logarithm of the word is its leading zeros, linear in between: close enough for a delay.
    pub fn exponential(&mut self, mean: u64) -> u64 {
        self.decide(|word| exponential(word, mean))
    }

    /// The same for what would happen all the time if it were calm: then it takes the mean.
    pub fn pause(&mut self, mean: u64) -> u64 {
        self.decide(|word| if word == CALM { mean } else { exponential(word, mean) })
    }

    /// A number of at least `low` that is above `k * low` once in about `k` times, at most
    /// 1024 times `low`.
    pub fn heavy_tail(&mut self, low: u64) -> u64 {
        self.decide(|word| {
            let bits = neg_log2_16(word).min(10 << 16);
            let octave = low << (bits >> 16);
            octave + ((octave * (bits & 0xffff)) >> 16)
        })
    }
}

fn below(word: u64, bound: u64) -> u64 {
    let product = u128::from(word) * u128::from(bound);
    u64::try_from(product >> 64).expect("the upper half of a product of two words is one word")
}

fn exponential(word: u64, mean: u64) -> u64 {
    const LN2_16: u128 = 45_426;
    let product = u128::from(neg_log2_16(word)) * u128::from(mean) * LN2_16;
    u64::try_from(product >> 32).unwrap_or(u64::MAX)
}

/// The word with the fewest hexadecimal digits, from the left, of which the same follows; [`CALM`]
/// if it may be that.
fn shortest<T: PartialEq>(word: u64, value: &T, follows: impl Fn(u64) -> T) -> u64 {
    if follows(CALM) == *value {
        return CALM;
    }
    let prefixes = (1..16).flat_map(|digits| {
        let unit = 1 << (64 - 4 * digits);
        let floor = word & !(unit - 1);
        [Some(floor), floor.checked_add(unit)]
    });
    prefixes.flatten().find(|&prefix| follows(prefix) == *value).unwrap_or(word)
}

/// Minus the binary logarithm of `word / 2^64`, in units of 2^-16.
fn neg_log2_16(word: u64) -> u64 {
    let zeros = u64::from(word.leading_zeros()).min(62);
    let fraction = (word << (zeros + 1)) >> 48;
    (zeros << 16) + (1 << 16) - fraction
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draw_does_not_depend_on_how_much_an_earlier_one_used() {
        let mut one = Stream::new(7, Purpose::Link, 3);
        let mut two = Stream::new(7, Purpose::Link, 3);
        one.draw().word();
        let mut draw = two.draw();
        for _ in 0..8 {
            draw.word();
        }
        assert_eq!(one.draw().word(), two.draw().word());
        assert_ne!(
            one.draw().word(),
            Stream::new(7, Purpose::Link, 4).draw().word(),
            "entities differ"
        );
    }

    #[test]
    fn the_words_of_a_seed_never_change() {
        let mut draw = Stream::new(1, Purpose::Options, 0).draw();
        assert_eq!((draw.word(), draw.word()), (GOLDEN.0, GOLDEN.1));
    }

    const GOLDEN: (u64, u64) = (6_688_318_547_177_519_451, 13_444_829_438_283_951_393);

    #[test]
    fn distributions_have_about_their_means() {
        let mut stream = Stream::new(1, Purpose::Link, 0);
        let (mut exponential, mut hits, mut far) = (0, 0, 0);
        for _ in 0..10_000 {
            let mut draw = stream.draw();
            exponential += draw.exponential(1000);
            hits += u32::from(draw.chance(Ratio::new(1, 4)));
            far += u32::from(draw.heavy_tail(100) > 1600);
            let value = draw.log_uniform(3, 700);
            assert!((3..=700).contains(&value));
        }
        assert!((9_500_000..11_500_000).contains(&exponential), "{exponential}");
        assert!((2_300..2_700).contains(&hits), "{hits}");
        assert!((500..800).contains(&far), "{far}");
    }

    #[test]
    fn bounds_are_kept() {
        let mut stream = Stream::new(2, Purpose::Client, 0);
        for _ in 0..1_000 {
            let mut draw = stream.draw();
            assert!(draw.below(7) < 7);
            assert!((5..=6).contains(&draw.range(5, 6)));
            assert_eq!(draw.below(0), 0);
            assert!(!draw.chance(Ratio::NEVER));
            assert!(draw.heavy_tail(10) <= 20_480);
        }
    }
}
