//! The command line: what it prints where, and how it ends.

use std::process::{Command, Output};

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_raft-sim"))
}

fn raft_sim(arguments: &[&str]) -> Output {
    program().args(arguments).output().expect("the program starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("the program writes text")
}

#[test]
fn a_seed_prints_the_same_bytes_every_time_and_nothing_else() {
    let (one, two) = (raft_sim(&["--seed", "7"]), raft_sim(&["--seed", "0x7"]));
    assert_eq!(one.status.code(), Some(0), "{}", text(&one.stdout));
    assert_eq!(text(&one.stdout), text(&two.stdout));
    assert!(one.stderr.is_empty(), "{}", text(&one.stderr));
    let shown = text(&one.stdout);
    for part in ["seed       0x7, 20000 events", "\nverdict    passed", "\ndigest     "] {
        assert!(shown.contains(part), "{part:?} is missing:\n{shown}");
    }
}

#[test]
fn verbose_adds_a_line_for_each_transition_and_changes_nothing() {
    let arguments = ["--seed", "3", "--events", "2000"];
    let (plain, verbose) = (raft_sim(&arguments), raft_sim(&[&arguments[..], &["-v"]].concat()));
    let (plain, verbose) = (text(&plain.stdout), text(&verbose.stdout));
    let last = |shown: &str| shown.lines().last().map(str::to_owned);
    assert_eq!(last(&plain), last(&verbose), "the digest is the same");
    assert!(verbose.lines().count() > plain.lines().count() + 50);
    assert!(verbose.contains(" L t"), "somebody leads");
}

#[test]
fn a_commit_hash_is_a_seed() {
    let hash = "9c8d17f0123456789abcdef0123456789abcdef0";
    let output = raft_sim(&["--seed", hash, "--events", "200"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
}

#[test]
fn mistakes_are_one_line_on_standard_error_and_code_64() {
    let mistakes: [(&[&str], &str); 24] = [
        (&[], "missing --seed N, as in: raft-sim --seed 7"),
        (&["-v"], "missing --seed N, as in: raft-sim --seed 7"),
        (&["--seed"], "a value is required for '--seed <N>'"),
        (&["--seed", "seven"], "'seven' for '--seed <N>': a seed is a number"),
        (&["--seed", "+7"], "'+7' for '--seed <N>': a seed is a number"),
        (&["--seed", "1", "--events", "-1"], "'-1'"),
        (&["--sneed", "1"], "unexpected argument '--sneed'"),
        (&["--seed", "1", "swarm"], "'swarm' cannot be used with '--seed <N>'"),
        (&["swarm"], "missing --seeds FIRST..END, as in: raft-sim swarm --seeds 0..1000"),
        (&["swarm", "--jobs", "2"], "missing --seeds FIRST..END"),
        (&["swarm", "--seeds", "5..5"], "the range of seeds is empty"),
        (&["swarm", "--seeds", "0..1", "--jobs", "0"], "'0' for '--jobs <JOBS>'"),
        (&["swarm", "--seeds", "0..9", "--shard", "4/3"], "a shard is I/N"),
        (&["swarm", "--time", "10"], "a time is a number with s, m or h"),
        (&["--seed", "1", "--profile", "moon"], "a profile is one of swarm, net, "),
        (&["--seed", "1", "--set", "voters"], "an option is set by NAME=VALUE"),
        (&["--seed", "1", "--set", "voters=0"], "no cluster runs with these options: no voters"),
        (
            &["--seed", "1", "--set", "disk_bytes=1000"],
            "do not hold what is written before any entry",
        ),
        (
            &["--seed", "9", "--set", "disk_bytes=50000"],
            "do not hold what is written before any entry",
        ),
        (&["merge"], "missing <RESULTS>..."),
        (&["check"], "missing FILE, as in: raft-sim check history.jsonl"),
        (&["shrink"], "missing FILE or --seed N, as in: raft-sim shrink --seed 7"),
        (&["html"], "missing FILE or --seed N, as in: raft-sim html --seed 7"),
        (&["replay"], "missing FILE, as in: raft-sim replay failing.tape"),
    ];
    for (arguments, part) in mistakes {
        is_refused(&raft_sim(arguments), part);
    }
}

fn is_refused(output: &Output, part: &str) {
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(64), "{told}");
    assert_eq!(told.lines().count(), 1, "{told}");
    assert!(told.starts_with("error: "), "{told}");
    assert!(told.ends_with(" (see --help)\n"), "{told}");
    assert!(told.contains(part), "{part:?} is missing: {told}");
    assert!(output.stdout.is_empty());
}

#[test]
fn a_trace_and_a_page_are_files_and_change_nothing_else() {
    let directory = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    let [trace, page] = ["cli.jsonl", "cli.html"].map(|name| directory.join(name));
    let seed = ["--seed", "3", "--events", "500"];
    let plain = raft_sim(&seed);
    let traced = program().args(seed).arg("--trace").arg(&trace).output().expect("it starts");
    assert_eq!(text(&plain.stdout), text(&traced.stdout));
    let lines = std::fs::read_to_string(&trace).expect("the trace is there");
    assert!(lines.starts_with("{\"ev\":\"meta\",") && lines.lines().count() > 300, "{lines}");

    let html = program().arg("html").args(seed).arg("-o").arg(&page).output().expect("it starts");
    let shown = text(&html.stdout);
    let digest = shown.lines().find(|line| line.starts_with("digest")).expect("it is shown");
    assert!(text(&plain.stdout).contains(digest), "{shown}");
    assert_eq!(html.status.code(), plain.status.code());
    assert!(shown.lines().last().is_some_and(|line| line.starts_with("page       ")), "{shown}");
    let page = std::fs::read_to_string(&page).expect("the page is there");
    assert!(page.ends_with("</html>\n"));
}

#[test]
fn help_is_no_mistake() {
    let output = raft_sim(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    let shown = text(&output.stdout);
    for part in ["swarm", " 74  standard output", "130  interrupted", "one version", "commit hash"]
    {
        assert!(shown.contains(part), "{part:?} is missing:\n{shown}");
    }
}

#[test]
fn a_swarm_prints_the_same_whatever_the_number_of_threads() {
    let swarm = |jobs| raft_sim(&["swarm", "--seeds", "0..6", "--events", "2000", "--jobs", jobs]);
    let (one, three) = (swarm("1"), swarm("3"));
    assert_eq!(one.status.code(), Some(0));
    assert_eq!(text(&one.stdout), text(&three.stdout));
    let shown = text(&one.stdout);
    assert!(shown.starts_with("seeds      6: 0 failed, 6 passed, "), "{shown}");
    for part in ["\nevidence   ", "\nrepeated   1 (seeds divisible by 16, "] {
        assert!(shown.contains(part), "{part:?} is missing:\n{shown}");
    }
    let told = text(&one.stderr);
    assert_eq!(told.matches("progress   ").count(), 6, "a line for each twentieth: {told}");
    assert!(told.contains("\nprogress   6/6 seeds, "), "{told}");
    assert!(told.contains("\nspeed      "), "{told}");
}

/// A file of this test, in the folder that cargo gives to tests.
fn file(name: &str) -> String {
    format!("{}/{name}", env!("CARGO_TARGET_TMPDIR"))
}

#[test]
fn shards_write_what_merge_adds_up() {
    let events = ["--events", "300", "--jobs", "2", "--profile", "net"];
    let whole = raft_sim(&[&["swarm", "--seeds", "0..10"][..], &events].concat());
    let files = [1, 2, 3].map(|number| (number, file(&format!("shard_{number}.json"))));
    for (number, file) in &files {
        let shard = format!("{number}/3");
        let arguments = ["swarm", "--seeds", "0..10", "--shard", &shard, "--json", file];
        assert_eq!(raft_sim(&[&arguments[..], &events].concat()).status.code(), Some(0));
    }
    let names: Vec<&str> = files.iter().map(|(_, file)| file.as_str()).collect();
    let merged = raft_sim(&[&["merge"], &names[..]].concat());
    assert_eq!(merged.status.code(), Some(0), "{}", text(&merged.stderr));
    let shown = text(&merged.stdout);
    let (setup, sum) = shown.split_once('\n').expect("lines");
    assert!(setup.ends_with(", --events 300 --profile net"), "{setup}");
    assert_eq!(sum, text(&whole.stdout));

    let twice = raft_sim(&["merge", names[0], names[0]]);
    assert_eq!(twice.status.code(), Some(64));
    assert!(text(&twice.stderr).contains("which are counted already"), "{}", text(&twice.stderr));
    let nowhere = raft_sim(&["merge", "/nowhere/at/all"]);
    assert_eq!(nowhere.status.code(), Some(74));
    assert_eq!(text(&nowhere.stderr).lines().count(), 1);
    let other = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let told = raft_sim(&["merge", other]);
    let expected = "/Cargo.toml:1: a line that `swarm --json` has written was expected: ";
    assert!(text(&told.stderr).contains(expected), "{}", text(&told.stderr));
}

#[test]
fn a_disk_that_holds_nothing_but_its_name_costs_no_safety() {
    let output = raft_sim(&["--seed", "3", "--set", "disk_bytes=140000"]);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stdout));
}

#[test]
fn what_cannot_be_kept_is_told_before_there_is_work() {
    let nowhere = "/nowhere/at/all";
    let run = ["--seed", "3", "--events", "200"];
    for arguments in [
        [&run[..], &["--record", nowhere]].concat(),
        [&["shrink"], &run[..], &["-o", nowhere]].concat(),
        [&["html"], &run[..], &["-o", nowhere]].concat(),
    ] {
        let output = raft_sim(&arguments);
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(74), "{told}");
        assert!(told.starts_with(&format!("error: cannot write {nowhere}: ")), "{told}");
        assert_eq!((told.lines().count(), output.stdout.len()), (1, 0), "{told}");
    }
    // Nothing is left of the attempt: this run passes, so there is nothing to shrink.
    let path = file("nothing.tape");
    let output = raft_sim(&[&["shrink"], &run[..], &["-o", &path]].concat());
    assert_eq!(output.status.code(), Some(64), "{}", text(&output.stderr));
    assert!(!std::path::Path::new(&path).exists());
}

