//! Paths, walked a name at a time.
//!
//! A step looks for one name in a held directory; it never depends on a path of the host. What the walk follows are the
//! sandbox's own links, within its own tree.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use crate::host::{self, HostNode, join, trail_or_dot};
use crate::memory::{Above, Body, Child, Inode, Role};
use crate::mount::{Attachment, MountId, MountKind};
use crate::process::{Context, Descriptor};
use crate::special::Link;
use crate::vfs::{EXECUTE, Location, Node, Vfs};
use crate::{Errno, FileType, NAME_MAX, PATH_MAX};

/// Whether a symbolic link at the end of a path stands for what it leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    /// It does.
    Always,
    /// It stands for itself (`AT_SYMLINK_NOFOLLOW`), unless a slash follows it.
    Never,
}

/// Where a path has led.
#[derive(Clone, Debug)]
pub(crate) struct Walked {
    /// The directory of the last name. Where there is none, it is the file itself.
    pub(crate) directory: Location,
    pub(crate) last: Last,
    /// Whether a slash follows the last name.
    pub(crate) has_slash: bool,
    pub(crate) found: Option<Location>,
}

/// The last name of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Last {
    Name(Arc<[u8]>),
    Dot,
    DotDot,
    /// The path was `/`, or ended in a link of `/proc`.
    Nothing,
}

/// What happens at the end of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AtEnd {
    /// A link is followed.
    follows: bool,
    /// A link is followed that a slash is behind.
    follows_before_slash: bool,
    /// A slash behind the last name is an error, since a file is about to be created there.
    refuses_slash: bool,
    /// The directory of the last name is wanted.
    wants_directory: bool,
}

impl AtEnd {
    pub(crate) const FOLLOW: Self =
        Self { follows: true, follows_before_slash: true, refuses_slash: false, wants_directory: true };
    pub(crate) const KEEP: Self = Self { follows: false, ..Self::FOLLOW };
    /// The name itself is about to be created, moved or removed.
    pub(crate) const NAME: Self = Self { follows_before_slash: false, ..Self::KEEP };

    pub(crate) const fn creating(self) -> Self {
        Self { refuses_slash: true, ..self }
    }

    /// For those who want only the file.
    pub(crate) const fn alone(self) -> Self {
        Self { wants_directory: false, ..self }
    }
}

/// Where a path may lead (`openat2`): each is a condition of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Resolve {
    /// Nowhere but beneath the directory that it begins in (`RESOLVE_BENEATH`); otherwise `EXDEV`.
    pub beneath: bool,
    /// The directory that it begins in is the root, of `/` and of `..` as well (`RESOLVE_IN_ROOT`).
    pub in_root: bool,
    /// Over no symbolic link (`RESOLVE_NO_SYMLINKS`); otherwise `ELOOP`.
    pub no_symlinks: bool,
    /// Over no link of `/proc` that is no path (`RESOLVE_NO_MAGICLINKS`); otherwise `ELOOP`.
    pub no_magic_links: bool,
    /// Into no other mount (`RESOLVE_NO_XDEV`); otherwise `EXDEV`.
    pub no_other_mounts: bool,
}

impl Vfs {
    /// Finds what a path leads to. A relative one starts at `base`.
    ///
    /// # Errors
    ///
    /// `ENOENT` where nothing is there, also for an empty path, `ENOTDIR` where it goes on behind something else than a
    /// directory, `EACCES` where the guest may not search one, `ELOOP` after 40 symbolic links, `ENAMETOOLONG`, and what the
    /// host says.
    pub fn resolve(
        &self,
        context: &Context<'_>,
        base: &Location,
        path: &[u8],
        follow: Follow,
    ) -> Result<Location, Errno> {
        let at_end = if follow == Follow::Always { AtEnd::FOLLOW } else { AtEnd::KEEP };
        let walked = self.walk(context, base, path, at_end.alone())?;
        let found = walked.found.ok_or(Errno::ENOENT)?;
        if walked.has_slash && self.file_type(&found)? != FileType::Directory {
            return Err(Errno::ENOTDIR);
        }
        Ok(found)
    }

