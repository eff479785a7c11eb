//! A leader with a damaged entry: it serves nothing, asks, and drops the entry only when too many
//! never had it.

use raft_core::{
    Body, Config, Effect, EntryResult, Envelope, HaltReason, Incarnation, Index, Member,
    MemberStep, Membership, MembershipChange, NodeId, Observation, Outcome, ReadMode, Rejection,
    RepairId, RepairRpc, RoleName, Rpc, RpcKind, Ticket,
};

use crate::follower::{batches, beat, heals, led, missed};
use crate::support::{Cluster, config, member, membership};

/// Of `size` voters, n1 has an entry that nobody else was sent, and then it is damaged there. n1
/// leads again, elected by its identities.
fn leads_with_a_hole(size: u64) -> Cluster {
    let voters: Vec<u64> = (1..=size).collect();
    let mut cluster = Cluster::new(&voters, &[]);
    cluster.elect(1);
    beat(&mut cluster, 1);
    cluster.propose(1, 50, "lonely");
    cluster.take(|_| true);
    cluster.break_entries(1, &[2]);
    leads_again(&mut cluster);
    cluster.trace.clear();
    cluster
}

/// n1 wins an election; what it asks for then is lost.
fn leads_again(cluster: &mut Cluster) {
    cluster.fall_silent();
    cluster.step(1, Body::Campaign);
    cluster.deliver_if(|sent| sent.rpc.kind() != RpcKind::RequestEntry);
    assert_eq!(cluster.status(1).role, RoleName::Leader);
}

/// The question that n1 asks, and an answer to it.
fn question(cluster: &mut Cluster) -> RepairId {
    cluster.tick(1, 1_000);
    let asked = cluster.take(|sent| sent.rpc.kind() == RpcKind::RequestEntry);
    cluster.take(|_| true);
    let Rpc::Repair(RepairRpc::RequestEntry { id, .. }) = asked[0].rpc else {
        unreachable!("nothing else was taken")
    };
    id
}

fn answer(cluster: &mut Cluster, from: Member, id: RepairId, result: EntryResult) {
    let status = cluster.status(1);
    let Config { cluster: name, group, .. } = config(1);
    let envelope = Envelope {
        cluster: name,
        group,
        from,
        to: member(1),
        epoch: status.epoch,
        incarnation: Incarnation(1),
        term: status.term,
        rpc: Rpc::Repair(RepairRpc::RequestEntryResponse { id, result }),
    };
    cluster.step(1, Body::Peer(envelope));
}

fn is_discarded(cluster: &Cluster) -> bool {
    cluster.status(1).last.index != Index(2) || cluster.status(1).damaged == 0
}

#[test]
fn it_appends_nothing_and_serves_nothing_before_its_log_is_whole() {
    let mut cluster = led(3);
    cluster.break_entries(1, &[3]);
    leads_again(&mut cluster);
    let last = cluster.status(1).last;
    assert_eq!(last.index, Index(4), "not even the entry of its term");
    let damaged = Outcome::Refused(Rejection::Damaged { index: Index(3) });
    cluster.propose(1, 20, "refused");
    let mode = ReadMode::ReadIndex;
    cluster.step(1, Body::Read { ticket: Ticket(21), mode });
    cluster.step(1, Body::TransferLeadership { ticket: Ticket(22), to: None });
    let change = MembershipChange::Steps(vec![MemberStep::Remove(NodeId(3))]);
    cluster.step(1, Body::ProposeMembership { ticket: Ticket(23), change, expect: None });
    for ticket in 20..=23 {
        assert_eq!(cluster.server(1).outcomes[&Ticket(ticket)], damaged, "{ticket}");
    }
    cluster.trace.clear();
    cluster.tick(1, 100);
    let sends = |kind: RpcKind, cluster: &Cluster| {
        cluster
            .trace
            .iter()
            .any(|(_, effect)| matches!(effect, Effect::Send(sent) if sent.rpc.kind() == kind))
    };
    assert!(sends(RpcKind::Heartbeat, &cluster), "the group has a leader");
    assert!(!sends(RpcKind::AppendEntries, &cluster));
    // A peer has the entry: healed in place, the leader leads.
    cluster.tick(1, 1_000);
    cluster.deliver();
    assert_eq!(heals(&cluster, 1), [Index(3)]);
    assert_eq!(cluster.status(1).last.index, Index(5));
    cluster.propose(1, 30, "served");
    beat(&mut cluster, 1);
    assert!(matches!(cluster.server(1).outcomes[&Ticket(30)], Outcome::Committed { .. }));
    assert_eq!(cluster.log_of(2), cluster.log_of(1));
}

