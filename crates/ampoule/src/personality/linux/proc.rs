//! The files in `/proc`: what a process can read about itself and its system, made when it is read.
//!
//! Everything is the sandbox's own truth, and nothing the host's. The texts are as Linux writes them, since programs take them
//! apart. None is kept while it is open, so that open files cost the host nothing.

use std::fmt::Write;
use std::time::Duration;

use ampoule_vfs::{MountKind, ProcessFile, SystemFile};
use ampoule_vmm::{GuestVirt, PAGE_SIZE};
use linux_raw_sys::general::{
    RLIMIT_AS, RLIMIT_CORE, RLIMIT_CPU, RLIMIT_DATA, RLIMIT_FSIZE, RLIMIT_LOCKS, RLIMIT_MEMLOCK, RLIMIT_MSGQUEUE,
    RLIMIT_NICE, RLIMIT_NOFILE, RLIMIT_NPROC, RLIMIT_RSS, RLIMIT_RTPRIO, RLIMIT_RTTIME, RLIMIT_SIGPENDING,
    RLIMIT_STACK,
};

use crate::address_space::{AddressSpace, MAX_MAPPINGS};

use super::clocks::Clocks;
use super::errno::Errno;
use super::host::{HostClock, fill_random};
use super::process::{HOST_NAME, PARENT_ID, PID_MAX_LIMIT, RELEASE, USER_ID, VERSION};
use super::resource_limits::Limit;
use super::{State, maps};

/// Fills `into` with what the file has at a position, and returns how much that is.
pub(super) fn read(
    state: &State,
    clocks: &mut Clocks,
    space: &AddressSpace,
    file: ProcessFile,
    position: u64,
    into: &mut [u8],
) -> Result<usize, Errno> {
    let text = match file {
        // They can be long.
        ProcessFile::Maps => return Ok(maps::read(space, &state.program_file(), position, into, false)),
        ProcessFile::Smaps => return Ok(maps::read(space, &state.program_file(), position, into, true)),
        ProcessFile::Cmdline => return Ok(memory(space, state.started.arguments, position, into)),
        ProcessFile::Environ => return Ok(memory(space, state.started.environment, position, into)),
        ProcessFile::Auxv => state.started.auxiliary_vector.to_vec(),
        ProcessFile::Comm => [name(state), b"\n"].concat(),
        ProcessFile::Limits => limits(state).into_bytes(),
        // Nobody has logged in, and there is no session of the audit's.
        ProcessFile::Loginuid | ProcessFile::Sessionid => u32::MAX.to_string().into_bytes(),
        ProcessFile::Mountinfo => mountinfo(state),
        ProcessFile::Mounts => mounts(state),
        ProcessFile::Stat => stat(state, clocks, space),
        ProcessFile::Statm => statm(space).into_bytes(),
        ProcessFile::Status => status(state, space),
        _ => Vec::new(),
    };
    Ok(part(&text, position, into))
}

