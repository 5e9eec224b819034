//! Names: making, moving and removing them.

use std::os::fd::AsFd;
use std::sync::Arc;

use linux_raw_sys::general::{RENAME_EXCHANGE, RENAME_NOREPLACE};
use rustix::fs::{AtFlags, CWD, RenameFlags};

use crate::host::{self, HostNode};
use crate::memory::{Above, Body, Child, Contents, Directory, Ino, Inode, Role, SET_GROUP};
use crate::mount::{MountId, MountKind};
use crate::open::{host_mode, open_host_unnoticed, set_mode_of_new};
use crate::process::Context;
use crate::vfs::{EXECUTE, Location, Node, Vfs, WRITE};
use crate::walk::{AtEnd, Last, Target};
use crate::{Errno, FileType, PATH_MAX, USER_ID};

/// What `mknod` makes. Devices are up to the caller to refuse (`EPERM`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeKind {
    /// An empty regular file.
    Regular,
    /// A named pipe, which is [special](Vfs::special).
    Fifo,
    /// A socket, which is [special](Vfs::special).
    Socket,
}

/// A name in a directory.
#[derive(Clone, Debug)]
struct Name {
    directory: Location,
    name: Arc<[u8]>,
    has_slash: bool,
}

impl Vfs {
    /// Makes a directory (`mkdirat`).
    ///
    /// # Errors
    ///
    /// Those of [`resolve`](Self::resolve), `EEXIST`, `EROFS`, `ENOSPC`, and what the host says.
    pub fn create_directory(
        &mut self,
        context: &Context<'_>,
        base: &Location,
        path: &[u8],
        mode: u32,
    ) -> Result<(), Errno> {
        let new = self.new_name(context, base, path, true)?;
        if let Some(above) = self.host_directory(&new.directory)? {
            rustix::fs::mkdirat(&above.fd, &*new.name, host_mode(mode))?;
            return set_mode_of_new(above.fd.as_fd(), &new.name, mode);
        }
        let body = Body::Directory(Directory::new(Above::Nothing, Role::Ordinary));
        let inode = Inode { links: 2, ..Inode::new(body, mode & 0o1777, context.now) };
        self.add_to_directory(context, &new.directory, &new.name, inode).map(drop)
    }

    /// Makes a symbolic link (`symlinkat`).
    ///
    /// # Errors
    ///
    /// Those of [`create_directory`](Self::create_directory), `ENOENT` for an empty target, `ENAMETOOLONG` for a long one.
    pub fn create_symlink(
        &mut self,
        context: &Context<'_>,
        target: &[u8],
        base: &Location,
        path: &[u8],
    ) -> Result<(), Errno> {
        if target.is_empty() {
            return Err(Errno::ENOENT);
        }
        if target.len() > PATH_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        let new = self.new_name(context, base, path, false)?;
        if let Some(above) = self.host_directory(&new.directory)? {
            return Ok(rustix::fs::symlinkat(target, &above.fd, &*new.name)?);
        }
        let inode = Inode { links: 1, ..Inode::new(Body::Symlink(target.into()), 0o777, context.now) };
        self.add_to_directory(context, &new.directory, &new.name, inode).map(drop)
    }

    /// Makes a file that is no directory (`mknodat`).
    ///
    /// # Errors
    ///
    /// Those of [`create_directory`](Self::create_directory), and `EPERM` for pipes and sockets in a host directory.
    pub fn create_node(
        &mut self,
        context: &Context<'_>,
        base: &Location,
        path: &[u8],
        kind: NodeKind,
        mode: u32,
    ) -> Result<(), Errno> {
        let new = self.new_name(context, base, path, false)?;
        if let Some(above) = self.host_directory(&new.directory)? {
            if kind != NodeKind::Regular {
                return Err(Errno::EPERM);
            }
            let file_type = rustix::fs::FileType::RegularFile;
            rustix::fs::mknodat(&above.fd, &*new.name, file_type, host_mode(mode), 0)?;
            return set_mode_of_new(above.fd.as_fd(), &new.name, mode);
        }
        let body = match kind {
            NodeKind::Regular => Body::Regular(Contents::default()),
            NodeKind::Fifo => Body::Fifo,
            NodeKind::Socket => Body::Socket,
        };
        let inode = Inode { links: 1, ..Inode::new(body, mode & 0o7777, context.now) };
        self.add_to_directory(context, &new.directory, &new.name, inode).map(drop)
    }

