//! Processors that are vCPUs of virtual machines, with the ring 0 of [`shim`](super::shim) below the user code.
//!
//! What keeps a restore cheap is remembered here: whether the user code waits in the doorbell, so that nothing is left over of
//! what it was doing; whose special registers the vCPU has; and whether it goes on from that state, not having run since.

mod context;
mod core_registers;
pub(crate) mod debugger;
mod signal_frame;
mod stored;

use std::sync::Arc;

use crate::address::{GuestPhys, GuestVirt, PAGE_SIZE};
use crate::hypervisor::{Counters, Exit, Hypervisor, HypervisorError, Interrupt, Vcpu, Vm, WriteTracking};
use crate::memory::{MappedMemory, TrackedRegion};
use crate::page_set::PageSet;
use crate::processor::{
    Backend, BadRegister, BadReturn, Behaviour, Context, End, Entry, Event, Exception, FaultAccess, MapCheckpoint,
    PageFault, PrepareError, Prepared, Processor, Registers, SystemCall, ThreadRegister, Unstarted, Waiting,
    WrittenPages,
};
use crate::x86_64::address_map::{MEMORY_BASE, SYSTEM_BASE, is_user_code};
use crate::x86_64::capabilities::{Capabilities, SyscallRing};
use crate::x86_64::exception::PAGE_FAULT;
use crate::x86_64::paging::PageTables;
use crate::x86_64::registers::{Regs, SpecialRegs};
use crate::x86_64::shim::{OWN_TABLES, System, TRAP_FLAG, Trap, initial_flags, is_in_resume_stub, syscall_return};

use context::{Selectors, Stop};
pub(crate) use context::{UserContext, WaitingContext};
use signal_frame::RaisedException;

/// Makes processors that are vCPUs, each of a virtual machine of its own.
pub struct VirtualMachines {
    hypervisor: Arc<dyn Hypervisor>,
}

impl VirtualMachines {
    /// Virtual machines of this hypervisor.
    pub fn new(hypervisor: Arc<dyn Hypervisor>) -> VirtualMachines {
        VirtualMachines { hypervisor }
    }

    fn prepared(&self, system: System, tables: PageTables) -> Prepared {
        let root = tables.root();
        let hypervisor = Arc::clone(&self.hypervisor);
        Prepared { pages: Box::new(tables), processor: Box::new(UnstartedVm { hypervisor, system, root }) }
    }
}

impl Backend for VirtualMachines {
    fn prepare(&self, memory: usize, attached: usize) -> Result<Prepared, PrepareError> {
        let pages = table_pages(memory, attached);
        let (system, tables) =
            System::new(pages).map_err(|reason| PrepareError { bytes: pages * PAGE_SIZE, reason })?;
        Ok(self.prepared(system, tables))
    }

    fn prepare_like(&self, checkpoint: &MapCheckpoint) -> Result<Prepared, PrepareError> {
        let bytes = checkpoint.0.contents().pages() * PAGE_SIZE;
        let (system, tables) = System::of_checkpoint(checkpoint).map_err(|reason| PrepareError { bytes, reason })?;
        Ok(self.prepared(system, tables))
    }

    fn behaviour(&self) -> Behaviour {
        Behaviour(*self.hypervisor.capabilities())
    }
}

/// A virtual machine to be.
struct UnstartedVm {
    hypervisor: Arc<dyn Hypervisor>,
    system: System,
    root: GuestPhys,
}

impl Unstarted for UnstartedVm {
    fn start(self: Box<Self>, memory: &TrackedRegion, entry: Entry) -> Result<Box<dyn Processor>, HypervisorError> {
        let mut processor = self.create(memory)?;
        processor.vcpu.set_special_regs(&processor.initial)?;
        let (rip, rsp) = (entry.instruction.0, entry.stack_pointer.0);
        let rflags = initial_flags(&processor.capabilities);
        processor.vcpu.set_regs(&Regs { rip, rsp, rflags, ..Regs::default() });
        Ok(Box::new(processor))
    }

