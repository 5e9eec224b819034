//! The process's view of the virtual file system: where it is in it, and what it asks of it in whose name.

use ampoule_vfs::{
    Context, Descriptor, Device, File, FileType, Follow, Location, Metadata, ProcessView, Resolve, Special, Timestamp,
    Vfs,
};
use ampoule_vmm::GuestVirt;
use linux_raw_sys::general::{
    __O_TMPFILE, AT_EMPTY_PATH, AT_FDCWD, O_ACCMODE, O_CLOEXEC, O_CREAT, O_DIRECTORY, O_EXCL, O_LARGEFILE, O_NOCTTY,
    O_NOFOLLOW, O_PATH, O_RDWR, O_TRUNC, O_WRONLY, PATH_MAX,
};

use crate::address_space::AddressSpace;

use super::clocks::Clocks;
use super::descriptors::{Descriptors, Object, OpenFile};
use super::errno::Errno;
use super::host::HostClock;
use super::process::ProcessId;
use super::{State, TerminalStreams, int, stat};

/// What `/proc/self` shows.
struct View<'a> {
    id: ProcessId,
    descriptors: &'a Descriptors,
    executable: Option<&'a File>,
    directory: &'a File,
    space: &'a AddressSpace,
}

/// What a system call is about.
#[derive(Clone, Debug)]
pub(super) enum Target {
    /// A place in the file system.
    Location(Location),
    /// What is open under this number, and in no file system.
    Open(u64),
}

impl State {
    /// Does something in the file system, in the name of the process and at its present.
    pub(super) fn with_files<R>(
        &mut self,
        clocks: &mut Clocks,
        space: &AddressSpace,
        action: impl FnOnce(&mut Vfs, &Context<'_>) -> Result<R, ampoule_vfs::Errno>,
    ) -> Result<R, Errno> {
        let view = View {
            id: self.id,
            descriptors: &self.descriptors,
            executable: self.executable.as_ref(),
            directory: &self.directory,
            space,
        };
        let now = clocks.now(HostClock::Realtime);
        let now = Timestamp { seconds: now.as_secs() as i64, nanoseconds: now.subsec_nanos() };
        Ok(action(&mut self.vfs, &Context { now, process: &view })?)
    }

    /// Closes in the file system what the descriptors no longer need.
    pub(super) fn close_files(&mut self) {
        let closed = self.descriptors.take_closed();
        if closed.is_empty() {
            return;
        }
        closed.into_iter().for_each(|file| self.vfs.close(file));
        self.forget_seals();
    }

    /// Where a path starts that is looked up from a descriptor.
    pub(super) fn base(&self, number: u64, path: &[u8]) -> Result<Location, Errno> {
        match path.first() {
            None => Err(Errno::ENOENT),
            Some(b'/') => Ok(self.vfs.root()),
            _ if int(number) == AT_FDCWD => Ok(self.directory.location().clone()),
            _ => Ok(self.descriptors.named(number)?.ok_or(Errno::ENOTDIR)?.location().clone()),
        }
    }

    /// What the path at an address leads to, or the descriptor itself where the path is empty and the flags allow that.
    pub(super) fn target(
        &mut self,
        clocks: &mut Clocks,
        space: &AddressSpace,
        [number, path]: [u64; 2],
        flags: u32,
        follow: Follow,
    ) -> Result<Target, Errno> {
        if flags & AT_EMPTY_PATH != 0 && (path == 0 || space.read_array(GuestVirt(path))? == [0]) {
            return match int(number) {
                AT_FDCWD => Ok(Target::Location(self.directory.location().clone())),
                _ => self.open_target(number),
            };
        }
        let path = read_path(space, path)?;
        let base = self.base(number, &path)?;
        self.with_files(clocks, space, |vfs, context| vfs.resolve(context, &base, &path, follow)).map(Target::Location)
    }

    /// What is open under a number.
    pub(super) fn open_target(&self, number: u64) -> Result<Target, Errno> {
        match self.descriptors.named(number)? {
            Some(file) => Ok(Target::Location(file.location().clone())),
            None => Ok(Target::Open(number)),
        }
    }

    /// The same, where that cannot be a place alone.
    pub(super) fn open_file_target(&self, number: u64) -> Result<Target, Errno> {
        if self.descriptors.get(number)?.is_place() { Err(Errno::EBADF) } else { self.open_target(number) }
    }

    pub(super) fn metadata(&self, target: &Target) -> Result<Metadata, Errno> {
        let number = match target {
            Target::Open(number) => *number,
            Target::Location(location) => match self.vfs.special(location) {
                Some(Special::Descriptor(number)) => number.into(),
                _ => return Ok(self.vfs.metadata(location)?),
            },
        };
        stat::of_open(self.descriptors.get(number)?.object).ok_or(Errno::EBADF)
    }

    /// `open` and its kin.
    pub(super) fn open(
        &mut self,
        clocks: &mut Clocks,
        space: &mut AddressSpace,
        [number, path]: [u64; 2],
        (flags, mode): (u32, u32),
        resolve: Resolve,
    ) -> Result<u64, Errno> {
        let contradicts = flags & (O_CREAT | O_DIRECTORY) == O_CREAT | O_DIRECTORY;
        let is_unnamed = flags & __O_TMPFILE != 0;
        let writes = matches!(flags & O_ACCMODE, O_WRONLY | O_RDWR | O_ACCMODE);
        if flags & O_PATH == 0 && (contradicts || is_unnamed && !(writes && flags & O_DIRECTORY != 0)) {
            return Err(Errno::EINVAL);
        }
        let path = read_path(space, path)?;
        // Nothing is created for which there is no number.
        self.descriptors.has_room()?;
        // A root of its own takes the place of the tree's.
        let base = if resolve.in_root { self.base(number, b".")? } else { self.base(number, &path)? };
        let mode = mode & ALL_PERMISSIONS & !self.umask;
        // Who wants neither to read nor to write has to be permitted both.
        let wanted = if flags & (O_ACCMODE | O_PATH) == O_ACCMODE { flags & !O_ACCMODE | O_RDWR } else { flags };
        let file = self.with_files(clocks, space, |vfs, context| {
            vfs.open_within(context, &base, &path, (wanted, mode), resolve)
        })?;
        if wanted & O_TRUNC != 0 {
            self.note_resized(clocks, space, file.location())?;
        }
        self.install(file, flags)
    }

    /// Gives a file that was opened a number.
    pub(super) fn install(&mut self, file: File, flags: u32) -> Result<u64, Errno> {
        let object = match self.vfs.special(file.location()) {
            _ if file.is_place() => Object::File,
            None => Object::File,
            Some(Special::Process(text)) => Object::Process(text),
            Some(Special::Mapping(_)) => Object::Mapping,
            Some(Special::System(text)) => Object::System(text),
            Some(Special::Device(Device::Tty)) if self.terminal == TerminalStreams::None => {
                return self.give_up(file, Errno::ENXIO);
            }
            Some(Special::Device(device)) => Object::Device(device),
            Some(Special::Descriptor(number)) => {
                self.vfs.close(file);
                return self.open_again(number.into(), flags);
            }
            // Nobody else is there who could open the other end.
            Some(_) => return self.give_up(file, Errno::ENXIO),
        };
        let kept = match flags {
            flags if flags & O_PATH != 0 => flags & (O_PATH | O_DIRECTORY | O_NOFOLLOW),
            flags => flags & !(O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_CLOEXEC) | O_LARGEFILE,
        };
        let opened = OpenFile { object, flags: kept, position: 0 };
        self.descriptors.open_named(opened, file, flags & O_CLOEXEC != 0)
    }

    /// Opens what is open under a number and has no place in the file system.
    fn open_again(&mut self, number: u64, flags: u32) -> Result<u64, Errno> {
        let file = self.descriptors.get(number)?;
        let closes = flags & O_CLOEXEC != 0;
        match file.object {
            Object::Input | Object::Output(_) => self.descriptors.open(file, closes),
            // The ends of a pipe are counted by what is open.
            Object::PipeReader(_) | Object::PipeWriter(_) => self.descriptors.duplicate(number, 0, closes),
            _ => Err(Errno::ENXIO),
        }
    }

    fn give_up<R>(&mut self, file: File, errno: Errno) -> Result<R, Errno> {
        self.vfs.close(file);
        Err(errno)
    }

    /// `chdir` and `fchdir`
    pub(super) fn enter(&mut self, clocks: &mut Clocks, space: &AddressSpace, target: Target) -> Result<u64, Errno> {
        let Target::Location(location) = target else { return Err(Errno::ENOTDIR) };
        if self.vfs.file_type(&location)? != FileType::Directory {
            return Err(Errno::ENOTDIR);
        }
        self.vfs.check_access(&location, EXECUTE)?;
        let flags = O_PATH | O_DIRECTORY;
        let directory = self.with_files(clocks, space, |vfs, context| vfs.open_location(context, &location, flags))?;
        let left = std::mem::replace(&mut self.directory, directory);
        self.vfs.close(left);
        Ok(0)
    }

    /// `getcwd`
    pub(super) fn getcwd(&mut self, space: &mut AddressSpace, into: u64, len: u64) -> Result<u64, Errno> {
        let path = self.vfs.path(self.directory.location())?;
        let needed = path.len() as u64 + 1;
        if len < needed {
            return Err(Errno::ERANGE);
        }
        space.write(GuestVirt(into), &[&path, &b"\0"[..]].concat())?;
        Ok(needed)
    }
}

impl ProcessView for View<'_> {
    fn id(&self) -> u32 {
        self.id.number()
    }

