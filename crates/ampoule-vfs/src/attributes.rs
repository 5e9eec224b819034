//! Metadata of files and of file systems.

use std::os::fd::AsFd;

use linux_raw_sys::general::{PROC_SUPER_MAGIC, TMPFS_MAGIC};
use rustix::fs::{AtFlags, CWD, Mode, Timespec, Timestamps};

use crate::host::{HostNode, HostStatus};
use crate::listing::DESCRIPTOR_INODES;
use crate::memory::{Body, Ino};
use crate::mount::{MountId, MountKind};
use crate::process::Context;
use crate::vfs::{Location, Node, Vfs, WRITE, shown_owner};
use crate::{
    DeviceNumber, Errno, File, FileSystemStatus, FileType, Metadata, NAME_MAX, TimeChange, Timestamp, USER_ID,
};

impl Vfs {
    /// What is known of a file. Of an open one this is `vfs.metadata(file.location())`.
    ///
    /// # Errors
    ///
    /// `ENOENT` where it no longer exists, `ENXIO` for [`Special::Descriptor`](crate::Special::Descriptor), which the caller
    /// knows, and what the host says.
    pub fn metadata(&self, location: &Location) -> Result<Metadata, Errno> {
        let mount = location.mount;
        match self.node(location) {
            Node::Memory(ino) => self.memory_metadata(mount, ino),
            Node::Host(node) => {
                let status = HostStatus::of(node.fd.as_fd())?;
                let (user, group) = shown_owner(status.user, status.group);
                Ok(Metadata {
                    file_type: status.file_type,
                    permissions: status.permissions,
                    device: self.device(mount, status.identity.device),
                    inode: status.identity.inode,
                    links: status.links,
                    user,
                    group,
                    special_device: DeviceNumber::default(),
                    size: status.size,
                    blocks: status.blocks,
                    block_size: BLOCK_SIZE,
                    accessed: status.accessed,
                    modified: status.modified,
                    changed: status.changed,
                    created: status.created,
                    mount: mount.0 as u64,
                    is_mount_root: self.is_mount_root(location),
                })
            }
            Node::DescriptorLink(number) => Ok(Metadata {
                file_type: FileType::Symlink,
                permissions: 0o700,
                device: self.device(mount, 0),
                inode: DESCRIPTOR_INODES + u64::from(number),
                links: 1,
                user: USER_ID,
                group: USER_ID,
                special_device: DeviceNumber::default(),
                size: 64,
                blocks: 0,
                block_size: BLOCK_SIZE,
                accessed: Timestamp::default(),
                modified: Timestamp::default(),
                changed: Timestamp::default(),
                created: None,
                mount: mount.0 as u64,
                is_mount_root: false,
            }),
            Node::Descriptor(_) => Err(Errno::ENXIO),
        }
    }

    /// Whether the guest may do all of this with a file: a sum of 4 to read, 2 to write, 1 to execute or search (`access`).
    ///
    /// # Errors
    ///
    /// `EACCES` where it may not, `EROFS` where nobody may write, and those of [`metadata`](Self::metadata).
    pub fn check_access(&self, location: &Location, wanted: u32) -> Result<(), Errno> {
        if matches!(location.node, Node::Descriptor(_)) {
            return Ok(());
        }
        let status = self.status(location)?;
        if wanted & WRITE != 0
            && self.mount(location.mount).kind.is_read_only()
            && matches!(status.file_type, FileType::Regular | FileType::Directory | FileType::Symlink)
        {
            return Err(Errno::EROFS);
        }
        status.check(wanted)
    }

    /// Sets the permissions of a file (`chmod`). A symbolic link has none.
    ///
    /// # Errors
    ///
    /// `EPERM` where it is not the guest's, or would become a way to be another user on the host, `EOPNOTSUPP` for a
    /// symbolic link, `EROFS`, and what the host says.
    pub fn set_permissions(
        &mut self,
        context: &Context<'_>,
        location: &Location,
        permissions: u32,
    ) -> Result<(), Errno> {
        let permissions = permissions & 0o7777;
        self.check_may_change(location)?;
        if self.status(location)?.file_type == FileType::Symlink {
            return Err(Errno::EOPNOTSUPP);
        }
        self.check_owner(location)?;
        if let Some(node) = self.host_node(location) {
            if permissions & 0o6000 != 0 {
                return Err(Errno::EPERM);
            }
            return Ok(rustix::fs::chmodat(CWD, node.own_path(), Mode::from_raw_mode(permissions), AtFlags::empty())?);
        }
        let ino = self.inode_to_change(location)?;
        let inode = self.memory_mut(location.mount).get_mut(ino)?;
        inode.permissions = permissions;
        inode.changed = context.now;
        Ok(())
    }

