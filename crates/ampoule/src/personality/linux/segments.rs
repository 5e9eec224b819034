//! The bases of the FS and GS segments, where programs keep their thread's data.

use ampoule_vmm::{GuestVirt, PAGE_SIZE, ThreadRegister};

use crate::address_space::AddressSpace;
use crate::personality::Outcome;

use super::errno::Errno;

/// The bases that the guest has set by system calls. What it sets by `wrfsbase` and `wrgsbase` it reads by `rdfsbase` and
/// `rdgsbase`, not here.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SegmentBases {
    fs: u64,
    gs: u64,
}

impl SegmentBases {
    pub(super) fn record(&self) -> [u64; 2] {
        [self.fs, self.gs]
    }

    pub(super) fn of_record([fs, gs]: [u64; 2]) -> Self {
        Self { fs, gs }
    }

    pub(super) fn arch_prctl(&mut self, space: &mut AddressSpace, code: u64, argument: u64) -> Result<Outcome, Errno> {
        match code {
            ARCH_SET_FS | ARCH_SET_GS if argument >= ADDRESSES_END => Err(Errno::EPERM),
            ARCH_SET_FS => {
                self.fs = argument;
                Ok(Outcome::SetThreadRegister { register: ThreadRegister::Pointer, value: argument })
            }
            ARCH_SET_GS => {
                self.gs = argument;
                Ok(Outcome::SetThreadRegister { register: ThreadRegister::Second, value: argument })
            }
            ARCH_GET_FS => store(space, argument, self.fs),
            ARCH_GET_GS => store(space, argument, self.gs),
            ARCH_GET_CPUID => Ok(Outcome::Return(1)),
            _ => Err(Errno::EINVAL),
        }
    }
}

fn store(space: &mut AddressSpace, into: u64, base: u64) -> Result<Outcome, Errno> {
    space.write(GuestVirt(into), &base.to_le_bytes())?;
    Ok(Outcome::Return(0))
}

/// Linux's `TASK_SIZE_MAX`: the lower half without its last page.
const ADDRESSES_END: u64 = (1 << 47) - PAGE_SIZE as u64;

// Linux's `arch/x86/include/uapi/asm/prctl.h`.
const ARCH_SET_GS: u64 = 0x1001;
const ARCH_SET_FS: u64 = 0x1002;
const ARCH_GET_FS: u64 = 0x1003;
const ARCH_GET_GS: u64 = 0x1004;
const ARCH_GET_CPUID: u64 = 0x1011;
