//! What is particular to x86-64: registers, page tables, and the stubs that run in ring 0.

pub mod address_map;
pub mod capabilities;
pub(crate) mod copy;
pub mod exception;
pub mod paging;
pub mod probe;
pub mod processor;
pub mod registers;
pub mod shim;
pub mod vdso;
