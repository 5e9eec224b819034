//! What the arguments of each system call are that the personality knows.

use linux_raw_sys::general::{FUTEX_CLOCK_REALTIME, FUTEX_PRIVATE_FLAG, MAP_TYPE, O_ACCMODE};

use super::Argument::{self, *};
use super::Returned::{self, Address, Number};
use super::flags as names;
use crate::personality::linux::numbers as nr;

const OPEN: Argument = Both(names::OPEN_ACCESS, O_ACCMODE, names::OPEN_FLAGS);
const MAP: Argument = Both(names::MAP_TYPES, MAP_TYPE, names::MAP_FLAGS);
const FUTEX: Argument = Both(names::FUTEX, !(FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME), names::FUTEX_FLAGS);
/// `SOCK_TYPE_MASK` of the kernel's `include/linux/net.h`.
const SOCKET: Argument = Both(names::SOCKET_TYPES, 0xf, names::PIPE);

/// The arguments of a system call, and what it returns. Of one that nobody knows all six are shown.
pub(super) fn of(number: u64) -> (&'static [Argument], Returned) {
    let arguments: &[Argument] = match number {
        nr::READ => &[Descriptor, Filled, Count],
        nr::WRITE => &[Descriptor, Bytes { len: 2 }, Count],
        nr::PREAD64 => &[Descriptor, Filled, Count, Offset],
        nr::PWRITE64 => &[Descriptor, Bytes { len: 2 }, Count, Offset],
        nr::READV => &[Descriptor, FilledBuffers { count: 2 }, Int],
        nr::WRITEV => &[Descriptor, Buffers { count: 2 }, Int],
        nr::PREADV => &[Descriptor, FilledBuffers { count: 2 }, Int, Offset],
        nr::PWRITEV => &[Descriptor, Buffers { count: 2 }, Int, Offset],
        nr::PREADV2 => &[Descriptor, FilledBuffers { count: 2 }, Int, Offset, Offset, Some(names::READ_WRITE)],
        nr::PWRITEV2 => &[Descriptor, Buffers { count: 2 }, Int, Offset, Offset, Some(names::READ_WRITE)],
        nr::OPEN => &[Path, OPEN, ModeOfCreated { flags: 1 }],
        nr::CREAT => &[Path, Mode],
        nr::OPENAT => &[Directory, Path, OPEN, ModeOfCreated { flags: 2 }],
        nr::OPENAT2 => &[Directory, Path, Pointer, Count],
        nr::CLOSE | nr::FSYNC | nr::FDATASYNC | nr::SYNCFS | nr::DUP | nr::FCHDIR => &[Descriptor],
        nr::CLOSE_RANGE => &[Descriptor, Descriptor, Some(names::CLOSE_RANGE)],
        nr::STAT | nr::LSTAT | nr::STATFS => &[Path, Pointer],
        nr::FSTAT | nr::FSTATFS => &[Descriptor, Pointer],
        nr::NEWFSTATAT => &[Directory, Path, Pointer, Some(names::AT)],
        nr::STATX => &[Directory, Path, Some(names::AT), Pointer, Pointer],
        nr::ACCESS => &[Path, Some(names::ACCESS)],
        nr::FACCESSAT => &[Directory, Path, Some(names::ACCESS)],
        nr::FACCESSAT2 => &[Directory, Path, Some(names::ACCESS), Some(names::AT)],
        nr::LSEEK => &[Descriptor, Offset, One(names::WHENCE)],
        nr::FTRUNCATE => &[Descriptor, Offset],
        nr::FALLOCATE => &[Descriptor, Some(names::ALLOCATE), Offset, Offset],
        nr::FADVISE64 => &[Descriptor, Offset, Offset, One(names::FILE_ADVICE)],
        nr::SYNC_FILE_RANGE => &[Descriptor, Offset, Offset, Pointer],
        nr::READAHEAD => &[Descriptor, Offset, Count],
        nr::SENDFILE => &[Descriptor, Descriptor, Pointer, Count],
        nr::COPY_FILE_RANGE | nr::SPLICE => &[Descriptor, Pointer, Descriptor, Pointer, Count, Pointer],
        nr::FLOCK => &[Descriptor, Some(names::LOCK)],
        nr::GETDENTS | nr::GETDENTS64 => &[Descriptor, Pointer, Count],
        nr::TRUNCATE => &[Path, Offset],
        nr::FCNTL => &[Descriptor, One(names::CONTROL), Count],
        nr::IOCTL => &[Descriptor, One(names::REQUEST), Pointer],
        nr::DUP2 => &[Descriptor, Descriptor],
        nr::DUP3 => &[Descriptor, Descriptor, Some(names::PIPE)],
        nr::PIPE => &[Pair],
        nr::PIPE2 => &[Pair, Some(names::PIPE)],
        nr::CHDIR | nr::CHROOT | nr::RMDIR | nr::UNLINK => &[Path],
        nr::MKDIR | nr::CHMOD => &[Path, Mode],
        nr::MKDIRAT | nr::FCHMODAT => &[Directory, Path, Mode],
        nr::FCHMODAT2 => &[Directory, Path, Mode, Some(names::AT)],
        nr::FCHMOD => &[Descriptor, Mode],
        nr::CHOWN | nr::LCHOWN => &[Path, Int, Int],
        nr::FCHOWN => &[Descriptor, Int, Int],
        nr::FCHOWNAT => &[Directory, Path, Int, Int, Some(names::AT)],
        nr::MKNOD => &[Path, Mode, Count],
        nr::MKNODAT => &[Directory, Path, Mode, Count],
        nr::UTIME | nr::UTIMES => &[Path, Pointer],
        nr::FUTIMESAT => &[Directory, Path, Pointer],
        nr::UTIMENSAT => &[Directory, Path, Pointer, Some(names::AT)],
        nr::RENAME | nr::LINK | nr::SYMLINK => &[Path, Path],
        nr::RENAMEAT => &[Directory, Path, Directory, Path],
        nr::RENAMEAT2 => &[Directory, Path, Directory, Path, Some(names::RENAME)],
        nr::LINKAT => &[Directory, Path, Directory, Path, Some(names::LINK)],
        nr::SYMLINKAT => &[Path, Directory, Path],
        nr::UNLINKAT => &[Directory, Path, Some(names::UNLINK)],
        nr::GETXATTR | nr::LGETXATTR => &[Path, Path, Pointer, Count],
        nr::SETXATTR | nr::LSETXATTR => &[Path, Path, Pointer, Count, Int],
        nr::REMOVEXATTR | nr::LREMOVEXATTR => &[Path, Path],
        nr::LISTXATTR | nr::LLISTXATTR => &[Path, Pointer, Count],
        nr::FGETXATTR => &[Descriptor, Path, Pointer, Count],
        nr::FSETXATTR => &[Descriptor, Path, Pointer, Count, Int],
        nr::FREMOVEXATTR => &[Descriptor, Path],
        nr::FLISTXATTR => &[Descriptor, Pointer, Count],
        nr::READLINK => &[Path, Filled, Count],
        nr::READLINKAT => &[Directory, Path, Filled, Count],
        nr::GETCWD => &[Filled, Count],
        nr::EXECVE => &[Path, Pointer, Pointer],
        nr::MEMFD_CREATE => &[Path, Some(names::MEMORY_FILE)],

        nr::MMAP => &[Pointer, Count, Some(names::PROTECTION), MAP, Descriptor, Pointer],
        nr::MUNMAP | nr::MLOCK | nr::MUNLOCK => &[Pointer, Count],
        nr::MPROTECT => &[Pointer, Count, Some(names::PROTECTION)],
        nr::MREMAP => &[Pointer, Count, Count, Some(names::REMAP), Pointer],
        nr::MADVISE => &[Pointer, Count, One(names::ADVICE)],
        nr::MSYNC => &[Pointer, Count, Some(names::SYNC)],
        nr::MINCORE => &[Pointer, Count, Pointer],
        nr::BRK | nr::SET_TID_ADDRESS | nr::TIME | nr::TIMES | nr::SYSINFO | nr::UNAME => &[Pointer],

        nr::CLOCK_GETTIME | nr::CLOCK_GETRES => &[One(names::CLOCKS), Pointer],
        nr::CLOCK_SETTIME => &[One(names::CLOCKS), Time],
        nr::NANOSLEEP => &[Time, Pointer],
        nr::CLOCK_NANOSLEEP => &[One(names::CLOCKS), Some(names::SLEEP), Time, Pointer],
        nr::GETTIMEOFDAY | nr::SETTIMEOFDAY => &[Pointer, Pointer],
        nr::FUTEX => &[Pointer, FUTEX, Int, Pointer, Pointer, Pointer],
        nr::GETRANDOM => &[Filled, Count, Some(names::RANDOM)],

        nr::KILL | nr::TKILL => &[Int, One(names::SIGNALS)],
        nr::TGKILL => &[Int, Int, One(names::SIGNALS)],
        nr::RT_SIGACTION => &[One(names::SIGNALS), Pointer, Pointer, Count],
        nr::RT_SIGPROCMASK => &[One(names::MASK), Pointer, Pointer, Count],
        nr::RT_SIGPENDING | nr::RT_SIGSUSPEND => &[Pointer, Count],
        nr::RT_SIGTIMEDWAIT => &[Pointer, Pointer, Time, Count],
        nr::SIGALTSTACK => &[Pointer, Pointer],
        nr::RT_SIGRETURN | nr::RESTART_SYSCALL => &[],
        nr::RT_SIGQUEUEINFO => &[Int, One(names::SIGNALS), Pointer],
        nr::RT_TGSIGQUEUEINFO => &[Int, Int, One(names::SIGNALS), Pointer],
        nr::SETITIMER => &[One(names::INTERVALS), Pointer, Pointer],
        nr::GETITIMER => &[One(names::INTERVALS), Pointer],
        nr::TIMER_CREATE => &[One(names::CLOCKS), Pointer, Pointer],
        nr::TIMER_SETTIME => &[Int, Some(names::SLEEP), Pointer, Pointer],
        nr::TIMER_GETTIME => &[Int, Pointer],
        nr::TIMERFD_CREATE => &[One(names::CLOCKS), Some(names::PIPE)],
        nr::TIMERFD_SETTIME => &[Descriptor, Some(names::SLEEP), Pointer, Pointer],
        nr::TIMERFD_GETTIME => &[Descriptor, Pointer],
        nr::SIGNALFD => &[Int, Pointer, Count],
        nr::SIGNALFD4 => &[Int, Pointer, Count, Some(names::PIPE)],
        nr::TIMER_GETOVERRUN | nr::TIMER_DELETE => &[Int],

        nr::EXIT | nr::EXIT_GROUP | nr::GETPGID | nr::GETSID | nr::ALARM => &[Int],
        nr::GETRLIMIT | nr::SETRLIMIT => &[One(names::RESOURCES), Pointer],
        nr::PRLIMIT64 => &[Int, One(names::RESOURCES), Pointer, Pointer],
        nr::PRCTL => &[One(names::PROCESS), Pointer, Pointer, Pointer, Pointer],
        nr::ARCH_PRCTL => &[One(names::THREAD), Pointer],
        nr::UMASK => &[Mode],
        nr::SET_ROBUST_LIST => &[Pointer, Count],
        nr::RSEQ => &[Pointer, Count, Pointer, Pointer],
        nr::SCHED_GETAFFINITY | nr::SCHED_SETAFFINITY => &[Int, Count, Pointer],
        nr::GETRUSAGE => &[Int, Pointer],
        nr::GETCPU => &[Pointer, Pointer, Pointer],
        nr::CLONE => &[Pointer, Pointer, Pointer, Pointer, Pointer],
        nr::CLONE3 => &[Pointer, Count],

        nr::POLL => &[Pointer, Count, Int],
        nr::PPOLL => &[Pointer, Count, Time, Pointer, Count],
        nr::SELECT => &[Int, Pointer, Pointer, Pointer, Pointer],
        nr::PSELECT6 => &[Int, Pointer, Pointer, Pointer, Time, Pointer],
        nr::EPOLL_CREATE => &[Int],
        nr::EPOLL_CREATE1 => &[Some(names::EPOLL_CREATE)],
        nr::EPOLL_CTL => &[Descriptor, One(names::EPOLL_CONTROL), Descriptor, Pointer],
        nr::EPOLL_WAIT => &[Descriptor, Pointer, Int, Int],
        nr::EPOLL_PWAIT => &[Descriptor, Pointer, Int, Int, Pointer, Count],
        nr::EPOLL_PWAIT2 => &[Descriptor, Pointer, Int, Time, Pointer, Count],
        nr::EVENTFD => &[Int],
        nr::EVENTFD2 => &[Int, Some(names::EVENT)],
        nr::SOCKET => &[One(names::FAMILY), SOCKET, Int],
        nr::SOCKETPAIR => &[One(names::FAMILY), SOCKET, Int, Pair],
        nr::SENDTO => &[Descriptor, Bytes { len: 2 }, Count, Some(names::MESSAGE), Pointer, Count],
        nr::RECVFROM => &[Descriptor, Filled, Count, Some(names::MESSAGE), Pointer, Pointer],
        nr::SENDMSG | nr::RECVMSG => &[Descriptor, Pointer, Some(names::MESSAGE)],
        nr::SHUTDOWN => &[Descriptor, One(names::SHUT)],
        nr::GETSOCKOPT | nr::SETSOCKOPT => &[Descriptor, Int, Int, Pointer, Pointer],

        nr::SCHED_YIELD
        | nr::PAUSE
        | nr::GETPID
        | nr::GETTID
        | nr::GETPPID
        | nr::GETPGRP
        | nr::SETSID
        | nr::GETUID
        | nr::GETGID
        | nr::GETEUID
        | nr::GETEGID
        | nr::FORK
        | nr::VFORK
        | nr::SYNC
        | nr::MUNLOCKALL => &[],
        _ => &[Pointer; 6],
    };
    (arguments, if matches!(number, nr::MMAP | nr::MREMAP | nr::BRK) { Address } else { Number })
}
