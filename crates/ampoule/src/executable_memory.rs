//! Whether a guest may make code.

use std::fmt;
use std::str::FromStr;

/// Whether a guest may make code at run time, and how.
///
/// Code that a guest makes has no more rights than the code that it came with. Who refuses it protects the guest from itself: it
/// is harder to take over where its data cannot become code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ExecutableMemory {
    /// It makes none: it executes its image or program, and files that it can only read, or that lie below
    /// [`Files::root`](crate::Files::root) and it has not changed. For everything else `mmap` and `mprotect` fail with `EACCES`.
    Refused,
    /// It makes code in memory that is never writable and executable at once in one mapping (W^X): it changes the protection of
    /// what it has written, maps a file twice, once to write it and once to execute it, and executes files that it could have
    /// changed. `mmap` and `mprotect` that ask for both at once fail with `EACCES`.
    WriteXorExecute,
    /// As on Linux: a mapping may be writable and executable at once.
    Unrestricted,
}

impl ExecutableMemory {
    /// All kinds that there are, from the strictest on.
    pub const ALL: [Self; 3] = [Self::Refused, Self::WriteXorExecute, Self::Unrestricted];

    /// The name of the kind, as its [`FromStr`] takes it: `refused`, `write-xor-execute` or `unrestricted`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::WriteXorExecute => "write-xor-execute",
            Self::Unrestricted => "unrestricted",
        }
    }
}

/// There is no kind of executable memory with this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("executable memory is {}, not `{name}`", ExecutableMemory::names())]
pub struct UnknownExecutableMemory {
    /// What was given.
    pub name: String,
}

impl ExecutableMemory {
    fn names() -> String {
        let [refused, apart, unrestricted] = Self::ALL.map(Self::name);
        format!("`{refused}`, `{apart}` or `{unrestricted}`")
    }
}

impl fmt::Display for ExecutableMemory {
    /// The [name](Self::name).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for ExecutableMemory {
    type Err = UnknownExecutableMemory;

    fn from_str(name: &str) -> Result<Self, UnknownExecutableMemory> {
        let kind = Self::ALL.into_iter().find(|kind| kind.name() == name);
        kind.ok_or_else(|| UnknownExecutableMemory { name: name.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_found_by_its_name() {
        for kind in ExecutableMemory::ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        assert_eq!(
            "true".parse::<ExecutableMemory>().unwrap_err().to_string(),
            "executable memory is `refused`, `write-xor-execute` or `unrestricted`, not `true`"
        );
    }
}
