//! Entries for the fuzz targets (`fuzz/`) to what applications do not reach. They are there only under `cargo fuzz`.

mod image;
mod mailbox;

pub use image::image;
pub use mailbox::mailbox;
