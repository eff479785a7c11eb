//! What a leader believes of its peers.

use raft_core::{Incarnation, Index, Member};

use super::Fact;
use crate::explore::host::Host;

/// What a leader believes of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Belief {
    pub(crate) peer: Member,
    /// The life in which the peer said so.
    pub(crate) life: Incarnation,
    /// The peer has the leader's log through here.
    pub(crate) through: Index,
}

impl Belief {
    /// What a leader believes of some of its peers.
    pub(crate) fn of(leader: &Host, is_meant: impl Fn(Member) -> bool) -> Vec<Self> {
        let peers = leader.raft.peers().into_iter();
        let known = peers.filter(|peer| peer.match_index > Index::ZERO && is_meant(peer.member));
        known
            .map(|peer| Self {
                peer: peer.member,
                life: peer.incarnation,
                through: peer.match_index,
            })
            .collect()
    }
}

/// What a leader believes of its peers, as far as it has not before.
pub(super) fn new(before: Option<&Host>, after: &Host) -> Option<Fact> {
    let all = |host: &Host| (host.raft.status().term, Belief::of(host, |_| true));
    let (term, mut new) = all(after);
    if let Some((_, old)) = before.map(all).filter(|(old, _)| *old == term) {
        new.retain(|belief| !old.contains(belief));
    }
    (!new.is_empty()).then_some(Fact::Believes(new))
}