#[test]
fn it_asks_at_once_when_it_is_elected() {
    let mut cluster = led(2);
    cluster.break_entries(1, &[2]);
    cluster.fall_silent();
    cluster.elect(1);
    assert_eq!(cluster.status(1).damaged, 0, "no time has passed");
}

#[test]
fn it_drops_the_entry_once_too_many_never_had_it() {
    // How many of so many voters suffice: one more than a quorum can do without.
    for (size, enough) in [(2, 1), (3, 2), (4, 2), (5, 3)] {
        let mut cluster = leads_with_a_hole(size);
        let id = question(&mut cluster);
        for peer in 2..2 + enough {
            assert!(!is_discarded(&cluster), "{size} voters, {peer}");
            answer(&mut cluster, member(peer), id, EntryResult::DontHave);
            // A second time counts for nothing.
            answer(&mut cluster, member(peer), id, EntryResult::DontHave);
        }
        let discarded =
            cluster.server(1).observations.iter().any(
                |seen| matches!(seen, Observation::EntryDiscarded { id } if id.index == Index(2)),
            );
        assert!(discarded, "{size} voters");
        let cut = batches(&cluster, 1).iter().filter_map(|batch| batch.truncate_from).next();
        assert_eq!(cut, Some(Index(2)));
        beat(&mut cluster, 1);
        beat(&mut cluster, 1);
        assert_eq!(cluster.log_of(2), cluster.log_of(1));
        assert!(cluster.status(1).commit >= Index(2), "it leads like any other");
    }
}

#[test]
fn peers_answer_truthfully_and_the_group_goes_on() {
    let mut cluster = leads_with_a_hole(3);
    cluster.tick(1, 1_000);
    cluster.deliver();
    assert_eq!(cluster.status(1).damaged, 0);
    cluster.propose(1, 60, "next");
    beat(&mut cluster, 1);
    assert!(matches!(cluster.server(1).outcomes[&Ticket(60)], Outcome::Committed { .. }));
}

#[test]
fn damage_and_doubt_and_silence_are_no_evidence() {
    let mut cluster = leads_with_a_hole(3);
    let id = question(&mut cluster);
    answer(&mut cluster, member(2), id, EntryResult::HaveDamaged);
    answer(&mut cluster, member(3), id, EntryResult::DontHave);
    assert!(!is_discarded(&cluster));
    // Who does not know the end of its log says that it may have had it.
    let mut cluster = leads_with_a_hole(3);
    cluster.lose_tail(2, 2);
    cluster.tick(1, 1_000);
    let mut results = Vec::new();
    cluster.deliver_if(|sent| {
        if let Rpc::Repair(RepairRpc::RequestEntryResponse { result, .. }) = &sent.rpc {
            results.push((sent.from, result.clone()));
        }
        true
    });
    assert!(results.contains(&(member(2), EntryResult::HaveDamaged)), "{results:?}");
    assert!(results.contains(&(member(3), EntryResult::DontHave)), "{results:?}");
    assert!(!is_discarded(&cluster));
    // It says for what it waits on whom.
    cluster.tick(1, 1_000);
    assert_eq!(missed(&cluster, 1), Some((Index(2), vec![member(3)], vec![member(2)])));
    assert_eq!(cluster.status(1).role, RoleName::Leader, "it stays");
}

