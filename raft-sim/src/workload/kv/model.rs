//! The key-value store as it should be, at every index.
//!
//! It is written for looking back instead of for speed: each key keeps all its versions, so that
//! an answer can be judged as of the index that it names. It shares no code with the machine that it
//! judges.

use std::collections::BTreeMap;

use bytes::Bytes;
use raft_core::Index;
use raft_replica::kv::{KEY_BYTES_MAX, Kv, KvAnswer, KvCommand, KvQuery, KvResponse, Versioned};

use super::sample::Sample;
use crate::check::{Answered, Asked, ClientId, OperationId};
use crate::workload::{Mismatch, Model};

/// What every key had, and since when.
#[derive(Clone, Debug)]
pub struct KvModel {
    keys: BTreeMap<Bytes, Vec<Version>>,
    /// What clients saw, if it is to be judged once more at the end.
    sample: Option<Sample>,
}

/// What a key has from `index` on.
#[derive(Clone, Debug)]
struct Version {
    index: Index,
    value: Option<Bytes>,
}

impl Model<Kv> for KvModel {
    fn new(_: Kv) -> Self {
        Self { keys: BTreeMap::new(), sample: None }
    }

    fn apply(&mut self, index: Index, command: &KvCommand) -> KvResponse {
        if command.key().len() > KEY_BYTES_MAX {
            return KvResponse::KeyTooLong;
        }
        let versions = self.keys.entry(command.key().clone()).or_default();
        let found = as_of(versions, index);
        let previous = found.as_ref().map(|found| found.version);
        let value = match command {
            KvCommand::Put { value, .. } => Some(value),
            KvCommand::Delete { .. } => None,
            KvCommand::CompareAndSwap { expect, new, .. } => {
                if found.map(|found| found.value) != *expect {
                    return KvResponse::Differs { found: previous };
                }
                new.as_ref()
            }
        };
        versions.push(Version { index, value: value.cloned() });
        KvResponse::Changed { previous }
    }

    fn judge(&self, index: Index, query: &KvQuery, answer: &KvAnswer) -> Result<(), Mismatch> {
        match (query, answer) {
            (KvQuery::Get { key }, KvAnswer::Value(value)) => {
                same(key, self.get(key, index).as_ref(), value.as_ref())
            }
            (KvQuery::Scan { prefix, after, limit }, KvAnswer::Page { entries, more }) => {
                let mut expected = self.scan(prefix, after.as_ref(), index);
                for (key, value) in entries {
                    let Some((first, found)) = expected.next() else {
                        return same(key, None, Some(value));
                    };
                    if first != key {
                        return Err(mismatch(
                            format!("the next key is {first:?}"),
                            format!("the answer goes on with {key:?}"),
                        ));
                    }
                    same(key, Some(&found), Some(value))?;
                }
                let left = expected.next().is_some();
                if left == *more && entries.len() as u64 <= u64::from(*limit) {
                    return Ok(());
                }
                Err(mismatch(
                    format!("at most {limit} keys, and then more: {left}"),
                    format!("{} keys, and then more: {more}", entries.len()),
                ))
            }
            (KvQuery::Get { .. }, KvAnswer::Page { .. })
            | (KvQuery::Scan { .. }, KvAnswer::Value(_)) => {
                Err(mismatch(format!("an answer to {query:?}"), format!("{answer:?}")))
            }
        }
    }

    fn keep_history(&mut self) {
        self.sample = Some(Sample::new());
    }

    fn invoked(&mut self, asker: (ClientId, OperationId), operation: &Asked<Kv>) {
        if let Some(sample) = &mut self.sample {
            sample.invoked(asker, operation);
        }
    }

    fn ended(&mut self, asker: (ClientId, OperationId), outcome: &Answered<Kv>) {
        if let Some(sample) = &mut self.sample {
            sample.ended(asker, outcome);
        }
    }

    fn judge_history(&self) -> Result<Option<bool>, String> {
        self.sample.as_ref().map(Sample::judge).transpose()
    }
}

impl KvModel {
    /// What a key had when the log was executed through `index`.
    fn get(&self, key: &[u8], index: Index) -> Option<Versioned> {
        as_of(self.keys.get(key)?, index)
    }

    /// The keys with a prefix, behind `after`, that had a value as of `index`, in order.
    fn scan<'a>(
        &'a self,
        prefix: &'a Bytes,
        after: Option<&'a Bytes>,
        index: Index,
    ) -> impl Iterator<Item = (&'a Bytes, Versioned)> {
        self.keys
            .range::<Bytes, _>(prefix..)
            .take_while(move |(key, _)| key.starts_with(prefix))
            .filter(move |(key, _)| after.is_none_or(|after| *key > after))
            .filter_map(move |(key, versions)| Some((key, as_of(versions, index)?)))
    }
}

/// The newest of a key's versions at or below `index`.
fn as_of(versions: &[Version], index: Index) -> Option<Versioned> {
    let behind = versions.partition_point(|version| version.index <= index);
    let Version { index: version, value } = versions.get(behind.checked_sub(1)?)?;
    Some(Versioned { value: value.clone()?, version: *version })
}

fn same(
    key: &[u8],
    expected: Option<&Versioned>,
    actual: Option<&Versioned>,
) -> Result<(), Mismatch> {
    if expected == actual {
        return Ok(());
    }
    let key = key.escape_ascii();
    let (predicted, told) = (format!("{key} has {expected:?}"), format!("{key} has {actual:?}"));
    Err(Mismatch { effect: actual.map(|found| found.version), ..mismatch(predicted, told) })
}

fn mismatch(predicted: String, actual: String) -> Mismatch {
    Mismatch { predicted, actual, effect: None }
}
