//! Calls on the real hypervisor that are killed, run out of time, or are left alone.

mod guest;
mod kills;
mod limits;
mod process;
mod samples;
mod signals;
