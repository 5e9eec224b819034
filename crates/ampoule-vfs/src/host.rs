//! Directories and files of the host, as capabilities: everything is found beneath a held directory, without following a
//! symbolic link or a magic one.

use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{AtFlags, CWD, FallocateFlags, Mode, OFlags, RawDir, ResolveFlags, SeekFrom, Statx, StatxFlags};
use rustix::io::ReadWriteFlags;

use crate::{Errno, FileType, Timestamp};

/// Which file something is on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostIdentity {
    /// The host's number of the file system.
    pub device: u64,
    /// The number of the file in it.
    pub inode: u64,
}

/// A held file or directory of the host.
#[derive(Debug)]
pub(crate) struct HostNode {
    /// Of a file, it may be open for reading and writing; else it stands only for the place (`O_PATH`).
    pub(crate) fd: OwnedFd,
    /// Its path beneath the mount's directory, which is empty for that itself.
    pub(crate) trail: Vec<u8>,
    pub(crate) status: HostStatus,
    /// Held by who lists the directory, for the place in it.
    listing: Mutex<()>,
}

/// What the host reports of a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HostStatus {
    pub(crate) identity: HostIdentity,
    pub(crate) file_type: FileType,
    pub(crate) permissions: u32,
    pub(crate) links: u32,
    pub(crate) user: u32,
    pub(crate) group: u32,
    pub(crate) size: u64,
    pub(crate) blocks: u64,
    pub(crate) accessed: Timestamp,
    pub(crate) modified: Timestamp,
    pub(crate) changed: Timestamp,
    pub(crate) created: Option<Timestamp>,
}

impl HostNode {
    /// Finds a path, without symbolic links on the way, beneath a directory with this trail. The path's last name may be
    /// that of a link, and stands for the link then.
    pub(crate) fn find(directory: BorrowedFd<'_>, above: &[u8], path: &[u8]) -> Result<Self, Errno> {
        Self::hold(open_beneath(directory, path, OFlags::PATH, Mode::empty())?, join(above, path))
    }

    /// Opens the same file for reading or writing, wherever it is by now. Only regular files and directories are ever
    /// opened.
    pub(crate) fn open(&self, flags: OFlags) -> Result<Self, Errno> {
        if !matches!(self.status.file_type, FileType::Regular | FileType::Directory) {
            return Err(Errno::ENXIO);
        }
        let flags = flags | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
        let path = self.own_path();
        let open = |flags| rustix::io::retry_on_intr(|| rustix::fs::openat(CWD, &*path, flags, Mode::empty()));
        let fd = match open(flags) {
            // Only a file's owner may read it without a trace.
            Err(rustix::io::Errno::PERM) if flags.contains(OFlags::NOATIME) => open(flags - OFlags::NOATIME)?,
            result => result?,
        };
        Self::hold(fd, self.trail.clone())
    }

    /// A path that stands for the held descriptor. It is one of this process's own, so it leads to nothing else.
    pub(crate) fn own_path(&self) -> String {
        own_path(self.fd.as_fd())
    }

    /// What a descriptor stands for that was opened at this path.
    pub(crate) fn hold(fd: OwnedFd, trail: Vec<u8>) -> Result<Self, Errno> {
        // Each name of a path costs as much as the path up to there.
        if trail.len() > TRAIL_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        let status = HostStatus::of(fd.as_fd())?;
        Ok(Self { fd, trail, status, listing: Mutex::default() })
    }
}

impl HostStatus {
    pub(crate) fn of(fd: BorrowedFd<'_>) -> Result<Self, Errno> {
        let flags = AtFlags::EMPTY_PATH | AtFlags::NO_AUTOMOUNT;
        let status = rustix::fs::statx(fd, "", flags, StatxFlags::BASIC_STATS | StatxFlags::BTIME)?;
        Ok(Self::from_statx(&status))
    }

    fn from_statx(status: &Statx) -> Self {
        let time = |time: rustix::fs::StatxTimestamp| Timestamp { seconds: time.tv_sec, nanoseconds: time.tv_nsec };
        let has_birth = status.stx_mask & StatxFlags::BTIME.bits() != 0;
        Self {
            identity: HostIdentity {
                device: rustix::fs::makedev(status.stx_dev_major, status.stx_dev_minor),
                inode: status.stx_ino,
            },
            file_type: FileType::of_host(status.stx_mode.into()),
            permissions: u32::from(status.stx_mode) & 0o7777,
            links: status.stx_nlink,
            user: status.stx_uid,
            group: status.stx_gid,
            size: status.stx_size,
            blocks: status.stx_blocks,
            accessed: time(status.stx_atime),
            modified: time(status.stx_mtime),
            changed: time(status.stx_ctime),
            created: has_birth.then(|| time(status.stx_btime)),
        }
    }
}

