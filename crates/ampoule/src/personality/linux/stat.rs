//! What the `stat` calls report.

use ampoule_vmm::GuestVirt;
use linux_raw_sys::general::{S_IFCHR, S_IFDIR, S_IFIFO, S_IFREG, STATX_BASIC_STATS, stat, statx};

use crate::address_space::AddressSpace;
use crate::output::Stream;

use super::descriptors::Object;
use super::errno::Errno;
use super::process::USER_ID;
use super::structure::to_bytes;

/// What is reported of a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Status {
    mode: u32,
    inode: u64,
    owner: u32,
    /// The minor number of a device; its major number is that of memory devices.
    minor: Option<u32>,
}

/// `/proc/self/maps`.
pub(super) const MAPS: Status = Status { mode: S_IFREG | 0o444, inode: 16, owner: USER_ID, minor: None };

impl Status {
    pub(super) fn directory(inode: u64) -> Self {
        Self { mode: S_IFDIR | 0o111, inode, owner: ROOT, minor: None }
    }

    pub(super) fn device(minor: u32) -> Self {
        Self { mode: S_IFCHR | 0o666, inode: minor.into(), owner: ROOT, minor: Some(minor) }
    }

    pub(super) fn of_open(object: Object) -> Self {
        let pipe = |inode| Self { mode: S_IFIFO | 0o600, inode, owner: USER_ID, minor: None };
        match object {
            Object::Input => pipe(INPUT),
            Object::Output(Stream::Stdout) => pipe(INPUT + 1),
            Object::Output(Stream::Stderr) => pipe(INPUT + 2),
            Object::Device(device) => device.status(),
            Object::Maps => MAPS,
        }
    }

    /// Whether the process has these permissions: 4 to read, 2 to write, 1 to execute or search.
    pub(super) fn allows(&self, wanted: u32) -> bool {
        let granted = if self.owner == USER_ID { self.mode >> 6 } else { self.mode };
        granted & wanted == wanted
    }

    /// Writes a `struct stat`.
    pub(super) fn write_stat(&self, space: &mut AddressSpace, into: u64) -> Result<u64, Errno> {
        let Self { mode, inode, owner, minor } = *self;
        let device = minor.map_or(0, |minor| MEMORY_DEVICES << 8 | minor);
        let status = to_bytes!(stat {
            st_ino: inode,
            st_nlink: 1,
            st_mode: mode,
            st_uid: owner,
            st_gid: owner,
            st_rdev: device.into(),
            st_blksize: BLOCK_SIZE.into(),
        });
        space.write(GuestVirt(into), &status)?;
        Ok(0)
    }

    /// Writes a `struct statx`.
    pub(super) fn write_statx(&self, space: &mut AddressSpace, into: u64) -> Result<u64, Errno> {
        let Self { mode, inode, owner, minor } = *self;
        let status = to_bytes!(statx {
            stx_mask: STATX_BASIC_STATS,
            stx_blksize: BLOCK_SIZE,
            stx_nlink: 1,
            stx_uid: owner,
            stx_gid: owner,
            stx_mode: mode as u16,
            stx_ino: inode,
            stx_rdev_major: minor.map_or(0, |_| MEMORY_DEVICES),
            stx_rdev_minor: minor.unwrap_or(0),
        });
        space.write(GuestVirt(into), &status)?;
        Ok(0)
    }
}

/// The owner of what belongs to the system.
const ROOT: u32 = 0;

/// The inode of standard input, beyond those that are the minor numbers of devices. The other two streams have the next ones.
const INPUT: u64 = 64;

const BLOCK_SIZE: u32 = 4096;

/// The major number of memory devices (Linux's `include/uapi/linux/major.h`).
const MEMORY_DEVICES: u32 = 1;
