//! How fast streams are, against a copy of the same bytes in the host's memory.

use std::error::Error;
use std::hint::black_box;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use ampoule::{Image, Reader, Sandbox, Writer};

pub(crate) fn measure() -> Result<(), Box<dyn Error>> {
    let image = Image::embedded(ampoule::include_guest!("streams"))?;
    let source = vec![5_u8; LENGTH];
    let mut target = vec![0_u8; LENGTH];
    println!();
    println!("| {} MiB, best GiB/s | read | × `memcpy` | written | × `memcpy` |", LENGTH >> 20);
    println!("|---|---|---|---|---|");
    for (name, mailbox, at_once) in [
        ("64 KiB mailbox", 64 << 10, 64_u32 << 10),
        ("256 KiB mailbox", 256 << 10, 256 << 10),
        ("1 MiB mailbox", 1 << 20, 1 << 20),
        ("4 MiB mailbox", 4 << 20, 4 << 20),
        ("1 MiB mailbox, 4 KiB at a time", 1 << 20, 4 << 10),
    ] {
        let mut sandbox = Sandbox::builder(&image).mailbox_size(mailbox).host_fn("note", |_: String| ()).build()?;
        let [mut copied, mut read, mut written] = [Duration::MAX; 3];
        for _ in 0..ROUNDS {
            let start = Instant::now();
            black_box(&mut target[..]).copy_from_slice(black_box(&source));
            copied = copied.min(start.elapsed());
            let start = Instant::now();
            let bytes: u64 = sandbox.call("drain", (Reader::new(&source[..]), at_once))?;
            read = read.min(start.elapsed());
            let start = Instant::now();
            let produced: u64 =
                sandbox.call("produce", (LENGTH as u64, at_once, Writer::new(Into { target: &mut target, at: 0 })))?;
            written = written.min(start.elapsed());
            assert_eq!([bytes, produced], [LENGTH as u64; 2]);
        }
        let ratio = |time: Duration| time.as_secs_f64() / copied.as_secs_f64();
        println!(
            "| {name} | {:.2} | {:.1} | {:.2} | {:.1} |",
            per_second(read),
            ratio(read),
            per_second(written),
            ratio(written)
        );
    }
    Ok(())
}

/// GiB in a second.
fn per_second(time: Duration) -> f64 {
    LENGTH as f64 / f64::from(1 << 30) / time.as_secs_f64()
}

/// Memory that is written from its beginning.
struct Into<'a> {
    target: &'a mut [u8],
    at: usize,
}

impl Write for Into<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.target[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const LENGTH: usize = 64 << 20;
const ROUNDS: usize = 7;
