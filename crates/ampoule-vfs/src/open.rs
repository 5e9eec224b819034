//! Opening and closing files.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use linux_raw_sys::general::{
    O_ACCMODE, O_CREAT, O_DIRECTORY, O_EXCL, O_NOFOLLOW, O_PATH, O_RDONLY, O_RDWR, O_TRUNC, O_WRONLY,
};
use rustix::fs::{AtFlags, CWD, Mode, OFlags};

use crate::host::{HostNode, join, open_beneath};
use crate::memory::{Body, Contents, Inode};
use crate::mount::MountKind;
use crate::process::Context;
use crate::vfs::{ANONYMOUS_MOUNT, EXECUTE, Location, Node, READ, Vfs, WRITE};
use crate::walk::{AtEnd, Last, Resolve};
use crate::{Errno, FileType};

/// An open file. It has no position: that is up to whoever shares it.
///
/// It refers to what it was opened in and that tree's clones. For each that was opened or [retained](Vfs::retain) there,
/// [`Vfs::close`] is called once; a clone of the value alone is not another open file.
#[derive(Clone, Debug)]
pub struct File {
    pub(crate) location: Location,
    pub(crate) access: Access,
    /// The host's file that still provides some of the contents of one in an overlay.
    pub(crate) lower: Option<Arc<HostNode>>,
    /// The directory and the name that it was found by.
    pub(crate) name: Option<Arc<(Location, Vec<u8>)>>,
}

/// What a file was opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Access {
    pub(crate) read: bool,
    pub(crate) write: bool,
    /// It stands only for the place (`O_PATH`).
    pub(crate) is_place: bool,
}

impl File {
    /// Where the file is, for as long as it is open, even when its name is gone.
    #[must_use]
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// Whether it was opened for reading.
    #[must_use]
    pub fn is_readable(&self) -> bool {
        self.access.read
    }

    /// Whether it was opened for writing.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.access.write
    }

    /// Whether it was opened only as a place (`O_PATH`).
    #[must_use]
    pub fn is_place(&self) -> bool {
        self.access.is_place
    }

    pub(crate) fn check_readable(&self) -> Result<(), Errno> {
        if self.access.read { Ok(()) } else { Err(Errno::EBADF) }
    }

    pub(crate) fn check_writable(&self) -> Result<(), Errno> {
        if self.access.write { Ok(()) } else { Err(Errno::EBADF) }
    }
}

impl Vfs {
    /// Opens what a path leads to, or creates a regular file there (`openat`).
    ///
    /// `flags` are those of Linux: the access mode, `O_CREAT`, `O_EXCL`, `O_TRUNC`, `O_DIRECTORY`, `O_NOFOLLOW`, `O_PATH`
    /// and `O_TMPFILE` mean something here, and others are up to the caller. `mode` has the permissions of a new file, to
    /// which the caller has applied the mask. What is opened can be something [special](Vfs::special).
    ///
    /// # Errors
    ///
    /// Those of `open(2)`: of [`resolve`](Self::resolve), and `EEXIST`, `EISDIR`, `ENOTDIR`, `ELOOP`, `EROFS`, `ENOSPC`,
    /// `EINVAL`; `ENXIO` for what is never opened (devices, pipes and sockets of the host); `ENFILE` where too many files
    /// are open.
    pub fn open(
        &mut self,
        context: &Context<'_>,
        base: &Location,
        path: &[u8],
        flags: u32,
        mode: u32,
    ) -> Result<File, Errno> {
        self.open_within(context, base, path, (flags, mode), Resolve::default())
    }

