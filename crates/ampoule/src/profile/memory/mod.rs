//! Memory profiles: which calls of a guest have allocated its memory.
//!
//! [`Allocations`] belongs to a machine whose guest is profiled, and keeps the accounts. A [`MemoryProfile`] is what they are at
//! one moment.

mod allocations;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use ampoule_symbols::Frame;

#[cfg(feature = "flame-graph")]
use super::flame_graph::{self, Legend};
use super::named::Named;
use super::stacks::Stacks;
use super::{folded, pprof};
use crate::image::Executable;
use crate::libraries::Libraries;

pub(crate) use allocations::{Allocations, LiveBlocks};
use allocations::{Amount, Unassigned};

/// Which calls have allocated a guest's memory; made by [`Sandbox::profile_memory`](crate::Sandbox::profile_memory).
///
/// It has every block that the guest's allocator has given out since the profile began, by the calls that asked for it, and three
/// [measures](MemoryMeasure) of them: what was live in the end, what was live when that was most, and all together. A block
/// has the size that was asked for; what the allocator itself needs is not in it. A block that has grown or shrunk is another
/// one from then on, allocated by the call that has resized it.
///
/// A profile is written in three forms, as often as one likes. Names are looked up while it is written, which takes
/// milliseconds. All text that comes from the guest's image is of bounded length and printable.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let image = ampoule::Image::from_file("guest")?;
/// use std::fs::File;
///
/// use ampoule::MemoryMeasure;
///
/// let mut sandbox = ampoule::Sandbox::builder(&image).profile_memory().build()?;
/// sandbox.call::<()>("work", ())?;
/// let profile = sandbox.take_memory_profile().expect("it was begun");
/// println!("{} bytes at most", profile.bytes(MemoryMeasure::Peak));
/// profile.flame_graph(MemoryMeasure::Peak, File::create("peak.svg")?)?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct MemoryProfile {
    executable: Executable,
    stacks: Stacks<Measured>,
    all: Measured,
    unassigned: Unassigned,
    began: SystemTime,
    duration: Duration,
}

/// What is measured of a guest's blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MemoryMeasure {
    /// Blocks that have not been freed.
    Live,
    /// Blocks that were live at the moment at which their bytes were most.
    Peak,
    /// All blocks.
    Total,
}

/// The blocks of a stack, or of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Measured {
    live: Amount,
    peak: Amount,
    total: Amount,
}

impl MemoryProfile {
    /// The bytes of the blocks.
    pub fn bytes(&self, measure: MemoryMeasure) -> u64 {
        self.all.of(measure).bytes
    }

    /// How many blocks there are.
    pub fn blocks(&self, measure: MemoryMeasure) -> u64 {
        self.all.of(measure).blocks
    }

    /// How many of all blocks have lost callers, since a stack was deeper than 128 calls. The outermost function of their stacks
    /// is `[truncated]`.
    pub fn truncated_blocks(&self) -> u64 {
        self.stacks.iter().filter(|(stack, _)| stack.is_truncated).map(|(_, measured)| measured.total.blocks).sum()
    }

    /// How many of all blocks have no stack, since there were more than 16,384 different ones. They are under the one function
    /// `[other stacks]`.
    pub fn blocks_without_stack(&self) -> u64 {
        self.stacks.others().total.blocks
    }

    /// How many of all blocks are neither among those that are live nor among those of the peak, whether they were freed or not,
    /// since 1,048,576 others were live.
    pub fn untracked_blocks(&self) -> u64 {
        self.unassigned.untracked
    }

    /// How often the guest has freed a block that the profile does not know to be live: one that was allocated before the profile
    /// began, or is [untracked](Self::untracked_blocks).
    pub fn unknown_frees(&self) -> u64 {
        self.unassigned.frees
    }

