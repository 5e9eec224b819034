//! Memory that a guest shares with its host.

use ampoule_vmm::HostOnly;

/// The start of a region through which a guest and the host talk; the guest's own pages follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SharedMemory {
    /// Bytes, in whole pages.
    pub(crate) len: usize,
    /// What of it the guest cannot write.
    pub(crate) host_only: HostOnly,
    /// How the guest sees it.
    pub(crate) areas: [SharedArea; 2],
    /// Where in it the description lies whose address the guest is given.
    pub(crate) description: usize,
}

/// A part of the shared memory, all of which the guest sees with the same permissions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SharedArea {
    pub(crate) offset: usize,
    pub(crate) len: usize,
    pub(crate) writable: bool,
}