    pub(crate) fn walk(
        &self,
        context: &Context<'_>,
        base: &Location,
        path: &[u8],
        at_end: AtEnd,
    ) -> Result<Walked, Errno> {
        self.walk_within(context, base, path, at_end, Resolve::default())
    }

    /// The same for a path that may not lead everywhere.
    pub(crate) fn walk_within(
        &self,
        context: &Context<'_>,
        base: &Location,
        path: &[u8],
        at_end: AtEnd,
        resolve: Resolve,
    ) -> Result<Walked, Errno> {
        if path.is_empty() {
            return Err(Errno::ENOENT);
        }
        if path.len() > PATH_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        let mut current = match path[0] {
            b'/' if resolve.beneath => return Err(Errno::EXDEV),
            b'/' if !resolve.in_root => self.root(),
            _ => base.clone(),
        };
        // The directories that the walk has come through, up to the current one.
        let mut above: Vec<Location> = Vec::new();
        let mut path = path.to_vec();
        // How much of the path lies behind. What a link leads to takes the place of that.
        let mut at = 0;
        let mut links = 0;
        loop {
            context.check_interrupted()?;
            at += slashes(&path[at..]);
            let rest = &path[at..];
            if rest.is_empty() {
                let found = Some(current.clone());
                return Ok(Walked { directory: current, last: Last::Nothing, has_slash: false, found });
            }
            if let Some((found, len)) = self.find_ahead(&current, rest, at_end)? {
                at += len;
                if is_all_slashes(&path[at..]) && !at_end.wants_directory {
                    let has_slash = at < path.len();
                    return Ok(Walked { directory: current, last: Last::Nothing, has_slash, found: Some(found) });
                }
                current = found;
                above.clear();
                continue;
            }
            let end = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
            let name: Arc<[u8]> = rest[..end].into();
            at += end;
            let has_slash = at < path.len();
            let is_last = is_all_slashes(&path[at..]);

            let status = self.status(&current)?;
            if status.file_type != FileType::Directory {
                return Err(Errno::ENOTDIR);
            }
            // Directories of the host that are only read are searched under the host's user.
            if !self.is_lower(&current) {
                status.check(EXECUTE)?;
            }
            let (found, last) = match &*name {
                b"." => (Some(current.clone()), Last::Dot),
                b".." if resolve.beneath && self.is_same(&current, base) => return Err(Errno::EXDEV),
                b".." if resolve.in_root && self.is_same(&current, base) => (Some(current.clone()), Last::DotDot),
                b".." => match above.last() {
                    Some(held) => (Some(held.clone()), Last::DotDot),
                    None => (Some(self.above(&current)?), Last::DotDot),
                },
                _ if is_last && has_slash && at_end.refuses_slash => return Err(Errno::EISDIR),
                name if name.len() > NAME_MAX => return Err(Errno::ENAMETOOLONG),
                _ => (self.look_up(context, &current, &name)?, Last::Name(name)),
            };
            let follows = !is_last || at_end.follows || at_end.follows_before_slash && has_slash;
            let Some(found) = found else {
                if is_last {
                    return Ok(Walked { directory: current, last, has_slash, found: None });
                }
                return Err(Errno::ENOENT);
            };
            if resolve.no_other_mounts && found.mount != current.mount {
                return Err(Errno::EXDEV);
            }
            if follows && self.file_type_of(&found)? == FileType::Symlink {
                if resolve.no_symlinks {
                    return Err(Errno::ELOOP);
                }
                links += 1;
                if links > LINKS_MAX {
                    return Err(Errno::ELOOP);
                }
                match self.target(context, &found)? {
                    Target::Path(target) => {
                        if target.is_empty() {
                            return Err(Errno::ENOENT);
                        }
                        if target[0] == b'/' {
                            let root = if resolve.in_root { base.clone() } else { self.root() };
                            if resolve.beneath || resolve.no_other_mounts && root.mount != current.mount {
                                return Err(Errno::EXDEV);
                            }
                            current = root;
                            above.clear();
                        }
                        path.splice(..at, target);
                        at = 0;
                    }
                    Target::Location(_) if resolve.no_magic_links => return Err(Errno::ELOOP),
                    Target::Location(_) if resolve.beneath || resolve.in_root => return Err(Errno::EXDEV),
                    Target::Location(location) if resolve.no_other_mounts && location.mount != current.mount => {
                        return Err(Errno::EXDEV);
                    }
                    Target::Location(location) if is_last => {
                        let directory = location.clone();
                        return Ok(Walked { directory, last: Last::Nothing, has_slash, found: Some(location) });
                    }
                    Target::Location(location) => {
                        current = location;
                        above.clear();
                    }
                }
                continue;
            }
            if is_last {
                return Ok(Walked { directory: current, last, has_slash, found: Some(found) });
            }
            match last {
                Last::Name(_) => {
                    // A path cannot make the walk hold many descriptors.
                    if above.len() == HELD_MAX {
                        above.remove(0);
                    }
                    above.push(std::mem::replace(&mut current, found));
                }
                Last::DotDot => {
                    above.pop();
                    current = found;
                }
                Last::Dot | Last::Nothing => {}
            }
        }
    }

