//! Random bytes, from the host.

use std::io;

use ampoule_vmm::GuestVirt;
use linux_raw_sys::general::{GRND_INSECURE, GRND_NONBLOCK, GRND_RANDOM};

use crate::address_space::AddressSpace;

use super::errno::Errno;
use super::host::fill_random;
use super::uint;

/// Random bytes for a guest's start.
///
/// # Errors
///
/// The host's error when it gives none, for example because of a seccomp filter.
pub(crate) fn bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    fill_random(&mut bytes)?;
    Ok(bytes)
}

/// Gives at most [`MAX_RANDOM`] bytes and returns how many, as Linux may.
pub(super) fn getrandom(space: &mut AddressSpace, into: u64, len: u64, flags: u64) -> Result<u64, Errno> {
    let flags = uint(flags);
    let contradictory = flags & (GRND_RANDOM | GRND_INSECURE) == GRND_RANDOM | GRND_INSECURE;
    if flags & !(GRND_NONBLOCK | GRND_RANDOM | GRND_INSECURE) != 0 || contradictory {
        return Err(Errno::EINVAL);
    }
    let len = len.min(MAX_RANDOM);
    let mut done = 0;
    let mut buffer = [0; 256];
    while done < len {
        let part = &mut buffer[..(len - done).min(256) as usize];
        fill_random(part).map_err(|_| Errno::EAGAIN)?;
        let at = GuestVirt(into).checked_add(done).ok_or(Errno::EFAULT)?;
        match space.write(at, part) {
            Ok(()) => done += part.len() as u64,
            Err(_) if done > 0 => break,
            Err(bad) => return Err(bad.into()),
        }
    }
    Ok(done)
}

/// The most bytes that one call gives.
pub(super) const MAX_RANDOM: u64 = 64 << 10;
