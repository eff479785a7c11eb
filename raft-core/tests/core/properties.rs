//! Properties against naive models, and equal states with equal digests.

use std::collections::BTreeSet;

use bytes::Bytes;
use proptest::prelude::*;
use raft_core::quorum::{VoteResult, committed, is_quorum, majority, vote_result};
use raft_core::{Body, Index, Member, Membership, Term, Ticket};

use crate::support::{Cluster, member};

fn simple(voters: &[u64]) -> Membership {
    let voters = voters.iter().map(|id| member(*id)).collect();
    Membership::new(voters, vec![]).expect("ids are distinct")
}

proptest! {
    /// The commit index is the highest that some majority has reached, by trying every subset.
    #[test]
    fn the_quorum_index_equals_brute_force(matched in prop::collection::vec(0u64..8, 1..8)) {
        let ids: Vec<u64> = (1..=matched.len() as u64).collect();
        let membership = simple(&ids);
        let of = |member: Member| Index(matched[usize::try_from(member.id.0).unwrap() - 1]);
        let brute = (0u32..1 << ids.len())
            .filter(|set| set.count_ones() as usize >= majority(ids.len()))
            .map(|set| (0..ids.len()).filter(|n| set >> n & 1 == 1).map(|n| matched[n]).min())
            .max()
            .flatten()
            .unwrap_or(0);
        prop_assert_eq!(committed(&membership, of), Index(brute));
    }

    /// An election is won by a majority of grants, and lost when no majority can grant any more.
    #[test]
    fn an_election_is_decided_exactly_when_it_must_be(
        votes in prop::collection::vec(prop::option::of(any::<bool>()), 1..8)
    ) {
        let ids: Vec<u64> = (1..=votes.len() as u64).collect();
        let membership = simple(&ids);
        let of = |member: Member| votes[usize::try_from(member.id.0).unwrap() - 1];
        let yes = votes.iter().filter(|vote| **vote == Some(true)).count();
        let open = votes.iter().filter(|vote| vote.is_none()).count();
        let expected = if yes >= majority(ids.len()) {
            VoteResult::Won
        } else if yes + open >= majority(ids.len()) {
            VoteResult::Pending
        } else {
            VoteResult::Lost
        };
        prop_assert_eq!(vote_result(&membership, of), expected);
    }

    /// Any two quorums share a member.
    #[test]
    fn two_quorums_intersect(count in 1u64..8, one in any::<u8>(), two in any::<u8>()) {
        let ids: Vec<u64> = (1..=count).collect();
        let membership = simple(&ids);
        let set = |bits: u8| -> BTreeSet<Member> {
            ids.iter().filter(|id| bits >> (*id - 1) & 1 == 1).map(|id| member(*id)).collect()
        };
        let (one, two) = (set(one), set(two));
        if is_quorum(&membership, |m| one.contains(&m)) && is_quorum(&membership, |m| two.contains(&m)) {
            prop_assert!(one.intersection(&two).next().is_some());
        }
    }

    /// Logs that grew apart under several leaders converge once one of them leads undisturbed,
    /// and nothing that was committed before is lost.
    #[test]
    fn logs_converge_and_keep_what_was_committed(
        script in prop::collection::vec((1u64..4, 0usize..4, any::<u8>()), 1..12)
    ) {
        let mut cluster = Cluster::with(&[1, 2, 3], &[], |config| config.pre_vote = false);
        let mut acknowledged: Vec<(Term, Index)> = Vec::new();
        for (ticket, (leader, proposals, loss)) in script.into_iter().enumerate() {
            cluster.now.0 += 2_000;
            cluster.step(leader, Body::Campaign);
            let mut count = 0u32;
            let mut lossy = |cluster: &mut Cluster| {
                cluster.deliver_if(|_| {
                    count += 1;
                    u32::from(loss) >> (count % 8) & 1 == 0
                });
            };
            lossy(&mut cluster);
            for n in 0..proposals {
                let command = Bytes::from_static(b"x");
                let ticket = Ticket((ticket * 10 + n) as u64);
                cluster.step(leader, Body::Propose { ticket, command });
                lossy(&mut cluster);
            }
            for entry in &cluster.server(leader).applied {
                let id = (entry.term(), entry.index());
                if !acknowledged.contains(&id) {
                    acknowledged.push(id);
                }
            }
        }
        settle(&mut cluster);
        for id in 1..=3 {
            prop_assert!(cluster.violations(id).is_empty());
            prop_assert_eq!(cluster.log_of(id), cluster.log_of(1));
            for entry in &acknowledged {
                prop_assert!(cluster.log_of(id).contains(entry), "n{} lost {:?}", id, entry);
            }
        }
    }
}

/// Undisturbed, some node leads and everyone has its log.
fn settle(cluster: &mut Cluster) {
    for _ in 0..60 {
        for id in [1, 2, 3] {
            cluster.tick(id, 50);
            cluster.deliver();
        }
    }
}

/// §6: a joint membership needs both halves, whatever their union has.
#[test]
fn a_joint_quorum_needs_both_halves() {
    // Decoding is the only way to a joint membership while changes are absent.
    let joint = joint(&[1, 2, 3], &[3, 4, 5]);
    let has = |ids: &'static [u64]| move |member: Member| ids.contains(&member.id.0);
    assert!(is_quorum(&joint, has(&[2, 3, 4])));
    assert!(!is_quorum(&joint, has(&[1, 2, 3])), "one of three of the outgoing half");
    assert!(!is_quorum(&joint, has(&[1, 4, 5])), "one of three of the incoming half");
    let matched = |member: Member| Index(if member.id.0 <= 3 { 7 } else { 2 });
    assert_eq!(committed(&joint, matched), Index(2));
}

fn joint(incoming: &[u64], outgoing: &[u64]) -> Membership {
    let list = |ids: &[u64]| -> Vec<(u64, u64)> { ids.iter().map(|id| (*id, id * 10)).collect() };
    let none: Vec<(u64, u64)> = Vec::new();
    let bytes = postcard::to_allocvec(&(list(incoming), list(outgoing), &none, &none, true))
        .expect("plain numbers encode");
    let membership: Membership = postcard::from_bytes(&bytes).expect("the fields in their order");
    membership.validate().expect("the halves are well formed");
    membership
}

/// Equal states have equal digests, whenever they were reached; different states do not.
#[test]
fn a_digest_is_about_the_state_and_not_about_the_time() {
    let run = |start: u64, command: &'static str| {
        let mut cluster = Cluster::new(&[1, 2, 3], &[]);
        cluster.now.0 += start;
        for id in [1, 2, 3] {
            cluster.crash(id);
        }
        cluster.elect(1);
        cluster.propose(1, 1, command);
        cluster.deliver();
        cluster.server(1).raft.clone()
    };
    let (one, two, three) = (run(0, "x"), run(5_000, "x"), run(0, "y"));
    assert!(one == two && one.digest() == two.digest());
    assert!(one != three && one.digest() != three.digest());
}

/// A digest that changes without a change of the code means that the toolchain hashes differently:
/// digests recorded before are not comparable any more.
#[test]
fn the_digest_is_the_one_that_was_recorded() {
    let mut cluster = Cluster::new(&[1, 2, 3], &[]);
    cluster.elect(1);
    cluster.propose(1, 1, "x");
    cluster.deliver();
    assert_eq!(format!("{:016x}", cluster.server(1).raft.digest()), "8dc0f55997eaf6ce");
}