    /// The same for a path that may not lead everywhere (`openat2`).
    ///
    /// # Errors
    ///
    /// Those of [`open`](Self::open), and those of [`Resolve`].
    pub fn open_within(
        &mut self,
        context: &Context<'_>,
        base: &Location,
        path: &[u8],
        (flags, mode): (u32, u32),
        resolve: Resolve,
    ) -> Result<File, Errno> {
        let flags = if flags & O_PATH != 0 { flags & (O_PATH | O_DIRECTORY | O_NOFOLLOW) } else { flags };
        if flags & O_TMPFILE_ALONE != 0 {
            return self.open_unnamed(context, base, path, (flags, mode), resolve);
        }
        if flags & (O_CREAT | O_DIRECTORY) == O_CREAT | O_DIRECTORY {
            return Err(Errno::EINVAL);
        }
        let keeps_link = flags & O_NOFOLLOW != 0 || flags & (O_CREAT | O_EXCL) == O_CREAT | O_EXCL;
        let at_end = if keeps_link { AtEnd::KEEP } else { AtEnd::FOLLOW };
        let at_end = if flags & O_CREAT != 0 { at_end.creating() } else { at_end.alone() };
        let walked = self.walk_within(context, base, path, at_end, resolve)?;
        if flags & O_CREAT != 0 && flags & O_EXCL != 0 && walked.found.is_some() {
            return Err(Errno::EEXIST);
        }
        let name = match &walked.last {
            Last::Name(name) => Some(Arc::new((walked.directory.clone(), name.to_vec()))),
            _ => None,
        };
        let Some(found) = walked.found else {
            let Last::Name(last) = &walked.last else { return Err(Errno::ENOENT) };
            if flags & O_CREAT == 0 {
                return Err(Errno::ENOENT);
            }
            self.check_open_files()?;
            return match self.create_file(context, &walked.directory, last, flags, mode) {
                // Somebody on the host has been faster.
                Err(Errno::EEXIST) if flags & O_EXCL == 0 => {
                    let found = self.look_up(context, &walked.directory, last)?.ok_or(Errno::ENOENT)?;
                    self.open_found(context, found, name, flags)
                }
                Err(errno) => Err(errno),
                Ok(file) => Ok(File { name, ..file }),
            };
        };
        if walked.has_slash && self.file_type_or_pipe(&found)? != FileType::Directory {
            return Err(Errno::ENOTDIR);
        }
        self.open_found(context, found, name, flags)
    }

    /// Opens what was found before, such as what is open already, for other things. Of the flags, the access mode,
    /// `O_TRUNC`, `O_DIRECTORY` and `O_PATH` mean something.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Self::open).
    pub fn open_location(&mut self, context: &Context<'_>, location: &Location, flags: u32) -> Result<File, Errno> {
        self.open_found(context, location.clone(), None, flags)
    }

    /// Makes a file in memory without a name (`memfd_create`), open for reading and writing.
    ///
    /// # Errors
    ///
    /// `ENOSPC` where the quota of such files is used up, and `ENFILE` where too many files are open.
    pub fn open_anonymous(&mut self, context: &Context<'_>, mode: u32) -> Result<File, Errno> {
        self.check_open_files()?;
        let inode = Inode::new(Body::Regular(Contents::default()), mode & 0o7777, context.now);
        let ino = self.memory_mut(ANONYMOUS_MOUNT).add(inode)?;
        let location = Location { mount: ANONYMOUS_MOUNT, node: Node::Memory(ino) };
        Ok(self.opened(location, Access { read: true, write: true, is_place: false }, None))
    }

    /// Notes that a file is open once more, for example because it is mapped.
    ///
    /// # Errors
    ///
    /// `ENFILE` where too many files are open.
    pub fn retain(&mut self, file: &File) -> Result<File, Errno> {
        self.check_open_files()?;
        self.count_open(&file.location);
        Ok(file.clone())
    }

    /// Closes a file. What has no name and is not open otherwise is gone then.
    pub fn close(&mut self, file: File) {
        self.open_files = self.open_files.saturating_sub(1);
        let mount = file.location.mount;
        match &file.location.node {
            Node::Memory(ino) => self.memory_mut(mount).close(*ino),
            Node::Host(node) if self.mount(mount).kind == MountKind::Overlay => {
                self.memory_mut(mount).close_lower(node.status.identity);
            }
            Node::Host(_) | Node::DescriptorLink(_) | Node::Descriptor(_) => {}
        }
    }

