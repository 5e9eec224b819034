//! Waiting for files. What a guest has open is always ready for what it can ever do, so only time can make it wait.

use std::time::Duration;

use ampoule_vmm::GuestVirt;
use linux_raw_sys::general::{self, pollfd, timeval};

use crate::address_space::AddressSpace;
use crate::fault::EndlessWait;
use crate::personality::Outcome;

use super::descriptors::{Descriptors, OPEN_MAX, Object};
use super::errno::Errno;
use super::signals::SET_SIZE;
use super::structure::{from_bytes, to_bytes};
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

/// `timeout` is a `struct timeval`; without one, the wait never ends.
pub(super) fn select(
    descriptors: &Descriptors,
    space: &mut AddressSpace,
    [count, readable, writable, exceptional, timeout]: [u64; 5],
) -> Result<Outcome, Errno> {
    let duration = if timeout == 0 { None } else { Some(time::read_timeval(space, timeout)?) };
    wait_for_sets(descriptors, space, count, [readable, writable, exceptional], timeout, duration)
}

/// `timeout` is a `struct timespec`; `mask` is a set of signals and its size. No signal comes while the guest waits.
pub(super) fn pselect(
    descriptors: &Descriptors,
    space: &mut AddressSpace,
    [count, readable, writable, exceptional, timeout, mask]: [u64; 6],
) -> Result<Outcome, Errno> {
    if mask != 0 {
        let (set, size) = (space.read_u64(GuestVirt(mask))?, space.read_u64(GuestVirt(mask.wrapping_add(8)))?);
        if set != 0 && size != SET_SIZE {
            return Err(Errno::EINVAL);
        }
    }
    let duration = if timeout == 0 { None } else { Some(time::read_timespec(space, timeout)?) };
    wait_for_sets(descriptors, space, count, [readable, writable, exceptional], timeout, duration)
}

/// Waits for files in three sets. As there are no more files than a word has bits, a set is a word; Linux leaves the part of
/// a set that is beyond the table of files alone too.
fn wait_for_sets(
    descriptors: &Descriptors,
    space: &mut AddressSpace,
    count: u64,
    places: [u64; 3],
    timeout: u64,
    duration: Option<Duration>,
) -> Result<Outcome, Errno> {
    let count = u32::try_from(int(count)).map_err(|_| Errno::EINVAL)?.min(u64::BITS);
    let among = if count == 0 { 0 } else { u64::MAX >> (u64::BITS - count) };
    let mut sets = [0; 3];
    for (set, place) in sets.iter_mut().zip(places) {
        if place != 0 && count > 0 {
            *set = space.read_u64(GuestVirt(place))? & among;
        }
    }
    let mut found = [0; 3];
    for number in (0..u64::from(count)).filter(|number| sets.iter().any(|set| set >> number & 1 != 0)) {
        let events = readiness(descriptors.get(number)?.object);
        for (index, wanted) in [READABLE, WRITABLE, EXCEPTIONAL].into_iter().enumerate() {
            if events & wanted != 0 {
                found[index] |= sets[index] & 1 << number;
            }
        }
    }
    for (set, place) in found.iter().zip(places) {
        if place != 0 && count > 0 {
            space.write(GuestVirt(place), &set.to_le_bytes())?;
        }
    }
    let ready = found.iter().map(|set| u64::from(set.count_ones())).sum();
    if ready == 0 && timeout != 0 {
        // Linux writes back how much time is left, which is none, and ignores it when that cannot be written.
        space.write(GuestVirt(timeout), &[0; size_of::<timeval>()]).ok();
    }
    Ok(outcome(ready, duration))
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
        let (fd, events) = from_bytes!(entry, pollfd { fd, events });
        let found = match u64::try_from(fd).map(|number| descriptors.get(number)) {
            Err(_) => 0,
            Ok(Err(_)) => POLLNVAL,
            Ok(Ok(file)) => readiness(file.object) & (events as u16 | POLLHUP),
        };
        entry.copy_from_slice(&to_bytes!(pollfd { fd: fd, events: events, revents: found as i16 }));
        ready += u64::from(found != 0);
    }
    space.write(GuestVirt(files), entries)?;
    Ok(outcome(ready, timeout))
}

/// What a file is ready for.
fn readiness(object: Object) -> u16 {
    match object {
        Object::Input => POLLHUP | POLLIN | POLLRDNORM,
        Object::Output(_) => POLLOUT | POLLWRNORM,
        // Linux's default for files without a `poll` of their own, however they were opened.
        Object::Device(_) | Object::Maps => POLLIN | POLLRDNORM | POLLOUT | POLLWRNORM,
    }
}

/// Where nothing is ready, nothing will be.
fn outcome(ready: u64, timeout: Option<Duration>) -> Outcome {
    match timeout {
        _ if ready > 0 => Outcome::Return(ready),
        None => Outcome::Deadlock(EndlessWait::Files),
        Some(duration) => time::sleep(duration, 0),
    }
}

const ENTRY_LEN: usize = size_of::<pollfd>();

const POLLIN: u16 = general::POLLIN as u16;
const POLLOUT: u16 = general::POLLOUT as u16;
const POLLHUP: u16 = general::POLLHUP as u16;
const POLLNVAL: u16 = general::POLLNVAL as u16;
const POLLRDNORM: u16 = general::POLLRDNORM as u16;
const POLLWRNORM: u16 = general::POLLWRNORM as u16;

// Which of the events that exist here count for which of `select`'s sets (Linux's `fs/select.c`).
const READABLE: u16 = POLLIN | POLLRDNORM | POLLHUP;
const WRITABLE: u16 = POLLOUT | POLLWRNORM;
const EXCEPTIONAL: u16 = 0;
