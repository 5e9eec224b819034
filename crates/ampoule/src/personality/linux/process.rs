//! What a process learns and says about itself and its system. All of it but its number is the same on every host.

use ampoule_vmm::GuestVirt;

use crate::address_space::{AddressSpace, StringError};

use super::descriptors::OPEN_MAX;
use super::errno::Errno;
use super::record::Record;
use super::{int, time};

/// The number of the process and of its only thread. Programs make seeds from it, so it is by chance.
///
/// A snapshot keeps it, and so has all that comes from one the same: a C library remembers the number of its thread and names
/// it when the program raises a signal, and a program that finds another number takes itself for a forked child.
#[derive(Clone, Copy, Debug)]
pub(super) struct ProcessId(i32);

impl ProcessId {
    pub(super) fn by_chance(chance: [u8; 4]) -> Self {
        let number = u32::from_le_bytes(chance) % (PID_MAX_LIMIT - RESERVED_PIDS);
        Self((RESERVED_PIDS + number) as i32)
    }

    pub(super) fn number(self) -> u32 {
        self.0 as u32
    }

    /// Whether a process number, as an argument, means the guest itself.
    pub(super) fn is(self, process: i32) -> bool {
        process == 0 || process == self.0
    }

    /// Whether the number of a process or of a group of processes, as an argument of `kill`, means the guest itself.
    pub(super) fn is_reached_by(self, process: i32) -> bool {
        self.is(process) || process == -self.0
    }

    /// For calls that name a process: `result` if it is the guest itself.
    pub(super) fn about_self(self, process: u64, result: u64) -> Result<u64, Errno> {
        if self.is(int(process)) { Ok(result) } else { Err(Errno::ESRCH) }
    }
}

/// Becoming who one is, or nobody new, is allowed.
pub(super) fn set_ids(ids: &[u64]) -> Result<u64, Errno> {
    let known = |id: &u64| matches!(*id as u32, USER_ID | u32::MAX);
    if ids.iter().all(known) { Ok(0) } else { Err(Errno::EPERM) }
}

/// Writes the user's number wherever the guest wants it: real, effective, saved.
pub(super) fn read_ids(space: &mut AddressSpace, places: [u64; 3]) -> Result<u64, Errno> {
    for place in places {
        space.write(GuestVirt(place), &USER_ID.to_le_bytes())?;
    }
    Ok(0)
}

pub(super) fn uname(space: &mut AddressSpace, into: u64) -> Result<u64, Errno> {
    let mut name = Record::<{ 6 * UTSNAME_FIELD }>::new();
    for (index, field) in UTSNAME.iter().enumerate() {
        name = name.bytes(index * UTSNAME_FIELD, field);
    }
    space.write(GuestVirt(into), name.as_bytes())?;
    Ok(0)
}

pub(super) fn sysinfo(space: &mut AddressSpace, into: u64) -> Result<u64, Errno> {
    let info = Record::<112>::new()
        .u64(0, time::uptime().as_secs())
        .u64(32, space.memory_total())
        .u64(40, space.memory_free())
        .u16(80, 1)
        .u32(104, 1);
    space.write(GuestVirt(into), info.as_bytes())?;
    Ok(0)
}

/// Limits can be read, and set to what they are.
pub(super) fn prlimit(space: &mut AddressSpace, stack_size: u64, [resource, new, old]: [u64; 3]) -> Result<u64, Errno> {
    let limit = limit(int(resource), stack_size)?.to_le_bytes();
    let limits = Record::<16>::new().bytes(0, &limit).bytes(8, &limit);
    if new != 0 && space.read_array::<16>(GuestVirt(new))? != limits.as_bytes() {
        return Err(Errno::EPERM);
    }
    if old != 0 {
        space.write(GuestVirt(old), limits.as_bytes())?;
    }
    Ok(0)
}

/// The only processor is number 0.
pub(super) fn sched_getaffinity(space: &mut AddressSpace, len: u64, into: u64) -> Result<u64, Errno> {
    if len == 0 || !len.is_multiple_of(8) {
        return Err(Errno::EINVAL);
    }
    space.write(GuestVirt(into), &1_u64.to_le_bytes())?;
    Ok(8)
}

pub(super) fn sched_setaffinity(space: &AddressSpace, len: u64, from: u64) -> Result<u64, Errno> {
    let first = if len == 0 { 0 } else { space.read_array::<1>(GuestVirt(from))?[0] };
    if first & 1 == 0 { Err(Errno::EINVAL) } else { Ok(0) }
}

pub(super) fn sched_getparam(space: &mut AddressSpace, into: u64) -> Result<u64, Errno> {
    space.write(GuestVirt(into), &[0; 4])?;
    Ok(0)
}

/// How nice the process is, as the kernel tells it: from 40 down to 1.
pub(super) fn getpriority(process: ProcessId, nice: i32, [kind, who]: [u64; 2]) -> Result<u64, Errno> {
    check_priority_of(process, kind, who)?;
    Ok((20 - nice) as u64)
}

/// It can become nicer, and not less nice again.
pub(super) fn setpriority(process: ProcessId, nice: &mut i32, [kind, who, wanted]: [u64; 3]) -> Result<u64, Errno> {
    check_priority_of(process, kind, who)?;
    let wanted = int(wanted).clamp(-20, 19);
    if wanted < *nice {
        return Err(Errno::EACCES);
    }
    *nice = wanted;
    Ok(0)
}

