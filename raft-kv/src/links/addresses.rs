//! Where a peer may listen, according to whom.
//!
//! The operator may know better than the address book (all servers have moved, and the book is what they
//! agreed on before), or the book better than the operator (one has moved, and the command lines of the
//! others are as old as they). So nobody overrules anybody: what they say is tried in turn, and who
//! answers there says which server it is.

use raft_core::Member;

use crate::config::is_unspecified;

/// What is known of one peer's address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Addresses {
    /// By the command line.
    told: Option<String>,
    /// By the address book, and whom it means.
    noted: Option<(Member, String)>,
    /// By the peer itself when it last connected.
    said: Option<(Member, String)>,
}

impl Addresses {
    /// The operator says so; true: that is news.
    pub(super) fn told(&mut self, address: &str) -> bool {
        replace(&mut self.told, address.to_owned())
    }

    /// The address book says so; true: that is news.
    pub(super) fn noted(&mut self, member: Member, address: &str) -> bool {
        replace(&mut self.noted, (member, address.to_owned()))
    }

    /// The peer says so; true: that is news.
    pub(super) fn said(&mut self, member: Member, address: &str) -> bool {
        replace(&mut self.said, (member, address.to_owned()))
    }

    /// Whether the operator names this address.
    pub(super) fn is_told(&self, address: &str) -> bool {
        self.told.as_deref() == Some(address)
    }

    /// Where to try, each address once. What the peer said counts only while the book means the same
    /// one: it may have lost its disk, and be somebody else now.
    pub(super) fn candidates(&self) -> Vec<String> {
        let is_meant =
            |member: &Member| self.noted.as_ref().is_none_or(|(noted, _)| noted == member);
        let said = self.said.as_ref().filter(|(member, _)| is_meant(member));
        let all = [said.map(|(_, said)| said), self.noted.as_ref().map(|(_, noted)| noted)];
        let mut candidates: Vec<String> = Vec::new();
        for address in all.into_iter().chain([self.told.as_ref()]).flatten() {
            // Whoever dials every address of its own machine reaches itself.
            if !candidates.contains(address) && !is_unspecified(address) {
                candidates.push(address.clone());
            }
        }
        candidates
    }
}

fn replace<T: PartialEq>(place: &mut Option<T>, next: T) -> bool {
    let is_news = place.as_ref() != Some(&next);
    *place = Some(next);
    is_news
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_looked_for_at_home() {
        let mine = Member::new(2, 7);
        let mut addresses = Addresses::default();
        addresses.told("10.0.0.2:9001");
        addresses.noted(mine, "[::]:9001");
        addresses.said(mine, "0.0.0.0:9001");
        assert_eq!(addresses.candidates(), ["10.0.0.2:9001"]);
    }

    #[test]
    fn what_anybody_says_is_tried_once() {
        let (mine, other) = (Member::new(2, 7), Member::new(2, 8));
        let mut addresses = Addresses::default();
        assert!(addresses.told("a") && !addresses.told("a"));
        assert_eq!(addresses.candidates(), ["a"]);
        assert!(addresses.said(other, "c"));
        assert_eq!(addresses.candidates(), ["c", "a"], "nobody knows whom to expect");
        assert!(addresses.noted(mine, "b"));
        assert_eq!(addresses.candidates(), ["b", "a"], "that was somebody else");
        assert!(addresses.said(mine, "c"));
        assert_eq!(addresses.candidates(), ["c", "b", "a"]);
        assert!(addresses.noted(mine, "a"));
        assert_eq!(addresses.candidates(), ["c", "a"]);
    }
}
