//! What a crash of a server leaves, and what may be lost.

use std::sync::Arc;

use raft_core::{Effect, Index};

use super::{Host, Input};
use crate::ideal_disk::{Disk, Loss};

impl Host {
    /// How many different remains a crash can leave: whole batches, then pieces of the next one.
    fn remains(&self) -> impl Iterator<Item = (usize, usize)> {
        let partial =
            self.unsynced.iter().enumerate().flat_map(|(whole, batch)| {
                (0..Disk::pieces(batch)).map(move |pieces| (whole, pieces))
            });
        partial.chain([(self.unsynced.len(), 0)])
    }

    /// Crashes that leave what a disk has promised.
    pub(crate) fn crashes(&self) -> impl Iterator<Item = Input> {
        self.remains().flat_map(move |(whole, pieces)| {
            let commits = self.commits(&self.left(whole, pieces), None);
            commits.map(move |commit| Input::Crash { whole, pieces, loss: None, commit })
        })
    }

    /// What a disk that is left behind may say of the commit index: at most what the node knew, as far
    /// as the log on the disk is the one of which that was known.
    pub(crate) fn commits(
        &self,
        left: &Disk,
        loss: Option<Loss>,
    ) -> impl Iterator<Item = Index> + use<> {
        let last = match loss {
            Some(Loss::Tail(from)) => from.prev(),
            Some(Loss::Entry(_) | Loss::Snapshot) | None => left.last().index,
        };
        let most = self.raft.status().commit.min(last);
        let is_same = |index: &u64| self.raft.entry_id(Index(*index)) == left.id_at(Index(*index));
        let first = left.snapshot().index;
        let known = (first.0..=most.0).rev().find(is_same).map_or(first, Index);
        // Any later start finds as much as an earlier one, or the snapshot.
        (left.snapshot().index.0..=known.0).map(Index)
    }

    /// Crashes after which the disk has lost something that was durable.
    pub(crate) fn losses(&self) -> impl Iterator<Item = Input> {
        self.remains().flat_map(move |(whole, pieces)| {
            let left = self.left(whole, pieces);
            left.losses().into_iter().flat_map(move |loss| {
                let loss = Some(loss);
                let commits = self.commits(&left, loss);
                commits.map(move |commit| Input::Crash { whole, pieces, loss, commit })
            })
        })
    }

    /// Damage that is found while the server runs.
    pub(crate) fn finds(&self) -> impl Iterator<Item = Input> + use<> {
        let losses = self.disk.losses().into_iter();
        losses.filter_map(|loss| match loss {
            Loss::Entry(index) => Some(Input::Damage { index }),
            Loss::Tail(_) | Loss::Snapshot => None,
        })
    }

    /// The disk after a crash.
    pub(crate) fn left(&self, whole: usize, pieces: usize) -> Disk {
        let mut disk = self.disk.clone();
        for (at, batch) in self.unsynced.iter().take(whole + 1).enumerate() {
            disk.write(batch, if at < whole { usize::MAX } else { pieces });
        }
        // What was staged lasts if it was installed.
        disk.staged.clear();
        disk
    }

    pub(super) fn crash(
        &mut self,
        mut disk: Disk,
        loss: Option<Loss>,
        commit: Index,
    ) -> Vec<Effect> {
        if let Some(loss) = loss {
            disk.lose(loss);
        }
        let (host, effects) = Self::start(Arc::clone(&self.config), disk, commit, self.now);
        *self = host;
        effects
    }
}
