//! System calls on files. There is no file: a guest has its three standard streams, and every path leads nowhere.

use ampoule_vmm::GuestVirt;

use crate::address_space::AddressSpace;
use crate::output::Stream;
use crate::personality::{Outcome, Streams};

use super::errno::Errno;
use super::int;
use super::log::Log;
use super::record::{Record, word};

/// The process's open files.
#[derive(Clone, Debug)]
pub(super) struct Descriptors([Option<Descriptor>; OPEN_MAX]);

/// An open file. All of them are pipes to the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Descriptor {
    /// Standard input, which is at its end.
    Input,
    /// Standard output or standard error.
    Output(Stream),
}

impl Descriptors {
    pub(super) fn standard() -> Self {
        Self([Descriptor::Input, Descriptor::Output(Stream::Stdout), Descriptor::Output(Stream::Stderr)].map(Some))
    }

    pub(super) fn get(&self, number: u64) -> Result<Descriptor, Errno> {
        self.0.get(number as u32 as usize).copied().flatten().ok_or(Errno::EBADF)
    }

    pub(super) fn close(&mut self, number: u64) -> Result<u64, Errno> {
        self.get(number)?;
        self.0[number as u32 as usize] = None;
        Ok(0)
    }

    /// Gives an open file a second number: the lowest free one from `least` on.
    pub(super) fn duplicate(&mut self, number: u64, least: usize) -> Result<u64, Errno> {
        let file = self.get(number)?;
        let free = (least..OPEN_MAX).find(|number| self.0[*number].is_none()).ok_or(Errno::EMFILE)?;
        self.0[free] = Some(file);
        Ok(free as u64)
    }

    /// Gives an open file this second number.
    pub(super) fn duplicate_to(&mut self, number: u64, to: u64) -> Result<u64, Errno> {
        let file = self.get(number)?;
        let place = self.0.get_mut(to as u32 as usize).ok_or(Errno::EBADF)?;
        *place = Some(file);
        Ok(u64::from(to as u32))
    }
}

pub(super) fn read(descriptors: &Descriptors, number: u64) -> Result<u64, Errno> {
    match descriptors.get(number)? {
        Descriptor::Input => Ok(0),
        Descriptor::Output(_) => Err(Errno::EBADF),
    }
}

/// Writes at most [`MAX_WRITE`] bytes and says how many, as Linux may.
pub(super) fn write(
    descriptors: &Descriptors,
    space: &AddressSpace,
    streams: &mut dyn Streams,
    [number, from, len]: [u64; 3],
) -> Result<Outcome, Errno> {
    let stream = output(descriptors, number)?;
    let mut printer = Printer { streams, stream, printed: 0 };
    Ok(printer.print(space, from, len).unwrap_or_else(|stop| stop.outcome(printer.printed)))
}

/// Like [`write`], from several places.
pub(super) fn writev(
    descriptors: &Descriptors,
    space: &AddressSpace,
    streams: &mut dyn Streams,
    [number, vector, count]: [u64; 3],
) -> Result<Outcome, Errno> {
    let stream = output(descriptors, number)?;
    if count > IOV_MAX as u64 {
        return Err(Errno::EINVAL);
    }
    let mut vectors = [0; IOV_MAX * IOVEC_LEN];
    let vectors = &mut vectors[..count as usize * IOVEC_LEN];
    space.read(GuestVirt(vector), vectors)?;
    let mut printer = Printer { streams, stream, printed: 0 };
    let mut outcome = Outcome::Return(0);
    for vector in vectors.chunks_exact(IOVEC_LEN) {
        match printer.print(space, word(vector, 0), word(vector, 1)) {
            Ok(printed) => outcome = printed,
            Err(stop) => return Ok(stop.outcome(printer.printed)),
        }
    }
    Ok(outcome)
}

/// Reads the path at `path` for the log, and refuses it.
pub(super) fn refuse_path(space: &AddressSpace, log: &mut Log, call: &str, path: u64) -> Result<u64, Errno> {
    log.path(call, &space.read_c_string(GuestVirt(path), PATH_MAX)?);
    Err(Errno::ENOENT)
}

pub(super) fn getcwd(space: &mut AddressSpace, into: u64, len: u64) -> Result<u64, Errno> {
    let path = b"/\0";
    if len < path.len() as u64 {
        return Err(Errno::ERANGE);
    }
    space.write(GuestVirt(into), path)?;
    Ok(path.len() as u64)
}

pub(super) fn fstat(descriptors: &Descriptors, space: &mut AddressSpace, number: u64, into: u64) -> Result<u64, Errno> {
    descriptors.get(number)?;
    let stat = Record::<144>::new()
        .u64(8, 1 + number)
        .u64(16, 1)
        .u32(24, PIPE_MODE)
        .u32(28, super::process::USER_ID)
        .u32(32, super::process::USER_ID)
        .u64(56, BLOCK_SIZE);
    space.write(GuestVirt(into), stat.as_bytes())?;
    Ok(0)
}

/// `newfstatat`: of an open file when the path is empty and the flags allow it.
pub(super) fn stat_at(
    descriptors: &Descriptors,
    space: &mut AddressSpace,
    log: &mut Log,
    [number, path, into, flags]: [u64; 4],
) -> Result<u64, Errno> {
    if !names_descriptor(space, path, flags)? {
        return refuse_path(space, log, "newfstatat", path);
    }
    fstat(descriptors, space, number, into)
}

