//! What the `stat` and `statfs` calls report.

use ampoule_vfs::{DeviceNumber, FileSystemStatus, FileType, Metadata, Timestamp};
use ampoule_vmm::GuestVirt;
use linux_raw_sys::general::{
    S_IFMT, STATX_ATTR_MOUNT_ROOT, STATX_BASIC_STATS, STATX_BTIME, STATX_MNT_ID, stat, statfs, statx,
};

use crate::address_space::AddressSpace;
use crate::output::Stream;

use super::descriptors::Object;
use super::errno::Errno;
use super::process::USER_ID;
use super::structure::to_bytes;

/// What is reported of something open that is in no file system; `None` of what is in one.
pub(super) fn of_open(object: Object) -> Option<Metadata> {
    Some(match object {
        Object::Input => unnamed(FileType::Fifo, 0o600, INPUT),
        Object::Output(Stream::Stdout) => unnamed(FileType::Fifo, 0o600, INPUT + 1),
        Object::Output(Stream::Stderr) => unnamed(FileType::Fifo, 0o600, INPUT + 2),
        Object::PipeReader(id) | Object::PipeWriter(id) => unnamed(FileType::Fifo, 0o600, FIRST_PIPE + id.number()),
        Object::Socket(end) => {
            let inode = FIRST_SOCKET + 2 * end.pair.number() + end.side as u64;
            unnamed(FileType::Socket, 0o777, inode)
        }
        Object::EventCounter | Object::Epoll | Object::Timer | Object::Signals => {
            unnamed(FileType::Regular, 0o600, ANONYMOUS)
        }
        Object::File | Object::Mapping | Object::Device(_) | Object::Process(_) | Object::System(_) => return None,
    })
}

/// A file of the user's that is nothing but open.
fn unnamed(file_type: FileType, permissions: u32, inode: u64) -> Metadata {
    Metadata {
        file_type,
        permissions,
        device: DeviceNumber { major: 0, minor: UNNAMED_DEVICE },
        inode,
        links: 1,
        user: USER_ID,
        group: USER_ID,
        special_device: DeviceNumber::default(),
        size: 0,
        blocks: 0,
        block_size: BLOCK_SIZE,
        accessed: Timestamp::default(),
        modified: Timestamp::default(),
        changed: Timestamp::default(),
        created: None,
        mount: 0,
        is_mount_root: false,
    }
}

/// The type and the permissions as `stat` has them. What is nothing but open has no type.
fn mode(metadata: &Metadata) -> u32 {
    if metadata.inode == ANONYMOUS && metadata.device.minor == UNNAMED_DEVICE {
        metadata.mode() & !S_IFMT
    } else {
        metadata.mode()
    }
}

/// Writes a `struct stat`.
pub(super) fn write_stat(space: &mut AddressSpace, into: u64, metadata: &Metadata) -> Result<u64, Errno> {
    let Metadata { accessed, modified, changed, .. } = metadata;
    let status = to_bytes!(stat {
        st_dev: packed(metadata.device),
        st_ino: metadata.inode,
        st_nlink: metadata.links.into(),
        st_mode: mode(metadata),
        st_uid: metadata.user,
        st_gid: metadata.group,
        st_rdev: packed(metadata.special_device),
        st_size: metadata.size as i64,
        st_blksize: metadata.block_size.into(),
        st_blocks: metadata.blocks as i64,
        st_atime: accessed.seconds as u64,
        st_atime_nsec: accessed.nanoseconds.into(),
        st_mtime: modified.seconds as u64,
        st_mtime_nsec: modified.nanoseconds.into(),
        st_ctime: changed.seconds as u64,
        st_ctime_nsec: changed.nanoseconds.into(),
    });
    space.write(GuestVirt(into), &status)?;
    Ok(0)
}

