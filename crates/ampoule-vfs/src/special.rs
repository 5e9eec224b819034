//! Files that are not contents but what whoever runs the process makes of them: devices, and what is known of the process.

use crate::{DeviceNumber, FileType};

/// A file whose contents are not in the virtual file system. It has a name, a place and metadata there; what reading and
/// writing it means is up to whoever runs the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Special {
    /// A device in `/dev`.
    Device(Device),
    /// A file in `/proc/PID`.
    Process(ProcessFile),
    /// A file in `/proc` about the whole system.
    System(SystemFile),
    /// A file in `/dev/ampoule`.
    Mapping(Mapping),
    /// `/proc/PID/fd/NUMBER` of an open file that is in no file system, such as a pipe or a standard stream.
    Descriptor(u32),
    /// A named pipe or a socket in memory, by the numbers of its file system and of its inode.
    Rendezvous {
        /// The same as [`Metadata::mount`](crate::Metadata::mount).
        mount: u64,
        /// The same as [`Metadata::inode`](crate::Metadata::inode).
        inode: u64,
        /// Whether it is a socket, and otherwise a pipe.
        is_socket: bool,
    },
}

/// Memory that the application has mapped for the guest, as the file that stands for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mapping {
    /// Where the guest finds it.
    pub address: u64,
    /// How many bytes there are; none once it is no longer mapped.
    pub len: u64,
    /// Whether the guest may write there.
    pub is_writable: bool,
    /// Whether it may execute what is there.
    pub is_executable: bool,
}

/// The devices in `/dev`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[expect(missing_docs, reason = "they are called as in Linux")]
pub enum Device {
    Null,
    Zero,
    Full,
    Random,
    Urandom,
    Tty,
}

/// The files in `/proc/PID`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[expect(missing_docs, reason = "they are called as in Linux")]
pub enum ProcessFile {
    Auxv,
    Cmdline,
    Comm,
    Environ,
    Limits,
    Loginuid,
    Maps,
    Mountinfo,
    Mounts,
    Sessionid,
    Smaps,
    Stat,
    Statm,
    Status,
}

/// The files in `/proc` about the whole system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[expect(missing_docs, reason = "they are called as in Linux")]
pub enum SystemFile {
    Cmdline,
    Cpuinfo,
    Filesystems,
    Loadavg,
    Meminfo,
    Stat,
    Uptime,
    Version,
    /// `/proc/sys/kernel/hostname`
    Hostname,
    /// `/proc/sys/kernel/ngroups_max`
    NgroupsMax,
    /// `/proc/sys/kernel/osrelease`
    Osrelease,
    /// `/proc/sys/kernel/ostype`
    Ostype,
    /// `/proc/sys/kernel/pid_max`
    PidMax,
    /// `/proc/sys/kernel/random/boot_id`
    BootId,
    /// `/proc/sys/kernel/random/uuid`
    Uuid,
    /// `/proc/sys/vm/max_map_count`
    MaxMapCount,
    /// `/proc/sys/vm/overcommit_memory`
    OvercommitMemory,
}

/// A symbolic link whose target depends on the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Link {
    /// `/proc/self`
    OwnProcess,
    /// `/proc/PID/exe`
    Executable,
    /// `/proc/PID/cwd`
    WorkingDirectory,
    /// `/proc/PID/root`
    Root,
}

/// What a built-in directory contains.
#[derive(Clone, Copy, Debug)]
pub(crate) enum BuiltIn {
    Directory(&'static [(&'static str, BuiltIn)]),
    /// `/proc/PID/fd`
    Descriptors,
    /// `/proc/PID`, which is found by the number of the process
    Process(&'static [(&'static str, BuiltIn)]),
    Symlink(&'static str),
    Link(Link),
    File(Special),
}

impl Special {
    pub(crate) fn file_type(self) -> FileType {
        match self {
            Self::Device(_) => FileType::CharacterDevice,
            Self::Process(_) | Self::System(_) | Self::Mapping(_) => FileType::Regular,
            Self::Descriptor(_) => FileType::Symlink,
            Self::Rendezvous { is_socket: true, .. } => FileType::Socket,
            Self::Rendezvous { .. } => FileType::Fifo,
        }
    }

    pub(crate) fn permissions(self) -> u32 {
        match self {
            Self::Device(_) => 0o666,
            Self::Process(ProcessFile::Auxv | ProcessFile::Environ) => 0o400,
            Self::Process(ProcessFile::Comm) => 0o644,
            Self::Mapping(Mapping { is_writable: true, .. }) => 0o666,
            Self::Mapping(Mapping { is_executable: true, .. }) => 0o555,
            _ => 0o444,
        }
    }

    /// How many bytes it is said to have.
    pub(crate) fn size(self) -> u64 {
        if let Self::Mapping(Mapping { len, .. }) = self { len } else { 0 }
    }

