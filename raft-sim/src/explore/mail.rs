//! Which states stand for others because they have more messages.
//!
//! A message on its way may arrive or not. So whatever may happen among some servers may happen among
//! the same servers with the same past and more messages, step by step, and no promise speaks of the
//! messages that are there: the state that has them all stands for the one that lacks some. What is
//! broken after the one is broken after the other, in as many steps.
//!
//! That the search forgets messages changes nothing in this: a state without what means nothing any
//! more can do what the state with it can do.

use std::sync::{Arc, Mutex};

use super::bounds::Bounds;
use super::store::Store;

/// The inboxes, as they are compared.
#[derive(Debug)]
pub(crate) struct Mail<'a> {
    store: &'a Mutex<Store>,
    /// Whether one state may stand for another.
    is_compared: bool,
    /// By name: the messages, and a mark for each, so that most comparisons are short.
    inboxes: Vec<(u64, Arc<Vec<u32>>)>,
}

impl<'a> Mail<'a> {
    pub(crate) fn new(bounds: &Bounds, store: &'a Mutex<Store>) -> Self {
        Self { store, is_compared: bounds.subsume, inboxes: Vec::new() }
    }

    /// Whether a state has all messages of another one, which differs in messages alone.
    pub(crate) fn stands_for(&mut self, one: &[u32], other: &[u32]) -> bool {
        let mut servers = one.chunks_exact(2).zip(other.chunks_exact(2));
        servers.all(|(one, other)| {
            one[1] == other[1] || (self.is_compared && self.has(one[1], other[1]))
        })
    }

    /// Whether an inbox has all messages of another one.
    fn has(&mut self, one: u32, other: u32) -> bool {
        if self.inboxes.len() <= one.max(other) as usize {
            self.learn();
        }
        let (marks, letters) = &self.inboxes[one as usize];
        let (wanted, others) = &self.inboxes[other as usize];
        marks & wanted == *wanted && others.iter().all(|letter| letters.contains(letter))
    }

    fn learn(&mut self) {
        let store = self.store.lock().expect("no thread panics with the store in hand");
        let mark = |letter: &u32| 1 << (letter % u64::BITS);
        let inboxes = store.inboxes.from(self.inboxes.len()).iter().map(|letters| {
            (letters.iter().map(mark).fold(0, |marks, mark: u64| marks | mark), Arc::clone(letters))
        });
        self.inboxes.extend(inboxes);
    }
}

#[cfg(test)]
mod tests {
    use raft_core::Rpc;

    use super::super::by_hand::letter;
    use super::super::symmetry::Origin;
    use super::super::visited::Visited;
    use super::*;

    /// Inboxes with the votes of these senders.
    fn inboxes(store: &mut Store, senders: &[&[usize]]) -> Vec<u32> {
        let vote = |from: usize| letter(from, 0, 1, Rpc::RequestVoteResponse { granted: true });
        let mut inbox = |senders: &&[usize]| {
            let votes = senders.iter().map(|from| store.letter(vote(*from), &Origin::Start(0)));
            let votes = votes.collect();
            store.inbox(votes)
        };
        senders.iter().map(&mut inbox).collect()
    }

    fn record(host: u32, inbox: u32) -> [u32; 5] {
        [host, inbox, 0, 0, 0]
    }

    #[test]
    fn what_has_more_messages_takes_the_place_of_what_has_fewer() {
        let mut store = Store::default();
        let names = inboxes(&mut store, &[&[], &[1], &[2], &[1, 2]]);
        let [none, one, other, both] = names[..] else { unreachable!("four were named") };
        let (bounds, store) = (Bounds::default(), Mutex::new(store));
        let mut mail = Mail::new(&bounds, &store);
        let mut visited = Visited::new(3);
        let mut add = |visited: &mut Visited, host, inbox| {
            visited.insert(&record(host, inbox), false, &mut mail)
        };
        assert_eq!(add(&mut visited, 7, none), Some(0));
        assert_eq!(add(&mut visited, 7, one), None, "in the place of the first");
        assert_eq!(add(&mut visited, 7, other), Some(1), "neither has the message of the other");
        assert_eq!(add(&mut visited, 7, none), None, "both stand for it");
        assert_eq!(add(&mut visited, 8, none), Some(2), "another server");
        assert_eq!(add(&mut visited, 7, both), None);
        assert_eq!((visited.count(), visited.state(0)[1]), (2, both));
        assert!(visited.close(0) && !visited.close(1));
    }

    #[test]
    fn what_is_explored_already_stays_and_what_is_not_to_be_compared_too() {
        for subsume in [false, true] {
            let mut store = Store::default();
            let names = inboxes(&mut store, &[&[1], &[1, 2]]);
            let (bounds, store) = (Bounds { subsume, ..Bounds::default() }, Mutex::new(store));
            let mut mail = Mail::new(&bounds, &store);
            let mut visited = Visited::new(3);
            assert_eq!(visited.insert(&record(7, names[0]), false, &mut mail), Some(0));
            assert!(!subsume || visited.close(0));
            assert_eq!(visited.insert(&record(7, names[1]), false, &mut mail), Some(1));
            assert_eq!(visited.insert(&record(7, names[1]), false, &mut mail), None);
            let state = record(7, names[0]);
            assert!(visited.contains(&state[..3], &mut mail));
            assert_eq!(visited.count(), 2);
        }
    }
}
