//! What a tree is made of, and what is wrong with that.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{CWD, Mode, OFlags};
use thiserror::Error;

use crate::host::{HostNode, open_beneath, own_path};
use crate::lower_names::LowerNames;
use crate::memory::{Above, Body, Child, Directory, Ino, Inode, Memory, ROOT, Role};
use crate::mount::{Attachment, HostMount, Mount, MountId, MountKind};
use crate::special::{BuiltIn, DEVICES, PROCESSES};
use crate::vfs::{Location, Node, Vfs};
use crate::{Context, Errno, FileType, NAME_MAX, NoProcess, PATH_MAX, Timestamp};

/// How much a file system in memory may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Bytes of contents, in units of a page. A page of its own at the end of nowhere takes the host up to twice as much.
    pub bytes: u64,
    /// Files and directories, and as many names. Each takes the host less than a kilobyte. Where a directory of an overlay
    /// is changed, the names that it has on the host count.
    pub inodes: u64,
}

/// Puts a [`Vfs`] together: what is at `/`, and what is mounted in it.
///
/// Without a mount at `/` it is memory with the [default](Quota::default) quota. The place of a mount is made where it is in
/// memory, and has to exist in a host directory.
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder {
    grants: Vec<(Vec<u8>, Grant)>,
    links: Vec<(Vec<u8>, Vec<u8>)>,
    has_devices: bool,
    has_processes: bool,
    anonymous: Quota,
    open_files: u32,
}

#[derive(Clone, Debug)]
enum Grant {
    Memory(Quota),
    HostReadOnly(PathBuf),
    HostReadWrite(PathBuf),
    Overlay(PathBuf, Quota),
    HostFile(PathBuf),
    BuiltIn(MountKind, &'static [(&'static str, BuiltIn)]),
}

/// Why a [`Vfs`] cannot be built.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A mount's place is not an absolute path without `.` and `..`.
    #[error("the place of a mount is an absolute path without `.` and `..`, and `{}` is none", place.display())]
    InvalidPlace {
        /// The place in the sandbox.
        place: PathBuf,
    },
    /// Two mounts have one place.
    #[error("two mounts are at `{}`: leave one of them out", place.display())]
    SamePlace {
        /// The place in the sandbox.
        place: PathBuf,
    },
    /// What is granted does not exist.
    #[error("`{}`, which is granted at `{}`, does not exist", host.display(), place.display())]
    Missing {
        /// What is granted.
        host: PathBuf,
        /// The place in the sandbox.
        place: PathBuf,
    },
    /// A directory is needed, and something else is granted.
    #[error("`{}`, which is granted at `{}`, is not a directory: a file is granted by `host_file`", host.display(), place.display())]
    NotADirectory {
        /// What is granted.
        host: PathBuf,
        /// The place in the sandbox.
        place: PathBuf,
    },
    /// A regular file is needed, and something else is granted.
    #[error("`{}`, which is granted at `{}`, is not a regular file: directories have grants of their own", host.display(), place.display())]
    NotAFile {
        /// What is granted.
        host: PathBuf,
        /// The place in the sandbox.
        place: PathBuf,
    },
    /// What is granted cannot be opened.
    #[error("cannot open `{}`, which is granted at `{}`: {reason}", host.display(), place.display())]
    Open {
        /// What is granted.
        host: PathBuf,
        /// The place in the sandbox.
        place: PathBuf,
        /// What the operating system says.
        reason: io::Error,
    },
    /// The kernel has no `openat2`, or forbids it.
    #[error("host directories need the system call openat2, which Linux has since 5.6: {reason}")]
    NoOpenat2 {
        /// What the operating system says.
        reason: io::Error,
    },
    /// The host has no `/proc`.
    #[error("host directories need /proc of the host, to open what is held: {reason}")]
    NoProc {
        /// What the operating system says.
        reason: io::Error,
    },
    /// The place of a mount does not exist, and cannot be made.
    #[error("nothing can be mounted at `{}`: `{}` does not exist in the host directory there", place.display(), missing.display())]
    NoPlace {
        /// The place in the sandbox.
        place: PathBuf,
        /// The part of it that is missing.
        missing: PathBuf,
    },
    /// Something else than a directory, or for a file than a file, is at the place of a mount or on the way to it.
    #[error("nothing can be mounted at `{}`: `{}` is of the wrong type ({found:?})", place.display(), at.display())]
    WrongPlace {
        /// The place in the sandbox.
        place: PathBuf,
        /// The part of it that has the wrong type.
        at: PathBuf,
        /// What it is.
        found: FileType,
    },
    /// The place of a mount cannot be looked at.
    #[error("cannot look at `{}`, where something is to be mounted: {reason}", place.display())]
    Look {
        /// The place in the sandbox.
        place: PathBuf,
        /// What Linux says.
        reason: Errno,
    },
}

