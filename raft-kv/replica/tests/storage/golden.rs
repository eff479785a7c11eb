//! Storage on real files.
