//! System calls on open files: reading, writing, and querying and changing their state.

use ampoule_vmm::{GuestVirt, PAGE_SIZE};
use linux_raw_sys::general::{
    F_DUPFD, F_DUPFD_CLOEXEC, F_GETFD, F_GETFL, F_GETPIPE_SZ, F_SETFD, F_SETFL, FD_CLOEXEC, O_APPEND, O_CLOEXEC,
    O_NOATIME, O_NONBLOCK, SEEK_CUR, SEEK_HOLE, SEEK_SET, UIO_MAXIOV, iovec,
};
use linux_raw_sys::ioctl::{FIOCLEX, FIONBIO, FIONCLEX, FIONREAD};

use crate::address_space::AddressSpace;
use crate::output::Stream;
use crate::personality::{Outcome, Streams, Taken};

use super::descriptors::{Descriptors, OPEN_MAX, Object, OpenFile};
use super::errno::Errno;
use super::maps;
use super::pipe::CAPACITY;
use super::queues::{read_counter, read_pipe, write_counter, write_pipe};
use super::signals::Signals;
use super::socket;
use super::structure::read_fields;
use super::uint;

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
        Object::Input => read_input(space, streams, file, places),
        Object::PipeReader(pipe) => read_pipe(descriptors, space, (file, pipe), places),
        Object::Socket(end) => socket::receive(descriptors, space, (file, end), places, 0),
        Object::EventCounter => read_counter(descriptors, space, (file, descriptors.id(number)?), places),
        Object::Epoll => Err(Errno::EINVAL),
        object => {
            let done = read_from(object, file.position, space, places)?;
            // Devices and pipes have no places.
            if object == Object::Maps {
                let file = descriptors.get_mut(number)?;
                file.position = file.position.saturating_add(done);
            }
            Ok(Outcome::Return(done))
        }
    }
}

/// Like [`read`], from a position in the file.
pub(super) fn pread(
    descriptors: &Descriptors,
    space: &mut AddressSpace,
    [number, position]: [u64; 2],
    places: &[Place],
) -> Result<u64, Errno> {
    check_position(descriptors, number, position)?;
    let file = descriptors.get(number)?;
    if !file.is_readable() {
        return Err(Errno::EBADF);
    }
    read_from(file.object, position, space, places)
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
        Object::Output(stream) => {
            let mut printer = Printer { streams, stream, printed: 0 };
            for place in places {
                if let Err(stop) = printer.print(space, *place) {
                    return Ok(stop.outcome(printer.printed));
                }
            }
            Ok(Outcome::Return(printer.printed))
        }
        Object::Device(device) => device.write(total(places)).map(Outcome::Return),
        Object::PipeWriter(pipe) => write_pipe(descriptors, signals, space, (file, pipe), places),
        Object::Socket(end) => socket::send(descriptors, signals, space, (file, end), places, 0),
        Object::EventCounter => write_counter(descriptors, space, (file, descriptors.id(number)?), places),
        Object::Epoll => Err(Errno::EINVAL),
        Object::Input | Object::Maps | Object::PipeReader(_) => Err(Errno::EBADF),
    }
}

/// Like [`write`], to a position in the file. What has positions cannot be written.
pub(super) fn pwrite(descriptors: &Descriptors, [number, position]: [u64; 2], places: &[Place]) -> Result<u64, Errno> {
    check_position(descriptors, number, position)?;
    let file = descriptors.get(number)?;
    match file.object {
        Object::Device(device) if file.is_writable() => device.write(total(places)),
        _ => Err(Errno::EBADF),
    }
}

pub(super) fn lseek(descriptors: &mut Descriptors, number: u64, offset: u64, whence: u64) -> Result<u64, Errno> {
    let file = descriptors.get_mut(number)?;
    let start = match (file.object, whence as u32) {
        (Object::Input | Object::Output(_) | Object::PipeReader(_) | Object::PipeWriter(_) | Object::Socket(_), _) => {
            return Err(Errno::ESPIPE);
        }
        (Object::EventCounter | Object::Epoll, SEEK_SET..=SEEK_HOLE) => return Ok(0),
        (Object::Device(_), SEEK_SET..=SEEK_HOLE) => return Ok(0),
        (Object::Maps, SEEK_SET) => 0,
        (Object::Maps, SEEK_CUR) => file.position,
        _ => return Err(Errno::EINVAL),
    };
    let position = start.checked_add_signed(offset as i64).filter(|position| i64::try_from(*position).is_ok());
    file.position = position.ok_or(Errno::EINVAL)?;
    Ok(file.position)
}

pub(super) fn fcntl(descriptors: &mut Descriptors, number: u64, command: u64, argument: u64) -> Result<u64, Errno> {
    let file = descriptors.get_mut(number)?;
    let command = uint(command);
    match command {
        F_DUPFD | F_DUPFD_CLOEXEC if argument >= OPEN_MAX as u64 => Err(Errno::EINVAL),
        F_DUPFD | F_DUPFD_CLOEXEC => descriptors.duplicate(number, argument as usize, command == F_DUPFD_CLOEXEC),
        F_GETFD => descriptors.closes_on_exec(number).map(u64::from),
        F_SETFD => descriptors.set_close_on_exec(number, uint(argument) & FD_CLOEXEC != 0).map(|()| 0),
        F_GETFL => Ok(file.flags.into()),
        F_SETFL => {
            file.flags = file.flags & !CHANGEABLE | argument as u32 & CHANGEABLE;
            Ok(0)
        }
        F_GETPIPE_SZ if matches!(file.object, Object::PipeReader(_) | Object::PipeWriter(_)) => Ok(CAPACITY as u64),
        F_GETPIPE_SZ => Err(Errno::EBADF),
        _ => Err(Errno::EINVAL),
    }
}

