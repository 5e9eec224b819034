//! Reading and writing what the process fills itself: pipes and event counters.
//!
//! Nobody else fills or empties them, so where a call would have to wait, it waits for ever.

use ampoule_vmm::{GuestVirt, PAGE_SIZE};
use linux_raw_sys::general::{EPOLLIN, EPOLLOUT, EPOLLRDNORM, EPOLLWRNORM};

use crate::address_space::AddressSpace;
use crate::fault::EndlessWait;
use crate::personality::Outcome;

use super::descriptors::{Descriptors, FileId, Object, OpenFile, PipeId};
use super::errno::Errno;
use super::files::{MAX_TRANSFER, Place, total};
use super::signals::Signals;

pub(super) fn read_pipe(
    descriptors: &mut Descriptors,
    space: &mut AddressSpace,
    (file, pipe): (OpenFile, PipeId),
    places: &[Place],
) -> Result<Outcome, Errno> {
    let wanted = total(places).min(MAX_TRANSFER) as usize;
    let held = descriptors.pipe_mut(pipe);
    if wanted == 0 || held.len() == 0 && !held.has_writer {
        return Ok(Outcome::Return(0));
    }
    if held.len() == 0 {
        return would_wait(file.is_non_blocking());
    }
    let done = scatter(space, places, &held.peek(wanted))?;
    if held.take(done) {
        descriptors.wake_object(Object::PipeWriter(pipe), EPOLLOUT | EPOLLWRNORM);
    }
    Ok(Outcome::Return(done as u64))
}

/// Writes to a pipe.
pub(super) fn write_pipe(
    descriptors: &mut Descriptors,
    signals: &mut Signals,
    space: &AddressSpace,
    (file, pipe): (OpenFile, PipeId),
    places: &[Place],
) -> Result<Outcome, Errno> {
    let wanted = total(places);
    if wanted == 0 {
        return Ok(Outcome::Return(0));
    }
    if !descriptors.pipe_mut(pipe).has_reader {
        return broken(signals);
    }
    let bytes = gather(space, places)?;
    let done = descriptors.pipe_mut(pipe).put(&bytes);
    // As Linux has it for whoever waits for a pipe, also where there was no room.
    descriptors.wake_object(Object::PipeReader(pipe), EPOLLIN | EPOLLRDNORM);
    // Without `O_NONBLOCK` a write goes on until all is written.
    let is_over = done == bytes.len() || done > 0 && file.is_non_blocking();
    if is_over { Ok(Outcome::Return(done as u64)) } else { would_wait(file.is_non_blocking()) }
}

pub(super) fn read_counter(
    descriptors: &mut Descriptors,
    space: &mut AddressSpace,
    (file, id): (OpenFile, FileId),
    places: &[Place],
) -> Result<Outcome, Errno> {
    if total(places) < COUNT_LEN {
        return Err(Errno::EINVAL);
    }
    let Some((value, rest)) = descriptors.counter_mut(id).next() else { return would_wait(file.is_non_blocking()) };
    *descriptors.counter_mut(id) = rest;
    descriptors.wake(id, EPOLLOUT);
    match scatter(space, places, &value.to_le_bytes()) {
        Ok(done) if done as u64 == COUNT_LEN => Ok(Outcome::Return(COUNT_LEN)),
        _ => Err(Errno::EFAULT),
    }
}

/// Adds a number from each place, as Linux does. An error is not reported when something was added before it.
pub(super) fn write_counter(
    descriptors: &mut Descriptors,
    space: &AddressSpace,
    (file, id): (OpenFile, FileId),
    places: &[Place],
) -> Result<Outcome, Errno> {
    let mut done = 0;
    for place in places {
        match add(descriptors, space, id, place) {
            Ok(Added::Yes) => done += COUNT_LEN,
            Ok(Added::TooMuch) if done == 0 || !file.is_non_blocking() => return would_wait(file.is_non_blocking()),
            Err(errno) if done == 0 => return Err(errno),
            Ok(Added::TooMuch) | Err(_) => break,
        }
        // What a place has beyond a number is not written.
        if place.len > COUNT_LEN {
            break;
        }
    }
    Ok(Outcome::Return(done))
}

enum Added {
    Yes,
    TooMuch,
}

fn add(descriptors: &mut Descriptors, space: &AddressSpace, id: FileId, place: &Place) -> Result<Added, Errno> {
    if place.len < COUNT_LEN {
        return Err(Errno::EINVAL);
    }
    let value = space.read_u64(GuestVirt(place.at))?;
    match descriptors.counter_mut(id).plus(value)? {
        Some(sum) => {
            *descriptors.counter_mut(id) = sum;
            descriptors.wake(id, EPOLLIN);
            Ok(Added::Yes)
        }
        None => Ok(Added::TooMuch),
    }
}

/// What comes of writing what nobody is there to read: a signal, and an error.
pub(super) fn broken(signals: &mut Signals) -> Result<Outcome, Errno> {
    signals.broken_pipe();
    Err(Errno::EPIPE)
}

/// What comes of a call that cannot go on as it is.
pub(super) fn would_wait(never_waits: bool) -> Result<Outcome, Errno> {
    if never_waits { Err(Errno::EAGAIN) } else { Ok(Outcome::Deadlock(EndlessWait::Files)) }
}

/// Writes bytes to the places, and says how many. An error is not reported when some were written before it.
pub(super) fn scatter(space: &mut AddressSpace, places: &[Place], bytes: &[u8]) -> Result<usize, Errno> {
    let mut done = 0;
    for place in places {
        let mut at = GuestVirt(place.at);
        let end = done + (place.len.min((bytes.len() - done) as u64) as usize);
        while done < end {
            // No part goes beyond a page, so that it can be written as a whole or not at all.
            let part = (end - done).min(PAGE_SIZE - at.page_offset());
            match space.write(at, &bytes[done..done + part]) {
                Ok(()) => done += part,
                Err(_) if done > 0 => return Ok(done),
                Err(bad) => return Err(bad.into()),
            }
            at = GuestVirt(at.0.wrapping_add(part as u64));
        }
    }
    Ok(done)
}

/// Reads from the places: all of it, up to the call's bound, or whole pages as far as it can be read.
pub(super) fn gather(space: &AddressSpace, places: &[Place]) -> Result<Vec<u8>, Errno> {
    let mut bytes = Vec::new();
    for place in places {
        let mut at = GuestVirt(place.at);
        let mut left = place.len.min(MAX_TRANSFER - bytes.len() as u64) as usize;
        while left > 0 {
            let part = left.min(PAGE_SIZE - at.page_offset());
            let start = bytes.len();
            bytes.resize(start + part, 0);
            if space.read(at, &mut bytes[start..]).is_err() {
                bytes.truncate(start / PAGE_SIZE * PAGE_SIZE);
                return if bytes.is_empty() { Err(Errno::EFAULT) } else { Ok(bytes) };
            }
            left -= part;
            at = GuestVirt(at.0.wrapping_add(part as u64));
        }
    }
    Ok(bytes)
}

/// Bytes of a counter's number.
const COUNT_LEN: u64 = size_of::<u64>() as u64;
