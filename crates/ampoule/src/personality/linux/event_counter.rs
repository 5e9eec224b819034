//! `eventfd`: a number that writing adds to and reading takes.

use linux_raw_sys::general::{
    EFD_CLOEXEC, EFD_NONBLOCK, EFD_SEMAPHORE, EPOLLERR, EPOLLIN, EPOLLOUT, O_NONBLOCK, O_RDWR,
};
use serde::{Deserialize, Serialize};

use crate::bad_record::BadRecord;

use super::descriptors::{Descriptors, Object, OpenFile};
use super::errno::Errno;

#[derive(Clone, Copy, Debug)]
pub(super) struct EventCounter {
    count: u64,
    /// Whether a read takes 1 and not all.
    is_semaphore: bool,
}

/// A counter of a stored snapshot.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct CounterRecord {
    count: u64,
    is_semaphore: bool,
}

/// `eventfd` and `eventfd2`.
pub(super) fn eventfd(descriptors: &mut Descriptors, count: u64, flags: u64) -> Result<u64, Errno> {
    let flags = flags as u32;
    if flags & !(EFD_SEMAPHORE | EFD_CLOEXEC | EFD_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    let counter = EventCounter { count: u64::from(count as u32), is_semaphore: flags & EFD_SEMAPHORE != 0 };
    let file = OpenFile { object: Object::EventCounter, flags: O_RDWR | flags & O_NONBLOCK, position: 0 };
    descriptors.open_counter(file, counter, flags & EFD_CLOEXEC != 0)
}

impl EventCounter {
    pub(super) fn record(&self) -> CounterRecord {
        let Self { count, is_semaphore } = *self;
        CounterRecord { count, is_semaphore }
    }

    pub(super) fn of_record(record: &CounterRecord) -> Result<Self, BadRecord> {
        let CounterRecord { count, is_semaphore } = *record;
        BadRecord::unless(count < u64::MAX, "event counter", "it is beyond the most that one holds")?;
        Ok(Self { count, is_semaphore })
    }

    /// What a read gives, and leaves there.
    pub(super) fn next(self) -> Option<(u64, Self)> {
        let given = if self.is_semaphore { self.count.min(1) } else { self.count };
        (given > 0).then_some((given, Self { count: self.count - given, ..self }))
    }

    /// Adds to the number. `None` where that would be too much, now.
    ///
    /// # Errors
    /// `EINVAL` for the one number that can never be added.
    pub(super) fn plus(self, value: u64) -> Result<Option<Self>, Errno> {
        if value == u64::MAX {
            return Err(Errno::EINVAL);
        }
        Ok((value <= MOST - self.count).then(|| Self { count: self.count + value, ..self }))
    }

    pub(super) fn events(self) -> u32 {
        match self.count {
            0 => EPOLLOUT,
            MOST => EPOLLIN,
            // Only the kernel itself can count so far.
            u64::MAX => EPOLLERR | EPOLLIN,
            _ => EPOLLIN | EPOLLOUT,
        }
    }
}

/// The largest number.
const MOST: u64 = u64::MAX - 1;
