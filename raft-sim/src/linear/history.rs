//! A history: what clients asked for, when, and what they were told.
//!
//! Time is the order of events alone: the place of an event among all invocations and completions of
//! the history. What cannot matter is left out while a history is built: reads without an answer,
//! and operations that certainly did nothing.

use std::fmt;

use super::names::Names;

/// A value by its number among the texts of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Value(pub u32);

/// No value: what a register holds before it is written and after it is deleted; of a list that is
/// appended to, the empty one.
pub const ABSENT: Value = Value(0);

/// What the keys of a history are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Model {
    /// Registers, absent at first: read, write, compare-and-swap, delete.
    #[default]
    Register,
    /// Texts, empty at first: read, append.
    Append,
}

/// What an operation did, as far as its client knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It found this value.
    Read(Value),
    /// It put this value there; [`ABSENT`]: it deleted the key.
    Write(Value),
    /// It found one value and put another in its place.
    Swap {
        /// What it found.
        from: Value,
        /// What it put there.
        to: Value,
    },
    /// A compare-and-swap found another value than this one, and did nothing.
    Differs(Value),
    /// It added this to the end.
    Append(Value),
}

impl Action {
    /// Whether it may change what others see.
    #[must_use]
    pub fn is_update(self) -> bool {
        matches!(self, Self::Write(_) | Self::Swap { .. } | Self::Append(_))
    }
}

/// An operation that matters for a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Who asked.
    pub process: u32,
    /// For which key.
    pub key: u32,
    /// What it did, or may have done if it has no end.
    pub action: Action,
    /// The event that began it.
    pub call: u32,
    /// The event that ended it; `None`: its outcome is unknown, and it may take effect at any time
    /// after its beginning, or never.
    pub end: Option<u32>,
}

impl Operation {
    /// Whether it ends before an event.
    pub(super) fn ends_before(&self, event: u32) -> bool {
        self.end.is_some_and(|end| end < event)
    }
}

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// The value.
    Read,
    /// To put a value there.
    Write(Value),
    /// To put a value there in place of another.
    Swap {
        /// The expected value.
        from: Value,
        /// The new value.
        to: Value,
    },
    /// To add to the end.
    Append(Value),
}

/// What a client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// A read: this value.
    Found(Value),
    /// An update: it is done.
    Done,
    /// A compare-and-swap: the value is another one.
    Mismatch,
    /// Certainly nothing was done.
    Failed,
    /// Nothing: it may have been done, or may yet be.
    Unknown,
}

/// Events that do not fit together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misfit {
    /// The process has an open operation.
    Busy,
    /// The process has no open operation.
    Idle,
    /// An operation of this kind cannot end like this.
    Outcome,
    /// The model has no such operation.
    Model,
    /// More events than are counted.
    TooLong,
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Busy => "the process begins an operation before its last one has ended",
            Self::Idle => "the process ends an operation that it has not begun",
            Self::Outcome => "an operation of this kind cannot end like this",
            Self::Model => "the model of this history has no such operation",
            Self::TooLong => "there are too many events",
        })
    }
}

impl std::error::Error for Misfit {}

/// What clients asked for and were told.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub(super) model: Model,
    /// In the order of their calls.
    pub(super) operations: Vec<Operation>,
    pub(super) events: u32,
    /// How many operations there were, with those that do not matter.
    pub(super) asked: usize,
    pub(super) keys: Names,
    pub(super) values: Names,
    pub(super) processes: Names,
}

impl History {
    /// What its keys are.
    #[must_use]
    pub fn model(&self) -> Model {
        self.model
    }

    /// The operations that matter for a verdict, in the order of their calls.
    #[must_use]
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// How many operations were asked for.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.asked
    }

    /// How many keys there are.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.keys.len()
    }

    /// A key, as it was written.
    #[must_use]
    pub fn key(&self, key: u32) -> &str {
        self.keys.get(key)
    }

    /// A value, as it was written.
    #[must_use]
    pub fn value(&self, value: Value) -> &str {
        match (value == ABSENT, self.model) {
            (true, Model::Register) => "nothing",
            (true, Model::Append) => "the empty text",
            (false, Model::Register | Model::Append) => self.values.get(value.0),
        }
    }

    /// A process, as it was written.
    #[must_use]
    pub fn process(&self, process: u32) -> &str {
        self.processes.get(process)
    }

    /// Leaves out that compare-and-swaps have found another value than they expected: the weaker
    /// question that checkers ask for which a failed operation says nothing.
    pub fn drop_mismatches(&mut self) {
        self.operations.retain(|operation| !matches!(operation.action, Action::Differs(_)));
    }
}

/// An operation that has not ended.
#[derive(Clone, Copy, Debug)]
struct Open {
    at: u32,
    ask: Ask,
}

/// Takes events in the order of time and makes a history of them.
#[derive(Clone, Debug)]
pub struct Builder {
    history: History,
    /// By process.
    open: Vec<Option<Open>>,
    /// By operation: whether it matters.
    matters: Vec<bool>,
}

