//! Links that can be cut, letters that are delivered, lost, copied or kept back.

use super::Stage;
use crate::museum::story::{Told, Untold, must};
use crate::museum::subject::{Kind, Letter};

/// No cluster of a story has more to say than this without a pause.
const DELIVERIES_MAX: usize = 20_000;

impl Stage<'_> {
    /// Everything between two servers is lost, both ways.
    pub fn cut(&mut self, one: u64, other: u64) {
        self.cut.insert((one, other));
        self.cut.insert((other, one));
    }

    /// Everything that one sends to the other is lost.
    pub fn cut_one_way(&mut self, from: u64, to: u64) {
        self.cut.insert((from, to));
    }

    /// Everything to and from a server is lost.
    pub fn isolate(&mut self, server: u64) {
        for other in self.servers.clone() {
            if other != server {
                self.cut(server, other);
            }
        }
    }

    /// Only what stays on one side of this border arrives.
    pub fn split(&mut self, side: &[u64]) {
        for one in self.servers.clone() {
            for other in self.servers.clone() {
                if side.contains(&one) != side.contains(&other) {
                    self.cut(one, other);
                }
            }
        }
    }

    /// All links work again.
    pub fn heal(&mut self) {
        self.cut.clear();
    }

    /// The letters in flight that the filter picks, without those kept back.
    #[must_use]
    pub fn letters(&self, picks: impl Fn(&Letter) -> bool) -> Vec<Letter> {
        let all = self.subject.in_flight();
        all.into_iter().filter(|at| !self.kept_back.contains(&at.name) && picks(at)).collect()
    }

    /// Delivers what is in flight now and what the filter picks, each letter once; how many.
    ///
    /// # Errors
    /// If something is broken afterwards.
    pub fn deliver(&mut self, picks: impl Fn(&Letter) -> bool) -> Result<usize, Untold> {
        let letters = self.letters(picks);
        for letter in &letters {
            if self.cut.contains(&(letter.from, letter.to)) {
                self.subject.lose(letter.name);
            } else {
                self.subject.deliver(letter.name);
                self.check()?;
            }
        }
        Ok(letters.len())
    }

    /// Delivers everything that the filter picks, and what follows from it, until nothing of that
    /// kind is left; anything else stays in flight.
    ///
    /// # Errors
    /// If something is broken on the way, or if it never ends.
    pub fn settle_if(&mut self, picks: impl Fn(&Letter) -> bool) -> Told {
        let mut delivered = 0;
        loop {
            let now = self.deliver(&picks)?;
            delivered += now;
            if now == 0 {
                return Ok(());
            }
            must(delivered < DELIVERIES_MAX, "a cluster comes to rest while no time passes")?;
        }
    }

    /// Delivers everything, and what follows from it, until nothing is in flight.
    ///
    /// # Errors
    /// If something is broken on the way, or if it never ends.
    pub fn settle(&mut self) -> Told {
        self.settle_if(|_| true)
    }

    /// Loses what is in flight and what the filter picks; how many.
    pub fn lose(&mut self, picks: impl Fn(&Letter) -> bool) -> usize {
        let letters = self.letters(picks);
        for letter in &letters {
            self.subject.lose(letter.name);
        }
        letters.len()
    }

    /// Keeps back what is in flight and what the filter picks, until it is delivered by name.
    pub fn keep_back(&mut self, picks: impl Fn(&Letter) -> bool) -> Vec<Letter> {
        let letters = self.letters(picks);
        self.kept_back.extend(letters.iter().map(|letter| letter.name));
        letters
    }

    /// Keeps back a copy of what is in flight and what the filter picks.
    pub fn copy(&mut self, picks: impl Fn(&Letter) -> bool) -> Vec<Letter> {
        let mut copies = self.letters(picks);
        for copy in &mut copies {
            copy.name = self.subject.duplicate(copy.name);
            self.kept_back.insert(copy.name);
        }
        copies
    }

    /// Delivers letters that were kept back.
    ///
    /// # Errors
    /// If something is broken afterwards.
    pub fn deliver_kept(&mut self, letters: &[Letter]) -> Told {
        for letter in letters {
            self.kept_back.remove(&letter.name);
            self.subject.deliver(letter.name);
            self.check()?;
        }
        Ok(())
    }

    /// Delivers a message that a server might have sent.
    ///
    /// # Errors
    /// If the subject cannot make it, or something is broken afterwards.
    pub fn post(&mut self, from: u64, to: u64, term: u64, kind: &Kind) -> Told {
        self.subject.post(from, to, term, kind)?;
        let newest = self.subject.in_flight().last().map(|letter| letter.name);
        self.subject.deliver(newest.expect("it was just put in flight"));
        self.check()
    }
}
