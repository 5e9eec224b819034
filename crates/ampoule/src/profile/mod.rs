//! Profiles: in which functions a guest spends its time, which of them allocate its [memory], and what calls them.
//!
//! A [`Recorder`] belongs to a machine whose guest is profiled. It counts samples by their call stacks, as addresses and within
//! [bounds](stacks). Only when a [`Profile`] is written, those get their names, each once.

mod error;
#[cfg(feature = "flame-graph")]
mod flame_graph;
mod folded;
mod frequency;
mod memory;
mod named;
mod pprof;
mod protobuf;
mod recorder;
mod stacks;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use crate::image::Executable;
use crate::libraries::Libraries;
#[cfg(feature = "flame-graph")]
use flame_graph::Legend;
use named::Named;
use stacks::{Stacks, Worth};

pub use error::ProfileError;
pub use frequency::Frequency;
pub(crate) use memory::{Allocations, LiveBlocks};
pub use memory::{MemoryMeasure, MemoryProfile};
pub(crate) use recorder::Recorder;
pub(crate) use stacks::{MAX_DEPTH, Whereabouts};

/// Where guests have spent their CPU time, by the calls that led there; made by [`Sandbox::profile`](crate::Sandbox::profile).
///
/// A sample says where the guest was at one moment, with all its callers, and stands for the CPU time of the calling thread
/// since the sample before it, calls of the same sandbox only. So the times add up to what the calls have used, and a guest
/// that sleeps, or whose thread waits for a processor, takes none. Where the host worked on the guest's behalf, the innermost
/// function is one of these, and its caller is the guest's function that has asked for it:
///
/// - `[host function]`: a function of the application,
/// - `[system call]`: a system call, or what the guest had printed was passed on,
/// - `[sleep]`: a system call that waits.
///
/// A profile is written in three forms, as often as one likes. Names are looked up while it is written, which takes
/// milliseconds. All text that comes from the guest's image is of bounded length and printable.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let image = ampoule::Image::from_file("guest")?;
/// # let mut sandbox = ampoule::Sandbox::builder(&image).build()?;
/// use std::fs::File;
///
/// use ampoule::Frequency;
///
/// sandbox.profile(Frequency::default())?;
/// sandbox.call::<()>("work", ())?;
/// let profile = sandbox.take_profile().expect("it was begun");
/// profile.pprof(File::create("guest.pb")?)?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Profile {
    /// One for each executable with its libraries. Profiles of sandboxes of the same image share one.
    parts: Vec<Part>,
    began: SystemTime,
    duration: Duration,
    frequency: Frequency,
}

/// What was sampled of the guests of one executable.
#[derive(Clone)]
struct Part {
    executable: Executable,
    libraries: Libraries,
    stacks: Stacks<Worth>,
}

impl Profile {
    fn new(part: Part, (began, duration): (SystemTime, Duration), frequency: Frequency) -> Self {
        Self { parts: vec![part], began, duration, frequency }
    }

    /// How many samples there are.
    pub fn samples(&self) -> u64 {
        self.total().samples
    }

    /// The CPU time that they stand for.
    pub fn cpu_time(&self) -> Duration {
        self.total().cpu_time
    }

    /// How many of the samples have lost callers, since a stack was deeper than 128 calls. The outermost function of their stacks
    /// is `[truncated]`.
    pub fn truncated_samples(&self) -> u64 {
        let stacks = self.parts.iter().flat_map(|part| part.stacks.iter());
        stacks.filter(|(stack, _)| stack.is_truncated).map(|(_, worth)| worth.samples).sum()
    }

    /// How many of the samples have no stack, since there were more than 16,384 different ones. They are under the one function
    /// `[other stacks]`.
    pub fn samples_without_stack(&self) -> u64 {
        self.parts.iter().map(|part| part.stacks.others().samples).sum()
    }

    /// Adds the samples of another profile: of another sandbox, or of another time. The bounds are those of one profile for each
    /// image.
    pub fn merge(&mut self, other: Profile) {
        self.began = self.began.min(other.began);
        self.duration += other.duration;
        for other in other.parts {
            let is_same =
                |part: &&mut Part| part.executable.is(&other.executable) && part.libraries.agree_with(&other.libraries);
            match self.parts.iter_mut().find(is_same) {
                Some(part) => {
                    part.libraries.merge(other.libraries);
                    part.stacks.merge(other.stacks);
                }
                None => self.parts.push(other),
            }
        }
    }

    /// Writes the *folded stacks* that the tools for flame graphs read: a line for each stack with its functions, outermost first
    /// and separated by `;`, and, after a space, its CPU time in microseconds. A `;` in a name becomes a `:`.
    ///
    /// # Errors
    /// What the writer reports.
    pub fn folded(&self, mut to: impl Write) -> io::Result<()> {
        folded::write(&self.named(), microseconds, &mut to)
    }

    /// Writes the format of pprof (`profile.proto`), without compression, which `pprof` and everything that is compatible with it
    /// reads. Every stack has two values: `samples`, and `cpu` in nanoseconds.
    ///
    /// # Errors
    /// What the writer reports.
    pub fn pprof(&self, mut to: impl Write) -> io::Result<()> {
        let header = pprof::Header {
            values: [("samples", "count"), ("cpu", "nanoseconds")],
            shown_first: "cpu",
            began: self.began,
            duration: self.duration,
            period: ("cpu", "nanoseconds", self.frequency.period().as_nanos() as u64),
        };
        let values = |worth: Worth| [worth.samples, worth.cpu_time.as_nanos() as u64];
        to.write_all(&pprof::encode(&header, &self.named(), values))
    }

    /// Draws a flame graph, as an SVG image with a search that works in a browser: the wider a function, the more CPU time was
    /// spent in it and in what it calls.
    ///
    /// # Errors
    /// What the writer reports.
    #[cfg(feature = "flame-graph")]
    pub fn flame_graph(&self, to: impl Write) -> io::Result<()> {
        let legend = Legend { title: "CPU time", unit: "µs", nothing: "[no samples]" };
        flame_graph::draw(&legend, &self.named(), microseconds, to)
    }

    fn total(&self) -> Worth {
        self.parts.iter().map(|part| part.stacks.total()).sum()
    }

    fn named(&self) -> Vec<Named<'_, Worth>> {
        self.parts.iter().map(|part| Named::new((&part.executable, &part.libraries), &part.stacks, |_| false)).collect()
    }
}

fn microseconds(worth: Worth) -> u64 {
    worth.cpu_time.as_micros() as u64
}

impl fmt::Debug for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Profile")
            .field("samples", &self.samples())
            .field("cpu_time", &self.cpu_time())
            .finish_non_exhaustive()
    }
}