impl Default for Quota {
    /// 64 MiB in 65,536 files.
    fn default() -> Self {
        Self { bytes: 64 << 20, inodes: 1 << 16 }
    }
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

impl Builder {
    /// A tree with `/dev` and `/proc` in it and nothing else.
    pub fn new() -> Self {
        Self {
            grants: Vec::new(),
            links: Vec::new(),
            has_devices: true,
            has_processes: true,
            anonymous: Quota::default(),
            open_files: OPEN_FILES,
        }
    }

    /// Mounts memory, which begins empty.
    pub fn memory(self, place: impl AsRef<Path>, quota: Quota) -> Self {
        self.with(place, Grant::Memory(quota))
    }

    /// Mounts a host directory that cannot be changed.
    pub fn host_read_only(self, place: impl AsRef<Path>, host: impl Into<PathBuf>) -> Self {
        self.with(place, Grant::HostReadOnly(host.into()))
    }

    /// Mounts a host directory. What is written is written to the host, under the user that the host process runs as.
    ///
    /// What is in it then has been written by somebody untrusted. In particular, symbolic links may lead anywhere for who
    /// follows them on the host. Set-user-ID and set-group-ID bits, devices, pipes and sockets cannot be made.
    pub fn host_read_write(self, place: impl AsRef<Path>, host: impl Into<PathBuf>) -> Self {
        self.with(place, Grant::HostReadWrite(host.into()))
    }

    /// Mounts a host directory under memory, which takes what is written.
    ///
    /// The host directory is not to change meanwhile. If it does, nobody is harmed, but the program may find old and new
    /// side by side.
    pub fn overlay(self, place: impl AsRef<Path>, host: impl Into<PathBuf>, quota: Quota) -> Self {
        self.with(place, Grant::Overlay(host.into(), quota))
    }

    /// Mounts a single file of the host, which cannot be changed. A symbolic link stands for the file that it leads to now.
    pub fn host_file(self, place: impl AsRef<Path>, host: impl Into<PathBuf>) -> Self {
        self.with(place, Grant::HostFile(host.into()))
    }

    /// Makes a symbolic link in memory, of root's, and the directories that lead there. What is at that place already stays,
    /// and in a host directory that is not under memory none is made.
    pub fn symlink(mut self, place: impl AsRef<Path>, target: impl AsRef<Path>) -> Self {
        let bytes = |path: &Path| path.as_os_str().as_bytes().to_vec();
        self.links.push((bytes(place.as_ref()), bytes(target.as_ref())));
        self
    }

    /// Leaves out `/dev`.
    pub fn without_devices(mut self) -> Self {
        self.has_devices = false;
        self
    }

    /// Leaves out `/proc`.
    pub fn without_processes(mut self) -> Self {
        self.has_processes = false;
        self
    }

    /// Bounds what is in files without a name (`memfd_create`). The default is that of [`Quota`].
    pub fn anonymous_quota(mut self, quota: Quota) -> Self {
        self.anonymous = quota;
        self
    }

    /// Bounds how many files are open at once, and with it the descriptors that they take of the host: one for each file of
    /// the host. The default is 4,096.
    pub fn open_files(mut self, most: u32) -> Self {
        self.open_files = most;
        self
    }

