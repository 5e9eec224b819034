//! Core dumps: of a sandbox whose guest has ended, of one between two calls, of a snapshot.

use std::io::Write;

use super::condition::{Condition, Poison};
use super::{Sandbox, Snapshot};
use crate::core_dump::{CoreDumpError, CoreDumps};

impl Sandbox {
    /// Where core dumps go of a guest that ends from now on; `None` for none. See
    /// [`Builder::core_dumps`](crate::Builder::core_dumps).
    pub fn set_core_dumps(&mut self, dumps: Option<CoreDumps>) {
        self.core_dumps = dumps;
    }

    /// Writes a core dump of the guest as it is now: waiting for a call, or, where it has ended and the sandbox is poisoned,
    /// as it was then. Debuggers open it together with the image: `gdb image core`.
    ///
    /// It is written from front to back in pieces of at most 64 KiB, or of a few MiB where the guest has its memory in tens of
    /// thousands of mappings. It takes as much room as the pages that do not hold zeros. What matters most comes first, as
    /// [`CoreDumps::size_limit`] says, so a file that was cut short is still of use.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let image = ampoule::Image::from_file("guest")?;
    /// # let mut sandbox = ampoule::Sandbox::builder(&image).build()?;
    /// sandbox.core_dump(std::fs::File::create_new("guest.core")?)?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`CoreDumpError::Write`], [`CoreDumpError::Hypervisor`], and [`CoreDumpError::UnknownState`] after a restore that has
    /// failed. The sandbox is as it was.
    pub fn core_dump(&mut self, mut sink: impl Write) -> Result<(), CoreDumpError> {
        let ended = match &self.condition {
            Condition::Poisoned(Poison::RestoreFailed(_)) => return Err(CoreDumpError::UnknownState),
            Condition::Poisoned(Poison::Ended(cause)) => Some(cause),
            Condition::Poisoned(_) | Condition::Ready => None,
        };
        self.conversation.machine_mut().core_dump(ended, u64::MAX, &mut sink).map(drop)
    }
}

impl Snapshot {
    /// Writes a core dump of the guest as it was when the snapshot was taken, waiting for a call; see
    /// [`Sandbox::core_dump`]. The memory that host and guest share for their messages is not in it: a snapshot does not hold
    /// it.
    ///
    /// # Errors
    /// [`CoreDumpError::Write`].
    pub fn core_dump(&self, mut sink: impl Write) -> Result<(), CoreDumpError> {
        self.checkpoint().core_dump(self.image().executable(), &mut sink).map(drop)
    }
}
