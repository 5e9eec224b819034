//! A hypervisor that knows when guests ran, so that the rest of a call's time is the host's share.

use std::mem::offset_of;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use ampoule_abi::layout::{InfoPage, MESSAGE_LEN};
use ampoule_vmm::kvm::Kvm;
use ampoule_vmm::x86_64::capabilities::Capabilities;
use ampoule_vmm::x86_64::registers::{FpuState, Regs, SpecialRegs, SyscallEntry};
use ampoule_vmm::x86_64::shim::{DOORBELL_PORT, SHARED_BASE};
use ampoule_vmm::{
    Counters, Exit, GuestPhys, Hypervisor, HypervisorError, Interrupt, PageSet, Region, Vcpu, Vm, WriteTracking,
};

/// KVM, and when its vCPUs have run.
pub(crate) struct Timed {
    kvm: Arc<Kvm>,
    runs: Arc<Runs>,
}

impl Timed {
    pub(crate) fn new(kvm: Arc<Kvm>) -> Arc<Self> {
        Arc::new(Self { kvm, runs: Arc::default() })
    }

    /// How long something takes beside the runs in it, and the time of reading the clock for each of them.
    pub(crate) fn share<R>(&self, operation: impl FnOnce() -> R) -> (R, Duration) {
        let before = self.runs.times().total;
        let start = Instant::now();
        let result = operation();
        let time = start.elapsed();
        let runs = self.runs.times().total - before;
        (result, time.saturating_sub(runs))
    }

    /// Whether guests do not run from now on, and each call is answered at once, as the last one was that its guest has answered.
    /// What is left of a call is the host's own code.
    pub(crate) fn answer_at_once(&self, at_once: bool) {
        self.runs.at_once.store(at_once, Ordering::Relaxed);
    }

    /// How long ago a guest was left for the last time.
    pub(crate) fn since_left(&self) -> Option<Duration> {
        let now = Instant::now();
        self.runs.times().left.map(|left| now - left)
    }

    /// Remembers this instant until a guest is entered.
    pub(crate) fn mark(&self) {
        self.runs.times().mark = Some(Instant::now());
    }

    /// How long after the last mark a guest was entered.
    pub(crate) fn entered_after_mark(&self) -> Option<Duration> {
        self.runs.times().entered_after
    }
}

/// What is known of the runs. One thread at a time uses it.
#[derive(Default)]
struct Runs {
    times: Mutex<Times>,
    at_once: AtomicBool,
}

#[derive(Default)]
struct Times {
    total: Duration,
    left: Option<Instant>,
    mark: Option<Instant>,
    entered_after: Option<Duration>,
}

impl Runs {
    fn times(&self) -> MutexGuard<'_, Times> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn entered(&self) -> Instant {
        let now = Instant::now();
        let mut times = self.times();
        if let Some(mark) = times.mark.take() {
            times.entered_after = Some(now - mark);
        }
        now
    }

    fn left(&self, entered: Instant) {
        // What it takes to note the time is not the host's share.
        let mut times = self.times();
        let now = Instant::now();
        times.total += now - entered;
        times.left = Some(now);
    }
}

impl Hypervisor for Timed {
    fn create_vm(&self) -> Result<Box<dyn Vm>, HypervisorError> {
        Ok(Box::new(TimedVm { inner: self.kvm.create_vm()?, runs: self.runs.clone(), memory: Arc::default() }))
    }

    fn capabilities(&self) -> &Capabilities {
        self.kvm.capabilities()
    }
}

struct TimedVm {
    inner: Box<dyn Vm>,
    runs: Arc<Runs>,
    /// What the guest can write.
    memory: Arc<OnceLock<Arc<Region>>>,
}

impl Vm for TimedVm {
    fn map(
        &mut self,
        slot: u32,
        at: GuestPhys,
        region: Arc<Region>,
        tracking: WriteTracking,
    ) -> Result<(), HypervisorError> {
        if tracking == WriteTracking::On {
            self.memory.get_or_init(|| Arc::clone(&region));
        }
        self.inner.map(slot, at, region, tracking)
    }