    fn wait_as(&self, stored: &[u8]) -> Result<Arc<Waiting>, BadRegister> {
        let capabilities = self.hypervisor.capabilities();
        let initial = self.system.initial_special_regs(capabilities, self.root);
        Ok(Arc::new(Waiting(WaitingContext::of_bytes(stored, capabilities, &self.system, &initial)?)))
    }

    fn resume(
        self: Box<Self>,
        memory: &TrackedRegion,
        waiting: &Arc<Waiting>,
    ) -> Result<Box<dyn Processor>, HypervisorError> {
        let mut processor = self.create(memory)?;
        processor.restore(waiting)?;
        Ok(Box::new(processor))
    }
}

impl UnstartedVm {
    fn create(self, memory: &TrackedRegion) -> Result<VmProcessor, HypervisorError> {
        let Self { hypervisor, system, root } = self;
        let capabilities = *hypervisor.capabilities();
        let mut vm = hypervisor.create_vm()?;
        vm.map(SYSTEM_SLOT, SYSTEM_BASE, Arc::clone(system.region()), WriteTracking::Off)?;
        vm.map(MEMORY_SLOT, MEMORY_BASE, Arc::clone(memory.region()), WriteTracking::On)?;
        let vcpu = vm.create_vcpu(&system.syscall_entry())?;
        let initial = system.initial_special_regs(&capabilities, root);
        Ok(VmProcessor {
            vcpu,
            vm,
            system,
            capabilities,
            initial,
            stop: Stop::User,
            at_rest: true,
            restored: None,
            resumes: false,
            result: None,
            steps: false,
        })
    }
}

/// A vCPU, its virtual machine, and the memory of its ring 0.
struct VmProcessor {
    vcpu: Box<dyn Vcpu>,
    /// Holds the memory slots; they go with it.
    vm: Box<dyn Vm>,
    system: System,
    capabilities: Capabilities,
    /// The special registers with which user code starts.
    initial: SpecialRegs,
    /// Where the vCPU stands.
    stop: Stop,
    /// Whether nothing is left over of what the vCPU was doing, but for what the stub of system calls has changed in special
    /// registers.
    at_rest: bool,
    /// The state whose special registers the vCPU has, but for what ring 3 can have changed in them: the one that was restored
    /// last.
    restored: Option<Arc<Waiting>>,
    /// Whether the vCPU goes on from there, because it has not run since.
    resumes: bool,
    /// The result that the system call has got since, for which the user code waited there.
    result: Option<u64>,
    /// Whether user code is to stop after each instruction.
    steps: bool,
}

impl Processor for VmProcessor {
    fn run(&mut self) -> Result<Event, HypervisorError> {
        loop {
            let event = self.run_once()?;
            // Hypervisors differ in whether the doorbell's `out` ends with a step.
            if event != Event::Step || self.registers().instruction_pointer() != Trap::behind_doorbell() {
                return Ok(event);
            }
        }
    }

    fn finish_system_call(&mut self, result: u64) -> Result<(), BadReturn> {
        if matches!(self.stop, Stop::AwaitsResult(_)) {
            return self.give_result(result);
        }
        let resumed = syscall_return(&self.capabilities, &self.vcpu.regs(), result)
            .map_err(|bad| BadReturn { address: GuestVirt(bad.rip) })?;
        self.vcpu.set_regs(&resumed);
        self.stop = match self.capabilities.syscall {
            SyscallRing::Ring0 => Stop::SystemCallOver,
            SyscallRing::Ring3 => Stop::User,
        };
        Ok(())
    }

    fn registers(&self) -> Registers {
        let regs = self.resumed_regs().unwrap_or_else(|| self.vcpu.regs());
        Registers(self.stop.user_regs(regs, &self.system))
    }

    fn set_thread_register(&mut self, register: ThreadRegister, value: u64) -> Result<(), HypervisorError> {
        self.leave_resume_stub()?;
        let mut special = self.vcpu.special_regs()?;
        match register {
            ThreadRegister::Pointer => special.fs.base = value,
            ThreadRegister::Second => special.gs.base = value,
        }
        self.vcpu.set_special_regs(&special)
    }

