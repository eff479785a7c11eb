//! The event queue: what happens next, by (time, sequence).
//!
//! Ties are broken by the order in which events were scheduled, so the order is total. There are no
//! ticks: a node has one deadline in the queue, and one that has been superseded is recognised by
//! its generation when it comes up, instead of being searched for and removed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// When something happens, the order of its scheduling, and the place where it waits.
type Scheduled = (u64, u64, u32);

/// Events of type `E` in the order in which they will happen.
#[derive(Clone, Debug)]
pub struct Queue<E> {
    /// The heap moves these around; the events, which are larger, stay where they are.
    heap: BinaryHeap<Reverse<Scheduled>>,
    events: Vec<Option<E>>,
    /// Places where nothing waits.
    free: Vec<u32>,
    sequence: u64,
    now: u64,
}

impl<E> Queue<E> {
    /// An empty queue at time zero.
    #[must_use]
    pub fn new() -> Self {
        let (heap, events) = (BinaryHeap::with_capacity(256), Vec::with_capacity(256));
        Self { heap, events, free: Vec::new(), sequence: 0, now: 0 }
    }

    /// The time of the last event that came up, in microseconds of true time.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.now
    }

    /// Schedules `event` at a time, or now if that has passed.
    pub fn at(&mut self, at: u64, event: E) {
        self.sequence += 1;
        let place = if let Some(place) = self.free.pop() {
            self.events[place as usize] = Some(event);
            place
        } else {
            self.events.push(Some(event));
            u32::try_from(self.events.len() - 1).expect("memory has room for fewer events")
        };
        self.heap.push(Reverse((at.max(self.now), self.sequence, place)));
    }

    /// Schedules `event` after a delay.
    pub fn after(&mut self, delay_us: u64, event: E) {
        self.at(self.now.saturating_add(delay_us), event);
    }

    /// When the next event comes up.
    #[must_use]
    pub fn next_at(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse((at, ..))| *at)
    }

    /// Moves the time on, but not beyond the next event, and never back.
    pub fn advance(&mut self, to: u64) {
        self.now = self.now.max(self.next_at().map_or(to, |next| next.min(to)));
    }

    /// Takes the next event and moves the time to it.
    pub fn pop(&mut self) -> Option<E> {
        let Reverse((at, _, place)) = self.heap.pop()?;
        self.now = at;
        self.free.push(place);
        self.events[place as usize].take()
    }

    /// All that is scheduled, in no order that means anything.
    pub fn iter(&self) -> impl Iterator<Item = &E> {
        self.events.iter().flatten()
    }

    /// How many events are scheduled.
    #[must_use]
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether nothing is scheduled.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }
}

impl<E> Default for Queue<E> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_then_in_the_order_of_scheduling() {
        let mut queue = Queue::new();
        for (at, name) in [(20, 'd'), (10, 'a'), (20, 'e'), (10, 'b'), (15, 'c')] {
            queue.at(at, name);
        }
        let order: String = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order, "abcde");
        assert_eq!(queue.now(), 20);
    }

    #[test]
    fn the_past_is_now() {
        let mut queue = Queue::new();
        queue.at(10, 'a');
        queue.pop();
        queue.at(3, 'b');
        queue.after(0, 'c');
        assert_eq!((queue.pop(), queue.pop(), queue.now()), (Some('b'), Some('c'), 10));
    }

    #[test]
    fn time_moves_on_as_far_as_nothing_happens() {
        let mut queue = Queue::new();
        queue.at(10, 'a');
        for (to, now) in [(5, 5), (3, 5), (12, 10)] {
            queue.advance(to);
            assert_eq!(queue.now(), now);
        }
        assert_eq!((queue.next_at(), queue.pop(), queue.next_at()), (Some(10), Some('a'), None));
    }
}
