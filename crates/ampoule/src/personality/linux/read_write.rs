//! `read`, `write` and their kin: which open file does what, and where in it.

use ampoule_vfs::Device;
use linux_raw_sys::general::{RWF_APPEND, RWF_DSYNC, RWF_HIPRI, RWF_SYNC};

use crate::address_space::AddressSpace;
use crate::personality::{Outcome, Streams};
use crate::terminal::Terminal;

use super::clocks::Clocks;
use super::descriptors::Object;
use super::errno::Errno;
use super::files::{self, Place};
use super::regular::At;
use super::{State, signalfd, timerfd, uint};

impl State {
    /// `read`, `readv`, and where a position is given `pread` and its kin.
    pub(super) fn read(
        &mut self,
        clocks: &mut Clocks,
        space: &mut AddressSpace,
        streams: &mut dyn Streams,
        number: u64,
        at: At,
        places: &[Place],
    ) -> Result<Outcome, Errno> {
        if self.is_named(number, at)? {
            return self.read_named(clocks, space, number, at, places).map(Outcome::Return);
        }
        let id = self.descriptors.id(number)?;
        let file = self.descriptors.file(id);
        match file.object {
            Object::Timer => timerfd::read(&mut self.descriptors, clocks, space, (file, id), places),
            Object::Signals => {
                let Self { descriptors, signals, timers, .. } = self;
                signalfd::read(descriptors, (signals, timers, clocks), space, (file, id), places)
            }
            _ => {
                let outcome = files::read(&mut self.descriptors, space, streams, number, places)?;
                let patience =
                    streams.terminal().filter(|_| outcome == Outcome::AwaitInput).and_then(Terminal::patience);
                Ok(patience.map_or(outcome, |limit| clocks.wait_for_input(Some(limit))))
            }
        }
    }

    /// The same of `write`.
    pub(super) fn write(
        &mut self,
        clocks: &mut Clocks,
        space: &mut AddressSpace,
        streams: &mut dyn Streams,
        number: u64,
        at: At,
        places: &[Place],
    ) -> Result<Outcome, Errno> {
        if self.is_named(number, at)? {
            return self.write_named(clocks, space, number, at, places).map(Outcome::Return);
        }
        files::write(&mut self.descriptors, &mut self.signals, space, streams, number, places)
    }

    pub(super) fn lseek(&mut self, number: u64, offset: u64, whence: u64) -> Result<u64, Errno> {
        match self.descriptors.get(number)?.object {
            Object::Input | Object::Output(_) | Object::PipeReader(_) | Object::PipeWriter(_) | Object::Socket(_) => {
                Err(Errno::ESPIPE)
            }
            Object::Device(Device::Tty) => Err(Errno::ESPIPE),
            Object::File | Object::Mapping | Object::Device(_) | Object::Process(_) | Object::System(_) => {
                self.seek(number, offset, whence)
            }
            _ if uint(whence) <= linux_raw_sys::general::SEEK_HOLE => Ok(0),
            _ => Err(Errno::EINVAL),
        }
    }

    /// For calls that advise about files, or have them stored early: they have no effect, and are refused as on Linux.
    pub(super) fn advise(&self, number: u64, without_positions: Errno) -> Result<u64, Errno> {
        let open = self.descriptors.get(number)?;
        match open.object {
            _ if open.is_place() => Err(Errno::EBADF),
            Object::Input | Object::Output(_) | Object::PipeReader(_) | Object::PipeWriter(_) | Object::Socket(_) => {
                Err(without_positions)
            }
            _ => Ok(0),
        }
    }

    /// Whether what is open is in the file system. Fails where it has no positions and one is given.
    fn is_named(&self, number: u64, at: At) -> Result<bool, Errno> {
        if let At::Offset(offset) = at
            && i64::try_from(offset).is_err()
        {
            return Err(Errno::EINVAL);
        }
        match self.descriptors.get(number)?.object {
            Object::Device(Device::Tty) if matches!(at, At::Offset(_)) => Err(Errno::ESPIPE),
            Object::Device(Device::Tty) => Ok(false),
            Object::File | Object::Mapping | Object::Device(_) | Object::Process(_) | Object::System(_) => Ok(true),
            _ if matches!(at, At::Offset(_)) => Err(Errno::ESPIPE),
            _ => Ok(false),
        }
    }
}

/// Where `preadv2` and `pwritev2` begin: an offset of -1 is the file's own position. Of the flags, those are accepted that are
/// true anyway.
pub(super) fn at(offset: u64, flags: u64, writes: bool) -> Result<At, Errno> {
    let flags = uint(flags);
    if flags & !(RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_APPEND) != 0 || flags & RWF_APPEND != 0 && !writes {
        return Err(Errno::EOPNOTSUPP);
    }
    Ok(match offset {
        u64::MAX if flags & RWF_APPEND != 0 => At::End,
        u64::MAX => At::Position,
        offset => At::Offset(offset),
    })
}
