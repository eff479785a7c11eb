//! What the clients saw, as a text that other judges read: one event a line, in the order of real time.
//!
//! The form is `jepsen-jsonl/1`: a register for each key, with `read`, `write`, `cas` and `delete`.
//! A write on the condition of a version is a `cas` from the value of that version, since no value
//! is written twice; one on the condition that the key is absent is a `cas` from null. A client
//! whose request has an unknown outcome goes on under another number: that request may yet take
//! effect.

use std::collections::BTreeMap;

use super::clients::{Operation, Outcome, Record};
use super::moment::Moment;

/// The history, sorted.
pub(crate) fn jsonl(history: &[Record]) -> String {
    let mut events: Vec<(Moment, bool, &Record)> = Vec::with_capacity(2 * history.len());
    for record in history {
        events.push((record.begin, false, record));
        events.push((record.end, true, record));
    }
    events.sort_by_key(|(moment, ..)| *moment);
    let zero = events.first().map(|(moment, ..)| moment.at);
    let mut names = Names::default();
    let mut text =
        String::from("{\"format\":\"jepsen-jsonl/1\",\"model\":\"kv-cas\",\"init\":null}\n");
    for (index, (moment, is_end, record)) in events.into_iter().enumerate() {
        let time = zero.map_or(0, |zero| moment.at.duration_since(zero).as_micros());
        let process = names.of(record.client);
        let (kind, value) =
            if is_end { told(record) } else { ("invoke", asked(&record.operation)) };
        let f = name(&record.operation);
        let error = match kind {
            "fail" if matches!(record.outcome, Outcome::Unmet { .. }) => ",\"error\":\"mismatch\"",
            "fail" => ",\"error\":\"refused\"",
            _ => "",
        };
        text += &format!(
            "{{\"index\":{index},\"time\":{time},\"process\":{process},\"type\":\"{kind}\",\"f\":\"{f}\",\
             \"key\":\"key-{}\",\"value\":{value}{error}}}\n",
            record.key
        );
        if kind == "info" {
            names.retire(record.client);
        }
    }
    text
}

fn name(operation: &Operation) -> &'static str {
    match operation {
        Operation::Get | Operation::LeasedGet => "read",
        Operation::Put { .. } => "write",
        Operation::Delete => "delete",
        Operation::Create { .. } | Operation::Swap { .. } => "cas",
    }
}

fn asked(operation: &Operation) -> String {
    match operation {
        Operation::Get | Operation::LeasedGet | Operation::Delete => "null".to_owned(),
        Operation::Put { value } => format!("{value:?}"),
        Operation::Create { value } => format!("[null,{value:?}]"),
        Operation::Swap { from, value, .. } => format!("[{from:?},{value:?}]"),
    }
}

fn told(record: &Record) -> (&'static str, String) {
    match &record.outcome {
        Outcome::Written { .. } => ("ok", asked(&record.operation)),
        Outcome::Read { found: Some((_, value)), .. } => ("ok", format!("{value:?}")),
        Outcome::Read { found: None, .. } => ("ok", "null".to_owned()),
        Outcome::Unmet { .. } | Outcome::Nothing => ("fail", asked(&record.operation)),
        Outcome::Unknown => ("info", asked(&record.operation)),
    }
}

/// The number under which each client goes on.
#[derive(Default)]
struct Names {
    now: BTreeMap<u64, u64>,
    next: u64,
}

impl Names {
    fn of(&mut self, client: u64) -> u64 {
        *self.now.entry(client).or_insert_with(|| {
            self.next += 1;
            self.next - 1
        })
    }

    fn retire(&mut self, client: u64) {
        self.now.remove(&client);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    /// Places at which the clock stood still.
    fn moment(place: u64, at: Instant) -> Moment {
        Moment { place, at }
    }

    #[test]
    fn what_ended_first_stands_first_though_the_clock_says_the_same() {
        let zero = Instant::now();
        let record = |client, begin, end| Record {
            client,
            key: 1,
            operation: Operation::Get,
            begin: moment(begin, zero),
            end: moment(end, zero),
            outcome: Outcome::Read { found: None, index: 1 },
        };
        let told = jsonl(&[record(5, 0, 3), record(5, 4, 7), record(2, 1, 2), record(2, 5, 6)]);
        let of = |line: &str| {
            let rest = line.split_once("\"process\":").unwrap().1;
            (rest.starts_with('0'), rest.contains("invoke"))
        };
        let events: Vec<(bool, bool)> = told.lines().skip(1).map(of).collect();
        let (first, second) = ([(true, true), (false, true)], [(false, false), (true, false)]);
        assert_eq!(events, [first, second, first, second].concat());
    }

    #[test]
    fn events_stand_in_order_and_who_does_not_know_goes_on_as_another() {
        let zero = Instant::now();
        let record = |client, begin, end, operation, outcome| Record {
            client,
            key: 1,
            operation,
            begin: moment(begin, zero),
            end: moment(end, zero),
            outcome,
        };
        let put = Operation::Put { value: "a".to_owned() };
        let create = Operation::Create { value: "b".to_owned() };
        let history = [
            record(7, 0, 3, put, Outcome::Unknown),
            record(9, 2, 4, create, Outcome::Unmet { version: Some(3) }),
            record(7, 5, 6, Operation::Get, Outcome::Read { found: None, index: 3 }),
        ];
        let told: Vec<String> = jsonl(&history)
            .lines()
            .skip(1)
            .map(|line| line.split_once("\"process\":").unwrap().1.to_owned())
            .collect();
        let cas = "\"f\":\"cas\",\"key\":\"key-1\",\"value\":[null,\"b\"]";
        assert_eq!(
            told,
            [
                "0,\"type\":\"invoke\",\"f\":\"write\",\"key\":\"key-1\",\"value\":\"a\"}"
                    .to_owned(),
                format!("1,\"type\":\"invoke\",{cas}}}"),
                "0,\"type\":\"info\",\"f\":\"write\",\"key\":\"key-1\",\"value\":\"a\"}".to_owned(),
                format!("1,\"type\":\"fail\",{cas},\"error\":\"mismatch\"}}"),
                "2,\"type\":\"invoke\",\"f\":\"read\",\"key\":\"key-1\",\"value\":null}".to_owned(),
                "2,\"type\":\"ok\",\"f\":\"read\",\"key\":\"key-1\",\"value\":null}".to_owned(),
            ]
        );
    }
}