    /// Sets the owners of a file (`chown`), which can only stay what they are: the guest's.
    ///
    /// # Errors
    ///
    /// `EPERM` for other owners, and where the file is not the guest's; `EROFS`.
    pub fn set_owner(
        &mut self,
        context: &Context<'_>,
        location: &Location,
        user: Option<u32>,
        group: Option<u32>,
    ) -> Result<(), Errno> {
        self.check_may_change(location)?;
        if user.is_none() && group.is_none() {
            return Ok(());
        }
        self.check_owner(location)?;
        if user.is_some_and(|user| user != USER_ID) || group.is_some_and(|group| group != USER_ID) {
            return Err(Errno::EPERM);
        }
        if self.host_node(location).is_some() {
            return Ok(());
        }
        let ino = self.inode_to_change(location)?;
        let inode = self.memory_mut(location.mount).get_mut(ino)?;
        if matches!(inode.body, Body::Regular(_)) {
            inode.drop_privileges();
        }
        inode.group = group.unwrap_or(inode.group);
        inode.changed = context.now;
        Ok(())
    }

    /// Sets the times of a file (`utimensat`).
    ///
    /// # Errors
    ///
    /// `EPERM` where it is not the guest's and the times are not both the present, `EACCES` where they are and the guest may
    /// not write it, `EINVAL` for a time with a billion nanoseconds, `EROFS`, and what the host says.
    pub fn set_times(
        &mut self,
        context: &Context<'_>,
        location: &Location,
        accessed: TimeChange,
        modified: TimeChange,
    ) -> Result<(), Errno> {
        let is_bad = |change| matches!(change, TimeChange::At(time) if time.nanoseconds >= 1_000_000_000);
        if is_bad(accessed) || is_bad(modified) {
            return Err(Errno::EINVAL);
        }
        if (accessed, modified) == (TimeChange::Keep, TimeChange::Keep) {
            return Ok(());
        }
        self.check_may_change(location)?;
        let status = self.status(location)?;
        match (accessed, modified) {
            _ if status.user == USER_ID => {}
            (TimeChange::Now, TimeChange::Now) => status.check(WRITE)?,
            _ => return Err(Errno::EPERM),
        }
        if let Some(node) = self.host_node(location) {
            let times = Timestamps {
                last_access: host_time(accessed, context.now),
                last_modification: host_time(modified, context.now),
            };
            return Ok(rustix::fs::utimensat(&node.fd, "", &times, AtFlags::EMPTY_PATH)?);
        }
        let ino = self.inode_to_change(location)?;
        let inode = self.memory_mut(location.mount).get_mut(ino)?;
        let apply = |change, time: &mut Timestamp| match change {
            TimeChange::Keep => {}
            TimeChange::Now => *time = context.now,
            TimeChange::At(at) => *time = at,
        };
        apply(accessed, &mut inode.accessed);
        apply(modified, &mut inode.modified);
        inode.changed = context.now;
        Ok(())
    }

    /// What is known of the file system that something is in (`statfs`). Of the host it has the sizes, and otherwise what
    /// the quota allows.
    ///
    /// # Errors
    ///
    /// What the host says.
    pub fn file_system(&self, location: &Location) -> Result<FileSystemStatus, Errno> {
        let mount = self.mount(location.mount);
        let (id, name_max, is_read_only) = (location.mount.0 as u64, NAME_MAX as u64, mount.kind.is_read_only());
        if let (Some(host), MountKind::HostReadOnly | MountKind::HostReadWrite) = (&mount.host, mount.kind) {
            let status = rustix::fs::fstatfs(&host.fd)?;
            return Ok(FileSystemStatus {
                magic: status.f_type as u64,
                id,
                block_size: status.f_bsize as u64,
                blocks: status.f_blocks,
                blocks_free: status.f_bavail,
                files: status.f_files,
                files_free: status.f_ffree,
                name_max,
                is_read_only,
            });
        }
        let usage = &self.memory(location.mount).usage;
        let block_size = u64::from(BLOCK_SIZE);
        let magic = match mount.kind {
            MountKind::Processes => PROC_SUPER_MAGIC,
            MountKind::Overlay => OVERLAYFS_SUPER_MAGIC,
            _ => TMPFS_MAGIC,
        };
        Ok(FileSystemStatus {
            magic: magic.into(),
            id,
            block_size,
            blocks: usage.quota.bytes / block_size,
            blocks_free: (usage.quota.bytes - usage.bytes) / block_size,
            files: usage.quota.inodes,
            files_free: usage.quota.inodes - usage.inodes,
            name_max,
            is_read_only,
        })
    }

    /// What a symbolic link contains that does not depend on the process.
    pub(crate) fn stored_target(&self, link: &Location) -> Result<Vec<u8>, Errno> {
        match self.node(link) {
            Node::Host(node) => crate::host::read_link(node.fd.as_fd()),
            Node::Memory(ino) => match &self.memory(link.mount).get(ino)?.body {
                Body::Symlink(target) => Ok(target.to_vec()),
                _ => Err(Errno::EINVAL),
            },
            Node::DescriptorLink(_) | Node::Descriptor(_) => Err(Errno::EINVAL),
        }
    }

