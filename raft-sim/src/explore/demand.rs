//! What a story wants an exploration of its end to reach, lest its silence be taken for a proof.

use super::bounds::Bounds;
use super::landmarks;

/// A landmark that must be reached after a story.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Demand {
    pub(crate) what: &'static str,
    /// Only if this was asked for, in a word of [`FLAGS`].
    flag: Option<Flag>,
}

/// A bound, and how much of it was asked for.
type Flag = (&'static str, fn(&Bounds) -> u8);

/// What may be asked for beyond what the story itself has.
const FLAGS: [Flag; 9] = [
    ("entries", |asked| asked.entries),
    ("crashes", |asked| asked.crashes),
    ("damages", |asked| asked.damages),
    ("lost-tails", |asked| asked.lost_tails),
    ("reads", |asked| asked.reads),
    ("transfers", |asked| asked.transfers),
    ("changes", |asked| asked.changes),
    ("snapshots", |asked| asked.snapshots),
    ("heartbeats", |asked| asked.heartbeats),
];

impl Demand {
    /// Reads `LANDMARK` or `with FLAG LANDMARK`.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let Some(rest) = text.strip_prefix("with ") else {
            return Some(Self { what: landmarks::sentence(text)?, flag: None });
        };
        let (name, sentence) = rest.split_once(' ')?;
        let flag = FLAGS.into_iter().find(|(flag, _)| *flag == name)?;
        Some(Self { what: landmarks::sentence(sentence)?, flag: Some(flag) })
    }

    /// Whether it is to be reached when this is asked for.
    pub(crate) fn is_within(&self, asked: &Bounds) -> bool {
        self.flag.is_none_or(|(_, asks)| asks(asked) > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_demand_may_hang_on_what_is_asked_for() {
        let within = |text: &str, crashes| {
            let demand = Demand::read(text)?;
            Some(demand.is_within(&Bounds { crashes, ..Bounds::default() }))
        };
        let always = "a server wins an election";
        assert_eq!((within(always, 0), within(always, 1)), (Some(true), Some(true)));
        let sometimes = "with crashes a server wins an election";
        assert_eq!((within(sometimes, 0), within(sometimes, 1)), (Some(false), Some(true)));
        for wrong in ["", "with", "with crashes", "with luck a server wins an election"] {
            assert_eq!(within(wrong, 1), None, "{wrong}");
        }
    }
}
