//! What a guest does to its memory.

use crate::{Protection, Window};

/// Pages of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Whose.
    pub window: Window,
    /// The first one.
    pub start: usize,
    /// The one behind the last.
    pub end: usize,
}

/// A page of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Whose.
    pub window: Window,
    /// Which one.
    pub page: usize,
}

/// A system call or an access.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "the fields are what the calls and accesses are made with")]
pub enum Action {
    /// `mmap` of fresh memory, in place of what is mapped there or only where nothing is.
    Map { span: Span, protection: Protection, replace: bool },
    /// `munmap`.
    Unmap { span: Span },
    /// `mprotect`.
    Protect { span: Span, protection: Protection },
    /// `madvise(MADV_DONTNEED)`.
    Discard { span: Span },
    /// `mremap` to another window, in place of what is mapped there.
    Move { from: Span, to: Span },
    /// `mremap` to another size, without moving.
    Resize { span: Span, pages: usize },
    /// `mmap` of a floating window, of which nothing is mapped.
    Float { window: Window, pages: usize, protection: Protection },
    /// `munmap` of all of a floating window.
    Sink { window: Window },
    /// `mremap` of all of a floating window to another size, wherever there is room.
    Stretch { window: Window, pages: usize },
    /// Writes a page, which may be written.
    Write { place: Place, stamp: u64 },
    /// Reads a page, which may be read.
    Check { place: Place },
    /// `mmap` and `munmap` of many pages, with at most three of them touched in between.
    Large { area: usize, pages: usize, protection: Protection, stamp: Option<u64> },
    /// `brk` for a page more, which is written.
    GrowHeap { stamp: u64 },
    /// `brk` for so many pages more, of which the last is written, and back.
    SwellHeap { pages: usize, stamp: u64 },
}

/// Why a system call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errno {
    /// `ENOMEM`: a page is not mapped, or there is no room.
    NoMemory = 12,
    /// `EFAULT`: the range is not within one mapping.
    Fault = 14,
    /// `EEXIST`: something is mapped there.
    Exists = 17,
    /// `EINVAL`: this cannot be done to pages of the image.
    Invalid = 22,
}

impl Span {
    /// How many pages it has.
    #[allow(clippy::len_without_is_empty, reason = "it is never asked for")]
    pub fn len(self) -> usize {
        self.end - self.start
    }

    /// The first of its pages.
    pub fn first(self) -> Place {
        Place { window: self.window, page: self.start }
    }

    /// Each of its pages.
    pub fn places(self) -> impl Iterator<Item = Place> {
        (self.start..self.end).map(move |page| Place { window: self.window, page })
    }
}

impl Place {
    /// Just this page.
    pub fn span(self) -> Span {
        Span { window: self.window, start: self.page, end: self.page + 1 }
    }
}