    fn descriptors(&self) -> Vec<u32> {
        self.descriptors.numbers().collect()
    }

    fn descriptor(&self, number: u32) -> Option<Descriptor<'_>> {
        let open = self.descriptors.get(number.into()).ok()?;
        match self.descriptors.named(number.into()).ok()? {
            Some(file) => Some(Descriptor::File(file)),
            None => Some(Descriptor::Other(shown(open.object).into_bytes())),
        }
    }

    fn executable(&self) -> Option<&File> {
        self.executable
    }

    fn directory(&self) -> Option<&File> {
        Some(self.directory)
    }

    fn is_interrupted(&self) -> bool {
        self.space.check_watch().is_err()
    }
}

/// Reads a path.
pub(super) fn read_path(space: &AddressSpace, path: u64) -> Result<Vec<u8>, Errno> {
    Ok(space.read_c_string(GuestVirt(path), PATH_MAX as usize)?)
}

/// What `/proc/self/fd` shows of something that is in no file system.
fn shown(object: Object) -> String {
    let inode = stat::of_open(object).map_or(0, |metadata| metadata.inode);
    match object {
        Object::Socket(_) => format!("socket:[{inode}]"),
        Object::EventCounter => "anon_inode:[eventfd]".to_owned(),
        Object::Epoll => "anon_inode:[eventpoll]".to_owned(),
        Object::Timer => "anon_inode:[timerfd]".to_owned(),
        Object::Signals => "anon_inode:[signalfd]".to_owned(),
        _ => format!("pipe:[{inode}]"),
    }
}

/// The permissions that something can have (`S_IALLUGO`).
pub(super) const ALL_PERMISSIONS: u32 = 0o7777;

/// The permission to search a directory.
const EXECUTE: u32 = 1;
