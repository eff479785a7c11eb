//! The simulated network does to frames what its options say, and counts it.

use bytes::Bytes;
use raft_sim::event::Event;
use raft_sim::fault::{Fault, Tally};
use raft_sim::network::{Fate, Network};
use raft_sim::options::{DelayLaw, LinkOptions};
use raft_sim::queue::Queue;
use raft_sim::rng::Ratio;
use raft_sim::tape::Choices;

const CALM: LinkOptions = LinkOptions {
    delay: DelayLaw::Uniform { low_us: 100, high_us: 900 },
    reorder: false,
    late_us: 2_000,
    loss: Ratio::NEVER,
    duplication: Ratio::NEVER,
    corruption: Ratio::NEVER,
    queue_max: u32::MAX,
};
const HALF: Ratio = Ratio::new(1, 2);

/// A network of three nodes, what is on its way, and what was counted.
struct Wire {
    network: Network,
    queue: Queue<Event>,
    tally: Tally,
    /// Of the frames that have arrived, how many are said not to be as they were sent.
    changed: usize,
}

impl Wire {
    fn new(options: LinkOptions) -> Self {
        let (queue, tally) = (Queue::new(), Tally::default());
        let network = Network::new(3, &Choices::of_seed(7), options);
        Self { network, queue, tally, changed: 0 }
    }

    fn send(&mut self, from: usize, to: usize, byte: u8) -> Fate {
        let link = self.network.link(from, to);
        let frame = Bytes::from(vec![byte; 32]);
        self.network.send(link, frame, &mut self.queue, &mut self.tally)
    }

    /// What arrives, in order.
    fn arrivals(&mut self) -> Vec<Bytes> {
        let mut arrived = Vec::new();
        while let Some(event) = self.queue.pop() {
            let Event::Frame { link, sequence, copy, connection, frame, is_changed } = event else {
                continue;
            };
            self.changed += usize::from(is_changed);
            if self.network.arrive(link, (sequence, copy), connection, &mut self.tally) {
                arrived.push(frame);
            }
        }
        arrived
    }

    fn effects(&mut self, fault: Fault) -> u64 {
        self.network.settle(&mut self.tally);
        self.tally.of(fault).1
    }
}

#[test]
fn a_calm_link_keeps_frames_and_their_order() {
    let mut wire = Wire::new(CALM);
    (0..100).for_each(|byte| assert_eq!(wire.send(0, 1, byte), Fate::Sent));
    let order: Vec<u8> = wire.arrivals().iter().map(|frame| frame[0]).collect();
    assert_eq!(order, (0..100).collect::<Vec<u8>>());
    assert_eq!(wire.tally, Tally::default());
    assert!(wire.queue.now() >= 100);
}

#[test]
fn loss_duplication_and_overtaking_happen_about_as_often_as_asked() {
    let mut wire = Wire::new(LinkOptions { loss: HALF, duplication: HALF, reorder: true, ..CALM });
    for byte in 0..200 {
        wire.send(0, 1, byte);
    }
    let arrived = wire.arrivals().len() as u64;
    let (lost, twice) = (wire.effects(Fault::Loss), wire.tally.of(Fault::Duplication).0);
    assert_eq!(arrived, 200 - lost + twice);
    assert!((70..130).contains(&lost) && (30..70).contains(&twice), "{lost} {twice}");
    assert!(wire.effects(Fault::Reorder) > 30);
    assert!(wire.tally.of(Fault::Reorder).0 >= wire.effects(Fault::Reorder));
}

#[test]
fn a_second_copy_that_comes_late_has_overtaken_nobody() {
    let mut wire = Wire::new(LinkOptions { duplication: Ratio::new(1, 1), ..CALM });
    for byte in 0..100 {
        wire.send(0, 1, byte);
        wire.queue.advance(wire.queue.now() + 150);
    }
    wire.arrivals();
    assert_eq!(wire.tally.of(Fault::Reorder), (0, 0));
}

#[test]
fn what_nobody_would_have_read_is_not_lost() {
    let mut wire = Wire::new(LinkOptions { loss: Ratio::new(1, 1), ..CALM });
    let link = wire.network.link(0, 1);
    wire.network.hears(link, false);
    assert_eq!(wire.send(0, 1, 1), Fate::Dropped);
    assert_eq!(wire.effects(Fault::Loss), 0);
    wire.network.hears(link, true);
    assert_eq!(wire.send(0, 1, 2), Fate::Dropped);
    assert_eq!((wire.tally.of(Fault::Loss).0, wire.effects(Fault::Loss)), (2, 1));
}