    /// Writes the *folded stacks* that the tools for flame graphs read: a line for each stack with its functions, outermost first
    /// and separated by `;`, and, after a space, the bytes of its blocks. A `;` in a name becomes a `:`.
    ///
    /// # Errors
    /// What the writer reports.
    pub fn folded(&self, measure: MemoryMeasure, mut to: impl Write) -> io::Result<()> {
        folded::write(&[self.named()], |measured: Measured| measured.of(measure).bytes, &mut to)
    }

    /// Writes the format of pprof (`profile.proto`), without compression, which `pprof` and everything that is compatible with it
    /// reads. Every stack has blocks and bytes of all measures: `alloc_objects` and `alloc_space` are the total, `inuse_objects`
    /// and `inuse_space` what is live, as in the profiles of Go, and `peak_objects` and `peak_space` the peak.
    ///
    /// # Errors
    /// What the writer reports.
    pub fn pprof(&self, mut to: impl Write) -> io::Result<()> {
        let header = pprof::Header {
            values: [
                ("alloc_objects", "count"),
                ("alloc_space", "bytes"),
                ("peak_objects", "count"),
                ("peak_space", "bytes"),
                ("inuse_objects", "count"),
                ("inuse_space", "bytes"),
            ],
            shown_first: "inuse_space",
            began: self.began,
            duration: self.duration,
            // Every byte is in it.
            period: ("space", "bytes", 1),
        };
        let values = |Measured { live, peak, total }| {
            [total.blocks, total.bytes, peak.blocks, peak.bytes, live.blocks, live.bytes]
        };
        to.write_all(&pprof::encode(&header, &[self.named()], values))
    }

    /// Draws a flame graph, as an SVG image with a search that works in a browser: the wider a function, the more bytes the blocks
    /// have that it and what it calls have allocated.
    ///
    /// # Errors
    /// What the writer reports.
    #[cfg(feature = "flame-graph")]
    pub fn flame_graph(&self, measure: MemoryMeasure, to: impl Write) -> io::Result<()> {
        let title = match measure {
            MemoryMeasure::Live => "Live memory",
            MemoryMeasure::Peak => "Memory at its peak",
            MemoryMeasure::Total => "Allocated memory",
        };
        let legend = Legend { title, unit: "bytes", nothing: "[no blocks]" };
        flame_graph::draw(&legend, &[self.named()], |measured: Measured| measured.of(measure).bytes, to)
    }

    fn named(&self) -> Named<'_, Measured> {
        // A guest reports only what its own library allocates.
        Named::new((&self.executable, Libraries::none()), &self.stacks, is_of_allocator)
    }
}

impl Measured {
    fn of(&self, measure: MemoryMeasure) -> Amount {
        match measure {
            MemoryMeasure::Live => self.live,
            MemoryMeasure::Peak => self.peak,
            MemoryMeasure::Total => self.total,
        }
    }
}

impl fmt::Debug for MemoryProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryProfile")
            .field("live", &self.all.live)
            .field("peak", &self.all.peak)
            .field("total", &self.all.total)
            .finish_non_exhaustive()
    }
}

/// Whether a function only leads from what allocates to what reports it: the guest library's, and what the compiler makes of a
/// global allocator.
///
/// Debug information of source lines only has no more than the last part of the name of an inlined function, but its file.
fn is_of_allocator(frame: &Frame) -> bool {
    is_name_of_allocator(frame.function.as_deref().unwrap_or_default())
        || frame.file.as_deref().is_some_and(is_file_of_allocator)
}

fn is_name_of_allocator(name: &str) -> bool {
    let last = name.rsplit("::").next().unwrap_or(name);
    matches!(last, "__rust_alloc" | "__rust_alloc_zeroed" | "__rust_realloc")
        || name.starts_with("ampoule_guest::rt::allocations::")
        || name.starts_with("<ampoule_guest::allocator::Profiled")
}

/// The crate may have its version behind its name.
fn is_file_of_allocator(file: &str) -> bool {
    let within = file.rsplit_once("/src/").filter(|(package, _)| package.contains("ampoule-guest"));
    within.is_some_and(|(_, file)| matches!(file, "allocator.rs" | "rt/allocations.rs"))
}
