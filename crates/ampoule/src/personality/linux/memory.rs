//! System calls on memory.

use ampoule_vmm::address_map::USER_START;
use ampoule_vmm::{GuestVirt, PAGE_SIZE};
use linux_raw_sys::general::{
    MADV_COLD, MADV_DONTFORK, MADV_DONTNEED, MADV_FREE, MADV_KEEPONFORK, MADV_NORMAL, MADV_POPULATE_WRITE,
    MADV_WILLNEED, MAP_32BIT, MAP_ANONYMOUS, MAP_FIXED, MAP_FIXED_NOREPLACE, MAP_HUGETLB, MAP_PRIVATE, MAP_SHARED,
    MAP_SHARED_VALIDATE, MAP_TYPE, MREMAP_FIXED, MREMAP_MAYMOVE, PROT_EXEC, PROT_READ, PROT_SEM, PROT_WRITE,
};

use crate::address_space::{AddressSpace, MapError, Movement, Placement, Protection};

use super::descriptors::{Descriptors, Object};
use super::errno::Errno;
use super::paths::Device;
use super::uint;

pub(super) fn brk(space: &mut AddressSpace, end: u64) -> u64 {
    space.move_heap_end(GuestVirt(end)).0
}

/// Only memory without a file, or of `/dev/zero`, which is the same. Shared memory is private memory in a process that
/// cannot fork.
pub(super) fn mmap(space: &mut AddressSpace, descriptors: &Descriptors, arguments: &[u64; 6]) -> Result<u64, Errno> {
    let [at, len, protection, flags, descriptor, offset] = *arguments;
    let at = GuestVirt(at);
    let (protection, flags) = (uint(protection), uint(flags));
    if len == 0 || !offset.is_multiple_of(PAGE) || !(MAP_SHARED..=MAP_SHARED_VALIDATE).contains(&(flags & MAP_TYPE)) {
        return Err(Errno::EINVAL);
    }
    if flags & MAP_ANONYMOUS == 0 {
        let file = descriptors.get(descriptor)?;
        let shares_writes = flags & MAP_TYPE != MAP_PRIVATE && protection & PROT_WRITE != 0;
        match file.object {
            _ if !file.is_readable() || shares_writes && !file.is_writable() => return Err(Errno::EACCES),
            Object::Device(Device::Zero) => {}
            _ => return Err(Errno::ENODEV),
        }
    }
    if flags & (MAP_32BIT | MAP_HUGETLB) != 0 {
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
        0 => Placement::Anywhere,
        _ => Placement::Hint(at),
    };
    match space.map_anonymous(len, placement, protection_from(protection)?) {
        Ok(at) => Ok(at.0),
        Err(MapError::InvalidRange) => Err(Errno::ENOMEM),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn munmap(space: &mut AddressSpace, at: u64, len: u64) -> Result<u64, Errno> {
    space.unmap(GuestVirt(at), len)?;
    Ok(0)
}

pub(super) fn mprotect(space: &mut AddressSpace, at: u64, len: u64, protection: u64) -> Result<u64, Errno> {
    let at = GuestVirt(at);
    let protection = u32::try_from(protection).map_err(|_| Errno::EINVAL)?;
    if !at.is_page_aligned() || protection & !(PROT_READ | PROT_WRITE | PROT_EXEC | PROT_SEM) != 0 {
        return Err(Errno::EINVAL);
    }
    let protection = protection_from(protection)?;
    if len == 0 {
        return Ok(0);
    }
    match space.protect(at, len, protection) {
        Ok(()) => Ok(0),
        Err(MapError::InvalidRange) => Err(Errno::ENOMEM),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn mremap(space: &mut AddressSpace, arguments: &[u64; 6]) -> Result<u64, Errno> {
    let [at, old_len, new_len, flags, to, _] = *arguments;
    let movement = match u32::try_from(flags) {
        Ok(0) => Movement::Stay,
        Ok(MREMAP_MAYMOVE) => Movement::MayMove,
        Ok(MAYMOVE_FIXED) => Movement::To(GuestVirt(to)),
        _ => return Err(Errno::EINVAL),
    };
    match space.remap(GuestVirt(at), old_len, new_len, movement) {
        Ok(at) => Ok(at.0),
        Err(MapError::NotMapped) => Err(Errno::EFAULT),
        Err(error) => Err(error.into()),
    }
}

/// Advice that memory is no longer needed is followed; the rest is accepted without effect.
pub(super) fn madvise(space: &mut AddressSpace, at: u64, len: u64, advice: u64) -> Result<u64, Errno> {
    let at = GuestVirt(at);
    match uint(advice) {
        _ if !at.is_page_aligned() => Err(Errno::EINVAL),
        _ if len == 0 => Ok(0),
        MADV_DONTNEED => {
            space.discard(at, len)?;
            Ok(0)
        }
        MADV_NORMAL..=MADV_WILLNEED | MADV_FREE | MADV_DONTFORK..=MADV_KEEPONFORK | MADV_COLD..=MADV_POPULATE_WRITE => {
            check_mapped(space, at, len)
        }
        _ => Err(Errno::EINVAL),
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

pub(super) fn msync(space: &AddressSpace, at: u64, len: u64) -> Result<u64, Errno> {
    if len == 0 {
        return Ok(0);
    }
    check_mapped(space, GuestVirt(at), len)
}

fn check_mapped(space: &AddressSpace, at: GuestVirt, len: u64) -> Result<u64, Errno> {
    match space.is_mapped(at, len) {
        Some(true) => Ok(0),
        Some(false) => Err(Errno::ENOMEM),
        None if at.is_page_aligned() => Err(Errno::ENOMEM),
        None => Err(Errno::EINVAL),
    }
}

/// Writable and executable memory is refused, as SELinux refuses it.
fn protection_from(bits: u32) -> Result<Protection, Errno> {
    match (bits & PROT_WRITE != 0, bits & PROT_EXEC != 0) {
        (true, true) => Err(Errno::EACCES),
        (true, false) => Ok(Protection::ReadWrite),
        (false, true) => Ok(Protection::ReadExecute),
        (false, false) if bits & PROT_READ != 0 => Ok(Protection::Read),
        (false, false) => Ok(Protection::None),
    }
}

const PAGE: u64 = PAGE_SIZE as u64;

const MAYMOVE_FIXED: u32 = MREMAP_MAYMOVE | MREMAP_FIXED;