#[test]
fn a_corrupt_frame_differs_in_one_bit_or_is_cut() {
    let mut wire = Wire::new(LinkOptions { corruption: Ratio::new(1, 1), ..CALM });
    for _ in 0..100 {
        wire.send(0, 1, 0);
    }
    let (mut flipped, mut cut) = (0, 0);
    for frame in wire.arrivals() {
        let bits: u32 = frame.iter().map(|byte| byte.count_ones()).sum();
        assert!((bits == 1) != (frame.len() < 32), "{frame:?}");
        flipped += bits;
        cut += u32::from(frame.len() < 32);
    }
    assert!(flipped > 50 && cut > 3, "{flipped} {cut}");
    assert_eq!(wire.changed, 100, "and the network says so of each");
}

#[test]
fn partitions_stop_one_direction_and_overlap() {
    let mut wire = Wire::new(CALM);
    let link = wire.network.link(0, 1);
    wire.network.block(link);
    wire.network.block(link);
    assert_eq!((wire.send(0, 1, 1), wire.send(1, 0, 2)), (Fate::Blocked, Fate::Sent));
    wire.network.unblock(link);
    assert!(wire.network.is_blocked(link), "the other partition still holds");
    wire.network.unblock(link);
    assert_eq!(wire.send(0, 1, 3), Fate::Sent);
    assert_eq!(wire.effects(Fault::Partition), 1);
    assert_eq!(wire.arrivals().len(), 2);
}

#[test]
fn a_clogged_link_holds_and_releases_in_order() {
    let mut wire = Wire::new(CALM);
    let link = wire.network.link(0, 1);
    assert!(wire.network.clog(link) && !wire.network.clog(link));
    (0..5).for_each(|byte| assert_eq!(wire.send(0, 1, byte), Fate::Sent));
    assert!(wire.arrivals().is_empty());
    wire.network.release(link, &mut wire.queue, &mut wire.tally);
    let order: Vec<u8> = wire.arrivals().iter().map(|frame| frame[0]).collect();
    assert_eq!(order, [0, 1, 2, 3, 4]);
    assert_eq!(wire.effects(Fault::Clog), 5);
}

#[test]
fn a_full_link_drops_and_a_broken_one_loses_what_is_in_flight() {
    let mut wire = Wire::new(LinkOptions { queue_max: 2, ..CALM });
    let fates: Vec<Fate> = (0..3).map(|byte| wire.send(0, 1, byte)).collect();
    assert_eq!(fates, [Fate::Sent, Fate::Sent, Fate::Dropped]);
    assert_eq!(wire.effects(Fault::Overflow), 1);
    let link = wire.network.link(0, 1);
    assert!(wire.network.reset(link));
    assert!(wire.arrivals().is_empty());
    assert_eq!(wire.effects(Fault::Reset), 2);
    assert_eq!(wire.send(0, 1, 9), Fate::Sent, "what was lost takes no room");
    assert_eq!(wire.arrivals().len(), 1);
}

#[test]
fn healing_ends_everything() {
    let faults = LinkOptions { loss: Ratio::new(1, 1), queue_max: 1, ..CALM };
    let mut wire = Wire::new(faults);
    for link in [wire.network.link(0, 1), wire.network.link(1, 0)] {
        wire.network.block(link);
        wire.network.clog(link);
    }
    wire.network.heal(&mut wire.queue, &mut wire.tally);
    (0..10).for_each(|byte| {
        assert_eq!((wire.send(0, 1, byte), wire.send(1, 0, byte)), (Fate::Sent, Fate::Sent));
    });
    assert_eq!(wire.arrivals().len(), 20);
}

#[test]
fn what_happens_on_one_link_does_not_depend_on_another() {
    let times = |noise: bool| {
        let mut wire = Wire::new(LinkOptions { loss: HALF, reorder: true, ..CALM });
        let fates: Vec<Fate> = (0..50)
            .map(|byte| {
                if noise {
                    wire.send(2, 1, byte);
                }
                wire.send(0, 1, byte)
            })
            .collect();
        fates
    };
    assert_eq!(times(false), times(true));
}
