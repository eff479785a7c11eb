//! `raft-sim check` on small histories: each file of `histories` has the output that it must have
//! beside it. `UPDATE_EXPECT=1` writes the outputs anew.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/histories")
}

fn check(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_raft-sim"));
    command.arg("check").args(arguments).current_dir(directory());
    command.output().expect("the program was built for this test")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("what is told is text")
}

#[test]
fn every_history_has_its_verdict_and_its_reason() {
    let mut names: Vec<String> = fs::read_dir(directory())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.ends_with(".expected"))
        .collect();
    names.sort();
    assert!(names.len() >= 14, "{names:?}");
    for name in names {
        let output = check(&[&name]);
        let shown =
            format!("{}exit code {}\n", text(&output.stdout), output.status.code().unwrap());
        assert_eq!(text(&output.stderr), "");
        let expected = directory().join(format!("{name}.expected"));
        if is_update() {
            fs::write(expected, shown).unwrap();
        } else {
            assert_eq!(shown, fs::read_to_string(expected).unwrap(), "{name}");
        }
    }
}

#[test]
fn the_worst_of_several_files_is_the_exit_code() {
    let code = |files: &[&str]| check(files).status.code();
    assert_eq!(code(&["hidden_write.jsonl", "jepsen_spaces.log", "stale_read.jsonl"]), Some(2));
    assert_eq!(code(&["hidden_write.jsonl", "no such file"]), Some(74));
    assert_eq!(code(&["../histories.rs", "hidden_write.jsonl"]), Some(64));
    assert_eq!(code(&["../histories.rs", "stale_read.jsonl"]), Some(2));
    assert_eq!(code(&[]), Some(64));
}

#[test]
fn what_is_no_history_is_told_with_its_line() {
    let scratch = tempfile();
    let head = "{\"format\":\"jepsen-jsonl/1\",\"model\":\"kv-cas\"}\n";
    let read = "{\"process\":0,\"type\":\"invoke\",\"f\":\"read\",\"key\":\"x\",\"value\":null}\n";
    for (content, reason) in [
        (String::new(), "1: the file is empty"),
        ("hello\n".to_owned(), "1: this is neither a history in JSON lines nor"),
        ("{}\n".to_owned(), "1: the header has no \"format\""),
        (head.replace("kv-cas", "set"), "1: the model is neither"),
        (format!("{head}{{\"process\":0"), "2: this is no JSON object"),
        (format!("{head}{read}\n{read}"), "4: the process begins an operation before"),
        (format!("{head}{}", read.replace("invoke", "ok")), "2: the process has nothing to end"),
        (format!("{head}{}", read.replace("read", "increment")), "2: the f \"increment\" is none"),
        (format!("{head}{read}{}", read.replace("invoke", "done")), "3: the type \"done\" is none"),
        (format!("{head}{}", read.replace("read", "append")), "2: the value of an append"),
    ] {
        fs::write(&scratch, &content).unwrap();
        let name = scratch.to_str().unwrap();
        let output = check(&[name]);
        let line = text(&output.stderr);
        assert!(line.starts_with(&format!("error: {name}:{reason}")), "{content}: {line}");
        assert_eq!((line.lines().count(), output.status.code()), (1, Some(64)), "{line}");
    }
    fs::remove_file(scratch).unwrap();
}

#[test]
fn a_page_and_an_order_can_be_written() {
    let (page, order) = (tempfile().with_extension("html"), tempfile().with_extension("order"));
    let path = |path: &PathBuf| path.to_str().unwrap().to_owned();
    let output = check(&["stale_read.jsonl", "--html", &path(&page)]);
    assert_eq!(output.status.code(), Some(2));
    let html = fs::read_to_string(&page).unwrap();
    assert!(
        html.contains("The read by p4 returned 3") || html.contains("the read by p4 returned 3")
    );
    assert!(!html.contains("http"), "the page needs no network");
    let output = check(&["unknown_write_shows_late.jsonl", "--witness", &path(&order)]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(fs::read_to_string(&order).unwrap().lines().count(), 7);
    fs::remove_file(page).unwrap();
    fs::remove_file(order).unwrap();
}

#[expect(clippy::disallowed_methods, reason = "whoever regenerates asks for it by environment")]
fn is_update() -> bool {
    std::env::var_os("UPDATE_EXPECT").is_some()
}

/// A path of this test process alone.
fn tempfile() -> PathBuf {
    let unique = std::thread::current().name().unwrap_or("test").to_owned();
    std::env::temp_dir().join(format!("raft-sim-check-{}-{unique}", std::process::id()))
}