#[test]
fn a_script_that_cannot_be_read_is_no_mistake_in_the_arguments() {
    let output = raft_sim(&["explore", "--from", "/nowhere/at/all"]);
    assert_eq!(output.status.code(), Some(74));
    assert!(text(&output.stderr).starts_with("error: cannot read /nowhere/at/all: "));
}

#[test]
fn options_that_are_shown_can_be_set() {
    let shown = text(&raft_sim(&["options", "--seed", "5", "--profile", "disk"]).stdout);
    let line = |name: &str| shown.lines().find(|line| line.starts_with(name)).map(str::to_owned);
    assert!(line("link.loss=").is_some() && line("faults=").is_some(), "{shown}");
    let run = ["--seed", "5", "--events", "300"];
    let set = ["--set", "voters=5", "--set", "faults=crash loss", "--set", "link.loss=1/3"];
    let shown = text(&raft_sim(&[&run[..], &set].concat()).stdout);
    for part in ["\ncluster    5 voters", ", loss 1/3", "\nfaults     loss crash\n"] {
        assert!(shown.contains(part), "{part:?} is missing:\n{shown}");
    }
}

#[test]
fn a_swarm_ends_when_its_time_is_over() {
    let output = raft_sim(&["swarm", "--time", "0s"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).starts_with("seeds      0: "), "{}", text(&output.stdout));
}

