//! Why user code stops, in terms that belong to no architecture.

use std::fmt;

use crate::address::GuestVirt;
use crate::arch;

/// Why user code stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// It called the doorbell ([`DOORBELL`](crate::DOORBELL)).
    Doorbell,
    /// It made a system call.
    SystemCall(SystemCall),
    /// It accessed a page that is not mapped, or not for this access.
    PageFault(PageFault),
    /// The processor raised another exception.
    Exception(Exception),
    /// It has executed one instruction ([`Processor::set_single_step`](super::Processor::set_single_step)).
    Step,
    /// It has tried to look like the host's own code by an instruction of its own.
    Forged {
        /// The port that the instruction named.
        port: u16,
    },
    /// It was [interrupted](super::Processor::interrupter).
    Interrupted,
    /// It has written more pages than the hypervisor can list, which has made room for others. None is lost:
    /// [`collect_written`](super::WrittenPages::collect_written) has all of them.
    ManyWritten,
    /// It cannot continue.
    Ended(End),
}

/// A system call, by the convention of the architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SystemCall {
    /// What is asked for.
    pub number: u64,
    /// The arguments, meaningful or not.
    pub arguments: [u64; 6],
}

/// An access that the map of pages does not allow, or did not when the processor last looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageFault {
    /// What was accessed.
    pub address: GuestVirt,
    /// How.
    pub access: FaultAccess,
    /// Whether the guest itself has denied the access, by means of its own that the map knows nothing of.
    pub by_own_denial: bool,
}

/// How memory is accessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FaultAccess {
    /// A load.
    Read,
    /// A store.
    Write,
    /// An instruction fetch.
    Execute,
}

/// An exception of the processor, by the architecture's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exception {
    /// The architecture's number of it.
    pub vector: u8,
    /// More about it, for those exceptions that have it.
    pub error_code: Option<u64>,
}

impl Exception {
    /// Whether user code has executed a [`BREAKPOINT_INSTRUCTION`](super::BREAKPOINT_INSTRUCTION).
    pub fn is_breakpoint(&self) -> bool {
        self.vector == arch::processor::debugger::BREAKPOINT_VECTOR
    }
}

/// Why user code cannot continue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum End {
    /// The processor could not deliver an exception and shut down.
    Shutdown,
    /// The hypervisor stopped for a reason that no user code should be able to give it.
    Unexpected(&'static str),
}
impl fmt::Display for FaultAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read of",
            Self::Write => "write to",
            Self::Execute => "execution of",
        })
    }
}
