//! System calls on paths, and those on open files that have such kin.

use ampoule_vfs::{Follow, NodeKind, Resolve, TimeChange, Timestamp};
use ampoule_vmm::GuestVirt;
use linux_raw_sys::general::{
    __O_TMPFILE, AT_EACCESS, AT_EMPTY_PATH, AT_FDCWD, AT_NO_AUTOMOUNT, AT_REMOVEDIR, AT_STATX_DONT_SYNC,
    AT_STATX_FORCE_SYNC, AT_SYMLINK_FOLLOW, AT_SYMLINK_NOFOLLOW, O_CREAT, O_TRUNC, O_WRONLY, RENAME_EXCHANGE,
    RENAME_NOREPLACE, RESOLVE_BENEATH, RESOLVE_CACHED, RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS,
    RESOLVE_NO_XDEV, S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFMT, S_IFREG, S_IFSOCK, UTIME_NOW, UTIME_OMIT, open_how,
    timespec, timeval,
};

use crate::address_space::AddressSpace;
use crate::personality::SystemCall;

use super::clocks::Clocks;
use super::errno::Errno;
use super::file_system::{ALL_PERMISSIONS, Target, read_path};
use super::groups;
use super::log::Log;
use super::structure::read_fields;
use super::{State, int, numbers as nr, stat, uint};

impl State {
    /// Serves a system call if it is one on a path, or the kin of one. Paths that lead nowhere are logged.
    pub(super) fn answer_on_path(
        &mut self,
        clocks: &mut Clocks,
        call: &SystemCall,
        space: &mut AddressSpace,
        log: &mut Log,
    ) -> Option<Result<u64, Errno>> {
        let answer = self.open_or_look(clocks, call, space).or_else(|| self.change(clocks, call, space))?;
        if let Err(Errno::ENOENT) = answer
            && let Some(path) = path_of(call).and_then(|path| read_path(space, path).ok())
        {
            log.path(groups::name(call.number).unwrap_or("unknown"), &path);
        }
        // The tree has room for as many files as there are descriptors.
        if let Err(Errno::ENFILE) = answer {
            log.no_descriptor();
        }
        Some(answer)
    }

    /// Calls that open something, or look at it.
    fn open_or_look(
        &mut self,
        clocks: &mut Clocks,
        call: &SystemCall,
        space: &mut AddressSpace,
    ) -> Option<Result<u64, Errno>> {
        let [a, b, c, d, e, _] = call.arguments;
        Some(match call.number {
            nr::OPEN => self.open(clocks, space, [HERE, a], (uint(b), uint(c)), Resolve::default()),
            nr::OPENAT => self.open(clocks, space, [a, b], (uint(c), uint(d)), Resolve::default()),
            nr::OPENAT2 => self.openat2(clocks, space, [a, b, c, d]),
            nr::CREAT => {
                self.open(clocks, space, [HERE, a], (O_CREAT | O_WRONLY | O_TRUNC, uint(b)), Resolve::default())
            }
            nr::STAT => self.stat(clocks, space, [HERE, a, b], 0),
            nr::LSTAT => self.stat(clocks, space, [HERE, a, b], AT_SYMLINK_NOFOLLOW),
            nr::NEWFSTATAT => self.stat(clocks, space, [a, b, c], uint(d)),
            nr::FSTAT => self.open_target(a).and_then(|target| {
                let metadata = self.metadata(&target)?;
                stat::write_stat(space, b, &metadata)
            }),
            nr::STATX => self.statx(clocks, space, [a, b, c, d, e]),
            nr::ACCESS => self.access(clocks, space, [HERE, a, b], 0),
            nr::FACCESSAT => self.access(clocks, space, [a, b, c], 0),
            nr::FACCESSAT2 => self.access(clocks, space, [a, b, c], uint(d)),
            nr::READLINK => self.read_link(clocks, space, [HERE, a, b, c]),
            nr::READLINKAT => self.read_link(clocks, space, [a, b, c, d]),
            nr::STATFS => self.target(clocks, space, [HERE, a], 0, Follow::Always).and_then(|target| {
                let status = self.file_system(&target)?;
                stat::write_statfs(space, b, &status)
            }),
            nr::FSTATFS => self.open_target(a).and_then(|target| {
                let status = self.file_system(&target)?;
                stat::write_statfs(space, b, &status)
            }),
            nr::CHDIR => {
                let target = self.target(clocks, space, [HERE, a], 0, Follow::Always);
                target.and_then(|target| self.enter(clocks, space, target))
            }
            nr::FCHDIR => self.open_target(a).and_then(|target| self.enter(clocks, space, target)),
            nr::GETCWD => self.getcwd(space, a, b),
            // No other program is started, and none has another root.
            nr::EXECVE => self.refuse_path(clocks, space, [HERE, a], Errno::EACCES),
            nr::EXECVEAT => self.refuse_path(clocks, space, [a, b], Errno::EACCES),
            nr::CHROOT => self.refuse_path(clocks, space, [HERE, a], Errno::EPERM),
            _ => return None,
        })
    }

