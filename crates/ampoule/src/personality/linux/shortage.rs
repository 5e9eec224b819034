//! Whether a program aborts because it was refused memory.
//!
//! Programs that do not handle a refusal all end in the same way, whatever language they are written in: they report it on
//! standard error and abort. One that handles it continues instead: with another system call, with memory that it does get,
//! with a call of the host, or with work that leads to an abort without a message.

use crate::address_space::AddressSpace;
use crate::personality::{Outcome, Streams, SystemCall};

use super::errno::Errno;
use super::numbers as nr;

/// What has happened since memory was last refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shortage {
    /// None was refused, or the program has continued since.
    None,
    /// Nothing has happened but what belongs to an abort.
    Refused {
        /// Bytes that the call had printed to standard error by then.
        printed: u64,
    },
}

impl Shortage {
    /// Records a system call that was served with this outcome.
    pub(super) fn note(&mut self, call: &SystemCall, outcome: Outcome, space: &AddressSpace, streams: &dyn Streams) {
        if space.ran_out_of_memory() && is_refusal(call, outcome) {
            *self = Self::Refused { printed: streams.printed_to_stderr() };
        } else if !belongs_to_abort(call.number) {
            *self = Self::None;
        }
    }

    /// Whether an abort that comes now is due to the refusal.
    pub(super) fn explains_abort(self, streams: &dyn Streams) -> bool {
        match self {
            Self::None => false,
            Self::Refused { printed } => streams.printed_to_stderr() > printed,
        }
    }
}

fn is_refusal(call: &SystemCall, outcome: Outcome) -> bool {
    match call.number {
        // Returns where the heap ends, whether it was moved or not.
        nr::BRK => outcome != Outcome::Return(call.arguments[0]),
        nr::MMAP | nr::MREMAP | nr::MPROTECT => outcome == Outcome::Return(Errno::ENOMEM.result()),
        _ => false,
    }
}

/// Whether a C library makes such a system call to abort, or to write to standard error, for which not all use the output
/// area.
fn belongs_to_abort(number: u64) -> bool {
    matches!(
        number,
        nr::WRITE
            | nr::WRITEV
            | nr::RT_SIGPROCMASK
            | nr::RT_SIGACTION
            | nr::GETPID
            | nr::GETTID
            | nr::KILL
            | nr::TKILL
            | nr::TGKILL
    )
}
