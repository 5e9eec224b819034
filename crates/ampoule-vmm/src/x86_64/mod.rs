//! What is particular to x86-64: registers, page tables, and the stubs that run in ring 0.

pub mod address_map;
pub mod baseline;
pub mod capabilities;
pub(crate) mod copy;
pub mod exception;
pub(crate) mod features;
pub mod paging;
pub mod probe;
pub mod processor;
pub mod registers;
pub mod shim;
pub mod vdso;

/// The number of the architecture in ELF files (`EM_X86_64` of the System V ABI's AMD64 supplement, section 4.1.1).
pub(crate) const ELF_MACHINE: u32 = 62;
