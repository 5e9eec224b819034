//! What is known of a file, and of the file system that it is in.

use linux_raw_sys::general::{
    DT_BLK, DT_CHR, DT_DIR, DT_FIFO, DT_LNK, DT_REG, DT_SOCK, S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFREG,
    S_IFSOCK,
};

/// A moment of the guest's real-time clock, or a file's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp {
    /// Seconds since 1970, which can be negative.
    pub seconds: i64,
    /// Nanoseconds after that, less than a billion.
    pub nanoseconds: u32,
}

/// What a time of a file is set to (`utimensat`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeChange {
    /// It stays (`UTIME_OMIT`).
    Keep,
    /// The context's present (`UTIME_NOW`).
    Now,
    /// This moment.
    At(Timestamp),
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileType {
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A character device.
    CharacterDevice,
    /// A block device, which only a host directory can have.
    BlockDevice,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

/// The number of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct DeviceNumber {
    /// The number of the driver.
    pub major: u32,
    /// The number among the driver's devices.
    pub minor: u32,
}

/// What the `stat` calls report of a file.
///
/// Owners are the guest's: what belongs to the user that the host process runs as is shown as the guest's own
/// ([`USER_ID`](crate::USER_ID)), what belongs to root as root's, and what belongs to anybody else as nobody's (65534).
/// Device numbers are those of the sandbox's mounts and never the host's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// What the file is.
    pub file_type: FileType,
    /// The permission bits with set-user-ID, set-group-ID and sticky: at most `0o7777`.
    pub permissions: u32,
    /// The file system, one number for each mount.
    pub device: DeviceNumber,
    /// The file's number in its file system.
    pub inode: u64,
    /// How many names it has.
    pub links: u32,
    /// The user who owns it.
    pub user: u32,
    /// The group that owns it.
    pub group: u32,
    /// The device that a device file is.
    pub special_device: DeviceNumber,
    /// Bytes of its contents.
    pub size: u64,
    /// Room that it takes, in units of 512 bytes.
    pub blocks: u64,
    /// The size of efficient reads and writes, in bytes.
    pub block_size: u32,
    /// The last read. What is in memory does not record reads, as if it was mounted with `noatime`.
    pub accessed: Timestamp,
    /// The last change of the contents.
    pub modified: Timestamp,
    /// The last change of anything.
    pub changed: Timestamp,
    /// When it was created, if that is known.
    pub created: Option<Timestamp>,
    /// The mount that it was reached through.
    pub mount: u64,
    /// Whether it is the root of a mount.
    pub is_mount_root: bool,
}

/// What `statfs` reports of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileSystemStatus {
    /// The magic number of its type (Linux's `include/uapi/linux/magic.h`).
    pub magic: u64,
    /// Its number, distinct for each mount.
    pub id: u64,
    /// The unit of the next fields, in bytes.
    pub block_size: u64,
    /// How much it can hold.
    pub blocks: u64,
    /// How much of that is free.
    pub blocks_free: u64,
    /// How many files it can hold.
    pub files: u64,
    /// How many more that is.
    pub files_free: u64,
    /// The longest name, in bytes.
    pub name_max: u64,
    /// Whether nothing in it can be changed.
    pub is_read_only: bool,
}

impl Metadata {
    /// The type and the permissions as one number: `st_mode`.
    #[must_use]
    pub fn mode(&self) -> u32 {
        self.file_type.mode() | self.permissions
    }
}

impl FileType {
    /// The type as it stands in `st_mode`: `S_IFREG` and so on.
    #[must_use]
    pub fn mode(self) -> u32 {
        match self {
            Self::Regular => S_IFREG,
            Self::Directory => S_IFDIR,
            Self::Symlink => S_IFLNK,
            Self::CharacterDevice => S_IFCHR,
            Self::BlockDevice => S_IFBLK,
            Self::Fifo => S_IFIFO,
            Self::Socket => S_IFSOCK,
        }
    }

    /// The type as it stands in a directory entry: `DT_REG` and so on.
    #[must_use]
    pub fn directory_entry_type(self) -> u8 {
        let entry_type = match self {
            Self::Regular => DT_REG,
            Self::Directory => DT_DIR,
            Self::Symlink => DT_LNK,
            Self::CharacterDevice => DT_CHR,
            Self::BlockDevice => DT_BLK,
            Self::Fifo => DT_FIFO,
            Self::Socket => DT_SOCK,
        };
        entry_type as u8
    }

    /// The type in the host's metadata.
    pub(crate) fn of_host(mode: u32) -> Self {
        match rustix::fs::FileType::from_raw_mode(mode) {
            rustix::fs::FileType::RegularFile => Self::Regular,
            rustix::fs::FileType::Directory => Self::Directory,
            rustix::fs::FileType::Symlink => Self::Symlink,
            rustix::fs::FileType::BlockDevice => Self::BlockDevice,
            rustix::fs::FileType::Fifo => Self::Fifo,
            rustix::fs::FileType::Socket => Self::Socket,
            // What Linux does not know is as unreachable as a device.
            rustix::fs::FileType::CharacterDevice | rustix::fs::FileType::Unknown => Self::CharacterDevice,
        }
    }
}
