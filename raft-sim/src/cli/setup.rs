//! The arguments that say how runs differ from what their seeds alone draw.

use clap::Args;

use super::output::tell;
use crate::options::{EVENTS_DEFAULT, Options, Profile};
use crate::setup::Setup;

/// What runs have in common.
#[derive(Clone, Debug, Args)]
pub(super) struct Knobs {
    /// How many events the faults of a run last.
    #[arg(long, default_value_t = EVENTS_DEFAULT)]
    events: u64,
    /// The family of faults: swarm (all, mixed), net, process, clock, disk, membership or client.
    #[arg(long, value_name = "FAMILY", default_value_t = Profile::Swarm)]
    profile: Profile,
    /// Sets an option, instead of drawing it; as often as one likes. The names and values of all
    /// options of a run: raft-sim options --seed N.
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
