//! The language, and that what is written replays.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use raft_core::{Effect, Envelope, RoleName};

use super::language::command;
use super::*;
use crate::explore::Bounds;
use crate::explore::host::{Host, Input};
use crate::explore::order::Order;
use crate::explore::search::Search;

/// Numbers that look random, the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits") % end
    }
}

/// Some path: whatever a server can do, one after the other.
fn walk(bounds: &Bounds, seed: u64, length: usize) -> (Vec<(usize, Input)>, Vec<Host>) {
    let mut dice = Dice(seed);
    let Start { mut hosts, mut letters, .. } = Start::founded(bounds, |_| {});
    let mut path = Vec::new();
    let mut asked = 0;
    while path.len() < length {
        let at = dice.below(hosts.len());
        let unsynced = hosts[at].unsynced.len();
        let is_leader = hosts[at].raft.status().role == RoleName::Leader;
        let (at, input) = match dice.below(12) {
            0 => (at, Input::Fire),
            1 if hosts[at].crashes().count() > 1 => {
                let crashes: Vec<Input> = hosts[at].crashes().collect();
                (at, crashes[dice.below(crashes.len())].clone())
            }
            2 if is_leader && asked < 90 => {
                asked += 1;
                (at, Input::Propose { number: asked })
            }
            3..=6 if unsynced > 0 => (at, Input::Persist { batches: 1 + dice.below(unsynced) }),
            7.. if !letters.is_empty() => {
                // Mostly what was sent lately, and now and then what nobody waits for.
                let back = dice.below(6.min(letters.len())) * (1 + dice.below(2));
                let letter: &Arc<Envelope> = &letters[letters.len().saturating_sub(back + 1)];
                (crate::explore::bounds::position(letter.to), Input::Deliver(Arc::clone(letter)))
            }
            _ => continue,
        };
        for effect in hosts[at].take(&input) {
            if let Effect::Send(envelope) = effect
                && !letters.iter().any(|known| **known == envelope)
            {
                letters.push(Arc::new(envelope));
            }
        }
        path.push((at, input));
    }
    (path, hosts)
}

fn bounds(pre_vote: bool) -> Bounds {
    Bounds { pre_vote, ..Bounds::default() }
}

#[test]
fn a_path_replays_as_a_script() {
    let (mut terms, mut entries, mut repeated) = (0, 0, 0);
    for seed in 0..20 {
        let (path, hosts) = walk(&bounds(seed % 2 == 0), seed, 120);
        let text = of_path(&bounds(seed % 2 == 0), &path);
        assert!(!text.contains("violated"), "{text}");
        assert_eq!(play(&text), Ok(text.clone()), "a transcript plays to itself");
        let there = Start::from_script(&text).expect("it is a script");
        for (host, found) in hosts.iter().zip(&there.hosts) {
            assert_eq!(host.raft.status(), found.raft.status());
            assert_eq!(host.disk, found.disk);
            terms = terms.max(host.raft.status().term.0);
            entries = entries.max(host.raft.status().commit.0);
        }
        repeated += text.matches("deliver #").count();
    }
    assert!(terms > 2 && entries > 0 && repeated > 0, "{terms} {entries} {repeated}");
}

/// What a search says of the way to a state really happens.
#[test]
fn explored_paths_replay() {
    for symmetry in [false, true] {
        let bounds = Bounds { nodes: 2, symmetry, ..Bounds::default() };
        let start = Start::founded(&bounds, |_| {});
        let order = if symmetry { Order::Achievement } else { Order::Breadth };
        let mut search = Search::new(bounds.clone(), start.clone(), order);
        let (_, progress) = search.run(1, &AtomicBool::new(false), |_| {});
        for state in (1..progress.states).step_by(progress.states / 100 + 1) {
            let path = search.path_to(state);
            let text = of_path(&bounds, &path);
            assert!(!text.contains("violated"), "{text}");
            let there = Start::from_script(&text).expect("it is a script");
            let mut hosts = start.hosts.clone();
            path.iter().for_each(|(at, input)| drop(hosts[*at].take(input)));
            for (host, found) in hosts.iter().zip(&there.hosts) {
                assert_eq!(host.raft.status(), found.raft.status(), "{text}");
                assert_eq!(host.disk, found.disk, "{text}");
            }
        }
    }
}

#[test]
fn what_is_written_at_once_shares_a_line() {
    let path = [(0, Input::Fire), (0, Input::Persist { batches: 1 }), (1, Input::Fire)];
    let text = of_path(&bounds(false), &path);
    let commands: Vec<&str> = text.lines().filter(|line| line.starts_with('>')).collect();
    let head = "> cluster 1 2 3 pre_vote=off check_quorum=off disk=slow";
    assert_eq!(commands, [head, "> fire 1 ; persist 1", "> fire 2"]);
}

