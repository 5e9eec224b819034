//! Why a backend does not pass a case.

use std::fmt::{Debug, Display};
use std::io;
use std::panic::Location;

use ampoule_vmm::x86_64::registers::Regs;
use ampoule_vmm::{HypervisorError, OutOfRegion, RevokeError};
use thiserror::Error;

/// Why a backend does not pass a case.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Failure {
    /// It does something other than what is relied on.
    #[error("{what}: expected {expected}, found {found} ({at})")]
    Differs {
        /// What was compared.
        what: String,
        /// What the upper layers rely on.
        expected: String,
        /// What was found instead.
        found: String,
        /// The place in the suite that compared.
        at: &'static Location<'static>,
    },
    /// It refused an operation that the case needs.
    #[error("an operation was refused: {0}")]
    Refused(HypervisorError),
    /// It, or the case, panicked.
    #[error("panicked: {message}")]
    Panicked {
        /// The panic's message.
        message: String,
    },
    /// The host has too few resources for the case. This says nothing about the backend.
    #[error("the host has no memory or thread for this case, run it where there is more: {0}")]
    Host(io::Error),
    /// The host could not revoke cached translations. This says nothing about the backend.
    #[error("the host could not revoke cached translations: {0}")]
    Revoke(RevokeError),
    /// The case looked beyond its memory, which is a bug in the suite.
    #[error("the case looked beyond its memory; please report it: {0}")]
    OutOfRegion(OutOfRegion),
}

impl Failure {
    /// Whether the backend lacks an operation, as opposed to performing it wrongly.
    pub fn is_lack(&self) -> bool {
        matches!(self, Failure::Refused(_))
    }
}

impl From<HypervisorError> for Failure {
    fn from(error: HypervisorError) -> Self {
        Self::Refused(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Host(error)
    }
}

impl From<RevokeError> for Failure {
    fn from(error: RevokeError) -> Self {
        Self::Revoke(error)
    }
}

impl From<OutOfRegion> for Failure {
    fn from(error: OutOfRegion) -> Self {
        Self::OutOfRegion(error)
    }
}

/// Compares, and names what was compared.
#[track_caller]
pub(crate) fn expect<T: PartialEq<U> + Debug, U: Debug>(
    what: impl Display,
    found: T,
    expected: U,
) -> Result<(), Failure> {
    if found == expected {
        return Ok(());
    }
    Err(differs(what, format!("{expected:x?}"), format!("{found:x?}")))
}

/// Makes sure of a condition; `found` describes what was found.
#[track_caller]
pub(crate) fn require(
    what: impl Display,
    holds: bool,
    expected: impl Into<String>,
    found: impl Debug,
) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(differs(what, expected.into(), format!("{found:x?}"))) }
}

/// Compares registers, and names those that differ.
#[track_caller]
pub(crate) fn expect_regs(what: impl Display, found: &Regs, expected: &Regs) -> Result<(), Failure> {
    let differing: Vec<_> =
        named(found).into_iter().zip(named(expected)).filter(|(found, expected)| found != expected).collect();
    if differing.is_empty() {
        return Ok(());
    }
    let list = |registers: Vec<(&str, u64)>| {
        let texts: Vec<_> = registers.iter().map(|(name, value)| format!("{name} {value:#x}")).collect();
        texts.join(", ")
    };
    let (found, expected) = differing.into_iter().unzip();
    Err(differs(what, list(expected), list(found)))
}

#[track_caller]
pub(crate) fn differs(what: impl Display, expected: String, found: String) -> Failure {
    Failure::Differs { what: what.to_string(), expected, found, at: Location::caller() }
}

fn named(regs: &Regs) -> [(&'static str, u64); 18] {
    [
        ("rax", regs.rax),
        ("rbx", regs.rbx),
        ("rcx", regs.rcx),
        ("rdx", regs.rdx),
        ("rsi", regs.rsi),
        ("rdi", regs.rdi),
        ("rsp", regs.rsp),
        ("rbp", regs.rbp),
        ("r8", regs.r8),
        ("r9", regs.r9),
        ("r10", regs.r10),
        ("r11", regs.r11),
        ("r12", regs.r12),
        ("r13", regs.r13),
        ("r14", regs.r14),
        ("r15", regs.r15),
        ("rip", regs.rip),
        ("rflags", regs.rflags),
    ]
}

#[cfg(test)]
mod tests {
    use ampoule_error_rule::{each_variant, refusal};
    use ampoule_vmm::hypervisor::Operation;

    use super::*;

    #[test]
    fn all_failures_say_everything_once() {
        let refused = HypervisorError::Refused { operation: Operation::Run, reason: refusal() };
        each_variant!(Failure {
            Failure::Differs { .. } => differs("rax", "1".to_owned(), "2".to_owned()),
            Failure::Refused(_) => refused.into(),
            Failure::Panicked { .. } => Failure::Panicked { message: "no".to_owned() },
            Failure::Host(_) => refusal().into(),
            Failure::Revoke(_) => RevokeError::Protect(refusal()).into(),
            Failure::OutOfRegion(_) => OutOfRegion { offset: 1, len: 2, region: 3 }.into(),
        });
    }
}
