//! How many runs differ from what their seeds alone say: their length, their profile, and options
//! that are set by hand.

use std::fmt;

use crate::options::{EVENTS_DEFAULT, KnobError, Options, Profile};

/// What runs have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setup {
    /// How many events the chaos of each lasts.
    pub events: u64,
    /// Which faults are drawn from.
    pub profile: Profile,
    /// The names and values of options that are not as drawn, in the order in which they are set.
    pub knobs: Vec<(String, String)>,
}

impl Default for Setup {
    fn default() -> Self {
        Self { events: EVENTS_DEFAULT, profile: Profile::Swarm, knobs: Vec::new() }
    }
}

impl Setup {
    /// The options of the run of a seed.
    ///
    /// # Errors
    /// If an option is unknown, a value none, or the whole describes no cluster.
    pub fn options(&self, seed: u64) -> Result<Options, KnobError> {
        let mut options = Options::draw_as(seed, self.events, self.profile);
        for (name, value) in &self.knobs {
            options.set(name, value)?;
        }
        if !self.knobs.is_empty() {
            options.check()?;
        }
        Ok(options)
    }

    /// What says the same on the command line.
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        let Self { events, profile, knobs } = self;
        let mut arguments = vec![format!("--events={events}"), format!("--profile={profile}")];
        arguments.extend(knobs.iter().map(|(name, value)| format!("--set={name}={value}")));
        arguments
    }
}

/// As on the command line.
impl fmt::Display for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "--events {} --profile {}", self.events, self.profile)?;
        self.knobs.iter().try_for_each(|(name, value)| write!(f, " --set '{name}={value}'"))
    }
}
