//! Linux's system calls, as far as a program needs them that has no threads, files or network: start-up and the memory
//! management of C libraries and of Rust's standard library, clocks, random bytes, and the standard streams.
//!
//! Everything else, and whatever would reach beyond the guest, is refused with Linux's own error numbers:
//!
//! - The file system is empty: every path is `ENOENT`. There are three open files, standard input at its end, and no room
//!   for more (`EMFILE`).
//! - Threads, processes, sockets, pipes and event queues are not implemented: `ENOSYS`, which Rust shows as
//!   `ErrorKind::Unsupported`.
//! - Signal handlers are remembered and never called.
//!
//! The guest has one thread, so where it waits for another it waits forever: [`Outcome::Deadlock`].

mod counts;
mod errno;
mod files;
mod futex;
mod host;
mod log;
mod memory;
mod numbers;
mod poll;
mod process;
pub(crate) mod random;
mod record;
mod segments;
mod signals;
#[cfg(test)]
mod tests;
mod time;

use std::sync::Arc;

use ampoule_abi::layout::OutputStream;

use crate::address_space::AddressSpace;
use crate::output::Stream;

use super::{Outcome, Personality, Streams, SystemCall};

use self::counts::Counts;
use self::errno::Errno;
use self::files::{Descriptor, Descriptors};
use self::log::Log;
use self::numbers as nr;
use self::process::{NAME_LEN, PARENT_ID, PROCESS_ID};
use self::segments::SegmentBases;
use self::signals::Signals;
use self::time::ProcessClock;

pub(crate) use self::process::USER_ID;

/// What a process can be told about itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProcessConfig {
    /// The most that its stack may grow to, in bytes.
    pub(crate) stack_size: u64,
}

/// A Linux process with one thread. Its memory is the [`AddressSpace`]; the rest is here. Clones share what neither has changed.
#[derive(Clone, Debug)]
pub(crate) struct LinuxProcess {
    state: Arc<State>,
    clock: ProcessClock,
    log: Log,
}

#[derive(Clone, Debug)]
struct State {
    config: ProcessConfig,
    descriptors: Descriptors,
    signals: Signals,
    segments: SegmentBases,
    name: [u8; NAME_LEN],
    umask: u64,
    /// System calls that the process has been told do not exist.
    refused: Counts,
}

impl LinuxProcess {
    pub(crate) fn new(config: ProcessConfig) -> Self {
        let state = State {
            config,
            descriptors: Descriptors::standard(),
            signals: Signals::new(),
            segments: SegmentBases::default(),
            name: *b"guest\0\0\0\0\0\0\0\0\0\0\0",
            umask: 0o022,
            refused: Counts::new(),
        };
        Self { state: Arc::new(state), clock: ProcessClock::start(), log: Log::new() }
    }

    /// The process as it is now, to be [resumed](Self::resume) later.
    pub(crate) fn suspended(&self) -> Self {
        Self { state: Arc::clone(&self.state), clock: self.clock.suspended(), log: Log::new() }
    }

    /// Goes on for a call of the host, if it was suspended. The time since then is not its own.
    pub(crate) fn resume(&mut self) {
        self.clock.resume();
        self.log = Log::new();
    }
}

impl Personality for LinuxProcess {
    fn system_call(&mut self, call: &SystemCall, space: &mut AddressSpace, streams: &mut dyn Streams) -> Outcome {
        let state = Arc::make_mut(&mut self.state);
        let result = match state.serve(self.clock, call, space, streams, &mut self.log) {
            Ok(outcome) => outcome,
            Err(errno) => {
                if errno == Errno::ENOSYS && state.refused.record(call.number) == 1 {
                    self.log.refused(call.number);
                }
                Outcome::Return(errno.result())
            }
        };
        tracing::trace!(number = call.number, name = nr::name(call.number), arguments = ?call.arguments, ?result, "system call");
        result
    }

    fn standard_stream(&self, of: OutputStream) -> Option<Stream> {
        match self.state.descriptors.get(of as u64) {
            Ok(Descriptor::Output(stream)) => Some(stream),
            Ok(Descriptor::Input) | Err(_) => None,
        }
    }
}