    fn open_found(
        &mut self,
        context: &Context<'_>,
        found: Location,
        name: Option<Arc<(Location, Vec<u8>)>>,
        flags: u32,
    ) -> Result<File, Errno> {
        self.check_open_files()?;
        let file_type = self.file_type_or_pipe(&found)?;
        if flags & O_DIRECTORY != 0 && file_type != FileType::Directory {
            return Err(Errno::ENOTDIR);
        }
        if flags & O_PATH != 0 {
            let access = Access { read: false, write: false, is_place: true };
            return Ok(File { name, ..self.opened(found, access, None) });
        }
        let access = Access::of_flags(flags);
        match file_type {
            FileType::Symlink => return Err(Errno::ELOOP),
            FileType::Directory if access.write || flags & (O_CREAT | O_TRUNC) != 0 => return Err(Errno::EISDIR),
            _ => {}
        }
        let is_special = self.special(&found).is_some();
        if !matches!(found.node, Node::Descriptor(_)) {
            let status = self.status(&found)?;
            let mut wanted = 0;
            wanted |= if access.read { READ } else { 0 };
            wanted |= if access.write || flags & O_TRUNC != 0 { WRITE } else { 0 };
            if wanted & WRITE != 0 && !is_special && self.mount(found.mount).kind.is_read_only() {
                return Err(Errno::EROFS);
            }
            status.check(wanted)?;
        }
        if is_special {
            return Ok(File { name, ..self.opened(found, access, None) });
        }
        let (location, lower) = match self.node(&found) {
            Node::Host(node) => {
                let node = match self.mount(found.mount).kind {
                    MountKind::HostReadWrite => open_host(&node, access)?,
                    _ => open_host_unnoticed(&node)?,
                };
                (Location { mount: found.mount, node: Node::Host(Arc::new(node)) }, None)
            }
            _ => {
                let lower = self.open_lower_contents(&found)?;
                (found, lower)
            }
        };
        let file = File { name, ..self.opened(location, access, lower) };
        if flags & O_TRUNC != 0
            && file_type == FileType::Regular
            && let Err(errno) = self.truncate_opened(context, &file)
        {
            self.close(file);
            return Err(errno);
        }
        Ok(file)
    }

    /// The host's file that provides some of the contents of one in memory.
    pub(crate) fn open_lower_contents(&self, location: &Location) -> Result<Option<Arc<HostNode>>, Errno> {
        let Node::Memory(ino) = self.node(location) else { return Ok(None) };
        let inode = self.memory(location.mount).get(ino)?;
        let (Body::Regular(contents), Some(lower)) = (&inode.body, &inode.lower) else { return Ok(None) };
        if !contents.needs_lower() {
            return Ok(None);
        }
        let root = self.host_root(location.mount)?;
        let node = HostNode::find(root, b"", &lower.trail)?;
        if node.status.identity != lower.identity {
            return Err(Errno::ESTALE);
        }
        Ok(Some(Arc::new(open_host_unnoticed(&node)?)))
    }

    /// Creates a regular file, and opens it.
    fn create_file(
        &mut self,
        context: &Context<'_>,
        directory: &Location,
        name: &[u8],
        flags: u32,
        mode: u32,
    ) -> Result<File, Errno> {
        let access = Access::of_flags(flags);
        self.check_may_create(directory)?;
        if self.mount(directory.mount).kind == MountKind::HostReadWrite {
            let Node::Host(above) = self.node(directory) else { return Err(Errno::EIO) };
            let flags = OFlags::CREATE | OFlags::EXCL | access.host_flags();
            let fd = open_beneath(above.fd.as_fd(), name, flags, host_mode(mode))?;
            rustix::fs::fchmod(&fd, host_mode(mode))?;
            let node = Node::Host(Arc::new(HostNode::hold(fd, join(&above.trail, name))?));
            return Ok(self.opened(Location { mount: directory.mount, node }, access, None));
        }
        let inode = Inode { links: 1, ..Inode::new(Body::Regular(Contents::default()), mode & 0o7777, context.now) };
        let location = self.add_to_directory(context, directory, name, inode)?;
        Ok(self.opened(location, access, None))
    }

    /// Creates a file without a name in a directory (`O_TMPFILE`).
    fn open_unnamed(
        &mut self,
        context: &Context<'_>,
        base: &Location,
        path: &[u8],
        (flags, mode): (u32, u32),
        resolve: Resolve,
    ) -> Result<File, Errno> {
        let access = Access::of_flags(flags);
        if flags & O_DIRECTORY == 0 || !access.write {
            return Err(Errno::EINVAL);
        }
        self.check_open_files()?;
        let at_end = if flags & O_NOFOLLOW == 0 { AtEnd::FOLLOW } else { AtEnd::KEEP };
        let directory = self.walk_within(context, base, path, at_end, resolve)?.found.ok_or(Errno::ENOENT)?;
        if self.file_type(&directory)? != FileType::Directory {
            return Err(Errno::ENOTDIR);
        }
        self.check_may_create(&directory)?;
        if self.mount(directory.mount).kind == MountKind::HostReadWrite {
            let Node::Host(above) = self.node(&directory) else { return Err(Errno::EIO) };
            let exclusive = if flags & O_EXCL != 0 { OFlags::EXCL } else { OFlags::empty() };
            let flags = OFlags::TMPFILE | exclusive | access.host_flags();
            let fd = open_beneath(above.fd.as_fd(), b".", flags, host_mode(mode))?;
            rustix::fs::fchmod(&fd, host_mode(mode))?;
            let node = Node::Host(Arc::new(HostNode::hold(fd, join(&above.trail, b"(unnamed)"))?));
            return Ok(self.opened(Location { mount: directory.mount, node }, access, None));
        }
        let is_linkable = flags & O_EXCL == 0;
        let inode = Inode { is_linkable, ..Inode::new(Body::Regular(Contents::default()), mode & 0o7777, context.now) };
        let ino = self.memory_mut(directory.mount).add(inode)?;
        let location = Location { mount: directory.mount, node: Node::Memory(ino) };
        Ok(self.opened(location, access, None))
    }

