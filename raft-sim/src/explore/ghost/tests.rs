//! Each invariant of the group's history is broken once by servers and facts made by hand, and holds
//! for the nearest that is right.

use raft_core::{
    AppendResult, Chain, Incarnation, MemberStep, MembershipChange, NodeId, Payload, Round, Rpc,
    Session, Span,
};

use super::super::by_hand::{
    command, deliver, leader, letter, membership, noop, sync, voters, with_log,
};
use super::super::facts::Belief;
use super::super::host::{Input, propose, read};
use super::*;
use crate::ideal_disk::Loss;

fn hosts(hosts: [Host; 3]) -> Vec<Arc<Host>> {
    hosts.into_iter().map(Arc::new).collect()
}

/// n1 leads t1, and its first entry is durable at `n1` and, if wanted, at `n2`.
fn leading(is_replicated: bool) -> Vec<Arc<Host>> {
    let mut first = leader(0, 1, &[]);
    sync(&mut first);
    let log = if is_replicated { vec![noop(1)] } else { Vec::new() };
    hosts([first, with_log(1, 1, &log), with_log(2, 1, &[])])
}

/// The leader n1 counts, by the membership in force.
fn counts(id: EntryId, hosts: &[Arc<Host>]) -> Fact {
    Fact::Counts { id, quorum: hosts[0].raft.status().membership }
}

fn id_at(host: &Host, index: u64) -> EntryId {
    host.raft.entry_id(Index(index)).expect("the log has it")
}

/// A history in which n1 has led t1 and committed its first entry, and the cluster.
fn committed() -> (Ghost, Vec<Arc<Host>>, EntryId) {
    let hosts = leading(true);
    let id = id_at(&hosts[0], 1);
    let mut ghost = Ghost::default();
    ghost.witness(0, &[Fact::Leads, counts(id, &hosts)], &hosts).expect("all is right");
    assert_eq!(ghost.last(), Index(1));
    (ghost, hosts, id)
}

/// The leader n1 of t1 is alive.
fn heartbeat() -> raft_core::Envelope {
    let (session, round, commit, lease) = (Session(1), Round::ZERO, Index::ZERO, Span(0));
    letter(0, 1, 1, Rpc::Heartbeat { session, round, commit, lease })
}

#[track_caller]
fn is_broken(result: Result<(), Broken>, id: &str) {
    let broken = result.expect_err("a promise is broken");
    assert_eq!(broken.id, id, "{}", broken.what);
}

#[test]
fn es_two_servers_lead_one_term() {
    let hosts = hosts([leader(0, 1, &[]), leader(1, 1, &[]), with_log(2, 1, &[])]);
    let mut ghost = Ghost::default();
    assert_eq!(ghost.witness(0, &[Fact::Leads], &hosts), Ok(()));
    is_broken(ghost.witness(1, &[Fact::Leads], &hosts), "ES");
}

#[test]
fn es_one_server_leads_a_term_in_two_lives() {
    let hosts = leading(false);
    let mut ghost = Ghost::default();
    assert_eq!(ghost.witness(0, &[Fact::Leads], &hosts), Ok(()));
    is_broken(ghost.witness(0, &[Fact::Leads], &hosts), "ES");
}

#[test]
fn lc_a_later_leader_lacks_a_committed_entry() {
    let (mut ghost, mut hosts, _) = committed();
    hosts[1] = Arc::new(leader(1, 2, &[noop(1)]));
    assert_eq!(ghost.clone().witness(1, &[Fact::Leads], &hosts), Ok(()));
    hosts[2] = Arc::new(leader(2, 2, &[]));
    is_broken(ghost.witness(2, &[Fact::Leads], &hosts), "LC");
}

#[test]
fn ci_a_committed_entry_is_truncated_or_replaced() {
    let (mut ghost, hosts, id) = committed();
    let other = EntryId { term: Term(2), ..id };
    assert_eq!(ghost.clone().witness(2, &[Fact::Truncates(vec![other])], &hosts), Ok(()));
    is_broken(ghost.clone().witness(2, &[Fact::Truncates(vec![id])], &hosts), "CI");
    assert_eq!(ghost.clone().witness(2, &[Fact::Commits(id)], &hosts), Ok(()));
    is_broken(ghost.clone().witness(2, &[Fact::Commits(other)], &hosts), "CI");
    let other = EntryId { chain: Chain(0), ..id };
    is_broken(ghost.witness(2, &[counts(other, &hosts)], &hosts), "CI");
}

#[test]
fn cq_an_entry_is_committed_that_only_a_minority_holds() {
    let hosts = leading(false);
    let id = id_at(&hosts[0], 1);
    is_broken(Ghost::default().witness(0, &[counts(id, &hosts)], &hosts), "CQ");
}

