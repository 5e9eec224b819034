//! Memory that a guest shares with its host.

use ampoule_vmm::vdso::TimePage;
use ampoule_vmm::{HostOnly, PAGE_SIZE};

/// The start of a region through which a guest and the host talk; the guest's own pages follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SharedMemory {
    /// Bytes, in whole pages.
    pub(crate) len: usize,
    /// What of it the guest cannot write.
    pub(crate) host_only: HostOnly,
    /// How the guest sees it.
    pub(crate) areas: [SharedArea; 2],
    /// Where in it the description lies whose address the guest is given, if there is one.
    pub(crate) description: Option<usize>,
    /// Where in it the guest reads its clocks.
    pub(crate) time_page: usize,
}

impl SharedMemory {
    /// A page that the guest can read its clocks from, and nothing else.
    pub(crate) fn of_clocks() -> Self {
        let area = |len| SharedArea { offset: 0, len, writable: false };
        Self {
            len: PAGE_SIZE,
            host_only: HostOnly { len: PAGE_SIZE, kept: TimePage::LEN },
            areas: [area(PAGE_SIZE), area(0)],
            description: None,
            time_page: 0,
        }
    }
}

/// A part of the shared memory, all of which the guest sees with the same permissions. An empty one is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SharedArea {
    pub(crate) offset: usize,
    pub(crate) len: usize,
    pub(crate) writable: bool,
}