    pub(crate) fn opened(&mut self, location: Location, access: Access, lower: Option<Arc<HostNode>>) -> File {
        self.count_open(&location);
        File { location, access, lower, name: None }
    }

    fn count_open(&mut self, location: &Location) {
        self.open_files += 1;
        match &location.node {
            Node::Memory(ino) => self.memory_mut(location.mount).open(*ino),
            Node::Host(node) if self.mount(location.mount).kind == MountKind::Overlay => {
                self.memory_mut(location.mount).open_lower(node.status.identity);
            }
            Node::Host(_) | Node::DescriptorLink(_) | Node::Descriptor(_) => {}
        }
    }

    pub(crate) fn check_open_files(&self) -> Result<(), Errno> {
        if self.open_files < self.open_files_max { Ok(()) } else { Err(Errno::ENFILE) }
    }

    /// The type of something that can be opened; what is open under a number and in no file system counts as a pipe.
    fn file_type_or_pipe(&self, location: &Location) -> Result<FileType, Errno> {
        match location.node {
            Node::Descriptor(_) => Ok(FileType::Fifo),
            _ => self.file_type(location),
        }
    }

    /// Whether something new may be in a directory.
    pub(crate) fn check_may_create(&self, directory: &Location) -> Result<(), Errno> {
        if self.mount(directory.mount).kind.is_read_only() {
            return Err(Errno::EROFS);
        }
        if let Node::Memory(ino) = self.node(directory)
            && self.memory(directory.mount).get(ino)?.links == 0
        {
            return Err(Errno::ENOENT);
        }
        self.status(directory)?.check(WRITE | EXECUTE)
    }
}

impl Access {
    fn of_flags(flags: u32) -> Self {
        let mode = flags & O_ACCMODE;
        Self { read: matches!(mode, O_RDONLY | O_RDWR), write: matches!(mode, O_WRONLY | O_RDWR), is_place: false }
    }

    fn host_flags(self) -> OFlags {
        match (self.read, self.write) {
            (true, true) => OFlags::RDWR,
            (false, true) => OFlags::WRONLY,
            _ => OFlags::RDONLY,
        }
    }
}

/// Opens a file of the host, or a directory to list it.
fn open_host(node: &HostNode, access: Access) -> Result<HostNode, Errno> {
    match node.status.file_type {
        FileType::Directory => node.open(OFlags::RDONLY | OFlags::DIRECTORY),
        _ => node.open(access.host_flags()),
    }
}

/// Opens what is only read, which then shows in no time of the host's file, if that can be.
pub(crate) fn open_host_unnoticed(node: &HostNode) -> Result<HostNode, Errno> {
    match node.status.file_type {
        FileType::Directory => node.open(OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOATIME),
        _ => node.open(OFlags::RDONLY | OFlags::NOATIME),
    }
}

/// Gives what was made on the host its permissions, by its name, which somebody else may have changed meanwhile.
pub(crate) fn set_mode_of_new(directory: BorrowedFd<'_>, name: &[u8], mode: u32) -> Result<(), Errno> {
    let made = HostNode::find(directory, b"", name)?;
    Ok(rustix::fs::chmodat(CWD, made.own_path(), host_mode(mode), AtFlags::empty())?)
}

/// The permissions that something new on the host gets: never those to become another user. They are set once it is there,
/// since the mask of the host's process is not the guest's.
pub(crate) fn host_mode(mode: u32) -> Mode {
    Mode::from_raw_mode(mode & 0o1777)
}

/// `O_TMPFILE` without `O_DIRECTORY`, which it contains.
const O_TMPFILE_ALONE: u32 = linux_raw_sys::general::O_TMPFILE & !O_DIRECTORY;