#[test]
fn a_path_goes_on_where_a_script_ends() {
    let script = "> cluster 1 2 3 pre_vote=off\n> quietly fire 1\n> deliver\n> propose 1\n";
    let start = Start::from_script(script).expect("it is a script");
    let appended = start.letters.last().expect("the entry is on its way");
    let path = [
        (0, Input::Propose { number: 2 }),
        (0, Input::Persist { batches: 1 }),
        (2, Input::Deliver(Arc::clone(appended))),
    ];
    let text = continued(script, &path).expect("it is a script");
    for line in [
        "> slow 1 2 3",
        "> propose 1 ; persist 1",
        "> deliver n1->n3 t1 AppendEntries prev=(t1,i1) entries=(t1,i2)\"x1\" commit=i1",
        "  n3 persist 1.4 append (t1,i2)\"x1\"",
    ] {
        assert!(text.lines().any(|told| told == line), "{line:?} is missing:\n{text}");
    }
    assert_eq!(play(&text), Ok(text.clone()));
}

#[test]
fn the_past_of_a_start_does_not_count() {
    let script =
        "> cluster 1 2 3 learners 4 pre_vote=off\n> fire 1\n> deliver\n> propose 1\n> read 1";
    let start = Start::from_script(script).expect("it is a script");
    let within = start.within(&Bounds { entries: 2, terms: 5, ..Bounds::default() });
    let Bounds { nodes, learners, pre_vote, check_quorum, terms, entries, reads, .. } = within;
    assert_eq!((nodes, learners, pre_vote, check_quorum), (3, 1, false, true));
    assert_eq!((terms, entries, reads), (5, 3, 1));
    assert_eq!(start.hosts.len(), 4);
    assert_eq!(start.hosts[0].raft.status().role, RoleName::Leader);
    assert!(start.hosts.iter().all(|host| (host.campaigns, host.heartbeats) == (0, 0)));
}

#[test]
fn commands_are_written_as_they_are_read() {
    for text in [
        "cluster 1 2 3",
        "cluster 1 2 3 learners 4 5 pre_vote=off check_quorum=off disk=slow batch=2",
        "campaign 1",
        "stepdown 2",
        "fire 3",
        "silence 1",
        "propose 1",
        "read 1",
        "transfer 1 3",
        "change 1 add 4 promote 4 demote 3 remove 3 replace 3 4",
        "change 1 joint add 4",
        "change 1 leave",
        "snapshot 1",
        "damage 1 2",
        "persist 1",
        "persist 1 2",
        "crash 1",
        "crash 1 keep 2",
        "crash 1 keep 0 3",
        "crash 1 damage 2",
        "crash 1 keep 1 lose 2",
        "crash 1 keep 1 3 damage 2",
        "crash 1 damage snapshot",
        "crash 1 keep 1 damage snapshot commit 1",
        "crash 1 commit 2",
        "crash 1 keep 1 lose 2 commit 1",
        "patience 1",
        "deliver",
        "deliver 1->2 ->3 2-> AppendEntries Vote",
        "round 1->2",
        "deliver n1->n2 t1 Vote granted",
        "deliver #3 n1->n2 t1 Vote granted",
        "drop ->1",
        "slow 1 2",
        "fast 3",
        "reach a server wins an election",
        "reach with crashes a server wins an election",
        "network",
        "status",
        "status 1 3",
        "logs",
        "quietly deliver 1->2",
    ] {
        assert_eq!(command(text).expect(text).to_string(), text);
    }
}

