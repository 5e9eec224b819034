//! What a tree holds in memory, as records that outlive the process, and back.
//!
//! What the host has is not among them: it is granted again when a tree is built, and what the records hold is then put where
//! it was. Whoever has written them is not trusted: a tree is made only of records that hold together.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::memory::{Above, Body, Child, Contents, Directory, Ino, Inode, Memory, ROOT, Role};
use crate::mount::{Mount, MountId, MountKind};
use crate::open::Access;
use crate::vfs::{Location, Node, Vfs};
use crate::{Errno, FILE_SIZE_MAX, File, NAME_MAX, PATH_MAX, Timestamp};

/// What a tree holds in memory: the file systems in which anything is that was not there at first.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct StoredFiles {
    systems: Vec<StoredSystem>,
}

/// A file system in memory.
#[derive(Debug, Serialize, Deserialize)]
struct StoredSystem {
    /// Where it is mounted; nowhere for files without a name.
    path: Box<[u8]>,
    /// The number that the next inode gets.
    next: u64,
    inodes: Vec<(u64, StoredInode)>,
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredInode {
    body: StoredBody,
    permissions: u32,
    owner: (u32, u32),
    links: u32,
    /// Of the last access, modification and change, and of the beginning: seconds and nanoseconds.
    times: [(i64, u32); 3],
    created: Option<(i64, u32)>,
    is_linkable: bool,
    /// The directory and the name that it was moved to last, unless it is a directory.
    moved_to: Option<(u64, Box<[u8]>)>,
}

#[derive(Debug, Serialize, Deserialize)]
enum StoredBody {
    /// The length, and the parts that are no holes, by where they begin.
    Regular(u64, Vec<(u64, Box<[u8]>)>),
    /// The names, each with its place in listings and what it leads to, and the place that the next one gets.
    Directory(Vec<(u64, Box<[u8]>, u64)>, u64),
    Symlink(Box<[u8]>),
    Fifo,
    Socket,
}

/// Where a file is that is open and in memory.
#[derive(Debug, Serialize, Deserialize)]
pub struct StoredPlace {
    path: Box<[u8]>,
    inode: u64,
    /// The directory and the name that it was found by, where these are in the same file system.
    name: Option<(u64, Box<[u8]>)>,
    /// Whether it was opened for reading, for writing, and only as a place.
    access: (bool, bool, bool),
}

/// Why what a tree holds in memory cannot be stored.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum StoreFilesError {
    /// Files of the host have been changed in memory.
    #[error("it has changed files of the host's below `{}`, in memory", place.display())]
    Overlay {
        /// Where they are.
        place: PathBuf,
    },
    /// Something is mounted within memory that has changed.
    #[error("it has changed `{}`, in which something else is mounted", place.display())]
    Mounted {
        /// Where that is.
        place: PathBuf,
    },
}

/// Why stored files cannot be put into a tree.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RestoreFilesError {
    /// The tree has no memory there, or not enough.
    #[error("it had files in memory at `{}`, where it has too little of it now", place.display())]
    NoRoom {
        /// Where they were.
        place: PathBuf,
    },
    /// The records contradict each other.
    #[error("its files in memory are impossible: {problem}")]
    Impossible {
        /// What is wrong.
        problem: &'static str,
    },
}

impl Vfs {
    /// What the tree holds in memory.
    ///
    /// # Errors
    ///
    /// A [`StoreFilesError`].
    pub fn store(&self) -> Result<StoredFiles, StoreFilesError> {
        let mut systems = Vec::new();
        for (mount, memory) in self.mounts.iter().zip(&self.memories).filter(|(_, memory)| memory.has_changed()) {
            let place = || PathBuf::from(OsStr::from_bytes(&mount.path));
            match mount.kind {
                // Only the application changes it, by what it maps.
                MountKind::Devices => continue,
                MountKind::Memory | MountKind::Anonymous if mount.attached.is_empty() => {}
                MountKind::Overlay => return Err(StoreFilesError::Overlay { place: place() }),
                _ => return Err(StoreFilesError::Mounted { place: place() }),
            }
            let inode = |(ino, inode): (Ino, &Inode)| Some((ino, StoredInode::of(inode)?));
            let inodes: Option<Vec<_>> = memory.iter().map(inode).collect();
            let inodes = inodes.ok_or_else(|| StoreFilesError::Mounted { place: place() })?;
            systems.push(StoredSystem { path: mount.path.clone().into(), next: memory.next_ino(), inodes });
        }
        Ok(StoredFiles { systems })
    }