    pub(crate) fn device_number(self) -> DeviceNumber {
        let (major, minor) = match self {
            Self::Device(Device::Null) => (MEMORY_DEVICES, 3),
            Self::Device(Device::Zero) => (MEMORY_DEVICES, 5),
            Self::Device(Device::Full) => (MEMORY_DEVICES, 7),
            Self::Device(Device::Random) => (MEMORY_DEVICES, 8),
            Self::Device(Device::Urandom) => (MEMORY_DEVICES, 9),
            Self::Device(Device::Tty) => (TERMINALS, 0),
            _ => (0, 0),
        };
        DeviceNumber { major, minor }
    }
}

/// What is in `/dev`.
pub(crate) const DEVICES: &[(&str, BuiltIn)] = &[
    ("fd", BuiltIn::Symlink("/proc/self/fd")),
    ("full", BuiltIn::File(Special::Device(Device::Full))),
    ("null", BuiltIn::File(Special::Device(Device::Null))),
    ("random", BuiltIn::File(Special::Device(Device::Random))),
    ("stderr", BuiltIn::Symlink("/proc/self/fd/2")),
    ("stdin", BuiltIn::Symlink("/proc/self/fd/0")),
    ("stdout", BuiltIn::Symlink("/proc/self/fd/1")),
    ("tty", BuiltIn::File(Special::Device(Device::Tty))),
    ("urandom", BuiltIn::File(Special::Device(Device::Urandom))),
    ("zero", BuiltIn::File(Special::Device(Device::Zero))),
];

/// What is in `/proc`.
pub(crate) const PROCESSES: &[(&str, BuiltIn)] = &[
    ("", BuiltIn::Process(PROCESS)),
    ("cmdline", BuiltIn::File(Special::System(SystemFile::Cmdline))),
    ("cpuinfo", BuiltIn::File(Special::System(SystemFile::Cpuinfo))),
    ("filesystems", BuiltIn::File(Special::System(SystemFile::Filesystems))),
    ("loadavg", BuiltIn::File(Special::System(SystemFile::Loadavg))),
    ("meminfo", BuiltIn::File(Special::System(SystemFile::Meminfo))),
    ("mounts", BuiltIn::Symlink("self/mounts")),
    ("self", BuiltIn::Link(Link::OwnProcess)),
    ("stat", BuiltIn::File(Special::System(SystemFile::Stat))),
    (
        "sys",
        BuiltIn::Directory(&[
            (
                "kernel",
                BuiltIn::Directory(&[
                    ("hostname", BuiltIn::File(Special::System(SystemFile::Hostname))),
                    ("ngroups_max", BuiltIn::File(Special::System(SystemFile::NgroupsMax))),
                    ("osrelease", BuiltIn::File(Special::System(SystemFile::Osrelease))),
                    ("ostype", BuiltIn::File(Special::System(SystemFile::Ostype))),
                    ("pid_max", BuiltIn::File(Special::System(SystemFile::PidMax))),
                    (
                        "random",
                        BuiltIn::Directory(&[
                            ("boot_id", BuiltIn::File(Special::System(SystemFile::BootId))),
                            ("uuid", BuiltIn::File(Special::System(SystemFile::Uuid))),
                        ]),
                    ),
                ]),
            ),
            (
                "vm",
                BuiltIn::Directory(&[
                    ("max_map_count", BuiltIn::File(Special::System(SystemFile::MaxMapCount))),
                    ("overcommit_memory", BuiltIn::File(Special::System(SystemFile::OvercommitMemory))),
                ]),
            ),
        ]),
    ),
    ("uptime", BuiltIn::File(Special::System(SystemFile::Uptime))),
    ("version", BuiltIn::File(Special::System(SystemFile::Version))),
];

const PROCESS: &[(&str, BuiltIn)] = &[
    ("auxv", BuiltIn::File(Special::Process(ProcessFile::Auxv))),
    ("cmdline", BuiltIn::File(Special::Process(ProcessFile::Cmdline))),
    ("comm", BuiltIn::File(Special::Process(ProcessFile::Comm))),
    ("cwd", BuiltIn::Link(Link::WorkingDirectory)),
    ("environ", BuiltIn::File(Special::Process(ProcessFile::Environ))),
    ("exe", BuiltIn::Link(Link::Executable)),
    ("fd", BuiltIn::Descriptors),
    ("limits", BuiltIn::File(Special::Process(ProcessFile::Limits))),
    ("loginuid", BuiltIn::File(Special::Process(ProcessFile::Loginuid))),
    ("maps", BuiltIn::File(Special::Process(ProcessFile::Maps))),
    ("mountinfo", BuiltIn::File(Special::Process(ProcessFile::Mountinfo))),
    ("mounts", BuiltIn::File(Special::Process(ProcessFile::Mounts))),
    ("root", BuiltIn::Link(Link::Root)),
    ("sessionid", BuiltIn::File(Special::Process(ProcessFile::Sessionid))),
    ("smaps", BuiltIn::File(Special::Process(ProcessFile::Smaps))),
    ("stat", BuiltIn::File(Special::Process(ProcessFile::Stat))),
    ("statm", BuiltIn::File(Special::Process(ProcessFile::Statm))),
    ("status", BuiltIn::File(Special::Process(ProcessFile::Status))),
];

/// Major numbers of Linux's `Documentation/admin-guide/devices.txt`.
const MEMORY_DEVICES: u32 = 1;
const TERMINALS: u32 = 5;