    fn set_single_step(&mut self, on: bool) -> Result<(), HypervisorError> {
        if on {
            self.leave_resume_stub()?;
        }
        self.steps = on;
        let regs = self.vcpu.regs();
        let flags = |flags: u64| if on { flags | TRAP_FLAG } else { flags & !TRAP_FLAG };
        match self.stop {
            Stop::User | Stop::Doorbell | Stop::Forged | Stop::AwaitsResult(_) => {
                self.vcpu.set_regs(&Regs { rflags: flags(regs.rflags), ..regs })
            }
            // The user code's flags are in R11 on the way out of the stub, and where it has been left already.
            Stop::SystemCall | Stop::SystemCallBegun | Stop::SystemCallOver => {
                self.vcpu.set_regs(&Regs { r11: flags(regs.r11), ..regs });
            }
            Stop::Exception(vector) | Stop::ExceptionBegun(vector) => {
                let frame = self.system.exception_frame(vector);
                self.system.set_exception_flags(flags(frame.rflags));
            }
        }
        Ok(())
    }

    fn save(&mut self) -> Result<Context, HypervisorError> {
        self.leave_resume_stub()?;
        if self.stop == Stop::Forged {
            self.vcpu.settle()?;
        }
        let regs = self.stop.resumed_regs(self.vcpu.regs(), &self.system, &self.capabilities);
        let regs = self.without_steps(regs);
        let system_call = match self.stop {
            Stop::SystemCall => Some(self.vcpu.regs().rax),
            Stop::AwaitsResult(number) => Some(number),
            _ => None,
        };
        let special = self.vcpu.special_regs()?;
        let fpu = self.vcpu.fpu()?;
        Ok(Context(UserContext {
            regs,
            fs_base: special.fs.base,
            gs_base: special.gs.base,
            fpu,
            selectors: Selectors::of_user(&special, &self.initial),
            system_call,
            xcr0: self.capabilities.xcr0,
            raised: self.raised_exception(special.cr2),
        }))
    }

    fn load(&mut self, context: &Context) -> Result<(), HypervisorError> {
        let UserContext { regs, fs_base, gs_base, fpu, .. } = &context.0;
        // Where the vCPU stands at an `out`, be it the doorbell's, finishing that may touch registers that are set now.
        self.vcpu.abandon()?;
        let mut special = self.initial;
        (special.fs.base, special.gs.base) = (*fs_base, *gs_base);
        self.restored = None;
        self.resumes = false;
        self.vcpu.set_special_regs(&special)?;
        self.vcpu.set_fpu(fpu)?;
        let steps = if self.steps { TRAP_FLAG } else { 0 };
        let rflags = regs.rflags | initial_flags(&self.capabilities) | steps;
        self.vcpu.set_regs(&Regs { rflags, ..*regs });
        self.stop = Stop::User;
        self.at_rest = true;
        Ok(())
    }

    fn checkpoint(&mut self) -> Result<Arc<Waiting>, HypervisorError> {
        if let Some(waiting) = self.resumes_from().filter(|_| self.result.is_none()) {
            return Ok(Arc::clone(waiting));
        }
        self.leave_resume_stub()?;
        let system_call = self.leave_system_call()?;
        self.vcpu.settle()?;
        let regs = self.without_steps(self.vcpu.regs());
        let (special, fpu) = (self.vcpu.special_regs()?, self.vcpu.fpu()?);
        let resume = self.system.set_resume_state(&self.capabilities, &fpu, &regs, &special);
        if let Err(reason) = &resume {
            tracing::debug!(%reason, "restoring this guest takes a call into the kernel for its floating-point state");
        }
        let xcr0 = self.capabilities.xcr0;
        let resume = resume.ok();
        Ok(Arc::new(Waiting(WaitingContext { regs, special, fpu, xcr0, resume, system_call })))
    }