#[test]
fn cq_an_entry_counts_where_it_is_durable_and_not_where_it_is_on_its_way() {
    let hosts = hosts([leader(0, 1, &[]), with_log(1, 1, &[noop(1)]), with_log(2, 1, &[])]);
    let id = id_at(&hosts[0], 1);
    is_broken(Ghost::default().witness(0, &[counts(id, &hosts)], &hosts), "CQ");
}

#[test]
fn cq_an_entry_of_an_older_term_is_counted() {
    // Figure 8 (c): the leader of t3 has spread an entry of t1, and nothing of its own.
    let hosts =
        hosts([leader(0, 3, &[noop(1)]), with_log(1, 3, &[noop(1)]), with_log(2, 3, &[noop(1)])]);
    let id = id_at(&hosts[0], 1);
    is_broken(Ghost::default().witness(0, &[counts(id, &hosts)], &hosts), "CQ");
    // Nor if the leader of t1 had counted it.
    let (mut ghost, ..) = committed();
    is_broken(ghost.witness(0, &[counts(id, &hosts)], &hosts), "CQ");
}

/// n1 leads t1, and n2 has acknowledged its first entry in its first life.
fn believing() -> (Vec<Arc<Host>>, Fact) {
    let mut hosts = leading(true);
    let mut first = Host::clone(&hosts[0]);
    let result = AppendResult::Matched { index: Index(1) };
    let (session, round) = (Session(1), Round::ZERO);
    deliver(&mut first, letter(1, 0, 1, Rpc::AppendEntriesResponse { session, round, result }));
    let beliefs = Belief::of(&first, |_| true);
    assert_eq!(beliefs.len(), 1, "{beliefs:?}");
    hosts[0] = Arc::new(first);
    (hosts, Fact::Believes(beliefs))
}

#[test]
fn cq_a_leader_believes_of_a_peer_what_is_not_durable_there() {
    let (mut hosts, believes) = believing();
    let look = |hosts: &[Arc<Host>]| {
        let told = Ghost::default().witness(0, std::slice::from_ref(&believes), hosts);
        assert_eq!(told, Ghost::default().witness(1, &[Fact::Rewrites], hosts));
        let all: Vec<&Host> = hosts.iter().map(AsRef::as_ref).collect();
        assert_eq!(told, Ghost::default().compare(0, std::slice::from_ref(&believes), &all));
        assert_eq!(told, Ghost::default().compare(1, &[Fact::Rewrites], &all));
        told
    };
    assert_eq!(look(&hosts), Ok(()));
    let mut other = with_log(1, 0, &[]);
    deliver(&mut other, heartbeat());
    sync(&mut other);
    hosts[1] = Arc::new(other.clone());
    is_broken(look(&hosts), "CQ");
    // A later term may have taken it back, and of a later life the leader has still to hear.
    hosts[1] = Arc::new(with_log(1, 2, &[noop(2)]));
    assert_eq!(look(&hosts), Ok(()));
    other.take(&Input::Crash { whole: 0, pieces: 0, loss: None, commit: Index::ZERO });
    assert_eq!(other.raft.status().term, Term(1));
    hosts[1] = Arc::new(other);
    assert_eq!(look(&hosts), Ok(()));
}

#[test]
fn cq_a_leader_believes_that_a_damaged_entry_counts() {
    let mut second = with_log(1, 1, &[noop(1)]);
    let loss = Some(Loss::Entry(Index(1)));
    second.take(&Input::Crash { whole: 0, pieces: 0, loss, commit: Index::ZERO });
    let (mut hosts, _) = believing();
    hosts[1] = Arc::new(second);
    let peer = hosts[1].raft.status().member;
    let belief = |life| Belief { peer, life: Incarnation(life), through: Index(1) };
    let look = |life| Ghost::default().witness(0, &[Fact::Believes(vec![belief(life)])], &hosts);
    assert_eq!(look(1), Ok(()));
    is_broken(look(2), "CQ");
}

/// Its leader does not hear of it, and the peer knows what it had.
#[test]
fn an_entry_that_a_peer_finds_damaged_while_it_runs_goes_on_to_count() {
    let (mut hosts, fact) = believing();
    let mut second = Host::clone(&hosts[1]);
    second.take(&Input::Damage { index: Index(1) });
    hosts[1] = Arc::new(second);
    let facts = [fact, Fact::Rewrites];
    assert_eq!(Ghost::default().witness(0, &facts[..1], &hosts), Ok(()));
    assert_eq!(Ghost::default().witness(1, &facts[1..], &hosts), Ok(()));
}

