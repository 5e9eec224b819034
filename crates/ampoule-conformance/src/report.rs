//! What a backend is able to do.

use std::fmt;

use ampoule_vmm::Hypervisor;

use crate::case::Case;
use crate::failure::Failure;
use crate::suite::{Part, cases};

/// Puts a backend through all cases, one after another.
///
/// A backend that panics fails the case. One that never returns from an operation is not stopped: what a guest does
/// in a case always comes to an end.
pub fn check(hypervisor: &dyn Hypervisor) -> Report {
    Report { outcomes: cases().iter().map(|case| Outcome { case: *case, result: case.run(hypervisor) }).collect() }
}

/// How a backend did in the suite. Its `Display` is a table, part by part, with everything that is lacking.
#[derive(Debug)]
pub struct Report {
    outcomes: Vec<Outcome>,
}

/// How a backend did in one case.
#[derive(Debug)]
#[non_exhaustive]
pub struct Outcome {
    /// The case.
    pub case: Case,
    /// Whether it was passed.
    pub result: Result<(), Failure>,
}

impl Report {
    /// All cases with their results, in the order of [`cases`].
    pub fn outcomes(&self) -> &[Outcome] {
        &self.outcomes
    }

    /// Whether every case was passed.
    pub fn is_passed(&self) -> bool {
        self.outcomes.iter().all(|outcome| outcome.result.is_ok())
    }

    /// The parts with a case that was not passed.
    pub fn lacking(&self) -> Vec<Part> {
        let mut parts: Vec<_> =
            self.outcomes.iter().filter(|outcome| outcome.result.is_err()).map(|outcome| outcome.case.part).collect();
        parts.dedup();
        parts
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for outcomes in self.outcomes.chunk_by(|one, other| one.case.part == other.case.part) {
            let part = outcomes[0].case.part;
            let passed = outcomes.iter().filter(|outcome| outcome.result.is_ok()).count();
            writeln!(f, "{:<16}{passed:>3} of {:<3} {}", part.name(), outcomes.len(), part.about())?;
            for Outcome { case, result } in outcomes {
                if let Err(failure) = result {
                    let verdict = if failure.is_lack() { "lacks" } else { "fails" };
                    writeln!(f, "  {verdict} {}: {}", case.name, case.promise)?;
                    writeln!(f, "        {failure}")?;
                }
            }
        }
        Ok(())
    }
}
