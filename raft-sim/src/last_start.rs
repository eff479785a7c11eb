//! The end of a run: everything stops, and starts once more.
//!
//! What was healed, scrubbed and rolled over since the last start has not been read by anybody but its
//! own writer. So all processes stop, and each starts again on what its disk has by then. Nobody may find
//! damage now: where there was any, it is healed. Where disks had lost something, the group must come as far
//! again, for only who applies a log, or restores a snapshot, has read all of it. Then one of them loses a
//! copy of what is kept twice, when nothing else writes there any more: its scrub has to.
//!
//! Absent: servers that have been stopped for good, and a power cut. Runs beyond the budget have one.

use crate::check::{Invariant, Violation};
use crate::damage::is_hurt;
use crate::event::NodeAt;
use crate::failure::Failure;
use crate::node::Outside;
use crate::process::Process;
use crate::workload::Workload;
use crate::world::World;

/// So many sectors are tried, for most of a file hold nothing that is still needed.
const COPIES_TRIED: usize = 4;

impl<W: Workload> World<W> {
    /// Stops and starts everything, and waits until the core is where it was.
    ///
    /// # Errors
    /// Safety, as ever; a disk is not whole; or the group does not get going again.
    pub(crate) fn start_over(&mut self) -> Result<(), Failure> {
        // A story ends here: what it is about has happened, and a script has other disks.
        let scribe = self.scribe.take();
        let result = self.start_all_again();
        self.scribe = scribe;
        result
    }

    fn start_all_again(&mut self) -> Result<(), Failure> {
        let running: Vec<NodeAt> = (0..self.nodes.len())
            .filter(|&at| self.nodes[at].outside != Some(Outside::Stopped))
            .collect();
        running.iter().for_each(|&at| {
            self.stop(at);
        });
        for &at in &running {
            if self.is_in_core(at) {
                self.is_as_new(at)?;
            }
        }
        self.wait_anew();
        for &at in &running {
            self.start(at)?;
        }
        if self.options.has_damage() {
            self.come_back()?;
            self.lose_a_copy()?;
        }
        Ok(())
    }

    fn come_back(&mut self) -> Result<(), Failure> {
        while !self.is_back() {
            self.next()?;
            self.check_bounds()?;
        }
        Ok(())
    }

    /// One server loses a copy of its hard state or of its identity, and has to become whole again. Which
    /// one follows from what has happened, so that a replay needs no draw for it.
    fn lose_a_copy(&mut self) -> Result<(), Failure> {
        let number = usize::try_from(self.digest.value() >> 40).expect("24 bits");
        let core: Vec<NodeAt> = (0..self.nodes.len()).filter(|&at| self.is_in_core(at)).collect();
        let Some(&at) = core.get(number % core.len().max(1)) else { return Ok(()) };
        // Who hears that it is at rest writes its hard state once more, and would make up for the loss.
        let has_rest = |process: &Process<W>| process.has_heard_of_rest();
        while !(self.is_back() && self.nodes[at].process.as_ref().is_some_and(has_rest)) {
            self.next()?;
            self.check_bounds()?;
        }
        for sector in number..number + COPIES_TRIED {
            let Some(wound) = self.nodes[at].disk.spoil_copy(sector) else { return Ok(()) };
            if self.inspect(at).is_some_and(|found| is_hurt(&found)) {
                self.keep(at, wound);
                self.wait_anew();
                return self.come_back();
            }
            self.nodes[at].disk.mend(&wound);
        }
        Ok(())
    }

    /// Whether the core leads, and everybody in it has applied everything.
    fn is_back(&self) -> bool {
        let is_led = self.leader().is_some_and(|at| self.nodes[at].outside.is_none());
        is_led && self.stuck().is_none()
    }

    /// A disk that has healed is like one that was never hurt: whoever finds damage on it is wrong.
    pub(crate) fn is_as_new(&mut self, at: NodeAt) -> Result<(), Failure> {
        let found = self.inspect(at);
        let is_whole = found.as_ref().is_some_and(|found| self.is_as_whole_as_it_gets(at, found));
        let node = &mut self.nodes[at];
        if let Some(found) = found.as_ref().filter(|_| is_whole) {
            // What a snapshot covers is of no use, and a start finds it all the same.
            node.was_hurt = is_hurt(found) || found.report.damaged().next().is_some();
            node.wounds.clear();
            return Ok(());
        }
        let predicted = "everything has healed: a start finds a whole disk".to_owned();
        let actual = found.map_or_else(
            || "a start finds too little to begin with".to_owned(),
            |found| found.report.to_string().trim_end().to_owned(),
        );
        let broken = Violation::new(Invariant::Recovery, predicted, actual);
        Err(broken.on(node.member.id).into())
    }
}