    /// Calls that change what is known of a file, or the names.
    fn change(
        &mut self,
        clocks: &mut Clocks,
        call: &SystemCall,
        space: &mut AddressSpace,
    ) -> Option<Result<u64, Errno>> {
        let [a, b, c, d, e, _] = call.arguments;
        Some(match call.number {
            nr::MKDIR => self.mkdir(clocks, space, [HERE, a, b]),
            nr::MKDIRAT => self.mkdir(clocks, space, [a, b, c]),
            nr::MKNOD => self.mknod(clocks, space, [HERE, a, b]),
            nr::MKNODAT => self.mknod(clocks, space, [a, b, c]),
            nr::UNLINK => self.unlink(clocks, space, [HERE, a, 0]),
            nr::RMDIR => self.unlink(clocks, space, [HERE, a, AT_REMOVEDIR.into()]),
            nr::UNLINKAT => self.unlink(clocks, space, [a, b, c]),
            nr::RENAME => self.rename(clocks, space, [HERE, a, HERE, b, 0]),
            nr::RENAMEAT => self.rename(clocks, space, [a, b, c, d, 0]),
            nr::RENAMEAT2 => self.rename(clocks, space, [a, b, c, d, e]),
            nr::LINK => self.link(clocks, space, [HERE, a, HERE, b, 0]),
            nr::LINKAT => self.link(clocks, space, [a, b, c, d, e]),
            nr::SYMLINK => self.symlink(clocks, space, [a, HERE, b]),
            nr::SYMLINKAT => self.symlink(clocks, space, [a, b, c]),
            nr::CHMOD => self.chmod(clocks, space, [HERE, a, b, 0]),
            nr::FCHMODAT => self.chmod(clocks, space, [a, b, c, 0]),
            nr::FCHMODAT2 => self.chmod(clocks, space, [a, b, c, d]),
            nr::FCHMOD => self.open_file_target(a).and_then(|target| self.set_permissions(clocks, space, &target, b)),
            nr::CHOWN => self.chown(clocks, space, [HERE, a, b, c, 0]),
            nr::LCHOWN => self.chown(clocks, space, [HERE, a, b, c, AT_SYMLINK_NOFOLLOW.into()]),
            nr::FCHOWNAT => self.chown(clocks, space, [a, b, c, d, e]),
            nr::FCHOWN => self.open_file_target(a).and_then(|target| self.set_owner(clocks, space, &target, [b, c])),
            nr::UTIME => self.utime(clocks, space, a, b),
            nr::UTIMES => self.futimesat(clocks, space, [HERE, a, b]),
            nr::FUTIMESAT => self.futimesat(clocks, space, [a, b, c]),
            nr::UTIMENSAT => self.utimensat(clocks, space, [a, b, c, d]),
            nr::TRUNCATE => self.truncate(clocks, space, [a, b]),
            nr::SETXATTR | nr::GETXATTR | nr::REMOVEXATTR | nr::LISTXATTR => {
                let target = self.target(clocks, space, [HERE, a], 0, Follow::Always);
                target.and_then(|_| extended_attributes(call.number == nr::LISTXATTR))
            }
            nr::LSETXATTR | nr::LGETXATTR | nr::LREMOVEXATTR | nr::LLISTXATTR => {
                let target = self.target(clocks, space, [HERE, a], 0, Follow::Never);
                target.and_then(|_| extended_attributes(call.number == nr::LLISTXATTR))
            }
            nr::FSETXATTR | nr::FGETXATTR | nr::FREMOVEXATTR | nr::FLISTXATTR => {
                self.open_file_target(a).and_then(|_| extended_attributes(call.number == nr::FLISTXATTR))
            }
            _ => return None,
        })
    }

