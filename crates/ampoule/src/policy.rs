//! Which system calls a guest has.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// The groups of system calls that a guest has, beyond those without which no program runs.
///
/// Nothing that a guest can call reaches the host by itself: what a policy leaves out is what a guest is known not to need. A
/// call of a group that is left out fails as the group says, and is [counted](crate::ProgramOutput::refused).
///
/// ```
/// use ampoule::{CallGroup, Policy};
///
/// let pure = Policy::all().without(CallGroup::Files).without(CallGroup::Random);
/// assert!(pure.grants(CallGroup::Memory) && !pure.grants(CallGroup::Files));
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// A bit for each group.
    granted: u8,
}

/// System calls that serve one purpose. `docs/personality.md` lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallGroup {
    /// More memory than the program has when it starts. Without it there is none: `ENOMEM`.
    Memory,
    /// Files by their paths, and what only files can do. Without it: `EACCES`.
    Files,
    /// The time, by system calls and without them. Without it: `EPERM`.
    Time,
    /// Random bytes. Without it: `ENOSYS`, which C libraries take for an older Linux.
    Random,
    /// Signals that the program sends itself, now or by a timer. Without it: `EPERM`.
    Signals,
    /// Pipes, and pairs of sockets. Without it there is no descriptor left: `EMFILE`.
    Pipes,
}

/// A system call that a guest has made and does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedCall {
    /// Its number in Linux on this architecture. All numbers beyond Linux's are counted together.
    pub number: u64,
    /// Its name, where Linux has such a call.
    pub name: Option<&'static str>,
    /// What it is for, as far as no sandbox has that, or only some: `threads or processes`, `network`, the name of a
    /// [`CallGroup`].
    pub needs: Option<&'static str>,
    /// How often it was made.
    pub count: u32,
    /// How often of these no program misses anything: where a C library looks for the daemon that caches names (`nscd`), and does
    /// without it.
    pub harmless: u32,
}

/// A text that is not the name of a [`CallGroup`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("there is no group of system calls called `{name}`; there are {}", CallGroup::names())]
pub struct UnknownCallGroup {
    /// The text.
    pub name: String,
}

impl Policy {
    /// Every group.
    pub fn all() -> Self {
        Self { granted: u8::MAX }
    }

    /// Only the calls that every program needs.
    pub fn none() -> Self {
        Self { granted: 0 }
    }

    /// The same with this group.
    #[must_use]
    pub fn with(self, group: CallGroup) -> Self {
        Self { granted: self.granted | group.bit() }
    }

    /// The same without this group.
    #[must_use]
    pub fn without(self, group: CallGroup) -> Self {
        Self { granted: self.granted & !group.bit() }
    }

    /// Whether a group is among them.
    pub fn grants(self, group: CallGroup) -> bool {
        self.granted & group.bit() != 0
    }
}

impl Policy {
    /// The groups as bits, in the order of [`CallGroup::ALL`], for a stored snapshot.
    pub(crate) fn bits(self) -> u8 {
        self.granted
    }

    /// The same again.
    pub(crate) fn of_bits(granted: u8) -> Self {
        Self { granted }
    }
}

impl Default for Policy {
    /// [`Policy::all`].
    fn default() -> Self {
        Self::all()
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(CallGroup::ALL.into_iter().filter(|group| self.grants(*group))).finish()
    }
}

impl CallGroup {
    /// All groups that there are.
    pub const ALL: [Self; 6] = [Self::Memory, Self::Files, Self::Time, Self::Random, Self::Signals, Self::Pipes];

    /// The name of the group, as its [`FromStr`] takes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Files => "files",
            Self::Time => "time",
            Self::Random => "random",
            Self::Signals => "signals",
            Self::Pipes => "pipes",
        }
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }

    fn names() -> String {
        Self::ALL.map(|group| format!("`{}`", group.name())).join(", ")
    }
}

impl fmt::Display for RefusedCall {
    /// `clone3 (threads or processes)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name {
            Some(name) => f.write_str(name)?,
            None => write!(f, "system call {}", self.number)?,
        }
        match self.needs {
            Some(needs) => write!(f, " ({needs})"),
            None => Ok(()),
        }
    }
}

impl FromStr for CallGroup {
    type Err = UnknownCallGroup;

    fn from_str(name: &str) -> Result<Self, UnknownCallGroup> {
        let group = Self::ALL.into_iter().find(|group| group.name() == name);
        group.ok_or_else(|| UnknownCallGroup { name: name.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_the_groups_that_it_was_given() {
        for group in CallGroup::ALL {
            assert!(Policy::all().grants(group) && !Policy::none().grants(group));
            let others = Policy::all().without(group);
            assert!(CallGroup::ALL.into_iter().all(|other| others.grants(other) != (other == group)));
            assert_eq!(others.with(group).without(group), others);
            assert_eq!(group.name().parse(), Ok(group));
        }
        assert_eq!(format!("{:?}", Policy::none().with(CallGroup::Time)), "{Time}");
        assert_eq!(
            "network".parse::<CallGroup>().unwrap_err().to_string(),
            "there is no group of system calls called `network`; there are `memory`, `files`, `time`, `random`, `signals`, \
             `pipes`"
        );
    }
}
