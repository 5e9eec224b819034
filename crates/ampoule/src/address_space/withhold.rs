//! Keeping a page from the guest for a while, so that its accesses are noticed.
//!
//! Only the page tables say so. The layout stays as it is, and with it what the host reads and writes on the guest's behalf.

use ampoule_vmm::GuestVirt;

use crate::page::Page;

use super::{AddressSpace, Location, Protection};

/// Which accesses to a page are kept from the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Withheld {
    /// Stores.
    Writes,
    /// All.
    Everything,
}

impl AddressSpace {
    /// Keeps these accesses to the page with this address from the guest, until they are [given back](Self::give_back): before
    /// anything else is done with this space. Returns whether there are any that the guest has.
    pub(crate) fn withhold(&mut self, at: GuestVirt, accesses: Withheld) -> bool {
        let Some(protection) = self.protection_of_memory(at) else { return false };
        let less = match accesses {
            Withheld::Writes if !protection.is_writable() => return false,
            Withheld::Writes => Protection::Read,
            Withheld::Everything => Protection::None,
        };
        let page = Page::of(at);
        self.set_entries(&(page..page + 1), less).expect(HAS_TABLES);
        self.narrow(&(page..page + 1));
        self.revoke_narrowed();
        true
    }

    /// Gives back what was [withheld](Self::withhold).
    pub(crate) fn give_back(&mut self, at: GuestVirt) {
        let protection = self.protection_of_memory(at).expect("the layout has not changed since it was withheld");
        let page = Page::of(at);
        self.set_entries(&(page..page + 1), protection).expect(HAS_TABLES);
    }

    /// What the guest may do with the memory of its own that it has at this address; `None` where that is nothing.
    fn protection_of_memory(&self, at: GuestVirt) -> Option<Protection> {
        let Location::Mapped { protection, .. } = self.describe(at) else { return None };
        let has_memory = self.layout.backing.get(Page::of(at)).is_some();
        (has_memory && protection.is_readable()).then_some(protection)
    }
}

const HAS_TABLES: &str = "an entry that is there has its tables, and nobody watches";
