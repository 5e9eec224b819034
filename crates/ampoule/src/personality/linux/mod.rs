//! Linux's system calls, as far as a program without threads, files and network needs them: start-up and the memory
//! management of C libraries and of Rust's standard library, clocks, random bytes, the standard streams, pipes, and waiting
//! for what the program does itself.
//!
//! Everything else, and whatever would reach beyond the guest, is refused with Linux's own error numbers:
//!
//! - Files are those of a virtual file system, of which the application says what is in it ([`ProcessFiles`]). Standard input is
//!   what the host gives, and its end.
//! - Threads, processes and sockets, but for pairs of these, are not implemented: `ENOSYS`, which Rust shows as
//!   `ErrorKind::Unsupported`. For threads this is what lets Rayon continue with the one thread that there is; `EAGAIN`,
//!   which lets C++'s `std::async` do so, makes Rayon panic.
//!
//! The guest has one thread, so where it waits for another it waits forever: [`Outcome::Deadlock`].

mod calibration;
mod capabilities;
mod clocks;
mod control;
mod counts;
mod descriptors;
mod devices;
mod epoll;
mod errno;
mod event_counter;
mod file_system;
mod files;
mod futex;
mod groups;
mod host;
mod locks;
mod log;
mod mapped;
mod mappings;
mod maps;
mod memory;
mod memory_files;
mod named;
mod numbers;
mod pipe;
mod poll;
mod proc;
mod process;
mod queues;
pub(crate) mod random;
mod read_write;
mod regular;
mod resource_limits;
mod segments;
mod shared_files;
mod shortage;
mod shown;
mod signalfd;
mod signals;
mod socket;
mod stat;
mod stored;
pub(crate) mod structure;
mod terminal;
#[cfg(test)]
mod tests;
mod time;
mod timerfd;
mod timers;
mod transfer;
pub(crate) mod vdso;
mod vsyscall;
mod waiting;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ampoule_abi::layout::OutputStream;
use ampoule_vfs::{File, NoProcess, Timestamp, Vfs};
use ampoule_vmm::{Context, GuestVirt};
use linux_raw_sys::general::O_RDWR;

use crate::address_space::{AddressSpace, FileId};
use crate::fault::{EndlessWait, FaultKind};
use crate::output::Stream;
use crate::policy::{Policy, RefusedCall};

use super::{Outcome, Personality, SignalEnd, Streams, SystemCall};

pub(crate) use self::mapped::{Keep, mapped_file};
pub(crate) use self::maps::ProgramPart;

use self::clocks::Clocks;
use self::counts::Counts;
use self::descriptors::{Descriptors, Object};
use self::errno::Errno;
use self::files::Place;
use self::locks::Identity;
use self::log::Log;
use self::numbers as nr;
use self::process::{NAME_LEN, ProcessId};
use self::regular::At;
use self::resource_limits::ResourceLimits;
use self::segments::SegmentBases;
use self::shared_files::SharedHandle;
use self::shortage::Shortage;
use self::signals::Signals;
use self::timers::Timers;
use self::transfer::EntryForm;

pub(crate) use self::clocks::ClockConfig;
pub(crate) use self::process::{PARENT_ID, USER_ID};
pub(crate) use self::signals::signal_of;
pub(crate) use self::stored::{ProcessError, ProcessRecord};

/// What a process can learn about itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProcessConfig {
    /// The most that its stack may grow to, in bytes.
    pub(crate) stack_size: u64,
    /// What its number is derived from.
    pub(crate) chance: [u8; 4],
    /// Its clocks.
    pub(crate) clock: ClockConfig,
    /// Which system calls it has.
    pub(crate) policy: Policy,
}

/// The files of a process at its start.
#[derive(Clone, Debug)]
pub(crate) struct ProcessFiles {
    pub(crate) vfs: Vfs,
    /// The working directory, open as a place.
    pub(crate) directory: File,
    /// The program that it runs, where that is in the file system.
    pub(crate) executable: Option<File>,
    /// How many descriptors it may have.
    pub(crate) descriptors: usize,
    /// What of its standard streams is a terminal.
    pub(crate) terminal: TerminalStreams,
}

