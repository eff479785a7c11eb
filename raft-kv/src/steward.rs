//! What whoever leads looks after by itself: the address book, and members that wait for promotion.
//!
//! An operator's wish (this learner shall vote, in place of that voter) is in the replicated state, so
//! it outlives the leader that it was told. Nothing here is needed for safety: each act is a proposal
//! like any other, made on the membership that was seen, and refused if that has changed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use raft_core::{Flow, MemberStep, MembershipChange, NodeId, RoleName};
use raft_replica::request::Request;
use tracing::{debug, info};

use crate::http::App;
use crate::node::{Gone, Node, View};
use crate::store::{Peer, StoreCommand};

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
        promotion(view).or_else(|| address(&shared, view)).or_else(|| departed(view))
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
    let peer = view.store().peers().values().filter(waiting).find(is_ready)?;
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

/// A member whose address has changed, or is not in the book.
fn address(app: &App, view: &View<'_>) -> Option<Act> {
    let links = app.links.peers();
    let me = app.links.me();
    view.replica.status().membership.members().into_iter().find_map(|member| {
        let said = if member == me.member {
            me.clone()
        } else {
            links.get(&member.id)?.hello.clone().filter(|hello| hello.member == member)?
        };
        let known = view.store().peers().get(&member.id);
        if known.is_some_and(|known| {
            known.member == member
                && known.address == said.address
                && known.client_url == said.client_url
        }) {
            return None;
        }
        let known = known.filter(|known| known.member == member);
        Some(Act::Command(StoreCommand::SetPeer(Peer {
            member,
            address: said.address,
            client_url: said.client_url,
            shall_vote: known.is_some_and(|known| known.shall_vote),
            replaces: known.and_then(|known| known.replaces),
        })))
    })
}

/// Somebody in the book who is no member, and knows it.
fn departed(view: &View<'_>) -> Option<Act> {
    let mut members: BTreeSet<NodeId> =
        view.replica.status().membership.members().iter().map(|member| member.id).collect();
    members.extend(view.replica.raft().peers().iter().map(|peer| peer.member.id));
    let gone = view.store().peers().keys().find(|id| !members.contains(id))?;
    Some(Act::Command(StoreCommand::RemovePeer(*gone)))
}
