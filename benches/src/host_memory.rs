//! What a guest pays for memory of the host's: a mapped file against the same in a process, and a slice that is lent against one
//! that is passed.

use std::error::Error;
use std::fs::{self, File};
use std::hint::black_box;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::ptr;
use std::slice;
use std::time::Duration;

use ampoule::{Call, Image, MapAccess, Sandbox};

use crate::measure::processor_time;

pub(crate) fn measure() -> Result<(), Box<dyn Error>> {
    let image = Image::embedded(ampoule::include_guest!("memory"))?;
    files(&image)?;
    slices(&image)
}

fn files(image: &Image) -> Result<(), Box<dyn Error>> {
    let file = large_file()?;
    let mut sandbox = Sandbox::builder(image).build()?;
    let expected = sum(&Native::map(&file)?);
    let mut rows = ["map it and read the first byte", "map it and sum it", "sum it again, while it is mapped"]
        .map(|name| Row { name, native: Duration::MAX, guest: Duration::MAX });
    for _ in 0..ROUNDS {
        let start = processor_time()?;
        let native = Native::map(&file)?;
        black_box(native.bytes()[0]);
        rows[0].native = rows[0].native.min(processor_time()? - start);
        drop(native);
        let start = processor_time()?;
        let native = Native::map(&file)?;
        black_box(sum(&native));
        rows[1].native = rows[1].native.min(processor_time()? - start);
        let start = processor_time()?;
        black_box(sum(&native));
        rows[2].native = rows[2].native.min(processor_time()? - start);
        drop(native);

        let start = processor_time()?;
        let mapping = sandbox.map_file(&file, .., None, MapAccess::Read)?;
        sandbox.call::<Option<u8>>("mapped_byte", (mapping.bytes(), 0_u64))?;
        rows[0].guest = rows[0].guest.min(processor_time()? - start);
        sandbox.unmap(&mapping)?;
        let start = processor_time()?;
        let mapping = sandbox.map_file(&file, .., None, MapAccess::Read)?;
        assert_eq!(sandbox.call::<u64>("mapped_sum", (mapping.bytes(),))?, expected);
        rows[1].guest = rows[1].guest.min(processor_time()? - start);
        let start = processor_time()?;
        sandbox.call::<u64>("mapped_sum", (mapping.bytes(),))?;
        rows[2].guest = rows[2].guest.min(processor_time()? - start);
        sandbox.unmap(&mapping)?;
    }
    println!();
    println!(
        "| a file of {} MiB, in the page cache, best ms of the processor's time | `mmap` in a process | mapped in a guest | × |",
        LARGE >> 20
    );
    println!("|---|---|---|---|");
    rows.iter().for_each(Row::print);
    Ok(())
}

/// A slice of each size is passed, lent as `call_lending` chooses, and shown in place, which a mailbox without room enforces.
fn slices(image: &Image) -> Result<(), Box<dyn Error>> {
    println!();
    println!(
        "| a slice that a guest sums, best ms of the processor's time | passed as bytes | lent | × | shown in place | × |"
    );
    println!("|---|---|---|---|---|---|");
    let mut sandbox = Sandbox::builder(image).mailbox_size(65 << 20).build()?;
    let mut showing = Sandbox::builder(image).mailbox_size(64 << 10).build()?;
    for (name, len) in
        [("256 KiB", 256 << 10), ("1 MiB", 1 << 20), ("4 MiB", 4 << 20), ("16 MiB", 16 << 20), ("64 MiB", 64 << 20)]
    {
        let bytes = vec![1_u8; len];
        let mut best = [Duration::MAX; 3];
        for _ in 0..ROUNDS {
            let start = processor_time()?;
            let passed: u64 = sandbox.call("passed_sum", (&bytes[..],))?;
            best[0] = best[0].min(processor_time()? - start);
            for (sandbox, best) in [&mut sandbox, &mut showing].into_iter().zip(&mut best[1..]) {
                let start = processor_time()?;
                let lent: u64 = sandbox.call_lending([&bytes], |[lent]| Call::new("mapped_sum", (lent,)))?;
                *best = (*best).min(processor_time()? - start);
                assert_eq!((passed, lent), (len as u64, len as u64));
            }
        }
        let [passed, lent, shown] = best.map(|time| time.as_secs_f64() * 1e3);
        let ratios = [lent, shown].map(|time| time / passed);
        println!("| {name} | {passed:.3} | {lent:.3} | {:.2} | {shown:.3} | {:.2} |", ratios[0], ratios[1]);
    }
    Ok(())
}

/// The best of some times, for two ways to do the same.
struct Row {
    name: &'static str,
    native: Duration,
    guest: Duration,
}

impl Row {
    fn print(&self) {
        let [native, guest] = [self.native, self.guest].map(|time| time.as_secs_f64() * 1e3);
        println!("| {} | {native:.3} | {guest:.3} | {:.2} |", self.name, guest / native);
    }
}

fn sum(mapped: &Native) -> u64 {
    mapped.bytes().iter().map(|byte| u64::from(*byte)).sum()
}

/// A file that a process has mapped for itself.
struct Native(*mut libc::c_void);

impl Native {
    fn map(file: &File) -> io::Result<Self> {
        // SAFETY: a new mapping at an address that the kernel chooses.
        let start =
            unsafe { libc::mmap(ptr::null_mut(), LARGE, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        if start == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(Self(start)) }
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping is as long, and nobody changes or shortens the file.
        unsafe { slice::from_raw_parts(self.0.cast(), LARGE) }
    }
}

impl Drop for Native {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and no longer borrowed.
        unsafe { libc::munmap(self.0, LARGE) };
    }
}

/// A file without a name, all of which is in the page cache.
fn large_file() -> Result<File, Box<dyn Error>> {
    let path = std::env::temp_dir().join(format!("ampoule-bench-{}", std::process::id()));
    let mut file = File::options().read(true).write(true).create_new(true).open(&path)?;
    fs::remove_file(path)?;
    let piece = vec![3_u8; 1 << 20];
    for _ in 0..LARGE / piece.len() {
        file.write_all(&piece)?;
    }
    Ok(file)
}

const LARGE: usize = 1 << 30;
const ROUNDS: usize = 5;
