//! Every story of the museum, told about this project's own core.

use raft_sim::museum::{self, ours::Ours, subject::Subject};

/// One test for each story, named by it, and the list of their names.
macro_rules! exhibits {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                tell(stringify!($name));
            }
        )*

        const EXHIBITS: &[&str] = &[$(stringify!($name)),*];
    };
}

exhibits! {
    etcd_async_storage_writes_candidate_not_durable
    tikv_sole_voter_replicates_before_its_vote_is_durable
    candidate_claims_a_suffix_that_is_not_durable
    vote_answered_before_it_is_durable
    openraft_append_acknowledged_before_fsync
    duplicate_append_acknowledged_at_once
    openraft_entries_durable_before_their_term
    etcd_async_append_aba_race
    leader_counts_its_own_entry_before_it_is_durable
    ccf_vote_cleared_when_the_role_changes_within_a_term
    hashicorp_entries_stamped_with_a_term_never_led
    etcd_restart_with_a_commit_index_that_does_not_fit
    tikv_committed_entries_pagination_after_restart
    convex_persist_failure_ignored
    akka_stale_or_repeated_votes_counted
    etcd_pre_votes_counted_as_votes
    etcd_own_vote_delivered_after_the_election
    openraft_pre_vote_deadlock_between_long_logs_and_high_terms
    etcd_prevote_migration_can_complete_election
    etcd_higher_term_stuck_under_check_quorum
    openraft_one_way_link
    term_saturates_and_is_voted_in_twice
    figure_8_old_entry_committed_by_counting
    copycat_follower_commits_to_the_end_of_its_log
    ccf_stale_append_truncates_what_was_acknowledged
    ccf_acknowledges_beyond_the_end_of_an_append
    ccf_refusal_raises_the_match
    ccf_heartbeat_refusal_overwrites_the_position
    toydb_spurious_reject_moves_next_below_match
    openraft_commit_index_is_what_a_quorum_has
    etcd_acknowledgement_of_an_earlier_leadership
    openraft_failed_read_sends_an_append_from_nowhere
    figure_7_logs_are_repaired_in_few_probes
    ongaro_single_server_changes_of_two_leaders
    redpanda_second_change_before_the_first_is_committed
    etcd_campaign_with_removals_committed_and_not_applied
    openraft_snapshot_keeps_a_stale_membership
    etcd_restart_without_the_applied_membership
    etcd_removed_leader_counts_itself
    ccf_premature_retirement
    hashicorp_removed_server_storms
    truncated_membership_stays_in_force
    etcd_demoted_while_the_leadership_is_handed_over
    learner_promoted_when_applied_instead_of_when_appended
    drmingdrmer_rejoin_with_the_same_id_in_the_same_term
    openraft_wiped_disk_under_the_same_name
    openraft_single_node_founded_again_on_a_wiped_disk
    etcd_campaign_learner_must_vote
    etcd_non_member_is_handed_the_leadership
    scylla_leader_without_a_vote_in_the_new_half
    ccf_quorum_over_the_union_of_both_halves
    etcd_joint_never_left_after_a_leader_change
    etcd_joint_left_twice
    camunda_joint_left_before_a_commit_of_the_own_term
    sailing_timer_disarmed_by_a_promotion
    etcd_snapshot_older_than_the_commit_index_installed
    snapshot_older_than_the_commit_index_over_a_damaged_entry
    openraft_snapshot_over_an_existing_log
    snapshot_installed_in_pieces
    etcd_follower_stuck_after_its_snapshot
    openraft_snapshot_to_one_blocks_the_others
    sailing_vote_while_a_snapshot_is_being_installed
    redisraft_jepsen_report
    etcd_read_at_a_new_leader_before_its_first_commit
    etcd_read_confirmed_by_answers_to_an_earlier_one
    tikv_forwarded_read_answered_by_an_old_leader
    sailing_lease_promise_forgotten_at_a_restart
    etcd_lease_goes_on_while_the_leadership_is_handed_over
    tikv_lease_checked_before_a_pause
    tikv_lease_by_a_clock_that_goes_back
    tikv_lease_counted_by_a_quorum_that_has_changed
    etcd_forget_leader_breaks_the_lease
    etcd_lagging_commit
    etcd_full_window_and_lost_acknowledgements
    etcd_uncommitted_quota_leaks_across_leaderships
    tikv_priorities_that_nobody_meets
    etcd_even_split_with_identical_timeouts
}

fn tell(name: &str) {
    let story = museum::stories().find(|story| story.name == name).expect("it is catalogued");
    if let Err(untold) = story.tell(&mut Ours::default()) {
        panic!("{} ({}): {untold}", story.name, story.origin);
    }
}

/// In the last telling of this story nothing but the stream gives a late acknowledgement away.
#[test]
fn what_an_earlier_life_acknowledged_is_refused_by_its_stream() {
    let name = "drmingdrmer_rejoin_with_the_same_id_in_the_same_term";
    let story = museum::stories().find(|story| story.name == name).expect("it is catalogued");
    let mut ours = Ours::default();
    story.tell(&mut ours).expect("it holds");
    let refusals = ours.view(1).refusals;
    assert!(refusals.iter().any(|reason| reason.starts_with("StaleSession")), "{refusals:?}");
}

/// A story that is not told guards nothing.
#[test]
fn every_story_is_told() {
    let catalogued: Vec<&str> = museum::stories().map(|story| story.name).collect();
    assert_eq!(catalogued, EXHIBITS);
}

/// The catalogue is complete: every number once, variants aside.
#[test]
fn the_catalogue_has_no_gap() {
    let mut numbers: Vec<&str> = museum::stories().map(|story| story.number).collect();
    let mut expected: Vec<String> = (1..=69).map(|number| number.to_string()).collect();
    let variants = ["1b", "4b", "16b", "17b", "34b", "49b", "50b", "60b"];
    expected.extend(variants.map(str::to_string));
    numbers.sort_unstable();
    expected.sort_unstable();
    assert_eq!(numbers, expected);
}

/// Names are unique, so that a test names one story.
#[test]
fn every_story_has_a_name_of_its_own() {
    let mut names: Vec<&str> = museum::stories().map(|story| story.name).collect();
    names.sort_unstable();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
}