impl State {
    fn serve(
        &mut self,
        clock: ProcessClock,
        call: &SystemCall,
        space: &mut AddressSpace,
        streams: &mut dyn Streams,
        log: &mut Log,
    ) -> Result<Outcome, Errno> {
        let [a, b, c, d, ..] = call.arguments;
        match call.number {
            nr::EXIT | nr::EXIT_GROUP => Ok(Outcome::Exit { code: int(a) & 0xff }),
            nr::WRITE => files::write(&self.descriptors, space, streams, [a, b, c]),
            nr::WRITEV => files::writev(&self.descriptors, space, streams, [a, b, c]),
            nr::POLL => poll::poll(&self.descriptors, space, [a, b, c]),
            nr::PPOLL => poll::ppoll(&self.descriptors, space, [a, b, c]),
            nr::FUTEX => futex::futex(space, &call.arguments),
            nr::NANOSLEEP => time::nanosleep(space, a),
            nr::CLOCK_NANOSLEEP => time::clock_nanosleep(clock, space, [a, b, c]),
            nr::ARCH_PRCTL => self.segments.arch_prctl(space, a, b),
            nr::KILL => self.signals.kill(a, b),
            nr::TKILL => self.signals.kill_thread(PROCESS_ID as u64, a, b),
            nr::TGKILL => self.signals.kill_thread(a, b, c),
            nr::RT_SIGTIMEDWAIT => signals::wait(space, c, d),
            nr::PAUSE | nr::RT_SIGSUSPEND => Ok(Outcome::Deadlock),
            _ => self.answer(clock, call, space, log).map(Outcome::Return),
        }
    }

