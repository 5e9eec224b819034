//! Linux's system calls, as far as a program without threads, files and network needs them: start-up and the memory
//! management of C libraries and of Rust's standard library, clocks, random bytes, the standard streams, pipes, and waiting
//! for what the program does itself.
//!
//! Everything else, and whatever would reach beyond the guest, is refused with Linux's own error numbers:
//!
//! - The only files are a handful of devices and the list of the process's mappings, all made here: every other path is
//!   `ENOENT`. Standard input is what the host gives, and its end.
//! - Threads, processes and sockets, but for pairs of these, are not implemented: `ENOSYS`, which Rust shows as
//!   `ErrorKind::Unsupported`. For threads this is what lets Rayon continue with the one thread that there is; `EAGAIN`,
//!   which lets C++'s `std::async` do so, makes Rayon panic.
//! - Signal handlers are remembered and never called.
//!
//! The guest has one thread, so where it waits for another it waits forever: [`Outcome::Deadlock`].

mod calibration;
mod clocks;
mod counts;
mod descriptors;
mod epoll;
mod errno;
mod event_counter;
mod files;
mod futex;
mod host;
mod log;
mod maps;
mod memory;
mod named;
mod numbers;
mod paths;
mod pipe;
mod poll;
mod process;
mod queues;
pub(crate) mod random;
mod segments;
mod shortage;
mod shown;
mod signals;
mod socket;
mod stat;
pub(crate) mod structure;
#[cfg(test)]
mod tests;
mod time;
pub(crate) mod vdso;
mod vsyscall;

use std::sync::Arc;
use std::time::Duration;

use ampoule_abi::layout::OutputStream;
use ampoule_vmm::GuestVirt;

use crate::address_space::AddressSpace;
use crate::fault::EndlessWait;
use crate::output::Stream;

use super::{Outcome, Personality, Streams, SystemCall};

use self::clocks::Clocks;
use self::counts::Counts;
use self::descriptors::{Descriptors, Object};
use self::errno::Errno;
use self::files::Place;
use self::log::Log;
use self::numbers as nr;
use self::paths::Directory;
use self::process::{NAME_LEN, ProcessId};
use self::segments::SegmentBases;
use self::shortage::Shortage;
use self::signals::Signals;
use self::stat::Status;

pub(crate) use self::clocks::ClockConfig;
pub(crate) use self::process::{PARENT_ID, USER_ID};
pub(crate) use self::signals::signal_of;

/// What a process can learn about itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProcessConfig {
    /// The most that its stack may grow to, in bytes.
    pub(crate) stack_size: u64,
    /// What its number is derived from.
    pub(crate) chance: [u8; 4],
    /// Its clocks.
    pub(crate) clock: ClockConfig,
}

/// A Linux process with one thread. Its memory is the [`AddressSpace`]; the rest is here. Clones share what neither has changed.
#[derive(Clone, Debug)]
pub(crate) struct LinuxProcess {
    state: Arc<State>,
    clocks: Clocks,
    log: Log,
    shortage: Shortage,
}

#[derive(Clone, Debug)]
struct State {
    config: ProcessConfig,
    id: ProcessId,
    descriptors: Descriptors,
    /// The working directory.
    directory: Directory,
    signals: Signals,
    segments: SegmentBases,
    name: [u8; NAME_LEN],
    umask: u64,
    nice: i32,
    /// How often each system call was refused as not implemented.
    refused: Counts,
}

impl LinuxProcess {
    pub(crate) fn new(config: ProcessConfig) -> Self {
        let state = State {
            config,
            id: ProcessId::by_chance(config.chance),
            descriptors: Descriptors::standard(),
            directory: Directory::Root,
            signals: Signals::new(),
            segments: SegmentBases::default(),
            name: *b"guest\0\0\0\0\0\0\0\0\0\0\0",
            umask: 0o022,
            nice: 0,
            refused: Counts::new(),
        };
        Self { state: Arc::new(state), clocks: Clocks::new(config.clock), log: Log::new(), shortage: Shortage::None }
    }

    /// The process as it is now, to be [resumed](Self::resume) later.
    pub(crate) fn suspended(&self) -> Self {
        let state = Arc::clone(&self.state);
        Self { state, clocks: self.clocks.suspended(), log: Log::new(), shortage: Shortage::None }
    }

