//! What servers say of themselves: whether one that has ended had a reason to, and what none may ever say.

/// Why a server may end although nobody has asked it to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Excuse {
    /// Its disk was full, or had lost something, and a write or a read has failed.
    DiskFailed,
    /// A bit of its disk had flipped, and it does not start on what it finds there.
    Refused,
}

/// What the last line of a program that gives up begins with.
const COMPLAINT: &str = "raft-kv: ";

/// The excuse of a server that has said this in its life; `None`: it has none.
pub(crate) fn excuse(said: &str, was_full: bool, was_hurt: bool) -> Option<Excuse> {
    if confession(said).is_some() {
        return None;
    }
    let why = said.lines().rev().find_map(|line| line.strip_prefix(COMPLAINT))?;
    if why.starts_with("the disk has failed") && (was_full || was_hurt) {
        return Some(Excuse::DiskFailed);
    }
    let refuses = why.starts_with("the storage cannot be used") || why.contains(" is damaged: ");
    (refuses && was_hurt).then_some(Excuse::Refused)
}

/// The first line of a log that nobody may ever write.
pub(crate) fn confession(log: &str) -> Option<&str> {
    let is_one =
        |line: &&str| line.contains("panicked at") || line.contains("assumptions are broken");
    log.lines().find(is_one)
}

/// How many broken assumptions a page of metrics counts.
pub(crate) fn violations(page: &str) -> Option<u64> {
    let value = |line: &str| line.strip_prefix("raft_kv_violations_total ")?.trim().parse().ok();
    page.lines().find_map(value)
}

/// The last line.
pub(crate) fn last_line(said: &str) -> &str {
    said.lines().next_back().unwrap_or("it has said nothing")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_ends_needs_a_reason_that_it_was_given() {
        let failed = "INFO leader\nraft-kv: the disk has failed: wal/3: no space left\n";
        assert_eq!(excuse(failed, true, false), Some(Excuse::DiskFailed));
        assert_eq!(excuse(failed, false, true), Some(Excuse::DiskFailed));
        assert_eq!(excuse(failed, false, false), None, "nothing was wrong with it");
        let refused = "raft-kv: the storage cannot be used: both copies of the identity\n";
        assert_eq!(excuse(refused, false, true), Some(Excuse::Refused));
        assert_eq!(excuse(refused, true, false), None);
        assert_eq!(excuse("raft-kv: the node has panicked\n", true, true), None);
        assert_eq!(excuse("INFO leader\n", true, true), None, "it has not said why");
        let both = format!("thread 'raft-log' panicked at src/x.rs:1:1:\n{failed}");
        assert_eq!(excuse(&both, true, true), None, "a panic has no excuse");
    }

    #[test]
    fn what_nobody_may_say_is_found() {
        let panic = "INFO a\nthread 'raft-node' panicked at src/driver.rs:7:9:\nINFO b";
        assert_eq!(confession(panic), Some("thread 'raft-node' panicked at src/driver.rs:7:9:"));
        assert!(confession("ERROR the protocol's assumptions are broken violation=X").is_some());
        assert_eq!(confession("INFO role=Leader\nWARN cannot reach the peer"), None);
    }

    #[test]
    fn broken_assumptions_are_read_off_the_metrics() {
        let page = "# TYPE raft_kv_violations counter\nraft_kv_violations_total 3\n# EOF\n";
        assert_eq!(violations(page), Some(3));
        assert_eq!(violations("# EOF\n"), None);
    }
}
