//! What several targets need.

pub mod elf;
pub mod input;
pub mod values;
