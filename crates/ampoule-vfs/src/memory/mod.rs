//! A file system in memory, with a quota. Its clones share what neither has changed.

mod contents;
mod directory;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::host::HostIdentity;
use crate::sparse::Sparse;
use crate::special::{Link, Special};
use crate::{Errno, FileType, Quota, Timestamp, USER_ID};

pub(crate) use contents::Contents;
pub(crate) use directory::{Above, Child, Directory, FIRST_COOKIE, Role};

/// The number of an inode. None is used again.
pub(crate) type Ino = u64;

/// Inodes by number, and how much of the quota they use.
///
/// An inode exists for as long as it has a link or is open.
#[derive(Clone, Debug)]
pub(crate) struct Memory {
    inodes: Sparse<Arc<Inode>>,
    next: Ino,
    pub(crate) usage: Usage,
    opened: BTreeMap<Ino, u32>,
    /// How often files of the host are open that no inode has replaced.
    opened_lower: BTreeMap<HostIdentity, u32>,
    /// The inodes that have taken the place of the host's.
    replaced: Arc<BTreeMap<HostIdentity, Ino>>,
    /// The paths of those that are directories, beneath the overlay's lower directory.
    replaced_directories: Arc<BTreeSet<Vec<u8>>>,
}

/// What a file system uses, and may use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    pub(crate) quota: Quota,
    pub(crate) bytes: u64,
    pub(crate) inodes: u64,
    /// Names in directories.
    names: u64,
    names_max: u64,
    /// Bytes, inodes and names when the tree was built.
    built: [u64; 3],
}

#[derive(Clone, Debug)]
pub(crate) struct Inode {
    pub(crate) body: Body,
    pub(crate) permissions: u32,
    pub(crate) user: u32,
    pub(crate) group: u32,
    pub(crate) links: u32,
    pub(crate) accessed: Timestamp,
    pub(crate) modified: Timestamp,
    pub(crate) changed: Timestamp,
    pub(crate) created: Option<Timestamp>,
    /// Whether it may get its first name, although it never had one (`O_TMPFILE`).
    pub(crate) is_linkable: bool,
    /// The host's file whose place it has taken.
    pub(crate) lower: Option<Arc<Lower>>,
    /// The directory and the name that it was moved to last, unless it is a directory.
    pub(crate) moved_to: Option<Arc<(Ino, Vec<u8>)>>,
}

/// A host's file below an overlay.
#[derive(Debug)]
pub(crate) struct Lower {
    pub(crate) identity: HostIdentity,
    /// Its path beneath the overlay's lower directory.
    pub(crate) trail: Vec<u8>,
}

#[derive(Clone, Debug)]
pub(crate) enum Body {
    Regular(Contents),
    Directory(Directory),
    Symlink(Arc<[u8]>),
    Link(Link),
    Special(Special),
    Fifo,
    Socket,
}

impl Memory {
    /// A file system whose root belongs to the guest, and whose bounds are applied later, by [`set_quota`](Self::set_quota).
    pub(crate) fn new() -> Self {
        let quota = Quota { bytes: u64::MAX, inodes: u64::MAX };
        let usage = Usage { quota, bytes: 0, inodes: 0, names: 0, names_max: u64::MAX, built: [0; 3] };
        let inodes = Sparse::default();
        Self {
            inodes,
            next: ROOT,
            usage,
            opened: BTreeMap::new(),
            opened_lower: BTreeMap::new(),
            replaced: Arc::default(),
            replaced_directories: Arc::default(),
        }
    }

    /// Bounds what is added from now on to so much beside what is there. There may be as many names as inodes.
    pub(crate) fn set_quota(&mut self, quota: Quota) {
        let Usage { bytes, inodes, names, .. } = self.usage;
        self.usage.quota.bytes = quota.bytes.saturating_add(bytes);
        self.usage.quota.inodes = quota.inodes.saturating_add(inodes);
        self.usage.names_max = quota.inodes.saturating_add(names);
        self.usage.built = [bytes, inodes, names];
    }

    /// Whether it holds anything else than when the tree was built, as far as its size shows.
    pub(crate) fn has_changed(&self) -> bool {
        let Usage { bytes, inodes, names, built, .. } = self.usage;
        [bytes, inodes, names] != built
    }

    /// One without anything in it, with the same room.
    pub(crate) fn emptied(&self) -> Self {
        let usage = Usage { bytes: 0, inodes: 0, names: 0, ..self.usage };
        Self { usage, ..Self::new() }
    }

    /// The account that contents are on.
    pub(crate) fn usage_mut(&mut self) -> &mut Usage {
        &mut self.usage
    }