/// Which of its standard streams a process finds to be its terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum TerminalStreams {
    /// None: it has no terminal.
    #[default]
    None,
    InputAndOutput,
    /// Standard error, too.
    All,
}

/// What a process was started with, and where that lies in its memory: an address, and how many bytes it is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Started {
    /// What it is called, which may have directories before it.
    pub(crate) program: Arc<str>,
    pub(crate) arguments: (u64, u64),
    pub(crate) environment: (u64, u64),
    pub(crate) auxiliary_vector: Arc<[u8]>,
    /// Where its file lies in memory.
    pub(crate) parts: Arc<[ProgramPart]>,
}

/// A Linux process with one thread. Its memory is the [`AddressSpace`]; the rest is here. Clones share what neither has changed.
#[derive(Clone, Debug)]
pub(crate) struct LinuxProcess {
    state: Arc<State>,
    clocks: Clocks,
    log: Log,
    shortage: Shortage,
    /// The system call whose wait is not over.
    waits_in: Option<SystemCall>,
}

#[derive(Clone, Debug)]
struct State {
    config: ProcessConfig,
    id: ProcessId,
    descriptors: Descriptors,
    vfs: Vfs,
    directory: File,
    executable: Option<File>,
    terminal: TerminalStreams,
    /// What the boot of the system is known by.
    boot: [u8; 16],
    /// The seals of files in memory that have no name.
    seals: BTreeMap<Identity, u32>,
    /// The files whose pages are shared.
    shared: BTreeMap<FileId, SharedHandle>,
    /// Those of which there are private copies.
    copied: BTreeMap<FileId, File>,
    started: Started,
    signals: Signals,
    timers: Timers,
    segments: SegmentBases,
    name: [u8; NAME_LEN],
    umask: u32,
    nice: i32,
    /// Its priority for input and output, as it was set.
    io_priority: u16,
    limits: ResourceLimits,
    /// How often each system call was refused as not implemented.
    refused: Counts,
    /// How many of these are of no account ([`RefusedCall::harmless`]): all are calls of `socket`.
    harmless_sockets: u32,
}

impl LinuxProcess {
    pub(crate) fn new(config: ProcessConfig, files: ProcessFiles) -> Self {
        let ProcessFiles { mut vfs, directory, executable, descriptors, terminal } = files;
        let id = ProcessId::by_chance(config.chance);
        let state = State {
            config,
            id,
            descriptors: standard_streams(&mut vfs, descriptors, terminal),
            terminal,
            vfs,
            directory,
            executable,
            // Nobody takes it for a secret.
            boot: std::array::from_fn(|index| config.chance[index % 4].wrapping_mul(2 * index as u8 + 1)),
            seals: BTreeMap::new(),
            shared: BTreeMap::new(),
            copied: BTreeMap::new(),
            started: Started::default(),
            signals: Signals::new(id),
            timers: Timers::default(),
            segments: SegmentBases::default(),
            name: [0; NAME_LEN],
            umask: 0o022,
            nice: 0,
            io_priority: 0,
            limits: ResourceLimits::new(config.stack_size, descriptors),
            refused: Counts::new(),
            harmless_sockets: 0,
        };
        let (clocks, log) = (Clocks::new(config.clock), Log::new());
        Self { state: Arc::new(state), clocks, log, shortage: Shortage::None, waits_in: None }
    }

    /// Records what it is started with.
    pub(crate) fn started(&mut self, started: Started) {
        let state = Arc::make_mut(&mut self.state);
        state.name = process::name_of(&started.program);
        state.started = started;
    }

    /// The process as it is now, to be [resumed](Self::resume) later.
    pub(crate) fn suspended(&self) -> Self {
        let state = Arc::clone(&self.state);
        let (clocks, log) = (self.clocks.suspended(), Log::new());
        Self { state, clocks, log, shortage: Shortage::None, waits_in: None }
    }

