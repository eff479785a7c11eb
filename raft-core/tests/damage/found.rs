//! What reading the rules again has found, each as the story that went wrong.

use raft_core::{
    Body, EntryResult, Envelope, Incarnation, Index, Member, MemberStep, MembershipChange,
    Observation, Outcome, Raft, RepairId, RepairRpc, RoleName, Rpc, RpcKind, Slot, Term, Ticket,
};

use crate::follower::{beat, led};
use crate::support::{Cluster, config, member};

fn discarded(cluster: &Cluster, id: u64) -> bool {
    let seen = &cluster.server(id).observations;
    seen.iter().any(|seen| matches!(seen, Observation::EntryDiscarded { .. }))
}

/// A node starts with little memory: all that is durable and applied is cold.
pub(crate) fn forget(cluster: &mut Cluster, id: u64) {
    let mut server = cluster.servers.remove(&id).expect("a node of the cluster");
    server.config.resident_bytes_max = 1;
    cluster.start(server.config, server.disk);
    beat(cluster, 1);
    beat(cluster, 1);
}

fn repair(cluster: &Cluster, from: Member, term: Term, rpc: RepairRpc) -> Body {
    let config = config(1);
    Body::Peer(Envelope {
        cluster: config.cluster,
        group: config.group,
        from,
        to: member(1),
        epoch: cluster.status(1).epoch,
        incarnation: Incarnation(1),
        term,
        rpc: Rpc::Repair(rpc),
    })
}

/// Answers that were given in an earlier term decide in a later one: a committed entry is dropped.
#[test]
fn nacks_of_an_earlier_term_do_not_count() {
    let mut cluster = Cluster::new(&[1, 2, 3, 4, 5], &[]);
    cluster.elect(1);
    beat(&mut cluster, 1);
    // Entry 2 of term 1: n1 and n5 have it.
    cluster.propose(1, 50, "x");
    cluster.deliver_if(|sent| sent.to == member(5));
    cluster.network.clear();
    cluster.break_entries(1, &[2]);
    // n1 follows and asks; n2, n3, n4 say truly that they never had it. n5's answer is lost.
    cluster.tick(1, 1_000);
    cluster.deliver_if(|sent| sent.to != member(5));
    assert_eq!(cluster.status(1).damaged, 1);
    // n5 leads term 2 and commits entries 2 and 3 with n2 and n3. n4 votes, and gets no entries.
    // n1 gets the first probe alone: entry 3 after entry 2, which it has by identity.
    cluster.fall_silent();
    cluster.step(5, Body::Campaign);
    let mut probes = 0;
    cluster.deliver_if(|sent| {
        let is_append = sent.rpc.kind() == RpcKind::AppendEntries;
        if sent.to == member(1) {
            probes += usize::from(is_append);
            return is_append && probes == 1;
        }
        sent.from != member(1) && !(sent.to == member(4) && is_append)
    });
    assert_eq!(cluster.status(5).commit, Index(3), "committed, and a client may have heard it");
    assert_eq!((cluster.status(1).last.index, cluster.status(1).damaged), (Index(3), 1));
    // n5 dies. n1 is elected by its identities; only n4's answer comes, and it is true.
    cluster.servers.remove(&5);
    cluster.fall_silent();
    cluster.step(1, Body::Campaign);
    cluster.deliver_if(|sent| {
        let is_answer = sent.rpc.kind() == RpcKind::RequestEntryResponse;
        !(is_answer && sent.from != member(4))
    });
    assert_eq!(cluster.status(1).role, RoleName::Leader);
    assert!(!discarded(&cluster, 1), "n2 and n3 have acknowledged it since they said no");
}

/// Damage behind the first hole is not noticed, and claimed as intact once the first is healed.
#[test]
fn every_damaged_entry_that_the_host_names_is_a_hole() {
    let mut cluster = led(6);
    forget(&mut cluster, 2);
    let id = |index| cluster.server(2).raft.entry_id(Index(index)).unwrap();
    let entries = vec![id(3), id(5)];
    cluster.step(2, Body::Damaged { entries });
    assert_eq!(cluster.status(2).damaged, 2);
}

/// The same with payloads in memory: only the first is written again.
#[test]
fn every_damaged_entry_in_memory_is_written_again() {
    let mut cluster = led(6);
    let id = |index| cluster.server(2).raft.entry_id(Index(index)).unwrap();
    let entries = vec![id(3), id(5)];
    cluster.trace.clear();
    cluster.step(2, Body::Damaged { entries });
    assert_eq!(crate::follower::heals(&cluster, 2), [Index(3), Index(5)]);
}

