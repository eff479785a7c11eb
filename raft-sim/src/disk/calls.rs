//! What a process asks of its disk, call by call, with the faults that come out in them.

use std::collections::BTreeMap;

use raft_replica::disk::{Disk, DiskError};

use super::{
    Call, DirOp, Failed, Inode, Lie, SECTOR_BYTES, SimDisk, SimFile, SyncFailure, directory,
};
use crate::fault::Fault;

impl Disk for SimDisk {
    type File = SimFile;

    fn open(&mut self, path: &str) -> Result<SimFile, DiskError> {
        let mut platter = self.0.borrow_mut();
        platter.look()?;
        platter.inode(path).map(SimFile)
    }

    fn create(&mut self, path: &str, len: u64) -> Result<SimFile, DiskError> {
        let mut platter = self.0.borrow_mut();
        platter.look()?;
        if !platter.has_dir(directory(path)) {
            return Err(DiskError::NotFound);
        }
        if platter.names.contains_key(path) || platter.has_dir(path) {
            return Err(DiskError::Exists);
        }
        platter.take_room(len)?;
        let hard_state = path.starts_with("hs.");
        let mut file = Inode::zeroed(size(len)?, hard_state);
        let outcome = platter.call(Call::Create);
        let inode = platter.inodes.len();
        if !outcome.is_done {
            return outcome.or(SimFile(inode));
        }
        file.past = platter.keeps_past.then(BTreeMap::new);
        platter.inodes.push(file);
        platter.names.insert(path.to_owned(), inode);
        platter.pending.push(DirOp::Link { path: path.to_owned(), inode });
        outcome.or(SimFile(inode))
    }

    fn has_room(&mut self, bytes: u64) -> bool {
        self.0.borrow().has_room(bytes)
    }

    fn len(&mut self, file: &SimFile) -> Result<u64, DiskError> {
        let mut platter = self.0.borrow_mut();
        platter.look()?;
        Ok(platter.inodes[file.0].data.len() as u64)
    }

    fn read(&mut self, file: &SimFile, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        let mut platter = self.0.borrow_mut();
        platter.look()?;
        if buffer.is_empty() {
            // A file has nothing at any place.
            return Ok(());
        }
        let start = size(offset)?;
        let end = start.checked_add(buffer.len()).ok_or(DiskError::Short)?;
        let is_peeking = platter.is_peeking;
        let inode = &mut platter.inodes[file.0];
        let data = inode.data.get(start..end).ok_or(DiskError::Short)?;
        buffer.copy_from_slice(data);
        if inode.is_unreadable(start..end, is_peeking) {
            // It may have been the last time.
            platter.state += u64::from(!is_peeking);
            Err(DiskError::Unreadable)
        } else {
            Ok(())
        }
    }

    /// Calls are cheap here, bytes are not; but what is read at once may hide a mistake, or show it.
    fn read_ahead_bytes(&mut self) -> u64 {
        self.0.borrow().read_ahead.max(SECTOR_BYTES as u64)
    }

    fn write(&mut self, file: &SimFile, offset: u64, data: &[u8]) -> Result<(), DiskError> {
        let mut platter = self.0.borrow_mut();
        platter.look()?;
        if platter.fail_writes > 0 {
            platter.fail_writes -= 1;
            let (fault, took_hold) = (Fault::WriteError, true);
            platter.failed = Some(Failed { fault, took_hold, call: None });
            return Err(DiskError::Failed("injected write error".to_owned()));
        }
        let offset = size(offset)?;
        let end = if data.is_empty() { 0 } else { offset + data.len() };
        let more = end.saturating_sub(platter.inodes[file.0].data.len());
        if more > 0 {
            platter.take_room(more as u64)?;
        }
        let dies = platter.change();
        if let Some(mut draw) = platter.cut_write.take() {
            let part = draw.position(data.len().max(1));
            platter.inodes[file.0].write(offset, &data[..part]);
            let (fault, took_hold) = (Fault::ShortWrite, part > 0);
            platter.failed = Some(Failed { fault, took_hold, call: None });
            return Err(DiskError::Failed("injected short write".to_owned()));
        }
        platter.inodes[file.0].write(offset, data);
        unless_dead(dies, ())
    }

