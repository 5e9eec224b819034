//! System calls on descriptors and on the state of what is open: `fcntl`, `ioctl`, `dup` and closing.

use ampoule_vfs::Device;
use ampoule_vmm::GuestVirt;
use linux_raw_sys::general::{
    F_ADD_SEALS, F_DUPFD, F_DUPFD_CLOEXEC, F_GET_SEALS, F_GETFD, F_GETFL, F_GETPIPE_SZ, F_SETFD, F_SETFL, F_SETPIPE_SZ,
    FD_CLOEXEC, O_APPEND, O_CLOEXEC, O_DIRECT, O_NOATIME, O_NONBLOCK,
};
use linux_raw_sys::ioctl::{FIOCLEX, FIONBIO, FIONCLEX, FIONREAD};

use crate::address_space::AddressSpace;
use crate::personality::{Outcome, Streams};

use super::descriptors::{Descriptors, Object};
use super::errno::Errno;
use super::locks::{Locked, Locks};
use super::{State, pipe, terminal, uint};

impl State {
    pub(super) fn fcntl(
        &mut self,
        space: &mut AddressSpace,
        [number, command, argument]: [u64; 3],
    ) -> Result<Outcome, Errno> {
        let file = self.descriptors.get(number)?;
        let command = uint(command);
        if file.is_place() && !matches!(command, F_DUPFD | F_DUPFD_CLOEXEC | F_GETFD | F_SETFD | F_GETFL) {
            return Err(Errno::EBADF);
        }
        match command {
            command if Locks::has_command(command) => {
                let locked = self.locked(number)?;
                self.descriptors.locks.fcntl(space, &locked, command, argument)
            }
            F_ADD_SEALS | F_GET_SEALS => self.seal(space, number, command, argument).map(Outcome::Return),
            _ => control(&mut self.descriptors, number, command, argument).map(Outcome::Return),
        }
    }

    /// `flock`
    pub(super) fn flock(&mut self, number: u64, operation: u64) -> Result<Outcome, Errno> {
        Locks::check_operation(operation)?;
        let open = self.descriptors.get(number)?;
        if open.is_place() {
            return Err(Errno::EBADF);
        }
        let locked = self.locked(number)?;
        self.descriptors.locks.flock(&locked, operation)
    }

    pub(super) fn close(&mut self, number: u64) -> Result<u64, Errno> {
        self.release_locks(number);
        self.descriptors.close(number)
    }

    /// `close_range`
    pub(super) fn close_range(&mut self, [first, last, flags]: [u64; 3]) -> Result<u64, Errno> {
        let (first, last, flags) = (uint(first), uint(last), uint(flags));
        if flags & !(CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC) != 0 || first > last {
            return Err(Errno::EINVAL);
        }
        let numbers: Vec<u64> =
            self.descriptors.numbers().filter(|it| (first..=last).contains(it)).map(u64::from).collect();
        for number in numbers {
            if flags & CLOSE_RANGE_CLOEXEC == 0 {
                self.close(number)?;
            } else {
                self.descriptors.set_close_on_exec(number, true)?;
            }
        }
        Ok(0)
    }

    /// `dup2`
    pub(super) fn dup2(&mut self, number: u64, to: u64) -> Result<u64, Errno> {
        if number as u32 == to as u32 {
            return self.descriptors.get(number).map(|_| u64::from(to as u32));
        }
        self.descriptors.get(number)?;
        self.release_locks(to);
        self.descriptors.duplicate_to(number, to, false)
    }

    pub(super) fn dup3(&mut self, number: u64, to: u64, flags: u64) -> Result<u64, Errno> {
        let flags = flags as u32;
        if number as u32 == to as u32 || flags & !O_CLOEXEC != 0 {
            return Err(Errno::EINVAL);
        }
        self.descriptors.get(number)?;
        self.release_locks(to);
        self.descriptors.duplicate_to(number, to, flags & O_CLOEXEC != 0)
    }

    /// What is known of a file that is to be locked. What is in no file system counts as a file of its own.
    fn locked(&self, number: u64) -> Result<Locked, Errno> {
        let open = self.descriptors.get(number)?;
        let file = self.descriptors.id(number)?;
        let (identity, size) = match self.descriptors.named(number)? {
            Some(named) => (self.identity(named)?, self.vfs.len(named).unwrap_or(0)),
            None => ((u64::MAX, file.number()), 0),
        };
        let (is_readable, is_writable) = (open.is_readable(), open.is_writable());
        Ok(Locked { file, identity, position: open.position, size, is_readable, is_writable })
    }

