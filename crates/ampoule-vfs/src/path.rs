//! Paths of what is open.

use std::os::fd::AsFd;

use crate::host::{HostNode, HostStatus};
use crate::memory::{Above, Body};
use crate::mount::{Mount, MountId, MountKind};
use crate::process::{Context, Descriptor};
use crate::special::Link;
use crate::vfs::{Location, Node, Vfs};
use crate::{Errno, File, FileType, PATH_MAX};

impl Vfs {
    /// The path of a directory from the root (`getcwd`).
    ///
    /// # Errors
    ///
    /// `ENOENT` where it has been removed, `ENOTDIR` where it is none, `ENAMETOOLONG`, and what the host says.
    pub fn path(&self, directory: &Location) -> Result<Vec<u8>, Errno> {
        if self.file_type(directory)? != FileType::Directory {
            return Err(Errno::ENOTDIR);
        }
        let mut names: Vec<Vec<u8>> = Vec::new();
        let mut len = 0;
        let mut at = directory.clone();
        loop {
            let mount = self.mount(at.mount);
            let above = self.is_mount_root(&at).then_some(&mount.above);
            let (name, above) = match (above, self.node(&at)) {
                (Some(None), _) => break,
                // What something is mounted on keeps its name, while the directories above it may be moved.
                (Some(Some(above)), _) => (last_of(&mount.path), above.clone()),
                (None, Node::Host(node)) if mount.kind != MountKind::Overlay => {
                    check_is_there(&node)?;
                    (self.current_trail(at.mount, &node), self.mount_root(at.mount))
                }
                (None, _) => (self.last_name(&at)?, self.above(&at)?),
            };
            len += name.len() + 1;
            if len > PATH_MAX {
                return Err(Errno::ENAMETOOLONG);
            }
            names.push(name);
            at = above;
        }
        names.push(Vec::new());
        names.reverse();
        Ok(if names.len() == 1 { b"/".to_vec() } else { names.join(&b'/') })
    }

    /// The path that a file was opened by, as `/proc/self/fd` shows it: by the name that the file has been moved to, or
    /// followed by ` (deleted)` where it has none any more.
    #[must_use]
    pub fn path_of(&self, context: &Context<'_>, file: &File) -> Vec<u8> {
        if let Ok(path) = self.path(&file.location) {
            return path;
        }
        let mount = file.location.mount;
        match (self.node(&file.location), file.name.as_deref()) {
            // The kernel knows by which name it was opened, and where that is now.
            (Node::Host(node), _) if self.mount(mount).kind == MountKind::HostReadWrite => self.beneath(mount, &node),
            (_, _) if self.is_mount_root(&file.location) => self.path_of_mount(self.mount(mount)),
            (node, Some((directory, name))) => {
                if self.has_name(context, file, directory, name) {
                    return self.named_path(directory, name);
                }
                if let Some((directory, name)) = self.moved_to(mount, &node)
                    && self.has_name(context, file, &directory, &name)
                {
                    return self.named_path(&directory, &name);
                }
                [&self.named_path(directory, name)[..], DELETED].concat()
            }
            (Node::Host(node), None) if !node.trail.is_empty() => self.beneath(mount, &node),
            _ => [b"/", DELETED].concat(),
        }
    }

    /// Where a mount is.
    pub(crate) fn path_of_mount(&self, mount: &Mount) -> Vec<u8> {
        match &mount.above {
            Some(above) => self.named_path(above, &last_of(&mount.path)),
            None => mount.path.clone(),
        }
    }

    fn named_path(&self, directory: &Location, name: &[u8]) -> Vec<u8> {
        let directory = self.path(directory).unwrap_or_default();
        [directory.strip_suffix(b"/").unwrap_or(&directory), b"/", name].concat()
    }

    /// Where a file in memory was moved to last.
    fn moved_to(&self, mount: MountId, node: &Node) -> Option<(Location, Vec<u8>)> {
        let Node::Memory(ino) = node else { return None };
        let (directory, name) = self.memory(mount).get(*ino).ok()?.moved_to.as_deref()?;
        Some((Location { mount, node: Node::Memory(*directory) }, name.clone()))
    }

    /// The path of a host's file beneath its mount.
    fn beneath(&self, mount: MountId, node: &HostNode) -> Vec<u8> {
        self.named_path(&self.mount_root(mount), &self.current_trail(mount, node))
    }

    /// What `readlink` shows of a link to something open.
    pub(crate) fn shown_target(&self, context: &Context<'_>, link: &Location) -> Result<Vec<u8>, Errno> {
        let file = match (self.link_of(link.mount, &link.node), &link.node) {
            (Some(Link::Executable), _) => context.process.executable(),
            (Some(Link::WorkingDirectory), _) => context.process.directory(),
            (Some(Link::Root), _) => return Ok(b"/".to_vec()),
            (_, Node::DescriptorLink(number)) => match context.process.descriptor(*number) {
                Some(Descriptor::File(file)) => Some(file),
                Some(Descriptor::Other(text)) => return Ok(text),
                None => None,
            },
            _ => None,
        };
        file.map(|file| self.path_of(context, file)).ok_or(Errno::ENOENT)
    }

    /// The name that a directory has in the one above it.
    fn last_name(&self, directory: &Location) -> Result<Vec<u8>, Errno> {
        match self.node(directory) {
            Node::Memory(ino) => {
                let inode = self.memory(directory.mount).get(ino)?;
                let Body::Directory(names) = &inode.body else { return Err(Errno::ENOTDIR) };
                match (&names.above, &inode.lower) {
                    _ if inode.links == 0 => Err(Errno::ENOENT),
                    // The directory of the process is found by its number, and by this name.
                    (Above::Own { name, .. }, _) if name.is_empty() => Ok(b"self".to_vec()),
                    (Above::Own { name, .. }, _) => Ok(name.to_vec()),
                    (Above::Lower, Some(lower)) => Ok(last_of(&lower.trail)),
                    _ => Err(Errno::ENOENT),
                }
            }
            Node::Host(node) => {
                check_is_there(&node)?;
                Ok(last_of(&node.trail))
            }
            Node::DescriptorLink(_) | Node::Descriptor(_) => Err(Errno::ENOTDIR),
        }
    }
}

fn check_is_there(node: &HostNode) -> Result<(), Errno> {
    if HostStatus::of(node.fd.as_fd())?.links == 0 { Err(Errno::ENOENT) } else { Ok(()) }
}

fn last_of(path: &[u8]) -> Vec<u8> {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or_default().to_vec()
}

/// What follows the path of a file that has no name (`d_path` of Linux's `fs/d_path.c`).
const DELETED: &[u8] = b" (deleted)";