#[test]
fn ps_a_doubt_ends_although_the_log_is_another() {
    let look = |log: &[(u64, Payload)], leader: Host| {
        let hosts = hosts([leader, with_log(1, 2, log), with_log(2, 2, &[])]);
        Ghost::default().witness(1, &[Fact::Knows { through: Index(1) }], &hosts)
    };
    assert_eq!(look(&[noop(2)], leader(0, 2, &[])), Ok(()));
    is_broken(look(&[noop(1)], leader(0, 2, &[])), "PS");
    is_broken(look(&[], leader(0, 2, &[])), "PS");
    // Who leads another term is not asked.
    assert_eq!(look(&[noop(1)], leader(0, 3, &[])), Ok(()));
}

#[test]
fn cq_a_follower_holds_for_committed_what_nobody_has_counted() {
    let hosts = leading(true);
    let id = id_at(&hosts[1], 1);
    is_broken(Ghost::default().witness(1, &[Fact::Commits(id)], &hosts), "CQ");
}

#[test]
fn cq_a_client_is_told_of_a_commit_that_was_none() {
    let (mut ghost, hosts, id) = committed();
    let told = |term, index| [Fact::Acknowledges { ticket: propose(1), term, index }];
    assert_eq!(ghost.witness(0, &told(id.term, id.index), &hosts), Ok(()));
    is_broken(ghost.witness(0, &told(Term(2), id.index), &hosts), "CQ");
    is_broken(ghost.witness(0, &told(id.term, Index(2)), &hosts), "CQ");
}

#[test]
fn lin_a_client_is_told_that_another_entry_is_its_command() {
    let (mut ghost, hosts, id) = committed();
    let other = EntryId { chain: Chain(0), ..id };
    let told = [Fact::Acknowledges { ticket: propose(1), term: id.term, index: id.index }];
    let asked = |id| Fact::Proposes { ticket: propose(1), id };
    ghost.witness(0, &[asked(id)], &hosts).expect("anything may be asked");
    assert_eq!(ghost.witness(0, &told, &hosts), Ok(()));
    ghost.witness(0, &[Fact::Ends(propose(1)), asked(other)], &hosts).expect("the same");
    is_broken(ghost.witness(0, &told, &hosts), "LIN");
}

#[test]
fn lin_a_command_is_told_to_be_lost_that_may_yet_be_committed() {
    let (ghost, hosts, id) = committed();
    let lost = |mine: EntryId| {
        let facts = [Fact::Proposes { ticket: propose(1), id: mine }, Fact::Supersedes(propose(1))];
        ghost.clone().witness(0, &facts, &hosts)
    };
    is_broken(lost(id), "LIN");
    let next = EntryId { index: id.index.next(), ..id };
    is_broken(lost(next), "LIN");
    // Another entry is in its place, or one of a later term before it.
    assert_eq!(lost(EntryId { chain: Chain(0), ..id }), Ok(()));
    assert_eq!(lost(EntryId { term: Term::ZERO, ..next }), Ok(()));
}

#[test]
fn what_waits_at_a_server_that_restarts_is_forgotten() {
    let (mut ghost, hosts, id) = committed();
    let asked = Fact::Proposes { ticket: propose(1), id };
    ghost.witness(0, &[asked, Fact::Asks(read(1))], &hosts).expect("anything may be asked");
    ghost.witness(1, &[Fact::Restarts], &hosts).expect("it breaks nothing");
    assert_eq!((ghost.proposed.len(), ghost.reads.len()), (1, 1));
    ghost.witness(0, &[Fact::Restarts], &hosts).expect("it breaks nothing");
    assert_eq!((ghost.proposed.len(), ghost.reads.len()), (0, 0));
}

#[test]
fn cq_a_joint_membership_needs_a_quorum_of_each_half() {
    let replace = MemberStep::Replace { old: NodeId(3), new: NodeId(4) };
    let members = |ids: &[u64]| ids.iter().map(|id| Member::new(*id, id * 10)).collect();
    let before = Membership::new(members(&[1, 2, 3]), members(&[4])).expect("it is one");
    let joint = before.changed(&MembershipChange::Steps(vec![replace])).expect("it can change");
    assert!(joint.is_joint());
    let agree = |ids: &'static [u64]| move |member: Member| ids.contains(&member.id.0);
    assert!(is_quorum(&joint, agree(&[1, 2])));
    assert!(is_quorum(&joint, agree(&[1, 3, 4])));
    assert!(!is_quorum(&joint, agree(&[1, 3])), "of the new half there is n1 alone");
    assert!(!is_quorum(&joint, agree(&[1, 4])), "of the old half there is n1 alone");
}

