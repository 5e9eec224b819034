//! Makes thumbnails of pictures that are not to be trusted: the decoder runs in the guest, the host only reads and writes
//! the files. A picture that cannot be decoded is reported, and the next one is tried.
//!
//! ```text
//! cargo run --release --example thumbnail -- PHOTO.png OUT.png [PHOTO.jpg OUT.png]...
//! ```

use std::error::Error;
use std::fs;
use std::process::ExitCode;

use ampoule::{Borrowed, Image, Sandbox};

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let paths: Vec<String> = std::env::args().skip(1).collect();
    if paths.is_empty() || !paths.len().is_multiple_of(2) {
        eprintln!("usage: thumbnail PHOTO OUT.png [PHOTO OUT.png]...");
        return Ok(ExitCode::from(2));
    }

    let image = Image::embedded(ampoule::include_guest!("thumbnail"))?;
    let mut sandbox = Sandbox::builder(&image).memory_limit(256 << 20).mailbox_size(32 << 20).build()?;
    let thumbnail = sandbox.typed_fn::<(Borrowed<[u8]>, u32), Vec<u8>>("thumbnail")?;

    let mut failed = false;
    for pair in paths.chunks_exact(2) {
        let (input, output) = (&pair[0], &pair[1]);
        let photo = fs::read(input).map_err(|error| format!("{input}: {error}"))?;
        match thumbnail.call(&mut sandbox, (&photo, LONGEST_SIDE)) {
            Ok(png) => {
                fs::write(output, &png).map_err(|error| format!("{output}: {error}"))?;
                println!("{input}: {} bytes -> {output}: {} bytes", photo.len(), png.len());
            }
            Err(error) if !error.poisons() => {
                eprintln!("{input}: {error}");
                failed = true;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Pixels of a thumbnail's longer side.
const LONGEST_SIDE: u32 = 160;
