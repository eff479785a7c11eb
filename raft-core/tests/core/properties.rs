//! Properties against naive models, and equal states with equal digests.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use proptest::prelude::*;
use raft_core::quorum::{VoteResult, committed, is_quorum, majority, vote_result};
use raft_core::{
    AppendResult, Body, ClusterId, Envelope, Epoch, GroupId, Incarnation, Index, Member,
    Membership, Round, Rpc, Session, Status, Term, Ticket,
};

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

/// A set of servers 1 to 4, one bit for each.
type Set = u32;

fn ids(set: Set) -> Vec<u64> {
    (1u64..=4).filter(|id| set >> (id - 1) & 1 == 1).collect()
}

fn is_majority(set: Set, half: Set) -> bool {
    (set & half).count_ones() * 2 > half.count_ones()
}

/// §6, by trying everything: all joint and simple memberships of four servers, all sets of those
/// that agree, all ways in which they may have matched or voted.
#[test]
fn joint_quorums_equal_brute_force() {
    for (incoming, outgoing) in (1..16).flat_map(|one| (0..16).map(move |two| (one, two))) {
        let agrees =
            |set: Set| is_majority(set, incoming) && (outgoing == 0 || is_majority(set, outgoing));
        let quorums: Vec<Set> = (0..16).filter(|set| agrees(*set)).collect();
        let membership = match outgoing {
            0 => simple(&ids(incoming)),
            _ => joint(&ids(incoming), &ids(outgoing)),
        };
        for set in 0..16 {
            let says = |member: Member| set >> (member.id.0 - 1) & 1 == 1;
            assert_eq!(is_quorum(&membership, says), quorums.contains(&set), "{membership}");
        }
        check_all_values(&membership, &quorums);
        // Thesis §4.3: a joint quorum meets every quorum of either half alone.
        for half in [incoming, outgoing].into_iter().filter(|half| *half != 0) {
            let mut alone = (0..16).filter(|set| is_majority(*set, half));
            assert!(alone.all(|set| quorums.iter().all(|quorum| quorum & set != 0)));
        }
    }
}

/// Three values for each of four servers: what it has matched, or how it has voted.
fn check_all_values(membership: &Membership, quorums: &[Set]) {
    for code in 0..3usize.pow(4) {
        let value = |id: u64| code / 3usize.pow(u32::try_from(id).expect("small") - 1) % 3;
        let least = |set: &Set| ids(*set).into_iter().map(value).min();
        let best = quorums.iter().filter_map(least).max().unwrap_or(0);
        let matched = |member: Member| Index(value(member.id.0) as u64);
        assert_eq!(committed(membership, matched), Index(best as u64), "{membership} {code}");

        let vote = |member: Member| [None, Some(false), Some(true)][value(member.id.0)];
        let all_of = |answers: &[usize]| {
            quorums.iter().any(|set| ids(*set).into_iter().all(|id| answers.contains(&value(id))))
        };
        let expected = match (all_of(&[2]), all_of(&[0, 2])) {
            (true, _) => VoteResult::Won,
            (false, true) => VoteResult::Pending,
            (false, false) => VoteResult::Lost,
        };
        assert_eq!(vote_result(membership, vote), expected, "{membership} {code}");
    }
}

/// What happens between a leader and the one follower whose window is watched.
#[derive(Clone, Debug)]
enum Exchange {
    /// So many commands of one size are proposed in one batch.
    Propose(usize, usize),
    /// The follower acknowledges the oldest appends on their way, all in one answer.
    Acknowledge(usize),
    /// It answers a heartbeat: what is old may be lost.
    Heartbeat,
}

fn exchange() -> impl Strategy<Value = Exchange> {
    prop_oneof![
        3 => (0usize..7, 1usize..5).prop_map(|(size, count)| Exchange::Propose(size, count)),
        3 => (1usize..4).prop_map(Exchange::Acknowledge),
        1 => Just(Exchange::Heartbeat),
    ]
}

/// The appends on their way to a follower, as a naive observer counts them.
struct Watched {
    cluster: Cluster,
    /// The last index and the bytes of each, oldest first.
    sent: VecDeque<(Index, usize)>,
    next: Index,
    tickets: u64,
}

const WINDOW: usize = 3;
const WINDOW_BYTES: usize = 20;
const MESSAGE_BYTES: usize = 8;
const MESSAGE_ENTRIES: usize = 3;

