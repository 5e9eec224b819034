//! Reading and writing what is open and in no file system: the standard streams, pipes, sockets and event counters.

use std::io::ErrorKind;

use ampoule_vfs::Device;
use ampoule_vmm::{GuestVirt, PAGE_SIZE};
use linux_raw_sys::general::{UIO_MAXIOV, iovec};

use crate::address_space::AddressSpace;
use crate::output::Stream;
use crate::personality::{Behind, Outcome, Streams, Taken, Unprinted};

use super::descriptors::{Descriptors, Object, OpenFile};
use super::errno::Errno;
use super::queues::{broken, read_counter, read_pipe, write_counter, write_pipe};
use super::signals::Signals;
use super::socket;
use super::structure::read_fields;

/// Memory of the guest's that a call reads into or writes from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) at: u64,
    pub(super) len: u64,
}

/// The buffers that `readv` and its kin name.
pub(super) fn places(space: &AddressSpace, vector: u64, count: u64) -> Result<Vec<Place>, Errno> {
    if count > UIO_MAXIOV.into() {
        return Err(Errno::EINVAL);
    }
    let place = |index: u64| {
        let at = GuestVirt(vector).checked_add(index * size_of::<iovec>() as u64).ok_or(Errno::EFAULT)?;
        let (at, len) = read_fields!(space, at.0, iovec { iov_base, iov_len })?;
        Ok(Place { at, len })
    };
    (0..count).map(place).collect()
}

/// Reads at most [`MAX_TRANSFER`] bytes and returns how many, as Linux may.
pub(super) fn read(
    descriptors: &mut Descriptors,
    space: &mut AddressSpace,
    streams: &mut dyn Streams,
    number: u64,
    places: &[Place],
) -> Result<Outcome, Errno> {
    let file = descriptors.get(number)?;
    if !file.is_readable() {
        return Err(Errno::EBADF);
    }
    match file.object {
        Object::Input | Object::Device(Device::Tty) => {
            let outcome = read_input(space, streams, file, places)?;
            if let Outcome::Return(count) = outcome {
                descriptors.input_was_read(count);
            }
            Ok(outcome)
        }
        Object::PipeReader(pipe) => read_pipe(descriptors, space, (file, pipe), places),
        Object::Socket(end) => socket::receive(descriptors, space, (file, end), places, 0),
        Object::EventCounter => read_counter(descriptors, space, (file, descriptors.id(number)?), places),
        Object::Epoll => Err(Errno::EINVAL),
        _ => Err(Errno::EBADF),
    }
}

/// Writes at most [`MAX_TRANSFER`] bytes and returns how many, as Linux may.
pub(super) fn write(
    descriptors: &mut Descriptors,
    signals: &mut Signals,
    space: &AddressSpace,
    streams: &mut dyn Streams,
    number: u64,
    places: &[Place],
) -> Result<Outcome, Errno> {
    let file = descriptors.get(number)?;
    if !file.is_writable() {
        return Err(Errno::EBADF);
    }
    match file.object {
        Object::Output(_) | Object::Device(Device::Tty) => {
            let stream = if let Object::Output(stream) = file.object { stream } else { Stream::Stdout };
            let mut printer = Printer { streams, stream, printed: 0 };
            for place in places {
                if let Err(stop) = printer.print(space, *place) {
                    return stop.outcome(signals, printer.printed);
                }
            }
            Ok(Outcome::Return(printer.printed))
        }
        Object::PipeWriter(pipe) => write_pipe(descriptors, signals, space, (file, pipe), places),
        Object::Socket(end) => socket::send(descriptors, signals, space, (file, end), places, 0),
        Object::EventCounter => write_counter(descriptors, space, (file, descriptors.id(number)?), places),
        Object::Epoll | Object::Timer | Object::Signals => Err(Errno::EINVAL),
        _ => Err(Errno::EBADF),
    }
}

pub(super) fn total(places: &[Place]) -> u64 {
    places.iter().fold(0, |total, place| total.saturating_add(place.len))
}

