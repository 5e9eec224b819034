//! Waiting for files. What a guest has open is always ready, so only time can make it wait.

use std::time::Duration;

use ampoule_vmm::GuestVirt;

use crate::address_space::AddressSpace;
use crate::personality::Outcome;

use super::errno::Errno;
use super::files::{Descriptor, Descriptors, OPEN_MAX};
use super::{int, time};

/// `timeout` is in milliseconds; a negative one never ends.
pub(super) fn poll(
    descriptors: &Descriptors,
    space: &mut AddressSpace,
    [files, count, timeout]: [u64; 3],
) -> Result<Outcome, Errno> {
    let timeout = u64::try_from(int(timeout)).ok().map(Duration::from_millis);
    wait(descriptors, space, files, count, timeout)
}

pub(super) fn ppoll(
    descriptors: &Descriptors,
    space: &mut AddressSpace,
    [files, count, timeout]: [u64; 3],
) -> Result<Outcome, Errno> {
    let timeout = match timeout {
        0 => None,
        at => Some(time::read_timespec(space, at)?),
    };
    wait(descriptors, space, files, count, timeout)
}

fn wait(
    descriptors: &Descriptors,
    space: &mut AddressSpace,
    files: u64,
    count: u64,
    timeout: Option<Duration>,
) -> Result<Outcome, Errno> {
    if count > OPEN_MAX as u64 {
        return Err(Errno::EINVAL);
    }
    let mut entries = [0; OPEN_MAX * ENTRY_LEN];
    let entries = &mut entries[..count as usize * ENTRY_LEN];
    space.read(GuestVirt(files), entries)?;
    let mut ready = 0;
    for entry in entries.chunks_exact_mut(ENTRY_LEN) {
        let number = i32::from_le_bytes([entry[0], entry[1], entry[2], entry[3]]);
        let wanted = u16::from_le_bytes([entry[4], entry[5]]);
        let found = match u64::try_from(number).map(|number| descriptors.get(number)) {
            Err(_) => 0,
            Ok(Err(_)) => POLLNVAL,
            Ok(Ok(Descriptor::Input)) => POLLHUP | wanted & (POLLIN | POLLRDNORM),
            Ok(Ok(Descriptor::Output(_))) => wanted & (POLLOUT | POLLWRNORM),
        };
        entry[6..].copy_from_slice(&found.to_le_bytes());
        ready += u64::from(found != 0);
    }
    space.write(GuestVirt(files), entries)?;
    Ok(match timeout {
        _ if ready > 0 => Outcome::Return(ready),
        None => Outcome::Deadlock,
        Some(duration) => time::sleep(duration, 0),
    })
}

// `struct pollfd` and the events of Linux's `include/uapi/asm-generic/poll.h`.
const ENTRY_LEN: usize = 8;
const POLLIN: u16 = 0x001;
const POLLOUT: u16 = 0x004;
const POLLHUP: u16 = 0x010;
const POLLNVAL: u16 = 0x020;
const POLLRDNORM: u16 = 0x040;
const POLLWRNORM: u16 = 0x100;
