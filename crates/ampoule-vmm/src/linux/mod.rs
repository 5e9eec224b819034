//! What the kernel contributes besides KVM: calls that no signal makes fail, pages at given addresses, files that grow,
//! which process this is, what its clocks go by, and what to do where the kernel refuses.

pub(crate) mod advice;
pub(crate) mod clock_source;
pub(crate) mod file_size;
pub(crate) mod pages;
pub(crate) mod process;
pub(crate) mod uninterrupted;
