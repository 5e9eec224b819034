//! Locks on files: those of `fcntl`, which are on ranges of bytes, and those of `flock`, which are on whole files.
//!
//! They are between the open files of the process. A lock of `fcntl` that belongs to the process never stands in its own way;
//! one that belongs to an open file, and one of `flock`, stand in the way of other open files of the same file. Nothing of this
//! reaches the host, so other processes do not see the locks on files of a granted directory.

use ampoule_vmm::GuestVirt;
use linux_raw_sys::general::{
    F_GETLK, F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW, F_RDLCK, F_SETLK, F_SETLKW, F_UNLCK, F_WRLCK, LOCK_EX, LOCK_NB,
    LOCK_SH, LOCK_UN, SEEK_CUR, SEEK_END, SEEK_SET, flock,
};

use crate::address_space::AddressSpace;
use crate::fault::EndlessWait;
use crate::personality::Outcome;

use super::descriptors::FileId;
use super::errno::Errno;
use super::structure::{read_fields, to_bytes};
use super::uint;

/// All locks of the process.
#[derive(Clone, Debug, Default)]
pub(super) struct Locks(Vec<Lock>);

/// Which file is locked: the numbers of its mount and of its inode.
pub(super) type Identity = (u64, u64);

/// An open file that is asked to lock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Locked {
    pub(super) file: FileId,
    pub(super) identity: Identity,
    pub(super) position: u64,
    pub(super) size: u64,
    pub(super) is_readable: bool,
    pub(super) is_writable: bool,
}

#[derive(Clone, Copy, Debug)]
struct Lock {
    identity: Identity,
    owner: Owner,
    is_exclusive: bool,
    /// The first byte and the last one.
    first: u64,
    last: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Process,
    /// An open file, of a range.
    Open(FileId),
    /// An open file, of the whole by `flock`.
    Whole(FileId),
}

impl Owner {
    fn conflicts_with(self, other: Self) -> bool {
        self != other && matches!(self, Self::Whole(_)) == matches!(other, Self::Whole(_))
    }
}

