//! What clients saw, judged by the checker that does not look inside.
//!
//! Within a run the ghost knows the order of all that happens, so a search finds out nothing more,
//! unless the ghost is wrong. That is what the sample is for: of some runs the history is kept and
//! given to [`crate::linear`] at the end. Scans are left out: they see several keys at a moment, and
//! the checker judges one key at a time.

use std::collections::BTreeMap;
use std::fmt::Write;

use raft_replica::kv::{Kv, KvAnswer, KvCommand, KvQuery, KvResponse};

use crate::check::{Answered, Asked, ClientId, Operation, OperationId, Outcome};
use crate::linear::{
    ABSENT, Ask, Builder, Judge, Limits, Model, Told, Value, Verdict, core, explain,
};

/// After so many steps a history is given up.
const STEPS_MAX: u64 = 200_000;

/// The history of a run, for the other checker.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    builder: Builder,
    /// The process of each request that is open.
    open: BTreeMap<(ClientId, OperationId), u32>,
    processes: u32,
}

impl Sample {
    pub(super) fn new() -> Self {
        Self { builder: Builder::new(Model::Register), open: BTreeMap::new(), processes: 0 }
    }

    pub(super) fn invoked(&mut self, asker: (ClientId, OperationId), operation: &Asked<Kv>) {
        let (key, ask) = match operation {
            Operation::OpenSession | Operation::Query { query: KvQuery::Scan { .. } } => return,
            Operation::Query { query: KvQuery::Get { key } } => (key, Ask::Read),
            Operation::Command { command, .. } => (command.key(), self.ask(command)),
        };
        let key = self.builder.key(&name(key));
        // Whoever hears nothing goes on as somebody else; so everybody is new.
        let process = self.builder.process(&self.processes.to_string());
        self.processes += 1;
        self.open.insert(asker, process);
        self.builder.invoke(process, key, ask).expect("each process asks once");
    }

    pub(super) fn ended(&mut self, asker: (ClientId, OperationId), outcome: &Answered<Kv>) {
        let Some(process) = self.open.remove(&asker) else { return };
        let told = match outcome {
            Outcome::Answer { answer: KvAnswer::Value(found), .. } => {
                let found = found.as_ref().map(|found| &found.value[..]);
                Told::Found(self.value(found))
            }
            Outcome::Response { response: KvResponse::Changed { .. }, .. } => Told::Done,
            Outcome::Response { response: KvResponse::Differs { .. }, .. } => Told::Mismatch,
            Outcome::Response { response: KvResponse::KeyTooLong, .. } | Outcome::Failed => {
                Told::Failed
            }
            // An earlier attempt may have had an effect.
            Outcome::Expired | Outcome::Stale | Outcome::Unknown => Told::Unknown,
            Outcome::Opened { .. } | Outcome::Answer { answer: KvAnswer::Page { .. }, .. } => {
                unreachable!("these were not asked for, and the ghost has judged that")
            }
        };
        self.builder.complete(process, told).expect("the ghost has judged that the answer fits");
    }

    /// Whether it was found out that there is an order.
    pub(super) fn judge(&self) -> Result<bool, String> {
        let history = self.builder.clone().finish();
        let limits = Limits { steps: STEPS_MAX, orders: false, ..Limits::default() };
        match Judge::new().judge(&history, limits, || false) {
            Verdict::Linearizable(_) => Ok(true),
            Verdict::Unknown { .. } => Ok(false),
            Verdict::Violated { key } => {
                let core = core::find(&history, key, limits, || false);
                Err(core.map_or("no order explains what clients saw".to_owned(), |core| {
                    explain::sentence(&history, &core)
                }))
            }
        }
    }

    fn ask(&mut self, command: &KvCommand) -> Ask {
        match command {
            KvCommand::Put { value, .. } => Ask::Write(self.value(Some(value))),
            KvCommand::Delete { .. } => Ask::Write(ABSENT),
            KvCommand::CompareAndSwap { expect, new, .. } => {
                Ask::Swap { from: self.value(expect.as_deref()), to: self.value(new.as_deref()) }
            }
        }
    }

    fn value(&mut self, value: Option<&[u8]>) -> Value {
        value.map_or(ABSENT, |value| self.builder.value(&name(value)))
    }
}

/// Bytes as a text that is never empty.
fn name(bytes: &[u8]) -> String {
    // The client and its number begin a value; what follows only makes it long.
    const SHOWN: usize = 16;
    let mut name = format!("{}:", bytes.len());
    for byte in bytes.iter().take(SHOWN) {
        write!(name, "{byte:02x}").expect("a string takes all");
    }
    name
}
