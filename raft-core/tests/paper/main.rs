//! The rules of the paper, one test each.
//!
//! Every test cites the sentence that it checks by its section and says the rule in its own words:
//! `§` is the extended paper ("In Search of an Understandable Consensus Algorithm"), `thesis §` the
//! thesis ("Consensus: Bridging Theory and Practice"). A file is a section, and files are read in the
//! order of the paper. Deliberately absent: client sessions (thesis §6.3), which belong to the
//! replica and not to the core.

mod figure_2_rpcs;
mod figure_2_servers;
mod peers;
mod section_5_1_terms;
mod section_5_2_election;
mod section_5_3_replication;
mod section_5_4_safety;
mod section_5_5_crashes;
mod section_6_joint;
mod section_7_compaction;
mod section_8_clients;

#[expect(dead_code, reason = "shared with tests of the core that look at more")]
#[path = "../core/support.rs"]
mod support;
mod thesis_10_2_performance;
mod thesis_3_10_transfer;
mod thesis_4_2_availability;
mod thesis_4_membership;
mod thesis_6_4_1_leases;
mod thesis_9_6_pre_vote;