impl Builder {
    /// A history without events.
    #[must_use]
    pub fn new(model: Model) -> Self {
        let mut history = History { model, ..History::default() };
        // The first value is the absent one.
        history.values.number("");
        Self { history, open: Vec::new(), matters: Vec::new() }
    }

    /// The number of a process.
    pub fn process(&mut self, name: &str) -> u32 {
        let process = self.history.processes.number(name);
        if self.open.len() <= process as usize {
            self.open.resize(process as usize + 1, None);
        }
        process
    }

    /// The number of a key.
    pub fn key(&mut self, name: &str) -> u32 {
        self.history.keys.number(name)
    }

    /// A value; [`ABSENT`] is none of those that are named.
    pub fn value(&mut self, text: &str) -> Value {
        Value(self.history.values.number(text))
    }

    /// A process asks for something.
    ///
    /// # Errors
    /// [`Misfit::Busy`], [`Misfit::Model`], [`Misfit::TooLong`].
    pub fn invoke(&mut self, process: u32, key: u32, ask: Ask) -> Result<(), Misfit> {
        let fits = match (self.history.model, ask) {
            (Model::Register | Model::Append, Ask::Read) => true,
            (Model::Register, Ask::Write(_) | Ask::Swap { .. }) => true,
            (Model::Append, Ask::Append(_)) => true,
            (Model::Register, Ask::Append(_)) => false,
            (Model::Append, Ask::Write(_) | Ask::Swap { .. }) => false,
        };
        if !fits {
            return Err(Misfit::Model);
        }
        let call = self.event()?;
        let open = self.open.get_mut(process as usize).ok_or(Misfit::Idle)?;
        if open.is_some() {
            return Err(Misfit::Busy);
        }
        let at = u32::try_from(self.matters.len()).map_err(|_| Misfit::TooLong)?;
        *open = Some(Open { at, ask });
        let (action, matters) = match ask {
            // Without an answer it does not matter.
            Ask::Read => (Action::Read(ABSENT), false),
            Ask::Write(value) => (Action::Write(value), true),
            Ask::Swap { from, to } => (Action::Swap { from, to }, true),
            Ask::Append(value) => (Action::Append(value), true),
        };
        self.matters.push(matters);
        self.history.operations.push(Operation { process, key, action, call, end: None });
        Ok(())
    }

    /// What the process has open: the key, and what it asked for.
    #[must_use]
    pub fn asked(&self, process: u32) -> Option<(u32, Ask)> {
        let open = self.open.get(process as usize)?.as_ref()?;
        Some((self.history.operations[open.at as usize].key, open.ask))
    }

    /// A process is told what became of its operation.
    ///
    /// # Errors
    /// [`Misfit::Idle`], [`Misfit::Outcome`], [`Misfit::TooLong`].
    pub fn complete(&mut self, process: u32, told: Told) -> Result<(), Misfit> {
        let end = self.event()?;
        let open = self.open.get_mut(process as usize).and_then(Option::take);
        let Open { at, ask } = open.ok_or(Misfit::Idle)?;
        let at = at as usize;
        let operation = &mut self.history.operations[at];
        match (ask, told) {
            (Ask::Read, Told::Found(value)) => {
                operation.action = Action::Read(value);
                operation.end = Some(end);
                self.matters[at] = true;
            }
            (Ask::Write(_) | Ask::Swap { .. } | Ask::Append(_), Told::Done) => {
                operation.end = Some(end);
            }
            (Ask::Swap { from, .. }, Told::Mismatch) => {
                operation.action = Action::Differs(from);
                operation.end = Some(end);
            }
            (Ask::Read, Told::Failed | Told::Unknown) => {}
            (Ask::Write(_) | Ask::Swap { .. } | Ask::Append(_), Told::Unknown) => {}
            (Ask::Write(_) | Ask::Swap { .. } | Ask::Append(_), Told::Failed) => {
                self.matters[at] = false;
            }
            (Ask::Read, Told::Done | Told::Mismatch)
            | (Ask::Write(_) | Ask::Append(_), Told::Found(_) | Told::Mismatch)
            | (Ask::Swap { .. }, Told::Found(_)) => return Err(Misfit::Outcome),
        }
        Ok(())
    }

    /// The history. What is still open has an unknown outcome.
    #[must_use]
    pub fn finish(self) -> History {
        let Self { mut history, matters, .. } = self;
        history.asked = matters.len();
        let mut matters = matters.into_iter();
        history.operations.retain(|_| matters.next().expect("one for each operation"));
        history
    }

    fn event(&mut self) -> Result<u32, Misfit> {
        let event = self.history.events;
        // Two bits are left for those who pack an event with what it is.
        if event >= u32::MAX >> 2 {
            return Err(Misfit::TooLong);
        }
        self.history.events = event + 1;
        Ok(event)
    }
}
