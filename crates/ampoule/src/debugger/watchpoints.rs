//! Watchpoints: memory of a guest of which accesses are noticed.
//!
//! They need nothing of the processor's but page faults and single steps, so they are the same on all hypervisors, and there can
//! be many of any size. The pages of what is watched are kept from the guest while it runs. Where it accesses one, it faults, has
//! the page for this one instruction, and loses it again: that costs two exits, and what accesses other pages costs none.
//!
//! What a fault says is where an access begins. So a read is noticed where it begins in what is watched, and a change wherever
//! it comes from, since what is there is compared: behind each such instruction, and behind what the host has done on the
//! guest's behalf.

use ampoule_vmm::address_map::USER_END;
use ampoule_vmm::processor::PageFault;
use ampoule_vmm::{FaultAccess, GuestVirt};
use gdbstub::target::ext::breakpoints::WatchKind;

use crate::address_space::{AddressSpace, Location, Withheld};
use crate::page::Page;

/// The watchpoints of a debugger.
#[derive(Debug, Default)]
pub(super) struct Watchpoints {
    wanted: Vec<Watchpoint>,
    /// The pages that the guest does not have in the run that is in progress.
    withheld: Vec<Page>,
    over: Option<Over>,
}

#[derive(Debug)]
struct Watchpoint {
    kind: WatchKind,
    at: u64,
    /// What was last seen there, as far as there is memory.
    seen: Vec<u8>,
    len: usize,
}

/// An instruction that is executed with pages of what is watched.
#[derive(Debug)]
struct Over {
    /// Where it is.
    at: u64,
    /// Where its accesses begin that have faulted.
    accesses: Vec<(u64, FaultAccess)>,
}

impl Watchpoints {
    /// Adds a watchpoint, unless there are too many, it is too large, or it is about no memory of the guest's own. Returns
    /// whether it was added.
    pub(super) fn add(&mut self, kind: WatchKind, at: u64, len: u64, space: &AddressSpace) -> bool {
        let total = self.wanted.iter().map(|watchpoint| watchpoint.len as u64).sum::<u64>();
        let is_possible = self.wanted.len() < MOST
            && len.checked_add(total).is_some_and(|total| total <= MOST_BYTES)
            && at.checked_add(len).is_some_and(|end| end <= USER_END.0);
        if is_possible {
            let mut watchpoint = Watchpoint { kind, at, seen: Vec::new(), len: len as usize };
            watchpoint.look(space);
            self.wanted.push(watchpoint);
        }
        is_possible
    }

    pub(super) fn remove(&mut self, kind: WatchKind, at: u64, len: u64) -> bool {
        let is_it = |other: &Watchpoint| other.kind == kind && other.at == at && other.len as u64 == len;
        let found = self.wanted.iter().position(is_it);
        found.map(|index| self.wanted.swap_remove(index)).is_some()
    }

    pub(super) fn clear(&mut self) {
        self.wanted.clear();
        self.over = None;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.wanted.is_empty()
    }

    /// Keeps what is watched from the guest, but for what the instruction needs that is executed with it.
    pub(super) fn withhold(&mut self, space: &mut AddressSpace) {
        for Watchpoint { kind, at, len, .. } in &self.wanted {
            let last = (at + *len as u64).saturating_sub(1).max(*at);
            for page in Page::of(GuestVirt(*at)).0..=Page::of(GuestVirt(last)).0 {
                let page = Page(page);
                let is_open = self.over.as_ref().is_some_and(|over| over.needs(page));
                let is_read = *kind != WatchKind::Write;
                let is_withheld = self.withheld.contains(&page);
                if is_open || is_withheld && !is_read {
                    continue;
                }
                let accesses = if is_read { Withheld::Everything } else { Withheld::Writes };
                if space.withhold(page.address(), accesses) && !is_withheld {
                    self.withheld.push(page);
                }
            }
        }
    }

    /// Gives it back.
    pub(super) fn give_back(&mut self, space: &mut AddressSpace) {
        self.withheld.iter().for_each(|page| space.give_back(page.address()));
    }

    /// Whether the guest has faulted at `at` only because a page was kept from it. It gets it for this one instruction then, which
    /// is to be executed in a single step.
    pub(super) fn explains(&mut self, fault: &PageFault, at: u64, space: &AddressSpace) -> bool {
        let PageFault { address, access, by_own_denial } = *fault;
        let Location::Mapped { protection, .. } = space.describe(address) else { return false };
        let explains = !by_own_denial && protection.allows(access) && self.withheld.contains(&Page::of(address));
        if explains {
            let over = self.over.get_or_insert_with(|| Over { at, accesses: Vec::new() });
            if over.at != at {
                // The one before was given up: the debugger has had the guest continue elsewhere.
                *over = Over { at, accesses: Vec::new() };
            }
            over.accesses.push((address.0, access));
        }
        explains
    }

    /// Forgets what was kept from the guest in the run before.
    pub(super) fn forget_withheld(&mut self) {
        self.withheld.clear();
    }

    /// Where the instruction is that is executed with pages of what is watched, if there is one.
    pub(super) fn steps_over(&self) -> Option<u64> {
        self.over.as_ref().map(|over| over.at)
    }

    /// An instruction has been executed, or the host has done something on the guest's behalf: the first watchpoint for which that
    /// was of interest.
    pub(super) fn finish(&mut self, space: &AddressSpace) -> Option<(WatchKind, u64)> {
        let accesses = self.over.take().map(|over| over.accesses).unwrap_or_default();
        let mut found = None;
        for watchpoint in &mut self.wanted {
            let is_changed = watchpoint.look(space);
            if watchpoint.is_about(is_changed, &accesses) {
                found = found.or(Some((watchpoint.kind, watchpoint.at)));
            }
        }
        found
    }
}

impl Watchpoint {
    /// Looks at what is watched: whether it has changed since this was last done.
    fn look(&mut self, space: &AddressSpace) -> bool {
        let mut now = vec![0; self.len];
        let read = space.inspect(GuestVirt(self.at), &mut now);
        now.truncate(read);
        let is_changed = self.seen != now;
        self.seen = now;
        is_changed
    }

    /// Whether somebody wants to know of this.
    fn is_about(&self, is_changed: bool, accesses: &[(u64, FaultAccess)]) -> bool {
        let has = |of: FaultAccess| {
            let within = |at: u64| at.checked_sub(self.at).is_some_and(|offset| offset < self.len as u64);
            accesses.iter().any(|(at, access)| *access == of && within(*at))
        };
        match self.kind {
            WatchKind::Write => is_changed,
            WatchKind::Read => has(FaultAccess::Read),
            WatchKind::ReadWrite => is_changed || has(FaultAccess::Read) || has(FaultAccess::Write),
        }
    }
}

impl Over {
    fn needs(&self, page: Page) -> bool {
        self.accesses.iter().any(|(at, _)| Page::of(GuestVirt(*at)) == page)
    }
}

/// The most watchpoints that a guest has, and the most bytes in all of them.
const MOST: usize = 64;
const MOST_BYTES: u64 = 4096;