    /// Makes it the process that `other` is, which was suspended.
    pub(crate) fn restore(&mut self, other: &Self) {
        let Self { state, clocks, log, shortage, waits_in } = self;
        *waits_in = None;
        // As a rule it is still the same, and nothing is to be counted.
        if !Arc::ptr_eq(state, &other.state) {
            *state = Arc::clone(&other.state);
        }
        clocks.restore(&other.clocks);
        (*log, *shortage) = (other.log.clone(), other.shortage);
    }

    /// Writes what the guest has stored in files that it shares to these files. Where that fails, it is lost, as it is when a
    /// process of Linux's ends and its system cannot write it.
    pub(crate) fn write_back_files(&mut self, space: &mut AddressSpace) {
        let Self { state, clocks, .. } = self;
        if let Err(errno) = Arc::make_mut(state).write_back_all(clocks, space) {
            tracing::debug!(?errno, "what a guest has stored in a file that it shares could not be written to it");
        }
    }

    /// Shows the guest, which has just been restored or spawned, what the host's files hold now that it shares.
    pub(crate) fn refresh_files(&mut self, space: &mut AddressSpace) {
        let Self { state, clocks, .. } = self;
        for id in state.shared_on_host() {
            if let Err(errno) = Arc::make_mut(state).refresh(clocks, space, (id, 0..u64::MAX)) {
                tracing::debug!(?errno, "a file of the host's that a guest shares could not be read again");
            }
        }
    }

    /// Goes on for a call of the host. If it was suspended, the time since then is not its own.
    pub(crate) fn resume(&mut self, space: &AddressSpace) {
        self.clocks.resume(space);
        self.expire_timers();
        self.log = Log::new();
    }

    /// The system calls that the process did not have, from the lowest number on, and how often it has made each.
    pub(crate) fn refused(&self) -> Vec<RefusedCall> {
        let Self { state, .. } = self;
        let harmless = |number| if number == nr::SOCKET { state.harmless_sockets } else { 0 };
        state.refused.iter().map(|(number, count)| groups::refused(number, count, harmless(number))).collect()
    }

    /// The number of the process and of its only thread.
    pub(crate) fn id(&self) -> i32 {
        self.state.id.number() as i32
    }

    /// Lets time pass on clocks that are not the host's, and says whether they are not.
    pub(crate) fn advance_clock(&mut self, by: Duration) -> bool {
        self.clocks.advance(by)
    }

    /// Takes note that the host's call is over: until the next one the process waits.
    #[inline]
    pub(crate) fn rests(&mut self) {
        self.clocks.rests();
    }

    /// Takes note that the host has slept for the process ([`Outcome::Sleep`]).
    pub(crate) fn slept(&mut self) {
        self.clocks.wait_ends();
    }

    /// Takes note that the host has answered the guest, which goes on.
    #[inline]
    pub(crate) fn answered(&mut self) {
        self.shortage = Shortage::None;
    }
}

impl Personality for LinuxProcess {
    fn system_call(&mut self, call: &SystemCall, space: &mut AddressSpace, streams: &mut dyn Streams) -> Outcome {
        let result = self.serve(call, space, streams);
        Arc::make_mut(&mut self.state).close_files();
        self.clocks.write_page(space);
        self.shortage.note(call, result, space, streams);
        result
    }

    fn show_entered(&self, call: &SystemCall, space: &AddressSpace) -> String {
        shown::entered(call, space)
    }

    fn show_left(&self, call: &SystemCall, result: Option<u64>, space: &AddressSpace, line: &mut String) {
        shown::left(call, result, space, line);
        let denied = groups::denied(self.state.config.policy, call.number).is_some();
        if let Some(needs) = groups::needs(call.number).filter(|_| denied || result == Some(Errno::ENOSYS.result())) {
            line.extend([" (", needs, ")"]);
        }
    }

