//! How many files the process may have open, and how many of them connections may take.
//!
//! A log that cannot open its next file has failed, and takes the node with it. So the limit is raised
//! as far as the system allows, and clients are given no more than what is left when disk and peers
//! have theirs.

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

/// The most connections of clients.
const CONNECTIONS_MAX: usize = 16_384;

/// What disk, peers and the process itself may need.
const OTHERS: usize = 512;

/// The most connections of clients that leave enough files for everything else.
pub(crate) fn connections_max() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    // If that is not allowed, what there is has to do.
    let _: Result<(), Errno> = setrlimit(Resource::Nofile, raised);
    let Some(files) = getrlimit(Resource::Nofile).current else { return CONNECTIONS_MAX };
    let connections = share(usize::try_from(files).unwrap_or(usize::MAX));
    if connections < 1000 {
        warn!(files, connections, "few files may be open: few clients are answered at a time");
    }
    connections
}

/// The share of connections in so many files: the rest, or a quarter where that is more.
fn share(files: usize) -> usize {
    files.saturating_sub(OTHERS).max(files / 4).clamp(1, CONNECTIONS_MAX)
}

/// How many of so many connections may be those of watchers, who stay for as long as they like: at most half,
/// so that there is always one for who asks something else.
pub(crate) fn watchers_max(wanted: usize, connections: usize) -> usize {
    let watchers = wanted.min(connections / 2);
    if watchers < wanted {
        warn!(watchers, connections, "few connections: fewer may watch than --max-watchers says");
    }
    watchers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disk_and_peers_keep_their_share() {
        assert_eq!(share(1 << 20), CONNECTIONS_MAX);
        assert_eq!(share(1024), 512);
        assert_eq!(share(64), 16);
        assert_eq!(share(0), 1);
    }

    #[test]
    fn who_watches_leaves_half_to_the_others() {
        assert_eq!(watchers_max(1024, share(1 << 20)), 1024);
        assert_eq!(watchers_max(1024, share(1024)), 256);
        assert_eq!(watchers_max(3, share(64)), 3);
        assert_eq!(watchers_max(1024, 1), 0);
    }
}
