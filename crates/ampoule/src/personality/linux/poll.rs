//! Waiting for files. While the guest waits, only time, its timers and its standard input can make it go on.
//!
//! What standard input has is [looked at](State::look_at_input) before each call that asks for it, so that one call sees one
//! state of it.

use std::time::Duration;

use ampoule_vmm::GuestVirt;
use linux_raw_sys::general::{self, EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLRDNORM, EPOLLWRNORM, pollfd, timeval};
use linux_raw_sys::ioctl::FIONREAD;

use crate::address_space::AddressSpace;
use crate::fault::EndlessWait;
use crate::personality::{Behind, Outcome, Streams, SystemCall};

use super::clocks::Clocks;
use super::descriptors::{Descriptors, OPEN_MAX};
use super::errno::Errno;
use super::signals::Signals;
use super::structure::{from_bytes, to_bytes};
use super::{State, int, numbers as nr, time, uint};

/// `timeout` is in milliseconds; a negative one never ends.
pub(super) fn poll(
    descriptors: &Descriptors,
    clocks: &mut Clocks,
    space: &mut AddressSpace,
    [files, count, timeout]: [u64; 3],
) -> Result<Outcome, Errno> {
    let timeout = u64::try_from(int(timeout)).ok().map(Duration::from_millis);
    wait(descriptors, clocks, space, files, count, timeout)
}

/// `timeout` is a `struct timespec`, and none never ends; `mask` is what is blocked meanwhile.
pub(super) fn ppoll(
    (descriptors, signals): (&Descriptors, &mut Signals),
    clocks: &mut Clocks,
    space: &mut AddressSpace,
    [files, count, timeout, mask, mask_size, _]: [u64; 6],
) -> Result<Outcome, Errno> {
    let timeout = match timeout {
        0 => None,
        at => Some(time::read_timespec(space, at)?),
    };
    if mask != 0 {
        signals.block_meanwhile(clocks, space, mask, mask_size)?;
    }
    wait(descriptors, clocks, space, files, count, timeout)
}

/// `timeout` is a `struct timeval`; without one, the wait never ends.
pub(super) fn select(
    descriptors: &Descriptors,
    clocks: &mut Clocks,
    space: &mut AddressSpace,
    [count, readable, writable, exceptional, timeout]: [u64; 5],
) -> Result<Outcome, Errno> {
    let duration = if timeout == 0 { None } else { Some(time::read_timeval(space, timeout)?) };
    wait_for_sets(descriptors, clocks, space, count, [readable, writable, exceptional], timeout, duration)
}

/// `timeout` is a `struct timespec`; `mask` is what is blocked meanwhile, a set of signals and its size.
pub(super) fn pselect(
    (descriptors, signals): (&Descriptors, &mut Signals),
    clocks: &mut Clocks,
    space: &mut AddressSpace,
    [count, readable, writable, exceptional, timeout, mask]: [u64; 6],
) -> Result<Outcome, Errno> {
    if mask != 0 {
        let (set, size) = (space.read_u64(GuestVirt(mask))?, space.read_u64(GuestVirt(mask.wrapping_add(8)))?);
        if set != 0 {
            signals.block_meanwhile(clocks, space, set, size)?;
        }
    }
    let duration = if timeout == 0 { None } else { Some(time::read_timespec(space, timeout)?) };
    wait_for_sets(descriptors, clocks, space, count, [readable, writable, exceptional], timeout, duration)
}

/// Waits for files in three sets, of which the part that is beyond the table of files is left alone.
fn wait_for_sets(
    descriptors: &Descriptors,
    clocks: &mut Clocks,
    space: &mut AddressSpace,
    count: u64,
    places: [u64; 3],
    timeout: u64,
    duration: Option<Duration>,
) -> Result<Outcome, Errno> {
    let count = usize::try_from(int(count)).map_err(|_| Errno::EINVAL)?.min(descriptors.capacity());
    let mut wanted = [[0; SET_LEN]; 3];
    let len = count.div_ceil(u64::BITS as usize) * size_of::<u64>();
    for (set, place) in wanted.iter_mut().zip(places).filter(|(_, place)| *place != 0) {
        space.read(GuestVirt(place), &mut set[..len])?;
    }
    let mut found = [[0; SET_LEN]; 3];
    let mut ready = 0;
    let mut is_for_input = false;
    for number in 0..count {
        let (byte, bit) = (number / 8, 1 << (number % 8));
        if wanted.iter().all(|set| set[byte] & bit == 0) {
            continue;
        }
        let file = descriptors.id(number as u64)?;
        let events = descriptors.readiness(file);
        is_for_input |= wanted[0][byte] & bit != 0 && descriptors.leads_to_input(file);
        for (index, counting) in [READABLE, WRITABLE, EXCEPTIONAL].into_iter().enumerate() {
            if events & counting != 0 && wanted[index][byte] & bit != 0 {
                found[index][byte] |= bit;
                ready += 1;
            }
        }
    }
    let outcome = outcome(clocks, ready, duration, is_for_input.then(|| descriptors.input().behind));
    if !matches!(outcome, Outcome::Return(_) | Outcome::Sleep { .. }) {
        // The sets are read again when the wait goes on.
        return Ok(outcome);
    }
    for (set, place) in found.iter().zip(places).filter(|(_, place)| *place != 0) {
        space.write(GuestVirt(place), &set[..len])?;
    }
    if ready == 0 && timeout != 0 {
        // Linux writes back how much time is left, which is none, and ignores it when that cannot be written.
        space.write(GuestVirt(timeout), &[0; size_of::<timeval>()]).ok();
    }
    Ok(outcome)
}

