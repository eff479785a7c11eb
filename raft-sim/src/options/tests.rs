//! Options that were drawn are within their bounds, and follow from the seed alone.

use super::*;

#[test]
fn options_follow_from_the_seed_and_stay_in_bounds() {
    let mut calm = 0;
    for seed in 0..300 {
        let options = Options::draw(seed, EVENTS_DEFAULT);
        assert_eq!(options, Options::draw(seed, EVENTS_DEFAULT));
        assert!((1..=12).contains(&options.nodes()), "{options}");
        assert!(options.heartbeat_interval_us * 2 <= options.election_timeout_us);
        assert_eq!(options.faults.contains(Fault::Loss), !options.link.loss.is_never());
        calm += u32::from(options.faults.iter().count() == 1);
        assert!(CRASHES.iter().any(|&fault| options.faults.contains(fault)), "{options}");
    }
    assert!((5..40).contains(&calm), "some runs have hardly any faults: {calm}");
}

#[test]
fn one_group_in_eight_mixes_pre_vote() {
    let options = (0..400).map(|seed| Options::draw(seed, EVENTS_DEFAULT));
    let mixed: Vec<Options> = options.filter(|options| options.has_mixed_pre_vote).collect();
    assert!((25..75).contains(&mixed.len()), "{} of 400", mixed.len());
    assert!(mixed.iter().all(|options| options.voters > 1 && !options.all_ask_first()));
    assert!(mixed[0].to_string().contains(", pre-vote mixed, "), "{}", mixed[0]);
}

#[test]
fn the_options_of_a_run_are_shown() {
    let shown = Options::draw(7, EVENTS_DEFAULT).to_string();
    assert!(shown.starts_with("seed       0x7, 20000 events\ncluster    "), "{shown}");
    assert_eq!(shown.lines().count(), 12);
}
