//! The arguments that say which run is meant, and how it differs from what its seed alone draws.

use std::path::PathBuf;

use clap::Args;

use super::EXIT_USAGE;
use super::one::parse_seed;
use super::output::tell;
use super::replay::read;
use crate::options::{EVENTS_DEFAULT, Options, Profile};
use crate::setup::Setup;
use crate::tape::Tape;

/// One run: that of a seed or that of a tape.
#[derive(Clone, Debug, Args)]
pub(super) struct Which {
    /// A tape that `--record` or `shrink` has written, or a person.
    #[arg(required_unless_present = "seed", conflicts_with = "seed")]
    file: Option<PathBuf>,
    /// The seed, as for a single run.
    #[arg(long, value_name = "N", value_parser = parse_seed)]
    seed: Option<u64>,
    #[command(flatten)]
    knobs: Knobs,
}

/// Where a run comes from.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// A seed has drawn these.
    Options(Box<Options>),
    /// The tape of this file.
    Tape(Box<Tape>, PathBuf),
}

impl Which {
    /// The run.
    ///
    /// # Errors
    /// The exit code, if there is no such run; the person has been told.
    pub(super) fn source(&self) -> Result<Source, u8> {
        let Some(file) = &self.file else {
            let options = self.seed.and_then(|seed| self.knobs.options(seed));
            return Ok(Source::Options(Box::new(options.ok_or(EXIT_USAGE)?)));
        };
        if self.knobs.is_any() {
            tell("error: a tape says itself what its options are (see --help)");
            return Err(EXIT_USAGE);
        }
        Ok(Source::Tape(Box::new(read(file)?), file.clone()))
    }
}

/// What runs have in common.
#[derive(Clone, Debug, Args)]
pub(super) struct Knobs {
    /// How many events the faults of a run last.
    #[arg(long, default_value_t = EVENTS_DEFAULT)]
    events: u64,
    /// The family of faults: swarm (all, mixed), net, process, clock, disk, membership, client or
    /// beyond (more than a group can bear).
    #[arg(long, value_name = "FAMILY", default_value_t = Profile::Swarm)]
    profile: Profile,
    /// Sets an option, instead of drawing it; as often as one likes. The names and values of all
    /// options of a run: raft-sim options --seed N. strikes.CLASS=N: that class of faults strikes once in N
    /// events, in the mean; strike_events=N: all classes do.
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = parse_knob)]
    knobs: Vec<(String, String)>,
}

impl Knobs {
    /// What they say.
    pub(super) fn setup(&self) -> Setup {
        let Self { events, profile, knobs } = self.clone();
        Setup { events, profile, knobs }
    }

    /// Whether they say anything.
    pub(super) fn is_any(&self) -> bool {
        self.setup() != Setup::default()
    }

    /// The options of a run; nothing but a line on standard error if no cluster runs like that.
    pub(super) fn options(&self, seed: u64) -> Option<Options> {
        let options = self.setup().options(seed);
        options.map_err(|error| tell(format_args!("error: {error} (see --help)"))).ok()
    }
}

fn parse_knob(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("an option is set by NAME=VALUE")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}
