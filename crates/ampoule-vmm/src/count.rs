//! A hypervisor that counts what is asked of it, so that a promise of so many calls can be checked without trusting the
//! backend's own counters.

use std::array;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::address::GuestPhys;
use crate::hypervisor::{
    Counters, Exit, Hypervisor, HypervisorError, Interrupt, Statistics, StatisticsReader, Vcpu, Vm, WriteTracking,
};
use crate::memory::Region;
use crate::page_set::PageSet;
use crate::x86_64::capabilities::Capabilities;
use crate::x86_64::registers::{FpuState, Regs, SpecialRegs, SyscallEntry};

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
#[derive(Debug)]
pub struct Counting<H> {
    inner: H,
    tally: Arc<Tally>,
}

impl<H: Hypervisor> Counting<H> {
    /// Counts from zero.
    pub fn new(inner: H) -> Counting<H> {
        Counting { inner, tally: Arc::default() }
    }

    /// How often each method was called so far, whether it succeeded or not.
    pub fn counts(&self) -> Counts {
        Counts(array::from_fn(|index| self.tally.methods[index].load(Ordering::Relaxed)))
    }

    /// What the hypervisor itself has counted for all vCPUs together, those that are gone included. Fields that it does not
    /// count are `None`.
    ///
    /// # Errors
    ///
    /// [`HypervisorError`] when the hypervisor cannot report it.
    pub fn statistics(&self) -> Result<Statistics, HypervisorError> {
        let vcpus = self.tally.vcpus();
        let mut sum = vcpus.gone;
        for reader in vcpus.readers.values() {
            sum = sum.plus(&reader.read()?);
        }
        Ok(sum)
    }
}

/// How often methods were called.
#[derive(Copy, Clone, Eq, PartialEq, Default)]
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

/// Makes the methods' names and the list of all of them.
macro_rules! methods {
    ($($about:literal $name:ident,)+) => {
        /// A method of [`Hypervisor`], [`Vm`] or [`Vcpu`] that acts on the virtual machine or the hypervisor.
        #[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
        #[non_exhaustive]
        pub enum Method {
            $(#[doc = $about] $name,)+
        }

        impl Method {
            /// All of them.
            pub const ALL: [Method; [$(Method::$name),+].len()] = [$(Method::$name),+];
        }
    };
}

methods! {
    "[`Hypervisor::create_vm`]" CreateVm,
    "[`Vm::map`]" Map,
    "[`Vm::unmap`]" Unmap,
    "[`Vm::collect_written`]" CollectWritten,
    "[`Vm::forget_written`]" ForgetWritten,
    "[`Vm::flush_translations`]" FlushTranslations,
    "[`Vm::create_vcpu`]" CreateVcpu,
    "[`Vcpu::run`]" Run,
    "[`Vcpu::regs`]" Regs,
    "[`Vcpu::set_regs`]" SetRegs,
    "[`Vcpu::special_regs`]" SpecialRegs,
    "[`Vcpu::set_special_regs`]" SetSpecialRegs,
    "[`Vcpu::settle`]" Settle,
    "[`Vcpu::abandon`]" Abandon,
    "[`Vcpu::fpu`]" Fpu,
    "[`Vcpu::set_fpu`]" SetFpu,
}

#[derive(Debug, Default)]
struct Tally {
    methods: [AtomicU64; Method::ALL.len()],
    vcpus: Mutex<Vcpus>,
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

impl Tally {
    fn count(&self, method: Method) {
        self.methods[method as usize].fetch_add(1, Ordering::Relaxed);
    }

    fn vcpus(&self) -> MutexGuard<'_, Vcpus> {
        self.vcpus.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Vcpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vcpus").field("created", &self.created).field("gone", &self.gone).finish_non_exhaustive()
    }
}

impl<H: Hypervisor> Hypervisor for Counting<H> {
    fn create_vm(&self) -> Result<Box<dyn Vm>, HypervisorError> {
        self.tally.count(Method::CreateVm);
        Ok(Box::new(CountingVm { inner: self.inner.create_vm()?, tally: self.tally.clone() }))
    }

    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }
}