/// The same of a file about the whole system.
pub(super) fn read_system(
    state: &State,
    clocks: &mut Clocks,
    space: &AddressSpace,
    file: SystemFile,
    position: u64,
    into: &mut [u8],
) -> Result<usize, Errno> {
    let text = match file {
        SystemFile::Cmdline => "ampoule\n".to_owned(),
        SystemFile::Cpuinfo => "processor\t: 0\nmodel name\t: virtual processor\ncpu cores\t: 1\n\n".to_owned(),
        SystemFile::Filesystems => "nodev\ttmpfs\nnodev\tproc\nnodev\tdevtmpfs\nnodev\toverlay\n".to_owned(),
        SystemFile::Loadavg => format!("0.00 0.00 0.00 1/1 {}\n", state.id.number()),
        SystemFile::Meminfo => meminfo(space),
        SystemFile::Stat => system_stat(clocks),
        SystemFile::Uptime => {
            let up = clocks.now(HostClock::Boottime);
            let idle = up.saturating_sub(clocks.processor_time());
            format!("{} {}\n", hundredths(up), hundredths(idle))
        }
        SystemFile::Version => format!("Linux version {RELEASE} ({HOST_NAME}) {VERSION}\n"),
        SystemFile::Hostname => format!("{HOST_NAME}\n"),
        SystemFile::NgroupsMax => format!("{NGROUPS_MAX}\n"),
        SystemFile::Osrelease => format!("{RELEASE}\n"),
        SystemFile::Ostype => "Linux\n".to_owned(),
        SystemFile::PidMax => format!("{PID_MAX_LIMIT}\n"),
        SystemFile::BootId => uuid(state.boot),
        SystemFile::Uuid => {
            let mut random = [0; 16];
            fill_random(&mut random).map_err(|_| Errno::EIO)?;
            uuid(random)
        }
        SystemFile::MaxMapCount => format!("{MAX_MAPPINGS}\n"),
        // Memory that can be written is there: none is promised that is not.
        SystemFile::OvercommitMemory => "2\n".to_owned(),
        _ => String::new(),
    };
    Ok(part(text.as_bytes(), position, into))
}

/// What of a text is at a position.
fn part(text: &[u8], position: u64, into: &mut [u8]) -> usize {
    let rest = usize::try_from(position).ok().and_then(|position| text.get(position..)).unwrap_or_default();
    let len = rest.len().min(into.len());
    into[..len].copy_from_slice(&rest[..len]);
    len
}

/// What lies in a part of the process's memory, as far as the process can read it, as on Linux, where a program can overwrite
/// its arguments.
fn memory(space: &AddressSpace, (start, len): (u64, u64), position: u64, into: &mut [u8]) -> usize {
    let Some(at) = GuestVirt(start).checked_add(position).filter(|_| position < len) else { return 0 };
    let len = (len - position).min(into.len() as u64) as usize;
    if space.read(at, &mut into[..len]).is_ok() { len } else { 0 }
}

/// Without the zeros behind it.
fn name(state: &State) -> &[u8] {
    let len = state.name.iter().position(|byte| *byte == 0).unwrap_or(state.name.len());
    &state.name[..len]
}

fn stat(state: &State, clocks: &mut Clocks, space: &AddressSpace) -> Vec<u8> {
    let (id, size, resident) = (state.id.number(), mapped(space), resident(space));
    let (user, limit) = (ticks(clocks.processor_time()), u64::MAX);
    let ((arguments, arguments_len), (environment, environment_len)) =
        (state.started.arguments, state.started.environment);
    let mut text = [format!("{id} (").as_bytes(), name(state)].concat();
    let rest = [
        // State, parent, group, session, terminal and its group, flags, faults (4).
        format!(") R {PARENT_ID} {id} {id} 0 -1 0 0 0 0 0"),
        // Times (4), priority, nice value, threads, a timer, start time.
        format!(" {user} 0 0 0 {} {} 1 0 0", 20 + state.nice, state.nice),
        // Sizes and limit, code (2), stack, registers (2), signals (4), wait channel, swap (2), exit signal, processor.
        format!(" {size} {} {limit} 0 0 0 0 0 0 0 0 0 0 0 0 17 0", resident / PAGE),
        // Real-time priority and policy, delays, guest times (2), data (2), heap.
        format!(" 0 0 0 0 0 0 0 {}", space.heap_end().0),
        // Arguments (2), environment (2), exit code.
        format!(" {} {}", arguments, arguments + arguments_len),
        format!(" {} {} 0\n", environment, environment + environment_len),
    ];
    rest.iter().for_each(|part| text.extend_from_slice(part.as_bytes()));
    text
}

fn statm(space: &AddressSpace) -> String {
    let (size, resident) = (mapped(space) / PAGE, resident(space) / PAGE);
    format!("{size} {resident} 0 0 0 {size} 0\n")
}

