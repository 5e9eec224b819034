//! Registers in the forms that core dumps of Linux on x86-64 have.

use std::mem::offset_of;

use libc::{NT_PRFPREG, user_regs_struct};

use super::context::{Selectors, UserContext};
use crate::processor::{CoreNote, CoreRegisters};
use crate::x86_64::registers::{FpuState, Regs};

impl UserContext {
    /// The registers as a core dump has them. The x87 and SSE registers are there twice, as in Linux's own dumps, for readers
    /// that know only the older of the two notes.
    pub(crate) fn core_registers(&self) -> CoreRegisters {
        let mut notes =
            Vec::from([CoreNote { owner: "CORE", kind: NT_PRFPREG as u32, body: legacy_area(&self.fpu, LEGACY_AREA) }]);
        if self.xcr0 != 0 {
            notes.push(CoreNote { owner: "LINUX", kind: NT_X86_XSTATE, body: self.xsave_area() });
        }
        CoreRegisters { general: self.general_registers(), notes }
    }

    /// The general registers in the order of `user_regs_struct`, each in eight bytes.
    fn general_registers(&self) -> Vec<u8> {
        let Regs { rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp, r8, r9, r10, r11, r12, r13, r14, r15, rip, rflags } =
            self.regs;
        let Selectors { cs, ds, es, fs, gs, ss } = self.selectors;
        let mut bytes = vec![0; size_of::<user_regs_struct>()];
        for (at, value) in [
            (offset_of!(user_regs_struct, r15), r15),
            (offset_of!(user_regs_struct, r14), r14),
            (offset_of!(user_regs_struct, r13), r13),
            (offset_of!(user_regs_struct, r12), r12),
            (offset_of!(user_regs_struct, rbp), rbp),
            (offset_of!(user_regs_struct, rbx), rbx),
            (offset_of!(user_regs_struct, r11), r11),
            (offset_of!(user_regs_struct, r10), r10),
            (offset_of!(user_regs_struct, r9), r9),
            (offset_of!(user_regs_struct, r8), r8),
            (offset_of!(user_regs_struct, rax), rax),
            (offset_of!(user_regs_struct, rcx), rcx),
            (offset_of!(user_regs_struct, rdx), rdx),
            (offset_of!(user_regs_struct, rsi), rsi),
            (offset_of!(user_regs_struct, rdi), rdi),
            (offset_of!(user_regs_struct, orig_rax), self.system_call.unwrap_or(NO_SYSTEM_CALL)),
            (offset_of!(user_regs_struct, rip), rip),
            (offset_of!(user_regs_struct, cs), cs.into()),
            (offset_of!(user_regs_struct, eflags), rflags),
            (offset_of!(user_regs_struct, rsp), rsp),
            (offset_of!(user_regs_struct, ss), ss.into()),
            (offset_of!(user_regs_struct, fs_base), self.fs_base),
            (offset_of!(user_regs_struct, gs_base), self.gs_base),
            (offset_of!(user_regs_struct, ds), ds.into()),
            (offset_of!(user_regs_struct, es), es.into()),
            (offset_of!(user_regs_struct, fs), fs.into()),
            (offset_of!(user_regs_struct, gs), gs.into()),
        ] {
            bytes[at..at + size_of::<u64>()].copy_from_slice(&value.to_le_bytes());
        }
        bytes
    }

    /// The XSAVE area with the state that guests may use, and with XCR0 where debuggers look for it. The header, which says
    /// which of it is in use, may speak of other state that hypervisors let through.
    fn xsave_area(&self) -> Vec<u8> {
        let len = if self.xcr0 & AVX != 0 { AVX_AREA_END } else { LEGACY_AREA + XSAVE_HEADER };
        let mut area = legacy_area(&self.fpu, len);
        let in_use = self.fpu.word(LEGACY_AREA) & self.xcr0;
        for (at, value) in [(XCR0_AT, self.xcr0), (LEGACY_AREA, in_use)] {
            area[at..at + size_of::<u64>()].copy_from_slice(&value.to_le_bytes());
        }
        area
    }
}