/// The peers follow a membership that was dropped with the entry.
#[test]
fn who_drops_a_membership_follows_the_one_before() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    cluster.elect(1);
    beat(&mut cluster, 1);
    cluster.propose(1, 50, "lonely");
    let add = |id| MembershipChange::Steps(vec![MemberStep::AddLearner(member(id))]);
    let change = add(4);
    cluster.step(1, Body::ProposeMembership { ticket: Ticket(51), change, expect: None });
    assert_eq!(cluster.status(1).last.index, Index(3));
    cluster.network.clear();
    cluster.break_entries(1, &[2]);
    cluster.fall_silent();
    cluster.elect(1);
    assert!(discarded(&cluster, 1));
    for _ in 0..3 {
        beat(&mut cluster, 1);
    }
    let change = add(5);
    cluster.step(1, Body::ProposeMembership { ticket: Ticket(52), change, expect: None });
    for _ in 0..3 {
        beat(&mut cluster, 1);
    }
    assert!(matches!(cluster.server(1).outcomes[&Ticket(52)], Outcome::Committed { .. }));
    let peers: Vec<Member> =
        cluster.server(1).raft.peers().iter().map(|peer| peer.member).collect();
    assert_eq!(peers, [member(2), member(3), member(5)]);
}

/// A leader finds out that an entry which only it had is damaged. It may not drop it, and nobody can
/// lead while it does.
#[test]
fn a_leader_steps_down_for_those_who_can_lead_without_the_entry() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    cluster.elect(1);
    beat(&mut cluster, 1);
    cluster.propose(1, 50, "lonely");
    cluster.network.clear();
    let mut server = cluster.servers.remove(&1).unwrap();
    let mut found = server.disk.recovered();
    for slot in &mut found.slots {
        if let Slot::Resident { id, payload } = slot
            && id.index == Index(2)
        {
            *slot = Slot::Cold { id: *id, bytes: payload.len() };
        }
    }
    let (raft, effects) = Raft::recover(config(1), found, cluster.now).unwrap();
    server.raft = raft;
    for effect in effects {
        if let raft_core::Effect::Persist(batch) = effect {
            server.disk.write(&batch);
        }
    }
    server.disk.damaged.insert(Index(2));
    cluster.servers.insert(1, server);
    let incarnation = cluster.status(1).incarnation;
    cluster.step(1, Body::Persisted { seq: raft_core::PersistSeq { incarnation, n: 1 } });
    let id = cluster.server(1).raft.entry_id(Index(2)).unwrap();
    cluster.fall_silent();
    cluster.elect(1);
    cluster.step(1, Body::Damaged { entries: vec![id] });
    for _ in 0..300 {
        cluster.tick(1, 100);
        cluster.deliver();
    }
    let stuck = cluster.status(1).role == RoleName::Leader && cluster.status(1).commit < Index(2);
    assert!(!stuck, "both others never had the entry, and could lead");
}

/// The only voter of a new epoch can be healed by nobody.
#[test]
fn who_is_damaged_is_not_forced() {
    let mut cluster = led(3);
    cluster.break_entries(1, &[3]);
    cluster.servers.remove(&2);
    cluster.step(1, Body::ForceMembership { ticket: Ticket(9) });
    for _ in 0..100 {
        cluster.tick(1, 100);
        cluster.deliver();
    }
    assert!(cluster.server(1).outcomes.contains_key(&Ticket(9)), "{}", cluster.status(1).damaged);
}

/// Every stranger that answers is remembered.
#[test]
fn strangers_do_not_fill_the_memory() {
    let mut cluster = led(3);
    cluster.break_entries(1, &[3]);
    let status = cluster.status(1);
    let id = RepairId { incarnation: status.incarnation, n: 1 };
    let size = |cluster: &Cluster| format!("{:?}", cluster.server(1).raft).len();
    let before = size(&cluster);
    for lineage in 0..1_000 {
        let rpc = RepairRpc::RequestEntryResponse { id, result: EntryResult::HaveDamaged };
        let body = repair(&cluster, Member::new(77, lineage), status.term, rpc);
        cluster.step(1, body);
    }
    assert!(size(&cluster) < 2 * before, "{before} became {}", size(&cluster));
}

