//! What Ampoule relies on in a hypervisor backend, as a suite that any backend can be put through.
//!
//! A backend implements the traits [`Hypervisor`], [`Vm`](ampoule_vmm::Vm) and [`Vcpu`](ampoule_vmm::Vcpu). Their
//! documentation says what each operation does; this suite finds out whether it does, by driving small guests through every
//! behaviour that the layers above need. A backend that passes all [`cases`] can carry Ampoule. For one that does not, the
//! suite names the [`Part`] that it lacks.
//!
//! - A [`Case`] is a promise in one sentence, and a procedure that puts it to the test with machines of its own.
//! - What may differ between hypervisors is asked of the [capabilities](Hypervisor::capabilities), or both ways are
//!   accepted; the promise is what has to hold on all of them.
//! - No case looks at a clock, so that the suite passes on a loaded machine and in emulation.
//!
//! # In a backend's tests
//!
//! [`tests!`] makes each case a test of its own. In `tests/conformance.rs` of the backend's crate:
//!
//! ```no_run
//! use ampoule_vmm::kvm::Kvm;
//!
//! ampoule_conformance::tests!(Kvm::shared().expect("these tests need KVM"));
//! ```
//!
//! # While a backend is being written
//!
//! [`check`] runs all cases and returns a [`Report`], whose `Display` is a table of the parts with everything that is
//! lacking:
//!
//! ```no_run
//! use ampoule_vmm::Hypervisor;
//!
//! fn report(backend: &dyn Hypervisor) {
//!     let report = ampoule_conformance::check(backend);
//!     println!("{report}");
//!     for part in report.lacking() {
//!         eprintln!("not yet: {}", part.name());
//!     }
//! }
//! ```
//!
//! # What the suite does to the process
//!
//! The cases of [`Part::Cancellation`], and one of [`Part::WriteTracking`], install an empty handler for the signal
//! `SIGRTMIN + 9`, and leave it there.

mod canceller;
mod case;
mod cases;
mod code;
mod failure;
mod guest;
mod report;
mod signal;
mod suite;
mod values;

use ampoule_vmm::Hypervisor;

pub use case::Case;
pub use failure::Failure;
pub use report::{Outcome, Report, check};
pub use suite::{Part, cases};

/// Panics unless the backend passes the case of this name. What [`tests!`] calls.
///
/// # Panics
///
/// When there is no such case, or the backend does not pass it; the message says why.
#[track_caller]
pub fn assert_passes(hypervisor: &dyn Hypervisor, part: Part, name: &str) {
    let case = cases().iter().find(|case| case.part == part && case.name == name);
    let case = case.unwrap_or_else(|| panic!("the suite has no case {}::{name}", part.name()));
    if let Err(failure) = case.run(hypervisor) {
        panic!("{case}: {}\n{failure}", case.promise);
    }
}