    /// Releases what the process has locked by way of a file of which a number is about to be closed.
    fn release_locks(&mut self, number: u64) {
        if !self.descriptors.locks.is_empty()
            && let Ok(locked) = self.locked(number)
        {
            self.descriptors.locks.number_closed(locked.identity);
        }
    }
}

/// The commands of `fcntl` that the table of descriptors knows.
fn control(descriptors: &mut Descriptors, number: u64, command: u32, argument: u64) -> Result<u64, Errno> {
    let most = descriptors.most();
    let file = descriptors.get_mut(number)?;
    match command {
        F_DUPFD | F_DUPFD_CLOEXEC if argument >= most as u64 => Err(Errno::EINVAL),
        F_DUPFD | F_DUPFD_CLOEXEC => descriptors.duplicate(number, argument as usize, command == F_DUPFD_CLOEXEC),
        F_GETFD => descriptors.closes_on_exec(number).map(u64::from),
        F_SETFD => descriptors.set_close_on_exec(number, uint(argument) & FD_CLOEXEC != 0).map(|()| 0),
        F_GETFL => Ok(file.flags.into()),
        F_SETFL => {
            file.flags = file.flags & !CHANGEABLE | argument as u32 & CHANGEABLE;
            Ok(0)
        }
        F_GETPIPE_SZ | F_SETPIPE_SZ => match file.object {
            Object::PipeReader(pipe) | Object::PipeWriter(pipe) if command == F_SETPIPE_SZ => {
                pipe::resize(descriptors, pipe, uint(argument))
            }
            Object::PipeReader(pipe) | Object::PipeWriter(pipe) => Ok(descriptors.pipe_mut(pipe).capacity()),
            _ => Err(Errno::EBADF),
        },
        _ => Err(Errno::EINVAL),
    }
}

impl State {
    /// The requests that `fcntl` has too, how much there is to read, and those of the terminal.
    pub(super) fn ioctl(
        &mut self,
        space: &mut AddressSpace,
        streams: &dyn Streams,
        [number, command, argument]: [u64; 3],
    ) -> Result<u64, Errno> {
        let descriptors = &mut self.descriptors;
        let file = descriptors.get_mut(number)?;
        match command as u32 {
            _ if file.is_place() => return Err(Errno::EBADF),
            FIOCLEX => descriptors.set_close_on_exec(number, true)?,
            FIONCLEX => descriptors.set_close_on_exec(number, false)?,
            FIONBIO if space.read_u32(GuestVirt(argument))? == 0 => file.flags &= !O_NONBLOCK,
            FIONBIO => file.flags |= O_NONBLOCK,
            FIONREAD => {
                let position = file.position;
                let held = match file.object {
                    Object::PipeReader(pipe) | Object::PipeWriter(pipe) => descriptors.pipe_mut(pipe).len() as u64,
                    Object::Socket(end) => descriptors.sockets_mut(end.pair).held(end.side) as u64,
                    Object::Input | Object::Device(Device::Tty) => descriptors.input().bytes as u64,
                    Object::File => {
                        let file = descriptors.named(number)?.ok_or(Errno::ENOTTY)?;
                        self.vfs.len(file).map_err(|_| Errno::ENOTTY)?.wrapping_sub(position)
                    }
                    _ => return Err(Errno::ENOTTY),
                };
                space.write(GuestVirt(argument), &(held as u32).to_le_bytes())?;
            }
            command => {
                let lent = streams.terminal().filter(|_| file.object == Object::Device(Device::Tty));
                let terminal = lent.ok_or(Errno::ENOTTY)?;
                return terminal::ioctl(terminal, self.id, space, command, argument);
            }
        }
        Ok(0)
    }
}

/// What `F_SETFL` can change.
const CHANGEABLE: u32 = O_APPEND | O_NONBLOCK | O_NOATIME | O_DIRECT;

// Linux's `include/uapi/linux/close_range.h`.
const CLOSE_RANGE_UNSHARE: u32 = 1 << 1;
const CLOSE_RANGE_CLOEXEC: u32 = 1 << 2;