    /// Makes it the process that `other` is, which was suspended.
    pub(crate) fn restore(&mut self, other: &Self) {
        let Self { state, clocks, log, shortage } = self;
        // As a rule it is still the same, and nothing is to be counted.
        if !Arc::ptr_eq(state, &other.state) {
            *state = Arc::clone(&other.state);
        }
        clocks.restore(&other.clocks);
        (*log, *shortage) = (other.log.clone(), other.shortage);
    }

    /// Goes on for a call of the host. If it was suspended, the time since then is not its own.
    pub(crate) fn resume(&mut self, space: &AddressSpace) {
        self.clocks.resume(space);
        self.log = Log::new();
    }

    /// The number of the process and of its only thread.
    pub(crate) fn id(&self) -> i32 {
        self.state.id.number() as i32
    }

    /// Lets time pass on clocks that are not the host's, and says whether they are not.
    pub(crate) fn advance_clock(&mut self, by: Duration) -> bool {
        self.clocks.advance(by)
    }

    /// Takes note that the host has answered the guest, which goes on.
    #[inline]
    pub(crate) fn answered(&mut self) {
        self.shortage = Shortage::None;
    }
}

impl Personality for LinuxProcess {
    fn system_call(&mut self, call: &SystemCall, space: &mut AddressSpace, streams: &mut dyn Streams) -> Outcome {
        let state = Arc::make_mut(&mut self.state);
        let result = match state.serve(&mut self.clocks, call, space, streams, &mut self.log) {
            Ok(outcome) => outcome,
            Err(errno) => {
                if errno == Errno::ENOSYS && state.refused.record(call.number) == 1 {
                    self.log.refused(call.number);
                }
                Outcome::Return(errno.result())
            }
        };
        self.clocks.write_page(space);
        self.shortage.note(call, result, space, streams);
        result
    }

    fn show_entered(&self, call: &SystemCall, space: &AddressSpace) -> String {
        shown::entered(call, space)
    }

    fn show_left(&self, call: &SystemCall, result: Option<u64>, space: &AddressSpace, line: &mut String) {
        shown::left(call, result, space, line);
    }

    fn called_by_address(&self, at: GuestVirt) -> Option<u64> {
        vsyscall::number(at)
    }

    fn aborts_for_memory(&self, streams: &dyn Streams) -> bool {
        self.shortage.explains_abort(streams)
    }

    fn handled_signal(&self, vector: u8) -> Option<i32> {
        self.state.signals.handled(vector)
    }

    fn standard_stream(&self, of: OutputStream) -> Option<Stream> {
        match self.state.descriptors.get(of as u64).map(|file| file.object) {
            Ok(Object::Output(stream)) => Some(stream),
            Ok(_) | Err(_) => None,
        }
    }
}

impl State {
    fn serve(
        &mut self,
        clocks: &mut Clocks,
        call: &SystemCall,
        space: &mut AddressSpace,
        streams: &mut dyn Streams,
        log: &mut Log,
    ) -> Result<Outcome, Errno> {
        let [a, b, c, d, ..] = call.arguments;
        match call.number {
            nr::EXIT | nr::EXIT_GROUP => Ok(Outcome::Exit { code: int(a) & 0xff }),
            nr::READ => files::read(&mut self.descriptors, space, streams, a, &[Place { at: b, len: c }]),
            nr::READV => {
                let places = files::places(space, b, c)?;
                files::read(&mut self.descriptors, space, streams, a, &places)
            }
            nr::WRITE => {
                let place = Place { at: b, len: c };
                files::write(&mut self.descriptors, &mut self.signals, space, streams, a, &[place])
            }
            nr::WRITEV => {
                let places = files::places(space, b, c)?;
                files::write(&mut self.descriptors, &mut self.signals, space, streams, a, &places)
            }
            nr::POLL => poll::poll(&self.descriptors, clocks, space, [a, b, c]),
            nr::PPOLL => poll::ppoll(&self.descriptors, clocks, space, [a, b, c]),
            nr::SELECT => poll::select(&self.descriptors, clocks, space, [a, b, c, d, call.arguments[4]]),
            nr::PSELECT6 => poll::pselect(&self.descriptors, clocks, space, call.arguments),
            nr::EPOLL_WAIT => epoll::wait(&mut self.descriptors, clocks, space, [a, b, c, d]),
            nr::EPOLL_PWAIT => epoll::wait_masked(&mut self.descriptors, clocks, space, call.arguments),
            nr::EPOLL_PWAIT2 => epoll::wait_precisely(&mut self.descriptors, clocks, space, call.arguments),
            nr::SENDTO => socket::sendto(&mut self.descriptors, &mut self.signals, space, call.arguments),
            nr::SENDMSG => socket::sendmsg(&mut self.descriptors, &mut self.signals, space, [a, b, c]),
            nr::RECVFROM => socket::recvfrom(&mut self.descriptors, space, call.arguments),
            nr::RECVMSG => socket::recvmsg(&mut self.descriptors, space, [a, b, c]),
            nr::FUTEX => futex::futex(clocks, space, &call.arguments),
            nr::NANOSLEEP => time::nanosleep(clocks, space, a),
            nr::CLOCK_NANOSLEEP => time::clock_nanosleep(clocks, space, [a, b, c]),
            nr::ARCH_PRCTL => self.segments.arch_prctl(space, a, b),
            nr::KILL => self.signals.kill(self.id, a, b),
            nr::TKILL => self.signals.kill_thread(self.id, [self.id.number().into(), a, b]),
            nr::TGKILL => self.signals.kill_thread(self.id, [a, b, c]),
            nr::RT_SIGPROCMASK => self.signals.mask(space, [a, b, c, d]),
            nr::RT_SIGTIMEDWAIT => self.signals.wait(self.id, clocks, space, [a, b, c, d]),
            nr::RT_SIGSUSPEND => self.signals.suspend(space, a, b),
            nr::PAUSE => Ok(Outcome::Deadlock(EndlessWait::Signal)),
            _ => self.answer(clocks, call, space, log).map(Outcome::Return),
        }
    }

