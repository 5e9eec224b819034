//! User code that waits, as bytes that outlive the process: part of the format of stored snapshots (`docs/snapshot-format.md`).
//!
//! They are what any program can have in its registers, on any hypervisor: nothing of the vCPU's mode, its tables or its stubs.
//! Whoever has written them is not trusted. What no user code could have is refused, and the rest is as harmless as what a guest
//! sets by itself.

use std::ops::Range;

use crate::processor::BadRegister;
use crate::x86_64::capabilities::Capabilities;
use crate::x86_64::registers::{FpuState, Regs, SpecialRegs};
use crate::x86_64::shim::{GUEST_MAY_SET, HOST_BASE, System, Trap, initial_flags, is_canonical};

use super::context::WaitingContext;

/// All registers of the code: general registers in the order of [`Regs::by_name`], the bases of FS and GS, whether it waits in a
/// system call and the number of that, and an XSAVE area that ends with the state of AVX.
pub(crate) const LEN: usize = AREA_AT + AREA;

impl WaitingContext {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let Self { regs, special, fpu, xcr0, system_call, .. } = self;
        let general = regs.by_name().map(|(_, value)| value);
        let call = [u64::from(system_call.is_some()), system_call.unwrap_or_default()];
        let words = general.into_iter().chain([special.fs.base, special.gs.base]).chain(call);
        let mut bytes: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();

        let in_use = if *xcr0 == 0 { X87 | SSE } else { fpu.word(HEADER.start) & xcr0 & KNOWN };
        let mut area = [0; AREA];
        for (component, range) in COMPONENTS {
            if in_use & component != 0 {
                fpu.copy_to(&mut area, range);
            }
        }
        fpu.copy_to(&mut area, MXCSR);
        area[HEADER][..8].copy_from_slice(&in_use.to_le_bytes());
        bytes.extend(area);
        bytes
    }

    /// Code that waits as these bytes say, on a processor whose ring 0 this is. Its state to resume with is set.
    pub(super) fn of_bytes(
        bytes: &[u8],
        capabilities: &Capabilities,
        system: &System,
        initial: &SpecialRegs,
    ) -> Result<WaitingContext, BadRegister> {
        if bytes.len() != LEN {
            return Err(BadRegister::Size { expected: LEN, given: bytes.len() });
        }
        let word = |index: usize| u64::from_le_bytes(std::array::from_fn(|at| bytes[8 * index + at]));
        let [rax, rbx, rcx, rdx, rsi, rdi, rbp, rsp, r8, r9] = std::array::from_fn(word);
        let [r10, r11, r12, r13, r14, r15, rip, flags] = std::array::from_fn(|index| word(10 + index));
        let [fs_base, gs_base, is_in_call, number] = std::array::from_fn(|index| word(GENERAL + index));
        let rflags = flags & GUEST_MAY_SET | initial_flags(capabilities);
        let regs = Regs { rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp, r8, r9, r10, r11, r12, r13, r14, r15, rip, rflags };
        let system_call = match is_in_call {
            0 if rip == Trap::behind_doorbell() => None,
            1 if rip < HOST_BASE.0 => Some(number),
            0 | 1 => return Err(BadRegister::Address { name: "rip", value: rip }),
            _ => return Err(BadRegister::Value { name: "orig_rax", value: is_in_call }),
        };
        for (name, value) in [("fs_base", fs_base), ("gs_base", gs_base)] {
            if !is_canonical(value) {
                return Err(BadRegister::Address { name, value });
            }
        }
        let fpu = floating_point_state(&bytes[AREA_AT..], capabilities.xcr0)?;
        let mut special = *initial;
        (special.fs.base, special.gs.base) = (fs_base, gs_base);
        let resume = system.set_resume_state(capabilities, &fpu, &regs, &special);
        if let Err(reason) = &resume {
            tracing::debug!(%reason, "restoring this guest takes a call into the kernel for its floating-point state");
        }
        Ok(WaitingContext { regs, special, fpu, xcr0: capabilities.xcr0, resume: resume.ok(), system_call })
    }
}

/// The state in an area, as far as it is in use; the rest is that of a program that begins.
fn floating_point_state(area: &[u8], xcr0: u64) -> Result<FpuState, BadRegister> {
    let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|index| area[at + index]));
    let in_use = word(HEADER.start);
    let offered = if xcr0 == 0 { X87 | SSE } else { xcr0 & KNOWN };
    if in_use & !offered != 0 {
        return Err(BadRegister::Value { name: "xstate_bv", value: in_use });
    }
    let mxcsr = word(MXCSR.start) & u64::from(u32::MAX);
    if mxcsr & !MXCSR_BITS != 0 {
        return Err(BadRegister::Value { name: "mxcsr", value: mxcsr });
    }
    let mut whole = [0; AREA];
    FpuState::initial().copy_to(&mut whole, 0..HEADER.start);
    for (component, range) in COMPONENTS {
        if in_use & component != 0 {
            whole[range.clone()].copy_from_slice(&area[range]);
        }
    }
    whole[MXCSR].copy_from_slice(&area[MXCSR]);
    if xcr0 != 0 {
        whole[HEADER][..8].copy_from_slice(&in_use.to_le_bytes());
    }
    Ok(FpuState::of_bytes(&whole))
}

/// How many general registers there are, instruction pointer and flags included.
const GENERAL: usize = 18;

/// Where the XSAVE area begins: behind the general registers, two bases and two words on the system call.
const AREA_AT: usize = (GENERAL + 4) * 8;

// Parts of an XSAVE area: as in `shim::resume`.
const MXCSR: Range<usize> = 24..28;
const HEADER: Range<usize> = 512..576;
const AREA: usize = 832;

// Components, by their bits in XCR0 and in the header.
const X87: u64 = 1;
const SSE: u64 = 1 << 1;
const AVX: u64 = 1 << 2;
const KNOWN: u64 = X87 | SSE | AVX;
const COMPONENTS: [(u64, Range<usize>); 4] = [(X87, 0..24), (X87, 32..160), (SSE, 160..416), (AVX, 576..AREA)];

/// The bits of MXCSR that a processor with 64-bit mode can have (AMD64 Architecture Programmer's Manual, volume 2, section
/// 11.5.9): none beyond 16, of which one is for misaligned accesses on some.
const MXCSR_BITS: u64 = 0xffff;
