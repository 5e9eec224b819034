//! A hypervisor whose guests need not run: what is left of a call is the host's own code.

use std::mem::offset_of;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use ampoule_abi::layout::{InfoPage, MESSAGE_LEN};
use ampoule_vmm::kvm::Kvm;
use ampoule_vmm::x86_64::capabilities::Capabilities;
use ampoule_vmm::x86_64::registers::{FpuState, Regs, SpecialRegs, SyscallEntry};
use ampoule_vmm::x86_64::shim::{DOORBELL_PORT, SHARED_BASE};
use ampoule_vmm::{
    Counters, Exit, GuestPhys, Hypervisor, HypervisorError, Interrupt, PageSet, Region, Vcpu, Vm, WriteTracking,
};

/// KVM, until calls are to be answered at once.
pub(crate) struct Prompt {
    kvm: Arc<Kvm>,
    at_once: Arc<AtomicBool>,
}

impl Prompt {
    pub(crate) fn new(kvm: Arc<Kvm>) -> Arc<Self> {
        Arc::new(Self { kvm, at_once: Arc::default() })
    }

    /// From now on each call is answered without a run, as the last one was that its guest has answered. Nothing was restored
    /// since.
    pub(crate) fn answer_at_once(&self) {
        self.at_once.store(true, Ordering::Relaxed);
    }
}

impl Hypervisor for Prompt {
    fn create_vm(&self) -> Result<Box<dyn Vm>, HypervisorError> {
        Ok(Box::new(PromptVm { inner: self.kvm.create_vm()?, at_once: self.at_once.clone(), memory: Arc::default() }))
    }

    fn capabilities(&self) -> &Capabilities {
        self.kvm.capabilities()
    }
}

struct PromptVm {
    inner: Box<dyn Vm>,
    at_once: Arc<AtomicBool>,
    /// What the guest can write.
    memory: Arc<OnceLock<Arc<Region>>>,
}

impl Vm for PromptVm {
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
        Ok(Box::new(PromptVcpu {
            inner: self.inner.create_vcpu(entry)?,
            at_once: self.at_once.clone(),
            memory: self.memory.clone(),
            answer: None,
        }))
    }
}

struct PromptVcpu {
    inner: Box<dyn Vcpu>,
    at_once: Arc<AtomicBool>,
    memory: Arc<OnceLock<Arc<Region>>>,
    answer: Option<Answer>,
}

/// How the guest has answered its last call.
struct Answer {
    regs: Regs,
    line: [u8; MESSAGE_LEN],
    host_line: usize,
    guest_line: usize,
}

impl PromptVcpu {
    /// Does what a guest does whose function does nothing.
    fn answer(&mut self) -> Exit<'_> {
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
        answer.line[..size_of::<u64>()].copy_from_slice(&call.to_le_bytes());
        memory.write(answer.guest_line, &answer.line).expect(WITHIN);
        self.inner.set_regs(&answer.regs);
        Exit::IoOut { port: DOORBELL_PORT, data: &[0] }
    }
}

impl Vcpu for PromptVcpu {
    fn run(&mut self) -> Result<Exit<'_>, HypervisorError> {
        if self.at_once.load(Ordering::Relaxed) { Ok(self.answer()) } else { self.inner.run() }
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

/// Where the info page says that the lines are.
const WITHIN: &str = "the mailbox lies in the memory";
