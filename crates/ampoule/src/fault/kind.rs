//! What a guest can do to end itself.

use std::borrow::Cow;
use std::fmt;

use ampoule_abi::text::printable_name;
use ampoule_vmm::FaultAccess;
use ampoule_vmm::exception::{PAGE_FAULT, exception_name};
use linux_raw_sys::general::{
    SIGABRT, SIGALRM, SIGBUS, SIGFPE, SIGHUP, SIGILL, SIGINT, SIGKILL, SIGPIPE, SIGQUIT, SIGSEGV, SIGTERM, SIGTRAP,
    SIGUSR1, SIGUSR2,
};

use super::panic::GuestPanic;
use crate::host_memory::MapAccess;

/// What a guest did to end itself. Vectors are those of the AMD64 Architecture Programmer's Manual, volume 2, chapter 8.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FaultKind {
    /// Its stack needed more room than [`Builder::stack_size`](crate::Builder::stack_size) gives (vector 14).
    StackOverflow {
        /// The address that it touched, in the gap below the stack.
        address: u64,
    },
    /// It accessed memory that is unmapped or forbids the access (vector 14).
    PageFault {
        /// The address that it accessed.
        address: u64,
        /// The kind of access.
        access: FaultAccess,
        /// What lies at the address.
        target: FaultTarget,
    },
    /// It accessed memory of the host's that is mapped for it, in a way that the mapping does not permit (vector 14).
    MappedMemory {
        /// The address that it accessed.
        address: u64,
        /// The kind of access.
        access: FaultAccess,
        /// What the mapping is called ([`HostMapping::name`](crate::HostMapping::name)).
        mapping: String,
        /// Where the mapping begins.
        start: u64,
        /// What the guest may do there.
        permitted: MapAccess,
    },
    /// It touched a page of a file of the host's that is mapped for it, and that the file no longer has.
    LostMemory {
        /// What the mapping is called ([`HostMapping::name`](crate::HostMapping::name)): the first of those whose file was cut
        /// short.
        mapping: String,
        /// Where the mapping begins.
        start: u64,
    },
    /// It touched memory of the snapshot file that it continues from and that is [mapped](crate::SnapshotFile::mapped), and the
    /// file no longer has it.
    LostSnapshot,
    /// Any other exception of the processor.
    Exception {
        /// The exception's vector.
        vector: u8,
        /// The exception's error code, for the vectors that have one.
        error_code: Option<u64>,
    },
    /// It needed more memory than it has: it was refused some, wrote a message to standard error and aborted, with nothing
    /// in between, or its stack could not grow.
    OutOfMemory {
        /// The guest's memory in bytes; [`Builder::memory_limit`](crate::Builder::memory_limit) sets it.
        limit: u64,
        /// The panic that followed and could not unwind, because that takes memory too.
        panic: Option<GuestPanic>,
    },
    /// It panicked and could not unwind.
    Panicked(GuestPanic),
    /// It died by a signal that it was sent, by itself or by a timer of its own, as `abort` does by `SIGABRT`.
    Aborted {
        /// The Linux signal number.
        signal: i32,
    },
    /// It got a signal for which it has installed a handler, and there was no room for the handler's frame on its stack.
    SignalStack {
        /// The Linux signal number.
        signal: i32,
        /// Where the frame would have been.
        address: u64,
    },
    /// It returned from the handler of a signal, and what it left in the place of the handler's frame is nothing to continue
    /// with.
    SignalReturn {
        /// Where the frame was to be.
        address: u64,
    },
    /// It called `exit`.
    Exited {
        /// The exit status.
        code: i32,
    },
    /// It waits for something that can never happen.
    Deadlocked(EndlessWait),
    /// It returned from a system call to an address that is not its own.
    SystemCallReturn {
        /// The address.
        address: u64,
    },
    /// With an instruction of its own it used a port that only the host's stubs use.
    ForgedExit {
        /// The port.
        port: u16,
    },
    /// The processor could not deliver an exception and shut down.
    Shutdown,
    /// It left the virtual machine in a way that no guest should be able to.
    UnexpectedExit {
        /// The hypervisor's name for the exit.
        exit: &'static str,
    },
}