    /// Fails where nothing new can be at a path, for what the caller refuses to make anywhere.
    ///
    /// # Errors
    ///
    /// Those of [`create_directory`](Self::create_directory).
    pub fn check_new_name(&self, context: &Context<'_>, base: &Location, path: &[u8]) -> Result<(), Errno> {
        self.new_name(context, base, path, false).map(drop)
    }

    /// Gives a file another name (`linkat`).
    ///
    /// # Errors
    ///
    /// Those of [`create_directory`](Self::create_directory), `EPERM` for a directory and for what is not of the guest's
    /// user, `EXDEV` for another mount, `ENOENT` where the file has no name left.
    pub fn link(&mut self, context: &Context<'_>, file: &Location, base: &Location, path: &[u8]) -> Result<(), Errno> {
        let new = self.named(context, base, path)?;
        if self.look_up(context, &new.directory, &new.name)?.is_some() {
            return Err(Errno::EEXIST);
        }
        if new.has_slash {
            return Err(Errno::ENOENT);
        }
        if new.directory.mount != file.mount {
            return Err(Errno::EXDEV);
        }
        self.check_may_create(&new.directory)?;
        if self.file_type(file)? == FileType::Directory {
            return Err(Errno::EPERM);
        }
        if let Some(above) = self.host_directory(&new.directory)? {
            let Node::Host(node) = self.node(file) else { return Err(Errno::EXDEV) };
            return Ok(rustix::fs::linkat(CWD, node.own_path(), &above.fd, &*new.name, AtFlags::SYMLINK_FOLLOW)?);
        }
        let Node::Memory(parent) = Node::Memory(self.inode_to_change(&new.directory)?) else { return Err(Errno::EIO) };
        let ino = self.inode_to_change(file)?;
        let memory = self.memory_mut(file.mount);
        let inode = memory.get(ino)?;
        if inode.links == 0 && !inode.is_linkable {
            return Err(Errno::ENOENT);
        }
        memory.set_name(parent, &new.name, Child::Own(ino))?;
        let inode = memory.get_mut(ino)?;
        inode.links += 1;
        inode.changed = context.now;
        memory.get_mut(parent)?.note_names(context.now);
        Ok(())
    }

    /// Removes the name of something that is no directory (`unlinkat`).
    ///
    /// # Errors
    ///
    /// Those of [`resolve`](Self::resolve), `EISDIR`, `EPERM` for another user's file in a sticky directory, `EBUSY` for
    /// what something is mounted on, `EROFS`, and what the host says.
    pub fn remove_file(&mut self, context: &Context<'_>, base: &Location, path: &[u8]) -> Result<(), Errno> {
        let walked = self.walk(context, base, path, AtEnd::NAME)?;
        let Last::Name(name) = walked.last else { return Err(Errno::EISDIR) };
        let found = walked.found.ok_or(Errno::ENOENT)?;
        let is_directory = self.file_type(&found)? == FileType::Directory;
        if walked.has_slash {
            return Err(if is_directory { Errno::EISDIR } else { Errno::ENOTDIR });
        }
        self.check_may_remove(&walked.directory, &found)?;
        if is_directory {
            return Err(Errno::EISDIR);
        }
        self.check_not_mounted_on(&walked.directory, &found)?;
        if let Some(above) = self.host_directory(&walked.directory)? {
            return Ok(rustix::fs::unlinkat(&above.fd, &*name, AtFlags::empty())?);
        }
        self.remove_from_directory(context, &walked.directory, &name, &found)
    }

    /// Removes an empty directory (`rmdir`, or `unlinkat` with `AT_REMOVEDIR`).
    ///
    /// # Errors
    ///
    /// Those of [`remove_file`](Self::remove_file), `ENOTDIR`, `ENOTEMPTY`, `EBUSY` for the root, `EINVAL` for `.`.
    pub fn remove_directory(&mut self, context: &Context<'_>, base: &Location, path: &[u8]) -> Result<(), Errno> {
        let walked = self.walk(context, base, path, AtEnd::NAME)?;
        let name = match walked.last {
            Last::Name(name) => name,
            Last::Dot => return Err(Errno::EINVAL),
            Last::DotDot => return Err(Errno::ENOTEMPTY),
            Last::Nothing => return Err(Errno::EBUSY),
        };
        let found = walked.found.ok_or(Errno::ENOENT)?;
        self.check_may_remove(&walked.directory, &found)?;
        if self.file_type(&found)? != FileType::Directory {
            return Err(Errno::ENOTDIR);
        }
        self.check_not_mounted_on(&walked.directory, &found)?;
        if let Some(above) = self.host_directory(&walked.directory)? {
            return Ok(rustix::fs::unlinkat(&above.fd, &*name, AtFlags::REMOVEDIR)?);
        }
        self.check_empty(&found)?;
        self.remove_from_directory(context, &walked.directory, &name, &found)
    }

