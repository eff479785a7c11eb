//! The parts that need neither sockets nor clients.

mod log_thread;
mod store;