    fn restore(&mut self, waiting: &Arc<Waiting>) -> Result<(), HypervisorError> {
        if !self.at_rest {
            self.vcpu.abandon()?;
        }
        if !self.at_rest || self.stop == Stop::SystemCall {
            self.restored = None;
        }
        let WaitingContext { regs, special, fpu, resume, system_call, .. } = &waiting.0;
        let has_special = self.restored.as_ref().is_some_and(|restored| Arc::ptr_eq(restored, waiting));
        if !(has_special && resume.as_ref().is_some_and(|resumption| resumption.loads_bases)) {
            // To find out whether the guest has changed a segment would cost as much as to set them all.
            self.restored = None;
            self.vcpu.set_special_regs(special)?;
            self.restored = Some(Arc::clone(waiting));
        }
        match resume {
            Some(resumption) => self.vcpu.set_regs(&resumption.regs),
            None => {
                self.vcpu.set_regs(regs);
                self.vcpu.set_fpu(fpu)?;
            }
        }
        self.stop = system_call.map_or(Stop::User, Stop::AwaitsResult);
        self.at_rest = true;
        self.resumes = true;
        self.result = None;
        if self.steps { self.set_single_step(true) } else { Ok(()) }
    }

    fn flush_translations(&mut self) -> Result<(), HypervisorError> {
        self.vm.flush_translations(SYSTEM_SLOT)
    }

    fn attach(&mut self, number: u32, at: GuestPhys, memory: &MappedMemory) -> Result<(), HypervisorError> {
        let tracking = if memory.is_tracked() { WriteTracking::On } else { WriteTracking::Off };
        self.vm.map(FIRST_ATTACHED_SLOT + number, at, Arc::clone(memory.region()), tracking)
    }

    fn detach(&mut self, number: u32) -> Result<(), HypervisorError> {
        self.vm.unmap(FIRST_ATTACHED_SLOT + number)
    }

    fn collect_attached(&mut self, number: u32, pages: &mut PageSet) -> Result<(), HypervisorError> {
        self.vm.collect_written(FIRST_ATTACHED_SLOT + number, pages)
    }

    fn forget_attached(&mut self, number: u32, pages: &PageSet) -> Result<(), HypervisorError> {
        self.vm.forget_written(FIRST_ATTACHED_SLOT + number, pages)
    }

    fn interrupter(&self) -> Arc<dyn Interrupt> {
        self.vcpu.interrupter()
    }

    fn counters(&self) -> Counters {
        self.vcpu.counters()
    }
}

impl WrittenPages for VmProcessor {
    fn collect_written(&mut self, pages: &mut PageSet) -> Result<(), HypervisorError> {
        self.vm.collect_written(MEMORY_SLOT, pages)
    }

    fn forget_written(&mut self, pages: &PageSet) -> Result<(), HypervisorError> {
        self.vm.forget_written(MEMORY_SLOT, pages)
    }
}

impl VmProcessor {
    fn run_once(&mut self) -> Result<Event, HypervisorError> {
        self.at_rest = false;
        let resumed = std::mem::take(&mut self.resumes);
        self.stop = Stop::User;
        let port = match self.vcpu.run()? {
            Exit::IoOut { port, .. } => port,
            exit @ (Exit::Interrupted | Exit::ManyWritten) => {
                let event = if exit == Exit::Interrupted { Event::Interrupted } else { Event::ManyWritten };
                let rip = self.vcpu.regs().rip;
                self.stop = Stop::interrupted_at(rip);
                if resumed && is_in_resume_stub(rip) {
                    self.resume_again();
                }
                return Ok(event);
            }
            Exit::IoIn { port, .. } => {
                self.stop = Stop::Forged;
                return Ok(Event::Forged { port });
            }
            Exit::Shutdown => return Ok(Event::Ended(End::Shutdown)),
            exit => return Ok(Event::Ended(End::Unexpected(exit_name(&exit)))),
        };
        let regs = self.vcpu.regs();
        match Trap::identify(port, regs.rip) {
            Ok(Trap::Doorbell) => {
                self.stop = Stop::Doorbell;
                // Finishing the `out` would leave a debug exception pending if user code is in single steps.
                self.at_rest = regs.rflags & TRAP_FLAG == 0;
                Ok(Event::Doorbell)
            }
            Ok(Trap::SystemCall) => {
                self.stop = Stop::SystemCall;
                // As for the doorbell; what the stub has changed in special registers is set.
                self.at_rest = regs.r11 & TRAP_FLAG == 0;
                Ok(Event::SystemCall(SystemCall {
                    number: regs.rax,
                    arguments: [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9],
                }))
            }
            Ok(Trap::Exception(vector)) => self.exception(vector),
            Err(_) => {
                self.stop = Stop::Forged;
                Ok(Event::Forged { port })
            }
        }
    }

