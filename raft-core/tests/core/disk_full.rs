//! A disk without room: the node goes on with what it has, and lets somebody else lead.

use raft_core::{
    Body, Envelope, Index, Member, MemberStep, MembershipChange, Observation, Outcome, ReadMode,
    Refused, Rejection, RoleName, Rpc, RpcKind, Term, Ticket, Time,
};

use crate::support::{Cluster, member};

fn fill(cluster: &mut Cluster, id: u64, is_full: bool) {
    cluster.step(id, Body::DiskFull { is_full });
}

/// A leader that can append nothing serves nobody: it hands over at once, without being asked.
#[test]
fn a_leader_whose_disk_is_full_hands_over() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    cluster.elect(1);
    fill(&mut cluster, 1, true);
    assert!(cluster.status(1).is_disk_full && cluster.status(1).transferee.is_some());
    cluster.deliver();
    let leads = |id| cluster.status(id).role == RoleName::Leader;
    let leader = [2, 3].into_iter().find(|id| leads(*id)).expect("another one leads");
    assert!(!leads(1) && cluster.server(1).outcomes.is_empty(), "nobody had asked for it");
    // The full disk takes none of its entries, the group goes on without it, and later it has them.
    cluster.propose(leader, 1, "x");
    cluster.deliver();
    let kind = RpcKind::AppendEntries;
    let (from, reason) = (Some(member(leader)), Refused::DiskFull);
    let refused = Observation::Refused { from, kind: Some(kind), reason };
    assert!(cluster.server(1).observations.contains(&refused));
    assert_eq!((cluster.status(leader).commit, cluster.status(1).last.index), (Index(3), Index(1)));
    fill(&mut cluster, 1, false);
    for _ in 0..3 {
        cluster.tick(leader, 100);
        cluster.deliver();
    }
    assert_eq!(cluster.status(1).applied, Index(3));
}

/// Who leads among those that are within reach; they hear each other for so many heartbeats.
fn leads_at_last(
    cluster: &mut Cluster,
    servers: &[u64],
    passes: impl Fn(&Envelope) -> bool,
) -> u64 {
    for _ in 0..100 {
        servers.iter().for_each(|id| cluster.tick(*id, 100));
        cluster.deliver_if(&passes);
    }
    let leads = |id: &u64| cluster.status(*id).role == RoleName::Leader;
    let leaders: Vec<u64> = servers.iter().copied().filter(leads).collect();
    assert_eq!(leaders.len(), 1, "{leaders:?}");
    leaders[0]
}

/// It was about to be elected when its disk became full.
#[test]
fn a_candidate_whose_disk_gets_full_hands_over_when_it_is_elected() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    cluster.step(1, Body::Campaign);
    fill(&mut cluster, 1, true);
    cluster.deliver();
    assert_eq!(cluster.status(1).term, Term(2), "it was elected, and somebody else after it");
    assert_ne!(leads_at_last(&mut cluster, &[1, 2, 3], |_| true), 1);
}

/// The message is lost that asks the successor; the one who is asked next is dead; another has a full
/// disk as well. It goes on until somebody takes over.
#[test]
fn a_leader_whose_disk_is_full_asks_one_voter_after_the_other() {
    let mut cluster = Cluster::new(&[1, 2, 3, 4, 5], &[]);
    cluster.elect(1);
    fill(&mut cluster, 3, true);
    fill(&mut cluster, 1, true);
    let lost = cluster.take(|sent| matches!(sent.rpc, Rpc::TimeoutNow));
    assert_eq!(lost.iter().map(|sent| sent.to).collect::<Vec<_>>(), [member(2)]);
    let is_dead = |one: Member| one == member(2);
    let leader =
        leads_at_last(&mut cluster, &[1, 3, 4, 5], |sent| !is_dead(sent.to) && !is_dead(sent.from));
    assert!([4, 5].contains(&leader), "n{leader} leads");
}

/// Where all are full, its clients hear that, and not that somebody is about to take over.
#[test]
fn a_group_without_room_says_so() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    cluster.elect(1);
    [2, 3, 1].into_iter().for_each(|id| fill(&mut cluster, id, true));
    cluster.propose(1, 1, "x");
    let transferring = Outcome::Refused(Rejection::Transferring);
    assert_eq!(cluster.server(1).outcomes[&Ticket(1)], transferring);
    assert_eq!(leads_at_last(&mut cluster, &[1, 2, 3], |_| true), 1);
    assert!(cluster.status(1).transferee.is_some(), "it goes on");
    cluster.propose(1, 2, "x");
    let change = MembershipChange::Steps(vec![MemberStep::AddLearner(member(4))]);
    cluster.step(1, Body::ProposeMembership { ticket: Ticket(3), change, expect: None });
    let full = Outcome::Refused(Rejection::DiskFull);
    assert_eq!([2, 3].map(|ticket| cluster.server(1).outcomes[&Ticket(ticket)]), [full; 2]);
    // The first one that has room again leads.
    fill(&mut cluster, 3, false);
    assert_eq!(leads_at_last(&mut cluster, &[1, 2, 3], |_| true), 3);
}