    fn openat2(
        &mut self,
        clocks: &mut Clocks,
        space: &mut AddressSpace,
        [number, path, how, size]: [u64; 4],
    ) -> Result<u64, Errno> {
        if size < size_of::<open_how>() as u64 {
            return Err(Errno::EINVAL);
        }
        if size > size_of::<open_how>() as u64 {
            return Err(Errno::E2BIG);
        }
        let (flags, mode, resolve) = read_fields!(space, how, open_how { flags, mode, resolve })?;
        let flags = u32::try_from(flags).map_err(|_| Errno::EINVAL)?;
        let resolve =
            u32::try_from(resolve).ok().filter(|resolve| resolve & !RESOLVE_KNOWN == 0).ok_or(Errno::EINVAL)?;
        let creates = flags & (O_CREAT | __O_TMPFILE) != 0;
        let contradicts = resolve & (RESOLVE_BENEATH | RESOLVE_IN_ROOT) == RESOLVE_BENEATH | RESOLVE_IN_ROOT;
        if contradicts || mode & !u64::from(ALL_PERMISSIONS) != 0 || mode != 0 && !creates {
            return Err(Errno::EINVAL);
        }
        // Everything is at hand that a path leads over, but what is created or changed never counts as that.
        if resolve & RESOLVE_CACHED != 0 && (creates || flags & O_TRUNC != 0) {
            return Err(Errno::EAGAIN);
        }
        let has = |bit: u32| resolve & bit != 0;
        let resolve = Resolve {
            beneath: has(RESOLVE_BENEATH),
            in_root: has(RESOLVE_IN_ROOT),
            no_symlinks: has(RESOLVE_NO_SYMLINKS),
            no_magic_links: has(RESOLVE_NO_MAGICLINKS),
            no_other_mounts: has(RESOLVE_NO_XDEV),
        };
        self.open(clocks, space, [number, path], (flags, mode as u32), resolve)
    }