    /// All inodes, by number.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Ino, &Inode)> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let (ino, inode) = self.inodes.first_from(at)?;
            at = ino + 1;
            Some((ino, &**inode))
        })
    }

    /// Puts an inode where none is, whose contents are on the account already.
    pub(crate) fn put(&mut self, ino: Ino, inode: Inode) -> Result<(), Errno> {
        let names = if let Body::Directory(directory) = &inode.body { directory.len() as u64 } else { 0 };
        if self.usage.inodes >= self.usage.quota.inodes || names > self.usage.names_max - self.usage.names {
            return Err(Errno::ENOSPC);
        }
        if !matches!(inode.body, Body::Regular(_)) {
            self.usage.add_bytes(inode.cost())?;
        }
        self.usage.inodes += 1;
        self.usage.names += names;
        self.inodes.insert(ino, Arc::new(inode));
        Ok(())
    }

    /// The number that the next inode gets.
    pub(crate) fn next_ino(&self) -> Ino {
        self.next
    }

    pub(crate) fn set_next_ino(&mut self, next: Ino) {
        self.next = next;
    }

    /// Whether each inode that has no link is open.
    pub(crate) fn has_no_lost_files(&self) -> bool {
        self.iter().all(|(ino, inode)| inode.links > 0 || self.opened.contains_key(&ino))
    }

    pub(crate) fn get(&self, ino: Ino) -> Result<&Inode, Errno> {
        self.inodes.get(ino).map(|inode| &**inode).ok_or(Errno::ENOENT)
    }

    pub(crate) fn get_mut(&mut self, ino: Ino) -> Result<&mut Inode, Errno> {
        self.inodes.get_mut(ino).map(Arc::make_mut).ok_or(Errno::ENOENT)
    }

    /// An inode and the account that its contents are on.
    pub(crate) fn contents_mut(&mut self, ino: Ino) -> Result<(&mut Contents, &mut Usage), Errno> {
        let inode = self.inodes.get_mut(ino).map(Arc::make_mut).ok_or(Errno::ENOENT)?;
        match &mut inode.body {
            Body::Regular(contents) => Ok((contents, &mut self.usage)),
            Body::Directory(_) => Err(Errno::EISDIR),
            _ => Err(Errno::EINVAL),
        }
    }

    pub(crate) fn directory(&self, ino: Ino) -> Result<&Directory, Errno> {
        match &self.get(ino)?.body {
            Body::Directory(directory) => Ok(directory),
            _ => Err(Errno::ENOTDIR),
        }
    }

    pub(crate) fn directory_mut(&mut self, ino: Ino) -> Result<&mut Directory, Errno> {
        match &mut self.get_mut(ino)?.body {
            Body::Directory(directory) => Ok(directory),
            _ => Err(Errno::ENOTDIR),
        }
    }

    /// Adds an inode, which goes when nobody has it open unless it gets a link.
    pub(crate) fn add(&mut self, inode: Inode) -> Result<Ino, Errno> {
        if self.usage.inodes >= self.usage.quota.inodes {
            return Err(Errno::ENOSPC);
        }
        self.usage.add_bytes(inode.cost())?;
        self.usage.inodes += 1;
        let ino = self.next;
        self.next += 1;
        if let Some(lower) = &inode.lower {
            Arc::make_mut(&mut self.replaced).insert(lower.identity, ino);
            if matches!(inode.body, Body::Directory(_)) {
                Arc::make_mut(&mut self.replaced_directories).insert(lower.trail.clone());
            }
        }
        self.inodes.insert(ino, Arc::new(inode));
        Ok(ino)
    }

    /// The inode that has taken the place of a host's file.
    pub(crate) fn replacement(&self, identity: HostIdentity) -> Option<Ino> {
        self.replaced.get(&identity).copied()
    }

    /// Whether the directory with this path beneath the lower one has been replaced.
    pub(crate) fn has_replaced_directory(&self, trail: &[u8]) -> bool {
        self.replaced_directories.contains(trail)
    }

    /// Adds a name, or changes what it leads to. Links are not counted here.
    pub(crate) fn set_name(&mut self, directory: Ino, name: &[u8], child: Child) -> Result<(), Errno> {
        if !self.has_room_for_name() && self.directory(directory)?.get(name).is_none() {
            return Err(Errno::ENOSPC);
        }
        if self.directory_mut(directory)?.insert(name, child).is_none() {
            self.usage.names += 1;
        }
        if let Child::Own(ino) = child
            && let Body::Directory(moved) = &mut self.get_mut(ino)?.body
        {
            moved.above = Above::Own { parent: directory, name: name.into() };
        }
        Ok(())
    }

    /// Takes note that something that may be open has another name now. A directory knows it anyway.
    pub(crate) fn note_moved(&mut self, ino: Ino, (directory, name): (Ino, &[u8])) -> Result<(), Errno> {
        let inode = self.get_mut(ino)?;
        if !matches!(inode.body, Body::Directory(_)) {
            inode.moved_to = Some(Arc::new((directory, name.to_vec())));
        }
        Ok(())
    }

    pub(crate) fn remove_name(&mut self, directory: Ino, name: &[u8]) -> Result<(), Errno> {
        if self.directory_mut(directory)?.remove(name).is_some() {
            self.usage.names -= 1;
        }
        Ok(())
    }

    /// Whether there is room for one more name.
    pub(crate) fn has_room_for_name(&self) -> bool {
        self.usage.room_for_names() > 0
    }

    pub(crate) fn open(&mut self, ino: Ino) {
        *self.opened.entry(ino).or_default() += 1;
    }

    pub(crate) fn close(&mut self, ino: Ino) {
        if let Some(count) = self.opened.get_mut(&ino) {
            *count -= 1;
            if *count == 0 {
                self.opened.remove(&ino);
                self.remove_if_unused(ino);
            }
        }
    }

    /// Notes that a file of the host is open, which an inode may replace.
    pub(crate) fn open_lower(&mut self, identity: HostIdentity) {
        match self.replacement(identity) {
            Some(ino) => self.open(ino),
            None => *self.opened_lower.entry(identity).or_default() += 1,
        }
    }

    pub(crate) fn close_lower(&mut self, identity: HostIdentity) {
        if let Some(ino) = self.replacement(identity) {
            self.close(ino);
        } else if let Some(count) = self.opened_lower.get_mut(&identity) {
            *count -= 1;
            if *count == 0 {
                self.opened_lower.remove(&identity);
            }
        }
    }

    pub(crate) fn is_open_lower(&self, identity: HostIdentity) -> bool {
        self.opened_lower.contains_key(&identity)
    }

    /// Who has the host's file open has the inode open from now on.
    pub(crate) fn inherit_opened(&mut self, identity: HostIdentity, ino: Ino) {
        if let Some(count) = self.opened_lower.remove(&identity) {
            *self.opened.entry(ino).or_default() += count;
        }
    }

    /// Frees an inode that has no link and is not open.
    pub(crate) fn remove_if_unused(&mut self, ino: Ino) {
        if self.get(ino).is_ok_and(|inode| inode.links == 0)
            && !self.opened.contains_key(&ino)
            && let Some(inode) = self.inodes.remove(ino)
        {
            self.usage.inodes -= 1;
            self.usage.remove_bytes(inode.cost());
            if let Body::Directory(directory) = &inode.body {
                self.usage.names -= directory.len() as u64;
            }
            if let Some(lower) = &inode.lower {
                Arc::make_mut(&mut self.replaced).remove(&lower.identity);
                if matches!(inode.body, Body::Directory(_)) {
                    Arc::make_mut(&mut self.replaced_directories).remove(&lower.trail);
                }
            }
        }
    }
}