    /// Serves the system calls whose only outcome is a number.
    fn answer(
        &mut self,
        clocks: &mut Clocks,
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

            nr::PREAD64 => files::pread(&self.descriptors, space, [a, d], &[Place { at: b, len: c }]),
            nr::PREADV => {
                let places = files::places(space, b, c)?;
                files::pread(&self.descriptors, space, [a, d], &places)
            }
            nr::PWRITE64 => files::pwrite(&self.descriptors, [a, d], &[Place { at: b, len: c }]),
            nr::PWRITEV => files::pwrite(&self.descriptors, [a, d], &files::places(space, b, c)?),
            nr::LSEEK => files::lseek(&mut self.descriptors, a, b, c),
            nr::IOCTL => files::ioctl(&mut self.descriptors, space, [a, b, c]),
            nr::FSYNC | nr::FDATASYNC | nr::FTRUNCATE => files::refuse_open(&self.descriptors, a, Errno::EINVAL),
            nr::PIPE => pipe::pipe(&mut self.descriptors, space, a, 0),
            nr::PIPE2 => pipe::pipe(&mut self.descriptors, space, a, b),
            nr::EVENTFD => event_counter::eventfd(&mut self.descriptors, a, 0),
            nr::EVENTFD2 => event_counter::eventfd(&mut self.descriptors, a, b),
            nr::EPOLL_CREATE => epoll::create_sized(&mut self.descriptors, a),
            nr::EPOLL_CREATE1 => epoll::create(&mut self.descriptors, a),
            nr::EPOLL_CTL => epoll::control(&mut self.descriptors, space, [a, b, c, d]),
            nr::SOCKETPAIR => socket::socketpair(&mut self.descriptors, space, [a, b, c, d]),
            nr::SHUTDOWN => socket::shutdown(&mut self.descriptors, a, b),
            nr::GETSOCKOPT => socket::getsockopt(&mut self.descriptors, space, [a, b, c, d, call.arguments[4]]),
            nr::SETSOCKOPT => socket::refuse(&self.descriptors, a, Errno::ENOPROTOOPT),
            nr::GETSOCKNAME | nr::GETPEERNAME => socket::name(&self.descriptors, space, [a, b, c]),
            nr::CLOSE => self.descriptors.close(a),
            nr::DUP => self.descriptors.duplicate(a, 0, false),
            nr::DUP2 if a as u32 == b as u32 => self.descriptors.get(a).map(|_| u64::from(a as u32)),
            nr::DUP2 => self.descriptors.duplicate_to(a, b, false),
            nr::DUP3 => files::dup3(&mut self.descriptors, a, b, c),
            nr::FCNTL => files::fcntl(&mut self.descriptors, a, b, c),
            nr::FSTAT => Status::of_open(self.descriptors.get(a)?.object).write_stat(space, b),
            nr::GETCWD => paths::getcwd(space, self.directory, a, b),
            _ => match self.answer_on_path(call, space, log) {
                Some(answer) => answer,
                None => self.answer_otherwise(clocks, call, space),
            },
        }
    }

    /// Serves the rest of the system calls whose only outcome is a number.
    fn answer_otherwise(
        &mut self,
        clocks: &mut Clocks,
        call: &SystemCall,
        space: &mut AddressSpace,
    ) -> Result<u64, Errno> {
        let [a, b, c, d, ..] = call.arguments;
        match call.number {
            nr::CLOCK_GETTIME => time::clock_gettime(clocks, space, a, b),
            nr::CLOCK_GETRES => time::clock_getres(clocks, space, a, b),
            nr::GETTIMEOFDAY => time::gettimeofday(clocks, space, a, b),
            nr::TIME => time::time(clocks, space, a),
            nr::TIMES => time::times(clocks, space, a),
            nr::GETRUSAGE => time::getrusage(clocks, space, a, b),
            nr::CLOCK_SETTIME | nr::SETTIMEOFDAY => Err(Errno::EPERM),
            nr::GETRANDOM => random::getrandom(space, a, b, c),

            nr::RT_SIGACTION => self.signals.action(space, [a, b, c, d]),
            nr::RT_SIGPENDING => self.signals.pending(space, a, b),
            nr::SIGALTSTACK => self.signals.alternate_stack(space, a, b),

            // No alarm is ever set, because none would go off.
            nr::ALARM => Ok(0),

            nr::GETPID | nr::GETTID | nr::SET_TID_ADDRESS | nr::GETPGRP => Ok(self.id.number().into()),
            nr::GETPGID | nr::GETSID => self.id.about_self(a, self.id.number().into()),
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
            nr::SYSINFO => process::sysinfo(clocks, space, a),
            nr::PRLIMIT64 => {
                self.id.about_self(a, 0)?;
                process::prlimit(space, self.config.stack_size, [b, c, d])
            }
            nr::GETRLIMIT => process::prlimit(space, self.config.stack_size, [a, 0, b]),
            nr::SETRLIMIT => process::prlimit(space, self.config.stack_size, [a, b, 0]),
            nr::GETPRIORITY => process::getpriority(self.id, self.nice, [a, b]),
            nr::SETPRIORITY => process::setpriority(self.id, &mut self.nice, [a, b, c]),
            nr::PRCTL => process::prctl(space, &mut self.name, [a, b]),
            nr::SET_ROBUST_LIST if b == ROBUST_LIST_LEN => Ok(0),
            nr::SET_ROBUST_LIST => Err(Errno::EINVAL),
            nr::MEMBARRIER => process::membarrier(a),
            nr::GETCPU => process::getcpu(space, a, b),
            nr::SCHED_GETAFFINITY | nr::SCHED_SETAFFINITY | nr::SCHED_GETSCHEDULER | nr::SCHED_GETPARAM
                if !self.id.is(int(a)) =>
            {
                Err(Errno::ESRCH)
            }
            nr::SCHED_GETAFFINITY => process::sched_getaffinity(space, b, c),
            nr::SCHED_SETAFFINITY => process::sched_setaffinity(space, b, c),
            nr::SCHED_GETSCHEDULER => Ok(0),
            nr::SCHED_GETPARAM => process::sched_getparam(space, b),
            nr::SCHED_GET_PRIORITY_MAX => process::sched_priority(a, 99),
            nr::SCHED_GET_PRIORITY_MIN => process::sched_priority(a, 1),

            nr::CLONE
            | nr::CLONE3
            | nr::FORK
            | nr::VFORK
            | nr::SOCKET
            | nr::MEMFD_CREATE
            | nr::OPENAT2
            | nr::RSEQ
            | nr::RT_SIGRETURN => Err(Errno::ENOSYS),
            _ => Err(Errno::ENOSYS),
        }
    }
}

/// An argument that the kernel takes as an `int`.
fn int(argument: u64) -> i32 {
    argument as i32
}

/// An argument that the kernel takes as an `unsigned int`, or as an `int` that is never negative.
fn uint(argument: u64) -> u32 {
    argument as u32
}

const ROBUST_LIST_LEN: u64 = size_of::<linux_raw_sys::general::robust_list_head>() as u64;