    /// Builds the tree.
    ///
    /// # Errors
    ///
    /// See [`BuildError`].
    pub fn build(self) -> Result<Vfs, BuildError> {
        let mut grants = BTreeMap::new();
        if self.has_devices {
            grants.insert(place(b"/dev")?, Grant::BuiltIn(MountKind::Devices, DEVICES));
        }
        if self.has_processes {
            grants.insert(place(b"/proc")?, Grant::BuiltIn(MountKind::Processes, PROCESSES));
        }
        for (path, grant) in self.grants {
            if grants.insert(place(&path)?, grant).is_some() {
                return Err(BuildError::SamePlace { place: shown(&path) });
            }
        }
        let root = grants.remove(&Vec::new()).unwrap_or(Grant::Memory(Quota::default()));
        let mut vfs = Vfs {
            mounts: Arc::default(),
            memories: Vec::new(),
            lower_names: LowerNames::default(),
            open_files: 0,
            open_files_max: self.open_files,
        };
        let mut quotas = Vec::new();
        quotas.push(root.mount(&mut vfs, b"/", None)?);
        quotas.push(Grant::Memory(self.anonymous).mount(&mut vfs, b"", None)?);
        vfs.mount_mut(MountId(1)).kind = MountKind::Anonymous;
        for (names, grant) in grants {
            let path: Vec<u8> = names.iter().flat_map(|name| [b"/", &name[..]].concat()).collect();
            let (above, on) = vfs.make_place(&path, &names, grant.is_file())?;
            let id = MountId(vfs.mounts.len());
            quotas.push(grant.mount(&mut vfs, &path, Some(above))?);
            let attachment = match on.node {
                Node::Host(node) => Attachment::Host(node.trail.clone()),
                Node::Memory(ino) => Attachment::Memory(ino),
                Node::DescriptorLink(_) | Node::Descriptor(_) => continue,
            };
            vfs.mount_mut(on.mount).attached.insert(attachment, id);
        }
        for (path, target) in self.links {
            let look = |reason| BuildError::Look { place: shown(&path), reason };
            vfs.make_link(&place(&path)?, &target).map_err(look)?;
        }
        for (memory, quota) in vfs.memories.iter_mut().zip(quotas) {
            memory.set_quota(quota);
        }
        Ok(vfs)
    }

    fn with(mut self, place: impl AsRef<Path>, grant: Grant) -> Self {
        self.grants.push((place.as_ref().as_os_str().as_bytes().to_vec(), grant));
        self
    }
}

impl Grant {
    fn is_file(&self) -> bool {
        matches!(self, Self::HostFile(_))
    }

    /// Adds the file system to the list, and returns the quota that it gets when all is built.
    fn mount(self, vfs: &mut Vfs, path: &[u8], above: Option<Location>) -> Result<Quota, BuildError> {
        let id = MountId(vfs.mounts.len());
        let mut memory = Memory::new();
        let mut quota = Quota { bytes: 0, inodes: 0 };
        let add = |error| BuildError::Look { place: shown(path), reason: error };
        let mut host = None;
        let mut root = Node::Memory(ROOT);
        let kind = match &self {
            Self::Memory(_) => MountKind::Memory,
            Self::HostReadOnly(_) | Self::HostFile(_) => MountKind::HostReadOnly,
            Self::HostReadWrite(_) => MountKind::HostReadWrite,
            Self::Overlay(..) => MountKind::Overlay,
            Self::BuiltIn(kind, _) => *kind,
        };
        match self {
            Self::Memory(bounds) => {
                let mut directory = Inode::new(directory(Above::Nothing), 0o755, Timestamp::default());
                if path != b"/" {
                    (directory.permissions, directory.user, directory.group) = (0o1777, 0, 0);
                }
                directory.links = 2;
                memory.add(directory).map_err(add)?;
                quota = bounds;
            }
            Self::BuiltIn(_, content) => {
                add_built_in(&mut memory, None, content).map_err(add)?;
            }
            Self::HostReadOnly(directory) | Self::HostReadWrite(directory) => {
                let granted = open_directory(&directory, path)?;
                root = Node::Host(Arc::new(find(&granted, b".", &directory, path)?));
                host = Some(granted);
            }
            Self::Overlay(directory, bounds) => {
                let granted = open_directory(&directory, path)?;
                root = Node::Host(Arc::new(find(&granted, b".", &directory, path)?));
                host = Some(granted);
                quota = bounds;
            }
            Self::HostFile(file) => {
                let (granted, node) = open_file(&file, path)?;
                root = Node::Host(Arc::new(node));
                host = Some(granted);
            }
        }
        let host = host.map(|fd| {
            let device = match &root {
                Node::Host(node) => node.status.identity.device,
                _ => 0,
            };
            HostMount { fd, device }
        });
        let mount = Mount { kind, path: path.to_vec(), host, root: root.clone(), above, attached: BTreeMap::new() };
        vfs.mounts_mut().push(mount);
        vfs.memories.push(memory);
        if kind == MountKind::Overlay
            && let Node::Host(node) = root
        {
            let ino = vfs.replace(id, &node).map_err(add)?;
            vfs.mount_mut(id).root = Node::Memory(ino);
        }
        Ok(quota)
    }
}

impl Vfs {
    /// The directory that something is mounted in, and what it is mounted on. In memory, both are made.
    fn make_place(
        &mut self,
        path: &[u8],
        names: &[Vec<u8>],
        is_file: bool,
    ) -> Result<(Location, Location), BuildError> {
        let look = |reason| BuildError::Look { place: shown(path), reason };
        let context = Context { now: Timestamp::default(), process: &NoProcess };
        let mut above = self.root();
        let mut at = Vec::new();
        for (index, name) in names.iter().enumerate() {
            at.extend_from_slice(b"/");
            at.extend_from_slice(name);
            let is_last = index + 1 == names.len();
            let wanted = if is_last && is_file { FileType::Regular } else { FileType::Directory };
            let found = match self.look_up(&context, &above, name).map_err(look)? {
                Some(found) => found,
                None if self.mount(above.mount).host.is_none()
                    || self.mount(above.mount).kind == MountKind::Overlay =>
                {
                    self.make_for_mount(&above, name, wanted).map_err(look)?
                }
                None => return Err(BuildError::NoPlace { place: shown(path), missing: shown(&at) }),
            };
            let file_type = self.file_type(&found).map_err(look)?;
            if file_type != wanted {
                return Err(BuildError::WrongPlace { place: shown(path), at: shown(&at), found: file_type });
            }
            let found = match self.node(&found) {
                Node::Host(node) if self.mount(found.mount).kind == MountKind::Overlay => {
                    let ino = self.replace(found.mount, &node).map_err(look)?;
                    Location { mount: found.mount, node: Node::Memory(ino) }
                }
                _ => found,
            };
            if is_last {
                return Ok((above, found));
            }
            above = found;
        }
        Err(BuildError::InvalidPlace { place: shown(path) })
    }

