//! Entries for the fuzz targets (`fuzz/`) to what applications do not reach. They are there only under `cargo fuzz`.

mod address_space;
mod dynamic;
mod image;
mod mailbox;
mod snapshot_file;
mod system_calls;

pub use address_space::address_space;
pub use ampoule_vmm::address_map;
pub use dynamic::{dynamic_argument, dynamic_value};
pub use image::image;
pub use mailbox::mailbox;
pub use snapshot_file::assembled_snapshot;
pub use system_calls::system_calls;

/// Up to `len` bytes.
fn take<'a>(rest: &mut &'a [u8], len: usize) -> &'a [u8] {
    let (taken, more) = rest.split_at(len.min(rest.len()));
    *rest = more;
    taken
}
