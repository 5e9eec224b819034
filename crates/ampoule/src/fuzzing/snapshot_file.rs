//! Snapshot files whose digests are right, whatever is in them.

pub use crate::stored::assembled_snapshot;
