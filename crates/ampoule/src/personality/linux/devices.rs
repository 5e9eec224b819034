//! The devices in `/dev`: those of Linux's `drivers/char/mem.c`. What is read from them is made here. The terminal is none of
//! them: it is read and written as the standard streams are.

use ampoule_vfs::Device;

use super::errno::Errno;
use super::host::fill_random;

/// Fills `into` with what a read gives, and returns how much that is.
pub(super) fn read(device: Device, into: &mut [u8]) -> Result<usize, Errno> {
    match device {
        Device::Null => return Ok(0),
        Device::Zero | Device::Full => into.fill(0),
        Device::Random | Device::Urandom => fill_random(into).map_err(|_| Errno::EIO)?,
        _ => return Err(Errno::EIO),
    }
    Ok(into.len())
}

/// How much of `len` bytes a write takes. None of them is kept.
pub(super) fn write(device: Device, len: u64) -> Result<u64, Errno> {
    if device == Device::Full { Err(Errno::ENOSPC) } else { Ok(len.min(MAX_RW_COUNT)) }
}

/// The most bytes that one call transfers (Linux's `include/linux/fs.h`).
pub(super) const MAX_RW_COUNT: u64 = 0x7fff_f000;
