//! The stack, which grows when the guest reaches below the part that it has used.

use std::ops::Range;

use ampoule_vmm::address_map::USER_END;
use ampoule_vmm::{FaultAccess, GuestVirt};

use crate::page::Page;

use super::mapping::Mapping;
use super::paged::PageIn;
use super::{AddressSpace, Location, MapError, MappingKind, PAGE, Protection};

/// The pages that are kept for the stack: `limit..top`, and below them a gap, `bottom..limit`, which stays empty unless the
/// guest asks for addresses in it or has used up all others. It is so wide because a function without stack probes may move
/// the stack pointer by as much as it likes before it touches anything; what it then touches is not to be something else's
/// memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stack {
    bottom: Page,
    /// From here on nothing is mapped unless the guest insists.
    guard: Page,
    limit: Page,
    top: Page,
}

/// How a page fault is resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FaultResolution {
    /// The access is allowed, and was so all along.
    Allowed,
    /// The access is allowed now: the stack has grown.
    Grown,
    /// The access is possible now: so many pages of a file were read.
    PagedIn { pages: u64 },
    /// The access is not allowed.
    Denied,
    /// The access is allowed, and the file has no such page any more.
    Lost,
    /// The stack would have grown, or a page of a file been read, but the guest has used all of its memory.
    OutOfMemory,
}

impl AddressSpace {
    /// Reserves `size` bytes at the top of the guest's addresses for the stack, maps the highest `used` of them at once, and
    /// returns the address above them. Both are rounded up to whole pages.
    ///
    /// # Errors
    ///
    /// Those of a mapping; `InvalidRange` when `size` is zero, or too large for the guest's addresses.
    pub(crate) fn map_stack(&mut self, size: u64, used: u64) -> Result<GuestVirt, MapError> {
        let pages = size.div_ceil(PAGE);
        let top = Page::of(USER_END) - 1;
        if pages == 0 || pages > top.0 / 2 {
            return Err(MapError::InvalidRange);
        }
        let limit = top - pages;
        let used = used.div_ceil(PAGE).clamp(1, pages);
        self.map_vacant(top - used..top, STACK)?;
        let guard = limit - GUARD_PAGES;
        self.layout_mut().stack = Stack { bottom: Page::of(GAP_START).min(guard), guard, limit, top };
        Ok(top.address())
    }

    /// Resolves a page fault, after which the guest may continue if the access is allowed by now, which the processor did
    /// not know yet, if the page of a file can be read, or if the stack can grow.
    pub(crate) fn resolve_fault(&mut self, at: GuestVirt, access: FaultAccess) -> FaultResolution {
        let allowed = match self.describe(at) {
            Location::Mapped { kind: MappingKind::BehindFile(_), .. } => false,
            Location::Mapped { protection, .. } => protection.allows(access),
            Location::Window { writable } => match access {
                FaultAccess::Read => true,
                FaultAccess::Write => writable,
                FaultAccess::Execute => false,
            },
            Location::Host { access: allowed } => match access {
                FaultAccess::Read => true,
                FaultAccess::Write => allowed.write,
                FaultAccess::Execute => allowed.execute,
            },
            Location::Unmapped => false,
        };
        let out_of_memory = |error: &MapError| {
            matches!(error, MapError::OutOfFrames { .. } | MapError::OutOfTables(_) | MapError::TooFragmented { .. })
        };
        if allowed {
            return match self.page_in(Page::of(at)) {
                Ok(PageIn::Read { pages }) => FaultResolution::PagedIn { pages },
                Ok(PageIn::Lost) => FaultResolution::Lost,
                Err(error) if out_of_memory(&error) => FaultResolution::OutOfMemory,
                // Whoever is interrupted looks at that before the guest runs again.
                Ok(PageIn::Unneeded) | Err(_) => FaultResolution::Allowed,
            };
        }
        if access == FaultAccess::Execute {
            return FaultResolution::Denied;
        }
        match self.grow_stack(at) {
            Ok(true) => FaultResolution::Grown,
            Err(error) if out_of_memory(&error) => FaultResolution::OutOfMemory,
            Ok(false) | Err(_) => FaultResolution::Denied,
        }
    }

