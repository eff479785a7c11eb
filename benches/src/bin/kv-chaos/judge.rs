//! Whether the answers are those of one machine, in an order that respects real time.
//!
//! The servers say where in the log a write took effect, and through which index a read is complete;
//! so no order has to be searched, only their word to be checked:
//!
//! 1. what was complete when an operation began stands before it (a write strictly);
//! 2. no two writes stand at one index, and none of which the client was told that nothing was done;
//! 3. a read as of an index finds what was written to the key last at or below it;
//! 4. a conditional write that took effect found its condition fulfilled.
//!
//! A write whose outcome is unknown takes effect where a read first shows its value; a delete of
//! unknown outcome may explain that a key is absent. A server that lies about its indices is caught by
//! 1 or by 3. This is how `raft-sim` judges its clients; there the ghost knows the log as well.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use raft_sim::linear::{self, Judge, Limits, Verdict};

use super::clients::{Operation, Outcome, Record};
use super::moment::Moment;

/// What stands at an index of a key: a value, or none after a delete.
type Timeline<'a> = BTreeMap<u64, Option<&'a str>>;

/// The operations by what became of them.
pub(crate) fn summary(history: &[Record]) -> String {
    let count =
        |is: fn(&Outcome) -> bool| history.iter().filter(|record| is(&record.outcome)).count();
    format!(
        "{} operations: {} written, {} conditions unmet, {} reads, {} of them by lease, {} refused, \
         {} unknown",
        history.len(),
        count(|outcome| matches!(outcome, Outcome::Written { .. })),
        count(|outcome| matches!(outcome, Outcome::Unmet { .. })),
        count(|outcome| matches!(outcome, Outcome::Read { .. })),
        leased(history),
        count(|outcome| *outcome == Outcome::Nothing),
        count(|outcome| *outcome == Outcome::Unknown),
    )
}

fn leased(history: &[Record]) -> usize {
    let is_leased = |record: &&Record| {
        record.operation == Operation::LeasedGet && matches!(record.outcome, Outcome::Read { .. })
    };
    history.iter().filter(is_leased).count()
}

/// What a run must come to in each minute, or it has shown nothing.
const WRITTEN_MIN: usize = 100;
const READ_MIN: usize = 100;
const LEASED_MIN: usize = 20;
const FAULTS_MIN: u64 = 15;

/// Why a run shows nothing; `None`: it does. `faults`: how many had an effect, if there were to be any.
pub(crate) fn is_vacuous(history: &[Record], faults: Option<u64>, minutes: u64) -> Option<String> {
    let minutes = minutes.max(1);
    let per_minute = |min: usize| min.saturating_mul(usize::try_from(minutes).unwrap_or(1));
    let count = |is: fn(&Outcome) -> bool| history.iter().filter(|it| is(&it.outcome)).count();
    let written = count(|outcome| matches!(outcome, Outcome::Written { .. }));
    let read = count(|outcome| matches!(outcome, Outcome::Read { .. }));
    let short = |what: &str, found: usize, min: usize| {
        (found < min).then(|| format!("only {found} {what}, and {min} are the least"))
    };
    short("writes took effect", written, per_minute(WRITTEN_MIN))
        .or_else(|| short("reads were answered", read, per_minute(READ_MIN)))
        .or_else(|| short("of them by lease", leased(history), per_minute(LEASED_MIN)))
        .or_else(|| {
            let min = FAULTS_MIN.saturating_mul(minutes);
            let found = faults.filter(|found| *found < min)?;
            Some(format!("only {found} faults had an effect, and {min} are the least"))
        })
}

/// Judges a history.
///
/// # Errors
/// The first thing that cannot be.
pub(crate) fn judge(history: &[Record]) -> Result<(), String> {
    in_time(history)?;
    let timelines = timelines(history)?;
    for record in history {
        match &record.outcome {
            Outcome::Read { found, index } => {
                read(&timelines, history, record, found.as_ref(), *index)?;
            }
            Outcome::Written { index } => condition(&timelines, record, *index)?,
            Outcome::Unmet { .. } | Outcome::Nothing | Outcome::Unknown => {}
        }
    }
    Ok(())
}

/// How long an order is looked for; a history of some minutes takes far less than a second.
const PATIENCE: Duration = Duration::from_secs(60);

/// Looks for an order of one machine that explains a history, whatever the servers say of their log.
///
/// # Errors
/// Why there is none, or that none was found in time.
pub(crate) fn explain(jsonl: &str) -> Result<(), String> {
    let history = linear::read::history(jsonl.as_bytes()).map_err(|error| error.to_string())?;
    let end = Instant::now() + PATIENCE;
    let is_over = || Instant::now() >= end;
    let limits = Limits { orders: false, ..Limits::default() };
    match Judge::new().judge(&history, limits, is_over) {
        Verdict::Linearizable(_) => Ok(()),
        Verdict::Violated { key } => {
            let core = linear::core::find(&history, key, Limits::default(), is_over);
            let why = core.map(|core| linear::explain::sentence(&history, &core));
            Err(format!("no order explains it: {}", why.unwrap_or_default()))
        }
        Verdict::Unknown { why, .. } => Err(format!("no order was found: {why:?}")),
    }
}

