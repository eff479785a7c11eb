//! Histories in which a group is divided and one rule keeps the two sides from contradicting each
//! other; the cluster's ghost sees whether they do. Random histories hardly ever divide so neatly.

use fuzz::{Event, Shape, live};

/// Without pre-votes and stickiness, so that the second side elects its leader at once.
const OPTIONS: u8 = 0b11;

/// Thesis §6.4: a follower's question is answered only once a quorum has confirmed the leader.
///
/// The first leader and one follower do not know that the other three have gone on.
#[test]
fn a_deposed_leader_answers_no_question_of_its_follower() {
    let shape = Shape { voters: 5, learners: 0, spares: 0, options: OPTIONS, is_mixed: false };
    let events = [
        Event::Campaign(0),
        Event::Settle(None),
        Event::Campaign(2),
        Event::Talk(2, 3),
        Event::Talk(2, 4),
        Event::Propose { at: 2, size: 2, more: 0 },
        Event::Talk(2, 3),
        Event::Talk(2, 4),
        Event::Read(1, false),
        Event::Talk(1, 0),
    ];
    let life = live(shape, events);
    assert!(life.leaders >= 2 && life.commits >= 2, "both sides had a leader");
}

/// §6: until the joint membership is committed, by both halves, it is not left.
///
/// A voter is replaced by a learner. The leader and the learner are a majority of the new voters;
/// the other two are one of the old voters, and elect a leader of their own.
#[test]
fn two_majorities_of_different_memberships_commit_nothing_apart() {
    let shape = Shape { voters: 3, learners: 1, spares: 0, options: OPTIONS, is_mixed: false };
    let replace_third_by_fourth = Event::Change { at: 0, what: 16, who: 2 + 4 * 3 };
    let events = [
        Event::Campaign(0),
        Event::Settle(None),
        replace_third_by_fourth,
        Event::Talk(0, 3),
        Event::Propose { at: 0, size: 2, more: 0 },
        Event::Talk(0, 3),
        Event::Campaign(1),
        Event::Talk(1, 2),
        Event::Propose { at: 1, size: 3, more: 0 },
        Event::Talk(1, 2),
        Event::Talk(0, 3),
    ];
    let life = live(shape, events);
    assert!(life.leaders >= 2 && life.commits >= 2, "the old voters went on");
}
