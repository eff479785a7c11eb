//! The options of a run as text: a name and a value each, to be shown, stored and changed.
//!
//! Names are those of the fields, with a dot into [`LinkOptions`](super::LinkOptions) and
//! [`ClientOptions`](super::ClientOptions): `link.loss=1/8`. A value is a number, `true` or `false`,
//! a ratio like `1/8`, a law like `exponential 10+30`, or the names of classes of faults. How often one class
//! strikes is set by `strikes.crash=50`; how often all of them do, by `strike_events`.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::Value;

use super::gaps::striking;
use super::{DelayLaw, Gaps, Options, skew_within};
use crate::fault::{Fault, FaultSet};
use crate::rng::Ratio;

/// What begins the name of how often a class strikes.
const STRIKES: &str = "strikes.";

/// Why an option is not as somebody wishes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KnobError {
    /// There is no option of this name.
    Unknown(String),
    /// The value means nothing.
    Value {
        /// The name of the option.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// No cluster runs like this: why.
    Impossible(String),
}

impl fmt::Display for KnobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(name) => write!(f, "there is no option {name}"),
            Self::Value { name, why } => write!(f, "the option {name}: {why}"),
            Self::Impossible(why) => write!(f, "no cluster runs with these options: {why}"),
        }
    }
}

impl std::error::Error for KnobError {}

impl Options {
    /// The names and values of all options, sorted by name.
    #[must_use]
    pub fn knobs(&self) -> Vec<(String, String)> {
        let mut knobs = Vec::new();
        flatten("", &self.to_value(), &mut knobs);
        knobs
    }

    /// Sets the option of this name. Whether the whole still makes sense is told by
    /// [`check`](Self::check).
    ///
    /// # Errors
    /// If there is no such option or the text is no value for it; nothing is changed then.
    pub fn set(&mut self, name: &str, text: &str) -> Result<(), KnobError> {
        let unknown = || KnobError::Unknown(name.to_owned());
        let wrong = |why: String| KnobError::Value { name: name.to_owned(), why };
        if let Some(class) = name.strip_prefix(STRIKES) {
            let fault = striking(class).ok_or_else(unknown)?;
            let gap = text.parse().map_err(|_| wrong(format!("{text:?} is not a number")))?;
            self.strikes.set(fault, gap);
            return Ok(());
        }
        let mut value = self.to_value();
        let pointer = format!("/{}", name.replace('.', "/"));
        let leaf = value.pointer_mut(&pointer).ok_or_else(unknown)?;
        *leaf = match leaf {
            Value::Number(_) => text
                .parse::<u64>()
                .map(Value::from)
                .map_err(|_| wrong(format!("{text:?} is not a number")))?,
            Value::Bool(_) => text
                .parse::<bool>()
                .map(Value::from)
                .map_err(|_| wrong(format!("{text:?} is neither true nor false")))?,
            Value::String(_) => Value::from(text),
            Value::Null | Value::Array(_) | Value::Object(_) => return Err(unknown()),
        };
        let set: Self = serde_json::from_value(value).map_err(|error| wrong(error.to_string()))?;
        let was_adrift = self.faults.contains(Fault::Drift);
        *self = Self { profile: self.profile, ..set };
        if name == "faults" && was_adrift && !self.faults.contains(Fault::Drift) {
            // What clocks were to do beyond what leases bear goes with it.
            self.skew_ppm = self.skew_ppm.min(skew_within(self.clock_drift_percent.into()));
        }
        if name == "strike_events" {
            // It says it of all of them.
            self.strikes = Gaps::default();
        }
        Ok(())
    }

    /// How these options differ from those that the seed draws.
    #[must_use]
    pub fn turned(&self) -> Vec<(String, String)> {
        let drawn = Self::draw_as(self.seed, self.events, self.profile);
        if *self == drawn {
            return Vec::new();
        }
        let pairs = self.knobs().into_iter().zip(drawn.knobs());
        pairs.filter(|(mine, drawn)| mine != drawn).map(|(mine, _)| mine).collect()
    }

    fn to_value(&self) -> Value {
        serde_json::to_value(self).expect("options are numbers, flags and texts")
    }
}

fn flatten(prefix: &str, value: &Value, knobs: &mut Vec<(String, String)>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let dot = if prefix.is_empty() { "" } else { "." };
                flatten(&format!("{prefix}{dot}{name}"), value, knobs);
            }
        }
        Value::String(text) => knobs.push((prefix.to_owned(), text.clone())),
        other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_)) => {
            knobs.push((prefix.to_owned(), other.to_string()));
        }
    }
}

/// `1/8`, or `never`.
impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_never() { f.write_str("never") } else { write!(f, "{}/{}", self.num, self.den) }
    }
}

fn ratio(text: &str) -> Option<Ratio> {
    if text == "never" {
        return Some(Ratio::NEVER);
    }
    let (num, den) = text.split_once('/')?;
    let (num, den) = (num.parse().ok()?, den.parse().ok()?);
    (den > 0 && num <= den).then_some(Ratio::new(num, den))
}

fn law(text: &str) -> Option<DelayLaw> {
    let number = |text: &str| text.parse().ok();
    let (name, values) = text.split_once(' ')?;
    Some(match name {
        "uniform" => {
            let (low, high) = values.split_once("..")?;
            let (low_us, high_us) = (number(low)?, number(high)?);
            (low_us <= high_us).then_some(DelayLaw::Uniform { low_us, high_us })?
        }
        "exponential" => {
            let (low, mean) = values.split_once('+')?;
            DelayLaw::Exponential { low_us: number(low)?, mean_us: number(mean)? }
        }
        "heavy-tail" => DelayLaw::HeavyTail { low_us: number(values)? },
        _ => return None,
    })
}