    /// Where an open file is, if it is in a file system that is [stored](Self::store).
    #[must_use]
    pub fn stored_place(&self, file: &File) -> Option<StoredPlace> {
        let mount = file.location.mount;
        let Node::Memory(inode) = self.node(&file.location) else { return None };
        let is_stored = matches!(self.mount(mount).kind, MountKind::Memory | MountKind::Anonymous);
        if !is_stored || !self.memory(mount).has_changed() {
            return None;
        }
        let name = file.name.as_deref().and_then(|(directory, name)| match directory.node {
            Node::Memory(above) if directory.mount == mount => Some((above, name.as_slice().into())),
            _ => None,
        });
        let Access { read, write, is_place } = file.access;
        Some(StoredPlace { path: self.mount(mount).path.clone().into(), inode, name, access: (read, write, is_place) })
    }

    /// Puts stored files where they were, in a tree that was just built.
    ///
    /// # Errors
    ///
    /// A [`RestoreFilesError`]. What the tree holds is unspecified then.
    pub fn restore(&mut self, stored: &StoredFiles) -> Result<(), RestoreFilesError> {
        for system in &stored.systems {
            let id = self.memory_at(&system.path).ok_or_else(|| system.no_room())?;
            if self.memory(id).has_changed() {
                return Err(impossible("two file systems are in one place"));
            }
            let restored = system.memory(self.memory(id))?;
            *self.memory_mut(id) = restored;
        }
        Ok(())
    }

    /// Opens a file that was open when it was stored.
    ///
    /// # Errors
    ///
    /// `ENOENT` where it is not there, and `ENFILE` where too many files are open.
    pub fn reopen(&mut self, place: &StoredPlace) -> Result<File, Errno> {
        let mount = self.memory_at(&place.path).ok_or(Errno::ENOENT)?;
        self.memory(mount).get(place.inode)?;
        self.check_open_files()?;
        let location = Location { mount, node: Node::Memory(place.inode) };
        let (read, write, is_place) = place.access;
        let opened = self.opened(location, Access { read, write, is_place }, None);
        let name = place
            .name
            .as_ref()
            .map(|(above, name)| Arc::new((Location { mount, node: Node::Memory(*above) }, name.to_vec())));
        Ok(File { name, ..opened })
    }

    /// Whether each file in memory that has no name is open.
    #[must_use]
    pub fn has_no_lost_files(&self) -> bool {
        self.memories.iter().all(Memory::has_no_lost_files)
    }

    /// The memory that is mounted there and nothing in it; that of files without a name for an empty path.
    fn memory_at(&self, path: &[u8]) -> Option<MountId> {
        let is_it = |mount: &Mount| {
            let is_memory = matches!(mount.kind, MountKind::Memory | MountKind::Anonymous);
            is_memory && mount.path == path && mount.attached.is_empty()
        };
        self.mounts.iter().position(is_it).map(MountId)
    }
}

