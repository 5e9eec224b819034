//! What the kernel contributes besides KVM: calls that no signal makes fail.

pub(crate) mod uninterrupted;
