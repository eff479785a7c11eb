//! A violation in words.

use super::core::Core;
use super::history::{ABSENT, Action, History, Model, Operation};

/// What a client asked for and was told, as in "read by p4 that returned 3".
#[must_use]
pub fn describe(history: &History, operation: &Operation) -> String {
    let by = who(history, operation);
    let value = |value| history.value(value);
    let unknown = if operation.end.is_none() { " (of unknown outcome)" } else { "" };
    match operation.action {
        Action::Read(found) if history.model == Model::Append => {
            format!("the read by {by} that returned {}", quoted(value(found)))
        }
        Action::Read(found) => format!("the read by {by} that returned {}", value(found)),
        Action::Write(ABSENT) => format!("the delete by {by}{unknown}"),
        Action::Write(written) => format!("the write of {} by {by}{unknown}", value(written)),
        Action::Append(added) => format!("the append of {} by {by}{unknown}", quoted(value(added))),
        Action::Swap { from, to } => {
            format!("the cas by {by} from {} to {}{unknown}", value(from), value(to))
        }
        Action::Differs(expected) => {
            format!("the cas by {by} that found another value than {}", value(expected))
        }
    }
}

/// How many there are of what a noun names, as in "1 operation" and "2 operations".
#[must_use]
pub fn counted(count: usize, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

/// A process: `p4` if it only has a number.
#[must_use]
pub fn who(history: &History, operation: &Operation) -> String {
    let name = history.process(operation.process);
    let is_number = name.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { format!("p{name}") } else { name.to_owned() }
}

fn quoted(text: &str) -> String {
    const SHOWN: usize = 24;
    let count = text.chars().count();
    if count <= SHOWN {
        return format!("{text:?}");
    }
    let end: String = text.chars().skip(count - SHOWN).collect();
    format!("a text of {count} characters that ends with {end:?}")
}

/// Why there is no order: one sentence, or a few if the core is large.
#[must_use]
pub fn sentence(history: &History, core: &Core) -> String {
    let operation = |number: &u32| &history.operations[*number as usize];
    let all: Vec<&Operation> = core.operations.iter().map(operation).collect();
    // The one that sees what it should not: the look that ends last.
    let looks = all.iter().filter(|one| one.end.is_some() && looks(one.action));
    let Some(victim) = looks.max_by_key(|one| (is_read(one.action), one.end)).copied() else {
        return "these operations contradict each other".to_owned();
    };
    let others: Vec<&Operation> = all.into_iter().filter(|one| one.call != victim.call).collect();
    let mut text = saw(history, victim);
    text.push_str(", but ");
    let reasons = reasons(history, &others, victim);
    let closing = closing(history, core.key, victim, others.is_empty());
    match reasons.is_empty() {
        true => text.push_str(&closing),
        false => {
            text.push_str(&reasons.join(", and "));
            text.push_str("; ");
            text.push_str(&closing);
        }
    }
    text
}

fn looks(action: Action) -> bool {
    match action {
        Action::Read(_) | Action::Swap { .. } | Action::Differs(_) => true,
        Action::Write(_) | Action::Append(_) => false,
    }
}

fn is_read(action: Action) -> bool {
    matches!(action, Action::Read(_))
}

/// What the victim saw, as in "the read by p4 returned 3".
fn saw(history: &History, victim: &Operation) -> String {
    let by = who(history, victim);
    let value = |value| history.value(value);
    match victim.action {
        Action::Read(found) if history.model == Model::Append => {
            format!("the read by {by} returned {}", quoted(value(found)))
        }
        Action::Read(found) => format!("the read by {by} returned {}", value(found)),
        Action::Swap { from, to } => {
            format!("the cas by {by} found {} and replaced it with {}", value(from), value(to))
        }
        Action::Differs(expected) => {
            format!("the cas by {by} found another value than {}", value(expected))
        }
        Action::Write(_) | Action::Append(_) => describe(history, victim),
    }
}

/// How the others stand to each other and to the victim, in the order of time.
fn reasons(history: &History, others: &[&Operation], victim: &Operation) -> Vec<String> {
    let ended = |one: &Operation, other: &Operation| one.end.is_some_and(|end| end < other.call);
    let mut sorted = others.to_vec();
    sorted.sort_by_key(|one| (one.end.unwrap_or(u32::MAX), one.call));
    let (later, rest): (Vec<&Operation>, Vec<&Operation>) =
        sorted.into_iter().partition(|one| ended(victim, one));
    let (before, beside): (Vec<&Operation>, Vec<&Operation>) =
        rest.into_iter().partition(|one| ended(one, victim));
    let list = |all: &[&Operation], and: &str| {
        let all: Vec<String> = all.iter().map(|one| describe(history, one)).collect();
        all.join(and)
    };
    let is_chain = before.windows(2).all(|pair| ended(pair[0], pair[1]));
    let mut reasons = Vec::new();
    match (before.len(), is_chain) {
        (0, _) => {}
        (1, _) => reasons.push(format!("{} had completed before it began", list(&before, ""))),
        (_, true) => reasons.push(format!(
            "before it began, one after the other had completed {}",
            list(&before, ", then ")
        )),
        (_, false) => {
            reasons.push(format!("{} had completed before it began", list(&before, " and ")))
        }
    }
    if !beside.is_empty() {
        let verb = if beside.len() == 1 { "was" } else { "were" };
        reasons.push(format!("{} {verb} under way at the same time", list(&beside, " and ")));
    }
    if !later.is_empty() {
        reasons.push(format!("{} began only after that", list(&later, " and ")));
    }
    reasons
}

/// Why nothing else helps the victim.
fn closing(history: &History, key: u32, victim: &Operation, is_alone: bool) -> String {
    let wanted = match victim.action {
        Action::Read(wanted) | Action::Swap { from: wanted, .. } => wanted,
        Action::Differs(not) => {
            let not = history.value(not);
            return format!("no order has a moment for it with another value than {not}");
        }
        Action::Write(_) | Action::Append(_) => return "no order has a place for it".to_owned(),
    };
    if history.model == Model::Append {
        return "no order of the appends makes that text at that time".to_owned();
    }
    let value = history.value(wanted);
    let writes = |one: &&Operation| match one.action {
        Action::Write(to) | Action::Swap { to, .. } => to == wanted && one.key == key,
        Action::Read(_) | Action::Differs(_) | Action::Append(_) => false,
    };
    let is_written = history.operations.iter().any(|one| writes(&one));
    match (is_written, wanted == ABSENT, is_alone) {
        (false, false, _) => format!("nothing ever wrote {value}"),
        (false, true, _) => "nothing ever deleted the key".to_owned(),
        (true, false, false) => format!("no other write can have put {value} there for it"),
        (true, true, false) => "no delete can have taken it away for it".to_owned(),
        (true, _, true) => format!("no order has a moment for it with {value}"),
    }
}
