//! Host directories under memory.
//!
//! Memory has inodes that take the place of the host's, one for each that has been changed. Whoever finds the host's file
//! finds the one that has replaced it, by whatever name and however long ago: so nothing above it has to be copied, hard
//! links stay links of one file, and who has had it open sees its changes. Replacing a file copies its metadata; its
//! contents are copied a page at a time, when they are written. Replacing a directory copies its names.

use std::os::fd::AsFd;
use std::sync::Arc;

use crate::host::{self, HostNode, HostStatus};
use crate::memory::{Above, Body, Child, Contents, Directory, Ino, Inode, Lower, Role};
use crate::mount::{MountId, MountKind};
use crate::open::open_host_unnoticed;
use crate::vfs::{Location, Node, Vfs, identity, shown_owner};
use crate::{Errno, FileType};

impl Vfs {
    /// The inode in memory that is to be changed.
    pub(crate) fn inode_to_change(&mut self, location: &Location) -> Result<Ino, Errno> {
        match self.node(location) {
            Node::Memory(ino) => Ok(ino),
            Node::Host(node) => match self.mount(location.mount).kind {
                MountKind::Overlay => self.replace(location.mount, &node),
                _ => Err(Errno::EROFS),
            },
            Node::DescriptorLink(_) | Node::Descriptor(_) => Err(Errno::EPERM),
        }
    }

    /// Puts an inode in the place of a host's file.
    pub(crate) fn replace(&mut self, mount: MountId, node: &HostNode) -> Result<Ino, Errno> {
        if let Some(ino) = self.memory(mount).replacement(identity(node)) {
            return Ok(ino);
        }
        let status = HostStatus::of(node.fd.as_fd())?;
        let mut names = Vec::new();
        let body = match status.file_type {
            FileType::Regular => Body::Regular(Contents::of_lower(status.size)),
            FileType::Directory => {
                let room = usize::try_from(self.memory(mount).usage.room_for_names()).unwrap_or(usize::MAX);
                names = host::list(&open_host_unnoticed(node)?, room, &|| Ok(()))?;
                if names.len() > room {
                    return Err(Errno::ENOSPC);
                }
                let above = if node.trail.is_empty() { Above::Nothing } else { Above::Lower };
                Body::Directory(Directory::new(above, Role::Ordinary))
            }
            FileType::Symlink => Body::Symlink(host::read_link(node.fd.as_fd())?.into()),
            FileType::Fifo => Body::Fifo,
            FileType::Socket => Body::Socket,
            FileType::CharacterDevice | FileType::BlockDevice => return Err(Errno::EPERM),
        };
        let (user, group) = shown_owner(status.user, status.group);
        let lower = Lower { identity: status.identity, trail: node.trail.clone() };
        let inode = Inode {
            body,
            permissions: status.permissions,
            user,
            group,
            links: status.links,
            accessed: status.accessed,
            modified: status.modified,
            changed: status.changed,
            created: status.created,
            is_linkable: false,
            lower: Some(Arc::new(lower)),
            moved_to: None,
        };
        let memory = self.memory_mut(mount);
        let ino = memory.add(inode)?;
        for entry in names {
            let child = Child::Lower { inode: entry.inode, file_type: entry.file_type };
            if let Err(errno) = memory.set_name(ino, &entry.name, child) {
                memory.get_mut(ino)?.links = 0;
                memory.remove_if_unused(ino);
                return Err(errno);
            }
        }
        memory.inherit_opened(status.identity, ino);
        Ok(ino)
    }
}
