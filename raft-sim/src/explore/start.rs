//! Where an exploration begins: a cluster, its messages and its past.
//!
//! The plain start is that of servers that have just been founded. A script leads to any other one
//! (see [`crate::script`]), so that what follows a long story can be explored without its prefix.

use std::sync::Arc;

use raft_core::{Config, Effect, Envelope, Membership};

use super::bounds::Bounds;
use super::demand::Demand;
use super::facts;
use super::ghost::Ghost;
use super::host::{Host, Input};
use super::past::{Kept, Past};
use super::symmetry;

/// A cluster as an exploration finds it.
#[derive(Clone, Debug)]
pub(crate) struct Start {
    /// How many servers there are, and their options. The other bounds are the default ones.
    pub(crate) cluster: Bounds,
    /// By position.
    pub(crate) hosts: Vec<Host>,
    /// Messages that may still arrive, each once, oldest first.
    pub(crate) letters: Vec<Arc<Envelope>>,
    /// Who led, what is committed, which reads are open, and what the past has spent.
    pub(crate) ghost: Ghost,
    /// Exchanges of names that leave it as it is, the one that changes nothing first.
    pub(crate) exchanges: Vec<Kept>,
    /// The landmarks that what follows must reach.
    pub(crate) demands: Vec<Demand>,
}

impl Start {
    /// All servers have just been started for the first time, and what they wrote then is durable.
    /// Their options are those of the bounds, and what `adjust` makes of them.
    pub(crate) fn founded(bounds: &Bounds, adjust: impl Fn(&mut Config)) -> Self {
        let host = |at| {
            let mut config = bounds.config(at);
            adjust(&mut config);
            found(config, bounds.genesis())
        };
        let hosts = (0..bounds.servers()).map(host).collect();
        let kept = |exchange| Kept { exchange, letters: Vec::new() };
        Self {
            cluster: bounds.clone(),
            hosts,
            letters: Vec::new(),
            ghost: Ghost::default(),
            exchanges: symmetry::exchanges(bounds).into_iter().map(kept).collect(),
            demands: Vec::new(),
        }
    }

    /// The same start, with the exchanges of names that leave it as it is after this past.
    pub(crate) fn after(self, past: &Past) -> Self {
        Self { exchanges: past.kept(&self), ..self }
    }

    /// The exchanges of names under which all looks the same that follows within these bounds, if
    /// they fit it.
    pub(crate) fn alike(&self, bounds: &Bounds) -> &[Kept] {
        let spent = self.ghost.spent;
        // A change of the membership names servers. And where time passes, it does for all servers at
        // once, which leaves no choice to a leader that goes just then (`symmetry.rs`); nor are timers
        // alike in later terms than they were set for (`clock.rs`).
        let is_named = bounds.changes > spent.changes;
        // The number of a stream says whose it is as long as nobody opens another one in the term than
        // at its beginning, or all members are always the same and only restarts open one
        // (`is_numbered_alike`). A leader that discards an entry opens all of them once more.
        let is_changed = bounds.changes > 0 && bounds.crashes > 0;
        let is_renumbered = is_changed || (bounds.is_lossy() && bounds.crashes > 1);
        let is_timed = bounds.leases && (spent.changes > 0 || bounds.terms > self.cluster.terms);
        let is_alike = bounds.symmetry && !is_named && !is_timed && !is_renumbered;
        &self.exchanges[..if is_alike { self.exchanges.len() } else { 1 }]
    }

    /// These bounds for what follows this start: the servers and their options are those of the
    /// start, and its past does not count against what may happen.
    ///
    /// The highest term is left as it is.
    pub(crate) fn within(&self, bounds: &Bounds) -> Bounds {
        let spent = self.ghost.spent;
        Bounds {
            nodes: self.cluster.nodes,
            learners: self.cluster.learners,
            pre_vote: self.cluster.pre_vote,
            check_quorum: self.cluster.check_quorum,
            leases: self.cluster.leases,
            entries: bounds.entries.saturating_add(spent.entries),
            crashes: bounds.crashes.saturating_add(spent.crashes),
            damages: bounds.damages.saturating_add(spent.damages),
            lost_tails: bounds.lost_tails.saturating_add(spent.lost_tails),
            reads: bounds.reads.saturating_add(spent.reads),
            transfers: bounds.transfers.saturating_add(spent.transfers),
            changes: bounds.changes.saturating_add(spent.changes),
            snapshots: bounds.snapshots.saturating_add(spent.snapshots),
            hurry: bounds.hurry && (bounds.crashes > 0 || bounds.campaigns.is_some()),
            ..bounds.clone()
        }
    }
}

fn found(config: Config, genesis: Membership) -> Host {
    let (mut host, effects) = Host::found(config, genesis);
    facts::of_step(None, None, &effects, &host).expect("a start breaks no promise");
    let effects = host.take(&Input::Persist { batches: 1 });
    let is_silent = !effects.iter().any(|effect| matches!(effect, Effect::Send(_)));
    assert!(is_silent, "nobody speaks when it is founded");
    host
}
