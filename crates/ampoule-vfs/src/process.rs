//! Who asks: the guest's time, and the process that `/proc/self` is about.

use crate::{Errno, File, Timestamp};

/// In whose name something is done, and when.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The guest's real-time clock. Files in memory get their times from it; those of the host from the host's clock.
    pub now: Timestamp,
    /// The process that `/proc/self` leads to.
    pub process: &'a dyn ProcessView,
}

/// What `/proc/self` shows of a process.
pub trait ProcessView {
    /// Its number.
    fn id(&self) -> u32;

    /// The numbers of its open files, in ascending order.
    fn descriptors(&self) -> Vec<u32>;

    /// What is open under a number.
    fn descriptor(&self, number: u32) -> Option<Descriptor<'_>>;

    /// The program that it runs (`/proc/self/exe`).
    fn executable(&self) -> Option<&File>;

    /// Where relative paths start (`/proc/self/cwd`).
    fn directory(&self) -> Option<&File>;

    /// Whether what is being done for it is to end, since it does not need that any more. It is asked again and again by what
    /// can take long, which fails with `EINTR` then: what it has done by that time stays.
    fn is_interrupted(&self) -> bool {
        false
    }
}

impl Context<'_> {
    /// Fails where the process does not need any more what is being done.
    pub(crate) fn check_interrupted(&self) -> Result<(), Errno> {
        if self.process.is_interrupted() { Err(Errno::EINTR) } else { Ok(()) }
    }
}

/// An open file of a process.
#[derive(Clone, Debug)]
pub enum Descriptor<'a> {
    /// A file of the virtual file system.
    File(&'a File),
    /// Something else, and what `readlink` of its place in `/proc/self/fd` gives, such as `pipe:[7]`.
    Other(Vec<u8>),
}

/// No process: `/proc/self` leads nowhere.
#[derive(Clone, Copy, Debug)]
pub struct NoProcess;

impl ProcessView for NoProcess {
    fn id(&self) -> u32 {
        0
    }

    fn descriptors(&self) -> Vec<u32> {
        Vec::new()
    }

    fn descriptor(&self, _: u32) -> Option<Descriptor<'_>> {
        None
    }

    fn executable(&self) -> Option<&File> {
        None
    }

    fn directory(&self) -> Option<&File> {
        None
    }
}