fn status(state: &State, space: &AddressSpace) -> Vec<u8> {
    let id = state.id.number();
    let (size, resident) = (mapped(space) >> 10, resident(space) >> 10);
    let users = format!("{USER_ID}\t{USER_ID}\t{USER_ID}\t{USER_ID}");
    let mut text = b"Name:\t".to_vec();
    // As Linux writes what would be taken for the end of the line.
    for byte in name(state) {
        match byte {
            b'\n' => text.extend_from_slice(b"\\n"),
            b'\\' => text.extend_from_slice(b"\\\\"),
            byte => text.push(*byte),
        }
    }
    let rest = format!(
        "\nUmask:\t{:04o}\nState:\tR (running)\nTgid:\t{id}\nNgid:\t0\nPid:\t{id}\nPPid:\t{PARENT_ID}\nTracerPid:\t0\n\
         Uid:\t{users}\nGid:\t{users}\nFDSize:\t{}\nGroups:\t \nVmPeak:\t{size:8} kB\nVmSize:\t{size:8} kB\n\
         VmLck:\t       0 kB\nVmPin:\t       0 kB\nVmHWM:\t{resident:8} kB\nVmRSS:\t{resident:8} kB\n\
         VmSwap:\t       0 kB\nThreads:\t1\nNoNewPrivs:\t1\nSeccomp:\t0\nCpus_allowed:\t1\nCpus_allowed_list:\t0\n\
         Mems_allowed:\t1\nMems_allowed_list:\t0\nvoluntary_ctxt_switches:\t0\nnonvoluntary_ctxt_switches:\t0\n",
        state.umask,
        state.descriptors.capacity(),
    );
    text.extend_from_slice(rest.as_bytes());
    text
}

/// The mounts, as `mount` lists them.
fn mounts(state: &State) -> Vec<u8> {
    let mut text = Vec::new();
    for mount in state.vfs.mounts() {
        let kind = mount.kind.file_system_type();
        text.extend_from_slice(format!("{kind} ").as_bytes());
        put_path(&mut text, &mount.path);
        let access = access_of(mount.kind);
        text.extend_from_slice(format!(" {kind} {access},nosuid,nodev 0 0\n").as_bytes());
    }
    text
}

fn mountinfo(state: &State) -> Vec<u8> {
    let mut text = Vec::new();
    for mount in state.vfs.mounts() {
        // All of them count as mounted on the first one.
        let above = u64::from(mount.id != 0);
        text.extend_from_slice(format!("{} {above} 0:{} / ", mount.id + 1, mount.id + 1).as_bytes());
        put_path(&mut text, &mount.path);
        let (kind, access) = (mount.kind.file_system_type(), access_of(mount.kind));
        text.extend_from_slice(format!(" {access},nosuid,nodev - {kind} {kind} {access}\n").as_bytes());
    }
    text
}

fn access_of(kind: MountKind) -> &'static str {
    if kind.is_read_only() { "ro" } else { "rw" }
}

/// As Linux writes what would be taken for the end of a column.
fn put_path(text: &mut Vec<u8>, path: &[u8]) {
    for byte in path {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' => text.extend_from_slice(format!("\\{byte:03o}").as_bytes()),
            byte => text.push(*byte),
        }
    }
}

fn limits(state: &State) -> String {
    let mut text = format!("{:26}{:21}{:21}{:10}\n", "Limit", "Soft Limit", "Hard Limit", "Units");
    for (title, resource, unit) in LIMITS {
        let Ok(Limit { soft, hard }) = state.limits.get(*resource) else { continue };
        let [soft, hard] = [soft, hard].map(|limit| match limit {
            u64::MAX => "unlimited".to_owned(),
            limit => limit.to_string(),
        });
        put(&mut text, format_args!("{title:26}{soft:21}{hard:21}{unit:10}\n"));
    }
    text
}