    fn sync(&mut self, file: &SimFile) -> Result<(), DiskError> {
        let mut platter = self.0.borrow_mut();
        platter.look()?;
        unless_dead(platter.change(), ())?;
        if let Some((how, mut draw)) = platter.fail_sync.take() {
            let took_hold = platter.inodes[file.0].fail_sync(how, &mut draw);
            let fault = match how {
                SyncFailure::DropsPages => Fault::SyncDrops,
                SyncFailure::KeepsPages => Fault::SyncKeeps,
            };
            platter.failed = Some(Failed { fault, took_hold, call: None });
            return Err(DiskError::Failed("injected sync error".to_owned()));
        }
        let lie = platter.lie;
        let is_lie = std::mem::take(&mut platter.lie_sync);
        let inode = &mut platter.inodes[file.0];
        inode.note_sync(is_lie);
        match lie {
            Lie::None => inode.flush(),
            Lie::AllSyncs => {}
            Lie::HardStateSyncs if inode.hard_state => inode.durable_len = inode.data.len(),
            Lie::HardStateSyncs => inode.flush(),
        }
        Ok(())
    }

    fn create_dir(&mut self, path: &str) -> Result<(), DiskError> {
        let mut platter = self.0.borrow_mut();
        platter.look()?;
        if !platter.has_dir(directory(path)) {
            return Err(DiskError::NotFound);
        }
        let outcome = platter.call(Call::CreateDir);
        if outcome.is_done && platter.dirs.insert(path.to_owned()) {
            platter.pending.push(DirOp::Directory { path: path.to_owned() });
        }
        outcome.or(())
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError> {
        let mut platter = self.0.borrow_mut();
        platter.look()?;
        let inode = platter.inode(from)?;
        if !platter.has_dir(directory(to)) {
            return Err(DiskError::NotFound);
        }
        let outcome = platter.call(Call::Rename);
        if outcome.is_done {
            platter.names.remove(from);
            platter.names.insert(to.to_owned(), inode);
            let (from, to) = (from.to_owned(), to.to_owned());
            platter.pending.push(DirOp::Rename { from, to, inode });
        }
        outcome.or(())
    }

    fn remove(&mut self, path: &str) -> Result<(), DiskError> {
        let mut platter = self.0.borrow_mut();
        platter.look()?;
        let inode = platter.inode(path)?;
        let outcome = platter.call(Call::Remove);
        if outcome.is_done {
            platter.names.remove(path);
            platter.pending.push(DirOp::Unlink { path: path.to_owned(), inode });
        }
        outcome.or(())
    }

    fn list(&mut self, dir: &str) -> Result<Vec<String>, DiskError> {
        let mut platter = self.0.borrow_mut();
        platter.look()?;
        if !platter.has_dir(dir) {
            return Err(DiskError::NotFound);
        }
        let front = if dir.is_empty() { String::new() } else { format!("{dir}/") };
        let files = platter.names.range(front.clone()..).map(|(path, _)| path);
        let all = files.take_while(|path| path.starts_with(&front));
        let dirs = platter.dirs.range(front.clone()..);
        let mut names: Vec<String> = all
            .chain(dirs.take_while(|path| path.starts_with(&front)))
            .filter(|path| directory(path) == dir)
            .map(|path| path.rsplit('/').next().unwrap_or(path).to_owned())
            .collect();
        names.sort_unstable();
        Ok(names)
    }

    fn sync_dir(&mut self, dir: &str) -> Result<(), DiskError> {
        let mut platter = self.0.borrow_mut();
        platter.look()?;
        if !platter.has_dir(dir) {
            return Err(DiskError::NotFound);
        }
        let outcome = platter.call(Call::SyncDir);
        if platter.dead || !outcome.is_done || platter.lie == Lie::AllSyncs {
            return outcome.or(());
        }
        platter.make_names_durable(|directory| directory == dir);
        outcome.or(())
    }
}

fn unless_dead<T>(dead: bool, value: T) -> Result<T, DiskError> {
    if dead { Err(DiskError::Failed("the power failed".to_owned())) } else { Ok(value) }
}

fn size(bytes: u64) -> Result<usize, DiskError> {
    /// Nothing that is simulated writes files this long: an offset beyond it is a mistake.
    const FILE_BYTES_MAX: u64 = 1 << 30;
    if bytes > FILE_BYTES_MAX {
        return Err(DiskError::NoSpace);
    }
    usize::try_from(bytes).map_err(|_| DiskError::NoSpace)
}
