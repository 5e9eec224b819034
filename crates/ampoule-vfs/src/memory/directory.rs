//! The names in a directory in memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::FileType;

use super::Ino;

/// The names of a directory. Each has a cookie, its place in listings, that it keeps for as long as it exists.
#[derive(Clone, Debug)]
pub(crate) struct Directory {
    names: Arc<Names>,
    pub(crate) above: Above,
    pub(crate) role: Role,
}

/// The directory that `..` leads to.
#[derive(Clone, Debug)]
pub(crate) enum Above {
    /// There is none in this file system.
    Nothing,
    /// It has this name in this one.
    Own { parent: Ino, name: Arc<[u8]> },
    /// It is where it is on the host.
    Lower,
}

/// What a directory contains beside its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Ordinary,
    /// A directory by the number of the process, which is this one.
    Processes(Ino),
    /// The numbers of open files.
    Descriptors,
}

/// What a name leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Child {
    Own(Ino),
    /// What has this name in the host's directory.
    Lower {
        inode: u64,
        file_type: FileType,
    },
}

#[derive(Clone, Debug)]
struct Names {
    by_name: BTreeMap<Arc<[u8]>, (u64, Child)>,
    by_cookie: BTreeMap<u64, Arc<[u8]>>,
    next_cookie: u64,
}

impl Directory {
    pub(crate) fn new(above: Above, role: Role) -> Self {
        let names = Names { by_name: BTreeMap::new(), by_cookie: BTreeMap::new(), next_cookie: FIRST_COOKIE };
        Self { names: Arc::new(names), above, role }
    }

    /// A directory with these names, each with its cookie, in ascending order; `None` where that is not so, or `next` is not
    /// behind them.
    pub(crate) fn of_names<'a>(
        above: Above,
        given: impl Iterator<Item = (u64, &'a [u8], Child)>,
        next: u64,
    ) -> Option<Self> {
        let mut names = Names { by_name: BTreeMap::new(), by_cookie: BTreeMap::new(), next_cookie: FIRST_COOKIE };
        for (cookie, name, child) in given {
            let name = Arc::<[u8]>::from(name);
            if cookie < names.next_cookie || cookie == u64::MAX {
                return None;
            }
            names.next_cookie = cookie + 1;
            names.by_cookie.insert(cookie, name.clone());
            names.by_name.insert(name, (cookie, child));
        }
        let is_behind = (names.next_cookie..u64::MAX / 2).contains(&next);
        names.next_cookie = next;
        is_behind.then(|| Self { names: Arc::new(names), above, role: Role::Ordinary })
    }

    /// The cookie that the next name gets.
    pub(crate) fn next_cookie(&self) -> u64 {
        self.names.next_cookie
    }

    pub(crate) fn get(&self, name: &[u8]) -> Option<Child> {
        self.names.by_name.get(name).map(|(_, child)| *child)
    }

    /// Adds a name, or changes what it leads to. Returns what that was before.
    pub(crate) fn insert(&mut self, name: &[u8], child: Child) -> Option<Child> {
        let names = Arc::make_mut(&mut self.names);
        if let Some((_, before)) = names.by_name.get_mut(name) {
            return Some(std::mem::replace(before, child));
        }
        let (name, cookie) = (Arc::<[u8]>::from(name), names.next_cookie);
        names.by_cookie.insert(cookie, name.clone());
        names.by_name.insert(name, (cookie, child));
        names.next_cookie += 1;
        None
    }

    pub(crate) fn remove(&mut self, name: &[u8]) -> Option<Child> {
        self.names.by_name.get(name)?;
        let names = Arc::make_mut(&mut self.names);
        let (cookie, child) = names.by_name.remove(name)?;
        names.by_cookie.remove(&cookie);
        Some(child)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.names.by_name.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.names.by_name.len()
    }

    /// The names from a cookie on, each with its own.
    pub(crate) fn names_from(&self, cookie: u64) -> impl Iterator<Item = (u64, &[u8], Child)> {
        self.names.by_cookie.range(cookie..).filter_map(|(cookie, name)| {
            let (_, child) = self.names.by_name.get(name)?;
            Some((*cookie, &**name, *child))
        })
    }
}

/// The cookie of the first name. Those before it are of `.` and `..`.
pub(crate) const FIRST_COOKIE: u64 = 2;
