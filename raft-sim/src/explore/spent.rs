//! What of the bounds is used up.

use super::host::Input;
use crate::ideal_disk::Loss;

/// How often each bounded thing has happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Spent {
    pub(crate) entries: u8,
    pub(crate) crashes: u8,
    pub(crate) reads: u8,
    pub(crate) transfers: u8,
    pub(crate) changes: u8,
    pub(crate) snapshots: u8,
    pub(crate) damages: u8,
    pub(crate) lost_tails: u8,
    /// Campaigns that timers have begun; counted if they are bounded.
    pub(crate) campaigns: u8,
}

impl Spent {
    /// Counts an input, if it is one of those that are bounded.
    pub(crate) fn count(&mut self, input: &Input) {
        match input {
            Input::Deliver(_)
            | Input::Fire
            | Input::Silence
            | Input::Patience
            | Input::Persist { .. }
            | Input::Campaign
            | Input::StepDown
            | Input::Pass { .. } => {}
            Input::Crash { loss, .. } => {
                self.crashes += 1;
                let is_damage = matches!(loss, Some(Loss::Entry(_) | Loss::Snapshot));
                self.damages += u8::from(is_damage);
                self.lost_tails += u8::from(matches!(loss, Some(Loss::Tail(_))));
            }
            Input::Propose { .. } => self.entries += 1,
            Input::Read { .. } => self.reads += 1,
            Input::Transfer { .. } => self.transfers += 1,
            Input::Change { .. } => self.changes += 1,
            Input::Snapshot => self.snapshots += 1,
            Input::Damage { .. } => self.damages += 1,
        }
    }
}
