//! The encodings of peer messages and durable records: what they look like byte by byte, that they
//! lose nothing, and that nothing else is taken for one.

mod golden;
mod recorded;
mod recorded_strategies;
mod refusals;
mod round_trip;
mod samples;
mod strategies;
