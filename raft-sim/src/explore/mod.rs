//! Every interleaving within small bounds of the core that ships.
//!
//! Seeds sample, and proofs speak of specifications. Here every state of a small cluster is visited
//! that the shipping [`raft_core::Raft`] can reach within [`Bounds`], breadth first, and in each of
//! them every promise is checked. What cannot be seen like this: more servers, terms, entries and
//! faults than the bounds allow, the storage and the codec (the disk is ideal, messages are values),
//! and time, for a timer may fire whenever it is armed. With leases, clocks go on in a few large
//! steps (`clock.rs`). Nor what no input here leads to: batches of messages, hosts that are late or
//! fail at anything but writing, and more that `EXPLORED.md` lists.

pub(crate) mod bounds;
mod budget;
#[cfg(test)]
mod by_hand;
mod canon;
pub(crate) mod clock;
mod coverage;
pub(crate) mod demand;
pub(crate) mod facts;
mod flat;
mod gather;
pub(crate) mod ghost;
mod heads;
pub(crate) mod host;
pub(crate) mod landmarks;
mod letters;
mod mail;
pub(crate) mod order;
mod outlook;
pub(crate) mod past;
mod path;
mod pool;
mod report;
pub(crate) mod search;
#[cfg(test)]
mod seen;
mod spent;
pub(crate) mod start;
mod store;
mod symmetry;
mod taken;
#[cfg(test)]
mod tests;
mod visited;
mod worker;

use std::sync::atomic::AtomicBool;

pub use bounds::{ANY_NUMBER, Bounds};
pub use facts::Broken;
pub(crate) use facts::PANIC;
pub use report::{Named, Report, Verdict};
pub use search::Progress;

use order::Order;
use search::{End, Search};
use start::Start;
use worker::Found;

use crate::script::{self, ScriptError};

/// Explores everything within the bounds, with so many threads, until the end, a broken promise or a
/// wish to stop. `tell` hears of the progress now and then.
pub fn run(bounds: &Bounds, jobs: usize, stop: &AtomicBool, tell: impl FnMut(&Progress)) -> Report {
    let start = Start::founded(bounds, |_| {});
    let report = explore(bounds, start, None, jobs, stop, tell);
    Report { asked: bounds.clone(), ..report }
}

/// Explores what follows the end of a script. What has happened until then does not count against
/// the bounds, but for the highest term. `path` is where the script is, for those who repeat it.
///
/// # Errors
/// The first line of the script that makes no sense. A script that does not say what must follow it is
/// none to explore from.
pub fn run_from(
    path: &str,
    script: &str,
    bounds: &Bounds,
    jobs: usize,
    stop: &AtomicBool,
    tell: impl FnMut(&Progress),
) -> Result<Report, ScriptError> {
    let mut start = Start::from_script(script)?;
    let within = start.within(bounds);
    if let Some(what) = unfit(bounds, &within) {
        let cluster = script.lines().position(|line| line.trim_start().starts_with("cluster"));
        return Err(ScriptError { line: cluster.unwrap_or(0) + 1, what: what.to_owned() });
    }
    if start.demands.is_empty() {
        let what = "says by no `reach` what must follow, so nothing that does proves anything";
        return Err(ScriptError { line: script.lines().count().max(1), what: what.to_owned() });
    }
    start.demands.retain(|demand| demand.is_within(bounds));
    let report = explore(&within, start, Some(script), jobs, stop, tell);
    Ok(Report { asked: bounds.clone(), from: Some(path.to_owned()), ..report })
}

/// What keeps a script's cluster from being explored within what was asked for.
fn unfit(asked: &Bounds, within: &Bounds) -> Option<&'static str> {
    if asked.leases && !within.leases {
        return Some("its cluster has no leases=on");
    }
    let is_more = within.pre_vote || within.check_quorum || within.damages + within.lost_tails > 0;
    (within.leases && is_more)
        .then_some("leases go without pre-votes, checks of the quorum and lossy disks")
}

fn explore(
    bounds: &Bounds,
    start: Start,
    script: Option<&str>,
    jobs: usize,
    stop: &AtomicBool,
    mut tell: impl FnMut(&Progress),
) -> Report {
    let demands = start.demands.iter().map(|demand| demand.what).collect();
    let order = if bounds.subsume { Order::Achievement } else { Order::Breadth };
    let mut search = Search::new(bounds.clone(), start.clone(), order);
    let (mut end, mut progress) = search.run(jobs, stop, &mut tell);
    let mut is_nearest = order == Order::Breadth && !bounds.gather;
    // In a shortest way each message is a step.
    let one_by_one = Bounds { gather: false, ..bounds.clone() };
    if matches!(end, End::Violated(_)) && !is_nearest {
        // There is a way to a broken promise. Now for a shortest one.
        let mut nearest = Search::new(one_by_one.clone(), start.clone(), Order::Breadth);
        let (near, walked) = nearest.run(jobs, stop, &mut tell);
        if matches!(near, End::Violated(_)) {
            (search, end, progress) = (nearest, near, walked);
            is_nearest = true;
        }
    }
    if let End::Violated(found) = &end
        && search.path(found.state, found.step).is_none()
    {
        // Only who is chosen by a name that is another one each time gets there.
        let bounds = Bounds { symmetry: false, ..one_by_one };
        search = Search::new(bounds, start, Order::Breadth);
        (end, progress) = search.run(jobs, stop, &mut tell);
        is_nearest = true;
    }
    let verdict = match end {
        End::Complete => Verdict::Complete,
        End::Stopped => Verdict::Stopped,
        End::Violated(found) => violated(&search, &found, script, is_nearest),
    };
    let store = search.store.get_mut().expect("no thread panics with the store in hand");
    let names = Named {
        hosts: store.hosts.len(),
        letters: store.letters.len(),
        inboxes: store.inboxes.len(),
        histories: store.ghosts.len(),
    };
    let coverage = store.coverage.sum();
    let (bounds, asked) = (bounds.clone(), bounds.clone());
    Report { bounds, asked, from: None, demands, verdict, progress, names, coverage }
}

fn violated(search: &Search, found: &Found, script: Option<&str>, is_nearest: bool) -> Verdict {
    let depth = search.visited.depth(found.state) + 1;
    // Without a way that is real in all names there is no story: what is broken is told all the same.
    let path = search.path(found.state, found.step).map_or_else(String::new, |acts| match script {
        Some(script) => script::continued(script, &acts).expect("it was read before"),
        None => script::of_path(&search.bounds, &acts),
    });
    let trace = script::trace(&path).expect("a story can be told again");
    Verdict::Violated { broken: found.broken.clone(), depth, is_nearest, path, trace }
}
