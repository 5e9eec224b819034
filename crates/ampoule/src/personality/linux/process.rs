//! What a process learns and sets about itself and its system. All but its number is the same on every host.

use std::ffi::c_char;

use ampoule_vmm::GuestVirt;
use linux_raw_sys::general::{
    PRIO_PGRP, PRIO_PROCESS, PRIO_USER, SCHED_BATCH, SCHED_FIFO, SCHED_IDLE, SCHED_NORMAL, SCHED_RR, membarrier_cmd,
};
use linux_raw_sys::prctl::{
    PR_GET_DUMPABLE, PR_GET_NAME, PR_GET_NO_NEW_PRIVS, PR_SET_DUMPABLE, PR_SET_NAME, PR_SET_NO_NEW_PRIVS,
    PR_SET_PDEATHSIG,
};
use linux_raw_sys::system::{new_utsname, sysinfo as SystemInfo};

use crate::address_space::{AddressSpace, StringError};

use super::clocks::Clocks;
use super::errno::Errno;
use super::host::HostClock;
use super::structure::to_bytes;
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

    /// `None` where no process has this number.
    pub(super) fn of_record(number: u32) -> Option<Self> {
        (RESERVED_PIDS..PID_MAX_LIMIT).contains(&number).then_some(Self(number as i32))
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
        nodename: text(HOST_NAME),
        release: text(RELEASE),
        version: text(VERSION),
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

/// Sets the policy and the priority that the process has. The policies that have priorities would take a privilege, and the other
/// two without mean nothing to a process that shares its processor with nobody.
pub(super) fn sched_setscheduler(space: &AddressSpace, policy: u64, from: u64) -> Result<u64, Errno> {
    let priority = space.read_u32(GuestVirt(from))?;
    match uint(policy) {
        SCHED_NORMAL | SCHED_BATCH | SCHED_IDLE if priority == 0 => Ok(0),
        SCHED_FIFO | SCHED_RR if (1..=99).contains(&priority) => Err(Errno::EPERM),
        _ => Err(Errno::EINVAL),
    }
}

pub(super) fn sched_setparam(space: &AddressSpace, from: u64) -> Result<u64, Errno> {
    sched_setscheduler(space, SCHED_NORMAL.into(), from)
}

/// There is nobody to whom the processor would go after some time, which Linux reports as none.
pub(super) fn sched_rr_get_interval(space: &mut AddressSpace, into: u64) -> Result<u64, Errno> {
    space.write(GuestVirt(into), &[0; 16])?;
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

/// `ioprio_get` (ioprio_set(2)), of a process with this priority and this niceness. Where several could be meant, it is what
/// holds.
pub(super) fn ioprio_get(
    process: ProcessId,
    (priority, nice): (u16, i32),
    [kind, who]: [u64; 2],
) -> Result<u64, Errno> {
    let kind = kind.wrapping_sub(IOPRIO_WHO_PROCESS.into());
    check_priority_of(process, kind, who)?;
    let is_set = uint(kind) == PRIO_PROCESS || priority >> IOPRIO_CLASS_SHIFT != IOPRIO_CLASS_NONE;
    let of_nice = IOPRIO_CLASS_BE << IOPRIO_CLASS_SHIFT | ((20 + nice) / 5) as u16;
    Ok(if is_set { priority } else { of_nice }.into())
}

/// `ioprio_set`. It is told back, and has no effect: nobody is there who would do without.
pub(super) fn ioprio_set(process: ProcessId, own: &mut u16, [kind, who, wanted]: [u64; 3]) -> Result<u64, Errno> {
    let wanted = u16::try_from(uint(wanted)).map_err(|_| Errno::EINVAL)?;
    let level = wanted & ((1 << IOPRIO_CLASS_SHIFT) - 1);
    match wanted >> IOPRIO_CLASS_SHIFT {
        IOPRIO_CLASS_RT => return Err(Errno::EPERM),
        IOPRIO_CLASS_BE if level < IOPRIO_NR_LEVELS => {}
        IOPRIO_CLASS_NONE if level == 0 => {}
        IOPRIO_CLASS_IDLE => {}
        _ => return Err(Errno::EINVAL),
    }
    check_priority_of(process, kind.wrapping_sub(IOPRIO_WHO_PROCESS.into()), who)?;
    *own = wanted;
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

/// What a process is called at first that runs this program: the last part of its path, as far as there is room.
pub(super) fn name_of(program: &str) -> [u8; NAME_LEN] {
    let last = program.rsplit('/').next().unwrap_or(program).as_bytes();
    let len = last.len().min(NAME_LEN - 1);
    let mut name = [0; NAME_LEN];
    name[..len].copy_from_slice(&last[..len]);
    name
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

/// What the system is called.
pub(super) const HOST_NAME: &str = "ampoule";

/// A release of Linux that current C libraries expect.
pub(super) const RELEASE: &str = "6.1.0";

/// Which build of that release.
pub(super) const VERSION: &str = "#1";

// Linux's `include/uapi/linux/ioprio.h`. What a priority can be about is numbered as for `getpriority`, from 1 on.
const IOPRIO_WHO_PROCESS: u32 = 1;
const IOPRIO_CLASS_SHIFT: u16 = 13;
const IOPRIO_CLASS_NONE: u16 = 0;
const IOPRIO_CLASS_RT: u16 = 1;
const IOPRIO_CLASS_BE: u16 = 2;
const IOPRIO_CLASS_IDLE: u16 = 3;
const IOPRIO_NR_LEVELS: u16 = 8;

// Linux's `include/linux/threads.h` and `kernel/pid.c`.
pub(super) const PID_MAX_LIMIT: u32 = 4 << 20;
const RESERVED_PIDS: u32 = 300;
