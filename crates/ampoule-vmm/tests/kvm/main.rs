//! Guests on the real hypervisor: what ring 3 can do, what it cannot, and how the host sees it.

mod exits;
mod guest;
mod memory;
mod syscalls;
mod vcpu;
mod vm;
