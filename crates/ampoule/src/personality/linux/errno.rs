//! Linux's error numbers.

use crate::address_space::{BadAddress, MapError, StringError};

/// An error number, as a system call returns it negated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Errno(u16);

impl Errno {
    /// What the guest finds in its result register.
    pub(super) fn result(self) -> u64 {
        -i64::from(self.0) as u64
    }
}

impl From<ampoule_vfs::Errno> for Errno {
    fn from(errno: ampoule_vfs::Errno) -> Self {
        Self(errno.raw())
    }
}

impl From<BadAddress> for Errno {
    fn from(_: BadAddress) -> Self {
        Self::EFAULT
    }
}

impl From<StringError> for Errno {
    fn from(error: StringError) -> Self {
        match error {
            StringError::BadAddress(_) => Self::EFAULT,
            StringError::TooLong { .. } => Self::ENAMETOOLONG,
        }
    }
}

impl From<MapError> for Errno {
    fn from(error: MapError) -> Self {
        match error {
            MapError::InvalidRange => Self::EINVAL,
            MapError::Occupied => Self::EEXIST,
            MapError::ExecutableRefused | MapError::WriteRefused => Self::EACCES,
            MapError::NoRoom
            | MapError::NotMapped
            | MapError::OutOfFrames { .. }
            | MapError::OutOfTables(_)
            | MapError::TooManyMappings { .. }
            | MapError::TooFragmented { .. } => Self::ENOMEM,
            MapError::File(error) if error.kind() == std::io::ErrorKind::OutOfMemory => Self::ENOMEM,
            MapError::File(_) => Self::EIO,
            // The guest never sees it.
            MapError::Interrupted => Self::EINTR,
        }
    }
}

macro_rules! errors {
    ($($name:ident)*) => {
        impl Errno {
            $(pub(super) const $name: Self = Self(linux_raw_sys::errno::$name as u16);)*

            /// The name of the error that a system call has returned, if this is one.
            pub(super) fn name_in(result: u64) -> Option<&'static str> {
                $(if result == Self::$name.result() {
                    return Some(stringify!($name));
                })*
                None
            }
        }
    };
}

errors! {
    EPERM
    ENOENT
    ESRCH
    EINTR
    EIO
    ENXIO
    E2BIG
    EBADF
    ECHILD
    EAGAIN
    ENOMEM
    EACCES
    EFAULT
    EBUSY
    EEXIST
    EXDEV
    ENODEV
    ENOTDIR
    EISDIR
    EINVAL
    ENFILE
    EMFILE
    ENOTTY
    EFBIG
    ENOSPC
    ESPIPE
    EROFS
    EMLINK
    EPIPE
    ELOOP
    ERANGE
    ENAMETOOLONG
    ENOLCK
    ENOSYS
    ENOTEMPTY
    EOVERFLOW
    ESTALE
    ENOTSOCK
    ENOPROTOOPT
    EPROTONOSUPPORT
    ESOCKTNOSUPPORT
    EOPNOTSUPP
    EAFNOSUPPORT
    ECONNRESET
    EISCONN
    ETIMEDOUT
}
