//! The stack frame of a signal handler, as Linux has it on x86-64: what user code was doing, for the handler to read and
//! change, and for `rt_sigreturn` to take back (Linux's `arch/x86/kernel/signal_64.c`, `arch/x86/kernel/fpu/signal.c`,
//! `arch/x86/include/uapi/asm/sigcontext.h`).
//!
//! ```text
//! lower addresses   restorer            where the handler returns to; here its stack begins
//!                   struct ucontext     general registers, signal mask, alternate stack
//!                   siginfo_t
//!                   nothing             for alignment
//! higher addresses  XSAVE area          in the standard format, and a number behind it that says that it is there
//! ```
//!
//! What is taken back is whatever the guest has left there, or has made up. It is copied once, and what no processor would
//! load is refused before the hypervisor sees it.

use std::mem::offset_of;
use std::ops::Range;

use crate::address::GuestVirt;
use crate::processor::{BadSignalFrame, SignalFrame, SignalHandler, SignalReturn};
use crate::x86_64::registers::{FpuState, Regs};
use crate::x86_64::shim::{GUEST_MAY_SET, TRAP_FLAG, is_canonical};

use super::context::UserContext;

/// An exception that user code has raised, as a handler of its signal finds it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RaisedException {
    pub(super) vector: u8,
    pub(super) error_code: u64,
    /// The address of the last page fault.
    pub(super) cr2: u64,
}

impl UserContext {
    /// Lets the code continue in a signal handler, whose frame is to be written.
    pub(crate) fn enter_signal_handler(&mut self, entered: &SignalHandler) -> SignalFrame {
        let area_len = self.area_len();
        let top = entered.stack_end.map_or(self.regs.rsp.wrapping_sub(RED_ZONE), |end| end.0);
        let behind_area = if self.xcr0 == 0 { 0 } else { MAGIC2_LEN };
        let area_at = top.wrapping_sub((area_len + behind_area) as u64) & !(AREA_ALIGNMENT - 1);
        // As after a call: the stack pointer is a multiple of 16 before it.
        let at = (area_at.wrapping_sub(FRAME_LEN as u64) & !0xf).wrapping_sub(8);

        let mut bytes = vec![0; area_at.wrapping_sub(at) as usize + area_len + behind_area];
        bytes[..8].copy_from_slice(&entered.restorer.0.to_le_bytes());
        let context = &mut bytes[CONTEXT..INFO];
        put(context, offset_of!(Ucontext, flags), self.frame_flags());
        context[offset_of!(Ucontext, stack)..][..entered.alternate_stack.len()]
            .copy_from_slice(&entered.alternate_stack);
        put(context, offset_of!(Ucontext, mask), entered.mask);
        self.put_registers(&mut context[offset_of!(Ucontext, registers)..], entered, area_at);
        bytes[INFO..FRAME_LEN].copy_from_slice(&entered.info);
        let area = area_at.wrapping_sub(at) as usize;
        self.put_area(&mut bytes[area..]);

        self.regs = Regs {
            rax: 0,
            rdi: entered.signal as u64,
            rsi: at.wrapping_add(INFO as u64),
            rdx: at.wrapping_add(CONTEXT as u64),
            rip: entered.handler.0,
            rsp: at,
            rflags: self.regs.rflags & !(DIRECTION_FLAG | TRAP_FLAG),
            ..self.regs
        };
        (self.system_call, self.raised) = (None, None);
        SignalFrame { at: GuestVirt(at), bytes }
    }

