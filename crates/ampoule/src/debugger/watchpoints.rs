//! Watchpoints: memory of a guest whose changes are noticed.
//!
//! They need nothing of the processor's but single steps, so they are the same on all hypervisors, and there can be many of
//! any size: what is watched is compared after each instruction. This makes the guest slow, by an exit for each.

use ampoule_vmm::GuestVirt;

use crate::address_space::AddressSpace;

/// The watchpoints of a debugger.
#[derive(Debug, Default)]
pub(super) struct Watchpoints(Vec<Watchpoint>);

#[derive(Debug)]
struct Watchpoint {
    at: u64,
    /// What was last seen there, as far as there is memory.
    seen: Vec<u8>,
    len: usize,
}

impl Watchpoints {
    /// Adds a watchpoint, unless there are too many or it is too large. Returns whether it was added.
    pub(super) fn add(&mut self, at: u64, len: u64) -> bool {
        let total = self.0.iter().map(|watchpoint| watchpoint.len as u64).sum::<u64>();
        let is_possible = self.0.len() < MOST && len.checked_add(total).is_some_and(|total| total <= MOST_BYTES);
        if is_possible {
            self.0.push(Watchpoint { at, seen: Vec::new(), len: len as usize });
        }
        is_possible
    }

    pub(super) fn remove(&mut self, at: u64, len: u64) -> bool {
        let found = self.0.iter().position(|watchpoint| watchpoint.at == at && watchpoint.len as u64 == len);
        found.map(|index| self.0.swap_remove(index)).is_some()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Looks at what is watched: where the first change begins since this was last done.
    pub(super) fn look(&mut self, space: &AddressSpace) -> Option<u64> {
        let mut changed = None;
        for Watchpoint { at, seen, len } in &mut self.0 {
            let mut now = vec![0; *len];
            let read = space.inspect(GuestVirt(*at), &mut now);
            now.truncate(read);
            if *seen != now {
                *seen = now;
                changed = changed.or(Some(*at));
            }
        }
        changed
    }
}

/// The most watchpoints that a guest has, and the most bytes in all of them.
const MOST: usize = 64;
const MOST_BYTES: u64 = 4096;
