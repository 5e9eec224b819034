//! What the kernel contributes besides KVM: calls that no signal makes fail, pages at given addresses, and which process this
//! is.

pub(crate) mod pages;
pub(crate) mod process;
pub(crate) mod uninterrupted;
