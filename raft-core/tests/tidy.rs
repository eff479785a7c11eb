//! The house rules that no compiler checks: floors, purity, file length, cited sections.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The floor of every module. A module imports only from strictly lower floors.
const FLOORS: &[(&str, u32)] = &[
    ("types", 0),
    ("membership", 1),
    ("config", 1),
    ("rng", 1),
    ("timers", 1),
    ("digest", 1),
    ("entry", 2),
    ("quorum", 2),
    ("durable", 3),
    ("message", 4),
    ("log", 4),
    ("progress", 5),
    ("effect", 5),
    ("role", 6),
    ("status", 6),
    ("gate", 6),
    ("node", 7),
    ("admission", 8),
    ("election", 8),
    ("replication", 8),
    ("commit", 8),
    ("compaction", 8),
    ("read", 8),
    ("lease", 8),
    ("recovery", 8),
    ("repair", 8),
    ("barrier", 8),
    ("reconfiguration", 8),
    ("transfer", 8),
    ("raft", 9),
    ("replay", 10),
    ("lib", 11),
    // Beside the tower: it sees what is below the rules, and nothing but the root sees it.
    ("wire", 11),
    ("guide", 11),
];

/// Where the rules of a section are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rules {
    /// Here: the sources cite it where it is implemented, and the paper tests where it is checked.
    Here,
    /// They are those of this section of the paper, which the thesis tells again.
    AsIn(&'static str),
    /// Not in this crate, for this reason.
    NotOurs(&'static str),
}

use Rules::{AsIn, Here, NotOurs};

/// Sections 5 to 8 of the extended paper and the chapters 3, 4 and 6 of the thesis, each section of
/// them; and what the core takes from later chapters.
const SECTIONS: &[(&str, Rules)] = &[
    ("§5.1", Here),
    ("§5.2", Here),
    ("§5.3", Here),
    ("§5.4", Here),
    ("§5.4.1", Here),
    ("§5.4.2", Here),
    ("§5.4.3", Here),
    ("§5.5", Here),
    ("§5.6", Here),
    ("§6", Here),
    ("§7", Here),
    ("§8", Here),
    ("thesis §3.1", NotOurs("it says why Raft is as it is, and has no rules")),
    ("thesis §3.2", NotOurs("it announces what the sections after it say in detail")),
    ("thesis §3.3", AsIn("§5.1")),
    ("thesis §3.4", AsIn("§5.2")),
    ("thesis §3.5", AsIn("§5.3")),
    ("thesis §3.6", AsIn("§5.4")),
    ("thesis §3.6.1", AsIn("§5.4.1")),
    ("thesis §3.6.2", AsIn("§5.4.2")),
    ("thesis §3.6.3", AsIn("§5.4.3")),
    ("thesis §3.7", AsIn("§5.5")),
    ("thesis §3.8", Here),
    ("thesis §3.9", AsIn("§5.6")),
    ("thesis §3.10", Here),
    ("thesis §3.11", NotOurs("a conclusion, without rules")),
    ("thesis §4.1", Here),
    ("thesis §4.2", NotOurs("it announces what its subsections say in detail")),
    ("thesis §4.2.1", Here),
    ("thesis §4.2.2", Here),
    ("thesis §4.2.3", Here),
    ("thesis §4.3", Here),
    (
        "thesis §4.4",
        NotOurs("who decides on changes, and when, is the host's or an operator's matter"),
    ),
    ("thesis §4.5", NotOurs("a conclusion, without rules")),
    ("thesis §6.1", NotOurs("addresses are the host's: clients do not speak to the core")),
    ("thesis §6.2", Here),
    ("thesis §6.3", NotOurs("sessions belong to the state machine: raft-replica has them")),
    ("thesis §6.4", Here),
    ("thesis §6.4.1", Here),
    ("thesis §6.5", NotOurs("a conclusion, without rules")),
    ("thesis §9.6", Here),
    ("thesis §10.2.1", Here),
    ("thesis §10.2.2", Here),
];

#[test]
fn modules_import_only_from_lower_floors() {
    let floors: BTreeMap<&str, u32> = FLOORS.iter().copied().collect();
    let mut seen = BTreeSet::new();
    for (path, text) in sources() {
        let module = module_of(&path);
        let floor = *floors
            .get(module.as_str())
            .unwrap_or_else(|| panic!("{module} has no floor: give it one in FLOORS"));
        seen.insert(module.clone());
        if module == "lib" {
            continue;
        }
        for import in imports(&text) {
            // What the root re-exports counts as a name of its own; modules must name each other.
            let Some(other) = floors.get(import.as_str()) else {
                panic!("{} imports crate::{import}, which is no module", path.display())
            };
            let is_own = import == module;
            assert!(
                is_own || *other < floor,
                "{} (floor {floor}) imports crate::{import} (floor {other})",
                path.display()
            );
        }
    }
    let known: BTreeSet<String> = floors.keys().map(|name| (*name).to_owned()).collect();
    assert_eq!(seen, known, "FLOORS lists exactly the modules that exist");
}

/// Who looks for a rule looks there first.
#[test]
fn every_file_is_on_the_map() {
    let map = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ARCHITECTURE.md");
    let map = fs::read_to_string(map).expect("the map is beside the crates");
    let (start, end) = ("\n## raft-core", "\n## raft-replica");
    let start = map.find(start).expect("the core has a chapter");
    let map = &map[start..start + map[start..].find(end).expect("another one follows")];
    let words: BTreeSet<&str> = map.split_whitespace().collect();
    for (path, _) in sources() {
        let name = path.strip_prefix(source_dir()).expect("sources are below the source folder");
        let name = name.to_str().expect("names are text");
        let is_there = words.contains(name)
            || name.strip_prefix("wire/").is_some_and(|name| words.contains(name));
        assert!(is_there || name.ends_with("/tests.rs"), "{name} is not in ARCHITECTURE.md");
    }
}

#[test]
fn files_stay_short_enough_to_find_ones_way() {
    for (path, text) in sources() {
        let lines = text.lines().count();
        assert!(lines <= 500, "{} has {lines} lines", path.display());
    }
}

/// No formatter wraps comments. Rows of tables may be as long as they must.
#[test]
fn comments_are_as_narrow_as_code() {
    for (path, text) in sources() {
        for (line, number) in text.lines().zip(1..) {
            let comment = line
                .trim_start()
                .strip_prefix("//")
                .map(|rest| rest.trim_start_matches(['/', '!', ' ']));
            let is_wide = comment.is_some_and(|comment| !comment.starts_with('|'))
                && line.chars().count() > 110;
            assert!(!is_wide, "{}:{number} is wider than 110 columns", path.display());
        }
    }
}

#[test]
fn every_file_opens_with_what_it_is() {
    for (path, text) in sources() {
        assert!(text.starts_with("//! "), "{} opens without //!", path.display());
    }
}

#[test]
fn sections_are_cited_where_they_are_implemented_and_where_they_are_checked() {
    let (in_sources, in_tests) = (citations(&sources()), citations(&files_below(&paper_dir())));
    for (section, rules) in SECTIONS {
        match rules {
            Here => {
                assert!(in_sources.contains(*section), "no source cites {section}");
                assert!(in_tests.contains(*section), "no paper test cites {section}");
            }
            AsIn(other) => {
                assert!(SECTIONS.contains(&(other, Here)), "{section} is told in {other}");
            }
            NotOurs(reason) => {
                assert!(!in_sources.contains(*section), "{section} is cited, but {reason}");
            }
        }
    }
}

/// What a source cites is in the list, so that a test must cite it as well; the paper's account of
/// state machines in general, and whole chapters, apart.
#[test]
fn the_sources_cite_no_section_that_is_not_in_the_list() {
    let listed: BTreeSet<&str> = SECTIONS.iter().map(|(section, _)| *section).collect();
    assert_eq!(listed.len(), SECTIONS.len(), "each section once");
    for section in citations(&sources()) {
        let is_apart = ["§2", "thesis §4"].contains(&section.as_str());
        assert!(is_apart || listed.contains(section.as_str()), "{section} is not in SECTIONS");
    }
}

/// A paper test that names no rule of the paper belongs elsewhere.
#[test]
fn every_paper_test_cites_its_section() {
    for (path, text) in files_below(&paper_dir()) {
        for (at, _) in text.match_indices("#[test]") {
            let comment = text[..at].lines().rev().take_while(|line| line.starts_with("///"));
            let comment: String = comment.collect();
            let name = text[at..].lines().nth(1).unwrap_or_default();
            let is_cited = comment.contains('§') || comment.contains("Figure");
            assert!(is_cited, "{}: {name}", path.display());
        }
    }
}

#[test]
fn the_core_depends_on_five_crates_and_none_of_ours() {
    let tree = cargo_tree(&["-e", "normal", "--depth", "1", "--prefix", "none"]);
    let direct: BTreeSet<&str> = tree.lines().skip(1).filter_map(first_word).collect();
    let expected: BTreeSet<&str> =
        ["bytes", "serde", "postcard", "rand_chacha", "twox-hash"].into();
    assert_eq!(direct, expected);
    let tests = cargo_tree(&["-e", "all", "--prefix", "none"]);
    for ours in ["raft-replica", "raft-sim", "fuzz", "benches"] {
        assert!(
            tests.lines().filter_map(first_word).all(|name| name != ours),
            "raft-core depends on {ours}, even if only for tests"
        );
    }
}

#[test]
fn nothing_that_the_core_brings_along_can_do_io_or_tell_time() {
    let tree = cargo_tree(&["-e", "normal", "--prefix", "none"]);
    let banned = ["libc", "mio", "tokio", "socket2", "getrandom", "rand", "std-env", "log"];
    for name in tree.lines().filter_map(first_word) {
        assert!(!banned.contains(&name), "raft-core brings {name} along");
    }
}

#[test]
fn the_core_is_no_std_without_unsafe_and_without_host_modules() {
    let lib = fs::read_to_string(source_dir().join("lib.rs")).expect("the sources are readable");
    assert!(lib.contains("#![no_std]") && lib.contains("#![forbid(unsafe_code)]"));
    for (path, text) in sources() {
        let code: String =
            text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        for banned in ["std::", "extern crate std", "core::arch", "println!"] {
            let found = code.match_indices(banned).any(|(at, _)| !code[..at].ends_with("no_"));
            assert!(!found, "{} mentions {banned}", path.display());
        }
    }
}

fn cargo_tree(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--package", "raft-core", "--charset", "ascii"])
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs, for it runs this test");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("cargo prints names")
}

fn first_word(line: &str) -> Option<&str> {
    line.split_whitespace().next()
}

/// The first segment of every `crate::` path, groups in braces included.
fn imports(text: &str) -> BTreeSet<String> {
    let code: String = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join("\n");
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let is_suffix =
            code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_');
        let rest = &code[at + "crate::".len()..];
        if is_suffix {
            continue;
        }
        if let Some(group) = rest.strip_prefix('{') {
            let group = &group[..group.find(';').unwrap_or(group.len())];
            found.extend(group.trim_end_matches('}').split(',').filter_map(first_segment));
        } else {
            found.extend(first_segment(rest));
        }
    }
    found
}

