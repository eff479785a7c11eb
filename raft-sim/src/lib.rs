//! Not yet.
#![forbid(unsafe_code)]

pub mod check;
