//! Who owns which addresses of a guest, virtual and physical. This is the only place that says so.
//!
//! | virtual | whose |
//! |---|---|
//! | 0 to [`USER_START`] | nobody's: the null page and its neighbours |
//! | [`USER_START`] to [`USER_END`] | the guest's own |
//! | [`HOST_BASE`] to [`SHARED_BASE`] | ring 0's: descriptors, stubs, and the state to resume with |
//! | [`SHARED_BASE`] to [`MAPPED_BASE`] | what host and guest share |
//! | [`MAPPED_BASE`] to [`MAPPED_END`] | memory of the host's that the application has mapped, where user code may run |
//!
//! | physical | what |
//! |---|---|
//! | [`SYSTEM_BASE`] to [`SYSTEM_END`] | what ring 3 cannot write: the pages of ring 0, then the page tables |
//! | from [`MEMORY_BASE`] on | what ring 3 can write, as far as its page tables say so |
//! | from [`mapped_memory`] on | what the application has mapped, in the order of its virtual addresses |

use crate::address::{GuestPhys, GuestVirt, PAGE_SIZE};

/// The lowest address that a guest can map: Linux's default for `vm.mmap_min_addr`.
pub const USER_START: GuestVirt = GuestVirt(0x1_0000);

/// The end of the addresses that a guest can map.
pub const USER_END: GuestVirt = HOST_BASE;

/// The first virtual address that belongs to the host; everything below it is the guest's.
pub const HOST_BASE: GuestVirt = GuestVirt(0x7f80_0000_0000);

/// The end of the host's virtual addresses: that of the lower half.
pub const HOST_END: GuestVirt = GuestVirt(0x8000_0000_0000);

/// From here to [`MAPPED_BASE`] the upper layer maps what it shares with the guest.
pub const SHARED_BASE: GuestVirt = GuestVirt(0x7f80_4000_0000);

/// From here to [`MAPPED_END`] the guest finds memory of the host's that the application has mapped: 64 GiB, so that all of it
/// has physical addresses that every processor can name.
pub const MAPPED_BASE: GuestVirt = GuestVirt(0x7ff0_0000_0000);

/// The end of these addresses. Behind it nothing is mapped up to [`HOST_END`], so that no code ends where the next address is
/// none.
pub const MAPPED_END: GuestVirt = GuestVirt(HOST_END.0 - HUGE_PAGE);

/// Where the memory begins that only the host and ring 0 can write.
pub const SYSTEM_BASE: GuestPhys = GuestPhys(0);

/// The first guest-physical address that that memory never reaches.
pub const SYSTEM_END: GuestPhys = GuestPhys(0x4000_0000);

/// Where the memory begins that the guest can write: above all that is the host's, and above 4 GiB, where hypervisors place
/// devices of their own.
pub const MEMORY_BASE: GuestPhys = GuestPhys(0x1_0000_0000);

/// The guest-physical address of what is mapped at [`MAPPED_BASE`], for a guest with so many bytes of memory. What is mapped
/// further up is as far behind it.
pub const fn mapped_memory(memory: usize) -> GuestPhys {
    GuestPhys((MEMORY_BASE.0 + memory as u64).next_multiple_of(HUGE_PAGE))
}

/// Whether an instruction of the guest's own may lie at an address.
pub const fn is_user_code(address: u64) -> bool {
    address < USER_END.0 || (MAPPED_BASE.0 <= address && address < MAPPED_END.0)
}

/// What the host may map with one entry, where virtual, physical and host addresses agree in it.
const HUGE_PAGE: u64 = 2 << 20;

const _: () = {
    assert!(USER_START.0 > 0 && USER_START.0 < USER_END.0);
    assert!(USER_END.0 == HOST_BASE.0);
    assert!(HOST_BASE.0 < SHARED_BASE.0 && SHARED_BASE.0 < HOST_END.0);
    assert!(SHARED_BASE.0 < MAPPED_BASE.0 && MAPPED_BASE.0 < MAPPED_END.0 && MAPPED_END.0 < HOST_END.0);
    assert!(MAPPED_BASE.0.is_multiple_of(HUGE_PAGE) && MAPPED_END.0.is_multiple_of(HUGE_PAGE));
    // The lower half of 48 bits.
    assert!(HOST_END.0 == 1 << 47);
    assert!(SYSTEM_BASE.0 < SYSTEM_END.0 && SYSTEM_END.0 <= MEMORY_BASE.0);
    assert!(SHARED_BASE.0 - HOST_BASE.0 <= SYSTEM_END.0 - SYSTEM_BASE.0);
    assert!(USER_START.is_page_aligned() && USER_END.is_page_aligned() && SHARED_BASE.is_page_aligned());
    assert!(SYSTEM_END.is_page_aligned() && MEMORY_BASE.is_page_aligned());
    assert!(MEMORY_BASE.0.is_multiple_of(512 * PAGE_SIZE as u64));
};