    /// Whether an open file has this name by now.
    pub(crate) fn has_name(&self, context: &Context<'_>, file: &File, directory: &Location, name: &[u8]) -> bool {
        match self.look_up(context, directory, name) {
            Ok(Some(found)) => self.is_same(&found, &file.location),
            _ => false,
        }
    }

    fn memory_metadata(&self, mount: MountId, ino: Ino) -> Result<Metadata, Errno> {
        let inode = self.memory(mount).get(ino)?;
        let (size, blocks) = match &inode.body {
            Body::Regular(contents) => (contents.len, contents.allocated() / BLOCK),
            Body::Symlink(target) => (target.len() as u64, 0),
            Body::Directory(directory) => (directory.len() as u64 * NAME_SIZE, 0),
            Body::Special(special) => (special.size(), special.size().next_multiple_of(BLOCK_SIZE.into()) / BLOCK),
            _ => (0, 0),
        };
        let special_device = match inode.body {
            Body::Special(special) => special.device_number(),
            _ => DeviceNumber::default(),
        };
        let is_own_process = self.mount(mount).kind == MountKind::Processes && inode.permissions & 0o222 == 0;
        let owner = |id| if is_own_process { USER_ID } else { id };
        let lower_device = inode.lower.as_ref().map(|lower| lower.identity.device);
        Ok(Metadata {
            file_type: inode.file_type(),
            permissions: inode.permissions,
            device: self.device(mount, lower_device.unwrap_or(0)),
            inode: self.shown_inode(mount, ino),
            links: inode.links,
            user: owner(inode.user),
            group: owner(inode.group),
            special_device,
            size,
            blocks,
            block_size: BLOCK_SIZE,
            accessed: inode.accessed,
            modified: inode.modified,
            changed: inode.changed,
            created: inode.created,
            mount: mount.0 as u64,
            is_mount_root: self.is_mount_root(&Location { mount, node: Node::Memory(ino) }),
        })
    }

    /// The number of a file system. What is mounted within a host directory has numbers of its own.
    fn device(&self, mount: MountId, host: u64) -> DeviceNumber {
        let own = self.mount(mount).host.as_ref().map_or(0, |host| host.device);
        let minor = FIRST_DEVICE + mount.0 as u32;
        if host == 0 || host == own {
            return DeviceNumber { major: 0, minor };
        }
        DeviceNumber { major: 0, minor: minor | (host as u32) << 12 }
    }

    pub(crate) fn is_mount_root(&self, location: &Location) -> bool {
        match (self.node(location), &self.mount(location.mount).root) {
            (Node::Memory(ino), Node::Memory(root)) => ino == *root,
            (Node::Host(node), Node::Host(root)) => node.trail == root.trail,
            _ => false,
        }
    }

    /// The host's file, where it is changed on the host itself.
    fn host_node(&self, location: &Location) -> Option<std::sync::Arc<HostNode>> {
        match (self.mount(location.mount).kind, &location.node) {
            (MountKind::HostReadWrite, Node::Host(node)) => Some(node.clone()),
            _ => None,
        }
    }

    fn check_may_change(&self, location: &Location) -> Result<(), Errno> {
        match self.mount(location.mount).kind {
            MountKind::HostReadOnly => Err(Errno::EROFS),
            MountKind::Processes => Err(Errno::EPERM),
            _ => Ok(()),
        }
    }

    fn check_owner(&self, location: &Location) -> Result<(), Errno> {
        if self.status(location)?.user == USER_ID { Ok(()) } else { Err(Errno::EPERM) }
    }
}

/// The time to set on the host. The present is the guest's, too.
fn host_time(change: TimeChange, now: Timestamp) -> Timespec {
    match change {
        TimeChange::Keep => Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
        TimeChange::Now => Timespec { tv_sec: now.seconds, tv_nsec: now.nanoseconds.into() },
        TimeChange::At(time) => Timespec { tv_sec: time.seconds, tv_nsec: time.nanoseconds.into() },
    }
}

const BLOCK_SIZE: u32 = 4096;

/// In which unit a file says how much room it takes (`stat(2)`).
const BLOCK: u64 = 512;

/// How much a name adds to the size of its directory (`BOGO_DIRENT_SIZE` of Linux's `mm/shmem.c`).
const NAME_SIZE: u64 = 20;

/// The number of the first mount's file system. Smaller ones are taken for something else by some programs.
const FIRST_DEVICE: u32 = 32;

/// `OVERLAYFS_SUPER_MAGIC` of Linux's `include/uapi/linux/magic.h`.
const OVERLAYFS_SUPER_MAGIC: u32 = 0x794c_7630;
