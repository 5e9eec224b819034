//! The side of the kernel.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{
    Access, AtFlags, CWD, FallocateFlags, FileType, Mode, OFlags, RawDir, RenameFlags, SeekFrom, Timespec, Timestamps,
};
use rustix::io::Errno;

use crate::steps::{At, Outcome, SLOTS, Side, Status, Step, Value};
use crate::tree::{Tree, open_directory};

pub(crate) struct Native {
    path: PathBuf,
    base: OwnedFd,
    slots: [Option<OwnedFd>; SLOTS],
}

impl Native {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { base: open_directory(&path), path, slots: Default::default() }
    }

    pub(crate) fn tree(&self) -> Tree {
        // The way there may have been closed.
        Tree::of_host(format!("/proc/self/fd/{}", self.base.as_raw_fd()))
    }

    fn at<'a>(&'a self, at: &'a At) -> Result<(BorrowedFd<'a>, &'a str), Errno> {
        let directory = match at.slot {
            Some(slot) => self.slot(slot)?,
            None => self.base.as_fd(),
        };
        Ok((directory, &at.path))
    }

    fn slot(&self, slot: usize) -> Result<BorrowedFd<'_>, Errno> {
        self.slots[slot].as_ref().map(AsFd::as_fd).ok_or(Errno::BADF)
    }

    fn try_run(&mut self, step: &Step) -> Result<Value, Errno> {
        match step {
            Step::Open { slot, at, flags, mode } => {
                let (directory, path) = self.at(at)?;
                let flags = OFlags::from_bits_retain(*flags) | OFlags::NONBLOCK;
                let opened = rustix::fs::openat(directory, path, flags, Mode::from_raw_mode(*mode))?;
                self.slots[*slot] = Some(opened);
            }
            Step::Reopen { slot, from, flags } => {
                let path = format!("/proc/self/fd/{}", self.slot(*from)?.as_raw_fd());
                let flags = reopen_flags(*flags);
                self.slots[*slot] = Some(rustix::fs::openat(CWD, path, flags, Mode::empty())?);
            }
            Step::Close(slot) => self.slots[*slot] = None,
            Step::Read { slot, offset, len } => {
                let mut bytes = vec![0; *len];
                let count = rustix::io::pread(self.slot(*slot)?, &mut bytes[..], *offset)?;
                bytes.truncate(count);
                return Ok(Value::Bytes(bytes));
            }
            Step::Write { slot, offset, len, byte } => {
                let count = rustix::io::pwrite(self.slot(*slot)?, &vec![*byte; *len], *offset)?;
                return Ok(Value::Count(count as u64));
            }
            Step::Append { slot, len, byte } => {
                let bytes = vec![*byte; *len];
                let parts = [std::io::IoSlice::new(&bytes)];
                let flags = rustix::io::ReadWriteFlags::APPEND;
                return Ok(Value::Count(rustix::io::pwritev2(self.slot(*slot)?, &parts, 0, flags)? as u64));
            }
            Step::SetLen { slot, len } => rustix::fs::ftruncate(self.slot(*slot)?, *len)?,
            Step::Allocate { slot, kind, offset, len } => {
                let flags = [
                    FallocateFlags::empty(),
                    FallocateFlags::KEEP_SIZE,
                    FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
                    FallocateFlags::ZERO_RANGE,
                    FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE,
                ];
                rustix::fs::fallocate(self.slot(*slot)?, flags[*kind], *offset, *len)?;
            }
            Step::StatOpen(slot) => return status(rustix::fs::fstat(self.slot(*slot)?)?),
            Step::ListOpen(slot) => {
                let mut names = Vec::new();
                let directory = self.slot(*slot)?;
                rustix::fs::seek(directory, SeekFrom::Start(0))?;
                let mut buffer = Vec::with_capacity(8192);
                let mut listing = RawDir::new(directory, buffer.spare_capacity_mut());
                while let Some(entry) = listing.next() {
                    let entry = entry?;
                    let mode = FileType::as_raw_mode(entry.file_type());
                    names.push((entry.file_name().to_bytes().to_vec(), (mode >> 12) as u8));
                }
                names.sort();
                return Ok(Value::Names(names));
            }
            Step::PathOpen(slot) => {
                let descriptor = self.slot(*slot)?;
                let link = format!("/proc/self/fd/{}", descriptor.as_raw_fd());
                let is_directory = FileType::from_raw_mode(rustix::fs::fstat(descriptor)?.st_mode).is_dir();
                let path = rustix::fs::readlinkat(CWD, link, Vec::new())?.into_bytes();
                let prefix = self.path.to_str().unwrap().strip_suffix(&crate::base_path()).unwrap().as_bytes();
                let path = path.strip_prefix(prefix).unwrap_or_default().to_vec();
                return if is_directory && !path.ends_with(b" (deleted)") {
                    Ok(Value::Bytes(path))
                } else {
                    Ok(Value::Nothing)
                };
            }
            Step::LinkOpen { slot, to } => {
                let link = format!("/proc/self/fd/{}", self.slot(*slot)?.as_raw_fd());
                let (directory, path) = self.at(to)?;
                rustix::fs::linkat(CWD, link, directory, path, AtFlags::SYMLINK_FOLLOW)?;
            }
            Step::Stat { at, follow } => {
                let (directory, path) = self.at(at)?;
                let flags = if *follow { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW };
                return status(rustix::fs::statat(directory, path, flags)?);
            }
            Step::Access { at, wanted } => {
                let (directory, path) = self.at(at)?;
                rustix::fs::accessat(directory, path, Access::from_bits_retain(*wanted), AtFlags::empty())?;
            }
            Step::Truncate { at, len } => {
                let (directory, path) = self.at(at)?;
                // There is no `truncateat`: the path is one beneath the place of the descriptor.
                let beneath = format!("/proc/self/fd/{}/{path}", directory.as_raw_fd());
                if path.is_empty() {
                    return Err(Errno::NOENT);
                }
                let file = rustix::fs::openat(CWD, &beneath, OFlags::WRONLY | OFlags::NONBLOCK, Mode::empty())?;
                rustix::fs::ftruncate(file, *len)?;
            }
            Step::MakeDirectory { at, mode } => {
                let (directory, path) = self.at(at)?;
                rustix::fs::mkdirat(directory, path, Mode::from_raw_mode(*mode))?;
            }
            Step::RemoveDirectory(at) => {
                let (directory, path) = self.at(at)?;
                rustix::fs::unlinkat(directory, path, AtFlags::REMOVEDIR)?;
            }
            Step::Remove(at) => {
                let (directory, path) = self.at(at)?;
                rustix::fs::unlinkat(directory, path, AtFlags::empty())?;
            }
            Step::Rename { from, to, flags } => {
                let ((from, old), (to, new)) = (self.at(from)?, self.at(to)?);
                rustix::fs::renameat_with(from, old, to, new, RenameFlags::from_bits_retain(*flags))?;
            }
            Step::Link { from, to, follow } => {
                let ((from, old), (to, new)) = (self.at(from)?, self.at(to)?);
                let flags = if *follow { AtFlags::SYMLINK_FOLLOW } else { AtFlags::empty() };
                rustix::fs::linkat(from, old, to, new, flags)?;
            }
            Step::MakeSymlink { at, target } => {
                let (directory, path) = self.at(at)?;
                rustix::fs::symlinkat(target.as_str(), directory, path)?;
            }
            Step::ReadLink(at) => {
                let (directory, path) = self.at(at)?;
                // An empty path would mean the descriptor.
                if path.is_empty() {
                    return Err(Errno::NOENT);
                }
                return Ok(Value::Bytes(rustix::fs::readlinkat(directory, path, Vec::new())?.into_bytes()));
            }
            Step::MakeNode { at, mode } => {
                let (directory, path) = self.at(at)?;
                rustix::fs::mknodat(directory, path, FileType::RegularFile, Mode::from_raw_mode(*mode), 0)?;
            }
            Step::SetPermissions { at, mode } => {
                let (directory, path) = self.at(at)?;
                rustix::fs::chmodat(directory, path, Mode::from_raw_mode(*mode), AtFlags::empty())?;
            }
            Step::SetTimes { at, seconds, follow } => {
                let (directory, path) = self.at(at)?;
                let flags = if *follow { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW };
                let time = Timespec { tv_sec: *seconds, tv_nsec: 5 };
                rustix::fs::utimensat(
                    directory,
                    path,
                    &Timestamps { last_access: time, last_modification: time },
                    flags,
                )?;
                let status = rustix::fs::statat(directory, path, flags)?;
                return Ok(Value::Count(status.st_mtime as u64));
            }
        }
        Ok(Value::Nothing)
    }
}

impl Side for Native {
    fn run(&mut self, step: &Step) -> Outcome {
        self.try_run(step).map_err(|errno| errno.raw_os_error() as u16)
    }
}

/// What means something when an open file is opened again.
pub(crate) fn reopen_flags(flags: u32) -> OFlags {
    let kept = OFlags::ACCMODE | OFlags::TRUNC | OFlags::DIRECTORY;
    (OFlags::from_bits_retain(flags) & kept) | OFlags::NONBLOCK
}

fn status(status: rustix::fs::Stat) -> Result<Value, Errno> {
    let file_type = FileType::from_raw_mode(status.st_mode);
    Ok(Value::Status(Status {
        mode: status.st_mode,
        links: status.st_nlink as u32,
        is_own: status.st_uid == rustix::process::geteuid().as_raw(),
        size: (file_type != FileType::Directory).then_some(status.st_size as u64),
    }))
}
