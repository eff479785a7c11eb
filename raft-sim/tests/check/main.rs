//! What the checker must notice, and what it must let pass.

mod clients;
mod elections;
mod logs;
mod story;
