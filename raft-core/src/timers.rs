//! A timer is what is left of a span. It holds no absolute time, so two states that differ only
//! in when they were reached are equal.

use crate::types::Span;

/// Armed with the span that is left, or not armed.
///
/// Passing time only shortens the span. A deadline (an election, a heartbeat, a check of the quorum) fires
/// when a `Tick` finds it due. A window (a contact, a promise, a lease, the patience before a question is
/// repeated) fires nothing; whether it is over is looked at when any input needs to know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Timer {
    left: Option<Span>,
}

impl Timer {
    /// A timer that is due after `span`.
    pub(crate) fn armed(span: Span) -> Self {
        Self { left: Some(span) }
    }

    /// Lets time pass, saturating at zero.
    pub(crate) fn pass(&mut self, elapsed: Span) {
        if let Some(left) = &mut self.left {
            *left = left.less(elapsed);
        }
    }

    /// What is left is at least `span` from now on.
    pub(crate) fn extend(&mut self, span: Span) {
        self.left = self.left.max(Some(span));
    }

    /// Whether it was armed and its span is over.
    pub(crate) fn is_due(self) -> bool {
        self.left == Some(Span(0))
    }

    /// What is left, if it is armed.
    pub(crate) fn left(self) -> Option<Span> {
        self.left
    }
}
