//! The simulated network: one directed link per pair of nodes.
//!
//! A link loses, duplicates, delays, reorders and corrupts frames by its own stream of randomness,
//! one draw per frame, so that what happens on one link does not depend on another. Links are
//! blocked by partitions (counted, since partitions overlap), clogged and released, and hold a
//! bounded number of frames. The network knows bytes only; what is in a frame is none of its
//! business.

use bytes::Bytes;

use crate::event::{Event, NodeAt};
use crate::fault::{Fault, Tally};
use crate::options::{DelayLaw, LinkOptions};
use crate::queue::Queue;
use crate::rng::{Draw, Purpose, Ratio, Stream};
use crate::tape::Choices;

/// How many frames of a link that does not keep order come much later than the others.
const STRAGGLERS: Ratio = Ratio::new(1, 32);

/// One second copy in so many comes so late that elections may have passed: what a receiver takes from
/// an earlier term for one of its own shows there.
const LATECOMERS: u64 = 8;

/// How many times later than other frames that are overtaken.
const LATECOMERS_FACTOR: u64 = 32;

/// All links.
#[derive(Debug)]
pub struct Network {
    nodes: usize,
    links: Vec<Link>,
    options: LinkOptions,
    /// What became of each frame, in order, if somebody watches.
    passages: Option<Vec<(u32, Passage)>>,
}

#[derive(Debug)]
struct Link {
    stream: Stream,
    /// How many partitions stop it.
    blocked: u32,
    clogged: bool,
    /// What a clogged link holds, and whether it is not as it was sent.
    held: Vec<(Bytes, bool)>,
    in_flight: u32,
    /// Frames sent so far.
    sent: u32,
    /// The latest frame that has arrived.
    arrived: u32,
    /// When the latest frame arrives: if the link keeps order, none may arrive before this.
    last_at: u64,
    /// How often the connection has broken.
    connection: u32,
    /// The connection breaks as soon as the next frame is on its way.
    breaks_next: bool,
    /// Frames that were stopped, by their positions, and by what.
    stopped: Vec<(u32, Fault)>,
    /// Slower than the others by this factor, in quarters.
    bias_quarters: u64,
    /// Whether a process is at its end that takes what is sent now: what nobody would read is not stopped.
    is_heard: bool,
}

/// What became of a frame that was given to the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is on its way.
    Sent,
    /// A partition stopped it.
    Blocked,
    /// It was lost, or the link was full.
    Dropped,
}

/// What became of a frame, for who follows each of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    /// It is on its way.
    Sent {
        /// Its position among the frames of the link.
        sequence: u32,
        /// Whether a second copy is as well.
        twice: bool,
    },
    /// The link is clogged and holds it, after those that it held before.
    Held,
    /// It goes no further.
    Stopped(Fault),
}

impl Passage {
    fn fate(self) -> Fate {
        match self {
            Self::Sent { .. } | Self::Held => Fate::Sent,
            Self::Stopped(Fault::Partition) => Fate::Blocked,
            Self::Stopped(_) => Fate::Dropped,
        }
    }
}

impl Network {
    /// A network of `nodes` nodes for a run with these choices.
    #[must_use]
    pub fn new(nodes: usize, choices: &Choices, options: LinkOptions) -> Self {
        let links = (0..nodes * nodes).map(|link| {
            let mut stream = choices.stream(Purpose::Link, link as u64);
            let bias_quarters = if options.reorder { stream.draw().range(2, 12) } else { 4 };
            Link {
                stream,
                blocked: 0,
                clogged: false,
                held: Vec::new(),
                in_flight: 0,
                sent: 0,
                arrived: 0,
                last_at: 0,
                connection: 0,
                breaks_next: false,
                stopped: Vec::new(),
                bias_quarters,
                is_heard: true,
            }
        });
        Self { nodes, links: links.collect(), options, passages: None }
    }

    /// Tells from now on what becomes of each frame; see [`Self::take_passages`].
    pub fn watch(&mut self) {
        self.passages = Some(Vec::new());
    }

    /// What became of the frames that were sent, injected or released since the last call, each with
    /// its link; nothing unless [`Self::watch`] was called.
    pub fn take_passages(&mut self) -> Vec<(u32, Passage)> {
        self.passages.as_mut().map(std::mem::take).unwrap_or_default()
    }

    fn note(&mut self, link: u32, passage: Passage) {
        if let Some(passages) = &mut self.passages {
            passages.push((link, passage));
        }
    }

    /// The link between two nodes.
    #[must_use]
    pub fn link(&self, from: NodeAt, to: NodeAt) -> u32 {
        u32::try_from(from * self.nodes + to).expect("there are few nodes")
    }