#[test]
fn a_swarm_that_proves_nothing_says_so() {
    let output = raft_sim(&["swarm", "--seeds", "1..3", "--events", "1"]);
    let shown = text(&output.stdout);
    assert!(shown.contains("\nevidence   none: "), "{shown}");
}

const TINY: [&str; 9] =
    ["explore", "--nodes", "2", "--terms", "1", "--entries", "0", "--crashes", "0"];

#[test]
fn an_exploration_says_that_it_has_looked() {
    let output = raft_sim(&TINY);
    let shown = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{shown}");
    assert!(shown.starts_with("verdict    complete: every state keeps every promise\n"), "{shown}");
    for part in [
        "\nbounds     --nodes 2 --terms 1 --entries 0 --crashes 0\n",
        "\nstates     ",
        "\nfrontier   0\n",
        "\ncoverage   ",
        "\nlandmarks  ",
    ] {
        assert!(shown.contains(part), "{part:?} is missing:\n{shown}");
    }
    assert!(!shown.contains("MISSING"), "{shown}");
    assert!(text(&output.stderr).contains("\nspeed      "));
    let jobs = raft_sim(&[&TINY[..], &["--jobs", "2"]].concat());
    assert_eq!(shown, text(&jobs.stdout), "the number of threads changes nothing");
}

#[test]
fn bounds_that_make_no_sense_are_mistakes() {
    let mistakes: [(&[&str], &str); 7] = [
        (&["--nodes", "0"], "0 is not in 1..=5"),
        (&["--terms", "10"], "10 is not in 1..=9"),
        (&["--nodes", "1", "--transfers", "1"], "--transfers needs a voter to hand over to"),
        (&["--nodes", "1", "--changes", "1"], "--changes would remove the only voter"),
        (&["--nodes", "1", "--check-quorum"], "--check-quorum means nothing to a single voter"),
        (&["--memory-max", "8GB"], "an amount of memory is a number of bytes, or of K, M or G"),
        (&["--jobs", "0"], "'0' for '--jobs <JOBS>'"),
    ];
    for (arguments, part) in mistakes {
        is_refused(&raft_sim(&[&["explore"], arguments].concat()), part);
    }
}