/// The place of an operation, and whether something else may have the same.
fn place(record: &Record) -> Option<(u64, bool)> {
    match record.outcome {
        Outcome::Written { index } => Some((index, false)),
        Outcome::Read { index, .. } => Some((index, true)),
        Outcome::Unmet { .. } | Outcome::Nothing | Outcome::Unknown => None,
    }
}

fn in_time(history: &[Record]) -> Result<(), String> {
    let mut ends: Vec<(Moment, u64)> =
        history.iter().filter_map(|record| Some((record.end, place(record)?.0))).collect();
    ends.sort_unstable();
    let mut begins: Vec<&Record> = history.iter().collect();
    begins.sort_unstable_by_key(|record| record.begin);
    let (mut floor, mut ended) = (0, ends.iter().peekable());
    for record in begins {
        while let Some((_, place)) = ended.next_if(|(end, _)| *end < record.begin) {
            floor = floor.max(*place);
        }
        let Some((place, may_share)) = place(record) else { continue };
        if place < floor || (place == floor && !may_share) {
            return Err(format!("at {floor} something was complete before this began: {record:?}"));
        }
    }
    Ok(())
}

fn written(record: &Record) -> Option<Option<&str>> {
    match &record.operation {
        Operation::Get | Operation::LeasedGet => None,
        Operation::Delete => Some(None),
        Operation::Put { value } | Operation::Create { value } | Operation::Swap { value, .. } => {
            Some(Some(value))
        }
    }
}

/// All writes that certainly took effect, by key and place.
fn timelines(history: &[Record]) -> Result<BTreeMap<u64, Timeline<'_>>, String> {
    let mut places: BTreeMap<u64, &Record> = BTreeMap::new();
    let mut timelines: BTreeMap<u64, Timeline<'_>> = BTreeMap::new();
    let mut by_value: BTreeMap<&str, &Record> = BTreeMap::new();
    for record in history {
        let Some(value) = written(record) else { continue };
        if let Some(value) = value {
            by_value.insert(value, record);
        }
        let Outcome::Written { index } = record.outcome else { continue };
        if let Some(other) = places.insert(index, record) {
            return Err(format!("two writes at one index: {other:?} and {record:?}"));
        }
        timelines.entry(record.key).or_default().insert(index, value);
    }
    for record in history {
        let Outcome::Read { found: Some((version, value)), .. } = &record.outcome else { continue };
        let writer = by_value.get(value.as_str()).copied();
        let is_told = writer.is_some_and(|writer| {
            writer.key == record.key
                && match writer.outcome {
                    Outcome::Written { index } => index == *version,
                    // Its outcome was not known; now it is.
                    Outcome::Unknown => true,
                    Outcome::Nothing | Outcome::Unmet { .. } | Outcome::Read { .. } => false,
                }
        });
        if !is_told {
            return Err(format!("{record:?} has read what nobody has written so: {writer:?}"));
        }
        let timeline = timelines.entry(record.key).or_default();
        let other = timeline.insert(*version, Some(value));
        if other.is_some_and(|other| other != Some(value)) {
            return Err(format!("{record:?} finds {other:?} at the same index"));
        }
        let effects = timeline.values().filter(|written| **written == Some(value.as_str())).count();
        if effects > 1 {
            return Err(format!("{record:?} has read what took effect twice"));
        }
    }
    Ok(timelines)
}

fn read(
    timelines: &BTreeMap<u64, Timeline<'_>>,
    history: &[Record],
    record: &Record,
    found: Option<&(u64, String)>,
    index: u64,
) -> Result<(), String> {
    let timeline = timelines.get(&record.key);
    let last = timeline.and_then(|timeline| timeline.range(..=index).next_back());
    let is_right = match (found, last) {
        (Some((version, _)), Some((place, _))) => version == place,
        (Some(_), None) => false,
        (None, None | Some((_, None))) => true,
        (None, Some((_, Some(_)))) => history.iter().any(|other| {
            other.key == record.key
                && other.operation == Operation::Delete
                && other.outcome == Outcome::Unknown
                && other.begin < record.end
        }),
    };
    if is_right {
        return Ok(());
    }
    Err(format!("the last write to the key at or below {index} is {last:?}: {record:?}"))
}