#[test]
fn sm_something_else_is_applied_than_what_is_committed() {
    let (mut ghost, hosts, id) = committed();
    assert_eq!(ghost.witness(1, &[Fact::Applies(vec![id])], &hosts), Ok(()));
    let other = EntryId { term: Term(2), ..id };
    is_broken(ghost.witness(1, &[Fact::Applies(vec![other])], &hosts), "SM");
    is_broken(ghost.witness(1, &[Fact::Restores(other)], &hosts), "SM");
    let next = EntryId { index: Index(2), ..id };
    is_broken(ghost.witness(1, &[Fact::Applies(vec![id, next])], &hosts), "SM");
}

#[test]
fn lin_a_read_misses_what_was_committed_when_it_was_asked() {
    let (mut ghost, hosts, _) = committed();
    let (ticket, index) = (read(1), Index(1));
    ghost.witness(0, &[Fact::Asks(ticket)], &hosts).expect("anybody may ask");
    assert_eq!(ghost.clone().witness(0, &[Fact::Answers { ticket, index }], &hosts), Ok(()));
    let answer = Fact::Answers { ticket, index: Index::ZERO };
    is_broken(ghost.witness(0, &[answer], &hosts), "LIN");
}

#[test]
fn lin_a_read_is_answered_twice_or_after_a_crash() {
    let (mut ghost, hosts, _) = committed();
    let ticket = read(1);
    let answer = [Fact::Answers { ticket, index: Index(1) }];
    ghost.witness(0, &[Fact::Asks(ticket)], &hosts).expect("anybody may ask");
    let mut crashed = ghost.clone();
    crashed.witness(0, &[Fact::Restarts], &hosts).expect("it may crash");
    is_broken(crashed.witness(0, &answer, &hosts), "LIN");
    ghost.witness(0, &answer, &hosts).expect("it is answered");
    is_broken(ghost.witness(0, &answer, &hosts), "LIN");
}

#[test]
fn lm_two_entries_have_one_index_and_one_term() {
    let log = |text| with_log(1, 1, &[noop(1), command(1, text)]);
    let one = with_log(0, 1, &[noop(1), command(1, "a")]);
    let appended = [Fact::Appends(vec![id_at(&one, 2)])];
    let with = |other| hosts([one.clone(), other, with_log(2, 1, &[])]);
    assert_eq!(Ghost::default().witness(0, &appended, &with(log("a"))), Ok(()));
    is_broken(Ghost::default().witness(0, &appended, &with(log("b"))), "LM");
}

#[test]
fn cf_memberships_follow_each_other_without_a_joint_one() {
    let with = |log: &[(u64, Payload)]| {
        hosts([with_log(0, 1, log), with_log(1, 1, &[]), with_log(2, 1, &[])])
    };
    let step = MembershipChange::Steps(vec![MemberStep::Remove(NodeId(3))]);
    let joint = voters(&[0, 1, 2]).changed(&step).expect("it can change");
    let right = with(&[membership(1, joint.clone()), membership(1, joint.left())]);
    let committed = vec![(id_at(&right[0], 1), Term(1))];
    let mut ghost = Ghost { committed, ..Ghost::default() };
    assert_eq!(ghost.witness(0, &[Fact::Reconfigures], &right), Ok(()));
    let wrong = with(&[membership(1, joint.left())]);
    is_broken(Ghost::default().witness(0, &[Fact::Reconfigures], &wrong), "CF");
}

#[test]
fn cf_a_server_has_two_memberships_that_are_not_committed() {
    let step = MembershipChange::Steps(vec![MemberStep::Remove(NodeId(3))]);
    let joint = voters(&[0, 1, 2]).changed(&step).expect("it can change");
    let log = [membership(1, joint.clone()), membership(1, joint.left())];
    let hosts = hosts([leader(0, 2, &log), with_log(1, 1, &log), with_log(2, 1, &[])]);
    for at in [0, 1] {
        is_broken(Ghost::default().witness(at, &[Fact::Reconfigures], &hosts), "CF");
    }
}

#[test]
fn who_leads_a_term_that_is_over_breaks_a_promise() {
    let (mut ghost, hosts, id) = committed();
    ghost.close(Term(1));
    assert!(ghost.leaders.is_empty() && ghost.is_committed(id));
    let broken = ghost.witness(0, &[Fact::Leads], &hosts).expect_err("t1 is over");
    assert_eq!(broken.id, "ES");
    // What was counted before is asked of all that lead later.
    let lacking = hosts_after(&hosts, leader(1, 2, &[]));
    let broken = ghost.witness(1, &[Fact::Leads], &lacking).expect_err("it lacks an entry");
    assert_eq!(broken.id, "LC");
}

/// The same servers but for the second one.
fn hosts_after(hosts: &[Arc<Host>], second: Host) -> Vec<Arc<Host>> {
    vec![Arc::clone(&hosts[0]), Arc::new(second), Arc::clone(&hosts[2])]
}