    /// Moves something to another name (`renameat2`). `flags` are 0, `RENAME_NOREPLACE` or `RENAME_EXCHANGE`.
    ///
    /// # Errors
    ///
    /// Those of `rename(2)`: of [`resolve`](Self::resolve), and `EXDEV` for another mount, `EBUSY` for `.`, `..` and what
    /// something is mounted on, `EEXIST`, `EINVAL` for other flags and for a directory that would get into itself, `EISDIR`,
    /// `ENOTDIR`, `ENOTEMPTY`, `EPERM`, `EROFS`, `ENOSPC`, and what the host says.
    pub fn rename(
        &mut self,
        context: &Context<'_>,
        (from_base, from_path): (&Location, &[u8]),
        (to_base, to_path): (&Location, &[u8]),
        flags: u32,
    ) -> Result<(), Errno> {
        let exchanges = flags == RENAME_EXCHANGE;
        if !matches!(flags, 0 | RENAME_NOREPLACE | RENAME_EXCHANGE) {
            return Err(Errno::EINVAL);
        }
        let from = self.walk(context, from_base, from_path, AtEnd::NAME)?;
        let to = self.walk(context, to_base, to_path, AtEnd::NAME)?;
        if from.directory.mount != to.directory.mount {
            return Err(Errno::EXDEV);
        }
        let Last::Name(from_name) = &from.last else { return Err(Errno::EBUSY) };
        let Last::Name(to_name) = &to.last else {
            return Err(if flags == RENAME_NOREPLACE { Errno::EEXIST } else { Errno::EBUSY });
        };
        if self.mount(from.directory.mount).kind.is_read_only() {
            return Err(Errno::EROFS);
        }
        let found = from.found.ok_or(Errno::ENOENT)?;
        let replaced = match to.found {
            Some(_) if flags == RENAME_NOREPLACE => return Err(Errno::EEXIST),
            None if exchanges => return Err(Errno::ENOENT),
            replaced => replaced,
        };
        let is_directory = self.file_type(&found)? == FileType::Directory;
        let replaces_directory = match &replaced {
            Some(replaced) => Some(self.file_type(replaced)? == FileType::Directory),
            None => None,
        };
        if exchanges && replaces_directory == Some(false) && to.has_slash {
            return Err(Errno::ENOTDIR);
        }
        if !is_directory && (from.has_slash || !exchanges && to.has_slash) {
            return Err(Errno::ENOTDIR);
        }
        if is_directory && self.is_within(context, &to.directory, &found)? {
            return Err(Errno::EINVAL);
        }
        if let Some(replaced) = replaced.as_ref().filter(|_| replaces_directory == Some(true))
            && self.is_within(context, &from.directory, replaced)?
        {
            return Err(if exchanges { Errno::EINVAL } else { Errno::ENOTEMPTY });
        }
        if replaced.as_ref().is_some_and(|replaced| self.is_same(&found, replaced)) {
            return Ok(());
        }
        self.check_may_remove(&from.directory, &found)?;
        match &replaced {
            None => self.check_may_create(&to.directory)?,
            Some(replaced) => {
                self.check_may_remove(&to.directory, replaced)?;
                match (is_directory, replaces_directory) {
                    (true, Some(false)) if !exchanges => return Err(Errno::ENOTDIR),
                    (false, Some(true)) if !exchanges => return Err(Errno::EISDIR),
                    _ => {}
                }
            }
        }
        let moves = !self.is_same(&from.directory, &to.directory);
        // The `..` of a directory that moves is written to.
        if moves && is_directory {
            self.status(&found)?.check(WRITE)?;
        }
        if let Some(replaced) = &replaced {
            if moves && exchanges && replaces_directory == Some(true) {
                self.status(replaced)?.check(WRITE)?;
            }
            self.check_not_mounted_on(&to.directory, replaced)?;
        }
        self.check_not_mounted_on(&from.directory, &found)?;
        if let (Some(from), Some(to)) = (self.host_directory(&from.directory)?, self.host_directory(&to.directory)?) {
            let flags = match flags {
                RENAME_NOREPLACE => RenameFlags::NOREPLACE,
                RENAME_EXCHANGE => RenameFlags::EXCHANGE,
                _ => RenameFlags::empty(),
            };
            return Ok(rustix::fs::renameat_with(&from.fd, &**from_name, &to.fd, &**to_name, flags)?);
        }
        if let Some(replaced) = replaced.as_ref().filter(|_| !exchanges && replaces_directory == Some(true)) {
            self.check_empty(replaced)?;
        }
        self.rename_in_memory(
            context,
            (&from.directory, from_name, &found),
            (&to.directory, to_name, replaced.as_ref()),
            exchanges,
        )
    }