    /// The nodes at the ends of a link.
    #[must_use]
    pub fn ends(&self, link: u32) -> (NodeAt, NodeAt) {
        (link as usize / self.nodes, link as usize % self.nodes)
    }

    /// Sends a frame.
    pub fn send(
        &mut self,
        link: u32,
        frame: Bytes,
        queue: &mut Queue<Event>,
        tally: &mut Tally,
    ) -> Fate {
        self.send_as(link, (frame, false), queue, tally)
    }

    /// Sends a frame of which it is known whether its receiver must refuse it.
    pub fn send_as(
        &mut self,
        link: u32,
        frame: (Bytes, bool),
        queue: &mut Queue<Event>,
        tally: &mut Tally,
    ) -> Fate {
        let options = self.options;
        let at = &mut self.links[link as usize];
        let mut draw = at.stream.draw();
        let passage = if at.blocked > 0 {
            at.stop(Fault::Partition)
        } else if draw.chance(options.loss) {
            tally.injected(Fault::Loss);
            at.stop(Fault::Loss)
        } else if at.clogged && at.held.len() >= options.queue_max as usize {
            tally.injected(Fault::Overflow);
            at.stop(Fault::Overflow)
        } else if at.clogged {
            tally.effective(Fault::Clog);
            at.held.push(frame);
            Passage::Held
        } else {
            at.transmit(link, frame, &mut draw, options, queue, tally)
        };
        self.note(link, passage);
        passage.fate()
    }

    /// Puts a frame that nobody sent onto a link.
    pub fn inject(&mut self, link: u32, frame: Bytes, queue: &mut Queue<Event>) {
        let at = &mut self.links[link as usize];
        at.sent += 1;
        at.in_flight += 1;
        let (sequence, connection) = (at.sent, at.connection);
        let (copy, is_changed) = (false, false);
        queue.after(1, Event::Frame { link, sequence, copy, connection, frame, is_changed });
        self.note(link, Passage::Sent { sequence, twice: false });
    }

    /// Notes that a frame has arrived. Returns whether it counts: its connection still stands.
    pub fn arrive(
        &mut self,
        link: u32,
        (sequence, is_copy): (u32, bool),
        connection: u32,
        tally: &mut Tally,
    ) -> bool {
        let at = &mut self.links[link as usize];
        at.in_flight -= u32::from(!is_copy);
        if connection != at.connection {
            tally.effective(Fault::Reset);
            return false;
        }
        // A second copy may well come later than what was sent after the first.
        if sequence < at.arrived && !is_copy {
            tally.effective(Fault::Reorder);
        }
        at.arrived = at.arrived.max(sequence);
        // It was not stopped after all.
        if let Ok(position) = at.stopped.binary_search_by_key(&sequence, |&(stopped, _)| stopped) {
            at.stopped.remove(position);
        }
        true
    }

    /// A partition stops the link.
    pub fn block(&mut self, link: u32) {
        self.links[link as usize].blocked += 1;
    }

    /// A partition that stopped the link has ended.
    pub fn unblock(&mut self, link: u32) {
        let at = &mut self.links[link as usize];
        at.blocked = at.blocked.saturating_sub(1);
    }

    /// Whether a partition stops the link.
    #[must_use]
    pub fn is_blocked(&self, link: u32) -> bool {
        self.links[link as usize].blocked > 0
    }

    /// The link holds what is sent from now on. Returns whether it did not already.
    pub fn clog(&mut self, link: u32) -> bool {
        !std::mem::replace(&mut self.links[link as usize].clogged, true)
    }

    /// From now on a process takes what the link brings, or none does: what is stopped then would not have
    /// been read either, and that it was stopped changes nothing.
    pub fn hears(&mut self, link: u32, is_heard: bool) {
        self.links[link as usize].is_heard = is_heard;
    }

    /// What clogged links hold.
    pub fn held(&self) -> impl Iterator<Item = &Bytes> {
        self.links.iter().flat_map(|link| &link.held).map(|(frame, _)| frame)
    }

    /// What a clogged link holds is on its way now.
    pub fn release(&mut self, link: u32, queue: &mut Queue<Event>, tally: &mut Tally) {
        let options = self.options;
        let at = &mut self.links[link as usize];
        at.clogged = false;
        for frame in std::mem::take(&mut at.held) {
            let at = &mut self.links[link as usize];
            let mut draw = at.stream.draw();
            let passage = at.transmit(link, frame, &mut draw, options, queue, tally);
            self.note(link, passage);
        }
    }

    /// The connection breaks: what is in flight is lost. Returns whether anything was.
    pub fn reset(&mut self, link: u32) -> bool {
        let at = &mut self.links[link as usize];
        at.connection += 1;
        at.held.clear();
        at.in_flight > 0
    }