/// What a guest can wait for in vain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndlessWait {
    /// Another thread would have to release a lock or notify it, and there is none.
    Lock,
    /// A signal would have to arrive, and a guest gets only those of its own and of its timers, none of which is to expire.
    Signal,
    /// Files would have to become ready, and those that it has never will.
    Files,
    /// It has stopped itself, and nothing can make it continue.
    Stopped,
}

/// What lies at an address that faulted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FaultTarget {
    /// Nothing, near address zero.
    Null,
    /// Nothing.
    Unmapped,
    /// Memory of the guest that does not allow this access.
    Protected {
        /// Stores are allowed.
        writable: bool,
        /// Instruction fetches are allowed.
        executable: bool,
        /// Loads are allowed.
        readable: bool,
    },
    /// A page of a mapped file that lies behind the file's end. Linux sends `SIGBUS` for it.
    BehindFile,
    /// Memory of the host's, which no guest may access.
    Host,
}

impl FaultKind {
    /// The exception's vector, where the processor raised one.
    pub fn vector(&self) -> Option<u8> {
        match self {
            Self::StackOverflow { .. } | Self::PageFault { .. } | Self::MappedMemory { .. } => Some(PAGE_FAULT),
            Self::Exception { vector, .. } => Some(*vector),
            _ => None,
        }
    }

    /// Whether the guest ended by its own decision, so that it may have said why.
    pub(super) fn is_own_decision(&self) -> bool {
        matches!(self, Self::OutOfMemory { .. } | Self::Aborted { .. } | Self::Exited { .. })
    }

    /// The address that was accessed, where that is what went wrong.
    pub fn address(&self) -> Option<u64> {
        match self {
            Self::StackOverflow { address } | Self::PageFault { address, .. } | Self::MappedMemory { address, .. } => {
                Some(*address)
            }
            _ => None,
        }
    }
}

impl FaultKind {
    /// What happened, as part of a line.
    pub(crate) fn what(&self) -> impl fmt::Display {
        fmt::from_fn(|f| match self {
            Self::StackOverflow { address } => write!(f, "stack overflow at {address:#x}"),
            Self::PageFault { address, access, target } => write!(f, "{access} {target} {address:#x}"),
            Self::MappedMemory { address, access, mapping, start, permitted } => {
                let mapping = printable_name(mapping);
                write!(f, "{access} {address:#x}, in the {permitted} mapping of `{mapping}` at {start:#x}")
            }
            Self::LostMemory { mapping, start } => {
                write!(f, "access to what the mapping of `{}` at {start:#x} has lost", printable_name(mapping))
            }
            Self::LostSnapshot => f.write_str("access to memory that its snapshot file has lost"),
            Self::Exception { vector, error_code: Some(code) } if *code != 0 => {
                write!(f, "{} (vector {vector}, error code {code:#x})", exception_name(*vector))
            }
            Self::Exception { vector, .. } => write!(f, "{} (vector {vector})", exception_name(*vector)),
            Self::OutOfMemory { panic: Some(panic), .. } => {
                write!(f, "out of memory in a panic, {}", panic.in_a_line())
            }
            Self::OutOfMemory { panic: None, .. } => f.write_str("out of memory"),
            Self::Panicked(panic) => write!(f, "panic that could not unwind, {}", panic.in_a_line()),
            Self::Aborted { signal } if *signal == SIGABRT as i32 => write!(f, "abort ({})", SignalName(*signal)),
            Self::Aborted { signal } => write!(f, "death by {}", SignalName(*signal)),
            Self::Exited { code } => write!(f, "exit with status {code}"),
            Self::SignalStack { signal, address } => {
                write!(f, "no room at {address:#x} for the frame of its handler of {}", SignalName(*signal))
            }
            Self::SignalReturn { address } => {
                write!(f, "return from a signal's handler with no valid frame at {address:#x}")
            }
            Self::Deadlocked(wait) => f.write_str(wait.what()),
            Self::SystemCallReturn { address } => write!(f, "system call with return address {address:#x}"),
            Self::ForgedExit { port } => write!(f, "use of I/O port {port:#x} outside the host's stubs"),
            Self::Shutdown => f.write_str("the processor shut down"),
            Self::UnexpectedExit { exit } => write!(f, "unexpected exit from the virtual machine: {exit}"),
        })
    }