    fn called_by_address(&self, at: GuestVirt) -> Option<u64> {
        vsyscall::number(at)
    }

    fn aborts_for_memory(&self, streams: &dyn Streams) -> bool {
        self.shortage.explains_abort(streams)
    }

    fn system_call_on_stack(&mut self, call: &SystemCall, stack_pointer: u64, space: &mut AddressSpace) -> u64 {
        let [new, old, ..] = call.arguments;
        let set = Arc::make_mut(&mut self.state).signals.alternate_stack(space, [new, old], stack_pointer);
        set.unwrap_or_else(Errno::result)
    }

    fn wait_limit(&self) -> Option<Duration> {
        self.clocks.interruption().filter(|_| !self.clocks.stand())
    }

    #[inline]
    fn time_to_signal(&self) -> Option<Duration> {
        if !self.state.timers.are_armed() || self.clocks.stand() {
            return None;
        }
        self.state.timers.next_effect(self.clocks.now_of_timers(), &self.state.signals, false)
    }

    fn send_of_terminal(&mut self, signals: u32) {
        if signals != 0 {
            Arc::make_mut(&mut self.state).signals.send_of_terminal(signals);
        }
    }

    fn expire_timers(&mut self) {
        if self.state.has_timers() {
            Arc::make_mut(&mut self.state).expire_timers(&self.clocks);
        }
    }

    #[inline]
    fn has_signal(&self) -> bool {
        self.state.signals.has_deliverable()
    }

    fn deliver_signals(&mut self, context: &mut Context, space: &mut AddressSpace) -> Result<bool, SignalEnd> {
        let State { signals, timers, .. } = Arc::make_mut(&mut self.state);
        signals.deliver(context, space, timers, self.clocks.now_of_timers())
    }

    fn return_from_signal(&mut self, context: &mut Context, space: &mut AddressSpace) -> Result<GuestVirt, SignalEnd> {
        Arc::make_mut(&mut self.state).signals.leave(context, space)
    }

    fn handles_fault(&self, kind: &FaultKind) -> bool {
        self.state.signals.handles(kind)
    }

