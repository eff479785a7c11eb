//! What a start found on the disk that a clean stop does not leave there: told, and counted by kind.

use raft_replica::storage::{Finding, Report};
use tracing::{info, warn};

use crate::metrics::Metrics;

/// How many lines there are at most of losses, and of all else.
const LINES_MAX: usize = 50;

/// Tells people, and counts.
pub(crate) fn tell(report: &Report, metrics: &Metrics) {
    metrics.found(report);
    let (losses, others): (Vec<_>, Vec<_>) =
        report.findings.iter().partition(|finding| finding.what.is_loss());
    for Finding { file, what } in losses.iter().take(LINES_MAX) {
        warn!(file, %what, "the disk has lost what was durable");
    }
    for Finding { file, what } in others.iter().take(LINES_MAX) {
        info!(file, %what, "found on the disk");
    }
    let more = |lines: &Vec<_>| lines.len().saturating_sub(LINES_MAX);
    let more = more(&losses) + more(&others);
    if more > 0 {
        warn!(more, "and so on: raft-inspect lists everything while the server does not run");
    }
}