    /// The connection breaks again as soon as it carries a frame.
    pub fn reset_next(&mut self, link: u32) {
        self.links[link as usize].breaks_next = true;
    }

    /// Counts the frames that were stopped and have not arrived: the effects of loss, overflow and
    /// partitions.
    pub fn settle(&mut self, tally: &mut Tally) {
        for (_, fault) in self.links.iter_mut().flat_map(|link| link.stopped.drain(..)) {
            tally.effective(fault);
        }
    }

    /// Ends all faults. What is in flight stays in flight.
    pub fn heal(&mut self, queue: &mut Queue<Event>, tally: &mut Tally) {
        self.settle(tally);
        self.options = LinkOptions { queue_max: u32::MAX, ..self.options.without_faults() };
        for link in 0..self.links.len() {
            self.links[link].blocked = 0;
            self.links[link].bias_quarters = 4;
            self.links[link].breaks_next = false;
            let link = u32::try_from(link).expect("there are few nodes");
            self.release(link, queue, tally);
        }
    }
}

impl Link {
    /// A frame is stopped. It has a position all the same, so that its arrival would be noticed.
    fn stop(&mut self, fault: Fault) -> Passage {
        self.sent += 1;
        if self.is_heard {
            self.stopped.push((self.sent, fault));
        }
        Passage::Stopped(fault)
    }

    fn transmit(
        &mut self,
        link: u32,
        (mut frame, is_foreign): (Bytes, bool),
        draw: &mut Draw,
        options: LinkOptions,
        queue: &mut Queue<Event>,
        tally: &mut Tally,
    ) -> Passage {
        if self.in_flight >= options.queue_max {
            tally.injected(Fault::Overflow);
            return self.stop(Fault::Overflow);
        }
        let is_changed = draw.chance(options.corruption);
        if is_changed {
            tally.injected(Fault::Corruption);
            frame = corrupted(&frame, draw);
        }
        let is_changed = is_changed || is_foreign;
        let mut delay = delay_us(options.delay, draw, self.bias_quarters);
        let mut again = if draw.chance(options.duplication) {
            Some(delay_us(options.delay, draw, self.bias_quarters) + delay)
        } else {
            draw.skip();
            None
        };
        if options.reorder && draw.chance(STRAGGLERS) {
            delay += draw.below(options.late_us + 1);
        }
        if let Some(again) = again.as_mut().filter(|_| options.reorder && !is_changed) {
            // One word says whether, and how late.
            let latest_us = options.late_us * LATECOMERS_FACTOR + 1;
            let late_us = draw.below_or(latest_us * LATECOMERS, latest_us);
            *again += if late_us < latest_us { late_us } else { 0 };
        }
        self.sent += 1;
        let (sequence, connection) = (self.sent, self.connection);
        let event =
            |frame, copy| Event::Frame { link, sequence, copy, connection, frame, is_changed };
        self.in_flight += 1;
        let latest = self.last_at;
        let at = self.arrival(queue.now() + delay, options.reorder);
        if at < latest {
            tally.injected(Fault::Reorder);
        }
        self.last_at = self.last_at.max(at);
        queue.at(at, event(frame.clone(), false));
        if let Some(again) = again {
            // A second copy takes no room: it may stay for long.
            tally.injected(Fault::Duplication);
            let at = self.arrival(queue.now() + again, options.reorder);
            queue.at(at, event(frame, true));
        }
        if std::mem::take(&mut self.breaks_next) {
            tally.injected(Fault::Reset);
            self.connection += 1;
        }
        Passage::Sent { sequence, twice: again.is_some() }
    }

    fn arrival(&mut self, at: u64, reorder: bool) -> u64 {
        if reorder {
            return at;
        }
        self.last_at = self.last_at.max(at);
        self.last_at
    }
}

/// How long a frame takes, in microseconds.
fn delay_us(law: DelayLaw, draw: &mut Draw, bias_quarters: u64) -> u64 {
    let delay = match law {
        DelayLaw::Uniform { low_us, high_us } => draw.range(low_us, high_us),
        DelayLaw::Exponential { low_us, mean_us } => low_us + draw.exponential(mean_us),
        DelayLaw::HeavyTail { low_us } => draw.heavy_tail(low_us),
    };
    delay * bias_quarters / 4
}

/// The frame with one bit flipped, or cut short.
fn corrupted(frame: &Bytes, draw: &mut Draw) -> Bytes {
    let pick = draw.position(frame.len() * 9);
    if pick >= frame.len() * 8 {
        return frame.slice(..pick - frame.len() * 8);
    }
    let mut bytes = frame.to_vec();
    bytes[pick / 8] ^= 1 << (pick % 8);
    Bytes::from(bytes)
}
