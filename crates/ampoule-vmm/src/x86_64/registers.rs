//! The registers of a vCPU, free of any hypervisor's types.

use std::fmt;
use std::ops::Range;

/// General registers, instruction pointer and flags.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
#[expect(missing_docs, reason = "the fields are the registers they name")]
pub struct Regs {
    pub rax: u64,
    pub rbx: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub rsp: u64,
    pub rbp: u64,
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
    pub rip: u64,
    pub rflags: u64,
}

impl Regs {
    pub(crate) fn by_name(&self) -> [(&'static str, u64); 18] {
        let Regs { rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp, r8, r9, r10, r11, r12, r13, r14, r15, rip, rflags } = *self;
        [
            ("rax", rax),
            ("rbx", rbx),
            ("rcx", rcx),
            ("rdx", rdx),
            ("rsi", rsi),
            ("rdi", rdi),
            ("rbp", rbp),
            ("rsp", rsp),
            ("r8", r8),
            ("r9", r9),
            ("r10", r10),
            ("r11", r11),
            ("r12", r12),
            ("r13", r13),
            ("r14", r14),
            ("r15", r15),
            ("rip", rip),
            ("rflags", rflags),
        ]
    }
}

/// Segments, descriptor tables and control registers: what decides about mode and privilege.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
#[expect(missing_docs, reason = "the fields are the registers they name")]
pub struct SpecialRegs {
    pub cs: Segment,
    pub ds: Segment,
    pub es: Segment,
    pub fs: Segment,
    pub gs: Segment,
    pub ss: Segment,
    pub tr: Segment,
    pub ldt: Segment,
    pub gdt: DescriptorTable,
    pub idt: DescriptorTable,
    pub cr0: u64,
    pub cr2: u64,
    pub cr3: u64,
    pub cr4: u64,
    pub efer: u64,
}

/// A segment register with its hidden part. The names are those of the descriptor's fields (AMD64 Architecture
/// Programmer's Manual, volume 2, section 4.7).
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub struct Segment {
    /// The visible part.
    pub selector: u16,
    /// First address.
    pub base: u64,
    /// Last offset, in bytes.
    pub limit: u32,
    /// The four type bits.
    pub kind: u8,
    /// Whether this is a code or data segment rather than a system segment (S).
    pub code_or_data: bool,
    /// Privilege level, 0 to 3 (DPL).
    pub privilege: u8,
    /// Whether the segment is present (P).
    pub present: bool,
    /// 64-bit code (L).
    pub long: bool,
    /// 32-bit operands by default (D or B).
    pub default_32: bool,
    /// Limit counted in pages (G).
    pub granular: bool,
    /// Whether the register holds no segment.
    pub unusable: bool,
}

/// The floating-point and vector registers, in the form in which XSAVE stores them (AMD64 Architecture Programmer's Manual,
/// volume 2, section 11.5).
#[derive(Clone, Eq, PartialEq)]
pub struct FpuState(pub(crate) Box<[u32; FPU_WORDS]>);

impl FpuState {
    /// How many bytes it takes.
    pub(crate) const LEN: usize = FPU_WORDS * size_of::<u32>();

    /// The state of a program that begins: that of the processor after `fninit`, with all SSE exceptions masked (AMD64
    /// Architecture Programmer's Manual, volume 2, section 14.1.3).
    pub(crate) fn initial() -> FpuState {
        let mut words = Box::new([0; FPU_WORDS]);
        words[0] = 0x37f;
        words[MXCSR_WORD] = 0x1f80;
        FpuState(words)
    }

    /// The eight bytes from `at` on, a multiple of four, as a little-endian number.
    pub(crate) fn word(&self, at: usize) -> u64 {
        let at = at / size_of::<u32>();
        u64::from(self.0[at]) | u64::from(self.0[at + 1]) << 32
    }

    /// The state that begins with `area`, whose length is a multiple of four; what lies behind it is zero.
    ///
    /// # Panics
    ///
    /// When the area is longer than the state.
    pub(crate) fn of_bytes(area: &[u8]) -> FpuState {
        let mut words = Box::new([0; FPU_WORDS]);
        let (bytes, _) = area.as_chunks();
        for (word, bytes) in words[..bytes.len()].iter_mut().zip(bytes) {
            *word = u32::from_le_bytes(*bytes);
        }
        FpuState(words)
    }

    /// Copies a part, both ends of which are multiples of four, to the same place in `area`.
    pub(crate) fn copy_to(&self, area: &mut [u8], part: Range<usize>) {
        let words = &self.0[part.start / size_of::<u32>()..part.end / size_of::<u32>()];
        for (bytes, word) in area[part].chunks_exact_mut(size_of::<u32>()).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
    }
}

impl fmt::Debug for FpuState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FpuState").finish_non_exhaustive()
    }
}

/// An XSAVE area of 4 KiB holds all state that guests may use: x87, SSE and AVX take 832 bytes.
const FPU_WORDS: usize = 1024;

/// Where MXCSR lies in an XSAVE area: 24 bytes from its start.
const MXCSR_WORD: usize = 6;

/// Where the global or the interrupt descriptor table lies.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub struct DescriptorTable {
    /// Guest-virtual address of the first entry.
    pub base: u64,
    /// Offset of the table's last byte.
    pub limit: u16,
}

/// What the `syscall` and `sysret` instructions do: the registers STAR, LSTAR and FMASK (AMD64 Architecture Programmer's
/// Manual, volume 2, section 6.1.1).
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct SyscallEntry {
    /// The selectors that `syscall` and `sysret` load.
    pub star: u64,
    /// Where `syscall` continues.
    pub lstar: u64,
    /// The flags that `syscall` clears.
    pub flag_mask: u64,
}
