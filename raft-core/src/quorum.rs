//! Majorities, of one half or of both (§6). Everything that counts votes, matches or
//! acknowledgements counts here.

use crate::membership::{MEMBERS_MAX, Membership};
use crate::types::{Index, Member};

/// Halves up to this size are counted in a small array.
const FEW: usize = 8;

/// The smallest number of members that any two such sets of `voters` share one of.
#[must_use]
pub fn majority(voters: usize) -> usize {
    voters / 2 + 1
}

/// Whether the members for whom `says` holds are a quorum of every half.
///
/// Nobody is a quorum of an empty membership.
#[must_use]
pub fn is_quorum(membership: &Membership, says: impl Fn(Member) -> bool) -> bool {
    let agrees = |half: &[Member]| {
        half.iter().filter(|member| says(**member)).count() >= majority(half.len())
    };
    agrees(membership.incoming()) && (!membership.is_joint() || agrees(membership.outgoing()))
}

/// The highest index that a quorum of every half has reached, given what each voter has.
///
/// Index zero if the membership is empty.
#[must_use]
pub fn committed(membership: &Membership, matched: impl Fn(Member) -> Index) -> Index {
    let incoming = committed_by(membership.incoming(), &matched);
    if membership.is_joint() {
        incoming.min(committed_by(membership.outgoing(), &matched))
    } else {
        incoming
    }
}

/// What an election has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VoteResult {
    /// A quorum of every half has granted.
    Won,
    /// Some half cannot reach a quorum any more.
    Lost,
    /// Votes that decide are missing.
    Pending,
}

/// What an election has come to, given each voter's answer so far.
#[must_use]
pub fn vote_result(membership: &Membership, vote: impl Fn(Member) -> Option<bool>) -> VoteResult {
    let incoming = vote_result_of(membership.incoming(), &vote);
    if !membership.is_joint() || incoming == VoteResult::Lost {
        return incoming;
    }
    match vote_result_of(membership.outgoing(), &vote) {
        VoteResult::Won => incoming,
        VoteResult::Lost => VoteResult::Lost,
        VoteResult::Pending => VoteResult::Pending,
    }
}

fn vote_result_of(half: &[Member], vote: &impl Fn(Member) -> Option<bool>) -> VoteResult {
    let (mut granted, mut possible) = (0, 0);
    for member in half {
        let answer = vote(*member);
        granted += usize::from(answer == Some(true));
        possible += usize::from(answer != Some(false));
    }
    let needed = majority(half.len());
    if granted >= needed {
        VoteResult::Won
    } else if possible >= needed {
        VoteResult::Pending
    } else {
        VoteResult::Lost
    }
}

/// The largest value that a majority of the half has reached. Each member is asked once; nearly all
/// halves are small, and clearing room for the largest costs more than counting a small one.
fn committed_by(half: &[Member], matched: &impl Fn(Member) -> Index) -> Index {
    if half.len() <= FEW {
        agreed(half, &mut [Index::ZERO; FEW], matched)
    } else {
        agreed(half, &mut [Index::ZERO; MEMBERS_MAX], matched)
    }
}

/// Halves are small, so each value is inserted where it belongs: the one that a majority has reached
/// has all but a majority below it.
fn agreed(half: &[Member], room: &mut [Index], matched: &impl Fn(Member) -> Index) -> Index {
    let Some(below) = half.len().checked_sub(majority(half.len())) else { return Index::ZERO };
    for (count, member) in half.iter().enumerate() {
        let value = matched(*member);
        let mut place = count;
        while place > 0 && room[place - 1] > value {
            room[place] = room[place - 1];
            place -= 1;
        }
        room[place] = value;
    }
    room[below]
}
