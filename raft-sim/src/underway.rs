//! What is on its way: a frame may outlive the log of who sent it, and a request waits for its reader.

use std::sync::Arc;

use bytes::Bytes;
use raft_core::{Index, Membership, Payload, Rpc, Status, wire};
use raft_replica::request::{Input, Request};

use crate::event::Event;
use crate::workload::Workload;
use crate::world::World;

impl<W: Workload> World<W> {
    /// The memberships that some node may yet append, of which no log need tell: each in a frame that
    /// nobody has read, and not committed; or in the log of a process that has yet to write it; or wanted by
    /// an operator who has not been heard.
    pub(crate) fn memberships_under_way(&self) -> Vec<Arc<Membership>> {
        let committed = self.checker.committed();
        let mut found = self.memberships_in_memory(committed);
        for frame in self.unread() {
            // What is no frame any more, for a bit that has flipped, cannot be appended.
            let Ok(envelope) = wire::decode(frame.clone(), &self.limits) else { continue };
            let Rpc::AppendEntries { entries, .. } = &envelope.rpc else { continue };
            for entry in entries.iter().filter(|entry| entry.id().index > committed) {
                if let Payload::Membership(membership) = entry.payload() {
                    found.push(Arc::clone(membership));
                }
            }
        }
        found
    }

    fn memberships_in_memory(&self, committed: Index) -> Vec<Arc<Membership>> {
        let mut found = Vec::new();
        for process in self.nodes.iter().filter_map(|node| node.process.as_ref()) {
            let Status { membership, last, .. } = process.replica.status();
            for input in &process.inbox {
                let Input::Request { request, .. } = input else { continue };
                let Request::ChangeMembership { change, .. } = request else { continue };
                found.extend(membership.changed(change).ok().map(Arc::new));
            }
            let is_known = self.checker.memberships().any(|one| *one == *membership);
            if last.index > committed && !is_known {
                found.push(membership);
            }
        }
        found
    }

    /// The frames that are in flight, held by a link, or with a process that has yet to look at them.
    fn unread(&self) -> impl Iterator<Item = &Bytes> {
        let in_flight = self.queue.iter().filter_map(|event| {
            let Event::Frame { frame, .. } = event else { return None };
            Some(frame)
        });
        let processes = self.nodes.iter().filter_map(|node| node.process.as_ref());
        let waiting = processes.flat_map(|process| &process.inbox).filter_map(|input| {
            let Input::Frame(frame) = input else { return None };
            Some(frame)
        });
        in_flight.chain(self.network.held()).chain(waiting)
    }
}

#[cfg(test)]
mod tests {
    use raft_core::{
        ClusterId, Entries, EntryId, Envelope, GroupId, MemberStep, MembershipChange, Round,
        Session, Term,
    };
    use raft_replica::request::RequestId;

    use super::*;
    use crate::options::Options;
    use crate::workload::KeyValue;

    /// A leader's frame with one change of the membership, at `index`.
    fn change(world: &World<KeyValue>, index: Index) -> Bytes {
        let [from, to] = [0, 1].map(|at: usize| world.nodes[at].member);
        let before = EntryId { index: Index(index.0 - 1), ..EntryId::default() };
        let changed = Payload::Membership(Arc::new(world.founders.clone()));
        let (cluster, group) = (ClusterId(1), GroupId(1));
        let (epoch, incarnation) = Default::default();
        let rpc = Rpc::AppendEntries {
            session: Session(1),
            round: Round::default(),
            prev: before,
            entries: Entries::after(before, [(Term(9), changed)]),
            commit: Index::ZERO,
        };
        wire::encode(&Envelope { cluster, group, from, to, epoch, incarnation, term: Term(9), rpc })
    }

    #[test]
    fn a_change_is_under_way_in_flight_on_a_clogged_link_and_unread_until_it_is_settled() {
        let mut world =
            World::<KeyValue>::of_options(Options { events: 1_000, ..Options::default() });
        world.run().expect("a run without faults passes");
        let next = Index(world.checker.committed().0 + 1);
        let (old, new) = (change(&world, world.checker.committed()), change(&world, next));
        let link = world.network.link(0, 1);
        assert!(world.can_spare(0) && world.memberships_under_way().is_empty());

        world.network.inject(link, old, &mut world.queue);
        assert!(world.memberships_under_way().is_empty(), "its place is taken");
        world.network.inject(link, new.clone(), &mut world.queue);
        assert_eq!(world.memberships_under_way(), [Arc::new(world.founders.clone())]);

        assert!(world.network.clog(link));
        world.network.send(link, new.clone(), &mut world.queue, &mut world.stats.tally);
        assert_eq!(world.memberships_under_way().len(), 2);

        world.nodes[1].paused = true;
        world.deliver(1, Input::Frame(new)).expect("it is put aside");
        assert_eq!(world.memberships_under_way().len(), 3);
        assert!(world.can_spare(0), "three can do without one");

        let voter = world.founders.incoming()[0].id;
        let change = MembershipChange::Steps(vec![MemberStep::Remove(voter)]);
        let request = Request::ChangeMembership { change, expect: None };
        let wanted = Input::Request { id: RequestId(7), request };
        world.deliver(1, wanted).expect("it is put aside");
        assert!(world.memberships_under_way().iter().any(|one| one.incoming().len() == 2));
        assert!(!world.can_spare(0), "two cannot do without one");
        world.nodes[1].process.as_mut().expect("it runs").inbox.pop();
        assert_eq!(world.memberships_under_way().len(), 3);

        let two = world.founders.incoming()[..2].to_vec();
        world.founders = Membership::new(two, Vec::new()).expect("two servers are a group");
        world.network.inject(link, self::change(&world, next), &mut world.queue);
        assert!(!world.can_spare(0), "two cannot");
    }
}
