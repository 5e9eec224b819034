//! Faults: what the processor does not let a guest do.

use std::fmt;

/// A guest's fault: what it did, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fault {
    /// What the guest did.
    pub kind: FaultKind,
    /// Address of the instruction (for breakpoints, of the one after it).
    pub instruction_pointer: u64,
    /// The stack pointer at that instruction.
    pub stack_pointer: u64,
}

/// What a guest did to fault. Vectors are those of the AMD64 Architecture Programmer's Manual, volume 2, chapter 8.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FaultKind {
    /// It touched memory that it has not, or not in this way (vector 14).
    PageFault {
        /// The address that it touched.
        address: u64,
        /// What it tried.
        access: FaultAccess,
        /// What lies at the address.
        target: FaultTarget,
    },
    /// Any other exception of the processor.
    Exception {
        /// The exception's vector.
        vector: u8,
        /// The exception's error code, for the vectors that have one.
        error_code: Option<u64>,
    },
    /// It returned from a system call to an address that is not its own.
    SystemCallReturn {
        /// The address.
        address: u64,
    },
    /// It used, by an instruction of its own, a port that only the host's code uses.
    ForgedExit {
        /// The port.
        port: u16,
    },
    /// The processor could not deliver an exception and shut down.
    Shutdown,
    /// It left the virtual machine in a way that no guest should be able to.
    UnexpectedExit {
        /// The hypervisor's word for the exit.
        exit: &'static str,
    },
}

/// How memory was touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultAccess {
    /// A load.
    Read,
    /// A store.
    Write,
    /// An instruction fetch.
    Execute,
}

/// What lies at an address that faulted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FaultTarget {
    /// Nothing, near address zero.
    Null,
    /// Nothing.
    Unmapped,
    /// The guard below the stack: the stack has overflowed.
    StackGuard,
    /// Memory of the guest that does not allow this access.
    Protected {
        /// Stores are allowed.
        writable: bool,
        /// Instruction fetches are allowed.
        executable: bool,
        /// Loads are allowed.
        readable: bool,
    },
    /// Memory of the host's, which no guest may touch.
    Host,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, instruction_pointer, .. } = self;
        write!(f, "guest fault: {kind}, by the instruction at {instruction_pointer:#x}")
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PageFault { target: FaultTarget::StackGuard, address, .. } => {
                write!(f, "stack overflow: the guard page at {address:#x} was touched")
            }
            Self::PageFault { address, access, target } => write!(f, "{access} {target} {address:#x}"),
            Self::Exception { vector, error_code: Some(code) } if *code != 0 => {
                write!(f, "{} (vector {vector}, error code {code:#x})", exception_name(*vector))
            }
            Self::Exception { vector, .. } => write!(f, "{} (vector {vector})", exception_name(*vector)),
            Self::SystemCallReturn { address } => write!(f, "system call with return address {address:#x}"),
            Self::ForgedExit { port } => write!(f, "use of port {port:#x}, which is not its own"),
            Self::Shutdown => f.write_str("the processor shut down"),
            Self::UnexpectedExit { exit } => write!(f, "unexpected exit from the virtual machine: {exit}"),
        }
    }
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

impl fmt::Display for FaultTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Null => "null pointer",
            Self::Unmapped => "unmapped address",
            Self::StackGuard => "stack guard at",
            Self::Protected { readable: false, .. } => "inaccessible page at",
            Self::Protected { executable: true, .. } => "code at",
            Self::Protected { writable: false, .. } => "read-only page at",
            Self::Protected { .. } => "data at",
            Self::Host => "host memory at",
        })
    }
}

impl std::error::Error for Fault {}

/// The manual's name of an exception.
fn exception_name(vector: u8) -> &'static str {
    match vector {
        0 => "divide error",
        1 => "debug exception",
        2 => "non-maskable interrupt",
        3 => "breakpoint",
        4 => "overflow",
        5 => "bound range exceeded",
        6 => "invalid opcode",
        7 => "device not available",
        8 => "double fault",
        10 => "invalid TSS",
        11 => "segment not present",
        12 => "stack-segment fault",
        13 => "general protection fault",
        14 => "page fault",
        16 => "x87 floating-point exception",
        17 => "alignment check",
        18 => "machine check",
        19 => "SIMD floating-point exception",
        21 => "control protection exception",
        29 => "VMM communication exception",
        30 => "security exception",
        _ => "reserved exception",
    }
}