    fn unmap(&mut self, slot: u32) -> Result<(), HypervisorError> {
        self.inner.unmap(slot)
    }

    fn collect_written(&mut self, slot: u32, pages: &mut PageSet) -> Result<(), HypervisorError> {
        self.inner.collect_written(slot, pages)
    }

    fn forget_written(&mut self, slot: u32, pages: &PageSet) -> Result<(), HypervisorError> {
        self.inner.forget_written(slot, pages)
    }

    fn flush_translations(&mut self, slot: u32) -> Result<(), HypervisorError> {
        self.inner.flush_translations(slot)
    }

    fn create_vcpu(&mut self, entry: &SyscallEntry) -> Result<Box<dyn Vcpu>, HypervisorError> {
        let (runs, memory) = (self.runs.clone(), self.memory.clone());
        Ok(Box::new(TimedVcpu { inner: self.inner.create_vcpu(entry)?, runs, memory, answer: None }))
    }
}

struct TimedVcpu {
    inner: Box<dyn Vcpu>,
    runs: Arc<Runs>,
    memory: Arc<OnceLock<Arc<Region>>>,
    answer: Option<Answer>,
}

/// How a guest has answered its last call.
struct Answer {
    regs: Regs,
    line: [u8; MESSAGE_LEN],
    host_line: usize,
    guest_line: usize,
}

impl TimedVcpu {
    /// Does what a guest does whose function does nothing.
    fn answer_at_once(&mut self) -> Exit<'_> {
        let memory = self.memory.get().expect("memory is mapped before a vCPU is made");
        let answer = self.answer.get_or_insert_with(|| {
            let line = |at| (memory.read_u64(at).expect(WITHIN) - SHARED_BASE.0) as usize;
            let (host_line, guest_line) =
                (line(offset_of!(InfoPage, host_line)), line(offset_of!(InfoPage, guest_line)));
            let mut line = [0; MESSAGE_LEN];
            memory.read(guest_line, &mut line).expect(WITHIN);
            Answer { regs: self.inner.regs(), line, host_line, guest_line }
        });
        let call = memory.read_u64(answer.host_line).expect(WITHIN);
        answer.line[..8].copy_from_slice(&call.to_le_bytes());
        memory.write(answer.guest_line, &answer.line).expect(WITHIN);
        self.inner.set_regs(&answer.regs);
        Exit::IoOut { port: DOORBELL_PORT, data: &[0] }
    }
}

impl Vcpu for TimedVcpu {
    fn run(&mut self) -> Result<Exit<'_>, HypervisorError> {
        if self.runs.at_once.load(Ordering::Relaxed) {
            return Ok(self.answer_at_once());
        }
        let entered = self.runs.entered();
        let exit = self.inner.run();
        self.runs.left(entered);
        exit
    }

    fn regs(&self) -> Regs {
        self.inner.regs()
    }

    fn set_regs(&mut self, regs: &Regs) {
        self.inner.set_regs(regs);
    }

    fn special_regs(&mut self) -> Result<SpecialRegs, HypervisorError> {
        self.inner.special_regs()
    }

    fn set_special_regs(&mut self, regs: &SpecialRegs) -> Result<(), HypervisorError> {
        self.inner.set_special_regs(regs)
    }

    fn settle(&mut self) -> Result<(), HypervisorError> {
        self.inner.settle()
    }

    fn abandon(&mut self) -> Result<(), HypervisorError> {
        self.inner.abandon()
    }

    fn fpu(&mut self) -> Result<FpuState, HypervisorError> {
        self.inner.fpu()
    }

    fn set_fpu(&mut self, state: &FpuState) -> Result<(), HypervisorError> {
        self.inner.set_fpu(state)
    }

    fn interrupter(&self) -> Arc<dyn Interrupt> {
        self.inner.interrupter()
    }

    fn counters(&self) -> Counters {
        self.inner.counters()
    }
}

const WITHIN: &str = "the lines lie in the memory";
