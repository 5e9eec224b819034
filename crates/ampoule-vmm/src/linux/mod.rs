//! What the kernel contributes besides KVM: calls that no signal makes fail, and pages at given addresses.

pub(crate) mod pages;
pub(crate) mod uninterrupted;
