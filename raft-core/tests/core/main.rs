//! The core through its public door: one message in, the effects looked at.

mod blank;
mod cold;
mod dice;
mod disk_full;
mod elections;
mod first_light;
mod flow;
mod forwarded_reads;
mod hosting;
mod lease_histories;
mod leases;
mod membership;
mod misuse;
mod progress;
mod properties;
mod quorum_loss;
mod reads;
mod reasons;
mod recordings;
mod rejoin;
mod replication;
mod stories;
mod support;
mod transfer;