impl Locks {
    /// Whether nothing is locked.
    pub(super) fn are_none(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a command of `fcntl` is about locks.
    pub(super) fn has_command(command: u32) -> bool {
        matches!(command, F_GETLK | F_SETLK | F_SETLKW | F_OFD_GETLK | F_OFD_SETLK | F_OFD_SETLKW)
    }

    /// A command of `fcntl` about locks, which are described at `at`.
    pub(super) fn fcntl(
        &mut self,
        space: &mut AddressSpace,
        locked: &Locked,
        command: u32,
        at: u64,
    ) -> Result<Outcome, Errno> {
        let (kind, whence, start, len, process) =
            read_fields!(space, at, flock { l_type, l_whence, l_start, l_len, l_pid })?;
        let is_open_file = matches!(command, F_OFD_GETLK | F_OFD_SETLK | F_OFD_SETLKW);
        if is_open_file && process != 0 {
            return Err(Errno::EINVAL);
        }
        let origin = match whence as u32 {
            SEEK_SET => 0,
            SEEK_CUR => locked.position,
            SEEK_END => locked.size,
            _ => return Err(Errno::EINVAL),
        };
        let (first, last) = range(origin, start, len)?;
        let owner = if is_open_file { Owner::Open(locked.file) } else { Owner::Process };
        let lock = Lock { identity: locked.identity, owner, is_exclusive: kind as u32 == F_WRLCK, first, last };
        if matches!(command, F_GETLK | F_OFD_GETLK) {
            if !matches!(kind as u32, F_RDLCK | F_WRLCK) {
                return Err(Errno::EINVAL);
            }
            let found = match self.conflict(&lock) {
                None => to_bytes!(flock {
                    l_type: F_UNLCK as i16,
                    l_whence: whence,
                    l_start: start,
                    l_len: len,
                    l_pid: process,
                }),
                Some(other) => to_bytes!(flock {
                    l_type: (if other.is_exclusive { F_WRLCK } else { F_RDLCK }) as i16,
                    l_whence: SEEK_SET as i16,
                    l_start: other.first as i64,
                    l_len: if other.last == LAST { 0 } else { (other.last - other.first + 1) as i64 },
                    // A lock that belongs to an open file belongs to no process.
                    l_pid: -1,
                }),
            };
            space.write(GuestVirt(at), &found)?;
            return Ok(Outcome::Return(0));
        }
        match kind as u32 {
            F_UNLCK => self.replace(&lock, None).map(|()| Outcome::Return(0)),
            F_RDLCK if !locked.is_readable => Err(Errno::EBADF),
            F_WRLCK if !locked.is_writable => Err(Errno::EBADF),
            F_RDLCK | F_WRLCK => self.add(lock, matches!(command, F_SETLKW | F_OFD_SETLKW)),
            _ => Err(Errno::EINVAL),
        }
    }

    /// Fails for an operation that `flock` does not have.
    pub(super) fn check_operation(operation: u64) -> Result<(), Errno> {
        match uint(operation) & !LOCK_NB {
            LOCK_SH | LOCK_EX | LOCK_UN => Ok(()),
            _ => Err(Errno::EINVAL),
        }
    }

    /// `flock`
    pub(super) fn flock(&mut self, locked: &Locked, operation: u64) -> Result<Outcome, Errno> {
        let operation = uint(operation);
        let owner = Owner::Whole(locked.file);
        let lock = Lock { identity: locked.identity, owner, is_exclusive: false, first: 0, last: LAST };
        if operation & !LOCK_NB != LOCK_UN && !locked.is_readable && !locked.is_writable {
            return Err(Errno::EBADF);
        }
        match operation & !LOCK_NB {
            LOCK_SH => self.add(lock, operation & LOCK_NB == 0),
            LOCK_EX => self.add(Lock { is_exclusive: true, ..lock }, operation & LOCK_NB == 0),
            LOCK_UN => self.replace(&lock, None).map(|()| Outcome::Return(0)),
            _ => Err(Errno::EINVAL),
        }
    }

    /// Releases what the process has locked of a file of which it has closed a descriptor, as Linux does.
    pub(super) fn number_closed(&mut self, identity: Identity) {
        self.0.retain(|lock| lock.identity != identity || lock.owner != Owner::Process);
    }

    /// Releases what a file has locked that is not open any more.
    pub(super) fn file_closed(&mut self, file: FileId) {
        self.0.retain(|lock| lock.owner != Owner::Open(file) && lock.owner != Owner::Whole(file));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn conflict(&self, wanted: &Lock) -> Option<&Lock> {
        self.0.iter().find(|lock| {
            lock.identity == wanted.identity
                && lock.owner.conflicts_with(wanted.owner)
                && (lock.is_exclusive || wanted.is_exclusive)
                && lock.overlaps(wanted)
        })
    }

    fn add(&mut self, lock: Lock, waits: bool) -> Result<Outcome, Errno> {
        if self.conflict(&lock).is_some() {
            // Only the process itself could release it.
            return if waits { Ok(Outcome::Deadlock(EndlessWait::Files)) } else { Err(Errno::EAGAIN) };
        }
        self.replace(&lock, Some(lock)).map(|()| Outcome::Return(0))
    }

    /// Puts a lock, or none, in the place of what its owner has locked in the range. Where there would be too many, nothing
    /// changes; without a new one that can be only where the range divides a lock.
    fn replace(&mut self, range: &Lock, by: Option<Lock>) -> Result<(), Errno> {
        let mut locks = Vec::with_capacity(self.0.len() + 1);
        for lock in &self.0 {
            if lock.identity != range.identity || lock.owner != range.owner || !lock.overlaps(range) {
                locks.push(*lock);
                continue;
            }
            if lock.first < range.first {
                locks.push(Lock { last: range.first - 1, ..*lock });
            }
            if lock.last > range.last {
                locks.push(Lock { first: range.last + 1, ..*lock });
            }
        }
        locks.extend(by);
        if locks.len() > MOST_LOCKS {
            return Err(Errno::ENOLCK);
        }
        self.0 = locks;
        Ok(())
    }
}

impl Lock {
    fn overlaps(&self, other: &Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

/// The first byte and the last one of a range that begins `start` bytes behind `origin`. One of length 0 has no end, and one of
/// a negative length lies before its start.
fn range(origin: u64, start: i64, len: i64) -> Result<(u64, u64), Errno> {
    let start = origin.checked_add_signed(start).filter(|start| *start <= LAST).ok_or(Errno::EINVAL)?;
    match len {
        0 => Ok((start, LAST)),
        1.. => {
            let last = start.checked_add(len as u64 - 1).filter(|last| *last <= LAST).ok_or(Errno::EOVERFLOW)?;
            Ok((start, last))
        }
        _ => Ok((start.checked_add_signed(len).ok_or(Errno::EINVAL)?, start - 1)),
    }
}

/// The last byte that a file can have (`OFFSET_MAX`).
const LAST: u64 = i64::MAX as u64;

/// How many locks a process can have.
const MOST_LOCKS: usize = 4096;