impl Inode {
    /// A new file of the guest's.
    pub(crate) fn new(body: Body, permissions: u32, now: Timestamp) -> Self {
        let links = 0;
        Self {
            body,
            permissions,
            user: USER_ID,
            group: USER_ID,
            links,
            accessed: now,
            modified: now,
            changed: now,
            created: Some(now),
            is_linkable: false,
            lower: None,
            moved_to: None,
        }
    }

    /// The contents have changed.
    pub(crate) fn note_write(&mut self, now: Timestamp) {
        (self.modified, self.changed) = (now, now);
        self.drop_privileges();
    }

    /// The names in the directory have changed.
    pub(crate) fn note_names(&mut self, now: Timestamp) {
        (self.modified, self.changed) = (now, now);
    }

    /// Takes away the right to become another user by running the file.
    pub(crate) fn drop_privileges(&mut self) {
        self.permissions &= !SET_USER;
        if self.permissions & GROUP_EXECUTE != 0 {
            self.permissions &= !SET_GROUP;
        }
    }

    pub(crate) fn file_type(&self) -> FileType {
        match &self.body {
            Body::Regular(_) => FileType::Regular,
            Body::Directory(_) => FileType::Directory,
            Body::Symlink(_) | Body::Link(_) => FileType::Symlink,
            Body::Special(special) => special.file_type(),
            Body::Fifo => FileType::Fifo,
            Body::Socket => FileType::Socket,
        }
    }

    /// How many bytes of the quota it takes.
    fn cost(&self) -> u64 {
        match &self.body {
            Body::Regular(contents) => contents.cost(),
            Body::Symlink(target) => target.len() as u64,
            _ => 0,
        }
    }
}

impl Usage {
    /// How many more names there may be.
    pub(crate) fn room_for_names(&self) -> u64 {
        self.names_max.saturating_sub(self.names)
    }

    pub(crate) fn add_bytes(&mut self, bytes: u64) -> Result<(), Errno> {
        match self.bytes.checked_add(bytes) {
            Some(bytes) if bytes <= self.quota.bytes => {
                self.bytes = bytes;
                Ok(())
            }
            _ => Err(Errno::ENOSPC),
        }
    }

    pub(crate) fn check_room(&self, bytes: u64) -> Result<(), Errno> {
        if bytes <= self.quota.bytes.saturating_sub(self.bytes) { Ok(()) } else { Err(Errno::ENOSPC) }
    }

    pub(crate) fn remove_bytes(&mut self, bytes: u64) {
        debug_assert!(bytes <= self.bytes, "what is removed was added before");
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// The inode of the root directory.
pub(crate) const ROOT: Ino = 1;

/// Permission bits (`S_ISUID`, `S_ISGID` and `S_IXGRP`).
const SET_USER: u32 = 0o4000;
pub(crate) const SET_GROUP: u32 = 0o2000;
const GROUP_EXECUTE: u32 = 0o010;