/// Only the requests that `fcntl` has too, and how much a pipe or a socket holds; no other works on what can be open.
pub(super) fn ioctl(
    descriptors: &mut Descriptors,
    space: &mut AddressSpace,
    [number, command, argument]: [u64; 3],
) -> Result<u64, Errno> {
    let file = descriptors.get_mut(number)?;
    match command as u32 {
        FIOCLEX => descriptors.set_close_on_exec(number, true)?,
        FIONCLEX => descriptors.set_close_on_exec(number, false)?,
        FIONBIO if space.read_u32(GuestVirt(argument))? == 0 => file.flags &= !O_NONBLOCK,
        FIONBIO => file.flags |= O_NONBLOCK,
        FIONREAD => {
            let held = match file.object {
                Object::PipeReader(pipe) | Object::PipeWriter(pipe) => descriptors.pipe_mut(pipe).len(),
                Object::Socket(end) => descriptors.sockets_mut(end.pair).held(end.side),
                _ => return Err(Errno::ENOTTY),
            };
            space.write(GuestVirt(argument), &(held as u32).to_le_bytes())?;
        }
        _ => return Err(Errno::ENOTTY),
    }
    Ok(0)
}

pub(super) fn dup3(descriptors: &mut Descriptors, number: u64, to: u64, flags: u64) -> Result<u64, Errno> {
    let flags = flags as u32;
    if number as u32 == to as u32 || flags & !O_CLOEXEC != 0 {
        return Err(Errno::EINVAL);
    }
    descriptors.duplicate_to(number, to, flags & O_CLOEXEC != 0)
}

/// For calls that nothing that can be open supports.
pub(super) fn refuse_open(descriptors: &Descriptors, number: u64, errno: Errno) -> Result<u64, Errno> {
    descriptors.get(number)?;
    Err(errno)
}

/// Fails where a file has no positions, or not this one.
fn check_position(descriptors: &Descriptors, number: u64, position: u64) -> Result<(), Errno> {
    match descriptors.get(number)?.object {
        _ if i64::try_from(position).is_err() => Err(Errno::EINVAL),
        Object::Device(_) | Object::Maps => Ok(()),
        _ => Err(Errno::ESPIPE),
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
            // What lies there is written back, to find out beforehand whether it can be written.
            let writable = space.read(at, bytes).is_ok() && space.write(at, bytes).is_ok();
            match if writable { streams.read(bytes) } else { Taken::Failed } {
                _ if !writable && done == 0 => return Err(Errno::EFAULT),
                Taken::Bytes(0) => return Ok(Outcome::Return(done)),
                Taken::Bytes(count) => {
                    space.write(at, &bytes[..count])?;
                    done += count as u64;
                    left -= count as u64;
                    at = at.checked_add(count as u64).ok_or(Errno::EFAULT)?;
                }
                Taken::NotYet | Taken::Failed if done > 0 => return Ok(Outcome::Return(done)),
                Taken::NotYet if file.is_non_blocking() => return Err(Errno::EAGAIN),
                Taken::NotYet => return Ok(Outcome::AwaitInput),
                Taken::Failed => return Err(Errno::EIO),
            }
        }
    }
    Ok(Outcome::Return(done))
}

/// Reads from a position in what is open, up to its end. An error is not reported when something was read before it.
fn read_from(object: Object, position: u64, space: &mut AddressSpace, places: &[Place]) -> Result<u64, Errno> {
    let mut buffer = [0; BUFFER_LEN];
    let mut done = 0;
    for place in places {
        let mut at = GuestVirt(place.at);
        let mut left = place.len.min(MAX_TRANSFER - done);
        while left > 0 {
            // No part crosses a page boundary, so that it is written completely or not at all.
            let part = left.min((BUFFER_LEN - at.page_offset()) as u64);
            let bytes = &mut buffer[..part as usize];
            let filled = match object {
                Object::Device(device) => device.read(bytes)?,
                Object::Maps => maps::read(space, position.saturating_add(done), bytes),
                _ => 0,
            };
            match space.write(at, &bytes[..filled]) {
                Ok(()) => done += filled as u64,
                Err(_) if done > 0 => return Ok(done),
                Err(bad) => return Err(bad.into()),
            }
            if filled < part as usize {
                return Ok(done);
            }
            left -= part;
            at = match at.checked_add(part) {
                Some(at) => at,
                None => return Ok(done),
            };
        }
    }
    Ok(done)
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
    Limit,
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
            self.streams.write(self.stream, bytes).map_err(|_| Stop::Limit)?;
            self.printed += part;
            from = from.checked_add(part).ok_or(Stop::BadAddress)?;
        }
        Ok(())
    }
}

impl Stop {
    /// An error is not reported when something was printed before it.
    fn outcome(self, printed: u64) -> Outcome {
        match self {
            Self::Limit => Outcome::OutputLimit,
            Self::BadAddress if printed > 0 => Outcome::Return(printed),
            Self::BadAddress => Outcome::Return(Errno::EFAULT.result()),
        }
    }
}

/// The most bytes that one call reads or prints.
pub(super) const MAX_TRANSFER: u64 = 64 << 10;

const BUFFER_LEN: usize = PAGE_SIZE;

/// What `F_SETFL` can change.
const CHANGEABLE: u32 = O_APPEND | O_NONBLOCK | O_NOATIME;
