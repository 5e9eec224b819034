//! What a process learns and sets about itself and its system. All but its number is the same on every host.

use std::ffi::c_char;

use ampoule_vmm::GuestVirt;
use linux_raw_sys::general::{
    PRIO_PGRP, PRIO_PROCESS, PRIO_USER, RLIMIT_CORE, RLIMIT_CPU, RLIMIT_MEMLOCK, RLIMIT_MSGQUEUE, RLIMIT_NICE,
    RLIMIT_NOFILE, RLIMIT_NPROC, RLIMIT_RTPRIO, RLIMIT_RTTIME, RLIMIT_STACK, SCHED_BATCH, SCHED_FIFO, SCHED_IDLE,
    SCHED_NORMAL, SCHED_RR, membarrier_cmd, rlimit64,
};
use linux_raw_sys::prctl::{
    PR_GET_DUMPABLE, PR_GET_NAME, PR_GET_NO_NEW_PRIVS, PR_SET_DUMPABLE, PR_SET_NAME, PR_SET_NO_NEW_PRIVS,
    PR_SET_PDEATHSIG,
};
use linux_raw_sys::system::{new_utsname, sysinfo as SystemInfo};

use crate::address_space::{AddressSpace, StringError};

use super::clocks::Clocks;
use super::descriptors::OPEN_MAX;
use super::errno::Errno;
use super::host::HostClock;
use super::structure::{read_fields, to_bytes};
use super::{int, uint};

/// The number of the process and of its only thread. Programs derive seeds from it, so it is random.
///
/// A snapshot keeps it, and everything that comes from one has the same: a C library remembers the number of its thread and
/// uses it when the program raises a signal, and a program that finds another number believes that it is a forked child.
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

/// Becoming the user that one already is, or leaving an identity unchanged, is allowed.
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
    let name = to_bytes!(new_utsname {
        sysname: text("Linux"),
        nodename: text("ampoule"),
        release: text(RELEASE),
        version: text("#1"),
        machine: text("x86_64"),
        domainname: text("(none)"),
    });
    space.write(GuestVirt(into), &name)?;
    Ok(0)
}

pub(super) fn sysinfo(clocks: &mut Clocks, space: &mut AddressSpace, into: u64) -> Result<u64, Errno> {
    let info = to_bytes!(SystemInfo {
        uptime: clocks.now(HostClock::Boottime).as_secs() as i64,
        totalram: space.memory_total(),
        freeram: space.memory_free(),
        procs: 1,
        mem_unit: 1,
    });
    space.write(GuestVirt(into), &info)?;
    Ok(0)
}

/// Limits can be read, and set to what they are.
pub(super) fn prlimit(space: &mut AddressSpace, stack_size: u64, [resource, new, old]: [u64; 3]) -> Result<u64, Errno> {
    let limit = limit(uint(resource), stack_size)?;
    if new != 0 && read_fields!(space, new, rlimit64 { rlim_cur, rlim_max })? != (limit, limit) {
        return Err(Errno::EPERM);
    }
    if old != 0 {
        space.write(GuestVirt(old), &to_bytes!(rlimit64 { rlim_cur: limit, rlim_max: limit }))?;
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

/// How nice the process is, as the kernel reports it: from 40 down to 1.
pub(super) fn getpriority(process: ProcessId, nice: i32, [kind, who]: [u64; 2]) -> Result<u64, Errno> {
    check_priority_of(process, kind, who)?;
    Ok((20 - nice) as u64)
}

/// It can become nicer, but not less nice again.
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
    let is_own = match uint(kind) {
        PRIO_PROCESS | PRIO_PGRP => process.is(int(who)),
        PRIO_USER => matches!(who as u32, 0 | USER_ID),
        _ => return Err(Errno::EINVAL),
    };
    if is_own { Ok(()) } else { Err(Errno::ESRCH) }
}

/// The priorities of a scheduling policy: `real_time` is that of the policies that have any.
pub(super) fn sched_priority(policy: u64, real_time: u64) -> Result<u64, Errno> {
    match uint(policy) {
        SCHED_FIFO | SCHED_RR => Ok(real_time),
        SCHED_NORMAL | SCHED_BATCH | SCHED_IDLE => Ok(0),
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
    match uint(option) {
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
    match uint(command) {
        command if command == membarrier_cmd::MEMBARRIER_CMD_QUERY as u32 => Ok(BARRIERS.into()),
        command if command.count_ones() == 1 && command & BARRIERS != 0 => Ok(0),
        _ => Err(Errno::EINVAL),
    }
}

/// A text, shorter than `N` bytes, as a field of `N` bytes.
fn text<const N: usize>(text: &str) -> [c_char; N] {
    let mut field = [0; N];
    for (place, byte) in field.iter_mut().zip(text.bytes()) {
        *place = byte as c_char;
    }
    field
}

fn limit(resource: u32, stack_size: u64) -> Result<u64, Errno> {
    match resource {
        RLIMIT_STACK => Ok(stack_size),
        RLIMIT_NOFILE => Ok(OPEN_MAX as u64),
        RLIMIT_NPROC => Ok(1),
        RLIMIT_CORE | RLIMIT_MEMLOCK | RLIMIT_MSGQUEUE | RLIMIT_NICE | RLIMIT_RTPRIO => Ok(0),
        RLIMIT_CPU..=RLIMIT_RTTIME => Ok(RLIM_INFINITY),
        _ => Err(Errno::EINVAL),
    }
}

const BARRIERS: u32 = membarrier_cmd::MEMBARRIER_CMD_GLOBAL as u32
    | membarrier_cmd::MEMBARRIER_CMD_GLOBAL_EXPEDITED as u32
    | membarrier_cmd::MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED as u32
    | membarrier_cmd::MEMBARRIER_CMD_PRIVATE_EXPEDITED as u32
    | membarrier_cmd::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED as u32;

pub(crate) const PARENT_ID: u64 = 1;

/// The user and the group: unprivileged ones.
pub(crate) const USER_ID: u32 = 1000;

/// Size of a thread's name with its terminating zero, in bytes.
pub(super) const NAME_LEN: usize = 16;

/// A release of Linux that current C libraries expect.
const RELEASE: &str = "6.1.0";

const RLIM_INFINITY: u64 = u64::MAX;

// Linux's `include/linux/threads.h` and `kernel/pid.c`.
const PID_MAX_LIMIT: u32 = 4 << 20;
const RESERVED_PIDS: u32 = 300;
