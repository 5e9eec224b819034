//! A hypervisor that fails on demand, so that every error path above it can be tested.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::hypervisor::{Hypervisor, HypervisorError, Operation, Vcpu};
use crate::interpose::{Interposed, Interposer, Method};

/// Passes everything on to another hypervisor, but lets one operation fail instead.
///
/// Every operation of [`Hypervisor`], [`Vm`](crate::hypervisor::Vm) and [`Vcpu`] that can fail counts. A test that reaches all
/// error paths of some procedure repeats it with 0, 1, 2… until the operation of that number did not take place:
///
/// ```no_run
/// # use ampoule_vmm::{inject::FailAt, kvm::Kvm, Hypervisor};
/// # fn procedure(_: &dyn Hypervisor) -> Result<(), ampoule_vmm::HypervisorError> { Ok(()) }
/// let kvm = Kvm::shared()?;
/// for number in 0.. {
///     let hypervisor = FailAt::new(kvm.clone(), number);
///     let result = procedure(&hypervisor);
///     if hypervisor.operations() <= number {
///         result?;
///         break;
///     }
///     assert!(result.is_err());
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub type FailAt<H> = Interposed<H, Plan>;

impl<H: Hypervisor> FailAt<H> {
    /// Lets the operation with this number fail; the first one is number 0.
    pub fn new(inner: H, number: u64) -> FailAt<H> {
        Interposed::with(inner, Arc::new(Plan { number, operations: AtomicU64::new(0) }))
    }

    /// How many operations there were, the failed one included.
    pub fn operations(&self) -> u64 {
        self.interposer.operations.load(Ordering::Relaxed)
    }
}

/// Which operation [`FailAt`] lets fail, and how many there were.
#[derive(Debug)]
pub struct Plan {
    number: u64,
    operations: AtomicU64,
}

impl Interposer for Plan {
    type OfVcpu = ();

    fn vcpu_created(&self, _: &dyn Vcpu) -> Result<(), HypervisorError> {
        Ok(())
    }

    fn permit(&self, _: Method, operation: Operation) -> Result<(), HypervisorError> {
        if self.operations.fetch_add(1, Ordering::Relaxed) == self.number {
            return Err(HypervisorError::Refused { operation, reason: io::Error::other("failure injected by a test") });
        }
        Ok(())
    }
}