struct CountingVm {
    inner: Box<dyn Vm>,
    tally: Arc<Tally>,
}

impl Vm for CountingVm {
    fn map(
        &mut self,
        slot: u32,
        at: GuestPhys,
        region: Arc<Region>,
        tracking: WriteTracking,
    ) -> Result<(), HypervisorError> {
        self.tally.count(Method::Map);
        self.inner.map(slot, at, region, tracking)
    }

    fn unmap(&mut self, slot: u32) -> Result<(), HypervisorError> {
        self.tally.count(Method::Unmap);
        self.inner.unmap(slot)
    }

    fn collect_written(&mut self, slot: u32, pages: &mut PageSet) -> Result<(), HypervisorError> {
        self.tally.count(Method::CollectWritten);
        self.inner.collect_written(slot, pages)
    }

    fn forget_written(&mut self, slot: u32, pages: &PageSet) -> Result<(), HypervisorError> {
        self.tally.count(Method::ForgetWritten);
        self.inner.forget_written(slot, pages)
    }

    fn flush_translations(&mut self, slot: u32) -> Result<(), HypervisorError> {
        self.tally.count(Method::FlushTranslations);
        self.inner.flush_translations(slot)
    }

    fn create_vcpu(&mut self, entry: &SyscallEntry) -> Result<Box<dyn Vcpu>, HypervisorError> {
        self.tally.count(Method::CreateVcpu);
        let inner = self.inner.create_vcpu(entry)?;
        let reader = inner.statistics()?;
        let mut vcpus = self.tally.vcpus();
        let number = vcpus.created;
        vcpus.created += 1;
        vcpus.readers.extend(reader.map(|reader| (number, reader)));
        Ok(Box::new(CountingVcpu { inner, number, tally: self.tally.clone() }))
    }
}

struct CountingVcpu {
    inner: Box<dyn Vcpu>,
    number: u64,
    tally: Arc<Tally>,
}

impl Drop for CountingVcpu {
    fn drop(&mut self) {
        let mut vcpus = self.tally.vcpus();
        if let Some(last) = vcpus.readers.remove(&self.number).and_then(|reader| reader.read().ok()) {
            vcpus.gone = vcpus.gone.plus(&last);
        }
    }
}

impl Vcpu for CountingVcpu {
    fn run(&mut self) -> Result<Exit<'_>, HypervisorError> {
        self.tally.count(Method::Run);
        self.inner.run()
    }

    fn regs(&self) -> Regs {
        self.tally.count(Method::Regs);
        self.inner.regs()
    }

    fn set_regs(&mut self, regs: &Regs) {
        self.tally.count(Method::SetRegs);
        self.inner.set_regs(regs);
    }

    fn special_regs(&mut self) -> Result<SpecialRegs, HypervisorError> {
        self.tally.count(Method::SpecialRegs);
        self.inner.special_regs()
    }

    fn set_special_regs(&mut self, regs: &SpecialRegs) -> Result<(), HypervisorError> {
        self.tally.count(Method::SetSpecialRegs);
        self.inner.set_special_regs(regs)
    }

    fn settle(&mut self) -> Result<(), HypervisorError> {
        self.tally.count(Method::Settle);
        self.inner.settle()
    }

    fn abandon(&mut self) -> Result<(), HypervisorError> {
        self.tally.count(Method::Abandon);
        self.inner.abandon()
    }

    fn fpu(&mut self) -> Result<FpuState, HypervisorError> {
        self.tally.count(Method::Fpu);
        self.inner.fpu()
    }

    fn set_fpu(&mut self, state: &FpuState) -> Result<(), HypervisorError> {
        self.tally.count(Method::SetFpu);
        self.inner.set_fpu(state)
    }

    fn interrupter(&self) -> Arc<dyn Interrupt> {
        self.inner.interrupter()
    }

    fn counters(&self) -> Counters {
        self.inner.counters()
    }

    fn statistics(&self) -> Result<Option<Box<dyn StatisticsReader>>, HypervisorError> {
        self.inner.statistics()
    }
}
