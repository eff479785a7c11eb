//! The guide: how to host a node, and a page on each feature.
//!
//! Read [`hosting`] and [`effects`] before you write a host; the others when you need them. If you
//! know another library, start with [`coming_from`]. The examples run as tests. Most of them move
//! a whole cluster in one thread, which is shown at the end of [`testing`].
//!
//! Deliberately absent: how the rules work inside. That is the essay at the root and the source.

#[doc = include_str!("../docs/hosting.md")]
#[doc = "```"]
#[doc = include_str!("../docs/host.rs")]
#[doc = "```"]
#[doc = include_str!("../docs/hosting_rules.md")]
#[doc = "```"]
#[doc = include_str!("../docs/start.rs")]
#[doc = "```"]
pub mod hosting {}

#[doc = include_str!("../docs/effects.md")]
pub mod effects {}

#[doc = include_str!("../docs/elections.md")]
pub mod elections {}

#[doc = include_str!("../docs/replication.md")]
pub mod replication {}

#[doc = include_str!("../docs/membership.md")]
pub mod membership {}

#[doc = include_str!("../docs/transfer.md")]
pub mod transfer {}

#[doc = include_str!("../docs/reads.md")]
pub mod reads {}

#[doc = include_str!("../docs/snapshots.md")]
pub mod snapshots {}

#[doc = include_str!("../docs/limits.md")]
pub mod limits {}

#[doc = include_str!("../docs/quorum_loss.md")]
pub mod quorum_loss {}

#[doc = include_str!("../docs/damage.md")]
pub mod damage {}

#[doc = include_str!("../docs/observing.md")]
pub mod observing {}

#[doc = include_str!("../docs/testing.md")]
///
/// # The cluster of these examples
///
/// ```
#[doc = include_str!("../docs/cluster.rs")]
/// # fn main() { Cluster::new(&[1, 2, 3]).elect(1); }
/// ```
pub mod testing {}

#[doc = include_str!("../docs/coming_from.md")]
pub mod coming_from {}