fn meminfo(space: &AddressSpace) -> String {
    let (total, free) = (space.memory_total() >> 10, space.memory_free() >> 10);
    let rows = [
        ("MemTotal", total),
        ("MemFree", free),
        ("MemAvailable", free),
        ("Buffers", 0),
        ("Cached", 0),
        ("SwapCached", 0),
        ("Active", total - free),
        ("Inactive", 0),
        ("SwapTotal", 0),
        ("SwapFree", 0),
        ("Dirty", 0),
        ("Shmem", 0),
        ("Slab", 0),
        ("CommitLimit", total),
        ("Committed_AS", total - free),
    ];
    let mut text = String::new();
    for (name, kib) in rows {
        put(&mut text, format_args!("{:15} {kib:8} kB\n", format!("{name}:")));
    }
    text
}

/// There is one processor, and nothing but the process runs on it.
fn system_stat(clocks: &mut Clocks) -> String {
    let up = clocks.now(HostClock::Boottime);
    let user = ticks(clocks.processor_time());
    let idle = ticks(up).saturating_sub(user);
    let booted = clocks.now(HostClock::Realtime).saturating_sub(up).as_secs();
    format!(
        "cpu  {user} 0 0 {idle} 0 0 0 0 0 0\ncpu0 {user} 0 0 {idle} 0 0 0 0 0 0\nintr 0\nctxt 0\nbtime {booted}\nprocesses 1\n\
         procs_running 1\nprocs_blocked 0\n"
    )
}

fn mapped(space: &AddressSpace) -> u64 {
    space.mappings().map(|(pages, ..)| pages.end.0 - pages.start.0).sum()
}

fn resident(space: &AddressSpace) -> u64 {
    space.memory_total() - space.memory_free()
}

/// In the unit of `times`.
fn ticks(duration: Duration) -> u64 {
    (duration.as_millis() / 10) as u64
}

fn hundredths(duration: Duration) -> String {
    format!("{}.{:02}", duration.as_secs(), duration.subsec_millis() / 10)
}

/// Random bytes as a random UUID (RFC 9562, version 4).
fn uuid(mut random: [u8; 16]) -> String {
    random[6] = random[6] & 0x0f | 0x40;
    random[8] = random[8] & 0x3f | 0x80;
    let mut text = String::new();
    for (index, byte) in random.iter().enumerate() {
        put(&mut text, format_args!("{}{byte:02x}", if matches!(index, 4 | 6 | 8 | 10) { "-" } else { "" }));
    }
    text.push('\n');
    text
}

fn put(text: &mut String, what: std::fmt::Arguments<'_>) {
    text.write_fmt(what).expect("text goes into a string");
}

/// What `/proc/self/limits` calls them, in its order (Linux's `fs/proc/base.c`).
const LIMITS: &[(&str, u32, &str)] = &[
    ("Max cpu time", RLIMIT_CPU, "seconds"),
    ("Max file size", RLIMIT_FSIZE, "bytes"),
    ("Max data size", RLIMIT_DATA, "bytes"),
    ("Max stack size", RLIMIT_STACK, "bytes"),
    ("Max core file size", RLIMIT_CORE, "bytes"),
    ("Max resident set", RLIMIT_RSS, "bytes"),
    ("Max processes", RLIMIT_NPROC, "processes"),
    ("Max open files", RLIMIT_NOFILE, "files"),
    ("Max locked memory", RLIMIT_MEMLOCK, "bytes"),
    ("Max address space", RLIMIT_AS, "bytes"),
    ("Max file locks", RLIMIT_LOCKS, "locks"),
    ("Max pending signals", RLIMIT_SIGPENDING, "signals"),
    ("Max msgqueue size", RLIMIT_MSGQUEUE, "bytes"),
    ("Max nice priority", RLIMIT_NICE, ""),
    ("Max realtime priority", RLIMIT_RTPRIO, ""),
    ("Max realtime timeout", RLIMIT_RTTIME, "us"),
];

/// `NGROUPS_MAX` (Linux's `include/uapi/linux/limits.h`).
const NGROUPS_MAX: u32 = 65536;

const PAGE: u64 = PAGE_SIZE as u64;
