//! A guest's virtual memory: what is mapped where, with which permissions, and on which frames.
//!
//! Three things are kept in step. The *layout* says what the guest has been given: its mappings, the frames behind them, the
//! heap and the stack. The *page tables* hold the same for the processor. The *memory region* holds the contents. Every
//! operation checks against the layout first, then changes tables and layout together; one that fails leaves both as they
//! were, unless it was [interrupted](MapError::Interrupted): then the guest is over, and a restore puts everything in step.
//!
//! The rules:
//!
//! 1. A frame that is free holds zeros, so a frame handed out does.
//! 2. A page gets its frame when it first becomes accessible, or, where it is one of a [large file](paged), when it is touched.
//!    Reserved address space costs no memory.
//! 3. A permission is taken away in the page tables first, then from the hypervisor's cache, before the guest runs again.
//!    Where that cannot be done for single frames, [everything has to be flushed](AddressSpace::needs_flush).
//! 4. Nothing is writable and executable. Only the image is executable, and files that the guest could never have written,
//!    in pages that it has never been able to write; unless the application allows more ([`ExecutableMemory`]).
//! 5. A frame is behind one page, except for those of [shared files](shared).
//! 6. Work and memory are bounded by the guest's frames, by [`MAX_MAPPINGS`] and by [`MAX_RUNS`], not by a length that the
//!    guest names; an operation asks the host no more often than [`Cover::MOST_RUNS`] times for each [`PORTION_PAGES`]
//!    pages, and ends between two portions when the call is [interrupted](Watch).

mod access;
mod change;
mod checkpoint;
mod copied;
mod dump;
mod error;
mod files;
mod frames;
mod heap;
mod host;
mod mapping;
#[cfg(any(test, fuzzing))]
pub(crate) mod model;
mod paged;
mod range_map;
mod shared;
mod stack;
mod stored;
#[cfg(test)]
mod tests;
#[cfg(feature = "gdb")]
mod withhold;

use std::fmt;
use std::ops::{Deref, DerefMut, Range};
use std::slice;
use std::sync::Arc;

use ampoule_vmm::address_map::{HOST_END, USER_END, USER_START};
use ampoule_vmm::{GuestPhys, GuestVirt, HypervisorError, PAGE_SIZE, PageAccess, PageMap, TrackedRegion, WrittenPages};

use crate::executable_memory::ExecutableMemory;
use crate::guest_memory::GuestMemory;
use crate::page::{Frame, Page};

use self::copied::CopiedFiles;
use self::files::Files;
use self::frames::{Cover, FirstFrame, FrameAllocator, FrameRange, coalesce};
use self::heap::Heap;
use self::mapping::Mapping;
use self::range_map::{Piece, RangeMap};
use self::shared::SharedFiles;
use self::stack::Stack;

pub(crate) use self::access::{Filled, LEAST_FILLED};
pub(crate) use self::checkpoint::SpaceCheckpoint;
pub(crate) use self::dump::{Purpose, Run};
pub(crate) use self::error::{BadAddress, MapError, StringError};
pub(crate) use self::files::{FileCode, FileId, FilePart, MappedFile, ReadFile};
pub(crate) use self::host::{HostPages, HostRole};
pub(crate) use self::mapping::{FilePages, MappingKind, Protection, Sharing};
pub(crate) use self::shared::{FileKey, SharedPart};
pub(crate) use self::stack::FaultResolution;
pub(crate) use self::stored::{SpaceError, SpaceRecord};
#[cfg(feature = "gdb")]
pub(crate) use self::withhold::Withheld;

/// A guest's virtual memory.
#[derive(Debug)]
pub(crate) struct AddressSpace {
    /// Checkpoints share it until it changes.
    layout: Arc<Layout>,
    memory: GuestMemory,
    tables: Box<dyn PageMap>,
    windows: Vec<Window>,
    /// Memory of the host's that the application has mapped, by address.
    host: Vec<HostPages>,
    /// Frames that were made reachable, or reachable with other permissions, since the last checkpoint or restore.
    remapped: Cover,
    /// Frames of which the hypervisor may know more than the page tables allow.
    narrowed: Cover,
    /// Whether the hypervisor could not be made to forget it.
    is_unrevoked: bool,
    watch: Option<Arc<dyn Watch>>,
    /// The layout of the last checkpoint or restore.
    origin: Arc<Layout>,
    ran_out: bool,
    /// Where pages of files are looked for next whose frames are [taken away](paged).
    evict_from: Page,
    /// Whether memory was written that the guest need not be able to write.
    is_patched: bool,
}

