//! `--record`, `replay` and `shrink`, as a person calls them.

use std::path::PathBuf;
use std::process::{Command, Output};

fn raft_sim(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_raft-sim"));
    command.args(arguments).output().expect("the program runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn file(name: &str) -> String {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name).display().to_string()
}

#[test]
fn a_recorded_run_is_replayed_without_its_seed() {
    let tape = file("seven.tape");
    let run = raft_sim(&["--seed", "7", "--events", "400", "--record", &tape]);
    assert_eq!(run.status.code(), Some(0), "{}", text(&run.stderr));
    let replayed = raft_sim(&["replay", &tape]);
    assert_eq!(replayed.status.code(), Some(0), "{}", text(&replayed.stderr));
    // The first line names the events that were planned, or that a tape has.
    let but_first = |out: &Output| text(&out.stdout).split_once('\n').expect("lines").1.to_owned();
    assert_eq!(but_first(&replayed), but_first(&run));
    assert!(text(&replayed.stdout).starts_with("seed       0x7, "));
    let told = raft_sim(&["replay", &tape, "-v"]);
    assert!(told.stdout.len() > 2 * replayed.stdout.len());
    // Nothing is left to shrink of what passes.
    let shrunk = raft_sim(&["shrink", &tape, "-o", &file("none.tape")]);
    assert_eq!(shrunk.status.code(), Some(64));
    assert!(text(&shrunk.stderr).contains("this run passes"), "{}", text(&shrunk.stderr));
}

#[test]
fn a_tape_has_the_trace_and_the_page_of_its_run() {
    let seed = ["--seed", "7", "--events", "400"];
    let [tape, page, traced, again] =
        ["eight.tape", "eight.html", "8.jsonl", "again.jsonl"].map(file);
    let run = raft_sim(&[&seed[..], &["--record", &tape, "--trace", &traced]].concat());
    assert_eq!(run.status.code(), Some(0), "{}", text(&run.stderr));
    let replayed = raft_sim(&["replay", &tape, "--trace", &again]);
    assert_eq!(replayed.status.code(), Some(0), "{}", text(&replayed.stderr));
    let read = |path: &str| std::fs::read_to_string(path).expect("it was written");
    assert_eq!(read(&again), read(&traced));
    // The page of a tape is written beside it.
    let shown = raft_sim(&["html", &tape]);
    assert_eq!(shown.status.code(), Some(0), "{}", text(&shown.stderr));
    assert!(text(&shown.stdout).contains(&format!("page       {page}, ")));
    let of_tape = read(&page);
    assert!(of_tape.contains(&format!("<title>raft-sim, tape {tape}: passed")));
    let of_seed = [&["html"], &seed[..], &["-o", &page]].concat();
    assert_eq!(raft_sim(&of_seed).status.code(), Some(0));
    // What happened in them is the same, and comes before what they were made from.
    let happened = |page: &str| {
        let (_, data) = page.split_once("{\"entries\":").expect("its data");
        data.split_once("\"options\":").expect("what it was made from").0.to_owned()
    };
    assert_eq!(happened(&read(&page)), happened(&of_tape));
}

#[test]
fn what_is_no_tape_is_one_line() {
    let tape = file("broken.tape");
    std::fs::write(&tape, "raft-sim tape 1\n[options]\nvoters = many\n")
        .expect("it can be written");
    for (arguments, code, what) in [
        (vec!["replay", &tape], 64, "broken.tape, line 3: "),
        (vec!["replay", "no/such.tape"], 74, "cannot read no/such.tape"),
        (vec!["shrink", &tape], 64, "broken.tape, line 3: "),
        (vec!["shrink", &tape, "--set", "voters=9"], 64, "a tape says itself"),
        (vec!["shrink"], 64, "error: "),
        (vec!["html", &tape], 64, "broken.tape, line 3: "),
        (vec!["html", &tape, "--seed", "7"], 64, "error: "),
        (vec!["html"], 64, "error: "),
    ] {
        let output = raft_sim(&arguments);
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{told}");
        assert!(told.contains(what) && told.lines().count() == 1, "{told}");
        assert!(output.stdout.is_empty());
    }
    let unwritten = raft_sim(&["--seed", "7", "--events", "50", "--record", "no/such/dir.tape"]);
    assert_eq!(unwritten.status.code(), Some(74), "{}", text(&unwritten.stderr));
}
