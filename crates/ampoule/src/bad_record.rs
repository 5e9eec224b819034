//! Records of a stored snapshot that no snapshot could have.

use thiserror::Error;

/// A record that contradicts itself, or that no guest could have led to. Whoever has written it is not trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("its {part} is impossible: {problem}")]
pub(crate) struct BadRecord {
    /// What it is about.
    pub(crate) part: &'static str,
    /// What is wrong.
    pub(crate) problem: &'static str,
}

impl BadRecord {
    /// Refuses unless something holds.
    pub(crate) fn unless(holds: bool, part: &'static str, problem: &'static str) -> Result<(), Self> {
        if holds { Ok(()) } else { Err(Self { part, problem }) }
    }
}
