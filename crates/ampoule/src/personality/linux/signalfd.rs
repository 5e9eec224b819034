//! `signalfd`: a file from which a process reads the signals that wait for it.

use ampoule_vmm::GuestVirt;
use linux_raw_sys::general::{O_NONBLOCK, O_RDWR};

use crate::address_space::AddressSpace;
use crate::personality::Outcome;

use super::clocks::Clocks;
use super::descriptors::{Descriptors, FileId, Object, OpenFile};
use super::errno::Errno;
use super::files::Place;
use super::queues;
use super::signals::{Info, SET_SIZE, Signals, UNBLOCKABLE};
use super::timers::Timers;
use super::{int, uint};

/// `signalfd4`: a new file, or another set of signals for one that is open.
pub(super) fn signalfd(
    descriptors: &mut Descriptors,
    space: &AddressSpace,
    [number, mask, mask_size, flags]: [u64; 4],
) -> Result<u64, Errno> {
    let flags = uint(flags);
    if mask_size != SET_SIZE || flags & !(SFD_CLOEXEC | SFD_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    let set = space.read_u64(GuestVirt(mask))? & !UNBLOCKABLE;
    if int(number) == -1 {
        let file = OpenFile { object: Object::Signals, flags: O_RDWR | flags & O_NONBLOCK, position: 0 };
        return descriptors.open_signals(file, set, flags & SFD_CLOEXEC != 0);
    }
    let id = descriptors.id(number)?;
    if descriptors.file(id).object != Object::Signals {
        return Err(Errno::EINVAL);
    }
    *descriptors.signals_mut(id) = set;
    Ok(u64::from(uint(number)))
}

/// Takes as many signals as there is room for, and says how many bytes tell of them.
pub(super) fn read(
    descriptors: &mut Descriptors,
    (signals, timers, clocks): (&mut Signals, &mut Timers, &Clocks),
    space: &mut AddressSpace,
    (file, id): (OpenFile, FileId),
    places: &[Place],
) -> Result<Outcome, Errno> {
    let set = *descriptors.signals_mut(id);
    let mut done = 0;
    for place in places {
        for index in 0..place.len / RECORD_LEN as u64 {
            let Some(info) = signals.take(set, timers, clocks.now_of_timers()) else {
                return if done == 0 { queues::would_wait(file.is_non_blocking()) } else { Ok(Outcome::Return(done)) };
            };
            let at = GuestVirt(place.at).checked_add(index * RECORD_LEN as u64).ok_or(Errno::EFAULT)?;
            space.write(at, &record(&info))?;
            done += RECORD_LEN as u64;
        }
    }
    if done == 0 { Err(Errno::EINVAL) } else { Ok(Outcome::Return(done)) }
}

/// `struct signalfd_siginfo` (Linux's `include/uapi/linux/signalfd.h`), of which signals like these have the first 52 bytes.
fn record(info: &Info) -> [u8; RECORD_LEN] {
    let mut record = [0; RECORD_LEN];
    let mut put = |at: usize, word: u32| record[at..at + 4].copy_from_slice(&word.to_le_bytes());
    put(0, info.signal() as u32);
    put(8, info.code() as u32);
    let [first, second, low, high] = info.words();
    if info.is_of_timer() {
        put(24, first);
        put(32, second);
    } else {
        put(12, first);
        put(16, second);
    }
    if info.has_value() {
        put(44, low);
        put(48, low);
        put(52, high);
    }
    record
}

const RECORD_LEN: usize = 128;

// Linux's `include/uapi/linux/signalfd.h`.
const SFD_CLOEXEC: u32 = linux_raw_sys::general::O_CLOEXEC;
const SFD_NONBLOCK: u32 = O_NONBLOCK;