impl StoredInode {
    /// `None` for what no guest can have made.
    fn of(inode: &Inode) -> Option<Self> {
        let time = |at: Timestamp| (at.seconds, at.nanoseconds);
        let body = match &inode.body {
            Body::Regular(contents) => StoredBody::Regular(contents.len, contents.parts()?),
            Body::Directory(directory) if directory.role == Role::Ordinary => {
                let name = |(cookie, name, child): (u64, &[u8], Child)| match child {
                    Child::Own(ino) => Some((cookie, name.into(), ino)),
                    Child::Lower { .. } => None,
                };
                StoredBody::Directory(
                    directory.names_from(0).map(name).collect::<Option<_>>()?,
                    directory.next_cookie(),
                )
            }
            Body::Symlink(target) => StoredBody::Symlink((**target).into()),
            Body::Fifo => StoredBody::Fifo,
            Body::Socket => StoredBody::Socket,
            Body::Directory(_) | Body::Link(_) | Body::Special(_) => return None,
        };
        Some(Self {
            body,
            permissions: inode.permissions,
            owner: (inode.user, inode.group),
            links: inode.links,
            times: [inode.accessed, inode.modified, inode.changed].map(time),
            created: inode.created.map(time),
            is_linkable: inode.is_linkable,
            moved_to: inode.moved_to.as_deref().map(|(directory, name)| (*directory, name.as_slice().into())),
        })
    }
}

impl StoredSystem {
    /// The file system, in the room that `fresh` has.
    fn memory(&self, fresh: &Memory) -> Result<Memory, RestoreFilesError> {
        let named = self.named()?;
        let mut memory = fresh.emptied();
        for (ino, stored) in &self.inodes {
            let StoredInode { body, permissions, owner, links, times, created, is_linkable, moved_to } = stored;
            let mut times = times.iter().copied().chain(*created).map(time);
            let body = match body {
                StoredBody::Regular(len, parts) => {
                    let contents = Contents::of_parts(*len, parts, memory.usage_mut());
                    Body::Regular(contents.map_err(|_| self.no_room())?)
                }
                StoredBody::Directory(names, next) => {
                    let above = match named.get(ino) {
                        Some(Named::Directory { parent, name }) => Above::Own { parent: *parent, name: (*name).into() },
                        _ => Above::Nothing,
                    };
                    let names = names.iter().map(|(cookie, name, child)| (*cookie, &**name, Child::Own(*child)));
                    let directory = Directory::of_names(above, names, *next);
                    Body::Directory(directory.ok_or(impossible("the places of names in a listing are not in order"))?)
                }
                StoredBody::Symlink(target) => Body::Symlink((**target).into()),
                StoredBody::Fifo => Body::Fifo,
                StoredBody::Socket => Body::Socket,
            };
            let mut next_time = || times.next().transpose().map(Option::unwrap_or_default);
            let [accessed, modified, changed] = [next_time()?, next_time()?, next_time()?];
            let created = if created.is_some() { Some(next_time()?) } else { None };
            if *permissions > 0o7777 {
                return Err(impossible("a file has permissions that there are not"));
            }
            let inode = Inode {
                body,
                permissions: *permissions,
                user: owner.0,
                group: owner.1,
                links: *links,
                accessed,
                modified,
                changed,
                created,
                is_linkable: *is_linkable,
                lower: None,
                moved_to: moved_to.as_ref().map(|(directory, name)| Arc::new((*directory, name.to_vec()))),
            };
            memory.put(*ino, inode).map_err(|_| self.no_room())?;
        }
        memory.set_next_ino(self.next);
        Ok(memory)
    }

