//! The vsyscall page: functions at fixed addresses that static executables call which are older than the vDSO.
//!
//! As with Linux's default (`vsyscall=xonly`), there is no such page: it cannot be read, and a call of one of the functions
//! faults and is emulated.

use ampoule_vmm::GuestVirt;

use super::nr;

/// The system call that the function at this address makes.
pub(super) fn number(at: GuestVirt) -> Option<u64> {
    FUNCTIONS.iter().find(|(address, _)| *address == at.0).map(|(_, number)| *number)
}

/// `VSYSCALL_ADDR` of Linux's `arch/x86/include/uapi/asm/vsyscall.h`, and 1,024 bytes for each function.
const FUNCTIONS: [(u64, u64); 3] =
    [(0xffff_ffff_ff60_0000, nr::GETTIMEOFDAY), (0xffff_ffff_ff60_0400, nr::TIME), (0xffff_ffff_ff60_0800, nr::GETCPU)];