#[test]
fn answers_to_other_questions_and_of_other_lives_are_dropped() {
    let mut cluster = leads_with_a_hole(3);
    let id = question(&mut cluster);
    let older = RepairId { n: id.n - 1, ..id };
    let other_life = RepairId { incarnation: Incarnation(id.incarnation.0 - 1), ..id };
    for wrong in [older, other_life] {
        answer(&mut cluster, member(2), wrong, EntryResult::DontHave);
        answer(&mut cluster, member(3), wrong, EntryResult::DontHave);
        assert!(!is_discarded(&cluster));
    }
    // A peer that has started again since: what its earlier life says counts no more.
    cluster.crash(2);
    cluster.crash(2);
    cluster.tick(1, 100);
    cluster.deliver_if(|sent| sent.rpc.kind() != RpcKind::RequestEntry);
    answer(&mut cluster, member(2), id, EntryResult::DontHave);
    answer(&mut cluster, member(3), id, EntryResult::DontHave);
    assert!(!is_discarded(&cluster));
}

#[test]
fn only_voters_that_the_membership_at_the_entry_names_count() {
    let mut cluster = leads_with_a_hole(3);
    let id = question(&mut cluster);
    // The same servers with other disks, admitted later or never.
    answer(&mut cluster, Member::new(2, 999), id, EntryResult::DontHave);
    answer(&mut cluster, Member::new(3, 999), id, EntryResult::DontHave);
    answer(&mut cluster, member(9), id, EntryResult::DontHave);
    assert!(!is_discarded(&cluster));
}

/// Not even once it is a member again does a server that has lost its disk speak for who it was.
#[test]
fn a_member_of_another_lineage_denies_nothing() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    cluster.elect(1);
    beat(&mut cluster, 1);
    cluster.propose(1, 50, "lonely");
    let reborn = Member::new(3, 333);
    let steps = vec![MemberStep::Remove(NodeId(3)), MemberStep::AddLearner(reborn)];
    let change = MembershipChange::Steps(steps);
    cluster.step(1, Body::ProposeMembership { ticket: Ticket(51), change, expect: None });
    cluster.take(|_| true);
    cluster.break_entries(1, &[2]);
    leads_again(&mut cluster);
    assert!(cluster.status(1).membership.is_member(reborn));
    let id = question(&mut cluster);
    let refusals = cluster.refusals(1);
    answer(&mut cluster, member(2), id, EntryResult::DontHave);
    answer(&mut cluster, reborn, id, EntryResult::DontHave);
    assert_eq!(cluster.refusals(1), refusals, "both were asked");
    assert_eq!(cluster.status(1).damaged, 1);
    answer(&mut cluster, member(3), id, EntryResult::DontHave);
    assert_eq!(cluster.status(1).damaged, 0, "who it was says so itself");
}

/// Under a joint membership the incoming half alone decides.
#[test]
fn of_a_joint_membership_the_incoming_half_decides() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[4, 5]);
    cluster.elect(1);
    beat(&mut cluster, 1);
    // Out go n2 and n3, in come n4 and n5; nobody else is sent the entry after that.
    let steps = vec![
        MemberStep::Promote(NodeId(4)),
        MemberStep::Promote(NodeId(5)),
        MemberStep::Remove(NodeId(2)),
        MemberStep::Remove(NodeId(3)),
    ];
    let change = MembershipChange::EnterJoint(steps);
    cluster.step(1, Body::ProposeMembership { ticket: Ticket(1), change, expect: None });
    beat(&mut cluster, 1);
    let joint: Membership = (*cluster.status(1).membership).clone();
    assert!(joint.is_joint());
    let at = cluster.status(1).last.index.next();
    cluster.propose(1, 2, "lonely");
    cluster.take(|_| true);
    cluster.break_entries(1, &[at.0]);
    leads_again(&mut cluster);
    let id = question(&mut cluster);
    for outgoing in [2, 3] {
        answer(&mut cluster, member(outgoing), id, EntryResult::DontHave);
    }
    assert_eq!(cluster.status(1).damaged, 1, "the outgoing half says nothing");
    answer(&mut cluster, member(4), id, EntryResult::DontHave);
    assert_eq!(cluster.status(1).damaged, 1);
    answer(&mut cluster, member(5), id, EntryResult::DontHave);
    assert_eq!(cluster.status(1).damaged, 0);
}

