//! The tree, and places in it.

use std::os::fd::AsFd;
use std::sync::Arc;

use crate::host::{HostIdentity, HostNode, HostStatus};
use crate::lower_names::LowerNames;
use crate::memory::{Body, Ino, Memory};
use crate::mount::{Mount, MountId, MountKind};
use crate::special::{Link, Special};
use crate::{Errno, FileType, USER_ID};

/// The tree of files that a process sees.
///
/// Operations that change something need it exclusively; the others can be done at the same time.
#[derive(Clone, Debug)]
pub struct Vfs {
    pub(crate) mounts: Arc<Vec<Mount>>,
    /// The part of each mount that is in memory, by the same numbers.
    pub(crate) memories: Vec<Memory>,
    pub(crate) lower_names: LowerNames,
    /// How many files are open.
    pub(crate) open_files: u32,
    pub(crate) open_files_max: u32,
}

/// A file's place in the tree, as a look-up has found it.
///
/// It is good until the next operation that changes the tree. What is to be kept is opened, if need be with `O_PATH`, and
/// the [`File`](crate::File) has a [location](crate::File::location) for as long as it is open.
#[derive(Clone, Debug)]
pub struct Location {
    pub(crate) mount: MountId,
    pub(crate) node: Node,
}

#[derive(Clone, Debug)]
pub(crate) enum Node {
    Memory(Ino),
    Host(Arc<HostNode>),
    /// The symbolic link in `/proc/self/fd`.
    DescriptorLink(u32),
    /// What it leads to, when that is in no file system.
    Descriptor(u32),
}

/// What permissions depend on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Status {
    pub(crate) file_type: FileType,
    pub(crate) permissions: u32,
    pub(crate) user: u32,
    pub(crate) group: u32,
}

/// What a process wants to do: a sum of these.
pub(crate) const READ: u32 = 4;
pub(crate) const WRITE: u32 = 2;
pub(crate) const EXECUTE: u32 = 1;

impl Vfs {
    /// What kind of mount a file is in.
    #[must_use]
    pub fn mount_kind(&self, location: &Location) -> MountKind {
        self.mount(location.mount).kind
    }

    /// The root directory.
    #[must_use]
    pub fn root(&self) -> Location {
        self.mount_root(ROOT_MOUNT)
    }

    /// What a file is.
    ///
    /// # Errors
    ///
    /// `ENOENT` where it no longer exists, and what the host says.
    pub fn file_type(&self, location: &Location) -> Result<FileType, Errno> {
        Ok(self.status(location)?.file_type)
    }

    /// What the caller is to make of the file, if that is not up to the virtual file system.
    #[must_use]
    pub fn special(&self, location: &Location) -> Option<Special> {
        match self.node(location) {
            Node::Descriptor(number) => Some(Special::Descriptor(number)),
            Node::Memory(ino) => match self.memory(location.mount).get(ino).ok()?.body {
                Body::Special(special) => Some(special),
                Body::Fifo => Some(self.rendezvous(location.mount, ino, false)),
                Body::Socket => Some(self.rendezvous(location.mount, ino, true)),
                _ => None,
            },
            Node::Host(_) | Node::DescriptorLink(_) => None,
        }
    }

    fn rendezvous(&self, mount: MountId, ino: Ino, is_socket: bool) -> Special {
        Special::Rendezvous { mount: mount.0 as u64, inode: self.shown_inode(mount, ino), is_socket }
    }

    pub(crate) fn memory(&self, mount: MountId) -> &Memory {
        &self.memories[mount.0]
    }

    pub(crate) fn memory_mut(&mut self, mount: MountId) -> &mut Memory {
        &mut self.memories[mount.0]
    }

    /// What a location stands for by now: a host's file below an overlay may have been replaced since.
    pub(crate) fn node(&self, location: &Location) -> Node {
        match &location.node {
            Node::Host(node) => match self.memory(location.mount).replacement(node.status.identity) {
                Some(ino) => Node::Memory(ino),
                None => location.node.clone(),
            },
            node => node.clone(),
        }
    }

