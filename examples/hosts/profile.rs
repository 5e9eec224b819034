//! Profiles the guest that makes thumbnails: where does it spend its time with this picture?
//!
//! ```text
//! cargo run --release --example profile -- PHOTO.png [TIMES]
//! ```
//!
//! It leaves `profile.folded`, `profile.pb` and `profile.svg` in the current directory.

use std::error::Error;
use std::fs::{self, File};

use ampoule::{Borrowed, Frequency, Image, Sandbox};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("usage: profile PHOTO [TIMES]")?;
    let times: u32 = arguments.next().map_or(Ok(50), |times| times.parse())?;
    let photo = fs::read(&path).map_err(|error| format!("{path}: {error}"))?;

    let image = Image::embedded(ampoule::include_guest!("thumbnail"))?;
    let mut sandbox = Sandbox::builder(&image).memory_limit(256 << 20).mailbox_size(32 << 20).build()?;
    let thumbnail = sandbox.typed_fn::<(Borrowed<[u8]>, u32), Vec<u8>>("thumbnail")?;

    sandbox.profile(Frequency::default())?;
    for _ in 0..times {
        thumbnail.call(&mut sandbox, (&photo, 160))?;
    }
    let Some(profile) = sandbox.take_profile() else { return Ok(()) };

    println!("{} samples of {:?} in the guest", profile.samples(), profile.cpu_time());
    profile.folded(File::create("profile.folded")?)?;
    profile.pprof(File::create("profile.pb")?)?;
    profile.flame_graph(File::create("profile.svg")?)?;
    Ok(())
}
