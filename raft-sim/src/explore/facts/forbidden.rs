//! What a test forbids although nothing is wrong with it: then what an exploration does with a broken
//! promise can be seen on an honest core.

use std::cell::Cell;

use super::{Broken, Fact, broken};
use crate::explore::host::Host;

/// Whether a fact, of a server after its step, is forbidden.
type Forbidden = fn(&Fact, &Host) -> bool;

thread_local! {
    static FORBIDDEN: Cell<Option<Forbidden>> = const { Cell::new(None) };
}

/// Forbids facts to all that happens on this thread from now on.
pub(crate) fn forbid(is_forbidden: Forbidden) {
    FORBIDDEN.set(Some(is_forbidden));
}

pub(super) fn judge(facts: &[Fact], host: &Host) -> Result<(), Broken> {
    let Some(is_forbidden) = FORBIDDEN.get() else { return Ok(()) };
    match facts.iter().find(|fact| is_forbidden(fact, host)) {
        Some(fact) => broken("CF", format!("{fact:?} is forbidden")),
        None => Ok(()),
    }
}
