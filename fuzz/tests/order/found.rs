//! Histories that once went wrong, cut to what matters.

use fuzz::{Event, Shape, live};

/// Thesis §4.2.2: a server that is no voter in its newest membership still campaigns until that
/// entry is known to be committed.
///
/// The leader demotes itself: the joint entry is committed, and it alone holds the entry that
/// leaves it. The other voter still needs both votes and cannot get the one of a longer log; so
/// only the demoted server can lead, without counting itself.
#[test]
fn a_demoted_leader_with_the_longest_log_leads_once_more() {
    let shape = Shape { voters: 2, learners: 0, spares: 0, options: 149, is_mixed: false };
    let events = [
        Event::Fire(1),
        Event::Talk(0, 1),
        Event::Change { at: 1, what: 14, who: 1 },
        Event::Deliver { choice: 0, is_kept: false },
        Event::Talk(0, 0),
        Event::Fire(0),
        Event::Settle(None),
    ];
    live(shape, events);
}

/// A leader loses an entry together with the membership, not durable yet, that names who else has it: it
/// knows of nobody whom it could ask. Fate may not take that much.
#[test]
fn whoever_has_the_last_copy_is_known_after_a_crash() {
    let shape = Shape { voters: 1, learners: 0, spares: 1, options: 0, is_mixed: false };
    let events = [
        Event::Rush { things: 10, seed: 0 },
        Event::Propose { at: 6, size: 0, more: 0 },
        Event::Change { at: 32, what: 10, who: 5 },
        Event::Rush { things: 16, seed: 56 },
        Event::Hurt { at: 30, choice: 1 },
    ];
    live(shape, events);
}