#[test]
fn an_exploration_stops_when_memory_is_full() {
    let output = raft_sim(&["explore", "--nodes", "3", "--crashes", "0", "--memory-max", "1K"]);
    let shown = text(&output.stdout);
    assert_eq!(output.status.code(), Some(130), "{shown}");
    assert!(shown.starts_with("verdict    stopped: "), "{shown}");
    assert!(text(&output.stderr).contains("stopped: the visited states have reached --memory-max"));
}

/// What only a Unix has: arguments of bytes, a full device, interrupts.
#[cfg(unix)]
mod unix {
    use std::ffi::OsStr;
    use std::fs::File;
    use std::io::{BufRead, BufReader, Read};
    use std::os::unix::ffi::OsStrExt;
    use std::process::{Child, Stdio};

    use rustix::process::{Pid, Signal, kill_process};

    use super::*;

    #[test]
    fn an_argument_that_is_no_text_is_a_mistake() {
        let bad = OsStr::from_bytes(b"7\xff");
        let output = program().arg("--seed").arg(bad).output().expect("the program starts");
        is_refused(&output, "is not valid Unicode");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_told_in_one_line_and_code_74() {
        let full = || File::create("/dev/full").expect("there is a full device");
        for arguments in [&["--seed", "7", "--events", "200"][..], &["--help"]] {
            let output = program().args(arguments).stdout(full()).output().expect("it starts");
            let told = text(&output.stderr);
            assert_eq!(output.status.code(), Some(74), "{told}");
            assert!(told.starts_with("error: cannot write to standard output: "), "{told}");
            assert_eq!(told.lines().count(), 1, "{told}");
        }
        let swarm = ["swarm", "--seeds", "1..3", "--events", "200"];
        let output = program().args(swarm).stderr(full()).output().expect("it starts");
        assert_eq!(output.status.code(), Some(0), "standard error is for those who wait");
        assert!(text(&output.stdout).starts_with("seeds      2: 0 failed"));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_file_that_cannot_be_written_is_told_in_one_line_and_code_74() {
        let seed = ["--seed", "7", "--events", "200"];
        for path in ["/dev/full", "/nowhere/file"] {
            let commands = [
                [&seed[..], &["--trace", path]].concat(),
                [&seed[..], &["--record", path]].concat(),
                [&["html"], &seed[..], &["-o", path]].concat(),
            ];
            for arguments in commands {
                let output = raft_sim(&arguments);
                let told = text(&output.stderr);
                assert_eq!(output.status.code(), Some(74), "{told}");
                assert!(told.starts_with(&format!("error: cannot write {path}: ")), "{told}");
                assert_eq!(told.lines().count(), 1, "{told}");
            }
        }
    }

    #[test]
    fn a_reader_that_has_seen_enough_changes_nothing() {
        let mut child = start(&["--seed", "7", "--events", "2000", "-v"]);
        let mut first = String::new();
        let mut reader = BufReader::with_capacity(64, child.stdout.take().expect("a pipe"));
        reader.read_line(&mut first).expect("a line comes");
        drop(reader);
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(output.status.code(), Some(0));
        assert!(first.starts_with("seed       0x7"), "{first}");
        assert!(output.stderr.is_empty(), "{}", text(&output.stderr));
    }

    /// A build that goes another way after an event.
    fn liar() -> String {
        use std::os::unix::fs::PermissionsExt;
        let path = file("liar.sh");
        let program = env!("CARGO_BIN_EXE_raft-sim");
        let lie = "s/^\\(4[0-9][0-9]\\|[5-9][0-9][0-9]\\|[0-9]\\{4,\\}\\|end\\) ./\\1 x/";
        let script = format!("#!/bin/sh\n{program} \"$@\" | sed '{lie}'\n");
        std::fs::write(&path, script).expect("a file can be written");
        let executable = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&path, executable).expect("it is ours");
        path
    }

    #[test]
    fn builds_that_differ_part_at_an_event() {
        let ours = env!("CARGO_BIN_EXE_raft-sim");
        let arguments = ["determinism", "--seed", "3", "--events", "3000", "--with"];
        let same = raft_sim(&[&arguments[..], &[ours]].concat());
        assert_eq!(same.status.code(), Some(0), "{}", text(&same.stderr));
        let shown = text(&same.stdout);
        assert_eq!(shown.lines().filter(|line| line.starts_with("end ")).count(), 3, "{shown}");

        let other = raft_sim(&[&arguments[..], &[&liar()]].concat());
        let shown = text(&other.stdout);
        assert_eq!(other.status.code(), Some(4), "{shown}");
        assert!(shown.contains("the first event that goes otherwise is 400:"), "{shown}");

        let none = raft_sim(&[&arguments[..], &["/nowhere/raft-sim"]].concat());
        assert_eq!(none.status.code(), Some(74));
        assert_eq!(text(&none.stderr).lines().count(), 1);

        let stranger = raft_sim(&[&arguments[..], &["/bin/true"]].concat());
        assert_eq!(stranger.status.code(), Some(64), "{}", text(&stranger.stdout));
        assert!(text(&stranger.stderr).starts_with("error: /bin/true is no raft-sim: "));
    }

    /// What is written here may have so many blocks of 512 bytes, and no more.
    #[test]
    fn a_page_that_is_not_whole_is_none() {
        let page = file("cut.html");
        let script = "trap '' XFSZ; ulimit -f 8; exec \"$0\" html --seed 3 --events 200 -o \"$1\"";
        let mut shell = Command::new("sh");
        shell.args(["-c", script, env!("CARGO_BIN_EXE_raft-sim"), &page]);
        let output = shell.output().expect("there is a shell");
        assert_eq!(output.status.code(), Some(74), "{}", text(&output.stderr));
        assert!(!std::path::Path::new(&page).exists());
    }

    #[test]
    fn who_is_told_to_end_ends_as_if_interrupted() {
        let mut child = start(&["--seed", "7", "--events", "1000000000"]);
        let mut shown = BufReader::new(child.stdout.take().expect("a pipe"));
        shown.read_line(&mut String::new()).expect("the options come first");
        kill_process(Pid::from_child(&child), Signal::TERM).expect("the program still runs");
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(output.status.code(), Some(130));
        assert_eq!(text(&output.stderr), "interrupted: the run has no verdict\n");
    }

    #[test]
    fn an_interrupted_swarm_sums_up_what_it_has_seen() {
        let mut child = start(&["swarm", "--seeds", "1..2001", "--events", "200", "--jobs", "2"]);
        let mut told = BufReader::new(child.stderr.take().expect("a pipe"));
        let mut line = String::new();
        told.read_line(&mut line).expect("a line comes");
        assert!(line.starts_with("progress   100/2000 seeds, "), "{line}");
        interrupt(&child);
        told.read_to_string(&mut line).expect("more lines come");
        let output = child.wait_with_output().expect("it ends");
        let shown = text(&output.stdout);
        assert_eq!(output.status.code(), Some(130), "{shown}");
        assert!(shown.starts_with("partial    interrupted after "), "{shown}");
        assert!(shown.contains(": 0 failed, "), "{shown}");
        assert!(line.contains("\ninterrupted: the runs under way are the last"), "{line}");
    }

    #[test]
    fn an_interrupted_exploration_tells_what_it_has_covered() {
        let bounds = ["--nodes", "3", "--terms", "9", "--memory-max", "2G"];
        let mut child = start(&[&["explore"], &bounds[..]].concat());
        let mut told = BufReader::new(child.stderr.take().expect("a pipe"));
        let mut line = String::new();
        told.read_line(&mut line).expect("a line comes");
        assert!(line.starts_with("progress   "), "{line}");
        interrupt(&child);
        told.read_to_string(&mut line).expect("more lines come");
        let output = child.wait_with_output().expect("it ends");
        let shown = text(&output.stdout);
        assert_eq!(output.status.code(), Some(130), "{shown}");
        assert!(shown.starts_with("verdict    stopped: "), "{shown}");
        assert!(shown.contains("\nlandmarks  "), "{shown}");
        assert!(line.contains("\ninterrupted: the report comes soon"), "{line}");
    }

    #[test]
    fn an_interrupted_run_has_no_verdict() {
        let mut child = start(&["--seed", "7", "--events", "1000000000"]);
        let mut shown = BufReader::new(child.stdout.take().expect("a pipe"));
        shown.read_line(&mut String::new()).expect("the options come first");
        interrupt(&child);
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(output.status.code(), Some(130));
        assert_eq!(text(&output.stderr), "interrupted: the run has no verdict\n");
    }

    fn start(arguments: &[&str]) -> Child {
        let pipes = |command: &mut Command| {
            command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
        };
        pipes(&mut program()).expect("the program starts")
    }

    fn interrupt(child: &Child) {
        kill_process(Pid::from_child(child), Signal::INT).expect("the program still runs");
    }
}
