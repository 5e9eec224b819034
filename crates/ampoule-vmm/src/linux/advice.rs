//! What to do where the kernel gives no memory, file or descriptor: its error number tells which limit was reached, as far as
//! one can tell from outside.

use std::fmt;
use std::io;

/// An error of the kernel's, followed by what to do about it.
#[derive(Clone, Copy, Debug)]
pub struct WithAdvice<'a>(pub &'a io::Error);

impl fmt::Display for WithAdvice<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        advice(self.0).map_or(Ok(()), |advice| write!(f, "; {advice}"))
    }
}

/// Whether it is for lack of something in the process or the system, and not for what was asked, that the kernel refused.
pub(crate) fn is_shortage(error: &io::Error) -> bool {
    use libc::{EAGAIN, EFBIG, EMFILE, ENFILE, ENOMEM};
    matches!(errno(error), Some(EAGAIN | EFBIG | EMFILE | ENFILE | ENOMEM))
}

/// The error's number, also where the error has been given the name of the call.
pub(crate) fn errno(error: &io::Error) -> Option<i32> {
    let named = || error.get_ref()?.downcast_ref::<NamedError>()?.reason.raw_os_error();
    error.raw_os_error().or_else(named)
}

/// Gives an error of the kernel's the name of the call that it refused.
pub(crate) fn named<T>(call: &'static str, result: io::Result<T>) -> io::Result<T> {
    result.map_err(|reason| io::Error::new(reason.kind(), NamedError { call, reason }))
}

#[derive(Debug, thiserror::Error)]
#[error("`{call}`: {reason}")]
struct NamedError {
    call: &'static str,
    reason: io::Error,
}

fn advice(error: &io::Error) -> Option<&'static str> {
    if error.kind() == io::ErrorKind::FileTooLarge {
        return Some("raise the limit of a file's size (RLIMIT_FSIZE, `ulimit -f`)");
    }
    let advice = match errno(error)? {
        libc::EMFILE => {
            "raise the process's limit of open files (RLIMIT_NOFILE, `ulimit -n`), or let it have fewer sandboxes and snapshots"
        }
        libc::ENFILE => "the whole system has as many files open as it may: close some, or raise `fs.file-max`",
        libc::ENOMEM => {
            "free some memory, or raise what limits it: the process's address space (RLIMIT_AS, `ulimit -v`), its mappings \
             (`vm.max_map_count`), or its control group"
        }
        libc::EAGAIN => {
            "the process locks its memory: raise the limit of locked memory (RLIMIT_MEMLOCK, `ulimit -l`), or lock less"
        }
        libc::EPERM | libc::EACCES | libc::ENOSYS => {
            "the process may not make this system call: let its seccomp filter allow `ioctl`, `memfd_create`, `ftruncate`, \
             `pwrite64`, `fcntl`, `mmap`, `munmap`, `mprotect` and `madvise`"
        }
        _ => return None,
    };
    Some(advice)
}

#[cfg(test)]
mod tests;