    pub(crate) fn status(&self, location: &Location) -> Result<Status, Errno> {
        match self.node(location) {
            Node::Memory(ino) => {
                let inode = self.memory(location.mount).get(ino)?;
                let (file_type, permissions) = (inode.file_type(), inode.permissions);
                Ok(Status { file_type, permissions, user: inode.user, group: inode.group })
            }
            Node::Host(node) => {
                // Where the guest can change it, what was found with it may be out of date.
                let status = match self.mount(location.mount).kind {
                    MountKind::HostReadWrite => HostStatus::of(node.fd.as_fd())?,
                    _ => node.status,
                };
                let (user, group) = shown_owner(status.user, status.group);
                let (file_type, permissions) = (status.file_type, status.permissions);
                Ok(Status { file_type, permissions, user, group })
            }
            Node::DescriptorLink(_) => {
                Ok(Status { file_type: FileType::Symlink, permissions: 0o700, user: USER_ID, group: USER_ID })
            }
            Node::Descriptor(_) => Err(Errno::ENXIO),
        }
    }

    /// The link that a node is, if its target depends on the process.
    pub(crate) fn link_of(&self, mount: MountId, node: &Node) -> Option<Link> {
        let Node::Memory(ino) = node else { return None };
        match self.memory(mount).get(*ino).ok()?.body {
            Body::Link(link) => Some(link),
            _ => None,
        }
    }

    /// The number that an inode in memory is shown with.
    pub(crate) fn shown_inode(&self, mount: MountId, ino: Ino) -> u64 {
        let lower = self.memory(mount).get(ino).ok().and_then(|inode| inode.lower.as_ref());
        match lower {
            Some(lower) => lower.identity.inode,
            None if self.mount(mount).kind == MountKind::Overlay => OVERLAY_INODES + ino,
            None => ino,
        }
    }

    /// Whether two locations are the same file.
    #[must_use]
    pub fn is_same(&self, one: &Location, other: &Location) -> bool {
        one.mount == other.mount
            && match (self.node(one), self.node(other)) {
                (Node::Memory(one), Node::Memory(other)) => one == other,
                (Node::Host(one), Node::Host(other)) => one.status.identity == other.status.identity,
                _ => false,
            }
    }
}

impl Status {
    /// Whether the guest may do all of this.
    pub(crate) fn allows(&self, wanted: u32) -> bool {
        let granted = match self {
            Self { user: USER_ID, permissions, .. } => permissions >> 6,
            Self { group: USER_ID, permissions, .. } => permissions >> 3,
            Self { permissions, .. } => *permissions,
        };
        granted & wanted == wanted
    }

    pub(crate) fn check(&self, wanted: u32) -> Result<(), Errno> {
        if self.allows(wanted) { Ok(()) } else { Err(Errno::EACCES) }
    }
}

/// A host's owner as the guest sees it.
pub(crate) fn shown_owner(user: u32, group: u32) -> (u32, u32) {
    let shown = |id: u32, own: u32| match id {
        id if id == own => USER_ID,
        0 => 0,
        _ => NOBODY,
    };
    let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    (shown(user, own.0), shown(group, own.1))
}

/// The first mount is the root, the second holds the files without a name.
pub(crate) const ROOT_MOUNT: MountId = MountId(0);
pub(crate) const ANONYMOUS_MOUNT: MountId = MountId(1);

/// The owner of what belongs to neither the guest nor root (`DEFAULT_OVERFLOWUID` of Linux's `include/linux/highuid.h`).
const NOBODY: u32 = 65_534;

/// What is new in an overlay has numbers from here on, beyond those of the host's files.
const OVERLAY_INODES: u64 = 1 << 48;

#[cfg(test)]
const fn is_shared_between_threads<T: Send + Sync>() {}

#[cfg(test)]
const _: () = is_shared_between_threads::<Vfs>();

/// The identity of a held file of the host, which an overlay looks up its replacement by.
pub(crate) fn identity(node: &HostNode) -> HostIdentity {
    node.status.identity
}