    /// Goes back to what the frame says that the stack pointer is in, behind its first word, as when the handler has returned.
    pub(crate) fn leave_signal_handler(
        &mut self,
        read: impl Fn(GuestVirt, &mut [u8]) -> bool,
    ) -> Result<SignalReturn, BadSignalFrame> {
        let at = GuestVirt(self.regs.rsp.wrapping_sub(8));
        let bad = BadSignalFrame { at };
        let mut context = [0; INFO - CONTEXT];
        if !read(GuestVirt(at.0.wrapping_add(CONTEXT as u64)), &mut context) {
            return Err(bad);
        }
        let registers = &context[offset_of!(Ucontext, registers)..];
        let regs = self.taken_registers(registers).ok_or(bad)?;
        let selector = |at| u16::from_le_bytes([registers[at], registers[at + 1]]) | USER_PRIVILEGE;
        let is_stack_segment_strict = get(&context, offset_of!(Ucontext, flags)) & STRICT_RESTORE_SS != 0;
        let is_code = selector(offset_of!(Sigcontext, cs)) == self.selectors.cs | USER_PRIVILEGE;
        let is_stack = selector(offset_of!(Sigcontext, ss)) == self.selectors.ss | USER_PRIVILEGE;
        if !is_code || is_stack_segment_strict && !is_stack {
            return Err(bad);
        }
        let fpu = self.taken_area(get(registers, offset_of!(Sigcontext, fpstate)), read).ok_or(bad)?;
        let mut alternate_stack = [0; 24];
        alternate_stack.copy_from_slice(&context[offset_of!(Ucontext, stack)..][..24]);
        (self.regs, self.fpu) = (regs, fpu);
        (self.system_call, self.raised) = (None, None);
        Ok(SignalReturn { frame: at, mask: get(&context, offset_of!(Ucontext, mask)), alternate_stack })
    }

    /// The exceptions of floating-point arithmetic that have happened and are not masked, as the flags of MXCSR.
    pub(crate) fn floating_point_exceptions(&self) -> u32 {
        let of_x87 = |fpu: &FpuState| (fpu.word(0) >> 16) as u32 & !(fpu.word(0) as u32);
        let of_sse = |fpu: &FpuState| {
            let mxcsr = fpu.word(MXCSR.start) as u32;
            mxcsr & !(mxcsr >> MXCSR_MASKS)
        };
        let flags = match self.raised {
            Some(RaisedException { vector: X87_EXCEPTION, .. }) => of_x87(&self.fpu),
            Some(RaisedException { vector: SSE_EXCEPTION, .. }) => of_sse(&self.fpu),
            _ => 0,
        };
        flags & 0b11_1111
    }

    fn frame_flags(&self) -> u64 {
        let state = if self.xcr0 == 0 { 0 } else { FP_XSTATE };
        state | SIGCONTEXT_SS | STRICT_RESTORE_SS
    }

    /// How long the XSAVE area is that holds what guests may use.
    fn area_len(&self) -> usize {
        match self.xcr0 {
            0 => LEGACY.end,
            xcr0 if xcr0 & AVX != 0 => YMM_HIGH.end,
            _ => HEADER.end,
        }
    }

    fn put_registers(&self, into: &mut [u8], entered: &SignalHandler, area_at: u64) {
        let Regs { rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp, r8, r9, r10, r11, r12, r13, r14, r15, rip, rflags } =
            self.regs;
        let registers = [r8, r9, r10, r11, r12, r13, r14, r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, rflags];
        for (index, value) in registers.into_iter().enumerate() {
            put(into, index * 8, value);
        }
        for (at, selector) in [
            (offset_of!(Sigcontext, cs), self.selectors.cs),
            (offset_of!(Sigcontext, gs), self.selectors.gs),
            (offset_of!(Sigcontext, fs), self.selectors.fs),
            (offset_of!(Sigcontext, ss), self.selectors.ss),
        ] {
            into[at..at + 2].copy_from_slice(&selector.to_le_bytes());
        }
        if let Some(RaisedException { vector, error_code, cr2 }) = self.raised {
            put(into, offset_of!(Sigcontext, trapno), vector.into());
            put(into, offset_of!(Sigcontext, err), error_code);
            put(into, offset_of!(Sigcontext, cr2), cr2);
        }
        put(into, offset_of!(Sigcontext, oldmask), entered.mask);
        put(into, offset_of!(Sigcontext, fpstate), area_at);
    }

    /// The general registers of a frame, unless user code cannot continue with them.
    fn taken_registers(&self, from: &[u8]) -> Option<Regs> {
        let mut at = (0..18).map(|index| get(from, index * 8));
        let mut next = || at.next().unwrap_or_default();
        let [r8, r9, r10, r11, r12, r13, r14, r15] = [(); 8].map(|()| next());
        let [rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, flags] = [(); 10].map(|()| next());
        let rflags = self.regs.rflags & !RESTORED_FLAGS | flags & RESTORED_FLAGS;
        let regs = Regs { rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp, r8, r9, r10, r11, r12, r13, r14, r15, rip, rflags };
        is_canonical(rip).then_some(regs)
    }

