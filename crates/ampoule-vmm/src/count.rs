//! A hypervisor that counts what is asked of it, so that a promise of so many calls can be checked without trusting the
//! backend's own counters.

use std::array;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::hypervisor::{Hypervisor, HypervisorError, Statistics, StatisticsReader, Vcpu};
use crate::interpose::{Interposed, Interposer};

pub use crate::interpose::Method;

/// Passes everything on to another hypervisor, and counts it: for all virtual machines and vCPUs together that were made
/// through it. What the hypervisor has counted itself for the same vCPUs is at hand beside it.
///
/// ```no_run
/// use ampoule_vmm::Hypervisor;
/// use ampoule_vmm::count::{Counting, Method};
/// use ampoule_vmm::kvm::Kvm;
///
/// let hypervisor = Counting::new(Kvm::shared()?);
/// let before = hypervisor.counts();
/// let vm = hypervisor.create_vm()?;
/// let spent = hypervisor.counts().since(&before);
/// assert_eq!(spent.of(Method::CreateVm), 1);
/// assert_eq!(spent.total(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub type Counting<H> = Interposed<H, Tally>;

impl<H: Hypervisor> Counting<H> {
    /// Counts from zero.
    pub fn new(inner: H) -> Counting<H> {
        Interposed::with(inner, Arc::default())
    }

    /// How often each method was called so far, whether it succeeded or not.
    pub fn counts(&self) -> Counts {
        Counts(array::from_fn(|index| self.interposer.methods[index].load(Ordering::Relaxed)))
    }

    /// What the hypervisor itself has counted for all vCPUs together, those that are gone included. Fields that it does not
    /// count are `None`.
    ///
    /// # Errors
    ///
    /// [`HypervisorError`] when the hypervisor cannot report it.
    pub fn statistics(&self) -> Result<Statistics, HypervisorError> {
        let vcpus = lock(&self.interposer.vcpus);
        let mut sum = vcpus.gone;
        for reader in vcpus.readers.values() {
            sum = sum.plus(&reader.read()?);
        }
        Ok(sum)
    }
}

/// How often methods were called.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts([u64; Method::ALL.len()]);

impl Counts {
    /// How often this method was called.
    pub fn of(&self, method: Method) -> u64 {
        self.0[method as usize]
    }

    /// How often any of these methods was called.
    pub fn of_any(&self, methods: impl IntoIterator<Item = Method>) -> u64 {
        methods.into_iter().map(|method| self.of(method)).sum()
    }

    /// How often any method was called.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// What was added since `earlier`, which the same [`Counting`] has reported.
    pub fn since(&self, earlier: &Counts) -> Counts {
        Counts(array::from_fn(|index| self.0[index].wrapping_sub(earlier.0[index])))
    }
}

impl fmt::Debug for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let called = Method::ALL.into_iter().filter(|method| self.of(*method) != 0);
        f.debug_map().entries(called.map(|method| (method, self.of(method)))).finish()
    }
}

/// What [`Counting`] has counted.
#[derive(Debug, Default)]
pub struct Tally {
    methods: [AtomicU64; Method::ALL.len()],
    vcpus: Arc<Mutex<Vcpus>>,
}

impl Interposer for Tally {
    type OfVcpu = CountedVcpu;

    fn vcpu_created(&self, vcpu: &dyn Vcpu) -> Result<CountedVcpu, HypervisorError> {
        let reader = vcpu.statistics()?;
        let mut vcpus = lock(&self.vcpus);
        let number = vcpus.created;
        vcpus.created += 1;
        vcpus.readers.extend(reader.map(|reader| (number, reader)));
        Ok(CountedVcpu { number, vcpus: self.vcpus.clone() })
    }

    fn before(&self, method: Method) {
        self.methods[method as usize].fetch_add(1, Ordering::Relaxed);
    }
}

/// The hypervisor's own statistics.
#[derive(Default)]
struct Vcpus {
    created: u64,
    /// Those of the vCPUs that are there, by number.
    readers: BTreeMap<u64, Box<dyn StatisticsReader>>,
    /// The sum of those that are not.
    gone: Statistics,
}

impl fmt::Debug for Vcpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vcpus").field("created", &self.created).field("gone", &self.gone).finish_non_exhaustive()
    }
}

/// A vCPU whose own statistics are part of [`Counting::statistics`], even when it is gone.
#[derive(Debug)]
pub struct CountedVcpu {
    number: u64,
    vcpus: Arc<Mutex<Vcpus>>,
}

impl Drop for CountedVcpu {
    fn drop(&mut self) {
        let mut vcpus = lock(&self.vcpus);
        if let Some(last) = vcpus.readers.remove(&self.number).and_then(|reader| reader.read().ok()) {
            vcpus.gone = vcpus.gone.plus(&last);
        }
    }
}

fn lock(vcpus: &Mutex<Vcpus>) -> MutexGuard<'_, Vcpus> {
    vcpus.lock().unwrap_or_else(PoisonError::into_inner)
}