    /// Serves the system calls that come to a number and nothing else.
    fn answer(
        &mut self,
        clock: ProcessClock,
        call: &SystemCall,
        space: &mut AddressSpace,
        log: &mut Log,
    ) -> Result<u64, Errno> {
        let [a, b, c, d, ..] = call.arguments;
        match call.number {
            nr::BRK => Ok(memory::brk(space, a)),
            nr::MMAP => memory::mmap(space, &self.descriptors, &call.arguments),
            nr::MUNMAP => memory::munmap(space, a, b),
            nr::MPROTECT => memory::mprotect(space, a, b, c),
            nr::MREMAP => memory::mremap(space, &call.arguments),
            nr::MADVISE => memory::madvise(space, a, b, c),
            nr::MINCORE => memory::mincore(space, a, b, c),
            nr::MSYNC => memory::msync(space, a, b),
            nr::MLOCK | nr::MLOCK2 | nr::MLOCKALL => Err(Errno::EPERM),
            nr::MUNLOCK | nr::MUNLOCKALL => Ok(0),

            nr::READ | nr::READV => files::read(&self.descriptors, a),
            nr::PREAD64 | nr::PWRITE64 | nr::PREADV | nr::PWRITEV | nr::LSEEK => {
                files::refuse_open(&self.descriptors, a, Errno::ESPIPE)
            }
            nr::IOCTL => files::refuse_open(&self.descriptors, a, Errno::ENOTTY),
            nr::FSYNC | nr::FDATASYNC | nr::FTRUNCATE => files::refuse_open(&self.descriptors, a, Errno::EINVAL),
            nr::CLOSE => self.descriptors.close(a),
            nr::DUP => self.descriptors.duplicate(a, 0),
            nr::DUP2 => self.descriptors.duplicate_to(a, b),
            nr::DUP3 => files::dup3(&mut self.descriptors, a, b, c),
            nr::FCNTL => files::fcntl(&mut self.descriptors, a, b, c),
            nr::FSTAT => files::fstat(&self.descriptors, space, a, b),
            nr::NEWFSTATAT => files::stat_at(&self.descriptors, space, log, [a, b, c, d]),
            nr::STATX => files::statx(&self.descriptors, space, log, [a, b, c, call.arguments[4]]),
            nr::GETCWD => files::getcwd(space, a, b),
            nr::OPEN
            | nr::STAT
            | nr::LSTAT
            | nr::ACCESS
            | nr::READLINK
            | nr::STATFS
            | nr::CHDIR
            | nr::CREAT
            | nr::MKDIR
            | nr::RMDIR
            | nr::RENAME
            | nr::LINK
            | nr::UNLINK
            | nr::SYMLINK
            | nr::CHMOD
            | nr::CHOWN
            | nr::LCHOWN
            | nr::TRUNCATE
            | nr::EXECVE => files::refuse_path(space, log, call_name(call), a),
            nr::OPENAT
            | nr::OPENAT2
            | nr::FACCESSAT
            | nr::FACCESSAT2
            | nr::READLINKAT
            | nr::MKDIRAT
            | nr::UNLINKAT
            | nr::RENAMEAT
            | nr::RENAMEAT2
            | nr::LINKAT
            | nr::FCHMODAT
            | nr::EXECVEAT => files::refuse_path(space, log, call_name(call), b),

            nr::CLOCK_GETTIME => time::clock_gettime(clock, space, a, b),
            nr::CLOCK_GETRES => time::clock_getres(clock, space, a, b),
            nr::GETTIMEOFDAY => time::gettimeofday(space, a, b),
            nr::TIME => time::time(space, a),
            nr::TIMES => time::times(clock, space, a),
            nr::GETRUSAGE => time::getrusage(clock, space, a, b),
            nr::CLOCK_SETTIME | nr::SETTIMEOFDAY => Err(Errno::EPERM),
            nr::GETRANDOM => random::getrandom(space, a, b, c),

            nr::RT_SIGACTION => self.signals.action(space, [a, b, c, d]),
            nr::RT_SIGPROCMASK => self.signals.mask(space, [a, b, c, d]),
            nr::RT_SIGPENDING => signals::pending(space, a, b),
            nr::SIGALTSTACK => self.signals.alternate_stack(space, a, b),

            nr::GETPID | nr::GETTID | nr::SET_TID_ADDRESS | nr::GETPGRP => Ok(PROCESS_ID as u64),
            nr::GETPGID | nr::GETSID => process::about_self(a, PROCESS_ID as u64),
            nr::GETPPID => Ok(PARENT_ID),
            nr::GETUID | nr::GETEUID | nr::GETGID | nr::GETEGID => Ok(USER_ID.into()),
            nr::GETRESUID | nr::GETRESGID => process::read_ids(space, [a, b, c]),
            nr::SETUID | nr::SETGID => process::set_ids(&[a]),
            nr::SETREUID | nr::SETREGID => process::set_ids(&[a, b]),
            nr::SETRESUID | nr::SETRESGID => process::set_ids(&[a, b, c]),
            nr::GETGROUPS | nr::SCHED_YIELD => Ok(0),
            nr::SETSID => Err(Errno::EPERM),
            nr::WAIT4 | nr::WAITID => Err(Errno::ECHILD),
            nr::UMASK => Ok(std::mem::replace(&mut self.umask, a & 0o777)),
            nr::UNAME => process::uname(space, a),
            nr::SYSINFO => process::sysinfo(space, a),
            nr::PRLIMIT64 => process::prlimit(space, self.config.stack_size, [a, b, c, d]),
            nr::GETRLIMIT => process::prlimit(space, self.config.stack_size, [0, a, 0, b]),
            nr::SETRLIMIT => process::prlimit(space, self.config.stack_size, [0, a, b, 0]),
            nr::PRCTL => process::prctl(space, &mut self.name, [a, b]),
            nr::SET_ROBUST_LIST if b == ROBUST_LIST_LEN => Ok(0),
            nr::SET_ROBUST_LIST => Err(Errno::EINVAL),
            nr::MEMBARRIER => process::membarrier(a),
            nr::GETCPU => process::getcpu(space, a, b),
            nr::SCHED_GETAFFINITY => process::sched_getaffinity(space, a, b, c),
            nr::SCHED_SETAFFINITY => process::sched_setaffinity(space, a, b, c),
            nr::SCHED_GETSCHEDULER => process::about_self(a, 0),
            nr::SCHED_GETPARAM => process::sched_getparam(space, a, b),
            nr::SCHED_GET_PRIORITY_MAX => process::sched_priority(a, 99),
            nr::SCHED_GET_PRIORITY_MIN => process::sched_priority(a, 1),

            nr::CLONE
            | nr::CLONE3
            | nr::FORK
            | nr::VFORK
            | nr::SOCKET
            | nr::SOCKETPAIR
            | nr::PIPE
            | nr::PIPE2
            | nr::EVENTFD
            | nr::EVENTFD2
            | nr::EPOLL_CREATE
            | nr::EPOLL_CREATE1
            | nr::MEMFD_CREATE
            | nr::SELECT
            | nr::RSEQ
            | nr::RT_SIGRETURN => Err(Errno::ENOSYS),
            _ => Err(Errno::ENOSYS),
        }
    }
}

fn call_name(call: &SystemCall) -> &'static str {
    nr::name(call.number).unwrap_or("unknown")
}

/// An argument that the kernel takes as an `int`.
fn int(argument: u64) -> i32 {
    argument as i32
}

/// Size of `struct robust_list_head` (Linux's `include/uapi/linux/futex.h`), in bytes.
const ROBUST_LIST_LEN: u64 = 24;
