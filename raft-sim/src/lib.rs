//! Not yet.
#![forbid(unsafe_code)]
