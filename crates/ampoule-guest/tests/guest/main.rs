//! A guest and its host in one process.

mod allocations;
mod fake_host;
mod output;
mod records;
mod restore;
mod serve;
mod streams;
mod types;
