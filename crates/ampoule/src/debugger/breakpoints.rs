//! Breakpoints in a guest's code.

use std::collections::BTreeSet;

use ampoule_vmm::{BREAKPOINT_INSTRUCTION, GuestVirt};

use crate::address_space::AddressSpace;

/// The breakpoints of a debugger. They are in the guest's memory only while it runs.
#[derive(Debug, Default)]
pub(super) struct Breakpoints {
    wanted: BTreeSet<u64>,
    /// Where they are, and what they have replaced.
    inserted: Vec<(u64, Replaced)>,
}

type Replaced = [u8; BREAKPOINT_INSTRUCTION.len()];

impl Breakpoints {
    /// Adds a breakpoint, unless there are too many or the guest has no memory there. Returns whether it is one now.
    pub(super) fn add(&mut self, at: u64, space: &mut AddressSpace) -> bool {
        let mut present = Replaced::default();
        let is_possible = space.inspect(GuestVirt(at), &mut present) == present.len()
            && space.patch(GuestVirt(at), &present).is_ok()
            && self.wanted.len() < MOST;
        if is_possible {
            self.wanted.insert(at);
        }
        self.wanted.contains(&at)
    }

    pub(super) fn remove(&mut self, at: u64) -> bool {
        self.wanted.remove(&at)
    }

    pub(super) fn clear(&mut self) {
        self.wanted.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.wanted.is_empty()
    }

    pub(super) fn is_at(&self, at: u64) -> bool {
        self.wanted.contains(&at)
    }

    /// Puts them into the guest's memory, where it has memory now.
    pub(super) fn insert(&mut self, space: &mut AddressSpace) {
        for at in &self.wanted {
            let mut replaced = Replaced::default();
            if space.inspect(GuestVirt(*at), &mut replaced) == replaced.len()
                && space.patch(GuestVirt(*at), BREAKPOINT_INSTRUCTION).is_ok()
            {
                self.inserted.push((*at, replaced));
            }
        }
    }

    /// Takes them out again. What the guest itself has written in place of one stays.
    pub(super) fn withdraw(&mut self, space: &mut AddressSpace) {
        for (at, replaced) in self.inserted.drain(..).rev() {
            let mut present = Replaced::default();
            if space.inspect(GuestVirt(at), &mut present) == present.len() && present == *BREAKPOINT_INSTRUCTION {
                // Where the guest has such an instruction of its own, the page need not have been written, and may be gone.
                let restored = space.patch(GuestVirt(at), &replaced);
                if restored.is_err() {
                    tracing::debug!(at, "the page of a breakpoint is no longer there");
                }
            }
        }
    }
}

/// The most breakpoints that a guest has.
const MOST: usize = 1024;