    /// What a name in a directory leads to.
    pub(crate) fn look_up(
        &self,
        context: &Context<'_>,
        directory: &Location,
        name: &[u8],
    ) -> Result<Option<Location>, Errno> {
        let mount = directory.mount;
        let node = match self.node(directory) {
            Node::Memory(ino) => {
                let inode = self.memory(mount).get(ino)?;
                let Body::Directory(names) = &inode.body else { return Err(Errno::ENOTDIR) };
                match (names.get(name), names.role) {
                    (Some(Child::Own(ino)), _) => Some(Node::Memory(ino)),
                    (Some(Child::Lower { .. }), _) => {
                        let lower = inode.lower.as_ref().ok_or(Errno::EIO)?;
                        self.find(mount, self.host_root(mount)?, b"", &join(&lower.trail, name))?
                    }
                    (None, Role::Processes(process)) if is_number(name, context.process.id()) => {
                        Some(Node::Memory(process))
                    }
                    (None, Role::Descriptors) => {
                        let number = parse_number(name).filter(|it| context.process.descriptor(*it).is_some());
                        number.map(Node::DescriptorLink)
                    }
                    (None, _) => None,
                }
            }
            Node::Host(node) => self.find(mount, node.fd.as_fd(), &node.trail, name)?,
            Node::DescriptorLink(_) | Node::Descriptor(_) => return Err(Errno::ENOTDIR),
        };
        Ok(node.map(|node| self.enter_mount(Location { mount, node })))
    }