/// Writes a `struct statx`, with everything that there is whatever was asked for.
pub(super) fn write_statx(space: &mut AddressSpace, into: u64, metadata: &Metadata) -> Result<u64, Errno> {
    let Metadata { accessed, modified, changed, created, device, special_device, .. } = metadata;
    let birth = created.unwrap_or_default();
    let status = to_bytes!(statx {
        stx_mask: STATX_BASIC_STATS | STATX_MNT_ID | created.map_or(0, |_| STATX_BTIME),
        stx_blksize: metadata.block_size,
        stx_attributes: if metadata.is_mount_root { STATX_ATTR_MOUNT_ROOT.into() } else { 0 },
        stx_nlink: metadata.links,
        stx_uid: metadata.user,
        stx_gid: metadata.group,
        stx_mode: mode(metadata) as u16,
        stx_ino: metadata.inode,
        stx_size: metadata.size,
        stx_blocks: metadata.blocks,
        stx_attributes_mask: STATX_ATTR_MOUNT_ROOT.into(),
        stx_atime.tv_sec: accessed.seconds,
        stx_atime.tv_nsec: accessed.nanoseconds,
        stx_btime.tv_sec: birth.seconds,
        stx_btime.tv_nsec: birth.nanoseconds,
        stx_ctime.tv_sec: changed.seconds,
        stx_ctime.tv_nsec: changed.nanoseconds,
        stx_mtime.tv_sec: modified.seconds,
        stx_mtime.tv_nsec: modified.nanoseconds,
        stx_rdev_major: special_device.major,
        stx_rdev_minor: special_device.minor,
        stx_dev_major: device.major,
        stx_dev_minor: device.minor,
        stx_mnt_id: metadata.mount,
    });
    space.write(GuestVirt(into), &status)?;
    Ok(0)
}

/// Writes a `struct statfs`.
pub(super) fn write_statfs(space: &mut AddressSpace, into: u64, status: &FileSystemStatus) -> Result<u64, Errno> {
    let flags = ST_VALID | if status.is_read_only { ST_RDONLY } else { 0 };
    let status = to_bytes!(statfs {
        f_type: status.magic as i64,
        f_bsize: status.block_size as i64,
        f_blocks: status.blocks as i64,
        f_bfree: status.blocks_free as i64,
        f_bavail: status.blocks_free as i64,
        f_files: status.files as i64,
        f_ffree: status.files_free as i64,
        f_fsid.val: [status.id as i32, (status.id >> 32) as i32],
        f_namelen: status.name_max as i64,
        f_frsize: status.block_size as i64,
        f_flags: flags,
    });
    space.write(GuestVirt(into), &status)?;
    Ok(0)
}

/// A device's number as `stat` has it (`new_encode_dev` of Linux's `include/linux/kdev_t.h`).
fn packed(device: DeviceNumber) -> u64 {
    let DeviceNumber { major, minor } = device;
    u64::from(minor & 0xff | (major & 0xfff) << 8 | (minor & !0xff) << 12)
}

/// Of what is in no file system: as Linux has it for pipes (`PIPEFS_MAGIC`).
pub(super) const NO_FILE_SYSTEM: FileSystemStatus = FileSystemStatus {
    magic: 0x5049_5045,
    id: 0,
    block_size: BLOCK_SIZE as u64,
    blocks: 0,
    blocks_free: 0,
    files: 0,
    files_free: 0,
    name_max: 255,
    is_read_only: false,
};

/// The inode of standard input. The other two streams have the next ones.
const INPUT: u64 = 64;

/// The one inode of all files that are nothing but open.
const ANONYMOUS: u64 = 80;

/// The inodes of the process's first pipe and of its first socket. It has not so many pipes at once.
const FIRST_PIPE: u64 = 128;
const FIRST_SOCKET: u64 = 1 << 32;

/// The file system of what is in none.
const UNNAMED_DEVICE: u32 = 0;

const BLOCK_SIZE: u32 = 4096;

/// Linux's `include/linux/statfs.h`.
const ST_RDONLY: i64 = 1;
const ST_VALID: i64 = 0x20;
