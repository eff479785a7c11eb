//! After a cluster that has healed did not do what it must: what each node still lacks.

use crate::event::NodeAt;
use crate::process::Process;
use crate::workload::Workload;
use crate::world::World;

impl<W: Workload> World<W> {
    /// A line for what the whole group lacks, if it lacks anything, and one for each node, in the core or not.
    pub(crate) fn lacking(&self) -> Vec<String> {
        let Some(healed) = &self.healed else { return Vec::new() };
        let committed = self.checker.committed();
        let membership = self.checker.committed_membership();
        let mut lines = vec![format!("committed  {committed}, {membership}, {}", healed.told())];
        lines.extend((0..self.nodes.len()).map(|at| self.lack(at)));
        lines
    }

    fn lack(&self, at: NodeAt) -> String {
        let node = &self.nodes[at];
        let (member, name) = (node.member, node.member.to_string());
        if let Some(outside) = node.outside {
            return format!("{name:<10} outside the core, {outside:?}").to_lowercase();
        }
        if !self.checker.committed_membership().is_member(member) {
            let exile = if node.exile.is_some() { ", and is to come back" } else { "" };
            return format!("{name:<10} no member{exile}");
        }
        let Some(process) = &node.process else { return format!("{name:<10} down") };
        let (seen, committed) = (node.seen, self.checker.committed().0);
        let mut lacks = Vec::new();
        if seen.last != committed {
            lacks.push(format!("its log ends at {}", seen.last));
        }
        if seen.applied != committed {
            lacks.push(format!("has applied {}, knows {} committed", seen.applied, seen.commit));
        }
        if !Process::is_idle(process) {
            lacks.push("its disk is busy".to_owned());
        }
        let damage = self.show_damage(at);
        if self.options.has_damage() && !damage.is_empty() {
            lacks.push(format!("its disk was hurt{damage}"));
        }
        let lacks = if lacks.is_empty() { "nothing".to_owned() } else { lacks.join("; ") };
        format!("{name:<10} lacks {lacks}")
    }
}