    fn find(
        &self,
        mount: MountId,
        directory: BorrowedFd<'_>,
        above: &[u8],
        path: &[u8],
    ) -> Result<Option<Node>, Errno> {
        match HostNode::find(directory, above, path) {
            Ok(node) => Ok(Some(self.node(&Location { mount, node: Node::Host(Arc::new(node)) }))),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Whether this is a host's file that is not changed on the host.
    fn is_lower(&self, location: &Location) -> bool {
        matches!(self.node(location), Node::Host(_))
            && matches!(self.mount(location.mount).kind, MountKind::HostReadOnly | MountKind::Overlay)
    }

    /// Finds several names at once, where they are all of a host's directory that is only read, and no link is on the way:
    /// what is found, and the length of their path. It is an error only if each name by itself would lead to the same one.
    fn find_ahead(&self, from: &Location, rest: &[u8], at_end: AtEnd) -> Result<Option<(Location, usize)>, Errno> {
        let mount = from.mount;
        if !matches!(self.mount(mount).kind, MountKind::HostReadOnly | MountKind::Overlay) {
            return Ok(None);
        }
        let (node, memory) = (self.node(from), self.memory(mount));
        let first = rest.split(|byte| *byte == b'/').next().unwrap_or_default();
        let (directory, trail) = match &node {
            Node::Host(node) if node.status.file_type == FileType::Directory => (node.fd.as_fd(), &node.trail),
            Node::Memory(ino) => match memory.get(*ino) {
                Ok(Inode { body: Body::Directory(names), lower: Some(lower), .. })
                    if matches!(names.get(first), Some(Child::Lower { .. })) =>
                {
                    // The names are looked for from the root of the mount.
                    (self.host_root(mount)?, &lower.trail)
                }
                _ => return Ok(None),
            },
            _ => return Ok(None),
        };
        let is_host = matches!(node, Node::Host(_));
        // What is mounted in an overlay is mounted on directories that have been replaced.
        if is_host && !self.mount(mount).attached.is_empty() && self.mount(mount).kind == MountKind::HostReadOnly {
            return Ok(None);
        }
        // A longer path is not found at once.
        let bounded = &rest[..rest.len().min(PATH_MAX)];
        let whole = join(trail, bounded);
        let mut ends = Vec::new();
        let mut at = 0;
        for name in bounded.split(|byte| *byte == b'/') {
            let end = at + name.len();
            // After the last name, or between two slashes, there is none.
            let is_plain = !name.is_empty() && name.len() <= NAME_MAX && name != b"." && name != b"..";
            let is_whole = end < bounded.len() || bounded.len() == rest.len();
            if !is_plain || !is_whole || memory.has_replaced_directory(&whole[..whole.len() - (bounded.len() - end)]) {
                break;
            }
            ends.push(end);
            at = end + 1;
        }
        let reaches_end = |end: usize| is_all_slashes(&rest[end..]);
        if at_end.wants_directory && ends.last().is_some_and(|end| reaches_end(*end)) {
            ends.pop();
        }
        // A single name is not worth the trouble.
        while let Some(end) = ends.pop().filter(|_| !ends.is_empty()) {
            let path = &rest[..end];
            let found = match is_host {
                true => HostNode::find(directory, trail, path),
                false => HostNode::find(directory, b"", &join(trail, path)),
            };
            match found.map(|node| Location { mount, node: Node::Host(Arc::new(node)) }) {
                Ok(found) => match self.node(&found) {
                    // Where a link leads depends on the directory that it is in.
                    Node::Host(node) if node.status.file_type != FileType::Symlink => return Ok(Some((found, end))),
                    _ => {}
                },
                Err(errno @ (Errno::ENOENT | Errno::EACCES)) => return Err(errno),
                Err(_) => return Ok(None),
            }
        }
        Ok(None)
    }

    /// The directory that `..` of a directory leads to.
    pub(crate) fn above(&self, directory: &Location) -> Result<Location, Errno> {
        let mount = directory.mount;
        let node = self.node(directory);
        if self.is_mount_root(directory) {
            return Ok(self.mount(mount).above.clone().unwrap_or_else(|| directory.clone()));
        }
        let trail = match &node {
            Node::Memory(ino) => {
                let inode = self.memory(mount).get(*ino)?;
                let Body::Directory(names) = &inode.body else { return Err(Errno::ENOTDIR) };
                match (&names.above, &inode.lower) {
                    (Above::Own { parent, .. }, _) => {
                        self.memory(mount).get(*parent)?;
                        return Ok(Location { mount, node: Node::Memory(*parent) });
                    }
                    (Above::Lower, Some(lower)) => &lower.trail,
                    (Above::Lower, None) | (Above::Nothing, _) => return Ok(directory.clone()),
                }
            }
            Node::Host(node) => &self.current_trail(mount, node),
            Node::DescriptorLink(_) | Node::Descriptor(_) => return Err(Errno::ENOTDIR),
        };
        let above = trail.iter().rposition(|byte| *byte == b'/').map_or(&b""[..], |slash| &trail[..slash]);
        if above.is_empty() {
            return Ok(self.mount_root(mount));
        }
        let node = HostNode::find(self.host_root(mount)?, b"", trail_or_dot(above))?;
        let location = Location { mount, node: Node::Host(Arc::new(node)) };
        Ok(Location { mount, node: self.node(&location) })
    }

    /// Where a host's file is beneath its mount's directory by now.
    pub(crate) fn current_trail(&self, mount: MountId, node: &HostNode) -> Vec<u8> {
        let moved = match self.mount(mount).kind {
            MountKind::HostReadWrite => {
                self.host_root(mount).ok().and_then(|root| host::trail_of(node.fd.as_fd(), root))
            }
            _ => None,
        };
        moved.unwrap_or_else(|| node.trail.clone())
    }

    fn file_type_of(&self, location: &Location) -> Result<FileType, Errno> {
        match location.node {
            Node::Descriptor(_) => Ok(FileType::Fifo),
            _ => self.file_type(location),
        }
    }

    /// Where a symbolic link leads.
    pub(crate) fn target(&self, context: &Context<'_>, link: &Location) -> Result<Target, Errno> {
        let node = self.node(link);
        match self.link_of(link.mount, &node) {
            Some(Link::OwnProcess) => return Ok(Target::Path(own_process(context)?)),
            Some(Link::Root) => return Ok(Target::Location(self.root())),
            Some(Link::Executable) => {
                let file = context.process.executable().ok_or(Errno::ENOENT)?;
                return Ok(Target::Location(file.location().clone()));
            }
            Some(Link::WorkingDirectory) => {
                let file = context.process.directory().ok_or(Errno::ENOENT)?;
                return Ok(Target::Location(file.location().clone()));
            }
            None => {}
        }
        if let Node::DescriptorLink(number) = node {
            return match context.process.descriptor(number).ok_or(Errno::ENOENT)? {
                Descriptor::File(file) => Ok(Target::Location(file.location().clone())),
                Descriptor::Other(_) => {
                    Ok(Target::Location(Location { mount: link.mount, node: Node::Descriptor(number) }))
                }
            };
        }
        self.stored_target(link).map(Target::Path)
    }

    /// Whether something is mounted on a file, or on something in it.
    pub(crate) fn is_mounted_on(&self, location: &Location) -> bool {
        let attached = &self.mount(location.mount).attached;
        match self.node(location) {
            Node::Memory(ino) => attached.contains_key(&Attachment::Memory(ino)),
            Node::Host(node) => attached.keys().any(|attachment| match attachment {
                Attachment::Host(trail) => {
                    trail.strip_prefix(&node.trail[..]).is_some_and(|below| below.is_empty() || below[0] == b'/')
                }
                Attachment::Memory(_) => false,
            }),
            Node::DescriptorLink(_) | Node::Descriptor(_) => false,
        }
    }
}

/// Where a symbolic link leads.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    Path(Vec<u8>),
    Location(Location),
}

pub(crate) fn own_process(context: &Context<'_>) -> Result<Vec<u8>, Errno> {
    match context.process.id() {
        0 => Err(Errno::ENOENT),
        id => Ok(id.to_string().into_bytes()),
    }
}

/// How many slashes a path begins with.
fn slashes(path: &[u8]) -> usize {
    path.iter().position(|byte| *byte != b'/').unwrap_or(path.len())
}

fn is_all_slashes(path: &[u8]) -> bool {
    slashes(path) == path.len()
}

fn is_number(name: &[u8], number: u32) -> bool {
    number != 0 && parse_number(name) == Some(number)
}

/// A number as the names in `/proc` are written: without zeros before it.
fn parse_number(name: &[u8]) -> Option<u32> {
    let is_plain = name == b"0" || !name.starts_with(b"0") && name.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(name).ok().filter(|_| is_plain)?.parse().ok()
}

/// How many directories above the current one a walk remembers. Further ones are found again.
const HELD_MAX: usize = 16;

/// How many symbolic links one path may lead over (`MAXSYMLINKS` of Linux's `include/linux/namei.h`).
const LINKS_MAX: u32 = 40;
