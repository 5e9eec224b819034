//! System calls on memory.

use ampoule_vfs::{Device, File, MountKind};
use ampoule_vmm::address_map::USER_START;
use ampoule_vmm::{GuestVirt, PAGE_SIZE};
use linux_raw_sys::general::{
    MADV_COLD, MADV_DONTFORK, MADV_DONTNEED, MADV_FREE, MADV_KEEPONFORK, MADV_NORMAL, MADV_POPULATE_WRITE,
    MADV_WILLNEED, MAP_32BIT, MAP_ANONYMOUS, MAP_DENYWRITE, MAP_EXECUTABLE, MAP_FIXED, MAP_FIXED_NOREPLACE,
    MAP_GROWSDOWN, MAP_HUGETLB, MAP_LOCKED, MAP_NONBLOCK, MAP_NORESERVE, MAP_POPULATE, MAP_PRIVATE, MAP_SHARED,
    MAP_SHARED_VALIDATE, MAP_STACK, MAP_TYPE, MREMAP_FIXED, MREMAP_MAYMOVE, MS_ASYNC, MS_INVALIDATE, MS_SYNC,
    PROT_EXEC, PROT_READ, PROT_SEM, PROT_WRITE,
};

use crate::address_space::{AddressSpace, Location, MapError, MappedFile, Movement, Placement, Protection};

use super::clocks::Clocks;
use super::descriptors::Object;
use super::errno::Errno;
use super::mapped::{Keep, mapped_file};
use super::mappings;
use super::shared_files::Wanted;
use super::{State, uint};

impl State {
    pub(super) fn brk(&mut self, clocks: &mut Clocks, space: &mut AddressSpace, end: u64) -> Result<u64, Errno> {
        let before = space.heap_end().0;
        // Whatever lies in the place of the heap is unmapped with it.
        if end < before && space.shares_files() {
            self.settle_at(clocks, space, end, before - end)?;
        }
        let end = space.move_heap_end(GuestVirt(end)).0;
        self.close_unmapped(space);
        Ok(end)
    }

