//! Every reason that the core gives for not doing something, produced once: an input that provokes
//! it, the reason that is seen, and whether the node is then what it was before.
//!
//! The lists of reasons are read off the sources, so that a new one needs a row here.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::fs;
use std::path::Path;

use raft_core::{
    Body, Effect, Entries, EntryId, Envelope, Epoch, Incarnation, Index, Membership, Message,
    Payload, Raft, Round, Rpc, Session, Term, Time,
};

use crate::support::{Cluster, config, member};

mod recovered;
mod refused;
mod rejected;
mod violated;

/// Three voters and a learner, of which n1 leads term 1 and all have its no-op.
fn led() -> Cluster {
    let mut cluster = Cluster::new(&[1, 2, 3], &[4]);
    cluster.elect(1);
    cluster.tick(1, 100);
    cluster.deliver();
    cluster
}

fn raft(cluster: &Cluster, id: u64) -> Raft {
    cluster.server(id).raft.clone()
}

fn says(from: u64, to: u64, term: u64, rpc: Rpc) -> Envelope {
    let config = config(to);
    Envelope {
        cluster: config.cluster,
        group: config.group,
        from: member(from),
        to: member(to),
        epoch: Epoch(0),
        incarnation: Incarnation(1),
        term: Term(term),
        rpc,
    }
}

fn append(prev: EntryId, entries: Entries) -> Rpc {
    let (session, round, commit) = (Session(1), Round(0), Index(0));
    Rpc::AppendEntries { session, round, prev, entries, commit }
}

/// Entries without content, of these terms.
fn noops(after: EntryId, terms: impl IntoIterator<Item = u64>) -> Entries {
    Entries::after(after, terms.into_iter().map(|term| (Term(term), Payload::Noop)))
}

fn step(raft: &mut Raft, now: Time, body: Body) -> Vec<Effect> {
    raft.step(Message { now, body })
}

/// A membership that its constructor would not make: what bytes from elsewhere may say.
fn impossible_membership() -> Membership {
    let both = serde_json::json!([{ "id": 1, "lineage": 10 }]);
    let membership: Membership = serde_json::from_value(serde_json::json!({
        "incoming": both, "outgoing": [], "learners": both, "learners_next": [], "auto_leave": false,
    }))
    .expect("it has the fields of a membership");
    assert!(membership.validate().is_err());
    membership
}

/// The name of a variant.
fn name(value: &impl Debug) -> String {
    let text = format!("{value:?}");
    let end = text.find(|sign: char| !sign.is_alphanumeric()).unwrap_or(text.len());
    text[..end].to_owned()
}

/// The variants of an enum, as its source names them.
fn variants(file: &str, of: &str) -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(file);
    let text = fs::read_to_string(path).expect("the sources are readable");
    let head = format!("pub enum {of} {{\n");
    let start = text.find(&head).expect("the enum is there") + head.len();
    let body = &text[start..start + text[start..].find("\n}").expect("it ends")];
    let is_variant = |line: &&str| {
        line.strip_prefix("    ").is_some_and(|rest| rest.starts_with(char::is_uppercase))
    };
    let found = body.lines().filter(is_variant).map(|line| line.trim());
    let found: BTreeSet<String> = found
        .map(|line| line.trim_end_matches(|sign: char| !sign.is_alphanumeric()))
        .map(|line| line.split(['(', ' ']).next().unwrap_or_default().to_owned())
        .collect();
    assert!(found.len() > 3, "the variants of {of} are found: {found:?}");
    found
}

#[test]
fn each_reason_to_refuse_an_input_is_given_by_some_input() {
    let given: BTreeSet<String> = refused::cases().iter().map(|case| name(&case.reason)).collect();
    assert_eq!(given, variants("effect.rs", "Refused"));
    for case in refused::cases() {
        case.check();
    }
}

#[test]
fn each_reason_to_reject_a_request_is_given_to_some_request() {
    let cases = rejected::cases();
    let given: BTreeSet<String> = cases.iter().map(|case| name(&case.reason)).collect();
    assert_eq!(given, variants("effect.rs", "Rejection"));
    for case in cases {
        case.check();
    }
}

#[test]
fn each_violation_is_seen_by_some_node() {
    let cases = violated::cases();
    let given: BTreeSet<String> = cases.iter().map(|case| name(&case.violation)).collect();
    assert_eq!(given, variants("effect.rs", "Violation"));
    for case in cases {
        case.check();
    }
}

#[test]
fn each_reason_not_to_start_is_given_by_some_disk() {
    let cases = recovered::cases();
    let given: BTreeSet<String> = cases.iter().map(|case| name(&case.reason)).collect();
    assert_eq!(given, variants("recovery.rs", "RecoverError"));
    for case in cases {
        case.check();
    }
}