    fn raise_fault(&mut self, kind: &FaultKind, context: &mut Context, space: &mut AddressSpace) -> Option<GuestVirt> {
        Arc::make_mut(&mut self.state).signals.raise(kind, context, space)
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
        self.look_at_input(call, streams);
        match call.number {
            nr::EXIT | nr::EXIT_GROUP => Ok(Outcome::Exit { code: int(a) & 0xff }),
            nr::READ | nr::READV | nr::PREAD64 | nr::PREADV | nr::PREADV2 => {
                let (places, at) = transfer_of(call, space)?;
                self.read(clocks, space, streams, a, at, &places)
            }
            nr::WRITE | nr::WRITEV | nr::PWRITE64 | nr::PWRITEV | nr::PWRITEV2 => {
                let (places, at) = transfer_of(call, space)?;
                self.write(clocks, space, streams, a, at, &places)
            }
            nr::SENDFILE => self.sendfile(clocks, space, streams, [a, b, c, d]),
            nr::FCNTL => self.fcntl(space, [a, b, c]),
            nr::IOCTL => self.ioctl(space, streams, [a, b, c]).map(Outcome::Return),
            nr::FLOCK => self.flock(a, b),
            nr::POLL => poll::poll(&self.descriptors, clocks, space, [a, b, c]),
            nr::PPOLL => poll::ppoll((&self.descriptors, &mut self.signals), clocks, space, call.arguments),
            nr::SELECT => poll::select(&self.descriptors, clocks, space, [a, b, c, d, call.arguments[4]]),
            nr::PSELECT6 => poll::pselect((&self.descriptors, &mut self.signals), clocks, space, call.arguments),
            nr::EPOLL_WAIT => epoll::wait(&mut self.descriptors, clocks, space, [a, b, c, d]),
            nr::EPOLL_PWAIT => {
                epoll::wait_masked((&mut self.descriptors, &mut self.signals), clocks, space, call.arguments)
            }
            nr::EPOLL_PWAIT2 => {
                epoll::wait_precisely((&mut self.descriptors, &mut self.signals), clocks, space, call.arguments)
            }
            nr::SENDTO => socket::sendto(&mut self.descriptors, &mut self.signals, space, call.arguments),
            nr::SENDMSG => socket::sendmsg(&mut self.descriptors, &mut self.signals, space, [a, b, c]),
            nr::RECVFROM => socket::recvfrom(&mut self.descriptors, space, call.arguments),
            nr::RECVMSG => socket::recvmsg(&mut self.descriptors, space, [a, b, c]),
            nr::FUTEX => futex::futex(clocks, space, &call.arguments),
            nr::NANOSLEEP => time::nanosleep(clocks, space, a),
            nr::CLOCK_NANOSLEEP => time::clock_nanosleep(clocks, space, [a, b, c]),
            nr::ARCH_PRCTL => self.segments.arch_prctl(space, a, b),
            nr::RT_SIGTIMEDWAIT => self.signals.wait((&mut self.timers, clocks), space, [a, b, c, d]),
            nr::RT_SIGSUSPEND => self.signals.suspend(clocks, space, a, b),
            nr::PAUSE => Ok(Outcome::Deadlock(EndlessWait::Signal)),
            nr::RT_SIGRETURN => Ok(Outcome::SignalReturn),
            nr::SIGALTSTACK => Ok(Outcome::NeedsStackPointer),
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
            nr::BRK => self.brk(clocks, space, a),
            nr::MMAP => self.mmap(clocks, space, &call.arguments),
            nr::MUNMAP => self.munmap(clocks, space, a, b),
            nr::MPROTECT => self.mprotect(space, a, b, c),
            nr::MREMAP => self.mremap(clocks, space, &call.arguments),
            nr::MADVISE => self.madvise(clocks, space, [a, b, c]),
            nr::MINCORE => memory::mincore(space, a, b, c),
            nr::MSYNC => self.msync(clocks, space, [a, b, c]),
            nr::MLOCK | nr::MLOCK2 | nr::MLOCKALL => Err(Errno::EPERM),
            nr::MUNLOCK | nr::MUNLOCKALL => Ok(0),

            nr::LSEEK => self.lseek(a, b, c),
            nr::FSYNC => self.sync(clocks, space, a, false),
            nr::FDATASYNC => self.sync(clocks, space, a, true),
            nr::SYNCFS => self.descriptors.get(a).map(drop).and_then(|()| self.sync_all(clocks, space)),
            nr::SYNC_FILE_RANGE | nr::FADVISE64 => self.advise(a, Errno::ESPIPE),
            nr::READAHEAD => self.advise(a, Errno::EINVAL),
            nr::FTRUNCATE => self.ftruncate(clocks, space, a, b),
            nr::FALLOCATE => self.fallocate(clocks, space, [a, b, c, d]),
            nr::COPY_FILE_RANGE => self.copy_file_range(clocks, space, call.arguments),
            nr::GETDENTS64 => self.list(clocks, space, [a, b, c], EntryForm::Wide),
            nr::GETDENTS => self.list(clocks, space, [a, b, c], EntryForm::Old),
            nr::MEMFD_CREATE => self.memfd_create(clocks, space, a, b),
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
            nr::CLOSE => self.close(a),
            nr::CLOSE_RANGE => self.close_range([a, b, c]),
            nr::DUP => self.descriptors.duplicate(a, 0, false),
            nr::DUP2 => self.dup2(a, b),
            nr::DUP3 => self.dup3(a, b, c),
            _ => match self.answer_on_path(clocks, call, space, log) {
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
            nr::RT_SIGPROCMASK => self.signals.mask(space, [a, b, c, d]),
            nr::KILL => self.signals.kill(a, b),
            nr::TKILL => self.signals.kill_thread([self.id.number().into(), a, b]),
            nr::TGKILL => self.signals.kill_thread([a, b, c]),
            nr::RT_SIGQUEUEINFO => self.signals.queue(space, [a, b, c]),
            nr::RT_TGSIGQUEUEINFO => self.signals.queue_to_thread(space, [a, b, c, d]),
            // No call is left to be gone on with: one that was interrupted is over.
            nr::RESTART_SYSCALL => Err(Errno::EINTR),

            nr::ALARM => Ok(timers::alarm(&mut self.timers, clocks.now_of_timers(), &self.signals, a)),
            nr::SETITIMER => {
                timers::setitimer(&mut self.timers, clocks.now_of_timers(), &self.signals, space, [a, b, c])
            }
            nr::GETITIMER => timers::getitimer(&self.timers, clocks.now_of_timers(), &self.signals, space, a, b),
            nr::TIMER_CREATE => timers::create(&mut self.timers, self.id, space, [a, b, c]),
            nr::TIMER_SETTIME => timers::settime(&mut self.timers, clocks, &self.signals, space, [a, b, c, d]),
            nr::TIMER_GETTIME => timers::gettime(&self.timers, clocks.now_of_timers(), &self.signals, space, [a, b]),
            nr::TIMER_GETOVERRUN => timers::getoverrun(&self.timers, a),
            nr::TIMER_DELETE => timers::delete(&mut self.timers, a),
            nr::TIMERFD_CREATE => timerfd::create(&mut self.descriptors, a, b),
            nr::TIMERFD_SETTIME => timerfd::settime(&mut self.descriptors, clocks, space, [a, b, c, d]),
            nr::TIMERFD_GETTIME => timerfd::gettime(&mut self.descriptors, clocks, space, [a, b]),
            nr::SIGNALFD => signalfd::signalfd(&mut self.descriptors, space, [a, b, c, 0]),
            nr::SIGNALFD4 => signalfd::signalfd(&mut self.descriptors, space, [a, b, c, d]),

            nr::SYNC => self.sync_all(clocks, space),
            nr::MOUNT | nr::UMOUNT2 | nr::PIVOT_ROOT | nr::OPEN_BY_HANDLE_AT => Err(Errno::EPERM),
            nr::NAME_TO_HANDLE_AT => Err(Errno::EOPNOTSUPP),

            nr::GETPID | nr::GETTID | nr::SET_TID_ADDRESS | nr::GETPGRP => Ok(self.id.number().into()),
            nr::GETPGID | nr::GETSID => self.id.about_self(a, self.id.number().into()),
            nr::GETPPID => Ok(PARENT_ID),
            nr::GETUID | nr::GETEUID | nr::GETGID | nr::GETEGID => Ok(USER_ID.into()),
            nr::GETRESUID | nr::GETRESGID => process::read_ids(space, [a, b, c]),
            nr::SETUID | nr::SETGID => process::set_ids(&[a]),
            nr::SETREUID | nr::SETREGID => process::set_ids(&[a, b]),
            nr::SETRESUID | nr::SETRESGID => process::set_ids(&[a, b, c]),
            // They stay what they are, and are returned.
            nr::SETFSUID | nr::SETFSGID => Ok(USER_ID.into()),
            nr::GETGROUPS | nr::SCHED_YIELD => Ok(0),
            nr::SETSID | nr::SETGROUPS => Err(Errno::EPERM),
            nr::WAIT4 | nr::WAITID => Err(Errno::ECHILD),
            nr::UMASK => Ok(std::mem::replace(&mut self.umask, uint(a) & 0o777).into()),
            nr::UNAME => process::uname(space, a),
            nr::SYSINFO => process::sysinfo(clocks, space, a),
            nr::PRLIMIT64 => {
                self.id.about_self(a, 0)?;
                self.prlimit(space, [b, c, d])
            }
            nr::GETRLIMIT => self.prlimit(space, [a, 0, b]),
            nr::SETRLIMIT if b == 0 => Err(Errno::EFAULT),
            nr::SETRLIMIT => self.prlimit(space, [a, b, 0]),
            nr::GETPRIORITY => process::getpriority(self.id, self.nice, [a, b]),
            nr::SETPRIORITY => process::setpriority(self.id, &mut self.nice, [a, b, c]),
            nr::IOPRIO_GET => process::ioprio_get(self.id, (self.io_priority, self.nice), [a, b]),
            nr::IOPRIO_SET => process::ioprio_set(self.id, &mut self.io_priority, [a, b, c]),
            nr::CAPGET => capabilities::capget(self.id, space, a, b),
            nr::CAPSET => capabilities::capset(self.id, space, a, b),
            nr::PRCTL => process::prctl(space, &mut self.name, [a, b]),
            nr::SET_ROBUST_LIST if b == ROBUST_LIST_LEN => Ok(0),
            nr::SET_ROBUST_LIST => Err(Errno::EINVAL),
            nr::MEMBARRIER => process::membarrier(a),
            nr::GETCPU => process::getcpu(space, a, b),
            nr::SCHED_GETAFFINITY
            | nr::SCHED_SETAFFINITY
            | nr::SCHED_GETSCHEDULER
            | nr::SCHED_SETSCHEDULER
            | nr::SCHED_GETPARAM
            | nr::SCHED_SETPARAM
            | nr::SCHED_RR_GET_INTERVAL
                if !self.id.is(int(a)) =>
            {
                Err(Errno::ESRCH)
            }
            nr::SCHED_GETAFFINITY => process::sched_getaffinity(space, b, c),
            nr::SCHED_SETAFFINITY => process::sched_setaffinity(space, b, c),
            nr::SCHED_GETSCHEDULER => Ok(0),
            nr::SCHED_SETSCHEDULER => process::sched_setscheduler(space, b, c),
            nr::SCHED_GETPARAM => process::sched_getparam(space, b),
            nr::SCHED_SETPARAM => process::sched_setparam(space, b),
            nr::SCHED_RR_GET_INTERVAL => process::sched_rr_get_interval(space, b),
            nr::SCHED_GET_PRIORITY_MAX => process::sched_priority(a, 99),
            nr::SCHED_GET_PRIORITY_MIN => process::sched_priority(a, 1),

            nr::CLONE | nr::CLONE3 | nr::FORK | nr::VFORK | nr::SOCKET | nr::RSEQ => Err(Errno::ENOSYS),
            _ => Err(Errno::ENOSYS),
        }
    }
}

/// The standard streams of a process at its start.
fn standard_streams(vfs: &mut Vfs, most: usize, terminal: TerminalStreams) -> Descriptors {
    let mut descriptors = Descriptors::standard(most);
    if terminal != TerminalStreams::None {
        let context = ampoule_vfs::Context { now: Timestamp::default(), process: &NoProcess };
        let root = vfs.root();
        // Where something else is granted in its place, the streams are pipes.
        if let Ok(file) = vfs.open(&context, &root, b"/dev/tty", O_RDWR, 0) {
            descriptors.use_terminal(file, terminal == TerminalStreams::All);
        }
    }
    descriptors
}

/// The memory that a call reads into or writes from, and where in the file it begins.
fn transfer_of(call: &SystemCall, space: &AddressSpace) -> Result<(Vec<Place>, At), Errno> {
    let [_, b, c, d, _, f] = call.arguments;
    let places = match call.number {
        nr::READ | nr::WRITE | nr::PREAD64 | nr::PWRITE64 => vec![Place { at: b, len: c }],
        _ => files::places(space, b, c)?,
    };
    let at = match call.number {
        nr::PREAD64 | nr::PREADV | nr::PWRITE64 | nr::PWRITEV => At::Offset(d),
        nr::PREADV2 | nr::PWRITEV2 => read_write::at(d, f, call.number == nr::PWRITEV2)?,
        _ => At::Position,
    };
    Ok((places, at))
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
