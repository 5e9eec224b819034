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
            MapError::ExecutableRefused => Self::EACCES,
            MapError::NoRoom
            | MapError::NotMapped
            | MapError::OutOfFrames { .. }
            | MapError::OutOfTables(_)
            | MapError::TooManyMappings { .. }
            | MapError::TooFragmented { .. } => Self::ENOMEM,
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
    EBADF
    ECHILD
    EAGAIN
    ENOMEM
    EACCES
    EFAULT
    EEXIST
    ENODEV
    ENOTDIR
    EISDIR
    EINVAL
    EMFILE
    ENOTTY
    ENOSPC
    ESPIPE
    EPIPE
    ELOOP
    ERANGE
    ENAMETOOLONG
    ENOSYS
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
