//! Bits that flip while nobody looks: in the files of a node that does not run.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::dice::Dice;

/// Flips a bit somewhere in what a node has written to its storage; false: there is nothing yet.
pub(crate) fn flip(data: &Path, dice: &mut Dice) -> io::Result<bool> {
    let mut files = Vec::new();
    for part in ["raft", "raft/wal", "raft/snap"] {
        files.extend(files_in(&data.join(part))?);
    }
    files.sort_unstable();
    if files.is_empty() {
        return Ok(false);
    }
    let path = &files[pick(dice, files.len())];
    let bytes = fs::read(path)?;
    // Most of a segment is zeros that nobody has written to yet, and nobody reads.
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    if used == 0 {
        return Ok(false);
    }
    let written: Vec<usize> = (0..used).filter(|at| bytes[*at] != 0).collect();
    let at = written[pick(dice, written.len())];
    let bit = 1u8 << dice.below(8);
    let file = File::options().write(true).open(path)?;
    file.write_all_at(&[bytes[at] ^ bit], at as u64)?;
    Ok(true)
}

fn files_in(directory: &Path) -> io::Result<Vec<PathBuf>> {
    if !directory.is_dir() {
        return Ok(Vec::new());
    }
    let entries: io::Result<Vec<_>> = fs::read_dir(directory)?.collect();
    Ok(entries?.iter().map(fs::DirEntry::path).filter(|path| path.is_file()).collect())
}

fn pick(dice: &mut Dice, count: usize) -> usize {
    usize::try_from(dice.below(count as u64)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bit_of_what_was_written_is_another() {
        let directory = tempfile::tempdir().unwrap();
        let mut dice = Dice::new(1, 0);
        assert!(!flip(directory.path(), &mut dice).unwrap(), "there is nothing");
        let path = directory.path().join("raft/wal/segment");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let before = [vec![7; 100], vec![0; 100_000]].concat();
        fs::write(&path, &before).unwrap();
        assert!(flip(directory.path(), &mut dice).unwrap());
        let after = fs::read(&path).unwrap();
        let changed: Vec<usize> =
            (0..before.len()).filter(|at| before[*at] != after[*at]).collect();
        let [at] = changed[..] else { panic!("{changed:?}") };
        assert!(at < 100);
        assert_eq!((before[at] ^ after[at]).count_ones(), 1);
    }
}
