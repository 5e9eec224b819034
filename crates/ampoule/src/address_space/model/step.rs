//! What can happen to an address space.

use ampoule_vmm::{FaultAccess, GuestVirt};

use super::shared;
use super::{MapShared, TestFile};
use crate::address_space::{AddressSpace, MapError, Movement, Placement, Protection};

/// A step. A checkpoint is named by any number; where there is none, nothing happens.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Operation(Operation),
    Checkpoint,
    Restore {
        checkpoint: usize,
    },
    /// The call is interrupted when the change has asked so often whether it is, and a restore follows.
    Interrupt {
        change: Change,
        allowed: u64,
        checkpoint: usize,
    },
    /// Another space is made from a checkpoint, in place of this one where there are many.
    Spawn {
        checkpoint: usize,
    },
    DropCheckpoint {
        checkpoint: usize,
    },
}

/// What guest and host do to one address space.
#[derive(Clone, Debug)]
pub(crate) enum Operation {
    Change(Change),
    MoveHeapEnd {
        to: GuestVirt,
    },
    /// The processor reports a page fault.
    Fault {
        at: GuestVirt,
        access: FaultAccess,
    },
    /// The guest itself writes a byte.
    GuestWrite {
        at: GuestVirt,
        byte: u8,
    },
    /// The host writes for the guest.
    Write {
        at: GuestVirt,
        bytes: Vec<u8>,
    },
    /// The host reads for the guest.
    Read {
        at: GuestVirt,
        len: usize,
    },
    ForgetRefusals,
    /// The host writes to the file that the guest may share.
    WriteFile {
        offset: u64,
        bytes: Vec<u8>,
    },
    ReadFile {
        offset: u64,
        len: usize,
    },
    ResizeFile {
        len: u64,
    },
}

/// A change of what is mapped, which the guest may ask for with any numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Change {
    Map { placement: Placement, len: u64, protection: Protection },
    MapFile { file: TestFile, placement: Placement, len: u64, protection: Protection, first: u64 },
    MapShared(MapShared),
    Unmap { at: GuestVirt, len: u64 },
    Protect { at: GuestVirt, len: u64, protection: Protection },
    Remap { at: GuestVirt, old_len: u64, new_len: u64, movement: Movement },
    Discard { at: GuestVirt, len: u64 },
}

impl Change {
    /// Makes the change, and returns where the range lies then. This is held in the file that can be shared.
    pub(super) fn apply(&self, space: &mut AddressSpace, held: &[u8]) -> Result<GuestVirt, MapError> {
        match *self {
            Self::Map { placement, len, protection } => space.map_anonymous(len, placement, protection),
            Self::MapFile { file, placement, len, protection, first } => {
                file.map(space, (placement, len), protection, first)
            }
            Self::MapShared(ref wanted) => wanted.apply(space, held),
            Self::Unmap { at, len } => space.unmap(at, len).map(|()| at),
            Self::Protect { at, len, protection } => space.protect(at, len, protection).map(|()| at),
            Self::Remap { at, old_len, new_len, movement } => {
                shared::remap(space, held, at, (old_len, new_len), movement)
                    .unwrap_or_else(|| space.remap(at, old_len, new_len, movement))
            }
            Self::Discard { at, len } => space.discard(at, len).map(|()| at),
        }
    }
}