    /// The target of a symbolic link (`readlinkat`).
    ///
    /// # Errors
    ///
    /// `EINVAL` where it is none, `ENOENT`, and what the host says.
    pub fn read_link(&self, context: &Context<'_>, link: &Location) -> Result<Vec<u8>, Errno> {
        if matches!(link.node, Node::Descriptor(_)) || self.file_type(link)? != FileType::Symlink {
            return Err(Errno::EINVAL);
        }
        match self.target(context, link)? {
            Target::Path(path) => Ok(path),
            Target::Location(_) => self.shown_target(context, link),
        }
    }

    /// Adds a new inode to a directory, where the name is free.
    pub(crate) fn add_to_directory(
        &mut self,
        context: &Context<'_>,
        directory: &Location,
        name: &[u8],
        mut inode: Inode,
    ) -> Result<Location, Errno> {
        let parent = self.inode_to_change(directory)?;
        let is_directory = matches!(inode.body, Body::Directory(_));
        let memory = self.memory_mut(directory.mount);
        if !memory.has_room_for_name() {
            return Err(Errno::ENOSPC);
        }
        let above = memory.get(parent)?;
        if above.permissions & SET_GROUP != 0 {
            inode.group = above.group;
            inode.permissions |= if is_directory { SET_GROUP } else { 0 };
        }
        let ino = memory.add(inode)?;
        memory.set_name(parent, name, Child::Own(ino))?;
        let inode = memory.get_mut(parent)?;
        inode.links += u32::from(is_directory);
        inode.note_names(context.now);
        Ok(Location { mount: directory.mount, node: Node::Memory(ino) })
    }

    /// Where a new name is to be, which must be free.
    fn new_name(&self, context: &Context<'_>, base: &Location, path: &[u8], is_directory: bool) -> Result<Name, Errno> {
        let new = self.named(context, base, path)?;
        if self.look_up(context, &new.directory, &new.name)?.is_some() {
            return Err(Errno::EEXIST);
        }
        if new.has_slash && !is_directory {
            return Err(Errno::ENOENT);
        }
        self.check_may_create(&new.directory)?;
        Ok(new)
    }

    fn named(&self, context: &Context<'_>, base: &Location, path: &[u8]) -> Result<Name, Errno> {
        let walked = self.walk(context, base, path, AtEnd::NAME)?;
        match walked.last {
            Last::Name(name) => Ok(Name { directory: walked.directory, name, has_slash: walked.has_slash }),
            Last::Dot | Last::DotDot | Last::Nothing => Err(Errno::EEXIST),
        }
    }

    /// The host's directory, where names are made on the host itself.
    fn host_directory(&self, directory: &Location) -> Result<Option<Arc<HostNode>>, Errno> {
        match (self.mount(directory.mount).kind, &directory.node) {
            (MountKind::HostReadWrite, Node::Host(node)) => Ok(Some(node.clone())),
            (MountKind::HostReadWrite, _) => Err(Errno::EIO),
            _ => Ok(None),
        }
    }

    fn rename_in_memory(
        &mut self,
        context: &Context<'_>,
        (from, from_name, found): (&Location, &[u8], &Location),
        (to, to_name, replaced): (&Location, &[u8], Option<&Location>),
        exchanges: bool,
    ) -> Result<(), Errno> {
        let mount = from.mount;
        let is_directory = self.file_type(found)? == FileType::Directory;
        let (from, to) = (self.inode_to_change(from)?, self.inode_to_change(to)?);
        let moved = self.inode_to_change(found)?;
        match replaced {
            Some(replaced) if exchanges => {
                let replaces_directory = self.file_type(replaced)? == FileType::Directory;
                let replaced = self.inode_to_change(replaced)?;
                let memory = self.memory_mut(mount);
                memory.set_name(from, from_name, Child::Own(replaced))?;
                memory.set_name(to, to_name, Child::Own(moved))?;
                memory.note_moved(replaced, (from, from_name))?;
                memory.note_moved(moved, (to, to_name))?;
                memory.get_mut(replaced)?.changed = context.now;
                move_link(&mut memory.get_mut(from)?.links, replaces_directory, is_directory);
                move_link(&mut memory.get_mut(to)?.links, is_directory, replaces_directory);
            }
            Some(replaced) => {
                let to_location = Location { mount, node: Node::Memory(to) };
                self.remove_from_directory(context, &to_location, to_name, replaced)?;
                self.move_name(mount, moved, (from, from_name), (to, to_name), is_directory)?;
            }
            None => self.move_name(mount, moved, (from, from_name), (to, to_name), is_directory)?,
        }
        let memory = self.memory_mut(mount);
        memory.get_mut(moved)?.changed = context.now;
        memory.get_mut(from)?.note_names(context.now);
        memory.get_mut(to)?.note_names(context.now);
        Ok(())
    }

