//! Wounds that nobody draws: this sector, with these bytes. For tests that try all of them.

use super::{Platter, Wound, evidence, span, written};

/// The names of the durable files, and of each the sectors in which anything is written.
pub(crate) fn sectors(platter: &Platter) -> Vec<(String, Vec<usize>)> {
    let named = platter.names.iter();
    named.map(|(path, at)| (path.clone(), written(&platter.inodes[*at]))).collect()
}

/// What stands in a sector of a file, if there is one.
pub(crate) fn sector(platter: &Platter, path: &str, sector: usize) -> Option<Vec<u8>> {
    let inode = &platter.inodes[*platter.names.get(path)?];
    Some(inode.data[span(inode, sector)].to_vec()).filter(|bytes| !bytes.is_empty())
}

/// What stood there before it was last written, if that is remembered.
pub(crate) fn past(platter: &Platter, path: &str, sector: usize) -> Option<Vec<u8>> {
    platter.inodes[*platter.names.get(path)?].past.as_ref()?.get(&sector).cloned()
}

/// A sector holds something else, as much of it as fits; nothing if it is the same.
pub(crate) fn replace(
    platter: &mut Platter,
    (path, sector): (&str, usize),
    bytes: &[u8],
) -> Option<Wound> {
    let at = *platter.names.get(path)?;
    let span = span(&platter.inodes[at], sector);
    let mut wound = Wound::default();
    wound.overwrite(platter, at, span.start, &bytes[..bytes.len().min(span.len())]);
    wound.is_any().then_some(wound)
}

/// A sector cannot be read until it is written again.
pub(crate) fn spoil(platter: &mut Platter, (path, sector): (&str, usize)) -> Option<Wound> {
    let at = *platter.names.get(path)?;
    platter.inodes[at].bad.insert(sector, None);
    Some(Wound { bad: Some((at, sector)), ..Wound::default() })
}

/// One byte changes in each place of the log where these bytes stand.
pub(crate) fn flip(platter: &mut Platter, bytes: &[u8]) -> Option<Wound> {
    let is_of_log = |path: &&String| path.starts_with("wal/") && !path.starts_with("wal/lost-");
    let files: Vec<usize> =
        platter.names.iter().filter(|(path, _)| is_of_log(path)).map(|(_, &at)| at).collect();
    let mut wound = Wound::default();
    for at in files {
        let places: Vec<usize> = evidence::occurs(&platter.inodes[at].data, bytes).collect();
        for place in places {
            let middle = place + bytes.len() / 2;
            let other = [platter.inodes[at].data[middle] ^ 1];
            wound.overwrite(platter, at, middle, &other);
        }
    }
    wound.is_any().then_some(wound)
}
