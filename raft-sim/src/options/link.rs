//! What the links between nodes do to frames.

use serde::{Deserialize, Serialize};

use crate::rng::Ratio;

/// How long a frame is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DelayLaw {
    /// Anything in a range.
    Uniform {
        /// The shortest, in microseconds.
        low_us: u64,
        /// The longest, in microseconds.
        high_us: u64,
    },
    /// A fixed part and an exponential one.
    Exponential {
        /// The fixed part, in microseconds.
        low_us: u64,
        /// The mean of the other, in microseconds.
        mean_us: u64,
    },
    /// Mostly short, sometimes up to a thousand times as long.
    HeavyTail {
        /// The shortest, in microseconds.
        low_us: u64,
    },
}

/// What all links have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkOptions {
    /// How long frames take.
    pub delay: DelayLaw,
    /// Whether frames may overtake each other.
    pub reorder: bool,
    /// How much later than others a frame may come that is overtaken, in microseconds.
    pub late_us: u64,
    /// How often a frame is lost.
    pub loss: Ratio,
    /// How often a frame arrives twice.
    pub duplication: Ratio,
    /// How often a frame is changed.
    pub corruption: Ratio,
    /// The most frames on their way over one link.
    pub queue_max: u32,
}

impl LinkOptions {
    /// The same delays without any fault.
    #[must_use]
    pub fn without_faults(self) -> Self {
        let delay = match self.delay {
            DelayLaw::HeavyTail { low_us } => {
                DelayLaw::Uniform { low_us, high_us: low_us.saturating_mul(2) }
            }
            law @ (DelayLaw::Uniform { .. } | DelayLaw::Exponential { .. }) => law,
        };
        Self {
            delay,
            reorder: false,
            late_us: 0,
            loss: Ratio::NEVER,
            duplication: Ratio::NEVER,
            corruption: Ratio::NEVER,
            queue_max: u32::MAX,
        }
    }
}