#[test]
fn a_script_that_makes_no_sense_names_the_line() {
    let cluster = "# a comment\n> cluster 1 2 3\n";
    for (line, what) in [
        ("", "no command"),
        ("dance 1", "no command is called dance"),
        ("fire", "a server is missing"),
        ("fire x", "no server is called x"),
        ("fire 4", "there is no server 4"),
        ("fire 1 2", "2 is too much"),
        ("propose 1 x", "x is too much"),
        ("cluster 1 2 3", "the cluster is there already"),
        ("transfer 1 5", "there is no server 5"),
        ("transfer 1 7", "no server is called 7"),
        ("change 1", "change what?"),
        ("change 1 swap 2", "no step is called swap"),
        ("change 1 remove", "a server is missing"),
        ("change 1 add 4", "n3 is the last server"),
        ("snapshot 1", "nothing is applied that its snapshot lacks"),
        ("persist 1", "0 batches are on their way to its disk"),
        ("crash 1 keep 1", "it has not written as much"),
        ("crash 1 keep 0 1", "it has not written as much"),
        ("crash 1 keep 18446744073709551615 1", "it has not written as much"),
        ("crash 1 lose 1", "its disk has no such thing to lose"),
        ("crash 1 damage", "which entry?"),
        ("crash 1 drop 1", "drop is not `keep`, `damage`, `lose` or `commit`"),
        ("crash 1 commit", "which entry?"),
        ("crash 1 commit 1", "it cannot say that as much is committed"),
        ("crash 1 commit 0 1", "1 is too much"),
        ("deliver AppendEntry", "no message is called AppendEntry"),
        ("deliver 1->x", "no server is called x"),
        ("deliver #0 n1->n2", "the first one is #1"),
        ("deliver #2", "the so-manyth of which messages?"),
        ("deliver #99999999999999999999 n1->n2", "99999999999999999999 is no number"),
        ("deliver n1->n2 t1", "no message is n1->n2 t1"),
        ("slow", "which servers?"),
        ("reach a server wins", "no landmark: a server wins"),
        ("quietly quietly logs", "quietly, once"),
    ] {
        let wrong = ScriptError { line: 3, what: what.to_owned() };
        assert_eq!(play(&format!("{cluster}> {line}\n")), Err(wrong), "{line}");
    }
    for (line, what) in [
        ("logs", "a story begins with `cluster`"),
        ("cluster", "one voter is the least, and five are the most"),
        ("cluster 1 2 3 4 5 6", "one voter is the least, and five are the most"),
        ("cluster 2 1", "servers are named 1, 2, 3 and so on, voters first; not 2"),
        ("cluster 1 batch=0", "no option is called batch=0"),
        ("cluster 1 pre_vote=on", "no option is called pre_vote=on"),
    ] {
        let wrong = ScriptError { line: 1, what: what.to_owned() };
        assert_eq!(play(&format!("> {line}\n")), Err(wrong), "{line}");
    }
    let none = Start::from_script("# nothing\n").expect_err("no cluster");
    assert_eq!(none.to_string(), "line 1: a story begins with `cluster`");
}

/// Lines of a long transcript in some other order, with words that belong elsewhere.
#[test]
fn no_script_makes_it_panic() {
    let (path, _) = walk(&bounds(true), 7, 200);
    let text = of_path(&bounds(true), &path);
    let mut lines: Vec<&str> = text.lines().filter(|line| line.starts_with('>')).collect();
    let more = [
        "> change 1 remove 1",
        "> change 2 remove 2",
        "> transfer 1 2",
        "> transfer 3 1",
        "> snapshot 1",
        "> snapshot 2",
        "> read 1",
        "> silence 2",
        "> stepdown 1",
        "> campaign 3",
        "> crash 2 keep 0 1",
        "> deliver",
        "> round",
        "> drop 1->2",
        "> fast 1",
        "> slow 1",
        "> change 1 leave",
        "> change 1 joint demote 2",
        "> fire 1",
        "> fire 2",
        "> fire 3",
    ];
    lines.extend(more.iter().cycle().take(200));
    let (mut wrong, mut played) = (0, 0);
    for seed in 0..300 {
        let mut dice = Dice(seed);
        let mut script = String::from("> cluster 1 2 3\n");
        for _ in 0..40 {
            let line = lines[dice.below(lines.len())];
            let longer = format!("{script}{line}\n");
            if play(&longer).is_err() {
                wrong += 1;
            } else {
                script = longer;
            }
        }
        played += usize::from(script.lines().count() > 10);
        assert!(!play(&script).expect("it was played").contains("violated"), "{script}");
    }
    assert!(
        wrong > 1_000 && played > 250,
        "{wrong} lines were refused, {played} scripts were long"
    );
}

#[test]
fn a_trace_has_a_line_for_each_step() {
    let script = "> cluster 1 2 3 pre_vote=off disk=slow\n> fire 1 ; persist 1\n\
                  > round ; persist 2\n> round 2->1\n> crash 3 keep 1\n> deliver n1->n2 t1 RequestVote\n";
    let text = trace(script).expect("it is a script");
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("each line is an object"))
        .collect();
    let events: Vec<&str> = lines.iter().filter_map(|line| line["ev"].as_str()).collect();
    assert_eq!(
        events,
        [
            "meta", "timeout", "persist", "recv", "recv", "persist", "recv", "crash", "restart",
            "recv"
        ]
    );
    assert_eq!(lines[0]["nodes"], serde_json::json!(["1", "2", "3"]));
    assert_eq!(lines[1]["sync"], false);
    assert_eq!(lines[2]["out"][0]["mt"], "voteReq");
    assert_eq!(lines[3]["in"], lines[2]["out"][0]);
    assert_eq!(lines[6]["st"]["role"], "L");
    assert_eq!(lines[6]["app"], serde_json::json!([{ "t": 1, "d": "noop" }]));
    assert_eq!(lines[7], serde_json::json!({ "ev": "crash", "n": "3" }));
    assert!(!text.contains("null"), "{text}");
}