/// Where nobody can take over, the leader reads, refuses what would need room, and takes commands
/// again once there is some.
#[test]
fn a_leader_that_is_alone_refuses_what_needs_room() {
    let mut cluster = Cluster::new(&[1], &[]);
    cluster.elect(1);
    fill(&mut cluster, 1, true);
    assert_eq!(cluster.status(1).transferee, None);
    cluster.propose(1, 1, "x");
    let change = MembershipChange::Steps(vec![MemberStep::AddLearner(member(2))]);
    cluster.step(1, Body::ProposeMembership { ticket: Ticket(2), change, expect: None });
    cluster.step(1, Body::Read { ticket: Ticket(3), mode: ReadMode::ReadIndex });
    let full = Outcome::Refused(Rejection::DiskFull);
    assert_eq!([1, 2].map(|ticket| cluster.server(1).outcomes[&Ticket(ticket)]), [full, full]);
    assert_eq!(cluster.server(1).reads[&Ticket(3)], Index(1));
    fill(&mut cluster, 1, false);
    cluster.propose(1, 4, "x");
    assert!(matches!(cluster.server(1).outcomes[&Ticket(4)], Outcome::Committed { .. }));
}

/// Who has no room for the first entry of a term does not begin one, whoever asks; it votes all the
/// same, for that needs none.
#[test]
fn a_node_whose_disk_is_full_votes_and_does_not_campaign() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    cluster.elect(1);
    fill(&mut cluster, 2, true);
    cluster.step(2, Body::Campaign);
    assert_eq!(cluster.refusals(2), [Refused::DiskFull]);
    // A leader that hands over to it leads on.
    cluster.step(1, Body::TransferLeadership { ticket: Ticket(1), to: Some(member(2).id) });
    cluster.deliver();
    assert_eq!(cluster.refusals(2), [Refused::DiskFull, Refused::DiskFull]);
    cluster.tick(1, 1_000);
    cluster.deliver();
    let aborted = Outcome::Refused(Rejection::TransferAborted);
    assert_eq!(cluster.server(1).outcomes[&Ticket(1)], aborted);
    // Nor by itself, however long it hears nobody.
    for _ in 0..3 {
        cluster.tick(2, 10_000);
    }
    assert_eq!(cluster.status(2).role, RoleName::Follower);
    let term = cluster.status(1).term;
    cluster.step(2, Body::ForgetLeader);
    cluster.step(1, Body::StepDown);
    cluster.step(3, Body::ForgetLeader);
    cluster.step(3, Body::Campaign);
    cluster.deliver_if(|sent| sent.to != member(1) && sent.from != member(1));
    assert_eq!(cluster.status(2).vote, Some(member(3)));
    assert_eq!((cluster.status(3).role, cluster.status(3).term), (RoleName::Leader, term.next()));
}

/// What a full disk holds already is acknowledged: a group may need it to commit.
#[test]
fn what_is_there_is_acknowledged() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    cluster.elect(1);
    cluster.propose(1, 1, "x");
    let is_append = |sent: &Envelope| sent.rpc.kind() == RpcKind::AppendEntries;
    let appends = cluster.take(|sent| sent.to == member(2) && is_append(sent));
    cluster.network.clear();
    cluster.step(2, Body::Peer(appends[0].clone()));
    cluster.network.clear();
    fill(&mut cluster, 2, true);
    cluster.step(2, Body::Peer(appends[0].clone()));
    cluster.deliver();
    assert_eq!(cluster.status(1).commit, Index(2));
}

/// What takes the place of a suffix needs a place of its own, even where it is shorter.
#[test]
fn no_suffix_is_replaced() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    cluster.elect(1);
    cluster.propose(1, 1, "lost");
    cluster.propose(1, 2, "lost as well");
    cluster.network.clear();
    let (old, term) = (cluster.status(1).last, cluster.status(1).term);
    assert_eq!(old.index, Index(3));
    fill(&mut cluster, 1, true);
    cluster.step(2, Body::ForgetLeader);
    cluster.step(3, Body::ForgetLeader);
    cluster.step(2, Body::Campaign);
    cluster.deliver();
    assert_eq!((cluster.status(2).role, cluster.status(2).term), (RoleName::Leader, term.next()));
    let kind = RpcKind::AppendEntries;
    let (from, reason) = (Some(member(2)), Refused::DiskFull);
    let refused = Observation::Refused { from, kind: Some(kind), reason };
    assert!(cluster.server(1).observations.contains(&refused));
    assert_eq!(cluster.status(1).last, old);
    fill(&mut cluster, 1, false);
    for _ in 0..3 {
        cluster.tick(2, 100);
        cluster.deliver();
    }
    assert_eq!(cluster.status(1).last, cluster.status(2).last);
}

/// A follower that cannot replace the end of its log does not make its leader send it again and again:
/// between two heartbeats the two have nothing to say to each other.
#[test]
fn a_conflict_that_has_no_room_makes_no_storm() {
    let mut cluster = Cluster::with(&[1, 2, 3], &[], |config| {
        config.pre_vote = false;
        // Its leader must read what it sends, and probes without any of it.
        config.resident_bytes_max = 1;
        config.append_bytes_max = 10;
    });
    cluster.elect(1);
    for ticket in 1..=5 {
        cluster.propose(1, ticket, "ten bytes.");
    }
    cluster.network.clear();
    fill(&mut cluster, 1, true);
    cluster.now = Time(cluster.now.0 + 1_000);
    cluster.step(2, Body::Campaign);
    cluster.deliver_if(|sent| sent.to != member(1));
    for ticket in 6..=9 {
        cluster.propose(2, ticket, "ten bytes.");
        cluster.deliver_if(|sent| sent.to != member(1));
    }
    for _ in 0..3 {
        cluster.tick(2, 100);
        cluster.deliver();
    }
    assert_eq!(cluster.log_of(1).len(), 6, "nothing was replaced");
    assert!(cluster.refusals(1).contains(&Refused::DiskFull));
    fill(&mut cluster, 1, false);
    for _ in 0..3 {
        cluster.tick(2, 100);
        cluster.deliver();
    }
    assert_eq!(cluster.log_of(1), cluster.log_of(2));
}
