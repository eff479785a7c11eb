//! What is cut, kept apart from the network that must stop it.
//!
//! A simulator that quietly tests less than it says is worse than none. So whoever cuts a link writes
//! it down here as well, and each frame is held against it: nothing passes a link that is cut, and
//! nothing is stopped on one that is whole. A network that leaks a frame now and then, or a healing
//! that forgets a direction, ends the run.

use crate::failure::Failure;
use crate::network::Fate;
use crate::workload::Workload;
use crate::world::World;

/// How often each link is cut.
#[derive(Clone, Debug)]
pub(crate) struct Cuts(Vec<u32>);

impl Cuts {
    /// All links between so many nodes are whole.
    pub(crate) fn new(nodes: usize) -> Self {
        Self(vec![0; nodes * nodes])
    }

    /// All cuts have been mended.
    pub(crate) fn heal(&mut self) {
        self.0.fill(0);
    }

    /// A frame was given to the network, and this became of it.
    pub(crate) fn judge(&self, link: u32, fate: Fate) -> Result<(), Failure> {
        let is_cut = self.0[link as usize] > 0;
        match fate {
            Fate::Sent if is_cut => wrong("a link that is cut passes a frame"),
            Fate::Blocked if !is_cut => wrong("a partition stops a frame on a link that is whole"),
            // The network counts what it drops by itself.
            Fate::Sent | Fate::Blocked | Fate::Dropped => Ok(()),
        }
    }
}

fn wrong(what: &str) -> Result<(), Failure> {
    Err(Failure::Simulator(what.to_owned()))
}

impl<W: Workload> World<W> {
    /// Cuts a link, once more if it is cut already.
    pub(crate) fn cut(&mut self, link: u32) {
        self.cuts.0[link as usize] += 1;
        self.network.block(link);
    }

    /// Takes back a cut of a link.
    pub(crate) fn mend(&mut self, link: u32) {
        let cuts = &mut self.cuts.0[link as usize];
        *cuts = cuts.saturating_sub(1);
        self.network.unblock(link);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_passes_what_is_whole_and_nothing_else() {
        let mut cuts = Cuts::new(2);
        cuts.0[1] = 2;
        let wrong = |cuts: &Cuts, link, fate| cuts.judge(link, fate).is_err();
        assert!(wrong(&cuts, 1, Fate::Sent) && wrong(&cuts, 2, Fate::Blocked));
        assert!(!wrong(&cuts, 1, Fate::Blocked) && !wrong(&cuts, 2, Fate::Sent));
        assert!(!wrong(&cuts, 1, Fate::Dropped) && !wrong(&cuts, 2, Fate::Dropped));
        cuts.heal();
        assert!(wrong(&cuts, 1, Fate::Blocked) && !wrong(&cuts, 1, Fate::Sent));
        assert_eq!(cuts.judge(1, Fate::Blocked).map_err(|failure| failure.exit_code()), Err(7));
    }
}