    /// How each inode is named, checked: every name leads somewhere, a directory has one name and is below the root, and links
    /// are as many as names.
    fn named(&self) -> Result<BTreeMap<Ino, Named<'_>>, RestoreFilesError> {
        let inodes: BTreeMap<Ino, &StoredInode> = self.inodes.iter().map(|(ino, inode)| (*ino, inode)).collect();
        let is_sound =
            inodes.len() == self.inodes.len() && inodes.last_key_value().is_none_or(|(last, _)| *last < self.next);
        check(is_sound && self.next < u64::MAX / 2, "two inodes have one number, or one that is still to be given")?;
        let mut named: BTreeMap<Ino, Named<'_>> = BTreeMap::new();
        for (parent, stored) in &inodes {
            let StoredBody::Directory(names, _) = &stored.body else { continue };
            let mut seen = BTreeSet::new();
            for (_, name, child) in names {
                let is_name = !name.is_empty() && name.len() <= NAME_MAX && !name.contains(&b'/') && !name.contains(&0);
                check(is_name && &**name != b"." && &**name != b".." && seen.insert(name), "a name is none")?;
                let below = inodes.get(child).ok_or(impossible("a name leads nowhere"))?;
                match (&below.body, named.get_mut(child)) {
                    (StoredBody::Directory(..), None) => {
                        named.insert(*child, Named::Directory { parent: *parent, name });
                    }
                    (StoredBody::Directory(..), Some(_)) => return Err(impossible("a directory has two names")),
                    (_, Some(Named::Links(links))) => *links += 1,
                    (_, _) => {
                        named.insert(*child, Named::Links(1));
                    }
                }
            }
        }
        self.check_links(&inodes, &named)?;
        Ok(named)
    }

    fn check_links(
        &self,
        inodes: &BTreeMap<Ino, &StoredInode>,
        named: &BTreeMap<Ino, Named<'_>>,
    ) -> Result<(), RestoreFilesError> {
        let has_root = matches!(inodes.get(&ROOT).map(|root| &root.body), Some(StoredBody::Directory(..)));
        check(has_root, "a file system has no root")?;
        check(!named.contains_key(&ROOT), "the root has a name")?;
        for (ino, stored) in inodes {
            let expected = match (&stored.body, named.get(ino)) {
                (StoredBody::Directory(names, _), found) => {
                    check(found.is_some() || *ino == ROOT, "a directory is nowhere")?;
                    let is_directory = |child: &Ino| {
                        matches!(inodes.get(child).map(|child| &child.body), Some(StoredBody::Directory(..)))
                    };
                    // Its name, its own entry, and those of the directories in it.
                    2 + names.iter().filter(|(_, _, child)| is_directory(child)).count() as u32
                }
                (StoredBody::Regular(len, parts), found) => {
                    let mut end = 0;
                    for (start, bytes) in parts {
                        let behind =
                            start.checked_add(bytes.len() as u64).filter(|behind| *start >= end && behind <= len);
                        end = behind.ok_or(impossible("the parts of a file are not in order"))?;
                    }
                    check(*len <= FILE_SIZE_MAX, "a file is too long")?;
                    found.map_or(0, Named::links)
                }
                (StoredBody::Symlink(target), found) => {
                    check(!target.is_empty() && target.len() <= PATH_MAX, "a link leads nowhere")?;
                    found.map_or(0, Named::links)
                }
                (_, found) => found.map_or(0, Named::links),
            };
            check(stored.links == expected, "a file has other names than it says")?;
        }
        // Every directory that the root does not lead to is in itself.
        let (mut reached, mut rest) = (0, vec![ROOT]);
        while let Some(directory) = rest.pop() {
            let Some(StoredBody::Directory(names, _)) = inodes.get(&directory).map(|inode| &inode.body) else {
                continue;
            };
            reached += 1;
            rest.extend(names.iter().map(|(_, _, child)| *child));
        }
        let directories = inodes.values().filter(|inode| matches!(inode.body, StoredBody::Directory(..))).count();
        check(reached == directories, "a directory is in itself")
    }

    fn no_room(&self) -> RestoreFilesError {
        RestoreFilesError::NoRoom { place: PathBuf::from(OsStr::from_bytes(&self.path)) }
    }
}

/// By what an inode is found.
enum Named<'a> {
    Directory {
        parent: Ino,
        name: &'a [u8],
    },
    /// So many names.
    Links(u32),
}

impl Named<'_> {
    fn links(&self) -> u32 {
        match self {
            Self::Links(links) => *links,
            Self::Directory { .. } => 0,
        }
    }
}

fn time((seconds, nanoseconds): (i64, u32)) -> Result<Timestamp, RestoreFilesError> {
    check(nanoseconds < 1_000_000_000, "a time is none")?;
    Ok(Timestamp { seconds, nanoseconds })
}

fn check(holds: bool, problem: &'static str) -> Result<(), RestoreFilesError> {
    if holds { Ok(()) } else { Err(impossible(problem)) }
}

fn impossible(problem: &'static str) -> RestoreFilesError {
    RestoreFilesError::Impossible { problem }
}
