//! The paths that lead somewhere. They are the same for every guest, and nothing of the host is behind them.
//!
//! `/dev` has the devices that programs take for granted, and `/proc/self/maps` the process's mappings. Directories can be
//! entered but not read, as when Linux grants only the permission to search.

use ampoule_vmm::GuestVirt;
use linux_raw_sys::general::{
    AT_FDCWD, O_ACCMODE, O_CLOEXEC, O_CREAT, O_DIRECTORY, O_EXCL, O_LARGEFILE, O_NOCTTY, O_RDONLY, O_TRUNC, PATH_MAX,
};

use crate::address_space::AddressSpace;

use super::descriptors::{Descriptors, Object, OpenFile};
use super::errno::Errno;
use super::host::fill_random;
use super::int;
use super::stat::{self, Status};

/// What a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Directory(Directory),
    Device(Device),
    /// `/proc/self/maps`.
    Maps,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Directory {
    Root,
    Devices,
    Processes,
    /// `/proc/self`: a directory itself, where Linux has a link to one.
    Own,
}

/// A device of Linux's `drivers/char/mem.c`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Device {
    Null,
    Zero,
    Full,
    Random,
    Urandom,
}

/// Where a relative path starts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start<'a> {
    pub(super) descriptors: &'a Descriptors,
    /// The descriptor of a directory, or [`AT_FDCWD`].
    pub(super) base: u64,
    /// The working directory.
    pub(super) directory: Directory,
}

impl Start<'_> {
    /// The directory that is meant. None can be open.
    fn directory(&self) -> Result<Directory, Errno> {
        if int(self.base) == AT_FDCWD {
            return Ok(self.directory);
        }
        self.descriptors.get(self.base)?;
        Err(Errno::ENOTDIR)
    }
}

/// Reads a path.
pub(super) fn read(space: &AddressSpace, path: u64) -> Result<Vec<u8>, Errno> {
    Ok(space.read_c_string(GuestVirt(path), PATH_MAX as usize)?)
}

/// Follows a path.
pub(super) fn find(start: Start<'_>, path: &[u8]) -> Result<Node, Errno> {
    if path.is_empty() {
        return Err(Errno::ENOENT);
    }
    let start = if path[0] == b'/' { Directory::Root } else { start.directory()? };
    path.split(|byte| *byte == b'/').try_fold(Node::Directory(start), |node, name| match (node, name) {
        // There is an empty name before the root's slash, between two slashes, and behind the last one.
        (Node::Directory(directory), b"" | b".") => Ok(Node::Directory(directory)),
        (Node::Directory(directory), b"..") => Ok(Node::Directory(directory.parent())),
        (Node::Directory(directory), name) => directory.child(name).ok_or(Errno::ENOENT),
        (Node::Device(_) | Node::Maps, _) => Err(Errno::ENOTDIR),
    })
}

/// Opens what a path has led to.
pub(super) fn open(descriptors: &mut Descriptors, node: Node, flags: u64) -> Result<u64, Errno> {
    let flags = flags as u32;
    let reads_only = flags & O_ACCMODE == O_RDONLY;
    let object = match node {
        _ if flags & (O_CREAT | O_EXCL) == O_CREAT | O_EXCL => return Err(Errno::EEXIST),
        Node::Directory(_) if reads_only && flags & O_CREAT == 0 => return Err(Errno::EACCES),
        Node::Directory(_) => return Err(Errno::EISDIR),
        _ if flags & O_DIRECTORY != 0 => return Err(Errno::ENOTDIR),
        Node::Maps if !reads_only || flags & O_TRUNC != 0 => return Err(Errno::EACCES),
        Node::Maps => Object::Maps,
        Node::Device(device) => Object::Device(device),
    };
    let kept = flags & !(O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_CLOEXEC) | O_LARGEFILE;
    descriptors.open(OpenFile { object, flags: kept, position: 0 }, flags & O_CLOEXEC != 0)
}

/// Whether the process may do what `access` asks about in `mode`.
pub(super) fn access(status: &Status, mode: u64) -> Result<u64, Errno> {
    match u32::try_from(mode) {
        Ok(wanted @ 0..=0o7) if status.allows(wanted) => Ok(0),
        Ok(0..=0o7) => Err(Errno::EACCES),
        _ => Err(Errno::EINVAL),
    }
}

pub(super) fn getcwd(space: &mut AddressSpace, directory: Directory, into: u64, len: u64) -> Result<u64, Errno> {
    let path = directory.path();
    let needed = path.len() as u64 + 1;
    if len < needed {
        return Err(Errno::ERANGE);
    }
    space.write(GuestVirt(into), &[path.as_bytes(), b"\0"].concat())?;
    Ok(needed)
}

impl Node {
    pub(super) fn status(self) -> Status {
        match self {
            Self::Directory(directory) => Status::directory(FIRST_DIRECTORY + directory as u64),
            Self::Device(device) => device.status(),
            Self::Maps => stat::MAPS,
        }
    }
}

impl Directory {
    fn path(self) -> &'static str {
        match self {
            Self::Root => "/",
            Self::Devices => "/dev",
            Self::Processes => "/proc",
            Self::Own => "/proc/self",
        }
    }

    fn parent(self) -> Self {
        match self {
            Self::Root | Self::Devices | Self::Processes => Self::Root,
            Self::Own => Self::Processes,
        }
    }

    fn child(self, name: &[u8]) -> Option<Node> {
        Some(match (self, name) {
            (Self::Root, b"dev") => Node::Directory(Self::Devices),
            (Self::Root, b"proc") => Node::Directory(Self::Processes),
            (Self::Processes, b"self") => Node::Directory(Self::Own),
            (Self::Own, b"maps") => Node::Maps,
            (Self::Devices, b"null") => Node::Device(Device::Null),
            (Self::Devices, b"zero") => Node::Device(Device::Zero),
            (Self::Devices, b"full") => Node::Device(Device::Full),
            (Self::Devices, b"random") => Node::Device(Device::Random),
            (Self::Devices, b"urandom") => Node::Device(Device::Urandom),
            _ => return None,
        })
    }
}

impl Device {
    pub(super) fn status(self) -> Status {
        Status::device(self.minor())
    }

    /// Fills `into` with what a read gives, and returns how much that is.
    pub(super) fn read(self, into: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::Null => return Ok(0),
            Self::Zero | Self::Full => into.fill(0),
            Self::Random | Self::Urandom => fill_random(into).map_err(|_| Errno::EIO)?,
        }
        Ok(into.len())
    }

    /// How much of `len` bytes a write takes. None of them is kept.
    pub(super) fn write(self, len: u64) -> Result<u64, Errno> {
        if self == Self::Full { Err(Errno::ENOSPC) } else { Ok(len.min(MAX_RW_COUNT)) }
    }

    /// Linux's `Documentation/admin-guide/devices.txt`; the major number is 1.
    fn minor(self) -> u32 {
        match self {
            Self::Null => 3,
            Self::Zero => 5,
            Self::Full => 7,
            Self::Random => 8,
            Self::Urandom => 9,
        }
    }
}

/// The directories' inodes are this one and those that follow.
const FIRST_DIRECTORY: u64 = 32;

/// The most bytes that one call transfers (Linux's `include/linux/fs.h`).
const MAX_RW_COUNT: u64 = 0x7fff_f000;
