//! Linux's error numbers.

use std::fmt::{self, Debug, Display, Formatter};

/// Why an operation fails, as the number that a system call returns negated.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Errno(u16);

impl Errno {
    /// The number, which is positive: 2 for `ENOENT`.
    #[must_use]
    pub const fn raw(self) -> u16 {
        self.0
    }
}

macro_rules! errors {
    ($($name:ident $meaning:literal)*) => {
        impl Errno {
            $(#[doc = concat!(stringify!($name), ": ", $meaning, ".")]
            pub const $name: Self = Self(linux_raw_sys::errno::$name as u16);)*

            /// The name and the meaning, where this crate itself gives the error.
            fn known(self) -> Option<(&'static str, &'static str)> {
                match self {
                    $(Self::$name => Some((stringify!($name), $meaning)),)*
                    _ => None,
                }
            }
        }
    };
}

errors! {
    EPERM "the operation is not permitted"
    ENOENT "there is no such file or directory"
    EINTR "nobody needs this any more"
    EIO "the host could not read or write"
    ENXIO "there is no such device"
    EBADF "the file is not open for this"
    EAGAIN "somebody else keeps changing what is looked up"
    ENOMEM "the host has no memory"
    EACCES "the permissions do not allow it"
    EBUSY "something is mounted there"
    EEXIST "the name exists"
    EXDEV "the two names are of different mounts"
    ENODEV "the file does not support this"
    ENOTDIR "a directory is needed, and this is none"
    EISDIR "this is a directory"
    EINVAL "an argument is invalid"
    ENFILE "too many files are open"
    EFBIG "the file would become too large"
    ENOSPC "the quota is used up"
    ESPIPE "what is open has no positions"
    EROFS "the mount is read-only"
    EMLINK "the file has too many links"
    ENAMETOOLONG "a name is too long"
    ENOSYS "this is not implemented"
    ENOTEMPTY "the directory is not empty"
    ELOOP "too many symbolic links follow each other"
    EOPNOTSUPP "the file system does not support this"
    ESTALE "the host has replaced the file"
}

impl From<rustix::io::Errno> for Errno {
    fn from(errno: rustix::io::Errno) -> Self {
        match errno {
            // The guest's own table is not full; the host's is.
            rustix::io::Errno::MFILE => Self::ENFILE,
            errno => Self(errno.raw_os_error() as u16),
        }
    }
}

impl Debug for Errno {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.known() {
            Some((name, _)) => f.write_str(name),
            None => write!(f, "Errno({})", self.0),
        }
    }
}

impl Display for Errno {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.known() {
            Some((_, meaning)) => f.write_str(meaning),
            None => write!(f, "error {} of Linux", self.0),
        }
    }
}

impl std::error::Error for Errno {}