    /// Writes the XSAVE area. Its x87 and SSE state is always announced, as Linux does, so it must be there.
    fn put_area(&self, into: &mut [u8]) {
        let in_use = self.fpu.word(HEADER.start) & self.xcr0 | if self.xcr0 == 0 { X87 | SSE } else { 0 };
        let initial = FpuState::initial();
        for (component, range) in COMPONENTS {
            if range.end <= self.area_len() && (self.xcr0 == 0 || self.xcr0 & component != 0) {
                let state = if in_use & component != 0 { &self.fpu } else { &initial };
                state.copy_to(into, range);
            }
        }
        self.fpu.copy_to(into, MXCSR);
        self.fpu.copy_to(into, MXCSR_MASK);
        if self.xcr0 == 0 {
            return;
        }
        let len = self.area_len();
        put(into, HEADER.start, in_use | X87 | SSE);
        put(into, SOFTWARE_RESERVED, u64::from(MAGIC1) | ((len + MAGIC2_LEN) as u64) << 32);
        put(into, SOFTWARE_RESERVED + 8, self.xcr0 & KNOWN);
        put(into, SOFTWARE_RESERVED + 16, len as u64);
        into[len..len + MAGIC2_LEN].copy_from_slice(&MAGIC2.to_le_bytes());
    }

    /// The floating-point and vector registers of an XSAVE area of the guest's. What this area does not hold becomes as it is
    /// in a program that begins.
    fn taken_area(&self, at: u64, read: impl Fn(GuestVirt, &mut [u8]) -> bool) -> Option<FpuState> {
        let mut area = [0; YMM_HIGH.end];
        let mut in_use = 0;
        if at == 0 {
            FpuState::initial().copy_to(&mut area, LEGACY);
        } else {
            if !at.is_multiple_of(if self.xcr0 == 0 { 16 } else { AREA_ALIGNMENT }) {
                return None;
            }
            in_use = X87 | SSE;
            if !read(GuestVirt(at), &mut area[LEGACY]) {
                return None;
            }
            if let Some(len) = self.extended_len(&area) {
                let mut magic = [0; MAGIC2_LEN];
                let behind = GuestVirt(at.wrapping_add(len as u64));
                if !read(behind, &mut magic) {
                    return None;
                }
                if u32::from_le_bytes(magic) == MAGIC2 {
                    let part = LEGACY.end..len.min(area.len());
                    if !read(GuestVirt(at.wrapping_add(LEGACY.end as u64)), &mut area[part]) {
                        return None;
                    }
                    in_use = get(&area, HEADER.start);
                    let is_standard = area[HEADER][8..].iter().all(|byte| *byte == 0);
                    if in_use & !(self.xcr0 & KNOWN) != 0 || !is_standard {
                        return None;
                    }
                    // The announced length need not hold what is said to be in use.
                    if in_use & AVX != 0 && len < YMM_HIGH.end {
                        return None;
                    }
                }
            }
        }
        let mxcsr = u32::from_le_bytes([area[24], area[25], area[26], area[27]]);
        if mxcsr & !self.settable_mxcsr() != 0 {
            return None;
        }
        Some(self.with_state(&mut area, in_use))
    }

    /// How long the area is, where this begins one that has more than x87 and SSE state.
    fn extended_len(&self, area: &[u8]) -> Option<usize> {
        let (magic, extended) = (get(area, SOFTWARE_RESERVED) as u32, get(area, SOFTWARE_RESERVED) >> 32);
        let len = get(area, SOFTWARE_RESERVED + 16) & u64::from(u32::MAX);
        let is_extended = self.xcr0 != 0
            && magic == MAGIC1
            && (HEADER.end as u64..=self.area_len() as u64).contains(&len)
            && len <= extended;
        is_extended.then_some(len as usize)
    }

    /// This state with the components of an area, as far as guests may use them.
    fn with_state(&self, area: &mut [u8; YMM_HIGH.end], in_use: u64) -> FpuState {
        let mut whole = vec![0; FpuState::LEN];
        self.fpu.copy_to(&mut whole, 0..FpuState::LEN);
        let initial = FpuState::initial();
        for (component, range) in COMPONENTS {
            if in_use & component != 0 {
                whole[range.clone()].copy_from_slice(&area[range]);
            } else if self.xcr0 == 0 || self.xcr0 & component != 0 {
                initial.copy_to(&mut whole, range);
            }
        }
        whole[MXCSR].copy_from_slice(&area[MXCSR]);
        let others = self.fpu.word(HEADER.start) & !KNOWN;
        let in_use = if self.xcr0 == 0 { others } else { others | in_use & self.xcr0 };
        put(&mut whole, HEADER.start, in_use);
        FpuState::of_bytes(&whole)
    }

