//! What a guest can do to end itself.

use std::borrow::Cow;
use std::fmt;

use ampoule_vmm::FaultAccess;
use ampoule_vmm::exception::{PAGE_FAULT, exception_name};
use linux_raw_sys::general::{
    SIGABRT, SIGALRM, SIGBUS, SIGFPE, SIGHUP, SIGILL, SIGINT, SIGKILL, SIGPIPE, SIGQUIT, SIGSEGV, SIGTERM, SIGTRAP,
    SIGUSR1, SIGUSR2,
};

use super::panic::GuestPanic;

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
    /// It ended itself with a signal, as `abort` does.
    Aborted {
        /// The Linux signal number.
        signal: i32,
    },
    /// It sent itself a signal for which it has installed a handler, and handlers are not run in a guest.
    HandlerNotRun {
        /// The Linux signal number.
        signal: i32,
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
    /// A signal would have to arrive, and a guest gets only those that it sends itself. Timers such as `alarm` do not run.
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
    /// Memory of the host's, which no guest may access.
    Host,
}

impl FaultKind {
    /// The exception's vector, where the processor raised one.
    pub fn vector(&self) -> Option<u8> {
        match self {
            Self::StackOverflow { .. } | Self::PageFault { .. } => Some(PAGE_FAULT),
            Self::Exception { vector, .. } => Some(*vector),
            _ => None,
        }
    }

    /// Whether the guest ended by its own decision, so that it may have said why.
    pub(super) fn is_own_decision(&self) -> bool {
        matches!(
            self,
            Self::OutOfMemory { .. } | Self::Aborted { .. } | Self::HandlerNotRun { .. } | Self::Exited { .. }
        )
    }

    /// The address that was accessed, where that is what went wrong.
    pub fn address(&self) -> Option<u64> {
        match self {
            Self::StackOverflow { address } | Self::PageFault { address, .. } => Some(*address),
            _ => None,
        }
    }
}

impl FaultKind {
    /// What happened, as part of a line.
    pub(super) fn what(&self) -> impl fmt::Display {
        fmt::from_fn(|f| match self {
            Self::StackOverflow { address } => write!(f, "stack overflow at {address:#x}"),
            Self::PageFault { address, access, target } => write!(f, "{access} {target} {address:#x}"),
            Self::Exception { vector, error_code: Some(code) } if *code != 0 => {
                write!(f, "{} (vector {vector}, error code {code:#x})", exception_name(*vector))
            }
            Self::Exception { vector, .. } => write!(f, "{} (vector {vector})", exception_name(*vector)),
            Self::OutOfMemory { panic: Some(panic), .. } => {
                write!(f, "out of memory in a panic, {}", panic.in_a_line())
            }
            Self::OutOfMemory { panic: None, .. } => f.write_str("out of memory"),
            Self::Panicked(panic) => write!(f, "panic that could not unwind, {}", panic.in_a_line()),
            Self::Aborted { signal } => write!(f, "abort ({})", SignalName(*signal)),
            Self::Exited { code } => write!(f, "exit with status {code}"),
            Self::HandlerNotRun { signal } => write!(f, "{}, for which it has a handler", SignalName(*signal)),
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
            Self::HandlerNotRun { .. } => "the handlers of signals are not run in a guest".into(),
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
            Self::Signal => "a guest gets no signals but its own, and its timers do not run",
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
