//! What stands between a hypervisor and whoever uses it: the one place where each method of the traits is passed on.
//!
//! An [`Interposer`] sees every method that acts on a virtual machine, before and after it, and can let it fail. So what
//! [counts](crate::count) methods and what [lets them fail](crate::inject) have no pass-throughs of their own, and a method
//! that the traits get is counted, and can fail, as soon as it stands here.

use std::sync::Arc;

use crate::address::GuestPhys;
use crate::arch::capabilities::Capabilities;
use crate::arch::registers::{FpuState, Regs, SpecialRegs, SyscallEntry};
use crate::hypervisor::{
    BaselineError, Counters, Exit, Hypervisor, HypervisorError, Interrupt, Operation, StatisticsReader, Vcpu, Vm,
    WriteTracking,
};
use crate::memory::Region;
use crate::page_set::PageSet;
use crate::processor::Baseline;

/// What happens around the methods of a hypervisor, its virtual machines and their vCPUs. It may be asked by several threads
/// at once, one for each vCPU.
pub trait Interposer: Send + Sync + 'static {
    /// What it keeps for each vCPU. It is dropped right before the vCPU is.
    type OfVcpu: Send;

    /// A vCPU was created.
    ///
    /// # Errors
    ///
    /// [`HypervisorError`] that the creation reports instead; the vCPU is dropped then.
    fn vcpu_created(&self, vcpu: &dyn Vcpu) -> Result<Self::OfVcpu, HypervisorError>;

    /// A method is about to be passed on.
    fn before(&self, _method: Method) {}

    /// Whether a method that can fail is passed on, asked behind [`before`](Self::before). `operation` is what an error of it
    /// would report.
    ///
    /// # Errors
    ///
    /// [`HypervisorError`] that the method returns instead: the hypervisor is not asked, and nothing comes
    /// [after](Self::after).
    fn permit(&self, _method: Method, _operation: Operation) -> Result<(), HypervisorError> {
        Ok(())
    }

    /// A method has returned, whether it succeeded or not.
    fn after(&self, _method: Method) {}
}

/// Makes the methods' names and the list of all of them.
macro_rules! methods {
    ($($about:literal $name:ident,)+) => {
        /// A method of [`Hypervisor`], [`Vm`] or [`Vcpu`] that acts on the virtual machine or the hypervisor.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
    "[`Vcpu::statistics`]" Statistics,
}

/// A hypervisor behind an [`Interposer`], which stands in front of all virtual machines and vCPUs that are made through it.
#[derive(Debug)]
pub struct Interposed<H, I> {
    pub(crate) inner: H,
    pub(crate) interposer: Arc<I>,
}

impl<H: Hypervisor, I: Interposer> Interposed<H, I> {
    /// Puts `interposer` in front of `inner`.
    pub fn with(inner: H, interposer: Arc<I>) -> Interposed<H, I> {
        Interposed { inner, interposer }
    }
}

impl<H: Hypervisor, I: Interposer> Hypervisor for Interposed<H, I> {
    fn create_vm(&self) -> Result<Box<dyn Vm>, HypervisorError> {
        let inner = attempt(&self.interposer, Method::CreateVm, Operation::CreateVm, || self.inner.create_vm())?;
        Ok(Box::new(InterposedVm { inner, interposer: self.interposer.clone() }))
    }

    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }

    fn with_baseline(&self, baseline: Baseline) -> Result<Arc<dyn Hypervisor>, BaselineError> {
        let inner = self.inner.with_baseline(baseline)?;
        Ok(Arc::new(Interposed { inner, interposer: Arc::clone(&self.interposer) }))
    }
}

struct InterposedVm<I> {
    inner: Box<dyn Vm>,
    interposer: Arc<I>,
}

impl<I: Interposer> Vm for InterposedVm<I> {
    fn map(
        &mut self,
        slot: u32,
        at: GuestPhys,
        region: Arc<Region>,
        tracking: WriteTracking,
    ) -> Result<(), HypervisorError> {
        let map = || self.inner.map(slot, at, region, tracking);
        attempt(&self.interposer, Method::Map, Operation::MapMemory, map)
    }

    fn unmap(&mut self, slot: u32) -> Result<(), HypervisorError> {
        attempt(&self.interposer, Method::Unmap, Operation::UnmapMemory, || self.inner.unmap(slot))
    }

