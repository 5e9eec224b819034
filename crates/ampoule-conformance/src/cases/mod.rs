//! The cases themselves: one module for each part of the suite, one function for each case of the table in `suite.rs`.

pub(crate) mod cancellation;
pub(crate) mod costs;
pub(crate) mod faults;
pub(crate) mod fpu;
pub(crate) mod limits;
pub(crate) mod mapped_memory;
pub(crate) mod memory;
pub(crate) mod page_tables;
pub(crate) mod permissions;
pub(crate) mod ports;
pub(crate) mod registers;
pub(crate) mod resumption;
pub(crate) mod reuse;
pub(crate) mod system_calls;
pub(crate) mod write_tracking;
