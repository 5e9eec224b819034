//! Where the parts of a mailbox lie in its region.
//!
//! A small call touches only two pages: what the host says follows the info page, and what the guest says lies where the guest may
//! write. A page that is written in a call is written back at every restore, and each costs an entry in the processor's address
//! caches. What the host says is not even tracked, since the guest cannot write it and no snapshot holds it.

use std::ops::Range;

use ampoule_abi::layout::{InfoPage, MESSAGE_LINE_LEN};
use ampoule_vmm::PAGE_SIZE;

use crate::guest_memory::SharedArea;

/// Offsets in the region, in bytes, of a mailbox whose payload areas have a certain size.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    /// Bytes of each payload area.
    pub(super) capacity: usize,
    /// Where the part that the guest may write begins.
    writable: usize,
}

impl Layout {
    pub(super) const INFO_PAGE: usize = 0;

    /// Behind the info page, in a cache line of its own.
    pub(super) const HOST_LINE: usize = InfoPage::LEN.next_multiple_of(MESSAGE_LINE_LEN);

    pub(super) const INBOUND: usize = Self::HOST_LINE + MESSAGE_LINE_LEN;

    /// Bytes of the output area: enough for the text of an ordinary call, and little to copy and to write back.
    pub(super) const OUTPUT_LEN: usize = 4 * PAGE_SIZE;

    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, writable: (Self::INBOUND + capacity).next_multiple_of(PAGE_SIZE) }
    }

    pub(super) fn inbound(&self) -> Range<usize> {
        Self::INBOUND..Self::INBOUND + self.capacity
    }

    pub(super) fn guest_line(&self) -> usize {
        self.writable
    }

    pub(super) fn outbound(&self) -> Range<usize> {
        let start = self.writable + MESSAGE_LINE_LEN;
        start..start + self.capacity
    }

    pub(super) fn output(&self) -> Range<usize> {
        let start = self.outbound().end.next_multiple_of(PAGE_SIZE);
        start..start + Self::OUTPUT_LEN
    }

    /// Bytes of all of it, in whole pages.
    pub(super) fn len(&self) -> usize {
        self.output().end
    }

    /// The two parts that the guest sees with different permissions.
    pub(super) fn areas(&self) -> [SharedArea; 2] {
        let (writable, len) = (self.writable, self.len());
        [
            SharedArea { offset: 0, len: writable, writable: false },
            SharedArea { offset: writable, len: len - writable, writable: true },
        ]
    }
}