fn condition(
    timelines: &BTreeMap<u64, Timeline<'_>>,
    record: &Record,
    index: u64,
) -> Result<(), String> {
    let Operation::Swap { version, .. } = &record.operation else { return Ok(()) };
    let timeline = timelines.get(&record.key);
    let between = timeline.and_then(|timeline| timeline.range(version + 1..index).next_back());
    match between {
        None => Ok(()),
        Some(between) => Err(format!("{between:?} came between, and {record:?} took effect")),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::super::history::jsonl;
    use super::*;

    /// The clock stands still: the order is that of the places.
    fn record(at: u64, operation: Operation, outcome: Outcome, zero: Instant) -> Record {
        let moment = |place| Moment { place, at: zero };
        let (begin, end) = (moment(at), moment(at + 1));
        Record { client: at, key: 1, operation, begin, end, outcome }
    }

    fn put(value: &str) -> Operation {
        Operation::Put { value: value.to_owned() }
    }

    fn reads(found: Option<(u64, &str)>, index: u64) -> Outcome {
        Outcome::Read { found: found.map(|(version, value)| (version, value.to_owned())), index }
    }

    #[test]
    fn what_one_machine_could_answer_passes() {
        let zero = Instant::now();
        let history = [
            record(0, put("a"), Outcome::Written { index: 3 }, zero),
            record(2, Operation::Get, reads(Some((3, "a")), 3), zero),
            record(4, put("b"), Outcome::Unknown, zero),
            record(6, Operation::Get, reads(Some((3, "a")), 4), zero),
            record(8, Operation::Get, reads(Some((5, "b")), 5), zero),
            record(10, Operation::Delete, Outcome::Unknown, zero),
            record(12, Operation::Get, reads(None, 6), zero),
        ];
        assert_eq!(judge(&history), Ok(()));
        assert_eq!(explain(&jsonl(&history)), Ok(()));
    }

    #[test]
    fn a_run_in_which_little_happened_shows_nothing() {
        let zero = Instant::now();
        let some = |count: usize, operation: &Operation, outcome: &Outcome| -> Vec<Record> {
            let one = || record(0, operation.clone(), outcome.clone(), zero);
            std::iter::repeat_with(one).take(count).collect()
        };
        let found = reads(None, 3);
        let writes = |count| some(count, &put("a"), &Outcome::Written { index: 3 });
        let plain = |count| some(count, &Operation::Get, &found);
        let leased = |count| some(count, &Operation::LeasedGet, &found);
        let refused = some(1000, &Operation::LeasedGet, &Outcome::Nothing);
        let history = |parts: [Vec<Record>; 3]| [parts.concat(), refused.clone()].concat();
        let why = |parts, faults, minutes| is_vacuous(&history(parts), faults, minutes);
        let enough = || [writes(100), plain(80), leased(20)];
        assert_eq!(why(enough(), Some(15), 1), None);
        assert_eq!(why(enough(), None, 1), None, "no faults were asked for");
        let told = why([writes(99), plain(80), leased(20)], Some(15), 1);
        assert_eq!(told.as_deref(), Some("only 99 writes took effect, and 100 are the least"));
        assert!(why([writes(100), plain(79), leased(20)], Some(15), 1).is_some());
        assert!(why([writes(100), plain(81), leased(19)], Some(15), 1).is_some());
        assert!(why(enough(), Some(14), 1).is_some());
        assert!(why(enough(), Some(30), 2).is_some(), "two minutes need twice as much");
    }

    #[test]
    fn a_read_by_lease_must_be_as_fresh_as_any_other() {
        let zero = Instant::now();
        let history = [
            record(0, put("a"), Outcome::Written { index: 3 }, zero),
            record(2, put("b"), Outcome::Written { index: 4 }, zero),
            record(4, Operation::LeasedGet, reads(Some((3, "a")), 3), zero),
        ];
        assert!(judge(&history).is_err());
        assert!(explain(&jsonl(&history)).is_err());
    }

    #[test]
    fn each_kind_of_lie_is_found() {
        let zero = Instant::now();
        let first = || record(0, put("a"), Outcome::Written { index: 3 }, zero);
        let second = || record(2, put("b"), Outcome::Written { index: 4 }, zero);
        let (from, value) = ("a".to_owned(), "c".to_owned());
        let swap = Operation::Swap { version: 3, from, value };
        let lies = [
            // An old value, at an old place; the same at a new place.
            vec![first(), second(), record(4, Operation::Get, reads(Some((3, "a")), 3), zero)],
            vec![first(), second(), record(4, Operation::Get, reads(Some((3, "a")), 4), zero)],
            // A value that is gone without a delete.
            vec![first(), record(4, Operation::Get, reads(None, 4), zero)],
            // A write that was told to be refused; one that nobody asked for; one with two effects.
            vec![
                record(0, put("a"), Outcome::Nothing, zero),
                record(2, Operation::Get, reads(Some((3, "a")), 3), zero),
            ],
            vec![record(2, Operation::Get, reads(Some((3, "z")), 3), zero)],
            vec![
                record(0, put("a"), Outcome::Unknown, zero),
                record(2, Operation::Get, reads(Some((3, "a")), 3), zero),
                record(4, Operation::Get, reads(Some((5, "a")), 5), zero),
            ],
            // Two writes at one place; a condition that cannot have held.
            vec![first(), record(2, put("b"), Outcome::Written { index: 3 }, zero)],
            vec![first(), second(), record(4, swap, Outcome::Written { index: 5 }, zero)],
        ];
        // Without the places two lies look like the truth: one value has two, or two values have one.
        let told = [true, true, true, true, true, false, false, true];
        for (lie, told) in lies.iter().zip(told) {
            assert!(judge(lie).is_err(), "{lie:?}");
            assert_eq!(explain(&jsonl(lie)).is_err(), told, "{lie:?}");
        }
    }
}
