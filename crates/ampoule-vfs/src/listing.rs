//! The names in a directory.

use crate::host::{self, HostEntry, HostNode};
use crate::memory::{Child, FIRST_COOKIE, Role};
use crate::mount::MountKind;
use crate::process::Context;
use crate::vfs::{Location, Node, Vfs};
use crate::{Errno, File, FileType};

/// A name in a directory, as `getdents64` lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectoryEntry<'a> {
    /// The name, which can be `.` or `..`.
    pub name: &'a [u8],
    /// The number of the file.
    pub inode: u64,
    /// What the file is.
    pub file_type: FileType,
    /// Where the listing goes on behind this name: the entry's `d_off`.
    pub next: u64,
}

impl Vfs {
    /// Lists a directory from a place on: 0, or the [`next`](DirectoryEntry::next) of an entry, until `emit` returns false.
    ///
    /// Names that exist all the while are listed exactly once, whatever is added and removed in between; on the host that is
    /// up to its file system.
    ///
    /// # Errors
    ///
    /// `EBADF` where it is open only as a place, `ENOTDIR`, `ENOENT` where it has been removed, and what the host says.
    pub fn read_directory(
        &self,
        context: &Context<'_>,
        file: &File,
        from: u64,
        emit: &mut dyn FnMut(DirectoryEntry<'_>) -> bool,
    ) -> Result<(), Errno> {
        if file.access.is_place {
            return Err(Errno::EBADF);
        }
        let location = &file.location;
        if matches!(location.node, Node::Descriptor(_)) || self.file_type(location)? != FileType::Directory {
            return Err(Errno::ENOTDIR);
        }
        match self.node(location) {
            Node::Memory(ino) => {
                let inode = self.memory(location.mount).get(ino)?;
                if inode.links == 0 {
                    return Err(Errno::ENOENT);
                }
                if self.emit_dots(location, from, emit)? {
                    self.list_memory(context, location, from, emit)?;
                }
                Ok(())
            }
            Node::Host(_) if self.mount(location.mount).kind == MountKind::Overlay => {
                let names = self.lower_names.of(context, location.mount, listable(file)?, from > FIRST_COOKIE)?;
                if self.emit_dots(location, from, emit)? {
                    list_lower(&names, from, emit);
                }
                Ok(())
            }
            Node::Host(_) => {
                // The host's number of what its root is in is nobody's business.
                let above = match self.is_mount_root(location) {
                    true => Some(self.number(&self.above(location)?)?),
                    false => None,
                };
                host::list_from(listable(file)?, from, &mut |HostEntry { name, inode, file_type, next }| {
                    let inode = above.filter(|_| name == b"..").unwrap_or(inode);
                    emit(DirectoryEntry { name: &name, inode, file_type, next })
                })
            }
            Node::DescriptorLink(_) | Node::Descriptor(_) => Err(Errno::ENOTDIR),
        }
    }

    /// Lists `.` and `..`, and returns whether more is wanted.
    fn emit_dots(
        &self,
        location: &Location,
        from: u64,
        emit: &mut dyn FnMut(DirectoryEntry<'_>) -> bool,
    ) -> Result<bool, Errno> {
        let file_type = FileType::Directory;
        if from == 0 && !emit(DirectoryEntry { name: b".", inode: self.number(location)?, file_type, next: 1 }) {
            return Ok(false);
        }
        if from <= 1 {
            // What a removed directory was in may be gone as well.
            let above = self.above(location).unwrap_or_else(|_| location.clone());
            let inode = self.number(&above)?;
            return Ok(emit(DirectoryEntry { name: b"..", inode, file_type, next: FIRST_COOKIE }));
        }
        Ok(true)
    }

    fn list_memory(
        &self,
        context: &Context<'_>,
        location: &Location,
        from: u64,
        emit: &mut dyn FnMut(DirectoryEntry<'_>) -> bool,
    ) -> Result<(), Errno> {
        let Node::Memory(ino) = self.node(location) else { return Err(Errno::ENOTDIR) };
        let memory = self.memory(location.mount);
        let directory = memory.directory(ino)?;
        for (cookie, name, child) in directory.names_from(from) {
            let (inode, file_type) = match child {
                Child::Own(ino) => (self.shown_inode(location.mount, ino), memory.get(ino)?.file_type()),
                Child::Lower { inode, file_type } => (inode, file_type),
            };
            if !emit(DirectoryEntry { name, inode, file_type, next: cookie + 1 }) {
                return Ok(());
            }
        }
        match directory.role {
            Role::Ordinary => {}
            Role::Processes(process) => {
                let id = context.process.id();
                if id != 0 && from <= PROCESS_COOKIE {
                    let (file_type, next) = (FileType::Directory, PROCESS_COOKIE + 1);
                    emit(DirectoryEntry { name: id.to_string().as_bytes(), inode: process, file_type, next });
                }
            }
            Role::Descriptors => {
                for number in context.process.descriptors() {
                    let cookie = FIRST_COOKIE + u64::from(number);
                    let (file_type, name) = (FileType::Symlink, number.to_string());
                    let entry = DirectoryEntry {
                        name: name.as_bytes(),
                        inode: DESCRIPTOR_INODES + u64::from(number),
                        file_type,
                        next: cookie + 1,
                    };
                    if cookie >= from && !emit(entry) {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// The number that a file is listed with.
    fn number(&self, location: &Location) -> Result<u64, Errno> {
        match self.node(location) {
            Node::Memory(ino) => Ok(self.shown_inode(location.mount, ino)),
            Node::Host(node) => Ok(node.status.identity.inode),
            Node::DescriptorLink(number) | Node::Descriptor(number) => Ok(DESCRIPTOR_INODES + u64::from(number)),
        }
    }
}

/// The host's directory that a file was opened for.
fn listable(file: &File) -> Result<&HostNode, Errno> {
    match &file.location.node {
        Node::Host(node) => Ok(node),
        _ => Err(Errno::ENOTDIR),
    }
}

fn list_lower(names: &[HostEntry], from: u64, emit: &mut dyn FnMut(DirectoryEntry<'_>) -> bool) {
    let first = from.max(FIRST_COOKIE);
    let skipped = usize::try_from(first - FIRST_COOKIE).unwrap_or(usize::MAX);
    for (entry, cookie) in names.iter().skip(skipped).zip(first..) {
        let HostEntry { name, inode, file_type, .. } = entry;
        if !emit(DirectoryEntry { name, inode: *inode, file_type: *file_type, next: cookie + 1 }) {
            return;
        }
    }
}

/// The place of the process in `/proc`, behind all other names.
const PROCESS_COOKIE: u64 = 1 << 32;

/// The number of the link to the first open file. The others follow.
pub(crate) const DESCRIPTOR_INODES: u64 = 1 << 32;
