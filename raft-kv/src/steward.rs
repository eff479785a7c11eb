//! What whoever leads looks after by itself: the address book, and members that wait for promotion.
//!
//! An operator's wish (this learner shall vote, in place of that voter) is in the replicated state, so
//! it outlives the leader that it was told. Nothing here is needed for safety: each act is a proposal
//! like any other, made on the membership that was seen, and refused if that has changed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use raft_core::{Flow, Member, MemberStep, MembershipChange, NodeId, RoleName};
use raft_replica::request::Request;
use tracing::{debug, info};

use crate::config::{is_unspecified, is_unspecified_url};
use crate::hello::Hello;
use crate::http::App;
use crate::node::{Gone, Node, View};
use crate::store::{Book, Noted, Peer, StoreCommand};

/// How often a leader looks.
const INTERVAL: Duration = Duration::from_millis(200);

/// What is to be done.
enum Act {
    Command(StoreCommand),
    Change(Request<crate::store::Store>),
}

/// Runs until the node is gone.
pub(crate) async fn run(app: Arc<App>, node: Node) {
    loop {
        match look(&app, &node).await {
            Ok(act) => act_on(&node, act).await,
            Err(Gone) => return,
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

async fn look(app: &Arc<App>, node: &Node) -> Result<Option<Act>, Gone> {
    if node.now().role != RoleName::Leader {
        return if node.now().end.is_some() { Err(Gone) } else { Ok(None) };
    }
    let shared = Arc::clone(app);
    node.inspect(move |view| {
        if view.applied() < view.replica.status().base.index {
            return None; // The state, and the book in it, is still on its way from a snapshot.
        }
        let members = view.replica.status().membership.members();
        let book = view.store().peers();
        promotion(view)
            .or_else(|| arrived(book, &members).map(Act::Command))
            .or_else(|| address(&shared, view, &members).map(Act::Command))
            .or_else(|| departed(book, &still_here(view, &members)).map(Act::Command))
    })
    .await
}

async fn act_on(node: &Node, act: Option<Act>) {
    let reply = match act {
        None => return,
        Some(Act::Command(command)) => node.write(command).await,
        Some(Act::Change(request)) => {
            info!(?request, "promoting");
            node.ask(request).await
        }
    };
    // What did not come about is seen, and tried again, at the next look.
    debug!(?reply, "looked after the cluster");
}

/// A learner that has caught up and shall vote.
fn promotion(view: &View<'_>) -> Option<Act> {
    let status = view.replica.status();
    let membership = &status.membership;
    if membership.is_joint() {
        return None;
    }
    let peers = view.replica.raft().peers();
    let is_ready = |peer: &&Peer| {
        let shown = peers.iter().find(|shown| shown.member == peer.member);
        shown.is_some_and(|shown| {
            view.is_alive(peer.member)
                && matches!(shown.flow, Flow::Replicate { .. })
                && shown.match_index.0 + 256 >= status.commit.0
        })
    };
    let learners = membership.learners();
    let waiting = |peer: &&Peer| peer.shall_vote && learners.contains(&peer.member);
    let noted = view.store().peers().values().map(|noted| &noted.peer);
    let peer = noted.filter(waiting).find(is_ready)?;
    let new = peer.member.id;
    let is_voter = |id: NodeId| membership.incoming().iter().any(|voter| voter.id == id);
    let step = match peer.replaces {
        Some(old) if is_voter(old) => MemberStep::Replace { old, new },
        Some(_) | None => MemberStep::Promote(new),
    };
    let change = MembershipChange::Steps(vec![step]);
    let expect = Some(Arc::clone(membership));
    Some(Act::Change(Request::ChangeMembership { change, expect }))
}

/// A member that the book still takes for somebody who joins.
fn arrived(book: &Book, members: &[Member]) -> Option<StoreCommand> {
    let has_come = |noted: &&Noted| noted.peer.is_joining && members.contains(&noted.peer.member);
    let noted = book.values().find(has_come)?;
    Some(StoreCommand::SetPeer(Peer { is_joining: false, ..noted.peer.clone() }))
}

/// A member whose address has changed, or is not in the book.
fn address(app: &App, view: &View<'_>, members: &[Member]) -> Option<StoreCommand> {
    let links = app.links.peers();
    let me = app.links.me();
    members.iter().find_map(|member| {
        let said = if *member == me.member {
            me.clone()
        } else {
            links.get(&member.id)?.hello.clone().filter(|hello| hello.member == *member)?
        };
        let known = view.store().peers().get(&member.id).map(|noted| &noted.peer);
        if known.is_some_and(|known| known.member != *member && known.is_joining) {
            // Somebody new is about to come in its place, and that is what the book is for.
            return None;
        }
        correction(&said, known.filter(|known| known.member == *member))
    })
}

/// What a member says of itself, where the book does not say so.
fn correction(said: &Hello, known: Option<&Peer>) -> Option<StoreCommand> {
    // Where it listens at every address, the operator's word is better than its own.
    let address = if is_unspecified(&said.address) { &known?.address } else { &said.address };
    let client_url = if is_unspecified_url(&said.client_url) {
        known.map_or("", |known| &known.client_url)
    } else {
        &said.client_url
    };
    let is_noted = |known: &Peer| known.address == *address && known.client_url == client_url;
    if known.is_some_and(is_noted) {
        return None;
    }
    Some(StoreCommand::SetPeer(Peer {
        member: said.member,
        address: address.clone(),
        client_url: client_url.to_owned(),
        shall_vote: known.is_some_and(|known| known.shall_vote),
        replaces: known.and_then(|known| known.replaces),
        is_joining: false,
    }))
}

/// Everybody who is a member, or was one and may not know that it is over.
fn still_here(view: &View<'_>, members: &[Member]) -> BTreeSet<NodeId> {
    let leaving = view.replica.raft().peers();
    members.iter().map(|member| member.id).chain(leaving.iter().map(|it| it.member.id)).collect()
}

/// Somebody in the book who was a member, is none any more, and knows it. Who joins is in the book
/// before it is a member, so it stays; and what is noted after this look stays as well.
fn departed(book: &Book, still_here: &BTreeSet<NodeId>) -> Option<StoreCommand> {
    let is_gone =
        |(id, noted): &(&NodeId, &Noted)| !noted.peer.is_joining && !still_here.contains(id);
    let (id, noted) = book.iter().find(is_gone)?;
    Some(StoreCommand::RemovePeer { id: *id, since: noted.since })
}

#[cfg(test)]
mod tests {
    use raft_core::Index;
    use raft_replica::machine::StateMachine as _;

    use super::*;
    use crate::store::Store;

    fn peer(id: u64, is_joining: bool) -> Peer {
        Peer {
            member: Member::new(id, 7),
            address: format!("10.0.0.{id}:9001"),
            client_url: String::new(),
            shall_vote: true,
            replaces: None,
            is_joining,
        }
    }

    fn ids(members: &[Member]) -> BTreeSet<NodeId> {
        members.iter().map(|member| member.id).collect()
    }

    #[test]
    fn every_address_replaces_no_address() {
        let noted = peer(4, false);
        let said = |address: &str, client_url: &str| Hello {
            member: noted.member,
            address: address.to_owned(),
            client_url: client_url.to_owned(),
            cluster: None,
            founders: Vec::new(),
            configured: Vec::new(),
        };
        let book = |said: &Hello, known| match correction(said, known) {
            Some(StoreCommand::SetPeer(peer)) => Some((peer.address, peer.client_url)),
            Some(_) | None => None,
        };
        let both = |address: &str, url: &str| Some((address.to_owned(), url.to_owned()));
        let nowhere = said("0.0.0.0:9001", "http://0.0.0.0:8001");
        assert_eq!(book(&nowhere, Some(&noted)), None, "the operator knows better");
        assert_eq!(book(&nowhere, None), None, "and nobody knows nothing");
        let moved = said("db4:9001", "http://[::]:8001");
        assert_eq!(book(&moved, Some(&noted)), both("db4:9001", ""));
        let told = said("10.0.0.4:9001", "http://db4:8001");
        assert_eq!(book(&told, Some(&noted)), both("10.0.0.4:9001", "http://db4:8001"));
        assert_eq!(book(&moved, None), both("db4:9001", ""));
    }

    #[test]
    fn a_look_between_the_note_and_the_change_does_not_lose_the_wish() {
        let mut store = Store::default();
        let (old, new) = (Member::new(1, 7), Member::new(4, 7));
        store.apply(Index(1), StoreCommand::SetPeer(peer(1, false)));
        store.apply(Index(2), StoreCommand::SetPeer(peer(4, true)));
        assert_eq!(departed(store.peers(), &ids(&[old])), None, "it is about to come");
        assert_eq!(arrived(store.peers(), &[old]), None);
        let come = arrived(store.peers(), &[old, new]).expect("it has come");
        store.apply(Index(3), come);
        assert!(store.peers()[&NodeId(4)].peer.shall_vote, "and shall still vote");
        assert_eq!(arrived(store.peers(), &[old, new]), None);
        assert_eq!(departed(store.peers(), &ids(&[old, new])), None);
        let gone = departed(store.peers(), &ids(&[old])).expect("it has left");
        store.apply(Index(4), gone);
        assert!(!store.peers().contains_key(&NodeId(4)));
    }

    #[test]
    fn who_comes_back_is_not_removed_by_a_look_from_before() {
        let mut store = Store::default();
        store.apply(Index(1), StoreCommand::SetPeer(peer(4, false)));
        let gone = departed(store.peers(), &BTreeSet::new()).expect("it has left");
        store.apply(Index(2), StoreCommand::SetPeer(peer(4, true)));
        store.apply(Index(3), gone);
        assert!(store.peers()[&NodeId(4)].peer.shall_vote);
    }
}