    fn stat(
        &mut self,
        clocks: &mut Clocks,
        space: &mut AddressSpace,
        [number, path, into]: [u64; 3],
        flags: u32,
    ) -> Result<u64, Errno> {
        if flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | AT_NO_AUTOMOUNT) != 0 {
            return Err(Errno::EINVAL);
        }
        let target = self.target(clocks, space, [number, path], flags, follow_unless_forbidden(flags))?;
        stat::write_stat(space, into, &self.metadata(&target)?)
    }

    fn statx(
        &mut self,
        clocks: &mut Clocks,
        space: &mut AddressSpace,
        [number, path, flags, mask, into]: [u64; 5],
    ) -> Result<u64, Errno> {
        let flags = uint(flags);
        let sync = AT_STATX_FORCE_SYNC | AT_STATX_DONT_SYNC;
        let known = AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | AT_NO_AUTOMOUNT | sync;
        if flags & !known != 0 || flags & sync == sync || uint(mask) & STATX_RESERVED != 0 {
            return Err(Errno::EINVAL);
        }
        let target = self.target(clocks, space, [number, path], flags, follow_unless_forbidden(flags))?;
        stat::write_statx(space, into, &self.metadata(&target)?)
    }

    fn access(
        &mut self,
        clocks: &mut Clocks,
        space: &AddressSpace,
        [number, path, wanted]: [u64; 3],
        flags: u32,
    ) -> Result<u64, Errno> {
        let wanted = u32::try_from(wanted).ok().filter(|wanted| wanted & !0o7 == 0).ok_or(Errno::EINVAL)?;
        if flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | AT_EACCESS) != 0 {
            return Err(Errno::EINVAL);
        }
        let target = self.target(clocks, space, [number, path], flags, follow_unless_forbidden(flags))?;
        match target {
            Target::Location(location) => self.vfs.check_access(&location, wanted)?,
            Target::Open(_) if self.metadata(&target)?.permissions >> 6 & wanted != wanted => {
                return Err(Errno::EACCES);
            }
            Target::Open(_) => {}
        }
        Ok(0)
    }

    fn read_link(
        &mut self,
        clocks: &mut Clocks,
        space: &mut AddressSpace,
        [number, path, into, len]: [u64; 4],
    ) -> Result<u64, Errno> {
        if int(len) <= 0 {
            return Err(Errno::EINVAL);
        }
        let text = read_path(space, path)?;
        let location = match (text.is_empty(), int(number)) {
            // What was opened may be a link itself.
            (true, number) if number != AT_FDCWD => match self.open_target(number as u64)? {
                Target::Location(location) => location,
                Target::Open(_) => return Err(Errno::ENOENT),
            },
            _ => {
                let base = self.base(number, &text)?;
                self.with_files(clocks, space, |vfs, context| vfs.resolve(context, &base, &text, Follow::Never))?
            }
        };
        let linked = self.with_files(clocks, space, |vfs, context| vfs.read_link(context, &location));
        let linked = match linked {
            Err(Errno::EINVAL) if text.is_empty() => return Err(Errno::ENOENT),
            linked => linked?,
        };
        let len = linked.len().min(int(len) as usize);
        space.write(GuestVirt(into), &linked[..len])?;
        Ok(len as u64)
    }

    fn mkdir(
        &mut self,
        clocks: &mut Clocks,
        space: &AddressSpace,
        [number, path, mode]: [u64; 3],
    ) -> Result<u64, Errno> {
        let path = read_path(space, path)?;
        let base = self.base(number, &path)?;
        let mode = uint(mode) & DIRECTORY_PERMISSIONS & !self.umask;
        self.with_files(clocks, space, |vfs, context| vfs.create_directory(context, &base, &path, mode))?;
        Ok(0)
    }

    /// Only regular files: nobody else is there who could open the other end of a pipe or of a socket. What could not be made
    /// at the path anyway is reported first.
    fn mknod(
        &mut self,
        clocks: &mut Clocks,
        space: &AddressSpace,
        [number, path, mode]: [u64; 3],
    ) -> Result<u64, Errno> {
        let mode = uint(mode);
        let is_regular = match mode & S_IFMT {
            0 | S_IFREG => true,
            S_IFIFO | S_IFSOCK | S_IFCHR | S_IFBLK => false,
            S_IFDIR => return Err(Errno::EPERM),
            _ => return Err(Errno::EINVAL),
        };
        let path = read_path(space, path)?;
        let base = self.base(number, &path)?;
        let mode = mode & ALL_PERMISSIONS & !self.umask;
        self.with_files(clocks, space, |vfs, context| match is_regular {
            true => vfs.create_node(context, &base, &path, NodeKind::Regular, mode),
            false => vfs.check_new_name(context, &base, &path).and(Err(ampoule_vfs::Errno::EPERM)),
        })?;
        Ok(0)
    }

    fn unlink(
        &mut self,
        clocks: &mut Clocks,
        space: &AddressSpace,
        [number, path, flags]: [u64; 3],
    ) -> Result<u64, Errno> {
        let flags = uint(flags);
        if flags & !AT_REMOVEDIR != 0 {
            return Err(Errno::EINVAL);
        }
        let path = read_path(space, path)?;
        let base = self.base(number, &path)?;
        self.with_files(clocks, space, |vfs, context| match flags {
            0 => vfs.remove_file(context, &base, &path),
            _ => vfs.remove_directory(context, &base, &path),
        })?;
        Ok(0)
    }

    fn rename(
        &mut self,
        clocks: &mut Clocks,
        space: &AddressSpace,
        [from_number, from, to_number, to, flags]: [u64; 5],
    ) -> Result<u64, Errno> {
        let flags = uint(flags);
        if !matches!(flags, 0 | RENAME_NOREPLACE | RENAME_EXCHANGE) {
            return Err(Errno::EINVAL);
        }
        let (from, to) = (read_path(space, from)?, read_path(space, to)?);
        let from_base = self.base(from_number, &from)?;
        // What is wrong with the first path is reported first.
        let to_base = if to.is_empty() { self.vfs.root() } else { self.base(to_number, &to)? };
        self.with_files(clocks, space, |vfs, context| {
            vfs.rename(context, (&from_base, &from), (&to_base, &to), flags)
        })?;
        Ok(0)
    }

    fn link(
        &mut self,
        clocks: &mut Clocks,
        space: &AddressSpace,
        [from_number, from, to_number, to, flags]: [u64; 5],
    ) -> Result<u64, Errno> {
        let flags = uint(flags);
        if flags & !(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH) != 0 {
            return Err(Errno::EINVAL);
        }
        let follow = if flags & AT_SYMLINK_FOLLOW == 0 { Follow::Never } else { Follow::Always };
        // An empty path takes a privilege, without which Linux finds nothing.
        let Target::Location(file) = self.target(clocks, space, [from_number, from], 0, follow)? else {
            return Err(Errno::ENOENT);
        };
        let to = read_path(space, to)?;
        let base = self.base(to_number, &to)?;
        self.with_files(clocks, space, |vfs, context| vfs.link(context, &file, &base, &to))?;
        Ok(0)
    }

    fn symlink(
        &mut self,
        clocks: &mut Clocks,
        space: &AddressSpace,
        [target, number, path]: [u64; 3],
    ) -> Result<u64, Errno> {
        let (target, path) = (read_path(space, target)?, read_path(space, path)?);
        if target.is_empty() {
            return Err(Errno::ENOENT);
        }
        let base = self.base(number, &path)?;
        self.with_files(clocks, space, |vfs, context| vfs.create_symlink(context, &target, &base, &path))?;
        Ok(0)
    }

    fn chmod(
        &mut self,
        clocks: &mut Clocks,
        space: &AddressSpace,
        [number, path, mode, flags]: [u64; 4],
    ) -> Result<u64, Errno> {
        let flags = uint(flags);
        if flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
            return Err(Errno::EINVAL);
        }
        let target = self.target(clocks, space, [number, path], flags, follow_unless_forbidden(flags))?;
        self.set_permissions(clocks, space, &target, mode)
    }

    fn set_permissions(
        &mut self,
        clocks: &mut Clocks,
        space: &AddressSpace,
        target: &Target,
        mode: u64,
    ) -> Result<u64, Errno> {
        if let Target::Location(location) = target {
            self.with_files(clocks, space, |vfs, context| {
                vfs.set_permissions(context, location, uint(mode) & ALL_PERMISSIONS)
            })?;
        }
        Ok(0)
    }

    fn chown(
        &mut self,
        clocks: &mut Clocks,
        space: &AddressSpace,
        [number, path, user, group, flags]: [u64; 5],
    ) -> Result<u64, Errno> {
        let flags = uint(flags);
        if flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
            return Err(Errno::EINVAL);
        }
        let target = self.target(clocks, space, [number, path], flags, follow_unless_forbidden(flags))?;
        self.set_owner(clocks, space, &target, [user, group])
    }

    fn set_owner(
        &mut self,
        clocks: &mut Clocks,
        space: &AddressSpace,
        target: &Target,
        owners: [u64; 2],
    ) -> Result<u64, Errno> {
        let [user, group] = owners.map(|owner| (uint(owner) != u32::MAX).then_some(uint(owner)));
        if let Target::Location(location) = target {
            self.with_files(clocks, space, |vfs, context| vfs.set_owner(context, location, user, group))?;
        }
        Ok(0)
    }

    fn truncate(&mut self, clocks: &mut Clocks, space: &mut AddressSpace, [path, len]: [u64; 2]) -> Result<u64, Errno> {
        if i64::try_from(len).is_err() {
            return Err(Errno::EINVAL);
        }
        let Target::Location(location) = self.target(clocks, space, [HERE, path], 0, Follow::Always)? else {
            return Err(Errno::EINVAL);
        };
        self.with_files(clocks, space, |vfs, context| vfs.truncate(context, &location, len))?;
        self.note_resized(clocks, space, &location)?;
        Ok(0)
    }

    fn utime(&mut self, clocks: &mut Clocks, space: &AddressSpace, path: u64, times: u64) -> Result<u64, Errno> {
        let mut changes = [TimeChange::Now; 2];
        for (change, offset) in changes.iter_mut().zip([0, 8]).filter(|_| times != 0) {
            *change = seconds(space.read_u64(GuestVirt(times.wrapping_add(offset)))?);
        }
        self.set_times(clocks, space, [HERE, path], 0, changes)
    }

    fn futimesat(
        &mut self,
        clocks: &mut Clocks,
        space: &AddressSpace,
        [number, path, times]: [u64; 3],
    ) -> Result<u64, Errno> {
        let mut changes = [TimeChange::Now; 2];
        for (index, change) in changes.iter_mut().enumerate().filter(|_| times != 0) {
            let at = times.wrapping_add((index * size_of::<timeval>()) as u64);
            let (seconds, microseconds) = read_fields!(space, at, timeval { tv_sec, tv_usec })?;
            let microseconds = u32::try_from(microseconds).ok().filter(|it| *it < 1_000_000).ok_or(Errno::EINVAL)?;
            *change = TimeChange::At(Timestamp { seconds, nanoseconds: microseconds * 1000 });
        }
        self.set_times(clocks, space, [number, path], 0, changes)
    }

    fn utimensat(
        &mut self,
        clocks: &mut Clocks,
        space: &AddressSpace,
        [number, path, times, flags]: [u64; 4],
    ) -> Result<u64, Errno> {
        let mut changes = [TimeChange::Now; 2];
        for (index, change) in changes.iter_mut().enumerate().filter(|_| times != 0) {
            let at = times.wrapping_add((index * size_of::<timespec>()) as u64);
            let (seconds, nanoseconds) = read_fields!(space, at, timespec { tv_sec, tv_nsec })?;
            *change = match u32::try_from(nanoseconds) {
                Ok(UTIME_NOW) => TimeChange::Now,
                Ok(UTIME_OMIT) => TimeChange::Keep,
                Ok(nanoseconds) if nanoseconds < 1_000_000_000 => TimeChange::At(Timestamp { seconds, nanoseconds }),
                _ => return Err(Errno::EINVAL),
            };
        }
        if changes == [TimeChange::Keep; 2] {
            return Ok(0);
        }
        self.set_times(clocks, space, [number, path], uint(flags), changes)
    }

    /// Without a path it is what is open under the number.
    fn set_times(
        &mut self,
        clocks: &mut Clocks,
        space: &AddressSpace,
        [number, path]: [u64; 2],
        flags: u32,
        [accessed, modified]: [TimeChange; 2],
    ) -> Result<u64, Errno> {
        if flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
            return Err(Errno::EINVAL);
        }
        let target = match path {
            0 if int(number) == AT_FDCWD => return Err(Errno::EFAULT),
            0 if flags != 0 => return Err(Errno::EINVAL),
            0 => self.open_file_target(number)?,
            _ => self.target(clocks, space, [number, path], flags, follow_unless_forbidden(flags))?,
        };
        if let Target::Location(location) = target {
            self.with_files(clocks, space, |vfs, context| vfs.set_times(context, &location, accessed, modified))?;
        }
        Ok(0)
    }

    fn file_system(&self, target: &Target) -> Result<ampoule_vfs::FileSystemStatus, Errno> {
        match target {
            Target::Location(location) => Ok(self.vfs.file_system(location)?),
            Target::Open(_) => Ok(stat::NO_FILE_SYSTEM),
        }
    }

    /// For a call that is refused when its path leads somewhere.
    fn refuse_path(
        &mut self,
        clocks: &mut Clocks,
        space: &AddressSpace,
        place: [u64; 2],
        errno: Errno,
    ) -> Result<u64, Errno> {
        self.target(clocks, space, place, 0, Follow::Always)?;
        Err(errno)
    }
}