/// The first bytes of an XSAVE area.
fn legacy_area(fpu: &FpuState, len: usize) -> Vec<u8> {
    let mut area = vec![0; len];
    fpu.copy_to(&mut area, 0..len);
    area
}

/// What `orig_rax` is outside of system calls (Linux's `arch/x86/entry/entry_64.S`).
const NO_SYSTEM_CALL: u64 = u64::MAX;

/// Linux's `include/uapi/linux/elf.h`.
const NT_X86_XSTATE: u32 = 0x202;

/// Bytes of the legacy region (AMD64 Architecture Programmer's Manual, volume 2, section 11.5.9), and of the header behind it.
const LEGACY_AREA: usize = 512;
const XSAVE_HEADER: usize = 64;

/// XCR0 lies among the bytes of the legacy region that are software's (Linux's `arch/x86/include/asm/user.h`).
const XCR0_AT: usize = 464;

/// AVX state in XCR0, and where it ends: 256 bytes behind the header, in a place that is the same on all processors.
const AVX: u64 = 1 << 2;
const AVX_AREA_END: usize = LEGACY_AREA + XSAVE_HEADER + 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn context(xcr0: u64) -> UserContext {
        let mut fpu = FpuState::initial();
        fpu.0.iter_mut().enumerate().for_each(|(index, word)| *word = index as u32);
        let regs = Regs {
            rax: 1,
            rbx: 2,
            rcx: 3,
            rdx: 4,
            rsi: 5,
            rdi: 6,
            rsp: 7,
            rbp: 8,
            r8: 9,
            r9: 10,
            r10: 11,
            r11: 12,
            r12: 13,
            r13: 14,
            r14: 15,
            r15: 16,
            rip: 17,
            rflags: 18,
        };
        let selectors = Selectors { cs: 19, ds: 20, es: 21, fs: 22, gs: 23, ss: 24 };
        UserContext { regs, fs_base: 25, gs_base: 26, fpu, selectors, system_call: None, xcr0, raised: None }
    }

    fn words(bytes: &[u8]) -> Vec<u64> {
        bytes.chunks(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())).collect()
    }

    /// The order is that of `struct user_regs_struct` in Linux's `arch/x86/include/asm/user_64.h`.
    #[test]
    fn every_general_register_is_in_its_place() {
        let general = words(&context(7).core_registers().general);
        let expected = [16, 15, 14, 13, 8, 2, 12, 11, 10, 9, 1, 3, 4, 5, 6, u64::MAX, 17, 19, 18, 7, 24, 25, 26];
        assert_eq!(general[..23], expected);
        assert_eq!(general[23..], [20, 21, 22, 23]);
        let in_call = UserContext { system_call: Some(231), ..context(7) };
        assert_eq!(words(&in_call.core_registers().general)[15], 231);
    }

    #[test]
    fn vector_registers_are_as_long_as_the_processor_has_them_and_say_which_there_are() {
        for (xcr0, len) in [(7, Some(832)), (3, Some(576)), (0, None)] {
            let notes = context(xcr0).core_registers().notes;
            assert_eq!((notes[0].owner, notes[0].kind, notes[0].body.len()), ("CORE", 2, 512));
            assert_eq!(notes.get(1).map(|note| note.body.len()), len);
            let Some(note) = notes.get(1) else { continue };
            assert_eq!((note.owner, note.kind), ("LINUX", 0x202));
            assert_eq!(words(&note.body)[464 / 8], xcr0);
            assert_eq!(words(&note.body)[..58], words(&notes[0].body)[..58]);
            assert_eq!(words(&note.body)[64], (129 << 32 | 128) & xcr0);
            assert_eq!(words(&note.body)[71], 143 << 32 | 142);
        }
    }
}
