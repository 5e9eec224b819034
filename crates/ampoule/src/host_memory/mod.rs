//! Memory of the host's that guests see beside their own: what it is made of, and how the application names it.
//!
//! Nothing here knows a guest. A [`HostMapping`] says what is shown where; the machine shows it.

mod at;
mod error;
mod mapped;
mod owned;
mod source;

use std::fmt;
use std::io;
use std::ops::{Bound, Range, RangeBounds};
use std::sync::Arc;

use ampoule_vfs::Vfs;
use ampoule_vmm::{GuestVirt, MappedMemory, PAGE_SIZE, PageAccess};

pub use at::MapAt;
pub use error::MapMemoryError;
pub use mapped::Mapped;
pub use owned::HostMemory;
pub(crate) use source::Source;

/// What a guest may do with memory of the host's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MapAccess {
    /// Read it.
    Read,
    /// Read and execute it.
    ReadExecute,
    /// Read and write it. What the guest writes is its own: neither the file nor another guest sees it. It costs memory of the
    /// host beyond [`Builder::memory_limit`](crate::Builder::memory_limit), as much as the mapping has at most.
    CopyOnWrite,
}

/// Memory of the host's that a sandbox's guest sees: a description of it, which clones share.
///
/// A guest is told of it by an argument: [`bytes`](Self::bytes) or a [`part`](Self::part) of it, which the guest takes as its
/// `Mapped<'_>`. A guest in another language takes the address and the length as numbers.
#[derive(Clone)]
pub struct HostMapping(Arc<Described>);

struct Described {
    start: GuestVirt,
    /// How many bytes were asked for.
    len: u64,
    access: MapAccess,
    /// The path by which the guest finds it.
    path: Option<Arc<str>>,
    source: Source,
}

impl HostMapping {
    /// What of this source is to be seen at this address, and by this name, if it has one.
    pub(crate) fn new(start: GuestVirt, (source, len): (Source, u64), name: Option<&str>, access: MapAccess) -> Self {
        let path = name.map(|name| format!("{}/{name}", Vfs::MAPPINGS).into());
        Self(Arc::new(Described { start, len, access, path, source }))
    }

    /// Where the guest sees the first byte: at the beginning of a page.
    pub fn address(&self) -> u64 {
        self.0.start.0
    }

    /// How many bytes there are. Up to the end of the last page the guest sees what follows in the file, or zeros behind its
    /// end.
    #[expect(clippy::len_without_is_empty, reason = "a mapping is never empty")]
    pub fn len(&self) -> u64 {
        self.0.len
    }

    /// What the guest may do with it.
    pub fn access(&self) -> MapAccess {
        self.0.access
    }

    /// What it is called in messages: the path of the file as the host knew it when it was mapped, or what kind of memory it is.
    pub fn name(&self) -> &str {
        self.0.source.name()
    }

    /// The path at which the guest finds it as a file, where it was given a [name](MapAt::named).
    pub fn path(&self) -> Option<&str> {
        self.0.path.as_deref()
    }

    /// All of it, as an argument of a call.
    pub fn bytes(&self) -> Mapped<'static> {
        Mapped::at(self.0.start, self.0.len)
    }

    /// The bytes of a range, as an argument of a call; `None` where it does not lie within.
    pub fn part(&self, range: impl RangeBounds<u64>) -> Option<Mapped<'static>> {
        let Range { start, end } = bytes_of(range, self.0.len);
        (start <= end && end <= self.0.len).then(|| Mapped::at(GuestVirt(self.0.start.0 + start), end - start))
    }

    /// The same mapping, not only an equal one.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(crate) fn start(&self) -> GuestVirt {
        self.0.start
    }

    pub(crate) fn pages(&self) -> usize {
        (self.0.len as usize).div_ceil(PAGE_SIZE)
    }

    /// The end of the last page.
    pub(crate) fn end(&self) -> GuestVirt {
        GuestVirt(self.0.start.0 + (self.pages() * PAGE_SIZE) as u64)
    }

    /// The name of its file.
    pub(crate) fn file_name(&self) -> Option<&str> {
        self.path()?.strip_prefix(Vfs::MAPPINGS)?.strip_prefix('/')
    }

    pub(crate) fn shared_path(&self) -> Option<Arc<str>> {
        self.0.path.clone()
    }

    pub(crate) fn page_access(&self) -> PageAccess {
        PageAccess { write: self.0.access == MapAccess::CopyOnWrite, execute: self.0.access == MapAccess::ReadExecute }
    }

    /// The memory for a guest: everybody's, or the guest's own where it may write it.
    pub(crate) fn memory(&self) -> io::Result<Arc<MappedMemory>> {
        self.0.source.memory(self.0.access, self.pages())
    }

    /// What those see who have not written it.
    pub(crate) fn unwritten(&self) -> Arc<MappedMemory> {
        self.0.source.shared()
    }

    /// The path of its file on the host, if that has one still, and the first page of it that is mapped.
    pub(crate) fn named_file(&self) -> Option<(String, u64)> {
        self.0.source.named_file()
    }

    /// Whether its file no longer has all of it.
    pub(crate) fn is_cut_short(&self) -> bool {
        self.0.source.is_cut_short(self.0.len)
    }
}

/// A range of bytes as its start and its end; without an end it goes on to `end`.
pub(crate) fn bytes_of(range: impl RangeBounds<u64>, end: u64) -> Range<u64> {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(last) => last.saturating_add(1),
        Bound::Excluded(end) => *end,
        Bound::Unbounded => end,
    };
    start..end
}

impl fmt::Display for MapAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read-only",
            Self::ReadExecute => "read-execute",
            Self::CopyOnWrite => "copy-on-write",
        })
    }
}

impl fmt::Debug for HostMapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostMapping")
            .field("name", &self.name())
            .field("address", &format_args!("{:#x}", self.address()))
            .field("len", &self.len())
            .field("access", &self.access())
            .finish()
    }
}