/// `statx`, likewise.
pub(super) fn statx(
    descriptors: &Descriptors,
    space: &mut AddressSpace,
    log: &mut Log,
    [number, path, flags, into]: [u64; 4],
) -> Result<u64, Errno> {
    if !names_descriptor(space, path, flags)? {
        return refuse_path(space, log, "statx", path);
    }
    descriptors.get(number)?;
    let statx = Record::<256>::new()
        .u32(0, STATX_BASIC_STATS)
        .u32(4, BLOCK_SIZE as u32)
        .u32(16, 1)
        .u32(20, super::process::USER_ID)
        .u32(24, super::process::USER_ID)
        .u16(28, PIPE_MODE as u16)
        .u64(32, 1 + number);
    space.write(GuestVirt(into), statx.as_bytes())?;
    Ok(0)
}

pub(super) fn fcntl(descriptors: &mut Descriptors, number: u64, command: u64, argument: u64) -> Result<u64, Errno> {
    let file = descriptors.get(number)?;
    match command {
        F_DUPFD | F_DUPFD_CLOEXEC if argument >= OPEN_MAX as u64 => Err(Errno::EINVAL),
        F_DUPFD | F_DUPFD_CLOEXEC => descriptors.duplicate(number, argument as usize),
        F_GETFD | F_SETFD | F_SETFL => Ok(0),
        F_GETFL => Ok(match file {
            Descriptor::Input => O_RDONLY,
            Descriptor::Output(_) => O_WRONLY,
        }),
        _ => Err(Errno::EINVAL),
    }
}

pub(super) fn dup3(descriptors: &mut Descriptors, number: u64, to: u64, flags: u64) -> Result<u64, Errno> {
    if number as u32 == to as u32 || int(flags) & !O_CLOEXEC != 0 {
        return Err(Errno::EINVAL);
    }
    descriptors.duplicate_to(number, to)
}

/// For calls that no pipe supports.
pub(super) fn refuse_open(descriptors: &Descriptors, number: u64, errno: Errno) -> Result<u64, Errno> {
    descriptors.get(number)?;
    Err(errno)
}

fn output(descriptors: &Descriptors, number: u64) -> Result<Stream, Errno> {
    match descriptors.get(number)? {
        Descriptor::Output(stream) => Ok(stream),
        Descriptor::Input => Err(Errno::EBADF),
    }
}

fn names_descriptor(space: &AddressSpace, path: u64, flags: u64) -> Result<bool, Errno> {
    if flags & AT_EMPTY_PATH == 0 {
        return Ok(false);
    }
    Ok(path == 0 || space.read_array(GuestVirt(path))? == [0])
}

/// One system call's output.
struct Printer<'a> {
    streams: &'a mut dyn Streams,
    stream: Stream,
    printed: u64,
}

/// Why a [`Printer`] goes no further.
enum Stop {
    BadAddress,
    Limit,
}

impl Printer<'_> {
    /// Prints what lies at `from`, as far as the call's bound allows; returns how much the call has printed in all.
    fn print(&mut self, space: &AddressSpace, from: u64, len: u64) -> Result<Outcome, Stop> {
        let end = self.printed + len.min(MAX_WRITE - self.printed);
        let mut from = GuestVirt(from);
        let mut buffer = [0; BUFFER_LEN];
        while self.printed < end {
            let part = (end - self.printed).min(BUFFER_LEN as u64);
            let bytes = &mut buffer[..part as usize];
            space.read(from, bytes).map_err(|_| Stop::BadAddress)?;
            self.streams.write(self.stream, bytes).map_err(|_| Stop::Limit)?;
            self.printed += part;
            from = from.checked_add(part).ok_or(Stop::BadAddress)?;
        }
        Ok(Outcome::Return(self.printed))
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

/// How many files the process can have open: its standard streams.
pub(super) const OPEN_MAX: usize = 3;

/// The most bytes that one call prints.
pub(super) const MAX_WRITE: u64 = 64 << 10;

const BUFFER_LEN: usize = 4096;

/// Size of a pipe's blocks, in bytes.
const BLOCK_SIZE: u64 = 4096;

// Linux's `include/uapi/linux/limits.h`, `uio.h`, `fcntl.h` and `stat.h`, and `include/uapi/asm-generic/fcntl.h`.
const PATH_MAX: usize = 4096;
const IOV_MAX: usize = 1024;
const IOVEC_LEN: usize = 16;
const AT_EMPTY_PATH: u64 = 0x1000;
const STATX_BASIC_STATS: u32 = 0x7ff;
/// A named pipe that its owner may read and write.
const PIPE_MODE: u32 = 0o010_600;
const F_DUPFD: u64 = 0;
const F_GETFD: u64 = 1;
const F_SETFD: u64 = 2;
const F_GETFL: u64 = 3;
const F_SETFL: u64 = 4;
const F_DUPFD_CLOEXEC: u64 = 1030;
const O_RDONLY: u64 = 0;
const O_WRONLY: u64 = 1;
const O_CLOEXEC: i32 = 0o2_000_000;
