//! The picture of a run: one page that holds everything and asks nobody for anything.
//!
//! A [`Record`] watches the run; [`html`] puts what it has taken down, what came of the run, and the
//! program that draws it into one file. The sources of that program are next to this file, as they
//! are: nothing builds them, and the page loads nothing else.
//!
//! Keys and values may be any bytes. They go into the page as JSON without a character that could
//! end it, and the program shows texts as texts.

mod record;
mod rows;
mod table;
mod words;

use serde_json::{Value, json};

use crate::failure::Failure;
use crate::fault::Fault;
use crate::report::{Origin, Report};

pub use record::Record;

const HTML: &str = include_str!("page/page.html");
const CSS: &str = include_str!("page/page.css");
/// In the order in which they stand in the page.
const SCRIPTS: [&str; 4] = [
    include_str!("page/data.js"),
    include_str!("page/picture.js"),
    include_str!("page/panels.js"),
    include_str!("page/page.js"),
];

/// The page of a run that `record` has watched and that ended with `report`.
#[must_use]
pub fn html(mut record: Record, report: &Report) -> String {
    let mut data = record.json();
    data["texts"] = record.texts.json();
    data["nodes"] = (0..record.nodes).map(|node| name(&record, node)).collect();
    data["options"] = record.options.clone().into();
    data["report"] = summary(report);
    if let Some(failure) = &report.failure {
        data["failure"] = told(failure, report);
    }
    let title = format!("raft-sim, {}: {}", source(report), report.verdict());
    let script = SCRIPTS.concat();
    let parts = [("TITLE", &*title), ("CSS", CSS), ("DATA", &inert(&data)), ("SCRIPT", &script)];
    fill(HTML, &parts)
}

/// Puts each part where the page names it. What a part contains is not looked at.
fn fill(page: &str, parts: &[(&str, &str)]) -> String {
    let Some(((name, part), rest)) = parts.split_first() else { return page.to_owned() };
    let mark = format!("{{{{{name}}}}}");
    let (before, after) = page.split_once(&mark).expect("the page names all of its parts in order");
    format!("{before}{part}{}", fill(after, rest))
}

/// JSON in which nothing can end the element that holds it.
fn inert(data: &Value) -> String {
    let text = data.to_string();
    text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

fn name(record: &Record, node: usize) -> Value {
    let founder = record.founders.iter().find(|(at, _)| *at == node);
    let role = founder.map_or("spare", |(_, role)| role);
    json!({ "name": format!("n{}", node + 1), "role": role })
}

/// What the run was made from.
fn source(report: &Report) -> String {
    match &report.origin {
        Origin::Tape(file) => format!("tape {file}"),
        Origin::Seed | Origin::Workload => format!("seed {:#x}", report.options.seed),
        Origin::WorkloadTape => "tape".to_owned(),
    }
}

fn summary(report: &Report) -> Value {
    let stats = &report.stats;
    let faults = report.options.faults.iter().map(|fault: Fault| {
        let (injected, effective) = stats.tally.of(fault);
        json!({ "name": fault.name(), "injected": injected, "effective": effective })
    });
    json!({
        "source": source(report),
        "verdict": report.verdict(),
        "digest": format!("{:016x}", report.digest),
        "reproduce": report.reproduce(),
        "events": stats.events, "elections": stats.elections, "committed": report.committed,
        "crashes": stats.crashes, "starts": stats.starts, "restored": stats.restored,
        "writes": stats.writes, "reads": stats.reads, "frames": stats.frames,
        "syncs": stats.syncs, "faults": faults.collect::<Vec<Value>>(),
    })
}

fn told(failure: &Failure, report: &Report) -> Value {
    let mut told = json!({
        "id": failure.id(), "meaning": failure.meaning(), "actual": failure.to_string(),
        "event": report.stats.events,
    });
    match failure {
        Failure::Violation(violation) => {
            told["predicted"] = violation.predicted.clone().into();
            told["actual"] = violation.actual.clone().into();
            if let Some(node) = violation.node {
                told["node"] = (node.0 - 1).into();
            }
            if let Some(index) = violation.index {
                told["index"] = index.0.into();
            }
        }
        Failure::Reported { node, .. }
        | Failure::Storage { node, .. }
        | Failure::Recover { node, .. } => told["node"] = (node.0 - 1).into(),
        Failure::Liveness(_)
        | Failure::Unrest(_)
        | Failure::Determinism { .. }
        | Failure::Simulator(_)
        | Failure::Panic(_) => {}
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_text_can_end_the_element_that_holds_it() {
        let data =
            json!({ "texts": ["</script><script>alert(1)</script>", "<!-- & --> {{SCRIPT}}"] });
        let shown = inert(&data);
        assert!(!shown.contains(['<', '>', '&']), "{shown}");
        assert_eq!(serde_json::from_str::<Value>(&shown).expect("it is JSON"), data);
    }

    #[test]
    fn a_part_is_not_looked_at() {
        let page = fill("<a>{{ONE}}</a>{{TWO}}", &[("ONE", "{{TWO}}"), ("TWO", "2")]);
        assert_eq!(page, "<a>{{TWO}}</a>2");
    }
}