fn wait(
    descriptors: &Descriptors,
    clocks: &mut Clocks,
    space: &mut AddressSpace,
    files: u64,
    count: u64,
    timeout: Option<Duration>,
) -> Result<Outcome, Errno> {
    if count > descriptors.most() as u64 {
        return Err(Errno::EINVAL);
    }
    let mut entries = vec![0; count as usize * ENTRY_LEN];
    space.read(GuestVirt(files), &mut entries)?;
    let mut ready = 0;
    let mut is_for_input = false;
    for entry in entries.chunks_exact_mut(ENTRY_LEN) {
        let (fd, events) = from_bytes!(entry, pollfd { fd, events });
        let found = match u64::try_from(fd).map(|number| descriptors.id(number)) {
            Err(_) => 0,
            Ok(Err(_)) => POLLNVAL,
            Ok(Ok(file)) => {
                is_for_input |= events as u16 & (POLLIN | POLLRDNORM) != 0 && descriptors.leads_to_input(file);
                descriptors.readiness(file) as u16 & (events as u16 | POLLHUP | POLLERR)
            }
        };
        entry.copy_from_slice(&to_bytes!(pollfd { fd: fd, events: events, revents: found as i16 }));
        ready += u64::from(found != 0);
    }
    space.write(GuestVirt(files), &entries)?;
    Ok(outcome(clocks, ready, timeout, is_for_input.then(|| descriptors.input().behind)))
}

/// Where nothing is ready, the process waits: for standard input too, where `input` says what that has besides what is there.
pub(super) fn outcome(clocks: &mut Clocks, ready: u64, timeout: Option<Duration>, input: Option<Behind>) -> Outcome {
    match (input, timeout) {
        _ if ready > 0 => Outcome::Return(ready),
        (Some(Behind::Unknown), _) => Outcome::AwaitInput,
        (Some(Behind::Later), _) => clocks.wait_for_input(timeout),
        (_, None) => Outcome::Deadlock(EndlessWait::Files),
        (_, Some(duration)) => clocks.wait(duration, 0),
    }
}

impl State {
    /// Takes note of what standard input has, before a call that asks for it.
    pub(super) fn look_at_input(&mut self, call: &SystemCall, streams: &mut dyn Streams) {
        let asks = match call.number {
            nr::POLL | nr::PPOLL | nr::SELECT | nr::PSELECT6 => true,
            nr::EPOLL_WAIT | nr::EPOLL_PWAIT | nr::EPOLL_PWAIT2 | nr::EPOLL_CTL => true,
            nr::IOCTL => uint(call.arguments[1]) == FIONREAD,
            _ => false,
        };
        if asks && self.descriptors.has_input() {
            self.descriptors.input_has(streams.look());
        }
    }
}

const ENTRY_LEN: usize = size_of::<pollfd>();

/// Bytes of the largest set that `select` looks at.
const SET_LEN: usize = OPEN_MAX / 8;

const POLLERR: u16 = general::POLLERR as u16;
const POLLHUP: u16 = general::POLLHUP as u16;
const POLLNVAL: u16 = general::POLLNVAL as u16;
const POLLIN: u16 = general::POLLIN as u16;
const POLLRDNORM: u16 = general::POLLRDNORM as u16;

// Which of the events that exist here count for which of `select`'s sets (Linux's `fs/select.c`).
const READABLE: u32 = EPOLLIN | EPOLLRDNORM | EPOLLHUP | EPOLLERR;
const WRITABLE: u32 = EPOLLOUT | EPOLLWRNORM | EPOLLERR;
const EXCEPTIONAL: u32 = 0;