/// Where the path lies by which a call is logged.
fn path_of(call: &SystemCall) -> Option<u64> {
    let [a, b, ..] = call.arguments;
    match call.number {
        nr::OPEN
        | nr::STAT
        | nr::LSTAT
        | nr::ACCESS
        | nr::READLINK
        | nr::STATFS
        | nr::CHDIR
        | nr::CREAT
        | nr::MKDIR
        | nr::RMDIR
        | nr::RENAME
        | nr::LINK
        | nr::UNLINK
        | nr::CHMOD
        | nr::CHOWN
        | nr::LCHOWN
        | nr::TRUNCATE
        | nr::EXECVE => Some(a),
        nr::OPENAT
        | nr::OPENAT2
        | nr::NEWFSTATAT
        | nr::STATX
        | nr::FACCESSAT
        | nr::FACCESSAT2
        | nr::READLINKAT
        | nr::MKDIRAT
        | nr::UNLINKAT
        | nr::RENAMEAT
        | nr::RENAMEAT2
        | nr::LINKAT
        | nr::FCHMODAT
        | nr::EXECVEAT => Some(b),
        _ => None,
    }
}

/// No file has any.
fn extended_attributes(is_list: bool) -> Result<u64, Errno> {
    if is_list { Ok(0) } else { Err(Errno::EOPNOTSUPP) }
}

fn follow_unless_forbidden(flags: u32) -> Follow {
    if flags & AT_SYMLINK_NOFOLLOW == 0 { Follow::Always } else { Follow::Never }
}

fn seconds(value: u64) -> TimeChange {
    TimeChange::At(Timestamp { seconds: value as i64, nanoseconds: 0 })
}

/// The working directory, as a descriptor.
const HERE: u64 = AT_FDCWD as u64;

/// The permissions that `mkdir` gives (`S_IRWXUGO | S_ISVTX`).
const DIRECTORY_PERMISSIONS: u32 = 0o1777;

/// Everything that can be said of how to resolve a path (`VALID_RESOLVE_FLAGS` of Linux's `include/linux/fcntl.h`).
const RESOLVE_KNOWN: u32 =
    RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH | RESOLVE_IN_ROOT | RESOLVE_CACHED;

/// `STATX__RESERVED` of Linux's `include/uapi/linux/stat.h`.
const STATX_RESERVED: u32 = 0x8000_0000;