    fn move_name(
        &mut self,
        mount: MountId,
        moved: Ino,
        (from, from_name): (Ino, &[u8]),
        (to, to_name): (Ino, &[u8]),
        is_directory: bool,
    ) -> Result<(), Errno> {
        let memory = self.memory_mut(mount);
        // The old name makes room for the new one.
        memory.remove_name(from, from_name)?;
        memory.set_name(to, to_name, Child::Own(moved))?;
        memory.note_moved(moved, (to, to_name))?;
        move_link(&mut memory.get_mut(from)?.links, false, is_directory);
        move_link(&mut memory.get_mut(to)?.links, is_directory, false);
        Ok(())
    }

    fn remove_from_directory(
        &mut self,
        context: &Context<'_>,
        directory: &Location,
        name: &[u8],
        found: &Location,
    ) -> Result<(), Errno> {
        let mount = directory.mount;
        let is_directory = self.file_type(found)? == FileType::Directory;
        let parent = self.inode_to_change(directory)?;
        let removed = match self.node(found) {
            Node::Memory(ino) => Some(ino),
            // Where nobody will ask for it again, there need not be an inode that has no name.
            Node::Host(node) if node.status.links == 1 || is_directory => {
                let is_open = self.memory(mount).is_open_lower(node.status.identity);
                if is_open { Some(self.replace(mount, &node)?) } else { None }
            }
            Node::Host(node) => Some(self.replace(mount, &node)?),
            Node::DescriptorLink(_) | Node::Descriptor(_) => return Err(Errno::EPERM),
        };
        let memory = self.memory_mut(mount);
        memory.remove_name(parent, name)?;
        let above = memory.get_mut(parent)?;
        move_link(&mut above.links, false, is_directory);
        above.note_names(context.now);
        if let Some(ino) = removed {
            let inode = memory.get_mut(ino)?;
            inode.links = if is_directory { 0 } else { inode.links.saturating_sub(1) };
            inode.changed = context.now;
            memory.remove_if_unused(ino);
        }
        Ok(())
    }

    fn check_empty(&self, directory: &Location) -> Result<(), Errno> {
        let is_empty = match self.node(directory) {
            Node::Memory(ino) => self.memory(directory.mount).directory(ino)?.is_empty(),
            Node::Host(node) => host::list(&open_host_unnoticed(&node)?, 0, &|| Ok(()))?.is_empty(),
            Node::DescriptorLink(_) | Node::Descriptor(_) => true,
        };
        if is_empty { Ok(()) } else { Err(Errno::ENOTEMPTY) }
    }

    /// Whether a name of this file may be removed from a directory.
    fn check_may_remove(&self, directory: &Location, found: &Location) -> Result<(), Errno> {
        if self.mount(directory.mount).kind.is_read_only() {
            return Err(Errno::EROFS);
        }
        let above = self.status(directory)?;
        above.check(WRITE | EXECUTE)?;
        let is_sticky = above.permissions & STICKY != 0;
        if is_sticky && above.user != USER_ID && self.status(found)?.user != USER_ID {
            return Err(Errno::EPERM);
        }
        Ok(())
    }

    fn check_not_mounted_on(&self, directory: &Location, found: &Location) -> Result<(), Errno> {
        if found.mount != directory.mount || self.is_mounted_on(found) { Err(Errno::EBUSY) } else { Ok(()) }
    }

    /// Whether a directory is another one, or is in it.
    fn is_within(&self, context: &Context<'_>, directory: &Location, other: &Location) -> Result<bool, Errno> {
        let mut at = directory.clone();
        loop {
            context.check_interrupted()?;
            if self.is_same(&at, other) {
                return Ok(true);
            }
            let above = self.above(&at)?;
            if above.mount != at.mount || self.is_same(&above, &at) {
                return Ok(false);
            }
            at = above;
        }
    }
}

/// A directory counts as a link of the one that it is in.
fn move_link(links: &mut u32, gains: bool, loses: bool) {
    *links = links.saturating_add(gains.into()).saturating_sub(loses.into());
}

/// Only its owner may remove a file (`S_ISVTX`).
const STICKY: u32 = 0o1000;