/// Says whether the guest is to continue.
pub(crate) trait Watch: fmt::Debug + Send + Sync {
    /// Whether the call has been interrupted. Once it has, the guest does not run again before a restore.
    fn is_interrupted(&self) -> bool;
}

/// An address space that stops what it is doing when the call is interrupted.
pub(crate) struct Watched<'a>(&'a mut AddressSpace);

/// What an address space is made of.
pub(crate) struct Parts {
    /// The guest's memory, with the frames for its pages.
    pub(crate) memory: GuestMemory,
    /// The page tables, which map nothing within the guest's addresses yet.
    pub(crate) tables: Box<dyn PageMap>,
    /// Whether the guest may make memory other than its image's executable, as a just-in-time compiler does.
    pub(crate) executable_memory: ExecutableMemory,
}

/// Memory of the host's that the guest sees beyond its own addresses. The guest cannot change how it is mapped.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    /// Where the guest sees it; at the start of a page.
    pub(crate) at: GuestVirt,
    /// Its guest-physical address.
    pub(crate) to: GuestPhys,
    /// The memory itself.
    pub(crate) region: Arc<TrackedRegion>,
    /// Where in `region` it begins.
    pub(crate) offset: usize,
    /// Its size in bytes, a multiple of the page size.
    pub(crate) len: usize,
    /// Whether the guest may write there.
    pub(crate) writable: bool,
}

/// Where a new mapping is to lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placement {
    /// Anywhere: the highest place below the gap of the stack that is free; where there is none, within the gap.
    Anywhere,
    /// Below 2 GiB, at the highest place there that is free.
    Low,
    /// Here if nothing is mapped here, else anywhere.
    Hint(GuestVirt),
    /// Here, in place of what is mapped here.
    Fixed(GuestVirt),
    /// Here, if nothing is mapped here.
    FixedVacant(GuestVirt),
}

/// How a range may move when its size changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Movement {
    /// It stays where it is.
    Stay,
    /// It moves if it has to.
    MayMove,
    /// It moves here, in place of what is mapped here.
    To(GuestVirt),
}

/// What lies at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Location {
    /// Nothing.
    Unmapped,
    /// Memory of the guest's own.
    Mapped { kind: MappingKind, protection: Protection },
    /// Memory that the guest shares with the host.
    Window { writable: bool },
    /// Memory of the host's that the application has mapped.
    Host { access: PageAccess },
}

impl Location {
    /// Whether the guest may store there.
    pub(crate) fn is_writable(self) -> bool {
        match self {
            Self::Unmapped => false,
            Self::Mapped { protection, .. } => protection.is_writable(),
            Self::Window { writable } => writable,
            Self::Host { access } => access.write,
        }
    }
}

/// What the guest has been given. A snapshot copies this.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    mappings: RangeMap<Mapping>,
    /// The frames behind the pages that have ever been accessible.
    backing: RangeMap<FirstFrame>,
    files: Files,
    shared: SharedFiles,
    copied: CopiedFiles,
    frames: FrameAllocator,
    heap: Heap,
    stack: Stack,
    executable_memory: ExecutableMemory,
}

