//! The core through its public door: one message in, the effects looked at.

mod first_light;
mod stories;
mod support;
