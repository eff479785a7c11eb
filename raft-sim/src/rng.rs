//! Randomness: streams keyed by (seed, stream, entity), whose n-th draw is the n-th ChaCha8 block.
//!
//! Every entity (a link, a disk, a client, an option) has its own stream, and every decision takes
//! one whole [`Draw`]. So a decision that falls away, or asks for fewer words, does not shift any
//! other one: a run with one fault class switched off stays as close to the original as it can.
//! There are integers and ratios only, never floating point, so all machines draw the same.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// What a stream is for; part of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// A stream of independent draws.
#[derive(Clone, Debug)]
pub struct Stream {
    rng: ChaCha8Rng,
}

/// The randomness of one decision: eight words, taken in order.
#[derive(Clone, Copy, Debug)]
pub struct Draw {
    words: [u64; 8],
    used: u8,
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
        Self { rng: ChaCha8Rng::from_seed(key) }
    }

    /// The randomness for the next decision.
    pub fn draw(&mut self) -> Draw {
        let mut words = [0; 8];
        for word in &mut words {
            *word = self.rng.next_u64();
        }
        Draw { words, used: 0 }
    }
}

impl Draw {
    /// A draw with one word left: a part of another draw that decides one thing.
    #[must_use]
    pub fn of(word: u64) -> Self {
        Self { words: [word; 8], used: 7 }
    }

    /// The next word.
    ///
    /// # Panics
    /// If the decision needs more than eight words: it must be cut into two.
    pub fn word(&mut self) -> u64 {
        let word = *self.words.get(usize::from(self.used)).expect("a decision has eight words");
        self.used += 1;
        word
    }

    /// A number below `bound`; zero if the bound is.
    pub fn below(&mut self, bound: u64) -> u64 {
        let product = u128::from(self.word()) * u128::from(bound);
        u64::try_from(product >> 64).expect("the upper half of a product of two words is one word")
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
        self.below(u64::from(ratio.den)) < u64::from(ratio.num)
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
        const LN2_16: u128 = 45_426;
        let product = u128::from(neg_log2_16(self.word())) * u128::from(mean) * LN2_16;
        u64::try_from(product >> 32).unwrap_or(u64::MAX)
    }

    /// A number of at least `low` that is above `k * low` once in about `k` times, at most
    /// 1024 times `low`.
    pub fn heavy_tail(&mut self, low: u64) -> u64 {
        let bits = neg_log2_16(self.word()).min(10 << 16);
        let octave = low << (bits >> 16);
        octave + ((octave * (bits & 0xffff)) >> 16)
    }
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
