//! Futexes of a process with one thread: nobody else can change the word or wake the waiter, but a signal may come.

use std::time::Duration;

use ampoule_vmm::GuestVirt;
use linux_raw_sys::general::{
    FUTEX_CLOCK_REALTIME, FUTEX_CMP_REQUEUE, FUTEX_PRIVATE_FLAG, FUTEX_REQUEUE, FUTEX_WAIT, FUTEX_WAIT_BITSET,
    FUTEX_WAKE, FUTEX_WAKE_BITSET,
};

use crate::address_space::AddressSpace;
use crate::fault::EndlessWait;
use crate::personality::Outcome;

use super::clocks::Clocks;
use super::errno::Errno;
use super::{time, uint};

pub(super) fn futex(clocks: &mut Clocks, space: &AddressSpace, arguments: &[u64; 6]) -> Result<Outcome, Errno> {
    let [word, operation, value, timeout, _, last] = *arguments;
    let operation = uint(operation);
    let realtime = operation & FUTEX_CLOCK_REALTIME != 0;
    let command = operation & !(FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME);
    if !word.is_multiple_of(4) {
        return Err(Errno::EINVAL);
    }
    match command {
        FUTEX_WAIT_BITSET | FUTEX_WAKE_BITSET if last as u32 == 0 => Err(Errno::EINVAL),
        FUTEX_WAIT => {
            let timeout = read_timeout(space, timeout)?;
            wait(clocks, space, word, value, timeout)
        }
        FUTEX_WAIT_BITSET => {
            let timeout = read_timeout(space, timeout)?.map(|deadline| time::until(clocks, deadline, realtime));
            wait(clocks, space, word, value, timeout)
        }
        FUTEX_WAKE | FUTEX_WAKE_BITSET | FUTEX_REQUEUE => Ok(Outcome::Return(0)),
        FUTEX_CMP_REQUEUE if space.read_u32(GuestVirt(word))? == last as u32 => Ok(Outcome::Return(0)),
        FUTEX_CMP_REQUEUE => Err(Errno::EAGAIN),
        _ => Err(Errno::ENOSYS),
    }
}

fn wait(
    clocks: &mut Clocks,
    space: &AddressSpace,
    word: u64,
    value: u64,
    timeout: Option<Duration>,
) -> Result<Outcome, Errno> {
    if space.read_u32(GuestVirt(word))? != value as u32 {
        return Err(Errno::EAGAIN);
    }
    Ok(match timeout {
        Some(duration) => clocks.wait(duration, Errno::ETIMEDOUT.result()),
        None => Outcome::Deadlock(EndlessWait::Lock),
    })
}

fn read_timeout(space: &AddressSpace, at: u64) -> Result<Option<Duration>, Errno> {
    if at == 0 { Ok(None) } else { time::read_timespec(space, at).map(Some) }
}