/// Reads what there is of standard input. Nothing is taken of it that does not get into the guest's memory.
fn read_input(
    space: &mut AddressSpace,
    streams: &mut dyn Streams,
    file: OpenFile,
    places: &[Place],
) -> Result<Outcome, Errno> {
    let mut buffer = [0; BUFFER_LEN];
    let mut done = 0;
    for place in places {
        let mut at = GuestVirt(place.at);
        let mut left = place.len.min(MAX_TRANSFER - done);
        while left > 0 {
            // No part crosses a page boundary, so that it is written completely or not at all.
            let part = left.min((BUFFER_LEN - at.page_offset()) as u64);
            let bytes = &mut buffer[..part as usize];
            match space.check_writable(at, bytes.len()) {
                Ok(()) => {}
                Err(_) if done > 0 => return Ok(Outcome::Return(done)),
                Err(bad) => return Err(bad.into()),
            }
            match streams.read(bytes) {
                Taken::Bytes(0) => return Ok(Outcome::Return(done)),
                Taken::Bytes(count) => {
                    space.write(at, &bytes[..count])?;
                    done += count as u64;
                    left -= count as u64;
                    at = at.checked_add(count as u64).ok_or(Errno::EFAULT)?;
                }
                Taken::NotYet | Taken::Failed if done > 0 => return Ok(Outcome::Return(done)),
                Taken::NotYet if file.is_non_blocking() && streams.look().behind != Behind::Unknown => {
                    return Err(Errno::EAGAIN);
                }
                Taken::NotYet => return Ok(Outcome::AwaitInput),
                Taken::Failed => return Err(Errno::EIO),
            }
        }
    }
    Ok(Outcome::Return(done))
}

/// One system call's output.
struct Printer<'a> {
    streams: &'a mut dyn Streams,
    stream: Stream,
    printed: u64,
}

/// Why a [`Printer`] stops.
enum Stop {
    BadAddress,
    Unprinted(Unprinted),
}

impl Printer<'_> {
    /// Prints what lies at an address, as far as the call's bound allows.
    fn print(&mut self, space: &AddressSpace, place: Place) -> Result<(), Stop> {
        let end = self.printed + place.len.min(MAX_TRANSFER - self.printed);
        let mut from = GuestVirt(place.at);
        let mut buffer = [0; BUFFER_LEN];
        while self.printed < end {
            let part = (end - self.printed).min(BUFFER_LEN as u64);
            let bytes = &mut buffer[..part as usize];
            space.read(from, bytes).map_err(|_| Stop::BadAddress)?;
            self.streams.write(self.stream, bytes).map_err(Stop::Unprinted)?;
            self.printed += part;
            from = from.checked_add(part).ok_or(Stop::BadAddress)?;
        }
        Ok(())
    }
}

impl Stop {
    /// An error is not reported when something was printed before it.
    fn outcome(self, signals: &mut Signals, printed: u64) -> Result<Outcome, Errno> {
        match self {
            Self::Unprinted(Unprinted::LimitReached) => Ok(Outcome::OutputLimit),
            _ if printed > 0 => Ok(Outcome::Return(printed)),
            Self::BadAddress => Err(Errno::EFAULT),
            Self::Unprinted(Unprinted::Failed(kind)) => unprinted(signals, kind),
        }
    }
}

/// What comes of printing where the output takes nothing.
pub(super) fn unprinted(signals: &mut Signals, kind: ErrorKind) -> Result<Outcome, Errno> {
    match kind {
        ErrorKind::BrokenPipe => broken(signals),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Err(Errno::ENOSPC),
        ErrorKind::FileTooLarge => Err(Errno::EFBIG),
        ErrorKind::WouldBlock => Err(Errno::EAGAIN),
        _ => Err(Errno::EIO),
    }
}

/// The most bytes that one call reads or prints.
pub(super) const MAX_TRANSFER: u64 = 64 << 10;

const BUFFER_LEN: usize = PAGE_SIZE;
