//! The files in `/dev/ampoule`: memory that the application has mapped for the guest, by the names that it has given it.
//!
//! The directory is there as long as there is a file in it. What they hold is up to the caller ([`Special::Mapping`]).

use crate::builder::{directory, of_root};
use crate::memory::{Above, Body, Child, Directory, Ino, Memory};
use crate::mount::{MountId, MountKind};
use crate::special::{Mapping, Special};
use crate::vfs::{Node, Vfs};
use crate::{Errno, NAME_MAX, Quota};

impl Vfs {
    /// Where files that stand for memory of the application's lie.
    pub const MAPPINGS: &str = "/dev/ampoule";

    /// Adds a file in [`MAPPINGS`](Self::MAPPINGS) that stands for memory of the application's. It belongs to root, and nobody
    /// can remove it but [`remove_mapping`](Self::remove_mapping).
    ///
    /// # Errors
    ///
    /// `EINVAL` for what is no name, `ENAMETOOLONG`, `EEXIST` where one is called so, and `ENOENT` where there is no `/dev`;
    /// nothing has changed then.
    pub fn add_mapping(&mut self, name: &[u8], mapping: Mapping) -> Result<(), Errno> {
        if name.is_empty() || name == b"." || name == b".." || name.contains(&b'/') || name.contains(&0) {
            return Err(Errno::EINVAL);
        }
        if name.len() > NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        let (mount, devices) = self.devices().ok_or(Errno::ENOENT)?;
        let memory = self.memory_mut(mount);
        if let Some(names) = mappings(memory, devices)
            && memory.directory(names)?.get(name).is_some()
        {
            return Err(Errno::EEXIST);
        }
        // The guest adds nothing here, so that nothing else needs the quota.
        memory.set_quota(Quota { bytes: 0, inodes: 2 });
        let names = match mappings(memory, devices) {
            Some(names) => names,
            None => {
                let above = Above::Own { parent: devices, name: DIRECTORY.into() };
                let added = memory.add(of_root(directory(above), 0o755, 2))?;
                memory.set_name(devices, DIRECTORY, Child::Own(added))?;
                memory.get_mut(devices)?.links += 1;
                added
            }
        };
        let special = Special::Mapping(mapping);
        let file = memory.add(of_root(Body::Special(special), special.permissions(), 1))?;
        memory.set_name(names, name, Child::Own(file))?;
        memory.set_quota(Quota { bytes: 0, inodes: 0 });
        Ok(())
    }

    /// Removes such a file, if there is one. Who has it open finds it empty.
    pub fn remove_mapping(&mut self, name: &[u8]) {
        let Some((mount, devices)) = self.devices() else { return };
        let memory = self.memory_mut(mount);
        let Some(names) = mappings(memory, devices) else { return };
        let found = memory.directory(names).ok().and_then(|directory| directory.get(name));
        let Some(Child::Own(file)) = found else { return };
        if let Ok(inode) = memory.get_mut(file)
            && let Body::Special(Special::Mapping(mapping)) = &mut inode.body
        {
            (mapping.len, inode.links) = (0, 0);
        }
        remove(memory, (names, name), file);
        if memory.directory(names).is_ok_and(Directory::is_empty) {
            if let Ok(directory) = memory.get_mut(names) {
                directory.links = 0;
            }
            if let Ok(directory) = memory.get_mut(devices) {
                directory.links -= 1;
            }
            remove(memory, (devices, DIRECTORY), names);
        }
        memory.set_quota(Quota { bytes: 0, inodes: 0 });
    }

    /// The file system of `/dev`, and its root.
    fn devices(&self) -> Option<(MountId, Ino)> {
        let found = self.mounts.iter().position(|mount| mount.kind == MountKind::Devices)?;
        match self.mounts[found].root {
            Node::Memory(root) => Some((MountId(found), root)),
            _ => None,
        }
    }
}

/// The directory of the files, if there are any.
fn mappings(memory: &Memory, devices: Ino) -> Option<Ino> {
    match memory.directory(devices).ok()?.get(DIRECTORY)? {
        Child::Own(ino) => Some(ino),
        Child::Lower { .. } => None,
    }
}

/// Removes a name of something that has no links any more.
fn remove(memory: &mut Memory, (directory, name): (Ino, &[u8]), ino: Ino) {
    if memory.remove_name(directory, name).is_ok() {
        memory.remove_if_unused(ino);
    }
}

/// The name of the directory in `/dev`.
const DIRECTORY: &[u8] = b"ampoule";