    /// Makes a symbolic link where nothing is, as far as that place is in memory.
    fn make_link(&mut self, names: &[Vec<u8>], target: &[u8]) -> Result<(), Errno> {
        let context = Context { now: Timestamp::default(), process: &NoProcess };
        let Some((last, directories)) = names.split_last() else { return Ok(()) };
        let mut above = self.root();
        for name in directories {
            above = match self.look_up(&context, &above, name)? {
                Some(found) if self.file_type(&found)? == FileType::Directory => found,
                Some(_) => return Ok(()),
                None if self.is_changed_in_memory(&above) => self.make_for_mount(&above, name, FileType::Directory)?,
                None => return Ok(()),
            };
        }
        if self.look_up(&context, &above, last)?.is_none() && self.is_changed_in_memory(&above) {
            self.add_to_directory(&context, &above, last, of_root(Body::Symlink(target.into()), 0o777, 1))?;
        }
        Ok(())
    }

    fn is_changed_in_memory(&self, location: &Location) -> bool {
        matches!(self.mount(location.mount).kind, MountKind::Memory | MountKind::Overlay)
    }

    /// Makes a directory, or a file, of root's.
    fn make_for_mount(&mut self, above: &Location, name: &[u8], file_type: FileType) -> Result<Location, Errno> {
        let parent = self.inode_to_change(above)?;
        let mount = above.mount;
        let memory = self.memory_mut(mount);
        let (body, permissions, links) = match file_type {
            FileType::Directory => {
                memory.get_mut(parent)?.links += 1;
                (directory(Above::Own { parent, name: name.into() }), 0o755, 2)
            }
            _ => (Body::Regular(Default::default()), 0o444, 1),
        };
        let inode = Inode { user: 0, group: 0, links, ..Inode::new(body, permissions, Timestamp::default()) };
        let ino = memory.add(inode)?;
        memory.set_name(parent, name, Child::Own(ino))?;
        Ok(Location { mount, node: Node::Memory(ino) })
    }

    fn mounts_mut(&mut self) -> &mut Vec<Mount> {
        Arc::get_mut(&mut self.mounts).expect("nobody else has a tree that is being built")
    }

