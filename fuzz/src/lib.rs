//! What several targets need.

pub mod elf;
pub mod guest;
pub mod input;
pub mod values;
