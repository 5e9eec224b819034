//! The registers that a caller can be told from.

use gimli::{Register, X86_64};

/// The general registers of an x86-64 processor and its instruction pointer, by their names in the manuals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say all there is to say")]
pub struct Registers {
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
}

impl Registers {
    /// The registers that `value` has, by their usual names in lower case; those that it has not are 0.
    pub fn named(value: impl Fn(&str) -> Option<u64>) -> Registers {
        let value = |name| value(name).unwrap_or(0);
        Registers {
            rax: value("rax"),
            rbx: value("rbx"),
            rcx: value("rcx"),
            rdx: value("rdx"),
            rsi: value("rsi"),
            rdi: value("rdi"),
            rsp: value("rsp"),
            rbp: value("rbp"),
            r8: value("r8"),
            r9: value("r9"),
            r10: value("r10"),
            r11: value("r11"),
            r12: value("r12"),
            r13: value("r13"),
            r14: value("r14"),
            r15: value("r15"),
            rip: value("rip"),
        }
    }
}

/// General registers and instruction pointer by their DWARF numbers (System V ABI for AMD64, figure 3.36), as far as they
/// are known.
#[derive(Clone, Debug, Default)]
pub(super) struct KnownRegisters([Option<u64>; COUNT]);

impl From<&Registers> for KnownRegisters {
    fn from(registers: &Registers) -> Self {
        let &Registers { rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp, r8, r9, r10, r11, r12, r13, r14, r15, rip } =
            registers;
        let in_order = [rax, rdx, rcx, rbx, rsi, rdi, rbp, rsp, r8, r9, r10, r11, r12, r13, r14, r15, rip];
        Self(in_order.map(Some))
    }
}

impl KnownRegisters {
    pub(super) fn rip(&self) -> Option<u64> {
        self.value(X86_64::RA)
    }

    pub(super) fn rsp(&self) -> Option<u64> {
        self.value(X86_64::RSP)
    }

    pub(super) fn rbp(&self) -> Option<u64> {
        self.value(X86_64::RBP)
    }

    pub(super) fn value(&self, register: Register) -> Option<u64> {
        self.0.get(usize::from(register.0)).copied().flatten()
    }

    /// Registers beyond the general ones are not kept.
    pub(super) fn set(&mut self, register: Register, value: Option<u64>) {
        if let Some(slot) = self.0.get_mut(usize::from(register.0)) {
            *slot = value;
        }
    }

    /// The registers after a return to `rip`, of a function that restored the frame pointer and kept what it must keep.
    pub(super) fn in_caller(&self, rip: u64, rsp: u64, rbp: Option<u64>) -> Self {
        let mut caller = self.kept();
        caller.set(X86_64::RA, Some(rip));
        caller.set(X86_64::RSP, Some(rsp));
        caller.set(X86_64::RBP, rbp);
        caller
    }

    /// The registers that a function keeps for its caller.
    pub(super) fn kept(&self) -> Self {
        let mut kept = Self::default();
        for register in KEPT {
            kept.set(register, self.value(register));
        }
        kept
    }
}

/// What every function must keep (System V ABI for AMD64, section 3.2.1), without the stack pointer.
pub(super) const KEPT: [Register; 6] = [X86_64::RBX, X86_64::RBP, X86_64::R12, X86_64::R13, X86_64::R14, X86_64::R15];

/// Sixteen general registers and the return address.
const COUNT: usize = 17;
