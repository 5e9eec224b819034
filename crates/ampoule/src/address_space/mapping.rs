//! What a range of a guest's pages is, and what the guest may do with it.

use ampoule_vmm::FaultAccess;

use super::range_map::Piece;

/// What a guest may do with a page. No state is both writable and executable; none allows only writing or only executing,
/// because x86-64 has no such state either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protection {
    /// Nothing. The page keeps its contents, if it ever had any.
    None,
    /// Load.
    Read,
    /// Load and store.
    ReadWrite,
    /// Load and execute.
    ReadExecute,
}

impl Protection {
    pub(crate) fn is_readable(self) -> bool {
        self != Self::None
    }

    pub(crate) fn is_writable(self) -> bool {
        self == Self::ReadWrite
    }

    pub(crate) fn is_executable(self) -> bool {
        self == Self::ReadExecute
    }

    pub(crate) fn allows(self, access: FaultAccess) -> bool {
        match access {
            FaultAccess::Read => self.is_readable(),
            FaultAccess::Write => self.is_writable(),
            FaultAccess::Execute => self.is_executable(),
        }
    }

    /// Whether a page that changes from `self` to `next` loses a permission.
    pub(super) fn narrows_to(self, next: Self) -> bool {
        (self.is_readable() && !next.is_readable())
            || (self.is_writable() && !next.is_writable())
            || (self.is_executable() && !next.is_executable())
    }
}

/// What a mapping is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MappingKind {
    /// A segment of the image.
    Image,
    /// What `brk` has made.
    Heap,
    /// The part of the stack that has been used.
    Stack,
    /// What `mmap` has made.
    Anonymous,
}

/// A range of pages with one purpose and one protection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mapping {
    pub(super) kind: MappingKind,
    pub(super) protection: Protection,
}

impl Piece for Mapping {
    fn skip(&self, _: u64) -> Self {
        *self
    }

    fn continues_in(&self, _: u64, next: &Self) -> bool {
        self == next
    }
}