impl AddressSpace {
    /// An address space in which nothing is mapped.
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts { memory, tables, executable_memory } = parts;
        let layout = Arc::new(Layout {
            mappings: RangeMap::new(),
            backing: RangeMap::new(),
            files: Files::default(),
            shared: SharedFiles::default(),
            copied: CopiedFiles::default(),
            frames: FrameAllocator::new(memory.frames()),
            heap: Heap::default(),
            stack: Stack::default(),
            executable_memory,
        });
        Self::of_layout(layout, memory, tables)
    }

    /// An address space with this layout, which memory and page tables show already.
    fn of_layout(layout: Arc<Layout>, memory: GuestMemory, tables: Box<dyn PageMap>) -> Self {
        Self {
            origin: Arc::clone(&layout),
            layout,
            memory,
            tables,
            windows: Vec::new(),
            host: Vec::new(),
            remapped: Cover::default(),
            narrowed: Cover::default(),
            is_unrevoked: false,
            watch: None,
            ran_out: false,
            evict_from: Page(0),
            is_patched: false,
        }
    }

    /// This space, with operations that fail with [`MapError::Interrupted`] as soon as they can once `watch` says so.
    pub(crate) fn watched(&mut self, watch: Arc<dyn Watch>) -> Watched<'_> {
        self.watch = Some(watch);
        Watched(self)
    }

    /// Whether the guest must not run before all translations have been flushed.
    pub(crate) fn needs_flush(&self) -> bool {
        self.is_unrevoked || self.tables.is_stale()
    }

    /// Whether some of its memory is a file that somebody else can cut short.
    pub(crate) fn memory_can_be_lost(&self) -> bool {
        self.memory.can_be_lost()
    }

    /// Records that all translations have been flushed.
    pub(crate) fn mark_flushed(&mut self) {
        self.is_unrevoked = false;
        self.tables.mark_flushed();
    }

    /// Maps memory of the host's for the guest.
    ///
    /// # Errors
    ///
    /// [`MapError::InvalidRange`] when the window is not made of whole pages or lies among the guest's own addresses;
    /// [`MapError::Occupied`] when it overlaps another window.
    pub(crate) fn add_window(&mut self, window: Window) -> Result<(), MapError> {
        let range = window.range().filter(|range| range.start >= Page::of(USER_END)).ok_or(MapError::InvalidRange)?;
        if self.windows.iter().filter_map(Window::range).any(|other| other.start < range.end && range.start < other.end)
        {
            return Err(MapError::Occupied);
        }
        let access = PageAccess { write: window.writable, execute: false };
        self.tables.map(window.at, window.to, window.len / PAGE_SIZE, access)?;
        self.windows.push(window);
        Ok(())
    }

    /// Registers windows that the page tables already map.
    pub(crate) fn adopt_windows(&mut self, windows: impl IntoIterator<Item = Window>) {
        self.windows.extend(windows);
    }

    /// What lies at an address.
    pub(crate) fn describe(&self, at: GuestVirt) -> Location {
        let page = Page::of(at);
        if let Some((range, mapping)) = self.layout.mappings.get(page) {
            let mapping = mapping.skip(page - range.start);
            let kind = match mapping.kind.shared() {
                Some(of) if self.layout.backing.get(page).is_none() => MappingKind::BehindFile(of),
                _ => mapping.kind,
            };
            return Location::Mapped { kind, protection: mapping.protection };
        }
        if let Some(window) = self.window_at(at) {
            return Location::Window { writable: window.writable };
        }
        if let Some(pages) = self.host_pages_at(at) {
            return Location::Host { access: pages.access };
        }
        Location::Unmapped
    }

    /// The guest's own mappings, from the lowest on.
    pub(crate) fn mappings(&self) -> impl Iterator<Item = (Range<GuestVirt>, MappingKind, Protection)> {
        let all = self.layout.mappings.overlapping(&(Page(0)..Page::of(USER_END)));
        all.map(|(pages, mapping)| (pages.start.address()..pages.end.address(), mapping.kind, mapping.protection))
    }

    /// Whether the guest may have a new mapping with this protection, of memory or of a file that it has been able to change.
    pub(crate) fn permits(&self, protection: Protection) -> bool {
        protection.is_permitted(self.layout.executable_memory, false)
    }

    /// The guest's memory in bytes.
    pub(crate) fn memory_total(&self) -> u64 {
        self.layout.frames.total() * PAGE
    }

    /// How much of the guest's memory is free, in bytes.
    pub(crate) fn memory_free(&self) -> u64 {
        self.layout.frames.free() * PAGE
    }

    /// Whether the guest has been refused memory because it had used all of it, since the last
    /// [`forget_refusals`](Self::forget_refusals).
    pub(crate) fn ran_out_of_memory(&self) -> bool {
        self.ran_out
    }

    /// Forgets that the guest was refused memory.
    pub(crate) fn forget_refusals(&mut self) {
        self.ran_out = false;
    }

    /// Gives memory to pages that the guest, which has written many, is about to write: how many these are. See
    /// [`GuestMemory::populate_ahead`].
    ///
    /// # Errors
    ///
    /// What the hypervisor reports.
    pub(crate) fn populate_ahead(&mut self, guest: &mut dyn WrittenPages) -> Result<usize, HypervisorError> {
        let frames = &self.layout.frames;
        self.memory.populate_ahead(guest, |frame| frames.next_free(frame))
    }

    /// The guest's memory.
    pub(crate) fn memory(&self) -> &GuestMemory {
        &self.memory
    }

    /// The guest's memory, to change its contents as the guest itself could.
    pub(crate) fn memory_mut(&mut self) -> &mut GuestMemory {
        &mut self.memory
    }

    /// The page tables, to checkpoint them together with this space.
    pub(crate) fn tables_mut(&mut self) -> &mut dyn PageMap {
        &mut *self.tables
    }

    /// Which page of the memory is behind the first of `pages` fresh pages, whose frames are contiguous.
    ///
    /// # Panics
    ///
    /// When the pages are not among the first that this space was made to map, so that they may have no frames or scattered
    /// ones.
    pub(crate) fn first_page_behind(&self, at: GuestVirt, pages: usize) -> usize {
        let (backed, FirstFrame(first)) = self.layout.backing.get(Page::of(at)).expect("the pages have frames");
        assert!(Page::of(at) + pages as u64 <= backed.end);
        self.memory.frame_offset(*first + (Page::of(at) - backed.start)) / PAGE_SIZE
    }

    fn layout_mut(&mut self) -> &mut Layout {
        Arc::make_mut(&mut self.layout)
    }

    fn window_at(&self, at: GuestVirt) -> Option<&Window> {
        self.windows.iter().find(|window| window.range().is_some_and(|range| range.contains(&Page::of(at))))
    }

    /// Gives a frame to every page of `ranges` that has none, and returns these pages. The page tables do not map them yet.
    fn take_frames(&mut self, ranges: &[Range<Page>]) -> Result<Vec<Range<Page>>, MapError> {
        let bare: Vec<_> = ranges.iter().flat_map(|range| self.layout.backing.gaps(range)).collect();
        let needed = bare.iter().map(|gap| gap.end - gap.start).sum();
        self.make_room(needed)?;
        let free = self.layout.frames.free();
        let watch = self.watch.as_deref();
        let Some(runs) = Arc::make_mut(&mut self.layout).frames.allocate(needed, || check(watch))? else {
            return Err(self.out_of_frames(needed, free));
        };
        // A piece ends where a gap or a run of frames does.
        let pieces = (bare.len() + runs.len()).saturating_sub(1);
        if let Err(error) = self.check_run_count(pieces) {
            runs.into_iter().for_each(|run| self.layout_mut().frames.release(run));
            return Err(error);
        }
        let mut runs = runs.into_iter();
        let mut run = Frame(0)..Frame(0);
        for gap in &bare {
            let mut at = gap.start;
            while at < gap.end {
                if run.is_empty() {
                    run = runs.next().expect("as many frames were allocated as the gaps have pages");
                    self.check_watch()?;
                }
                let pages = (gap.end - at).min(run.end - run.start);
                self.layout_mut().backing.insert(at..at + pages, FirstFrame(run.start));
                at += pages;
                run.start += pages;
            }
        }
        Ok(bare)
    }

    /// Fails when `more` further runs of frames would be too many.
    fn check_run_count(&self, more: usize) -> Result<(), MapError> {
        if self.layout.backing.len() + more > MAX_RUNS {
            return Err(MapError::TooFragmented { limit: MAX_RUNS });
        }
        Ok(())
    }

    /// Remembers that the guest was refused memory.
    fn out_of_frames(&mut self, needed: u64, free: u64) -> MapError {
        if !self.ran_out_of_memory() {
            tracing::debug!(needed, free, total = self.layout.frames.total(), "a guest has no pages of memory left");
        }
        self.ran_out = true;
        MapError::OutOfFrames { needed, free }
    }

    /// Takes pages away from the guest, with what they hold.
    fn drop_pages(&mut self, range: &Range<Page>) -> Result<(), MapError> {
        let mut rest = range.clone();
        while !rest.is_empty() {
            let portion = self.layout.backing.portion(&rest, PORTION_RUNS, PORTION_PAGES);
            self.drop_portion(slice::from_ref(&portion));
            rest.start = portion.end;
            self.check_watch()?;
        }
        self.revoke_narrowed();
        Ok(())
    }

    /// Takes pages away from the guest, at most [`PORTION_PAGES`] in [`PORTION_RUNS`] runs of frames. What the hypervisor may
    /// still know of them is [to be revoked](Self::revoke_narrowed).
    fn drop_portion(&mut self, pieces: &[Range<Page>]) {
        let mut frames = Vec::new();
        for pages in pieces {
            self.tables.unmap(pages.start.address(), (pages.end - pages.start) as usize);
            frames.extend(frames_of(self.layout_mut().backing.remove(pages)));
        }
        let frames = coalesce(frames);
        match self.clear_frames(&frames) {
            Translations::Revoked => frames.iter().for_each(|run| self.remapped.remove(run)),
            Translations::Kept => frames.iter().for_each(|run| self.narrowed.add(run.clone())),
        }
        frames.into_iter().for_each(|run| self.layout_mut().frames.release(run));
    }

    /// Makes the page tables say `protection` for those pages of `range` that have frames.
    fn set_entries(&mut self, range: &Range<Page>, protection: Protection) -> Result<(), MapError> {
        if protection == Protection::None {
            self.tables.unmap(range.start.address(), (range.end - range.start) as usize);
            return Ok(());
        }
        let access = PageAccess { write: protection.is_writable(), execute: protection.is_executable() };
        for (pages, frame) in self.layout.backing.overlapping(range) {
            let count = pages.end - pages.start;
            self.tables.map(pages.start.address(), self.memory.frame_phys(frame.0), count as usize, access)?;
            self.remapped.add(frame.0..frame.0 + count);
            check(self.watch.as_deref())?;
        }
        Ok(())
    }

    /// Zeroes frames, which are coalesced. Where they are few runs, the hypervisor forgets what it knew about them too:
    /// asking the host for each of many runs costs more than writing zeros.
    fn clear_frames(&mut self, frames: &[FrameRange]) -> Translations {
        if frames.len() > Cover::MOST_RUNS {
            frames.iter().for_each(|run| self.memory.zero_frames(run));
            return Translations::Kept;
        }
        let mut translations = Translations::Revoked;
        for run in frames {
            if let Err(error) = self.memory.clear_frames(run) {
                tracing::debug!(%error, "frames that were cleared could not be revoked");
                translations = Translations::Kept;
            }
        }
        translations
    }

    /// Makes the hypervisor forget what it knew about frames that the guest may no longer use, or may use only in fewer
    /// ways.
    fn revoke_narrowed(&mut self) {
        let frames = self.narrowed.take();
        self.revoke(frames);
    }

    /// Makes the hypervisor forget what it knew about frames.
    fn revoke(&mut self, frames: impl IntoIterator<Item = FrameRange>) {
        for run in frames {
            if let Err(error) = self.memory.revoke_frames(&run) {
                tracing::debug!(%error, "frames could not be revoked, so all translations will be flushed");
                self.is_unrevoked = true;
                return;
            }
        }
    }

    /// Fails when the call has been interrupted. What an operation has done by then stays. It need not be in step, since the
    /// guest does not run again in this state.
    pub(crate) fn check_watch(&self) -> Result<(), MapError> {
        check(self.watch.as_deref())
    }
}

