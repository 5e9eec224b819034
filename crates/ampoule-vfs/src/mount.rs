//! The mounts that a tree is made of.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::Errno;
use crate::memory::Ino;
use crate::vfs::{Location, Node, Vfs};

/// The place of a mount in the list of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct MountId(pub(crate) usize);

/// A file system at its place.
#[derive(Debug)]
pub(crate) struct Mount {
    pub(crate) kind: MountKind,
    /// Where it was mounted in the sandbox. Directories above it may have been moved since.
    pub(crate) path: Vec<u8>,
    /// The directory that host paths are beneath.
    pub(crate) host: Option<HostMount>,
    pub(crate) root: Node,
    /// The directory that it is mounted in.
    pub(crate) above: Option<Location>,
    /// What is mounted in it.
    pub(crate) attached: BTreeMap<Attachment, MountId>,
}

#[derive(Debug)]
pub(crate) struct HostMount {
    pub(crate) fd: OwnedFd,
    /// The file system of the directory itself. What is mounted beneath it has another one.
    pub(crate) device: u64,
}

/// What something is mounted on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Attachment {
    Memory(Ino),
    Host(Vec<u8>),
}

/// What a mount is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MountKind {
    /// Memory.
    Memory,
    /// A host directory, or a file of the host, that is only read.
    HostReadOnly,
    /// A host directory that is written to.
    HostReadWrite,
    /// A host directory under memory.
    Overlay,
    /// `/dev`.
    Devices,
    /// `/proc`.
    Processes,
    /// Files without a name. It has no place.
    Anonymous,
}

/// A mount as it is listed in `/proc/mounts`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountInfo {
    /// What it is.
    pub kind: MountKind,
    /// Where it is.
    pub path: Vec<u8>,
    /// The same number as [`Metadata::mount`](crate::Metadata::mount).
    pub id: u64,
}

impl MountKind {
    /// Whether nothing in it can be changed.
    #[must_use]
    pub fn is_read_only(self) -> bool {
        self == Self::HostReadOnly
    }

    /// Its type as it is listed in `/proc/mounts`.
    #[must_use]
    pub fn file_system_type(self) -> &'static str {
        match self {
            Self::Memory | Self::Anonymous => "tmpfs",
            Self::HostReadOnly | Self::HostReadWrite => "host",
            Self::Overlay => "overlay",
            Self::Devices => "devtmpfs",
            Self::Processes => "proc",
        }
    }
}

impl Vfs {
    /// The mounts, in the order in which they were made.
    pub fn mounts(&self) -> impl Iterator<Item = MountInfo> {
        let mounts = self.mounts.iter().enumerate().filter(|(_, mount)| mount.kind != MountKind::Anonymous);
        mounts.map(|(id, mount)| MountInfo { kind: mount.kind, path: self.path_of_mount(mount), id: id as u64 })
    }

    pub(crate) fn mount(&self, id: MountId) -> &Mount {
        &self.mounts[id.0]
    }

    /// The directory that the host's files of a mount are beneath.
    pub(crate) fn host_root(&self, id: MountId) -> Result<BorrowedFd<'_>, Errno> {
        self.mount(id).host.as_ref().map(|host| host.fd.as_fd()).ok_or(Errno::EIO)
    }

    /// What is mounted on something, or that itself.
    pub(crate) fn enter_mount(&self, location: Location) -> Location {
        let mount = self.mount(location.mount);
        if mount.attached.is_empty() {
            return location;
        }
        let attachment = match &location.node {
            Node::Memory(ino) => Attachment::Memory(*ino),
            Node::Host(node) => Attachment::Host(node.trail.clone()),
            Node::DescriptorLink(_) | Node::Descriptor(_) => return location,
        };
        match mount.attached.get(&attachment) {
            Some(id) => self.mount_root(*id),
            None => location,
        }
    }

    pub(crate) fn mount_root(&self, id: MountId) -> Location {
        Location { mount: id, node: self.mount(id).root.clone() }
    }
}
