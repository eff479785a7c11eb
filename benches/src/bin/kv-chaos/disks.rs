//! A small file system for each server, so that disks fill up.
//!
//! Only who may mount one has them: root, or anybody in a name space of its own (`unshare -rm`). A disk is
//! filled by a file beside the server's directory, and is emptied by its removal.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::statvfs;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// With less than this free, a server hands over and refuses what grows.
pub(crate) const RESERVE_BYTES: u64 = 16 << 20;

/// The file that takes the room.
const BALLAST: &str = "ballast";

/// What is left of a disk that is filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// Less than the reserve, and enough to go on.
    Little,
    Nothing,
}

/// The file systems of all servers.
pub(crate) struct Disks {
    root: PathBuf,
    mounted: BTreeSet<u64>,
    full: BTreeSet<u64>,
    /// Whether they stay when this is dropped.
    stays: bool,
}

impl Disks {
    /// One of this size for each server, in memory, below a directory.
    pub(crate) fn mount(root: &Path, servers: u64, mib: u64) -> Result<Self, String> {
        let (mounted, full) = (BTreeSet::new(), BTreeSet::new());
        let mut disks = Self { root: root.to_owned(), mounted, full, stays: false };
        for id in 1..=servers {
            let at = disks.path(id);
            fs::create_dir(&at).map_err(|error| error.to_string())?;
            let options = CString::new(format!("size={mib}m,mode=700")).expect("it has no zero");
            mount("kv-chaos", &at, "tmpfs", MountFlags::NODEV, options.as_c_str())
                .map_err(|error| format!("{}: {error}", at.display()))?;
            disks.mounted.insert(id);
        }
        Ok(disks)
    }

    pub(crate) fn path(&self, id: u64) -> PathBuf {
        self.root.join(format!("disk{id}"))
    }

    pub(crate) fn is_full(&self, id: u64) -> bool {
        self.full.contains(&id)
    }

    /// Takes room until this is left.
    pub(crate) fn fill(&mut self, id: u64, left: Left) -> io::Result<()> {
        self.full.insert(id);
        let mut file =
            File::options().create(true).append(true).open(self.path(id).join(BALLAST))?;
        let keep = if left == Left::Little { RESERVE_BYTES / 2 } else { 0 };
        let part = vec![1; 64 << 10];
        loop {
            let system = statvfs(self.path(id))?;
            let room = system.f_bavail.saturating_mul(system.f_frsize).saturating_sub(keep);
            let bytes = usize::try_from(room).unwrap_or(usize::MAX).min(part.len());
            match file.write_all(&part[..bytes]) {
                Ok(()) if bytes == 0 => return Ok(()),
                Ok(()) => {}
                // The server was faster.
                Err(error) if error.kind() == ErrorKind::StorageFull => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Gives the room back.
    pub(crate) fn free(&mut self, id: u64) -> io::Result<()> {
        if self.full.remove(&id) {
            fs::remove_file(self.path(id).join(BALLAST))?;
        }
        Ok(())
    }

    /// Leaves them mounted: somebody will want to look at what is there.
    pub(crate) fn stay(&mut self) {
        self.stays = true;
    }
}

impl Drop for Disks {
    fn drop(&mut self) {
        for id in self.mounted.iter().filter(|_| !self.stays) {
            // What cannot be unmounted stays; nobody is left to be told.
            let _: rustix::io::Result<()> = unmount(self.path(*id), UnmountFlags::DETACH);
        }
    }
}