impl Deref for Watched<'_> {
    type Target = AddressSpace;

    fn deref(&self) -> &AddressSpace {
        self.0
    }
}

impl DerefMut for Watched<'_> {
    fn deref_mut(&mut self) -> &mut AddressSpace {
        self.0
    }
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        self.0.watch = None;
        if !self.0.narrowed.is_empty() {
            // An operation was interrupted before it reached this point.
            self.0.narrowed.clear();
            self.0.is_unrevoked = true;
        }
    }
}

/// What has become of the hypervisor's translations of some frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Translations {
    Revoked,
    Kept,
}

fn check(watch: Option<&dyn Watch>) -> Result<(), MapError> {
    match watch {
        Some(watch) if watch.is_interrupted() => Err(MapError::Interrupted),
        _ => Ok(()),
    }
}

impl Window {
    fn range(&self) -> Option<Range<Page>> {
        let within = self.offset.checked_add(self.len)? <= self.region.len();
        let whole = self.at.is_page_aligned() && self.to.is_page_aligned() && self.len.is_multiple_of(PAGE_SIZE);
        let end = self.at.checked_add(self.len as u64)?;
        (within && whole && self.len > 0 && end <= HOST_END).then(|| Page::of(self.at)..Page::of(end))
    }
}

fn frames_of(pieces: Vec<(Range<Page>, FirstFrame)>) -> impl Iterator<Item = FrameRange> {
    pieces.into_iter().map(|(pages, frame)| frame.0..frame.0 + (pages.end - pages.start))
}

/// The pages of a range that the guest named: whole ones, at least one, and all among its own addresses. A length is rounded
/// up to whole pages.
fn user_pages(at: GuestVirt, len: u64) -> Result<Range<Page>, MapError> {
    let end = at.0.checked_add(len).and_then(|end| end.checked_next_multiple_of(PAGE)).ok_or(MapError::InvalidRange)?;
    let valid = at.is_page_aligned() && len > 0 && at >= USER_START && end <= USER_END.0;
    valid.then(|| Page::of(at)..Page::of(GuestVirt(end))).ok_or(MapError::InvalidRange)
}

/// The most mappings that a guest may have: the default of Linux's `vm.max_map_count`.
pub(crate) const MAX_MAPPINGS: usize = 65_530;

/// The most runs of frames behind a guest's pages. A guest has to make an effort to reach a quarter of this.
pub(crate) const MAX_RUNS: usize = 1 << 18;

/// Pages are taken away in portions of at most this many, and of at most [`PORTION_RUNS`] runs of frames. A portion that
/// reaches either bound takes about a millisecond.
const PORTION_PAGES: u64 = 8192;
const PORTION_RUNS: usize = 2048;

const PAGE: u64 = PAGE_SIZE as u64;
