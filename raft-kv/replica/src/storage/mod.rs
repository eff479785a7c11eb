//! Storage on a [`crate::disk::Disk`].

pub mod work;