fn gaps(text: &str) -> Option<Gaps> {
    Gaps::read(text)
}

fn classes(text: &str) -> Option<FaultSet> {
    let mut set = FaultSet::default();
    for name in text.split([' ', ',']).filter(|name| !name.is_empty() && *name != "none") {
        set.insert(*Fault::ALL.iter().find(|fault| fault.name() == name)?);
    }
    Some(set)
}

/// Types that are shown in one line and read back from it.
macro_rules! as_text {
    ($($name:ty, $read:ident, $expected:literal;)*) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                let wrong = || de::Error::custom(format!("{text:?} is not {}", $expected));
                $read(&text).ok_or_else(wrong)
            }
        }
    )*};
}

as_text! {
    Ratio, ratio, "a ratio like 1/8, at most 1/1, or `never`";
    DelayLaw, law, "`uniform LOW..HIGH`, `exponential LOW+MEAN` or `heavy-tail LOW`";
    FaultSet, classes, "a list of classes of faults";
    Gaps, gaps, "classes that strike, each with a number of events";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::EVENTS_DEFAULT;

    #[test]
    fn all_options_are_set_again_from_what_is_shown() {
        for seed in 0..50 {
            let drawn = Options::draw(seed, EVENTS_DEFAULT);
            let mut options = Options::draw(1000, 7);
            for (name, value) in drawn.knobs() {
                options.set(&name, &value).unwrap_or_else(|error| panic!("{error}"));
            }
            assert_eq!(options, drawn);
            assert_eq!(drawn.check(), Ok(()));
        }
    }

    #[test]
    fn what_is_no_option_is_told_and_changes_nothing() {
        let drawn = Options::draw(1, EVENTS_DEFAULT);
        let mut options = drawn.clone();
        for (name, value, part) in [
            ("votes", "3", "there is no option votes"),
            ("link", "3", "there is no option link"),
            ("voters", "three", "\"three\" is not a number"),
            ("voters", "-3", "\"-3\" is not a number"),
            ("segment_slots", "4294967296", "the option segment_slots: "),
            ("pre_vote", "on", "neither true nor false"),
            ("link.loss", "3/2", "a ratio like 1/8"),
            ("link.loss", "1/0", "a ratio like 1/8"),
            ("link.delay", "uniform 9..3", "`uniform LOW..HIGH`"),
            ("faults", "loss,plague", "a list of classes of faults"),
            ("strikes", "crash", "each with a number of events"),
            ("strikes.crash", "often", "\"often\" is not a number"),
            ("strikes.plague", "3", "there is no option strikes.plague"),
            ("strikes.loss", "3", "there is no option strikes.loss"),
        ] {
            let error = options.set(name, value).unwrap_err().to_string();
            assert!(error.contains(part), "{name}={value}: {error}");
            assert_eq!(options, drawn);
        }
    }

    #[test]
    fn clocks_that_are_not_to_drift_any_more_do_not() {
        let is_adrift = |options: &Options| options.faults.contains(Fault::Drift);
        let mut drawn = (0..200).map(|seed| Options::draw(seed, EVENTS_DEFAULT));
        let mut options = drawn.find(is_adrift).expect("some seeds draw it");
        assert!(options.skew_ppm > skew_within(options.clock_drift_percent.into()));
        options.set("faults", "stall").unwrap();
        assert_eq!(options.check(), Ok(()));
    }

    #[test]
    fn each_class_strikes_as_often_as_somebody_wishes() {
        let drawn = Options::draw(7, EVENTS_DEFAULT);
        let mut options = drawn.clone();
        options.set("strikes.crash", "50").unwrap();
        options.set("strikes.pause", "0").unwrap();
        assert_eq!(options.strikes.of(Fault::Crash), Some(50));
        assert_eq!(options.strikes.of(Fault::Pause), None);
        let others = |options: &Options| {
            let mut gaps = options.strikes;
            [Fault::Crash, Fault::Pause].iter().for_each(|&fault| gaps.set(fault, 0));
            gaps
        };
        assert_eq!(others(&options), others(&drawn));
        // Of all of them.
        options.set("strike_events", "64").unwrap();
        assert_eq!((options.strike_events, options.strikes), (64, Gaps::default()));
    }

    #[test]
    fn what_no_cluster_runs_with_is_refused() {
        for (name, value) in [
            ("voters", "0"),
            ("voters", "40"),
            ("election_timeout_us", "1"),
            ("client.clients", "0"),
            ("skew_ppm", "1000000"),
            ("segment_slots", "0"),
            ("disk_us", "99999999999999"),
        ] {
            let mut options = Options::draw(1, EVENTS_DEFAULT);
            options.set(name, value).unwrap();
            assert!(options.check().is_err(), "{name}={value}");
        }
        let mut options = Options::draw(1, EVENTS_DEFAULT);
        for (name, value) in
            [("lease_us", "1"), ("skew_ppm", "100000"), ("clock_drift_percent", "1")]
        {
            options.set(name, value).unwrap();
        }
        assert!(options.check().unwrap_err().to_string().contains("leases"));
    }
}