/// A removed server that campaigns in vain deposes a leader by asking for an entry.
#[test]
fn a_question_of_a_later_term_does_not_depose_a_living_leader() {
    let mut cluster = led(3);
    cluster.tick(1, 100);
    cluster.deliver();
    let status = cluster.status(2);
    assert_eq!(status.leader, Some(member(1)));
    let wanted = cluster.server(1).raft.entry_id(Index(2)).unwrap();
    let id = RepairId { incarnation: Incarnation(1), n: 1 };
    let rpc = RepairRpc::RequestEntry { id, wanted, is_snapshot: false };
    let body = repair(&cluster, member(9), Term(status.term.0 + 7), rpc);
    cluster.step(1, body);
    assert_eq!(cluster.status(1).role, RoleName::Leader);
}

/// The barrier that was told before the leader dropped the end of its log is out of reach.
#[test]
fn a_barrier_follows_the_leaders_log_back() {
    let mut cluster = Cluster::new(&[1, 2, 3, 4, 5], &[]);
    cluster.elect(1);
    beat(&mut cluster, 1);
    for ticket in 50..58 {
        cluster.propose(1, ticket, "lonely");
    }
    cluster.network.clear();
    cluster.break_entries(1, &[2]);
    cluster.lose_tail(5, 2);
    cluster.fall_silent();
    cluster.step(1, Body::Campaign);
    cluster.deliver_if(|sent| sent.rpc.kind() != RpcKind::RequestEntry);
    assert_eq!(cluster.status(1).role, RoleName::Leader);
    cluster.tick(1, 100);
    cluster.deliver_if(|sent| sent.rpc.kind() != RpcKind::RequestEntry);
    for _ in 0..100 {
        cluster.tick(1, 100);
        cluster.deliver();
    }
    assert!(discarded(&cluster, 1));
    assert_eq!(cluster.log_of(5), cluster.log_of(1));
    assert!(!cluster.status(5).is_tail_unknown, "its log equals the leader's");
}

/// What the first healing makes durable includes an entry that the disk has lost.
#[test]
fn no_claim_goes_through_a_damaged_entry() {
    let mut cluster = led(6);
    forget(&mut cluster, 2);
    let id = |index| cluster.server(2).raft.entry_id(Index(index)).unwrap();
    let entries = vec![id(3), id(5)];
    cluster.servers.get_mut(&2).unwrap().disk.damaged.extend([Index(3), Index(5)]);
    cluster.step(2, Body::Damaged { entries });
    // n1's answers heal what is known to be damaged; then n3 leads, and counts n2 again.
    cluster.tick(2, 1_000);
    cluster.deliver();
    cluster.servers.remove(&1);
    cluster.fall_silent();
    cluster.elect(3);
    beat(&mut cluster, 3);
    let damaged = cluster.server(2).disk.damaged.clone();
    let peers = cluster.server(3).raft.peers();
    let claimed = peers.iter().find(|peer| peer.member == member(2)).unwrap().match_index;
    assert!(damaged.iter().all(|index| claimed < *index), "{claimed} of {damaged:?}");
}

/// Only who is a member tells by its question what is committed, and a leader counts for itself what
/// it has appended in its term.
#[test]
fn what_a_stranger_asks_for_is_not_taken_for_committed() {
    let mut cluster = led(3);
    cluster.propose(1, 9, "nobody else has it");
    let commit = cluster.status(1).commit;
    let newest = cluster.status(1).last;
    assert_eq!(newest.index, commit.next());
    let ask = |cluster: &mut Cluster, from: u64, to: u64| {
        let id = RepairId { incarnation: Incarnation(1), n: 1 };
        let rpc = RepairRpc::RequestEntry { id, wanted: newest, is_snapshot: true };
        let term = cluster.status(to).term;
        let Body::Peer(envelope) = repair(cluster, member(from), term, rpc) else { return };
        cluster.step(to, Body::Peer(Envelope { to: member(to), ..envelope }));
    };
    ask(&mut cluster, 9, 1);
    ask(&mut cluster, 3, 1);
    assert_eq!(
        (cluster.status(1).commit, cluster.server(1).outcomes.get(&Ticket(9))),
        (commit, None)
    );

    cluster.deliver_if(|sent| sent.to == member(2));
    assert_eq!((cluster.status(2).last, cluster.status(2).commit), (newest, commit));
    ask(&mut cluster, 9, 2);
    assert_eq!(cluster.status(2).commit, commit);
    ask(&mut cluster, 3, 2);
    assert_eq!(cluster.status(2).commit, newest.index);
}
