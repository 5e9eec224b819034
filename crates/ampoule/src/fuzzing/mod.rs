//! Entries for the fuzz targets (`fuzz/`) to what applications do not reach. They are there only under `cargo fuzz`.

mod mailbox;

pub use mailbox::mailbox;