    /// Memory without a file, or of `/dev/zero`, which is the same, or pages of a regular file.
    ///
    /// Shared memory without a file is private memory in a process that cannot fork.
    pub(super) fn mmap(
        &mut self,
        clocks: &mut Clocks,
        space: &mut AddressSpace,
        arguments: &[u64; 6],
    ) -> Result<u64, Errno> {
        let [at, len, protection, flags, descriptor, offset] = *arguments;
        let at = GuestVirt(at);
        let (protection, flags) = (uint(protection), uint(flags));
        let kind = flags & MAP_TYPE;
        if len == 0 || !offset.is_multiple_of(PAGE) || !(MAP_SHARED..=MAP_SHARED_VALIDATE).contains(&kind) {
            return Err(Errno::EINVAL);
        }
        let file = if flags & MAP_ANONYMOUS == 0 { self.file_to_map(descriptor, flags, protection)? } else { None };
        if kind == MAP_SHARED_VALIDATE && flags & !LEGACY_FLAGS != 0 {
            return Err(if flags & MAP_ANONYMOUS == 0 { Errno::EOPNOTSUPP } else { Errno::EINVAL });
        }
        if flags & MAP_HUGETLB != 0 {
            return Err(Errno::ENOMEM);
        }
        let fixed = flags & (MAP_FIXED | MAP_FIXED_NOREPLACE) != 0;
        if fixed && !at.is_page_aligned() {
            return Err(Errno::EINVAL);
        }
        if fixed && at < USER_START {
            return Err(Errno::EPERM);
        }
        let placement = match at.0 {
            _ if flags & MAP_FIXED_NOREPLACE != 0 => Placement::FixedVacant(at),
            _ if flags & MAP_FIXED != 0 => Placement::Fixed(at),
            _ if flags & MAP_32BIT != 0 => Placement::Low,
            0 => Placement::Anywhere,
            _ => Placement::Hint(at),
        };
        let protection = protection_from(protection);
        let mapping = file.as_ref().and_then(|file| self.mapping_of(file));
        if let Some(mapping) = mapping {
            let wanted = Wanted { len, placement, protection, first: offset / PAGE };
            if let Some(at) = Self::pages_to_map(mapping, wanted, flags)? {
                return Ok(at.0);
            }
        }
        if flags & MAP_FIXED != 0 {
            self.settle_at(clocks, space, at.0, len)?;
        }
        let mapped = match file {
            None => space.map_anonymous(len, placement, protection),
            Some(file) => {
                if offset.checked_add(len).is_none_or(|end| end > i64::MAX as u64) {
                    return Err(Errno::EOVERFLOW);
                }
                let is_shared = kind != MAP_PRIVATE;
                let first = offset / PAGE;
                let held = self.vfs.len(&file).unwrap_or(0).saturating_sub(offset).min(len);
                let keep = match space.can_keep_file() {
                    false => Keep::Copies,
                    // The program may not touch more than there is memory for.
                    true if held > space.memory_free() => Keep::Paged,
                    true => Keep::Frozen,
                };
                let mapped = self.with_files(clocks, space, |vfs, context| mapped_file(vfs, context, &file, keep))?;
                let may_change = || self.may_change(&file) && space.permits(protection);
                if is_shared && mapping.is_none() && (!mapped.executable || may_change()) {
                    let mapped = MappedFile { executable: false, frozen: None, paged: None, ..mapped };
                    let at =
                        self.map_shared(clocks, space, (file, mapped), Wanted { len, placement, protection, first });
                    self.close_unmapped(space);
                    return at.map(|at| at.0);
                }
                self.map_privately(
                    clocks,
                    space,
                    (file, mapped),
                    (Wanted { len, placement, protection, first }, is_shared),
                )?
            }
        };
        self.close_unmapped(space);
        match mapped {
            Ok(at) => Ok(at.0),
            Err(MapError::InvalidRange) => Err(Errno::ENOMEM),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether the program can change a file, as it can what lies under memory.
    fn may_change(&self, file: &File) -> bool {
        self.vfs.mount_kind(file.location()) != MountKind::HostReadOnly
    }

    /// The regular file whose pages are to be mapped, or none for one that has only zeros.
    fn file_to_map(&self, descriptor: u64, flags: u32, protection: u32) -> Result<Option<File>, Errno> {
        let opened = self.descriptors.get(descriptor)?;
        if opened.is_place() {
            return Err(Errno::EBADF);
        }
        let shares_writes = flags & MAP_TYPE != MAP_PRIVATE && protection & PROT_WRITE != 0;
        if !opened.is_readable() || shares_writes && !opened.is_writable() {
            return Err(Errno::EACCES);
        }
        match opened.object {
            Object::Device(Device::Zero) => Ok(None),
            Object::File | Object::Mapping => Ok(self.descriptors.named(descriptor)?.cloned()),
            _ => Err(Errno::ENODEV),
        }
    }
}

impl State {
    pub(super) fn munmap(
        &mut self,
        clocks: &mut Clocks,
        space: &mut AddressSpace,
        at: u64,
        len: u64,
    ) -> Result<u64, Errno> {
        if space.host_file(GuestVirt(at), len).is_some() && GuestVirt(at).is_page_aligned() && len > 0 {
            return Ok(0);
        }
        self.settle_at(clocks, space, at, len)?;
        space.unmap(GuestVirt(at), len)?;
        self.close_unmapped(space);
        Ok(0)
    }

    pub(super) fn mprotect(
        &mut self,
        space: &mut AddressSpace,
        at: u64,
        len: u64,
        protection: u64,
    ) -> Result<u64, Errno> {
        let protection = u32::try_from(protection).map_err(|_| Errno::EINVAL)?;
        if !GuestVirt(at).is_page_aligned() || protection & !(PROT_READ | PROT_WRITE | PROT_EXEC | PROT_SEM) != 0 {
            return Err(Errno::EINVAL);
        }
        let protection = protection_from(protection);
        if len == 0 {
            return Ok(0);
        }
        if let Some(checked) = mappings::check_protection(space, at, len, protection) {
            return checked;
        }
        if protection.is_writable() && space.shares_files() {
            self.own_at(space, at, len)?;
        }
        match space.protect(GuestVirt(at), len, protection) {
            Ok(()) => Ok(0),
            Err(MapError::InvalidRange) => Err(Errno::ENOMEM),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn mremap(
        &mut self,
        clocks: &mut Clocks,
        space: &mut AddressSpace,
        arguments: &[u64; 6],
    ) -> Result<u64, Errno> {
        let [at, old_len, new_len, flags, to, _] = *arguments;
        let movement = match u32::try_from(flags) {
            Ok(0) => Movement::Stay,
            Ok(MREMAP_MAYMOVE) => Movement::MayMove,
            Ok(MAYMOVE_FIXED) => Movement::To(GuestVirt(to)),
            _ => return Err(Errno::EINVAL),
        };
        if old_len == 0 && GuestVirt(at).is_page_aligned() && space.describe(GuestVirt(at)) == Location::Unmapped {
            return Err(Errno::EFAULT);
        }
        if let Movement::To(to) = movement {
            self.settle_at(clocks, space, to.0, new_len)?;
        }
        let moved = match self.remap_shared(clocks, space, (at, old_len, new_len), movement)? {
            Some(at) => Ok(at),
            None => self.remap_private(clocks, space, (at, old_len, new_len), movement)?,
        };
        self.close_unmapped(space);
        match moved {
            Ok(at) => Ok(at.0),
            Err(MapError::NotMapped) => Err(Errno::EFAULT),
            Err(error) => Err(error.into()),
        }
    }

    /// Advice that memory is no longer needed is followed; the rest is accepted without effect.
    pub(super) fn madvise(
        &mut self,
        clocks: &mut Clocks,
        space: &mut AddressSpace,
        [at, len, advice]: [u64; 3],
    ) -> Result<u64, Errno> {
        let at = GuestVirt(at);
        match uint(advice) {
            _ if !at.is_page_aligned() => Err(Errno::EINVAL),
            _ if len == 0 => Ok(0),
            MADV_DONTNEED if space.host_file(at, len).is_some() => Ok(0),
            MADV_DONTNEED => {
                let discarded = space.discard(at, len);
                if !matches!(discarded, Err(MapError::InvalidRange)) {
                    self.copy_again(clocks, space, at, len)?;
                }
                discarded?;
                Ok(0)
            }
            MADV_NORMAL..=MADV_WILLNEED
            | MADV_FREE
            | MADV_DONTFORK..=MADV_KEEPONFORK
            | MADV_COLD..=MADV_POPULATE_WRITE => check_mapped(space, at, len),
            _ => Err(Errno::EINVAL),
        }
    }

    /// Writes what was stored in files to them. With `MS_INVALIDATE` the program sees what others have written to files of the
    /// host's.
    pub(super) fn msync(
        &mut self,
        clocks: &mut Clocks,
        space: &mut AddressSpace,
        [at, len, flags]: [u64; 3],
    ) -> Result<u64, Errno> {
        let flags = u32::try_from(flags).map_err(|_| Errno::EINVAL)?;
        let contradicts = flags & (MS_ASYNC | MS_SYNC) == MS_ASYNC | MS_SYNC;
        if contradicts || flags & !(MS_ASYNC | MS_SYNC | MS_INVALIDATE) != 0 {
            return Err(Errno::EINVAL);
        }
        if len == 0 && GuestVirt(at).is_page_aligned() {
            return Ok(0);
        }
        let checked = check_mapped(space, GuestVirt(at), len);
        if checked == Err(Errno::EINVAL) {
            return checked;
        }
        self.write_back_at(clocks, space, at, len)?;
        for (id, pages) in space.shared_at(GuestVirt(at), len) {
            if flags & MS_INVALIDATE != 0 {
                self.refresh(clocks, space, (id, pages))?;
            }
            if flags & MS_SYNC != 0 {
                self.sync_shared(id)?;
            }
        }
        checked
    }
}

/// Every page that is mapped counts as being in memory.
pub(super) fn mincore(space: &mut AddressSpace, at: u64, len: u64, into: u64) -> Result<u64, Errno> {
    if len == 0 {
        return Ok(0);
    }
    check_mapped(space, GuestVirt(at), len)?;
    let resident = [1; PAGE_SIZE];
    let mut left = len.div_ceil(PAGE);
    let mut into = GuestVirt(into);
    while left > 0 {
        let part = left.min(PAGE);
        space.write(into, &resident[..part as usize])?;
        space.check_watch()?;
        into = into.checked_add(part).ok_or(Errno::EFAULT)?;
        left -= part;
    }
    Ok(0)
}

fn check_mapped(space: &AddressSpace, at: GuestVirt, len: u64) -> Result<u64, Errno> {
    if at.is_page_aligned() && space.host_file(at, len).is_some() {
        return Ok(0);
    }
    match space.is_mapped(at, len) {
        Some(true) => Ok(0),
        Some(false) => Err(Errno::ENOMEM),
        None if at.is_page_aligned() => Err(Errno::ENOMEM),
        None => Err(Errno::EINVAL),
    }
}

fn protection_from(bits: u32) -> Protection {
    match (bits & PROT_WRITE != 0, bits & PROT_EXEC != 0) {
        (true, true) => Protection::ReadWriteExecute,
        (true, false) => Protection::ReadWrite,
        (false, true) => Protection::ReadExecute,
        (false, false) if bits & PROT_READ != 0 => Protection::Read,
        (false, false) => Protection::None,
    }
}

const PAGE: u64 = PAGE_SIZE as u64;

/// The flags that `MAP_SHARED_VALIDATE` knows of ordinary files (`LEGACY_MAP_MASK` of Linux's `include/linux/mman.h`).
const LEGACY_FLAGS: u32 = MAP_SHARED_VALIDATE
    | MAP_FIXED
    | MAP_ANONYMOUS
    | MAP_DENYWRITE
    | MAP_EXECUTABLE
    | MAP_GROWSDOWN
    | MAP_LOCKED
    | MAP_NORESERVE
    | MAP_POPULATE
    | MAP_NONBLOCK
    | MAP_STACK
    | MAP_HUGETLB
    | MAP_32BIT;

const MAYMOVE_FIXED: u32 = MREMAP_MAYMOVE | MREMAP_FIXED;
