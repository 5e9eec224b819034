//! What the `stat` calls tell.

use ampoule_vmm::GuestVirt;

use crate::address_space::AddressSpace;
use crate::output::Stream;

use super::descriptors::Object;
use super::errno::Errno;
use super::process::USER_ID;
use super::record::Record;

/// What is told of a file.
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
        let stat = Record::<144>::new()
            .u64(8, inode)
            .u64(16, 1)
            .u32(24, mode)
            .u32(28, owner)
            .u32(32, owner)
            .u64(40, device.into())
            .u64(56, BLOCK_SIZE.into());
        space.write(GuestVirt(into), stat.as_bytes())?;
        Ok(0)
    }

    /// Writes a `struct statx`.
    pub(super) fn write_statx(&self, space: &mut AddressSpace, into: u64) -> Result<u64, Errno> {
        let Self { mode, inode, owner, minor } = *self;
        let statx = Record::<256>::new()
            .u32(0, STATX_BASIC_STATS)
            .u32(4, BLOCK_SIZE)
            .u32(16, 1)
            .u32(20, owner)
            .u32(24, owner)
            .u16(28, mode as u16)
            .u64(32, inode)
            .u32(128, minor.map_or(0, |_| MEMORY_DEVICES))
            .u32(132, minor.unwrap_or(0));
        space.write(GuestVirt(into), statx.as_bytes())?;
        Ok(0)
    }
}

/// The owner of what belongs to the system.
const ROOT: u32 = 0;

/// The inode of standard input, beyond those that are the minor numbers of devices. The other two streams have the next ones.
const INPUT: u64 = 64;

const BLOCK_SIZE: u32 = 4096;

// Linux's `include/uapi/linux/stat.h` and `major.h`.
const S_IFIFO: u32 = 0o010_000;
const S_IFCHR: u32 = 0o020_000;
const S_IFDIR: u32 = 0o040_000;
const S_IFREG: u32 = 0o100_000;
const STATX_BASIC_STATS: u32 = 0x7ff;
const MEMORY_DEVICES: u32 = 1;
