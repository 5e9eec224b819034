//! One case, and how it is run.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use ampoule_vmm::Hypervisor;

use crate::failure::Failure;
use crate::suite::Part;

/// Something that the upper layers rely on, and a procedure that finds out whether it holds.
#[derive(Copy, Clone)]
#[non_exhaustive]
pub struct Case {
    /// The part that it belongs to.
    pub part: Part,
    /// Its name, unique within the suite.
    pub name: &'static str,
    /// What the upper layers rely on, in one sentence.
    pub promise: &'static str,
    pub(crate) procedure: fn(&dyn Hypervisor) -> Result<(), Failure>,
}

impl Case {
    /// Puts a backend through this case. It makes machines of its own, so that cases can be run in any order and at the
    /// same time.
    ///
    /// # Errors
    ///
    /// [`Failure`] says what the backend lacks or does otherwise.
    pub fn run(&self, hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
        // A panic affects only what the case itself has made.
        catch_unwind(AssertUnwindSafe(|| (self.procedure)(hypervisor)))
            .unwrap_or_else(|payload| Err(Failure::Panicked { message: message(payload.as_ref()) }))
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}::{}", self.part.name(), self.name)
    }
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref().map(String::as_str));
    text.unwrap_or("no message").to_owned()
}