fn first_segment(path: &str) -> Option<String> {
    let path = path.trim_start();
    let end = path.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(path.len());
    (end > 0).then(|| path[..end].to_owned())
}

fn module_of(path: &Path) -> String {
    let relative = path.strip_prefix(source_dir()).expect("sources are below the source folder");
    let first = relative.components().next().expect("a file has a name");
    let name = first.as_os_str().to_string_lossy();
    name.trim_end_matches(".rs").to_owned()
}

/// Every section that is cited, exactly: "thesis §6.4" is not a citation of §6.
fn citations(files: &[(PathBuf, String)]) -> BTreeSet<String> {
    let mut cited = BTreeSet::new();
    for (_, text) in files {
        for (at, sign) in text.match_indices('§') {
            let rest = &text[at + sign.len()..];
            let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(rest.len());
            let number = rest[..end].trim_end_matches('.');
            let is_thesis = text[..at].to_lowercase().ends_with("thesis ");
            cited.insert(format!("{}§{number}", if is_thesis { "thesis " } else { "" }));
        }
    }
    cited
}

fn sources() -> Vec<(PathBuf, String)> {
    let files = files_below(&source_dir());
    assert!(files.len() > 20, "the sources are found");
    files
}

fn files_below(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut folders = vec![folder.to_owned()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("the sources are readable") {
            let path = entry.expect("the sources are readable").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let text = fs::read_to_string(&path).expect("sources are text");
                files.push((path, text));
            }
        }
    }
    files.sort();
    files
}

fn paper_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/paper")
}

fn source_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}
