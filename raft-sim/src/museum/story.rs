//! A story: where it comes from, what it guards, and how it is told.

use std::error::Error;
use std::fmt;

use super::stage::Stage;
use super::subject::Subject;

/// What a story guards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guards {
    /// Nothing bad ever happens.
    Safety,
    /// Something good happens in the end.
    Liveness,
}

/// A bug that an implementation of Raft has had.
#[derive(Clone, Copy, Debug)]
pub struct Story {
    /// Its number in the catalogue; variants of one story share the number and add a letter.
    pub number: &'static str,
    /// The name of its function.
    pub name: &'static str,
    /// Who has had it, and where that can be read.
    pub origin: &'static str,
    /// What it guards.
    pub guards: Guards,
    /// Tells it.
    pub told: fn(&mut Stage<'_>) -> Told,
}

impl Story {
    /// Tells the story with this subject.
    ///
    /// # Errors
    /// [`Untold`] says what did not hold, or what the subject cannot do.
    pub fn tell(&self, subject: &mut dyn Subject) -> Told {
        (self.told)(&mut Stage::new(subject))
    }
}

/// `Ok` if everything that must hold did.
pub type Told = Result<(), Untold>;

/// Why a story did not come to its good end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Untold {
    /// This must hold, and did not.
    Broken(String),
    /// The subject cannot do this.
    Unsupported(&'static str),
}

impl fmt::Display for Untold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken(fact) => write!(f, "must hold, and did not: {fact}"),
            Self::Unsupported(feature) => write!(f, "the subject cannot {feature}"),
        }
    }
}

impl Error for Untold {}

/// Asserts what a story is about.
///
/// # Errors
/// [`Untold::Broken`] with the fact, unless it holds.
pub fn must(holds: bool, fact: impl fmt::Display) -> Told {
    if holds { Ok(()) } else { Err(Untold::Broken(fact.to_string())) }
}

/// The catalogue's entry for a story function of the same name.
macro_rules! story {
    ($number:literal, $guards:ident, $name:ident, $origin:literal) => {
        $crate::museum::story::Story {
            number: $number,
            name: stringify!($name),
            origin: $origin,
            guards: $crate::museum::story::Guards::$guards,
            told: $name,
        }
    };
}
pub(super) use story;