    /// The state from which the vCPU goes on, where it has not run since that was restored.
    fn resumes_from(&self) -> Option<&Arc<Waiting>> {
        self.restored.as_ref().filter(|_| self.resumes)
    }

    /// The registers of the user code there.
    fn resumed_regs(&self) -> Option<Regs> {
        let regs = self.resumes_from()?.0.regs;
        Some(Regs { rax: self.result.unwrap_or(regs.rax), ..regs })
    }

    /// Where user code waits in a system call, lets it wait behind the call: in ring 3, where nothing is left over of the call
    /// but its number, which this returns.
    fn leave_system_call(&mut self) -> Result<Option<u64>, HypervisorError> {
        match self.stop {
            Stop::SystemCall => {
                let context = self.save()?;
                self.load(&context)?;
                self.stop = context.0.system_call.map_or(Stop::User, Stop::AwaitsResult);
                Ok(context.0.system_call)
            }
            Stop::AwaitsResult(number) => Ok(Some(number)),
            _ => Ok(None),
        }
    }

    /// Gives user code that waits behind a system call the result of the call.
    fn give_result(&mut self, result: u64) -> Result<(), BadReturn> {
        let regs = self.resumed_regs().unwrap_or_else(|| self.vcpu.regs());
        if !is_user_code(regs.rip) {
            return Err(BadReturn { address: GuestVirt(regs.rip) });
        }
        self.stop = Stop::User;
        if self.resumes {
            self.result = Some(result);
        }
        if self.resumes_from().is_some_and(|waiting| waiting.0.resume.is_some()) {
            self.system.set_resumed_result(result);
        } else {
            self.vcpu.set_regs(&Regs { rax: result, ..self.vcpu.regs() });
        }
        Ok(())
    }

    /// Begins the resume stub again when the vCPU, which began there, was interrupted in it: the registers of the user code are
    /// not all loaded yet.
    fn resume_again(&mut self) {
        let Some(waiting) = &self.restored else { return };
        let Some(resumption) = &waiting.0.resume else { return };
        self.vcpu.set_regs(&resumption.regs);
        self.resumes = true;
    }

    /// Gives the vCPU itself the registers from which it resumes, so that they can be read and changed. When this fails, it
    /// still resumes from them.
    fn leave_resume_stub(&mut self) -> Result<(), HypervisorError> {
        let Some(waiting) = self.resumes_from().cloned() else { return Ok(()) };
        let WaitingContext { regs, special, fpu, .. } = &waiting.0;
        let regs = self.resumed_regs().unwrap_or(*regs);
        // As in `load`: the doorbell's `out` may be unfinished, and the user code continues behind it.
        self.vcpu.abandon()?;
        self.vcpu.set_special_regs(special)?;
        self.vcpu.set_fpu(fpu)?;
        self.vcpu.set_regs(&regs);
        self.resumes = false;
        Ok(())
    }

    /// Without the flag by which user code is made to stop after each instruction, which is none of its own.
    fn without_steps(&self, regs: Regs) -> Regs {
        let rflags = if self.steps { regs.rflags & !TRAP_FLAG } else { regs.rflags };
        Regs { rflags, ..regs }
    }

