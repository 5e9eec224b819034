//! Profiles the memory of the guest that makes thumbnails: what takes it with this picture?
//!
//! ```text
//! cargo run --release --example memory_profile -- PHOTO.png
//! ```
//!
//! It leaves `memory.folded`, `memory.pb` and `memory.svg` in the current directory.

use std::error::Error;
use std::fs::{self, File};

use ampoule::{Borrowed, Image, MemoryMeasure, Sandbox};

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("usage: memory_profile PHOTO")?;
    let photo = fs::read(&path).map_err(|error| format!("{path}: {error}"))?;

    let image = Image::embedded(ampoule::include_guest!("thumbnail"))?;
    let mut sandbox = Sandbox::builder(&image).memory_limit(256 << 20).mailbox_size(32 << 20).build()?;
    let thumbnail = sandbox.typed_fn::<(Borrowed<[u8]>, u32), Vec<u8>>("thumbnail")?;

    sandbox.profile_memory();
    thumbnail.call(&mut sandbox, (&photo, 160))?;
    let Some(profile) = sandbox.take_memory_profile() else { return Ok(()) };

    for measure in [MemoryMeasure::Live, MemoryMeasure::Peak, MemoryMeasure::Total] {
        println!("{measure:?}: {} bytes in {} blocks", profile.bytes(measure), profile.blocks(measure));
    }
    profile.folded(MemoryMeasure::Peak, File::create("memory.folded")?)?;
    profile.pprof(File::create("memory.pb")?)?;
    profile.flame_graph(MemoryMeasure::Peak, File::create("memory.svg")?)?;
    Ok(())
}
