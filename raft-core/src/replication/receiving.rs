//! What a follower does with what its leader sends (§5.3; Figure 2, AppendEntries, receiver): it
//! looks for the place where the logs meet, stores what is new, and takes the commit index as far as
//! it has compared.

use crate::effect::{Refused, Violation};
use crate::entry::Entries;
use crate::gate::Reply;
use crate::log::{Meeting, TwoEntries};
use crate::message::{AppendResult, Rpc, RpcKind};
use crate::node::Node;
use crate::types::{EntryId, Index, Member, Span};

/// Takes an append of the term's leader (Figure 2, AppendEntries, receiver).
///
/// The entries stay where the message has them until the log takes them: they are large.
#[inline(always)] // Its only caller hands it every append.
pub(crate) fn on_append(
    node: &mut Node,
    reply: Reply,
    prev: EntryId,
    entries: &mut Entries,
    commit: Index,
) {
    if node.is_blank() {
        let Reply { to, session, round } = reply;
        let result = AppendResult::Blank;
        node.send(to, Rpc::AppendEntriesResponse { session, round, result });
        return;
    }
    let (base, last) = (node.log().base(), entries.end_after(prev.index));
    if node.is_overfull() && last > node.log().last().index {
        refuse_overfull(node, reply);
        return;
    }
    if prev.index < base.index {
        let Some(rest) = after_base(node, reply, prev, entries) else { return };
        *entries = rest;
    } else if node.log().id(prev.index) != Some(prev) {
        on_other_prev(node, reply, prev);
        return;
    }
    let verified = base.index.max(last);
    if store(node, reply, entries) {
        node.note_match(verified);
        node.commit_to(commit.min(verified));
        node.acknowledge(reply, verified);
    }
}

/// As if the network had lost the append: its leader finds out, and sends it again.
#[cold]
fn refuse_overfull(node: &mut Node, reply: Reply) {
    let reason = if node.is_disk_full { Refused::DiskFull } else { Refused::Busy };
    node.refuse_peer(reply.to, RpcKind::AppendEntries, reason);
}

/// What a snapshot covers is skipped, but only if the chain meets the snapshot's there. `None`: it
/// does not, and the leader is told.
#[inline(never)]
fn after_base(node: &mut Node, reply: Reply, prev: EntryId, entries: &Entries) -> Option<Entries> {
    let base = node.log().base();
    match entries.iter().find(|entry| entry.index() == base.index) {
        Some(entry) if entry.id() == base => {
            return Some(entries.slice(base.index.next(), Index(u64::MAX)));
        }
        Some(entry) => diverged(node, reply, TwoEntries { mine: base, theirs: entry.id() }),
        None => conflict(node, reply, prev.index, Some(base)),
    }
    None
}

/// The entry before the first one is another here, or missing.
#[inline(never)]
fn on_other_prev(node: &mut Node, reply: Reply, prev: EntryId) {
    match node.log().id(prev.index) {
        Some(mine) if mine.term == prev.term => {
            diverged(node, reply, TwoEntries { mine, theirs: prev });
        }
        Some(_) if prev.index <= node.commit() => committed_conflict(node, reply, prev.index),
        Some(_) => {
            let hint = node.log().last_at_most(prev.index.prev(), prev.term);
            conflict(node, reply, prev.index, hint);
        }
        None => {
            let last = node.log().last();
            conflict(node, reply, prev.index, Some(last));
        }
    }
}

/// The leader of the term is alive. Its commit index here is bounded by what this node has
/// acknowledged in the same session, so it is in the log.
///
/// Answering promises to elect no other leader for as long as the lease asks (thesis §6.4.1), by a
/// clock that may be faster than the leader's.
pub(crate) fn on_heartbeat(node: &mut Node, reply: Reply, commit: Index, lease: Span) {
    let Reply { to, session, round } = reply;
    if !take_commit(node, to, RpcKind::Heartbeat, commit) {
        return;
    }
    node.loading.retry();
    if lease > Span(0) {
        node.promise(node.config.promise(lease));
    }
    node.send_made(to, || Rpc::HeartbeatResponse { session, round });
}

/// The leader of the term has committed more of what this node has acknowledged.
#[inline]
pub(crate) fn on_commit(node: &mut Node, from: Member, commit: Index) {
    take_commit(node, from, RpcKind::Commit, commit);
}

