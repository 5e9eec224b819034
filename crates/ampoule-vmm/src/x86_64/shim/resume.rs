//! Resuming from a snapshot: what the resume stub loads.
//!
//! The state area is three pages that ring 3 can read but not write. It begins with an XSAVE area in the standard format and
//! ends with the [`Words`] that the stub loads after it. The part of the XSAVE area behind [`AVX`] stays zero: there the
//! stub's `xrstor`, which asks for all components, finds those not in use, and initializes them. So registers that the guest
//! can reach although `cpuid` hides them (AVX-512 where the hypervisor does not enforce XCR0) do not survive a restore
//! either.

use std::ops::Range;

use crate::address::PAGE_SIZE;
use crate::x86_64::capabilities::Capabilities;
use crate::x86_64::registers::{FpuState, Regs, SpecialRegs};

/// Why the guest's own processor alone cannot go back to a state. [`Vcpu::set_fpu`](crate::Vcpu::set_fpu) and
/// [`Vcpu::set_regs`](crate::Vcpu::set_regs) can, at the cost of a call into the kernel.
#[derive(Copy, Clone, Eq, PartialEq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResumeError {
    /// [`Capabilities::xcr0`] is 0: guests have no `xrstor` instruction.
    #[error("the guest's processor has no XSAVE: restore its floating-point registers through the hypervisor")]
    NoXsave,
    /// [`Capabilities::protection_keys`]: the guest may have left keys that deny the stub the state that it loads.
    #[error("the guest can use protection keys: restore these and its floating-point registers through the hypervisor")]
    ProtectionKeys,
    /// The header of the XSAVE area announces something other than the standard format.
    #[error(
        "the floating-point state is not in XSAVE's standard format (its header has {word:#x} at byte {at}): restore it \
         through the hypervisor"
    )]
    UnknownFormat {
        /// Offset in the header of the first word that should be zero, in bytes.
        at: usize,
        /// The value of that word.
        word: u64,
    },
    /// The trap flag is set, and the stub would be the first to be trapped.
    #[error("the guest executes in single steps: restore its floating-point registers through the hypervisor")]
    SingleStep,
    /// A segment's base is not a canonical address, and no instruction would load it.
    #[error(
        "the segment base {base:#x} is not a canonical address: restore the floating-point registers through the hypervisor"
    )]
    SegmentBase {
        /// The base.
        base: u64,
    },
    /// The stack pointer is not a canonical address. Some hypervisors emulate a guest as long as that is so, and do not know
    /// `xrstor`.
    #[error(
        "the stack pointer {rsp:#x} is not a canonical address: restore the floating-point registers through the hypervisor"
    )]
    StackPointer {
        /// The stack pointer.
        rsp: u64,
    },
}

/// The start of the state area, for the stub to load `fpu`: a copy of the components that are in use and allowed to guests
/// (nothing else, since the guest can read it), and a header that is right whatever `fpu` holds.
pub(super) fn xsave_area(capabilities: &Capabilities, fpu: &FpuState) -> Result<[u8; AREA], ResumeError> {
    if capabilities.xcr0 == 0 {
        return Err(ResumeError::NoXsave);
    }
    if capabilities.protection_keys {
        return Err(ResumeError::ProtectionKeys);
    }
    for at in (8..HEADER.len()).step_by(8) {
        let word = fpu.word(HEADER.start + at);
        if word != 0 {
            return Err(ResumeError::UnknownFormat { at, word });
        }
    }
    let in_use = fpu.word(HEADER.start) & capabilities.xcr0 & KNOWN;
    let mut area = [0; AREA];
    area[HEADER][..8].copy_from_slice(&in_use.to_le_bytes());
    fpu.copy_to(&mut area, MXCSR);
    for (component, range) in COMPONENTS {
        if in_use & component != 0 {
            fpu.copy_to(&mut area, range);
        }
    }
    Ok(area)
}

