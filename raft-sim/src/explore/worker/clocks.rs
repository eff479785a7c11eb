//! Time passes, for all servers at once.

use super::super::clock::SPEEDS;
use super::super::facts::Broken;
use super::super::host::Input;
use super::super::store::IDLE;
use super::{Found, Kind, Parent, Worker, history, record};

/// The step by which time passes has no name of its own: from here on, names are the speeds of all
/// clocks, one bit for each server.
const TIME: u32 = 1 << 31;

/// How far the clock of each server goes on by such a step.
pub(crate) fn beats(name: u32, servers: usize) -> Option<impl Iterator<Item = u8>> {
    let is_time = (TIME..IDLE).contains(&name);
    is_time.then(|| (0..servers).map(move |server| SPEEDS[(name >> server) as usize & 1]))
}

impl Worker<'_> {
    /// Lets time pass, by clocks of all speeds. Not when nobody will begin to lead any more: then no
    /// lease can be broken. Nor before there is anything that hangs on time.
    pub(super) fn pass(
        &mut self,
        at: usize,
        state: &[u32],
        out: &mut Vec<u32>,
    ) -> Result<(), Found> {
        self.spent(history(state));
        let is_over = self.closed[history(state) as usize].0 >= u64::from(self.bounds.terms);
        let from = self.parent(state);
        let servers = state.chunks_exact(2).map(|server| server[0]);
        let is_timed = |host: u32| self.view(host).is_timed;
        if is_over || !servers.into_iter().any(is_timed) {
            return Ok(());
        }
        for speeds in 0..1 << self.bounds.servers() {
            let name = TIME + speeds;
            self.transitions += 1;
            let start = out.len();
            if let Err((step, broken)) = self.follow_time(from, name, out) {
                out.truncate(start);
                return Err(Found { state: at, step, broken });
            }
            record(at, state, name, out);
        }
        Ok(())
    }

    /// By which exchange of names a state is replaced that time leads to.
    pub(crate) fn exchange_after_time(&mut self, state: &[u32], name: u32) -> Option<usize> {
        let from = self.parent(state);
        self.follow_time(from, name, &mut Vec::new()).ok()
    }

    /// Puts the state that time leads to behind `out`. Returns the exchange of names by which it was
    /// replaced.
    fn follow_time(
        &mut self,
        from: Parent<'_>,
        name: u32,
        out: &mut Vec<u32>,
    ) -> Result<usize, (u32, Broken)> {
        let start = out.len();
        out.extend_from_slice(from.names);
        self.go_on(name, &mut out[start..])?;
        Ok(self.finish(from, &mut out[start..], (1 << self.bounds.servers()) - 1))
    }

    /// Lets the clocks go on. If that breaks a promise: by which step.
    fn go_on(&mut self, name: u32, state: &mut [u32]) -> Result<(), (u32, Broken)> {
        let last = state.len() - 1;
        let beats = beats(name, self.bounds.servers()).expect("it is a name of such a step");
        for (server, beats) in beats.enumerate() {
            let Some(name) = self.clock(state[2 * server], beats) else { continue };
            let step = self.step(name);
            state[2 * server] = step.to;
            self.post_all(state, step.sent);
            if step.kind != Kind::Silent {
                let next = self.witness(state, server, name, step.kind);
                state[last] = next.map_err(|broken| (name, broken))?;
            }
        }
        Ok(())
    }

    /// The step of a server whose clock goes on, unless it changes nothing.
    fn clock(&mut self, host: u32, beats: u8) -> Option<u32> {
        let at = host as usize * SPEEDS.len() + usize::from(beats) - 1;
        if let Some(Some(known)) = self.clocks.get(at) {
            return Some(*known).filter(|name| *name != IDLE);
        }
        let steps = self.store().steps(self.bounds, host, [Input::Pass { beats }]);
        if self.clocks.len() <= at {
            self.clocks.resize(at + 1, None);
        }
        let name = steps.first().copied();
        self.clocks[at] = Some(name.unwrap_or(IDLE));
        name
    }
}
