//! Every way in which starts can end, in a small model of the places for the newest generation.
//!
//! Of a place it is known what the disk has, and what the cache shows: the generation with a turn, or
//! nothing of use (an older generation, garbage, zeros). Starts follow one another in any number; each
//! ends in the write of some place, by a failed sync or a power cut, and the place has then on the disk
//! what it had before, the new bytes or garbage. A page may be written back or dropped at any time.
//! Once, at any moment, a fault takes any places of one file, seen or unseen.

use std::collections::BTreeSet;

use super::{PLACES, order};

/// A turn; all that counts is which is newer.
type Turn = u64;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Places<const N: usize> {
    disk: [Option<Turn>; N],
    shown: [Option<Turn>; N],
    /// The one fault is over.
    has_rotted: bool,
}

/// In which order a start writes, by the turns that it is shown.
type Order<const N: usize> = fn([Option<Turn>; N]) -> [usize; N];

/// All states that can be reached from those that are to be visited.
struct Search<const N: usize> {
    order: Order<N>,
    visited: BTreeSet<Places<N>>,
    next: Vec<Places<N>>,
}

impl<const N: usize> Search<N> {
    /// How many states there are; or one in which the disk has nothing left of what was promised.
    fn run(order: Order<N>, first: &[Places<N>]) -> Result<usize, Places<N>> {
        let mut search = Self { order, visited: BTreeSet::new(), next: Vec::new() };
        first.iter().for_each(|places| search.visit(*places));
        while let Some(places) = search.next.pop() {
            if places.disk.iter().all(Option::is_none) || places.shown.iter().all(Option::is_none) {
                return Err(places);
            }
            search.leave(places);
            search.start(places);
        }
        Ok(search.visited.len())
    }

    fn visit(&mut self, places: Places<N>) {
        let places = places.ranked();
        if self.visited.insert(places) {
            self.next.push(places);
        }
    }

    /// What happens while nobody starts.
    fn leave(&mut self, places: Places<N>) {
        for at in 0..N {
            let mut dropped = places;
            dropped.shown[at] = places.disk[at];
            self.visit(dropped);
            let mut written = places;
            written.disk[at] = places.shown[at];
            self.visit(written);
        }
        places.rotten().for_each(|rotten| self.visit(rotten));
    }

    fn start(&mut self, places: Places<N>) {
        let order = (self.order)(places.shown);
        let turn = places.shown.into_iter().flatten().max().unwrap_or(0) + 1;
        self.write(places, &order, turn);
    }

    /// A start goes on with these places, or ends.
    fn write(&mut self, places: Places<N>, order: &[usize], turn: Turn) {
        let Some((&at, rest)) = order.split_first() else { return self.finish(places) };
        for on_disk in [places.disk[at], None, Some(turn)] {
            for shown in [Some(turn), on_disk] {
                let mut ended = places;
                (ended.disk[at], ended.shown[at]) = (on_disk, shown);
                self.visit(ended);
            }
        }
        let mut durable = places;
        (durable.disk[at], durable.shown[at]) = (Some(turn), Some(turn));
        self.write(durable, rest, turn + 1);
        for rotten in durable.rotten() {
            self.write(rotten, rest, turn + 1);
        }
    }

    /// All is durable, and the next generation is written: it fails, and this one is needed again.
    fn finish(&mut self, places: Places<N>) {
        for number in 0..1u32 << (2 * (N - 2)) {
            let mut emptied = places;
            for spare in 0..N - 2 {
                if number >> (2 * spare) & 1 == 1 {
                    emptied.shown[spare] = None;
                }
                if number >> (2 * spare + 1) & 1 == 1 {
                    (emptied.disk[spare], emptied.shown[spare]) = (None, None);
                }
            }
            self.visit(emptied);
        }
    }
}

impl<const N: usize> Places<N> {
    fn new(disk: [Option<Turn>; N]) -> Self {
        Self { disk, shown: disk, has_rotted: false }
    }

    /// The same with the smallest numbers that say so.
    fn ranked(mut self) -> Self {
        let turns: BTreeSet<Turn> = self.disk.into_iter().chain(self.shown).flatten().collect();
        let rank = |turn: &mut Turn| *turn = turns.range(..*turn).count() as Turn;
        self.disk.iter_mut().chain(&mut self.shown).flatten().for_each(rank);
        self
    }

    /// What the one fault can make of it: places of even numbers are in one file, the others in the
    /// other one.
    fn rotten(self) -> impl Iterator<Item = Self> {
        let choices = (1..1usize << N).filter(|set| {
            let is_in = |file: usize| (0..N).any(|at| set >> at & 1 == 1 && at % 2 == file);
            !(is_in(0) && is_in(1))
        });
        let choices = choices.flat_map(|set| [(set, true), (set, false)]);
        choices.filter(move |_| !self.has_rotted).map(move |(set, is_seen)| {
            let mut rotten = Self { has_rotted: true, ..self };
            for at in (0..N).filter(|at| set >> at & 1 == 1) {
                rotten.disk[at] = None;
                if is_seen {
                    rotten.shown[at] = None;
                }
            }
            rotten
        })
    }
}

/// Both spare pages are empty and both copies there, or one is and the other was thought to be
/// repaired, by a scrub whose sync failed.
fn first() -> [Places<PLACES>; 2] {
    let whole = Places::new([None, None, Some(0), Some(0)]);
    let disk = [None, None, None, Some(0)];
    [whole, Places { disk, has_rotted: true, ..whole }]
}

#[test]
fn whatever_starts_end_in_the_newest_generation_is_left() {
    let states = Search::run(order, &first()).expect("a copy is left");
    assert!(states > 3_000, "only {states} states");
}

/// A copy rots, the first start writes it again and its sync fails; the next start takes it for whole
/// and writes the other one, and the power goes.
#[test]
fn to_write_two_copies_again_in_place_loses_both() {
    let bad_first: Order<2> = |shown| if shown[0].is_some() { [1, 0] } else { [0, 1] };
    let whole = Places::new([Some(0), Some(0)]);
    let lost = Search::run(bad_first, &[whole]).expect_err("both are lost");
    assert!(lost.has_rotted && lost.disk == [None, None]);
}

/// Two spare pages alone are not enough: who goes by what is shown begins with a good place while
/// another is good in the cache only.
#[test]
fn four_places_without_turns_lose_all() {
    let bad_first: Order<PLACES> = |shown| {
        let mut order = [0, 1, 2, 3];
        order.sort_by_key(|&place| shown[place].is_some());
        order
    };
    let lost = Search::run(bad_first, &first()).expect_err("all are lost");
    assert_eq!(lost.disk, [None; PLACES]);
}