    /// The exception that was the last event, if it was one.
    fn raised_exception(&self, cr2: u64) -> Option<RaisedException> {
        let Stop::Exception(vector) = self.stop else { return None };
        let error_code = self.system.exception_frame(vector).error_code.unwrap_or(0);
        Some(RaisedException { vector, error_code, cr2 })
    }

    fn exception(&mut self, vector: u8) -> Result<Event, HypervisorError> {
        self.stop = Stop::Exception(vector);
        let error_code = self.system.exception_frame(vector).error_code;
        if vector == DEBUG && self.steps {
            return Ok(Event::Step);
        }
        if vector != PAGE_FAULT {
            return Ok(Event::Exception(Exception { vector, error_code }));
        }
        let error_code = error_code.unwrap_or(0);
        Ok(Event::PageFault(PageFault {
            address: GuestVirt(self.vcpu.special_regs()?.cr2),
            access: access(error_code),
            by_own_denial: error_code & PROTECTION_KEY != 0,
        }))
    }
}

/// What Linux would say of the processor's features in `AT_HWCAP` and `AT_HWCAP2` (`ELF_HWCAP` in the kernel's
/// `arch/x86/include/asm/elf.h`, `arch/x86/include/uapi/asm/hwcap2.h`).
pub(crate) fn hardware_capabilities(capabilities: &Capabilities) -> [u64; 2] {
    let features = std::arch::x86_64::__cpuid(1).edx;
    [features.into(), if capabilities.fsgsbase { HWCAP2_FSGSBASE } else { 0 }]
}

/// What a page fault's error code says of the access (AMD64 Architecture Programmer's Manual, volume 2, section 8.4.2).
fn access(error_code: u64) -> FaultAccess {
    if error_code & FETCH != 0 {
        FaultAccess::Execute
    } else if error_code & WRITE != 0 {
        FaultAccess::Write
    } else {
        FaultAccess::Read
    }
}

fn exit_name(exit: &Exit<'_>) -> &'static str {
    match exit {
        Exit::MmioRead { .. } => "read of memory that does not exist",
        Exit::MmioWrite { .. } => "write to memory that does not exist",
        Exit::Halt => "halt",
        Exit::FailEntry { .. } => "the processor refused the guest's state",
        Exit::InternalError { .. } => "the hypervisor cannot emulate the guest's instruction",
        _ => "unknown",
    }
}

/// How many page tables the system needs for this much memory, wherever the guest maps it, and for this much that is attached.
///
/// Each table of the lowest level covers 2 MiB. A guest that spreads its memory over more places than that can run out;
/// its next mapping fails then, as if there were no memory.
fn table_pages(memory: usize, attached: usize) -> usize {
    let lowest = memory.div_ceil(LOWEST_TABLE_SPAN) + 1;
    OWN_TABLES + 2 * lowest + attached.div_ceil(LOWEST_TABLE_SPAN) + SPARE_TABLES
}

/// The slot of the page tables and all else that is ring 0's.
const SYSTEM_SLOT: u32 = 0;

/// The slot of what the guest can write.
const MEMORY_SLOT: u32 = 1;

/// The first slot of memory that is attached.
const FIRST_ATTACHED_SLOT: u32 = 2;

/// Bytes that one page table of the lowest level covers.
const LOWEST_TABLE_SPAN: usize = 512 * PAGE_SIZE;

/// Page tables beyond those that the memory needs: for the upper levels, and for a guest that maps here and there.
const SPARE_TABLES: usize = 64;

/// The vector of debug exceptions, which follow an instruction that was executed with [`TRAP_FLAG`].
const DEBUG: u8 = 1;

// Bits of a page fault's error code.
const WRITE: u64 = 1 << 1;
const FETCH: u64 = 1 << 4;
const PROTECTION_KEY: u64 = 1 << 5;

const HWCAP2_FSGSBASE: u64 = 1 << 1;