pub(crate) fn own_path(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// The path of a file beneath a directory, if it is known to be beneath it.
pub(crate) fn trail_of(file: BorrowedFd<'_>, root: BorrowedFd<'_>) -> Option<Vec<u8>> {
    let path = |fd| rustix::fs::readlinkat(CWD, own_path(fd), Vec::new()).map(|path| path.into_bytes());
    let (file, root) = (path(file).ok()?, path(root).ok()?);
    let below = file.strip_prefix(&root[..])?;
    match below.strip_prefix(b"/") {
        Some(trail) => Some(trail.to_vec()),
        // The root is that of the host, or the file is the root.
        None if root == b"/" || below.is_empty() => Some(below.to_vec()),
        None => None,
    }
}

/// Opens a path beneath a directory. It never leads out, never follows a link, and never waits.
pub(crate) fn open_beneath(
    directory: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlags,
    mode: Mode,
) -> Result<OwnedFd, Errno> {
    // The call refuses other flags beside `O_PATH`.
    let for_use = OFlags::NONBLOCK | OFlags::NOCTTY;
    let flags = if flags.contains(OFlags::PATH) { flags } else { flags | for_use };
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
    for _ in 0..ATTEMPTS {
        match rustix::fs::openat2(directory, path, flags, mode, resolve) {
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
            result => return Ok(result?),
        }
    }
    Err(Errno::EAGAIN)
}

/// A name in a directory of the host.
#[derive(Clone, Debug)]
pub(crate) struct HostEntry {
    pub(crate) name: Vec<u8>,
    pub(crate) inode: u64,
    pub(crate) file_type: FileType,
    /// The place behind it in the directory.
    pub(crate) next: u64,
}

/// All names in a directory but `.` and `..`, sorted, so that each has its place whoever lists them. Of more than `most` names,
/// one more is returned. What `check` fails with ends it before.
pub(crate) fn list(
    directory: &HostNode,
    most: usize,
    check: &dyn Fn() -> Result<(), Errno>,
) -> Result<Vec<HostEntry>, Errno> {
    let mut entries = Vec::new();
    let mut checked = Ok(());
    list_from(directory, 0, &mut |entry| {
        if entry.name != b"." && entry.name != b".." {
            entries.push(entry);
        }
        checked = check();
        checked.is_ok() && entries.len() <= most
    })?;
    checked?;
    entries.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    Ok(entries)
}

/// Reads the names in a directory that is open for reading from a place on, until `emit` wants no more.
pub(crate) fn list_from(
    directory: &HostNode,
    place: u64,
    emit: &mut dyn FnMut(HostEntry) -> bool,
) -> Result<(), Errno> {
    // Clones share the descriptor, and its place is nobody's for longer than this.
    let _place = directory.listing.lock().unwrap_or_else(PoisonError::into_inner);
    rustix::fs::seek(&directory.fd, SeekFrom::Start(place))?;
    let mut buffer = Vec::with_capacity(LIST_BUFFER);
    let mut entries = RawDir::new(&directory.fd, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes().to_vec();
        let file_type = match entry.file_type() {
            rustix::fs::FileType::Unknown => match HostNode::find(directory.fd.as_fd(), b"", &name) {
                Ok(node) => node.status.file_type,
                Err(Errno::ENOENT) => continue,
                Err(errno) => return Err(errno),
            },
            file_type => FileType::of_host(file_type.as_raw_mode()),
        };
        if !emit(HostEntry { name, inode: entry.ino(), file_type, next: entry.next_entry_cookie() }) {
            break;
        }
    }
    Ok(())
}

/// The target of a symbolic link that is held.
pub(crate) fn read_link(link: BorrowedFd<'_>) -> Result<Vec<u8>, Errno> {
    Ok(rustix::fs::readlinkat(link, "", Vec::new())?.into_bytes())
}

pub(crate) fn trail_or_dot(trail: &[u8]) -> &[u8] {
    if trail.is_empty() { b"." } else { trail }
}

/// The path of something that has a relative path beneath a directory.
pub(crate) fn join(above: &[u8], path: &[u8]) -> Vec<u8> {
    match (above, path) {
        (_, b"." | b"") => above.to_vec(),
        (b"", _) => path.to_vec(),
        _ => [above, b"/", path].concat(),
    }
}

/// Fills as much as there is.
pub(crate) fn read_at(file: BorrowedFd<'_>, into: &mut [u8], offset: u64) -> Result<usize, Errno> {
    let mut done = 0;
    while done < into.len() {
        match rustix::io::retry_on_intr(|| rustix::io::pread(file, &mut into[done..], offset + done as u64)) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(_) if done > 0 => break,
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(done)
}

pub(crate) fn write_at(file: BorrowedFd<'_>, from: &[u8], offset: u64) -> Result<usize, Errno> {
    check_size(offset.saturating_add(1))?;
    Ok(rustix::io::retry_on_intr(|| rustix::io::pwrite(file, from, offset))?)
}

/// Writes to the end, wherever that is by then.
pub(crate) fn append(file: BorrowedFd<'_>, from: &[u8]) -> Result<usize, Errno> {
    check_size(u64::try_from(rustix::fs::fstat(file)?.st_size).unwrap_or(0).saturating_add(1))?;
    let from = [IoSlice::new(from)];
    Ok(rustix::io::retry_on_intr(|| rustix::io::pwritev2(file, &from, 0, ReadWriteFlags::APPEND))?)
}

pub(crate) fn set_len(file: BorrowedFd<'_>, len: u64) -> Result<(), Errno> {
    check_size(len)?;
    Ok(rustix::fs::ftruncate(file, len)?)
}

/// The end has been [checked](check_size).
pub(crate) fn allocate(file: BorrowedFd<'_>, flags: FallocateFlags, [start, len]: [u64; 2]) -> Result<(), Errno> {
    Ok(rustix::fs::fallocate(file, flags, start, len)?)
}

/// Refuses to let a file become larger than the host's process may make one: the kernel would send it `SIGXFSZ`, which ends it.
pub(crate) fn check_size(len: u64) -> Result<(), Errno> {
    match rustix::process::getrlimit(rustix::process::Resource::Fsize).current {
        Some(most) if len > most => Err(Errno::EFBIG),
        _ => Ok(()),
    }
}

/// The longest path beneath a granted directory, in bytes: `PATH_MAX` of Linux's `include/uapi/linux/limits.h`.
const TRAIL_MAX: usize = 4096;

/// How often a look-up is repeated that somebody has disturbed.
const ATTEMPTS: u32 = 16;

/// Room for the names that one system call reads, as large as the C library's.
const LIST_BUFFER: usize = 32 << 10;
