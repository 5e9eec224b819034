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
            // The guest does not get to see it.
            MapError::Interrupted => Self::EINTR,
        }
    }
}

/// Numbers and names of Linux's `include/uapi/asm-generic/errno-base.h` and `errno.h`.
macro_rules! errors {
    ($($name:ident = $number:literal)*) => {
        impl Errno {
            $(pub(super) const $name: Self = Self($number);)*
        }
    };
}

errors! {
    EPERM = 1
    ENOENT = 2
    ESRCH = 3
    EINTR = 4
    EIO = 5
    EBADF = 9
    ECHILD = 10
    EAGAIN = 11
    ENOMEM = 12
    EACCES = 13
    EFAULT = 14
    EEXIST = 17
    ENODEV = 19
    ENOTDIR = 20
    EISDIR = 21
    EINVAL = 22
    EMFILE = 24
    ENOTTY = 25
    ENOSPC = 28
    ESPIPE = 29
    ERANGE = 34
    ENAMETOOLONG = 36
    ENOSYS = 38
    EOPNOTSUPP = 95
    ETIMEDOUT = 110
}