/// What the stub loads after the XSAVE area: the registers that it has used itself, and where to go.
pub(super) struct Words {
    fs_base: u64,
    gs_base: u64,
    rax: u64,
    rdx: u64,
    rip: u64,
}

impl Words {
    /// The words of `regs` and `special`, if the stub can run with the other registers.
    pub(super) fn of(regs: &Regs, special: &SpecialRegs) -> Result<Words, ResumeError> {
        let rsp = regs.rsp;
        if !is_canonical(rsp) {
            return Err(ResumeError::StackPointer { rsp });
        }
        if regs.rflags & TRAP_FLAG != 0 {
            return Err(ResumeError::SingleStep);
        }
        let (fs_base, gs_base) = (special.fs.base, special.gs.base);
        if let Some(base) = [fs_base, gs_base].into_iter().find(|base| !is_canonical(*base)) {
            return Err(ResumeError::SegmentBase { base });
        }
        Ok(Words { fs_base, gs_base, rax: regs.rax, rdx: regs.rdx, rip: regs.rip })
    }

    pub(super) fn to_bytes(&self) -> [u8; WORDS_SIZE] {
        let mut bytes = [0; WORDS_SIZE];
        let Words { fs_base, gs_base, rax, rdx, rip } = *self;
        for (at, word) in [(FS_BASE, fs_base), (GS_BASE, gs_base), (RAX, rax), (RDX, rdx), (RIP, rip)] {
            bytes[at - WORDS..][..8].copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }
}

/// Whether an address is one of 48 bits whose upper bits repeat the highest of these.
pub(in crate::x86_64) fn is_canonical(address: u64) -> bool {
    address as i64 == (address as i64) << 16 >> 16
}

/// The size of the state area. `xrstor` may read an area as large as that of all state that the processor has, even if XCR0
/// allows little of it.
pub(super) const STATE_SIZE: usize = 3 * PAGE_SIZE;

/// The size of an XSAVE area with AMX, the largest there is.
const LARGEST_AREA: usize = 11_008;

/// The size of what is copied to the start of the state area: x87, SSE, header, AVX.
pub(super) const AREA: usize = AVX.end;

/// Where the [`Words`] lie in the state area: at its end, behind all that `xrstor` reads.
pub(super) const WORDS: usize = STATE_SIZE - WORDS_SIZE;
pub(super) const FS_BASE: usize = WORDS;
pub(super) const GS_BASE: usize = WORDS + 8;
pub(super) const RAX: usize = WORDS + 16;
pub(super) const RDX: usize = WORDS + 24;
pub(super) const RIP: usize = WORDS + 32;

const WORDS_SIZE: usize = 40;

const _: () = assert!(AREA <= LARGEST_AREA && LARGEST_AREA <= WORDS);

// Parts of an XSAVE area (AMD64 Architecture Programmer's Manual, volume 2, section 11.5; Intel 64 and IA-32 Architectures
// Software Developer's Manual, volume 1, section 13.4). `xrstor` always loads MXCSR, whether SSE is in use or not.
const X87_CONTROL: Range<usize> = 0..24;
const MXCSR: Range<usize> = 24..28;
const X87_STACK: Range<usize> = 32..160;
const XMM: Range<usize> = 160..416;
const HEADER: Range<usize> = 512..576;
const AVX: Range<usize> = 576..832;

/// The parts that belong to a component, by its bit in XCR0 and at the start of the header.
const COMPONENTS: [(u64, Range<usize>); 4] = [(1, X87_CONTROL), (1, X87_STACK), (1 << 1, XMM), (1 << 2, AVX)];

/// All components above.
const KNOWN: u64 = 0b111;

/// RFLAGS.TF (AMD64 Architecture Programmer's Manual, volume 2, section 3.1.6).
pub(in crate::x86_64) const TRAP_FLAG: u64 = 1 << 8;

#[cfg(test)]
mod tests;
