//! The kill matrix applies to the code as it is: a mutation whose text is gone tests nothing.

use std::path::Path;
use std::process::{Command, Output};

use raft_sim::mutants::list::List;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

fn list() -> List {
    List::read(Path::new(ROOT)).expect("the list is right")
}

fn mutants(arguments: &[&str]) -> Output {
    let mut program = Command::new(env!("CARGO_BIN_EXE_raft-sim"));
    program.arg("mutants").args(arguments).output().expect("the program starts")
}

#[test]
fn every_mutation_applies_to_the_code_as_it_is() {
    let errors: Vec<String> =
        list().mutants.iter().filter_map(|mutant| mutant.check(Path::new(ROOT)).err()).collect();
    assert!(errors.is_empty(), "{}", errors.join("\n"));
}

#[test]
fn every_mutant_breaks_what_its_layer_says_and_says_why() {
    for mutant in list().mutants {
        let id = &mutant.id;
        let ships = ["raft-core/src/", "raft-kv/replica/src/"];
        let breaks_simulator = mutant.layer == "simulator";
        let parts = if breaks_simulator { &["raft-sim/src/"][..] } else { &ships };
        assert!(parts.iter().any(|part| mutant.file.starts_with(part)), "{id}: {}", mutant.file);
        assert_eq!(mutant.self_check.is_some(), breaks_simulator, "{id}");
        assert!(!mutant.layer.is_empty(), "{id} belongs to a layer");
        assert!(mutant.why.len() > 20 && !mutant.why.ends_with('.'), "{id}: {}", mutant.why);
    }
}

#[test]
fn at_least_twelve_mutants_are_looked_for_in_every_interleaving() {
    let explored = list().mutants.iter().filter(|mutant| mutant.explore.is_some()).count();
    assert!(explored >= 12, "{explored}");
}

#[test]
fn a_name_that_no_mutant_has_is_a_mistake() {
    let output = mutants(&["--only", "no-such-mutant"]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(64), "{told}");
    assert_eq!(told, "error: there is no mutant 'no-such-mutant' (see --help)\n");
    assert!(output.stdout.is_empty());
    let kind = mutants(&["--only", "wal-batch-not-synced", "--kind", "explore"]);
    assert_eq!(kind.status.code(), Some(64));
}
