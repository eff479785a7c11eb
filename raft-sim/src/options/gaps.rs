//! How often each class of the nemesis strikes.

use std::fmt;

use crate::fault::Fault;
use crate::nemesis::STRIKING;

/// The mean number of events between two strikes of each class that strikes by itself; of a class that has
/// none, [`Options::strike_events`](super::Options::strike_events) says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gaps([u64; Fault::ALL.len()]);

impl Default for Gaps {
    fn default() -> Self {
        Self([0; Fault::ALL.len()])
    }
}

impl Gaps {
    /// That of a class, if it has one.
    #[must_use]
    pub fn of(&self, fault: Fault) -> Option<u64> {
        Some(self.0[fault as usize]).filter(|&gap| gap > 0)
    }

    /// Sets that of a class; zero takes it away.
    pub(crate) fn set(&mut self, fault: Fault, gap: u64) {
        self.0[fault as usize] = gap;
    }

    /// Reads what [`fmt::Display`] shows.
    pub(super) fn read(text: &str) -> Option<Self> {
        let mut gaps = Self::default();
        let mut words = text.split_ascii_whitespace().filter(|word| *word != "none");
        while let Some(name) = words.next() {
            gaps.set(striking(name)?, words.next()?.parse().ok()?);
        }
        Some(gaps)
    }
}

/// The class of this name, if it strikes by itself.
pub(super) fn striking(name: &str) -> Option<Fault> {
    Fault::named(name).filter(|fault| STRIKING.contains(fault))
}

/// `crash 95 partition 212`, or `none`.
impl fmt::Display for Gaps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut gaps = Fault::ALL.iter().filter_map(|&fault| Some((fault, self.of(fault)?)));
        let Some((fault, gap)) = gaps.next() else { return f.write_str("none") };
        write!(f, "{} {gap}", fault.name())?;
        gaps.try_for_each(|(fault, gap)| write!(f, " {} {gap}", fault.name()))
    }
}
