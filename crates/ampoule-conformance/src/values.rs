//! Values to recognize.

use ampoule_vmm::x86_64::registers::Regs;

use crate::guest::Guest;

/// Registers that are all different, and which a guest can run with.
pub(crate) fn distinct_regs(guest: &Guest) -> Regs {
    let start = guest.start();
    Regs {
        rax: 0x0101_0101_0101_0101,
        rbx: 0x8000_0000_0000_0001,
        rcx: 0xffff_ffff_ffff_fffe,
        rdx: 0x0123_4567_89ab_cdef,
        rsi: 0x0000_0000_ffff_ffff,
        rdi: 0xffff_ffff_0000_0000,
        rbp: 0x5555_5555_5555_5555,
        r8: 8,
        r9: 0x9999_9999_9999_9999,
        r10: 0x0a0a_0a0a_0a0a_0a0a,
        r11: 0xb,
        r12: 0x7fff_ffff_ffff_ffff,
        r13: 0xdddd_0000_dddd_0000,
        r14: 0xe,
        r15: 0xf0f0_f0f0_f0f0_f0f0,
        rsp: start.rsp - 0x40,
        rip: start.rip,
        // CF, PF, AF, ZF, SF, OF
        rflags: start.rflags | 0x8d5,
    }
}

/// Numbers that look random and are the same each time.
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new(seed: u64) -> Numbers {
        Numbers(seed)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        // Knuth's MMIX generator; its upper bits are the better ones.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}
