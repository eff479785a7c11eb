//! What events are called on a page: for people, and short.

use crate::event::{Event, NodeAt};
use crate::fault::Fault;
use crate::observe::Loss;

/// What a message is called that nobody sent.
pub(super) const FORGED: &str = "forged: nobody sent it";

/// What kind of event comes up, and the node that it comes up at, if it is about one. Who is struck,
/// the strike itself tells.
pub(super) fn event(
    event: &Event,
    ends: Option<(NodeAt, NodeAt)>,
) -> (&'static str, Option<NodeAt>) {
    let (from, to) = (ends.map(|(from, _)| from), ends.map(|(_, to)| to));
    match event {
        Event::Frame { .. } => ("message", to),
        Event::Deadline { node, .. } => ("deadline", Some(*node)),
        Event::Inbox { node, .. } => ("inbox", Some(*node)),
        Event::Disk { node, .. } => ("disk", Some(*node)),
        Event::Scrub { node, .. } => ("scrub", Some(*node)),
        Event::Rest { node, .. } => ("rest", Some(*node)),
        Event::Encoded { node, .. } => ("encoded", Some(*node)),
        Event::Start { node, .. } => ("start", Some(*node)),
        Event::Leave { node, .. } => ("leave", Some(*node)),
        Event::Resume { node, .. } => ("resume", Some(*node)),
        Event::Client { .. } => ("client", None),
        Event::Strike { .. } => ("fault", None),
        Event::Mend { .. } => ("mend", None),
        Event::Clog { .. } => ("clog", from),
        Event::Release { .. } => ("release", from),
        Event::Flap { node, .. } => ("flap", Some(*node)),
        Event::Freeze { node, .. } => ("freeze", Some(*node)),
        Event::Operator => ("operator", None),
        Event::Urge { node } | Event::Readmit { node } => ("operator", Some(*node)),
        Event::Unreachable { .. } => ("unreachable", from),
    }
}

/// What comes up, in a few words; nothing for a message, which has its own.
pub(super) fn comes_up(event: &Event, ends: Option<(NodeAt, NodeAt)>) -> String {
    let link = || ends.map_or(String::new(), |(from, to)| format!("n{} → n{}", from + 1, to + 1));
    match event {
        Event::Frame { .. } | Event::Strike { .. } => String::new(),
        Event::Deadline { .. } => "its deadline passes".to_owned(),
        Event::Inbox { .. } => "reads its inbox".to_owned(),
        Event::Disk { .. } => "its disk is done with a piece of work".to_owned(),
        Event::Scrub { .. } => "looks through a part of its disk".to_owned(),
        Event::Rest { .. } => "looks whether its disk is at rest".to_owned(),
        Event::Encoded { .. } => "has encoded its state".to_owned(),
        Event::Start { .. } => "starts again".to_owned(),
        Event::Leave { .. } => "is to end, and looks whether it leads".to_owned(),
        Event::Resume { .. } => "goes on after a pause".to_owned(),
        Event::Client { client, .. } => format!("client {client} acts"),
        Event::Mend { partition } => format!("partition {} ends", partition + 1),
        Event::Clog { .. } => format!("{}: the link holds what it is given", link()),
        Event::Release { .. } => format!("{}: the link lets go what it held", link()),
        Event::Flap { cut: true, .. } => "is cut off".to_owned(),
        Event::Flap { cut: false, .. } => "comes back".to_owned(),
        Event::Operator => "an operator looks after the membership".to_owned(),
        Event::Freeze { .. } => "stands still".to_owned(),
        Event::Urge { .. } => "an operator asks it to campaign".to_owned(),
        Event::Readmit { .. } => "an operator looks after its way back".to_owned(),
        Event::Unreachable { .. } => format!("{}: the connection is broken", link()),
    }
}

/// A class of faults strikes, and for how long if that means anything.
pub(super) fn strikes(fault: Fault, lasts_us: u64) -> String {
    let name = fault.name();
    let lasts = [Fault::Partition, Fault::Clog, Fault::Overflow, Fault::Pause, Fault::Stall];
    if lasts.contains(&fault) {
        format!("{name} strikes, for {} or so", duration(lasts_us))
    } else {
        format!("{name} strikes")
    }
}

/// A time of the simulation, for people.
pub(super) fn duration(us: u64) -> String {
    let (ms, rest) = (us / 1_000, us % 1_000);
    if ms == 0 { format!("{us} µs") } else { format!("{ms}.{rest:03} ms") }
}

/// Why a message was lost.
pub(super) fn loss(loss: Loss) -> String {
    match loss {
        Loss::Network(fault) => format!("lost: {}", fault.name()),
        Loss::Down => "lost: its receiver is down".to_owned(),
        Loss::Unread => "lost: its receiver's process ended before it was read".to_owned(),
    }
}
