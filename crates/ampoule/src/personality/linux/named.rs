//! System calls on paths.

use ampoule_vmm::GuestVirt;
use linux_raw_sys::general::{AT_EMPTY_PATH, AT_FDCWD, O_CREAT, O_TRUNC, O_WRONLY};

use crate::address_space::AddressSpace;
use crate::personality::SystemCall;

use super::errno::Errno;
use super::log::Log;
use super::paths::{self, Node, Start};
use super::stat::Status;
use super::{State, int, numbers as nr, uint};

impl State {
    /// Serves a system call if it is one on a path.
    pub(super) fn answer_on_path(
        &mut self,
        call: &SystemCall,
        space: &mut AddressSpace,
        log: &mut Log,
    ) -> Option<Result<u64, Errno>> {
        let [_, b, c, d, ..] = call.arguments;
        let (base, path) = place_of_path(call)?;
        let flags = match call.number {
            nr::NEWFSTATAT | nr::FACCESSAT2 => d,
            nr::STATX => c,
            _ => 0,
        };
        let found = match names_descriptor(space, path, flags) {
            Ok(true) => self.status_of_open(base).map(|status| answer_on_status(call, space, &status)),
            Ok(false) => self.find(call, space, log, [base, path]).map(|node| match call.number {
                nr::OPEN => paths::open(&mut self.descriptors, node, b),
                nr::OPENAT => paths::open(&mut self.descriptors, node, c),
                nr::CREAT => paths::open(&mut self.descriptors, node, (O_CREAT | O_WRONLY | O_TRUNC).into()),
                nr::CHDIR => self.enter(node),
                _ => answer_on_status(call, space, &node.status()),
            }),
            Err(errno) => Err(errno),
        };
        Some(found.and_then(|answer| answer))
    }

    /// What a path leads to. Paths that lead nowhere are logged.
    fn find(
        &self,
        call: &SystemCall,
        space: &AddressSpace,
        log: &mut Log,
        [base, path]: [u64; 2],
    ) -> Result<Node, Errno> {
        let path = paths::read(space, path)?;
        let start = Start { descriptors: &self.descriptors, base, directory: self.directory };
        paths::find(start, &path).inspect_err(|_| log.path(nr::name(call.number).unwrap_or("unknown"), &path))
    }

    fn enter(&mut self, node: Node) -> Result<u64, Errno> {
        let Node::Directory(directory) = node else { return Err(Errno::ENOTDIR) };
        self.directory = directory;
        Ok(0)
    }

    fn status_of_open(&self, number: u64) -> Result<Status, Errno> {
        match int(number) {
            AT_FDCWD => Ok(Node::Directory(self.directory).status()),
            _ => Ok(Status::of_open(self.descriptors.get(number)?.object)),
        }
    }
}

/// What a path starts from, and where its text lies; `None` for a call that is not on a path.
fn place_of_path(call: &SystemCall) -> Option<(u64, u64)> {
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
        | nr::SYMLINK
        | nr::CHMOD
        | nr::CHOWN
        | nr::LCHOWN
        | nr::TRUNCATE
        | nr::EXECVE => Some((AT_FDCWD as u64, a)),
        nr::OPENAT
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
        | nr::EXECVEAT => Some((a, b)),
        _ => None,
    }
}

/// Whether the path of a call is empty and its flags allow it to mean the descriptor instead.
fn names_descriptor(space: &AddressSpace, path: u64, flags: u64) -> Result<bool, Errno> {
    if uint(flags) & AT_EMPTY_PATH == 0 {
        return Ok(false);
    }
    Ok(path == 0 || space.read_array(GuestVirt(path))? == [0])
}

/// Serves a call on something that exists. None of it can be changed.
fn answer_on_status(call: &SystemCall, space: &mut AddressSpace, status: &Status) -> Result<u64, Errno> {
    let [_, b, c, _, e, _] = call.arguments;
    match call.number {
        nr::STAT | nr::LSTAT => status.write_stat(space, b),
        nr::NEWFSTATAT => status.write_stat(space, c),
        nr::STATX => status.write_statx(space, e),
        nr::ACCESS => paths::access(status, b),
        nr::FACCESSAT | nr::FACCESSAT2 => paths::access(status, c),
        nr::READLINK | nr::READLINKAT => Err(Errno::EINVAL),
        nr::MKDIR | nr::MKDIRAT => Err(Errno::EEXIST),
        _ => Err(Errno::EACCES),
    }
}