    fn mount_mut(&mut self, id: MountId) -> &mut Mount {
        &mut self.mounts_mut()[id.0]
    }
}

pub(crate) fn directory(above: Above) -> Body {
    Body::Directory(Directory::new(above, Role::Ordinary))
}

/// Adds a directory of root's with its content.
fn add_built_in(memory: &mut Memory, place: Option<(Ino, &str)>, content: &[(&str, BuiltIn)]) -> Result<Ino, Errno> {
    let above = match place {
        Some((parent, name)) => Above::Own { parent, name: name.as_bytes().into() },
        None => Above::Nothing,
    };
    let own = memory.add(of_root(directory(above), 0o755, 2))?;
    for (name, entry) in content {
        let child = match entry {
            BuiltIn::Directory(content) => add_built_in(memory, Some((own, name)), content)?,
            BuiltIn::Process(content) => {
                let process = add_built_in(memory, Some((own, name)), content)?;
                memory.get_mut(process)?.permissions = 0o555;
                memory.directory_mut(own)?.role = Role::Processes(process);
                continue;
            }
            BuiltIn::Descriptors => {
                let above = Above::Own { parent: own, name: name.as_bytes().into() };
                memory.add(of_root(Body::Directory(Directory::new(above, Role::Descriptors)), 0o555, 2))?
            }
            BuiltIn::Symlink(target) => memory.add(of_root(Body::Symlink(target.as_bytes().into()), 0o777, 1))?,
            BuiltIn::Link(link) => memory.add(of_root(Body::Link(*link), 0o777, 1))?,
            BuiltIn::File(special) => memory.add(of_root(Body::Special(*special), special.permissions(), 1))?,
        };
        memory.set_name(own, name.as_bytes(), Child::Own(child))?;
    }
    Ok(own)
}

pub(crate) fn of_root(body: Body, permissions: u32, links: u32) -> Inode {
    Inode { user: 0, group: 0, links, ..Inode::new(body, permissions, Timestamp::default()) }
}

fn open_directory(host: &Path, at: &[u8]) -> Result<OwnedFd, BuildError> {
    rustix::fs::open(host, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| cannot_open(errno, host, at))
}

/// The directory of a file, and the file in it.
fn open_file(host: &Path, at: &[u8]) -> Result<(OwnedFd, HostNode), BuildError> {
    let failed = |reason: io::Error| match reason.kind() {
        io::ErrorKind::NotFound => BuildError::Missing { host: host.into(), place: shown(at) },
        _ => BuildError::Open { host: host.into(), place: shown(at), reason },
    };
    let file = host.canonicalize().map_err(failed)?;
    let (Some(directory), Some(name)) = (file.parent(), file.file_name()) else {
        return Err(BuildError::NotAFile { host: host.into(), place: shown(at) });
    };
    let directory = open_directory(directory, at)?;
    let node = find(&directory, name.as_bytes(), host, at)?;
    match node.status.file_type {
        FileType::Regular => Ok((directory, node)),
        _ => Err(BuildError::NotAFile { host: host.into(), place: shown(at) }),
    }
}

fn find(directory: &OwnedFd, path: &[u8], host: &Path, at: &[u8]) -> Result<HostNode, BuildError> {
    if let Err(errno) = rustix::fs::readlinkat(CWD, own_path(directory.as_fd()), Vec::new()) {
        return Err(BuildError::NoProc { reason: errno.into() });
    }
    HostNode::find(directory.as_fd(), b"", path).map_err(|errno| {
        let reason = io::Error::from_raw_os_error(errno.raw().into());
        // It is the first thing here that needs the call.
        match open_beneath(CWD, b".", OFlags::PATH, Mode::empty()) {
            Ok(_) => BuildError::Open { host: host.into(), place: shown(at), reason },
            Err(_) => BuildError::NoOpenat2 { reason },
        }
    })
}

fn cannot_open(errno: rustix::io::Errno, host: &Path, at: &[u8]) -> BuildError {
    let (host, place) = (host.to_path_buf(), shown(at));
    match errno {
        rustix::io::Errno::NOENT => BuildError::Missing { host, place },
        rustix::io::Errno::NOTDIR if host.exists() => BuildError::NotADirectory { host, place },
        rustix::io::Errno::NOTDIR => BuildError::Missing { host, place },
        errno => BuildError::Open { host, place, reason: errno.into() },
    }
}

/// The names in a mount's place.
fn place(path: &[u8]) -> Result<Vec<Vec<u8>>, BuildError> {
    let invalid = || BuildError::InvalidPlace { place: shown(path) };
    let names = path.strip_prefix(b"/").ok_or_else(invalid)?;
    let names: Vec<Vec<u8>> =
        names.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect();
    let is_bad = |name: &Vec<u8>| *name == b"." || *name == b".." || name.len() > NAME_MAX || name.contains(&0);
    if path.len() > PATH_MAX || names.iter().any(is_bad) {
        return Err(invalid());
    }
    Ok(names)
}

fn shown(path: &[u8]) -> PathBuf {
    OsStr::from_bytes(path).into()
}

/// As many as Linux allows a process to ask for by default (`INR_OPEN_MAX` of `include/uapi/linux/fs.h`).
const OPEN_FILES: u32 = 4096;
