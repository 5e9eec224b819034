//! What a range of a guest's pages is, and what the guest may do with it.

use ampoule_vmm::FaultAccess;

use super::files::FileId;
use super::range_map::Piece;
use crate::executable_memory::ExecutableMemory;

/// What a guest may do with a page. No state allows only writing or only executing, because x86-64 has no such state either.
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
    /// All of it.
    ReadWriteExecute,
}

impl Protection {
    pub(crate) fn is_readable(self) -> bool {
        self != Self::None
    }

    pub(crate) fn is_writable(self) -> bool {
        matches!(self, Self::ReadWrite | Self::ReadWriteExecute)
    }

    pub(crate) fn is_executable(self) -> bool {
        matches!(self, Self::ReadExecute | Self::ReadWriteExecute)
    }

    /// Whether a guest with such leave may have it: for its own code, which it has never been able to change, or for
    /// something else.
    pub(super) fn is_permitted(self, executable_memory: ExecutableMemory, for_own_code: bool) -> bool {
        match self {
            Self::None | Self::Read | Self::ReadWrite => true,
            Self::ReadExecute => for_own_code || executable_memory != ExecutableMemory::Refused,
            Self::ReadWriteExecute => executable_memory == ExecutableMemory::Unrestricted,
        }
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
    /// Pages of a file.
    File(FilePages),
    /// Pages behind the end of a file, which no guest can access whatever the protection is.
    BehindFile(FilePages),
    /// The library of the host's that the guest finds in its memory.
    Vdso,
}

/// Which pages of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FilePages {
    pub(crate) file: FileId,
    /// The first of them.
    pub(crate) first: u64,
    /// Whether the guest has never been able to write them.
    pub(super) pristine: bool,
    /// Whether what is stored there is the file's.
    pub(crate) sharing: Sharing,
}

/// Whose pages of a file the guest sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// Those that the file has, until the guest stores something there, which is its own.
    Private,
    /// Those that the file has, which the guest cannot change.
    ReadOnly,
    /// The [shared](super::shared) ones of a file that may change.
    Coherent {
        /// Whether the guest may store there.
        may_write: bool,
    },
}

/// A range of pages with one purpose and one protection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mapping {
    pub(super) kind: MappingKind,
    pub(super) protection: Protection,
}

impl MappingKind {
    /// The file, and which pages of it, or behind it.
    pub(crate) fn file(self) -> Option<FilePages> {
        match self {
            Self::File(pages) | Self::BehindFile(pages) => Some(pages),
            Self::Image | Self::Heap | Self::Stack | Self::Anonymous | Self::Vdso => None,
        }
    }

    /// The file that is shared there, and which pages of it.
    pub(super) fn shared(self) -> Option<FilePages> {
        match self {
            Self::File(pages) if matches!(pages.sharing, Sharing::Coherent { .. }) => Some(pages),
            _ => None,
        }
    }

    /// What pages are once they have this protection.
    pub(super) fn protected(self, protection: Protection) -> Self {
        match self {
            Self::File(pages) if protection.is_writable() => Self::File(FilePages { pristine: false, ..pages }),
            kind => kind,
        }
    }

    fn skip(self, skipped: u64) -> Self {
        let skip = |pages: FilePages| FilePages { first: pages.first + skipped, ..pages };
        match self {
            Self::File(pages) => Self::File(skip(pages)),
            Self::BehindFile(pages) => Self::BehindFile(skip(pages)),
            kind => kind,
        }
    }
}

impl Sharing {
    /// Whether the guest has asked to share the pages.
    pub(crate) fn is_shared(self) -> bool {
        self != Self::Private
    }

    /// Whether the guest may store there.
    pub(super) fn may_write(self) -> bool {
        match self {
            Self::Private => true,
            Self::ReadOnly => false,
            Self::Coherent { may_write } => may_write,
        }
    }
}

impl Mapping {
    /// Whether its pages have frames of their own once they can be read.
    pub(super) fn has_frames(&self) -> bool {
        !matches!(self.kind, MappingKind::BehindFile(_)) && self.kind.shared().is_none()
    }
}

impl Piece for Mapping {
    fn skip(&self, pages: u64) -> Self {
        Self { kind: self.kind.skip(pages), ..*self }
    }

    fn continues_in(&self, pages: u64, next: &Self) -> bool {
        self.skip(pages) == *next
    }
}
