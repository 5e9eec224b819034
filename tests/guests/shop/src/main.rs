//! A guest with types of its own, for the tests of how they and its errors reach the host.

mod errors;
mod orders;

ampoule_guest::main!();