impl Watched {
    fn new() -> Self {
        let mut cluster = Cluster::with(&[1, 2], &[], |config| {
            config.inflight_appends_max = WINDOW;
            config.inflight_bytes_max = WINDOW_BYTES;
            config.append_bytes_max = MESSAGE_BYTES;
            config.append_entries_max = MESSAGE_ENTRIES;
        });
        cluster.elect(1);
        let next = cluster.status(1).last.index.next();
        Self { cluster, sent: VecDeque::new(), next, tickets: 0 }
    }

    /// The leader takes an input; what it sends must fit.
    fn step(&mut self, body: Body) -> Result<(), TestCaseError> {
        self.cluster.step(1, body);
        for envelope in self.cluster.take(|_| true) {
            let Rpc::AppendEntries { prev, entries, .. } = envelope.rpc else { continue };
            let Some(last) = entries.last() else { continue };
            prop_assert_eq!(prev.index.next(), self.next, "each append follows the one before");
            prop_assert!(entries.len() == 1 || entries.bytes() <= MESSAGE_BYTES);
            prop_assert!(entries.len() <= MESSAGE_ENTRIES);
            self.sent.push_back((last.index(), entries.bytes()));
            self.next = last.index().next();
            let bytes: usize = self.sent.iter().map(|(_, bytes)| bytes).sum();
            prop_assert!(self.sent.len() <= WINDOW);
            prop_assert!(self.sent.len() == 1 || bytes <= WINDOW_BYTES);
        }
        let has_news = self.next <= self.cluster.status(1).last.index;
        prop_assert!(!has_news || !self.sent.is_empty(), "what can be sent is on its way");
        Ok(())
    }

    fn exchange(&mut self, exchange: &Exchange) -> Result<(), TestCaseError> {
        match exchange {
            Exchange::Propose(size, count) => {
                let proposals = (0..*count).map(|_| {
                    self.tickets += 1;
                    (Ticket(self.tickets), Bytes::from(vec![7; *size]))
                });
                let proposals = proposals.collect();
                self.step(Body::ProposeBatch { proposals })
            }
            Exchange::Acknowledge(count) => {
                let count = (*count).min(self.sent.len());
                let Some((index, _)) = self.sent.drain(..count).next_back() else { return Ok(()) };
                let result = AppendResult::Matched { index };
                self.answer(|session, round| Rpc::AppendEntriesResponse { session, round, result })
            }
            Exchange::Heartbeat => {
                // A window without room for a whole message opens by one: its answers may be lost.
                let bytes: usize = self.sent.iter().map(|(_, bytes)| bytes).sum();
                if self.sent.len() == WINDOW || bytes + MESSAGE_BYTES > WINDOW_BYTES {
                    self.sent.pop_front();
                }
                self.answer(|session, round| Rpc::HeartbeatResponse { session, round })
            }
        }
    }

    /// The follower answers in the present stream.
    fn answer(&mut self, rpc: impl Fn(Session, Round) -> Rpc) -> Result<(), TestCaseError> {
        let Status { term, .. } = self.cluster.status(1);
        let envelope = Envelope {
            cluster: ClusterId(7),
            group: GroupId(1),
            from: member(2),
            to: member(1),
            epoch: Epoch::ZERO,
            incarnation: Incarnation(1),
            term,
            rpc: rpc(Session(1), Round::ZERO),
        };
        self.step(Body::Peer(envelope))
    }
}

proptest! {
    /// Thesis §10.2.2: what is on its way to a follower stays within the windows, in messages and
    /// in bytes, and all of it gets there.
    #[test]
    fn appends_on_their_way_fit_the_windows(
        exchanges in prop::collection::vec(exchange(), 0..60)
    ) {
        let mut watched = Watched::new();
        for exchange in &exchanges {
            watched.exchange(exchange)?;
        }
        while !watched.sent.is_empty() {
            watched.exchange(&Exchange::Acknowledge(1))?;
        }
        let status = watched.cluster.status(1);
        prop_assert_eq!(watched.next, status.last.index.next(), "everything was sent");
        prop_assert_eq!(status.commit, status.last.index, "and is committed");
    }
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
    assert_eq!(format!("{:016x}", cluster.server(1).raft.digest()), "5e83422ffc55991a");
}