    /// The lowest address of the stack that has memory.
    pub(crate) fn stack_start(&self) -> Option<GuestVirt> {
        let Stack { limit, top, .. } = self.layout.stack;
        let stack =
            self.layout.mappings.overlapping(&(limit..top)).find(|(_, mapping)| mapping.kind == MappingKind::Stack);
        stack.map(|(pages, _)| pages.start.address())
    }

    /// Whether an access of the guest's there has run out of the stack: in the guard or, where the stack pointer has been moved
    /// into the gap, anywhere between that and the stack. Otherwise the gap is no more than addresses that are not mapped.
    pub(crate) fn is_stack_overflow(&self, at: GuestVirt, stack_pointer: GuestVirt) -> bool {
        let Stack { bottom, guard, limit, .. } = self.layout.stack;
        let in_gap = |address, gap: Range<Page>| {
            gap.contains(&Page::of(address)) && self.describe(address) == Location::Unmapped
        };
        in_gap(at, guard..limit)
            || in_gap(at, bottom..limit)
                && in_gap(stack_pointer, bottom..limit)
                && stack_pointer.0.saturating_sub(RED_ZONE) <= at.0
    }

    /// Grows the stack down to `at`, if that lies between the used part of the stack and its limit: by as much again as
    /// there is, so that a deep stack costs few faults, or by what it takes where memory is short.
    pub(super) fn grow_stack(&mut self, at: GuestVirt) -> Result<bool, MapError> {
        let Stack { limit, top, .. } = self.layout.stack;
        let page = Page::of(at);
        if !(limit..top).contains(&page) {
            return Ok(false);
        }
        let Some((used, mapping)) = self.layout.mappings.overlapping(&(page..top)).next() else {
            return Ok(false);
        };
        if used.start == page || mapping.kind != MappingKind::Stack {
            return Ok(false);
        }
        let ample = (top - used.start).max(LEAST_GROWTH);
        let ample = Page(used.start.0.saturating_sub(ample)).max(limit).min(page)..used.start;
        let affordable = ample.end - ample.start <= self.layout.frames.free();
        if affordable && self.layout.mappings.is_vacant(&ample) && self.map_vacant(ample, STACK).is_ok() {
            return Ok(true);
        }
        self.map_vacant(page..used.start, STACK).map(|()| true)
    }
}

impl Stack {
    pub(super) fn record(&self) -> [u64; 4] {
        [self.bottom, self.guard, self.limit, self.top].map(|page| page.0)
    }

    /// `None` where these are not in ascending order, or not among the guest's addresses.
    pub(super) fn of_record(pages: [u64; 4]) -> Option<Self> {
        let [bottom, guard, limit, top] = pages.map(Page);
        let is_stack = pages.is_sorted() && top <= Page::of(USER_END);
        is_stack.then_some(Self { bottom, guard, limit, top })
    }

    /// The first page of the gap below the stack.
    pub(super) fn bottom(&self) -> Page {
        self.bottom
    }

    /// The first page of the guard, which is the end of the gap.
    pub(super) fn guard(&self) -> Page {
        self.guard
    }

    /// Whether a page of the range is kept for the stack or its guard.
    pub(super) fn reserves(&self, range: &Range<Page>) -> bool {
        range.start < self.top && self.guard < range.end
    }
}

impl Default for Stack {
    fn default() -> Self {
        let end = Page::of(USER_END);
        Self { bottom: end, guard: end, limit: end, top: end }
    }
}

const STACK: Mapping = Mapping { kind: MappingKind::Stack, protection: Protection::ReadWrite };

/// Where the gap begins: in the middle of the guest's addresses. So the stack has tables of its own in the map of pages.
const GAP_START: GuestVirt = GuestVirt(USER_END.0 / 2);

/// The guard: as wide as Linux's default `stack_guard_gap`.
const GUARD_PAGES: u64 = 256;

/// How far below the stack pointer a function may reach (System V ABI for AMD64, 3.2.2); more than a `push` or a `call` does.
const RED_ZONE: u64 = 128;

/// The stack grows by at least 128 KiB.
const LEAST_GROWTH: u64 = 32;