#[test]
fn it_never_drops_what_is_known_to_be_committed() {
    let mut cluster = led(2);
    // Its disk says how much is committed; then n1 leads, and all others lie.
    let mut server = cluster.servers.remove(&1).unwrap();
    server.disk.damaged.insert(Index(2));
    let mut found = server.disk.recovered();
    found.commit = Index(3);
    let (raft, _) = raft_core::Raft::recover(config(1), found, cluster.now).unwrap();
    server.raft = raft;
    cluster.servers.insert(1, server);
    let seq = raft_core::PersistSeq { incarnation: cluster.status(1).incarnation, n: 1 };
    cluster.step(1, Body::Persisted { seq });
    leads_again(&mut cluster);
    let id = question(&mut cluster);
    for peer in [2, 3] {
        answer(&mut cluster, member(peer), id, EntryResult::DontHave);
    }
    let halted = Observation::Halted { reason: HaltReason::CommittedLost { index: Index(2) } };
    assert!(cluster.server(1).observations.contains(&halted));
}

#[test]
fn an_answer_that_is_not_the_entry_heals_nothing() {
    let mut cluster = led(3);
    cluster.break_entries(1, &[3]);
    leads_again(&mut cluster);
    let id = question(&mut cluster);
    let before = cluster.server(1).raft.entry_id(Index(2)).unwrap();
    let payload = raft_core::Payload::Command("another".into());
    let entries = raft_core::Entries::after(before, [(before.term, payload)]);
    answer(&mut cluster, member(2), id, EntryResult::Have { entries });
    assert_eq!(cluster.status(1).damaged, 1);
    assert_eq!(membership(&[1, 2, 3], &[]), *cluster.status(1).membership);
}

/// Its heartbeats go on, so nothing else would tell a follower that its reads are not answered.
#[test]
fn reads_forwarded_to_a_leader_that_cannot_answer_end() {
    let mut cluster = leads_with_a_hole(3);
    let passes = |sent: &Envelope| sent.rpc.kind() != RpcKind::RequestEntryResponse;
    cluster.deliver_if(passes);
    cluster.tick(1, 100);
    cluster.deliver_if(passes);
    let (first, later) = (Ticket(7), Ticket(100));
    cluster.step(2, Body::Read { ticket: first, mode: ReadMode::ReadIndex });
    let not_leader = Outcome::Refused(Rejection::NotLeader { hint: Some(member(1)) });
    let mut beats = 0;
    while !cluster.server(2).outcomes.contains_key(&first) {
        assert!(cluster.status(1).role == RoleName::Leader && cluster.status(1).damaged == 1);
        cluster.deliver_if(passes);
        cluster.tick(1, 100);
        beats += 1;
        assert!(beats < 30, "it waits for ever");
        // What is asked for later does not prolong it.
        let ticket = Ticket(later.0 + beats);
        cluster.step(2, Body::Read { ticket, mode: ReadMode::ReadIndex });
    }
    assert!(beats > 20, "two election timeouts are twenty heartbeats, not {beats}");
    assert_eq!(
        [first, Ticket(later.0 + 1)].map(|ticket| cluster.server(2).outcomes[&ticket]),
        [not_leader; 2]
    );
}