    /// What that usually is, or what to do about it.
    pub(super) fn hint(&self) -> Option<impl fmt::Display> {
        let hint: Cow<'static, str> = match self {
            Self::StackOverflow { .. } => "endless recursion, or `Builder::stack_size` is to give the stack more room".into(),
            Self::Exception { vector: INVALID_OPCODE, .. } => "usually a trap that the compiler puts where a program must not \
                get, or an instruction that this processor lacks"
                .into(),
            Self::Exception { vector: GENERAL_PROTECTION, .. } => {
                "usually a privileged instruction, a stray pointer to an address that no program can have, or an access \
                 that has to be aligned"
                    .into()
            }
            Self::OutOfMemory { limit, .. } => format!(
                "the guest needed more than its {}: give it less to do, raise `Builder::memory_limit`, or look for what it \
                 keeps without need",
                Size(*limit)
            )
            .into(),
            Self::Exited { .. } => "a guest waits for calls and does not exit".into(),
            Self::MappedMemory { .. } => "the application decides by `MapAccess` what a guest may do with what it maps".into(),
            Self::LostMemory { .. } | Self::LostSnapshot => "the file was cut short while it was mapped".into(),
            Self::SignalStack { .. } => {
                "its stack pointer does not lead to memory that it can write, or the stack that it has given with `sigaltstack` \
                 is too small"
                    .into()
            }
            Self::Deadlocked(wait) => wait.hint().into(),
            _ => return None,
        };
        Some(hint)
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.hint() {
            Some(hint) => write!(f, "{}; {hint}", self.what()),
            None => write!(f, "{}", self.what()),
        }
    }
}

impl EndlessWait {
    fn what(self) -> &'static str {
        match self {
            Self::Lock => "wait on a lock that no other thread can release",
            Self::Signal => "wait for a signal that never comes",
            Self::Files => "wait without a limit for files that never become ready",
            Self::Stopped => "stop by a signal",
        }
    }

    fn hint(self) -> &'static str {
        match self {
            Self::Lock => "a guest has one thread",
            Self::Signal => {
                "a guest gets no signals but its own and those of its timers, and none of these is to expire"
            }
            Self::Files => "nothing comes to a guest from outside",
            Self::Stopped => "nothing can make a guest continue",
        }
    }
}

impl fmt::Display for EndlessWait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.what(), self.hint())
    }
}

impl fmt::Display for FaultTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Null => "null pointer",
            Self::Unmapped => "unmapped address",
            Self::BehindFile => "page behind the end of a mapped file at",
            Self::Protected { readable: false, .. } => "inaccessible page at",
            Self::Protected { executable: true, .. } => "code at",
            Self::Protected { writable: false, .. } => "read-only page at",
            Self::Protected { .. } => "data at",
            Self::Host => "host memory at",
        })
    }
}

/// A number of bytes, in MiB where it is a multiple of one.
pub(super) struct Size(pub(super) u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0 >> 20, self.0 % (1 << 20)) {
            (mib @ 1.., 0) => write!(f, "{mib} MiB"),
            _ => write!(f, "{} bytes", self.0),
        }
    }
}

/// The vector of invalid opcodes.
const INVALID_OPCODE: u8 = 6;

/// The vector of general protection faults.
const GENERAL_PROTECTION: u8 = 13;

/// A Linux signal, by its number.
pub(super) struct SignalName(pub(super) i32);

impl fmt::Display for SignalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.0 as u32 {
            SIGHUP => "SIGHUP",
            SIGINT => "SIGINT",
            SIGQUIT => "SIGQUIT",
            SIGILL => "SIGILL",
            SIGTRAP => "SIGTRAP",
            SIGABRT => "SIGABRT",
            SIGBUS => "SIGBUS",
            SIGFPE => "SIGFPE",
            SIGKILL => "SIGKILL",
            SIGUSR1 => "SIGUSR1",
            SIGSEGV => "SIGSEGV",
            SIGUSR2 => "SIGUSR2",
            SIGPIPE => "SIGPIPE",
            SIGALRM => "SIGALRM",
            SIGTERM => "SIGTERM",
            _ => return write!(f, "signal {}", self.0),
        };
        f.write_str(name)
    }
}