fn check_priority_of(process: ProcessId, kind: u64, who: u64) -> Result<(), Errno> {
    let is_own = match int(kind) {
        PRIO_PROCESS | PRIO_PGRP => process.is(int(who)),
        PRIO_USER => matches!(who as u32, 0 | USER_ID),
        _ => return Err(Errno::EINVAL),
    };
    if is_own { Ok(()) } else { Err(Errno::ESRCH) }
}

/// The priorities of a scheduling policy: `real_time` is that of the policies that have any.
pub(super) fn sched_priority(policy: u64, real_time: u64) -> Result<u64, Errno> {
    match int(policy) {
        SCHED_FIFO | SCHED_RR => Ok(real_time),
        SCHED_OTHER | SCHED_BATCH | SCHED_IDLE => Ok(0),
        _ => Err(Errno::EINVAL),
    }
}

pub(super) fn getcpu(space: &mut AddressSpace, processor: u64, node: u64) -> Result<u64, Errno> {
    for place in [processor, node] {
        if place != 0 {
            space.write(GuestVirt(place), &[0; 4])?;
        }
    }
    Ok(0)
}

pub(super) fn prctl(
    space: &mut AddressSpace,
    name: &mut [u8; NAME_LEN],
    [option, argument]: [u64; 2],
) -> Result<u64, Errno> {
    match int(option) {
        PR_SET_NAME => {
            let mut given = match space.read_c_string(GuestVirt(argument), NAME_LEN) {
                Ok(given) => given,
                Err(StringError::TooLong { .. }) => space.read_array::<NAME_LEN>(GuestVirt(argument))?.to_vec(),
                Err(error) => return Err(error.into()),
            };
            given.resize(NAME_LEN - 1, 0);
            name[..NAME_LEN - 1].copy_from_slice(&given);
            Ok(0)
        }
        PR_GET_NAME => {
            space.write(GuestVirt(argument), name)?;
            Ok(0)
        }
        PR_SET_PDEATHSIG | PR_SET_NO_NEW_PRIVS | PR_GET_DUMPABLE => Ok(0),
        PR_SET_DUMPABLE if argument == 0 => Ok(0),
        PR_GET_NO_NEW_PRIVS => Ok(1),
        _ => Err(Errno::EINVAL),
    }
}

/// One thread is always in step with itself, so every barrier is free.
pub(super) fn membarrier(command: u64) -> Result<u64, Errno> {
    match int(command) {
        MEMBARRIER_QUERY => Ok(MEMBARRIER_SUPPORTED as u64),
        command if command.count_ones() == 1 && command & MEMBARRIER_SUPPORTED != 0 => Ok(0),
        _ => Err(Errno::EINVAL),
    }
}

fn limit(resource: i32, stack_size: u64) -> Result<u64, Errno> {
    match resource {
        RLIMIT_STACK => Ok(stack_size),
        RLIMIT_NOFILE => Ok(OPEN_MAX as u64),
        RLIMIT_NPROC => Ok(1),
        RLIMIT_CORE | RLIMIT_MEMLOCK | RLIMIT_MSGQUEUE | RLIMIT_NICE | RLIMIT_RTPRIO => Ok(0),
        RLIMIT_CPU..=RLIMIT_RTTIME => Ok(RLIM_INFINITY),
        _ => Err(Errno::EINVAL),
    }
}

pub(super) const PARENT_ID: u64 = 1;

/// The user and the group: nobody special.
pub(crate) const USER_ID: u32 = 1000;

/// Size of a thread's name with its terminating zero, in bytes.
pub(super) const NAME_LEN: usize = 16;

/// System, host, release, version, machine, domain. The release is one that current C libraries expect.
const UTSNAME: [&[u8]; 6] = [b"Linux", b"ampoule", b"6.1.0", b"#1", b"x86_64", b"(none)"];

const UTSNAME_FIELD: usize = 65;

// Linux's `include/linux/threads.h` and `kernel/pid.c`.
const PID_MAX_LIMIT: u32 = 4 << 20;
const RESERVED_PIDS: u32 = 300;

// Linux's `include/uapi/asm-generic/resource.h`, `include/uapi/linux/resource.h`, `sched.h`, `prctl.h` and `membarrier.h`.
const RLIM_INFINITY: u64 = u64::MAX;
const RLIMIT_CPU: i32 = 0;
const RLIMIT_STACK: i32 = 3;
const RLIMIT_CORE: i32 = 4;
const RLIMIT_NPROC: i32 = 6;
const RLIMIT_NOFILE: i32 = 7;
const RLIMIT_MEMLOCK: i32 = 8;
const RLIMIT_MSGQUEUE: i32 = 12;
const RLIMIT_NICE: i32 = 13;
const RLIMIT_RTPRIO: i32 = 14;
const RLIMIT_RTTIME: i32 = 15;
const PRIO_PROCESS: i32 = 0;
const PRIO_PGRP: i32 = 1;
const PRIO_USER: i32 = 2;
const SCHED_OTHER: i32 = 0;
const SCHED_FIFO: i32 = 1;
const SCHED_RR: i32 = 2;
const SCHED_BATCH: i32 = 3;
const SCHED_IDLE: i32 = 5;
const PR_SET_PDEATHSIG: i32 = 1;
const PR_GET_DUMPABLE: i32 = 3;
const PR_SET_DUMPABLE: i32 = 4;
const PR_SET_NAME: i32 = 15;
const PR_GET_NAME: i32 = 16;
const PR_SET_NO_NEW_PRIVS: i32 = 38;
const PR_GET_NO_NEW_PRIVS: i32 = 39;
const MEMBARRIER_QUERY: i32 = 0;
/// Global, global expedited with its registration, private expedited with its registration.
const MEMBARRIER_SUPPORTED: i32 = 0b1_1111;
