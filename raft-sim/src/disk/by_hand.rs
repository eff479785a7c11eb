//! For tests that try every wound: copies of disks, and wounds that nobody draws.

use std::cell::RefCell;
use std::rc::Rc;

use super::{Platter, SimDisk};
use crate::rot::{Wound, by_hand};

impl SimDisk {
    /// Another disk with the same on it. Nothing may be on its way to either.
    pub(crate) fn fork(&self) -> Self {
        assert!(self.is_at_rest(), "a disk at rest is what it shows");
        let platter = self.0.borrow();
        let Platter { lie, keeps_past, read_ahead, capacity, .. } = *platter;
        let copy = Platter {
            inodes: platter.inodes.clone(),
            names: platter.names.clone(),
            durable_names: platter.durable_names.clone(),
            dirs: platter.dirs.clone(),
            durable_dirs: platter.durable_dirs.clone(),
            lie,
            keeps_past,
            read_ahead,
            capacity,
            ..Platter::default()
        };
        Self(Rc::new(RefCell::new(copy)))
    }

    /// Every sector in which anything is written, by its file.
    pub(crate) fn sectors(&self) -> Vec<(String, Vec<usize>)> {
        by_hand::sectors(&self.0.borrow())
    }

    /// What stands in a sector.
    pub(crate) fn sector(&self, path: &str, sector: usize) -> Option<Vec<u8>> {
        by_hand::sector(&self.0.borrow(), path, sector)
    }

    /// What stood there before it was last written.
    pub(crate) fn past(&self, path: &str, sector: usize) -> Option<Vec<u8>> {
        by_hand::past(&self.0.borrow(), path, sector)
    }

    /// A sector holds something else.
    pub(crate) fn replace(&self, sector: (&str, usize), bytes: &[u8]) -> Option<Wound> {
        let mut platter = self.0.borrow_mut();
        platter.state += 1;
        by_hand::replace(&mut platter, sector, bytes)
    }

    /// A sector cannot be read until it is written again.
    pub(crate) fn spoil(&self, sector: (&str, usize)) -> Option<Wound> {
        let mut platter = self.0.borrow_mut();
        platter.state += 1;
        by_hand::spoil(&mut platter, sector)
    }

    /// One byte changes in each place of the log where these bytes stand.
    pub(crate) fn flip(&self, bytes: &[u8]) -> Option<Wound> {
        let mut platter = self.0.borrow_mut();
        platter.state += 1;
        by_hand::flip(&mut platter, bytes)
    }
}