/// Takes a commit index that this node's acknowledgements bound. `false`: it cannot be.
#[inline(always)] // The doubt is rare, and the rest is a comparison.
fn take_commit(node: &mut Node, from: Member, kind: RpcKind, commit: Index) -> bool {
    if let Some(doubt) = node.doubt {
        // The leader may count what this node acknowledged before its log lost its end; only what has
        // been compared since is known to be the leader's. The message is answered all the same, or the
        // leader would not hear of the new start.
        node.commit_to(commit.min(doubt.matched));
        return true;
    }
    if commit <= node.log().last().index {
        node.commit_to(commit);
        return true;
    }
    node.refuse_peer(from, kind, Refused::Impossible);
    false
}

/// Stores entries that follow an entry which matches. Only a real conflict truncates: an old or
/// repeated message never does, and a leader that gets no answer repeats its own (§5.5). `false`: the
/// entries contradict what must not change.
#[inline(always)] // A part of every append.
fn store(node: &mut Node, reply: Reply, entries: &mut Entries) -> bool {
    let end = node.log().last().index;
    if node.gate.hole_count() == 0 && entries.first_index().is_some_and(|first| first > end) {
        node.append(core::mem::take(entries)); // Nearly always: all of them are new.
        return true;
    }
    let meeting = node.log().meet(entries);
    if node.gate.first_open_hole().is_some() {
        // Where the identities are equal, an intact payload takes the place of a damaged one.
        let equal_before = match meeting {
            Meeting::Present => Index(u64::MAX),
            Meeting::Extends(from) => from,
            Meeting::Conflicts(at) => at,
            Meeting::Diverges(TwoEntries { mine, .. }) => mine.index,
        };
        node.heal(&entries.slice(Index::ZERO, equal_before));
    }
    match meeting {
        Meeting::Present => true,
        Meeting::Extends(from) => {
            node.append(entries.slice(from, Index(u64::MAX)));
            true
        }
        Meeting::Conflicts(at) if at <= node.commit() => {
            committed_conflict(node, reply, at);
            false
        }
        Meeting::Conflicts(_) if node.is_overfull() => {
            // To replace a suffix takes disk space as well, even where the log gets no longer (the storage
            // may begin a new file), and a vote that is written later would queue behind it.
            refuse_overfull(node, reply);
            false
        }
        Meeting::Conflicts(at) => {
            node.truncate_from(at);
            node.append(entries.slice(at, Index(u64::MAX)));
            true
        }
        Meeting::Diverges(two) => {
            diverged(node, reply, two);
            false
        }
    }
}

/// Refuses an append, with the last place at which the logs may match. Nothing below the commit
/// index needs to be tried: what is committed matches every leader's log.
///
/// While the disk is full there is no answer to a conflict. A hint would make the leader send at once
/// entries that this node must drop, and the appends after those would conflict again: the two would go
/// round in a loop until there is room.
fn conflict(node: &mut Node, reply: Reply, rejected: Index, hint: Option<EntryId>) {
    if node.is_overfull() {
        refuse_overfull(node, reply);
        return;
    }
    let known = node.log().id(node.commit()).unwrap_or(node.log().base());
    let hint = hint.filter(|hint| hint.index >= known.index).unwrap_or(known);
    let result = AppendResult::Conflict { rejected, hint: hint.index, hint_term: hint.term };
    let Reply { to, session, round } = reply;
    node.send(to, Rpc::AppendEntriesResponse { session, round, result });
}

fn diverged(node: &mut Node, reply: Reply, two: TwoEntries) {
    let index = two.mine.index;
    let (mine, theirs) = (two.mine.chain, two.theirs.chain);
    node.violation(Violation::ChainMismatch { index, mine, theirs });
    answer_diverged(node, reply, index);
}

/// Every leader has all that is committed (§5.4.3), so the memory or the disk of one of the two has lied.
fn committed_conflict(node: &mut Node, reply: Reply, index: Index) {
    let commit = node.commit();
    node.violation(Violation::CommittedConflict { index, commit });
    answer_diverged(node, reply, index);
}

fn answer_diverged(node: &mut Node, reply: Reply, index: Index) {
    let Reply { to, session, round } = reply;
    let result = AppendResult::Diverged { index };
    node.send(to, Rpc::AppendEntriesResponse { session, round, result });
}