    /// The bits of MXCSR that the processor has.
    fn settable_mxcsr(&self) -> u32 {
        match (self.fpu.word(MXCSR.start) >> 32) as u32 {
            0 => DEFAULT_MXCSR_MASK,
            mask => mask,
        }
    }
}

fn put(into: &mut [u8], at: usize, value: u64) {
    into[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

fn get(from: &[u8], at: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&from[at..at + 8]);
    u64::from_le_bytes(bytes)
}

/// `struct ucontext` (Linux's `include/uapi/asm-generic/ucontext.h`).
#[repr(C)]
struct Ucontext {
    flags: u64,
    link: u64,
    stack: [u64; 3],
    registers: Sigcontext,
    mask: u64,
}

/// `struct sigcontext` (Linux's `arch/x86/include/uapi/asm/sigcontext.h`).
#[repr(C)]
struct Sigcontext {
    general: [u64; 18],
    cs: u16,
    gs: u16,
    fs: u16,
    ss: u16,
    err: u64,
    trapno: u64,
    oldmask: u64,
    cr2: u64,
    fpstate: u64,
    reserved: [u64; 8],
}

// Parts of a frame, which begins with the address of the restorer.
const CONTEXT: usize = 8;
const INFO: usize = CONTEXT + size_of::<Ucontext>();
const FRAME_LEN: usize = INFO + 128;

const _: () = assert!(size_of::<Ucontext>() == 304 && size_of::<Sigcontext>() == 256);

/// What a function may use below its stack pointer (System V ABI, AMD64 supplement, section 3.2.2), in bytes.
const RED_ZONE: u64 = 128;

/// What `xrstor` asks for.
const AREA_ALIGNMENT: u64 = 64;

// Flags of `struct ucontext` (Linux's `arch/x86/include/uapi/asm/ucontext.h`).
const FP_XSTATE: u64 = 1;
const SIGCONTEXT_SS: u64 = 2;
const STRICT_RESTORE_SS: u64 = 4;

/// The requested privilege level of a selector that is user code's.
const USER_PRIVILEGE: u16 = 3;

/// The flags that `rt_sigreturn` restores (Linux's `FIX_EFLAGS`), but for the one that `iretq` alone can set.
const RESTORED_FLAGS: u64 = GUEST_MAY_SET & !IDENTIFICATION_FLAG;

// RFLAGS (AMD64 Architecture Programmer's Manual, volume 2, section 3.1.6).
const DIRECTION_FLAG: u64 = 1 << 10;
const IDENTIFICATION_FLAG: u64 = 1 << 21;

// Parts of an XSAVE area: as in `shim::resume`, and what Linux puts where the processor has nothing.
const LEGACY: Range<usize> = 0..512;
const MXCSR: Range<usize> = 24..28;
const MXCSR_MASK: Range<usize> = 28..32;
const SOFTWARE_RESERVED: usize = 464;
const HEADER: Range<usize> = 512..576;
const YMM_HIGH: Range<usize> = 576..832;

/// Linux's `arch/x86/include/uapi/asm/sigcontext.h`: that the area is an extended one, and that it has been copied whole.
const MAGIC1: u32 = 0x4650_5853;
const MAGIC2: u32 = 0x4650_5845;
const MAGIC2_LEN: usize = 4;

// Components, by their bits in XCR0 and in the header.
const X87: u64 = 1;
const SSE: u64 = 1 << 1;
const AVX: u64 = 1 << 2;
const KNOWN: u64 = X87 | SSE | AVX;
const COMPONENTS: [(u64, Range<usize>); 4] = [(X87, 0..24), (X87, 32..160), (SSE, 160..416), (AVX, YMM_HIGH)];

/// The bits of MXCSR where the processor does not say (AMD64 Architecture Programmer's Manual, volume 2, section 11.5.9).
const DEFAULT_MXCSR_MASK: u32 = 0xffbf;

/// How far the masks of exceptions lie above their flags in MXCSR.
const MXCSR_MASKS: u32 = 7;

/// The vectors of floating-point exceptions.
const X87_EXCEPTION: u8 = 16;
const SSE_EXCEPTION: u8 = 19;

#[cfg(test)]
mod tests;