    fn collect_written(&mut self, slot: u32, pages: &mut PageSet) -> Result<(), HypervisorError> {
        let collect = || self.inner.collect_written(slot, pages);
        attempt(&self.interposer, Method::CollectWritten, Operation::ReadWrittenPages, collect)
    }

    fn forget_written(&mut self, slot: u32, pages: &PageSet) -> Result<(), HypervisorError> {
        let forget = || self.inner.forget_written(slot, pages);
        attempt(&self.interposer, Method::ForgetWritten, Operation::ForgetWrittenPages, forget)
    }

    fn flush_translations(&mut self, slot: u32) -> Result<(), HypervisorError> {
        let flush = || self.inner.flush_translations(slot);
        attempt(&self.interposer, Method::FlushTranslations, Operation::FlushTranslations, flush)
    }

    fn create_vcpu(&mut self, entry: &SyscallEntry) -> Result<Box<dyn Vcpu>, HypervisorError> {
        let create = || self.inner.create_vcpu(entry);
        let inner = attempt(&self.interposer, Method::CreateVcpu, Operation::CreateVcpu, create)?;
        let of_vcpu = self.interposer.vcpu_created(&*inner)?;
        Ok(Box::new(InterposedVcpu { _of_vcpu: of_vcpu, inner, interposer: self.interposer.clone() }))
    }
}

struct InterposedVcpu<I: Interposer> {
    /// Stands first, so that it is dropped first.
    _of_vcpu: I::OfVcpu,
    inner: Box<dyn Vcpu>,
    interposer: Arc<I>,
}

impl<I: Interposer> Vcpu for InterposedVcpu<I> {
    fn run(&mut self) -> Result<Exit<'_>, HypervisorError> {
        attempt(&self.interposer, Method::Run, Operation::Run, || self.inner.run())
    }

    fn regs(&self) -> Regs {
        pass(&self.interposer, Method::Regs, || self.inner.regs())
    }

    fn set_regs(&mut self, regs: &Regs) {
        pass(&self.interposer, Method::SetRegs, || self.inner.set_regs(regs));
    }

    fn special_regs(&mut self) -> Result<SpecialRegs, HypervisorError> {
        let read = || self.inner.special_regs();
        attempt(&self.interposer, Method::SpecialRegs, Operation::ReadSpecialRegisters, read)
    }

    fn set_special_regs(&mut self, regs: &SpecialRegs) -> Result<(), HypervisorError> {
        let set = || self.inner.set_special_regs(regs);
        attempt(&self.interposer, Method::SetSpecialRegs, Operation::SetSpecialRegisters, set)
    }

    fn settle(&mut self) -> Result<(), HypervisorError> {
        attempt(&self.interposer, Method::Settle, Operation::Run, || self.inner.settle())
    }

    fn abandon(&mut self) -> Result<(), HypervisorError> {
        attempt(&self.interposer, Method::Abandon, Operation::SetEvents, || self.inner.abandon())
    }

    fn fpu(&mut self) -> Result<FpuState, HypervisorError> {
        attempt(&self.interposer, Method::Fpu, Operation::ReadFpu, || self.inner.fpu())
    }

    fn set_fpu(&mut self, state: &FpuState) -> Result<(), HypervisorError> {
        attempt(&self.interposer, Method::SetFpu, Operation::SetFpu, || self.inner.set_fpu(state))
    }

    fn interrupter(&self) -> Arc<dyn Interrupt> {
        self.inner.interrupter()
    }

    fn counters(&self) -> Counters {
        self.inner.counters()
    }

    fn statistics(&self) -> Result<Option<Box<dyn StatisticsReader>>, HypervisorError> {
        attempt(&self.interposer, Method::Statistics, Operation::ReadStatistics, || self.inner.statistics())
    }
}

/// Passes on a method that can fail.
fn attempt<R>(
    interposer: &Arc<impl Interposer>,
    method: Method,
    operation: Operation,
    inner: impl FnOnce() -> Result<R, HypervisorError>,
) -> Result<R, HypervisorError> {
    interposer.before(method);
    interposer.permit(method, operation)?;
    let result = inner();
    interposer.after(method);
    result
}

/// Passes on a method that cannot fail.
fn pass<R>(interposer: &Arc<impl Interposer>, method: Method, inner: impl FnOnce() -> R) -> R {
    interposer.before(method);
    let result = inner();
    interposer.after(method);
    result
}
