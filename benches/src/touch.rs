//! What the first write to a page of memory costs a guest, against what it costs a process on the same machine.

use std::error::Error;
use std::io;
use std::ptr;
use std::time::Duration;

use ampoule::{Image, Sandbox, Snapshot};
use ampoule_vmm::PAGE_SIZE;

use crate::measure::processor_time;

pub(crate) fn measure() -> Result<(), Box<dyn Error>> {
    let image = Image::embedded(ampoule::include_guest!("memory"))?;
    let mut origin = Sandbox::builder(&image).build()?;
    origin.call::<()>("empty", ())?;
    let untouched = origin.snapshot()?;
    origin.call::<()>("touch", (FAR, PAGES, 1_u8))?;
    let touched = origin.snapshot()?;

    let mut native = Row::new("memory of a process (native)");
    let mut fresh = Row::new("memory of a spawned guest");
    let mut reset = Row::new("the same after a reset");
    let mut given_back = Row::new("the same after the guest has given it back");
    let mut frozen = Row::new("memory of the snapshot, in a spawned guest");
    for _ in 0..ROUNDS {
        native.add(touch_natively()?);
        let mut guest = spawn(&untouched)?;
        fresh.add(touch(&mut guest, "touch")?);
        guest.reset()?;
        reset.add(touch(&mut guest, "touch")?);
        // Maps other memory in place of what it has used.
        given_back.add(touch(&mut guest, "touch")?);
        frozen.add(touch(&mut spawn(&touched)?, "touch_again")?);
    }
    let floor = native.best.as_secs_f64();
    println!();
    println!("| first write to each of {PAGES} pages | best µs a page | × native |");
    println!("|---|---|---|");
    for Row { name, best } in [native, fresh, reset, given_back, frozen] {
        let best = best.as_secs_f64();
        println!("| {name} | {:.2} | {:.2} |", best * 1e6 / PAGES as f64, best / floor);
    }
    Ok(())
}

/// The shortest of some times.
struct Row {
    name: &'static str,
    best: Duration,
}

impl Row {
    fn new(name: &'static str) -> Self {
        Self { name, best: Duration::MAX }
    }

    fn add(&mut self, time: Duration) {
        self.best = self.best.min(time);
    }
}

/// A sandbox whose first call is over.
fn spawn(snapshot: &Snapshot) -> Result<Sandbox, Box<dyn Error>> {
    let mut sandbox = snapshot.builder().build()?;
    sandbox.call::<()>("empty", ())?;
    Ok(sandbox)
}

/// How long a call takes that does nothing else.
fn touch(sandbox: &mut Sandbox, function: &str) -> Result<Duration, Box<dyn Error>> {
    let start = processor_time()?;
    sandbox.call::<()>(function, (FAR, PAGES, 1_u8))?;
    Ok(processor_time()? - start)
}

/// The same in this process: pages of the ordinary size, mapped and written.
fn touch_natively() -> io::Result<Duration> {
    let len = PAGES as usize * PAGE_SIZE;
    let start = processor_time()?;
    // SAFETY: an anonymous mapping at an address of the kernel's choice touches nothing that exists.
    let pages = unsafe {
        libc::mmap(
            ptr::null_mut(),
            len,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if pages == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the mapping is new; the call changes nothing that can be read.
    unsafe { libc::madvise(pages, len, libc::MADV_NOHUGEPAGE) };
    for at in (0..len).step_by(PAGE_SIZE) {
        // SAFETY: the mapping is new, writable, and `len` bytes long.
        unsafe { pages.cast::<u8>().add(at).write_volatile(1) };
    }
    let time = processor_time()? - start;
    // SAFETY: the mapping is ours, and nothing refers to it any more.
    unsafe { libc::munmap(pages, len) };
    Ok(time)
}

/// 16 MiB.
const PAGES: u64 = 4096;

/// Where the guest maps nothing else.
const FAR: u64 = 0x10_0000_0000;

/// How often the rows take turns.
const ROUNDS: usize = 25;
