//! Virtual processors.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;

use kvm_bindings::{Msrs, kvm_msr_entry, kvm_vcpu_events, kvm_xcrs, kvm_xsave};
use kvm_ioctls::VcpuFd;

use crate::hypervisor::{Counters, Exit, HypervisorError, Interrupt, Operation, StatisticsReader, Vcpu};
use crate::linux::uninterrupted::uninterrupted;
use crate::x86_64::capabilities::{Capabilities, PortAccess};
use crate::x86_64::registers::{FpuState, Regs, SpecialRegs, SyscallEntry};
use crate::x86_64::vdso;

use super::run_page::RunPage;
use super::shared;
use super::statistics::KvmStatistics;
use super::vm::{Machine, refused};

/// The vCPU's descriptor is dropped before the machine, so that no guest is left when its memory is freed.
#[derive(Debug)]
pub(super) struct KvmVcpu {
    fd: VcpuFd,
    page: RunPage,
    machine: Arc<Machine>,
    entry: SyscallEntry,
    /// Whether the last run ended in a triple fault. AMD processors leave the guest's state undefined then (AMD64 Architecture
    /// Programmer's Manual, volume 2, section 15.14.3), and the kernel resets the vCPU.
    shut_down: bool,
    /// Whether the special registers in the run page are the vCPU's.
    special_current: bool,
    /// Whether the special registers were asked for since the last run. If so, the next run is asked to bring them.
    special_wanted: bool,
    counters: Counters,
}

impl KvmVcpu {
    pub(super) fn create(machine: Arc<Machine>, id: u64, entry: &SyscallEntry) -> Result<KvmVcpu, HypervisorError> {
        machine.check()?;
        let fd = uninterrupted(|| machine.fd.create_vcpu(id)).map_err(|errno| refused(Operation::CreateVcpu, errno))?;
        // SAFETY: `fd` stays open during the borrow.
        let borrowed = unsafe { BorrowedFd::borrow_raw(fd.as_raw_fd()) };
        let (page, ring) = shared::map(borrowed, machine.device.run_page_len, machine.made_in)
            .map_err(|reason| HypervisorError::Refused { operation: Operation::MapRunPage, reason })?;
        machine.add_ring(ring)?;
        let mut vcpu = KvmVcpu {
            fd,
            page,
            machine,
            entry: *entry,
            shut_down: false,
            special_current: false,
            special_wanted: false,
            counters: Counters { runs: 0, ioctls: 1 },
        };
        vcpu.set_cpuid()?;
        vcpu.set_fixed_registers()?;
        vcpu.set_regs(&Regs::default());
        Ok(vcpu)
    }

    /// What the guest sees of the processor.
    fn set_cpuid(&mut self) -> Result<(), HypervisorError> {
        self.counters.ioctls += 1;
        uninterrupted(|| self.fd.set_cpuid2(&self.machine.device.cpuid))
            .map_err(|errno| refused(Operation::SetProcessorFeatures, errno))
    }

    /// Registers that neither a run nor a guest ever changes.
    fn set_fixed_registers(&mut self) -> Result<(), HypervisorError> {
        self.set_xcr0()?;
        self.set_model_specific_registers()
    }

    /// The register state that the guest may use.
    fn set_xcr0(&mut self) -> Result<(), HypervisorError> {
        let xcr0 = self.machine.device.xcr0;
        if xcr0 == 0 {
            return Ok(());
        }
        let mut registers = kvm_xcrs { nr_xcrs: 1, ..Default::default() };
        registers.xcrs[0].value = xcr0;
        self.counters.ioctls += 1;
        uninterrupted(|| self.fd.set_xcrs(&registers)).map_err(|errno| refused(Operation::EnableRegisterState, errno))
    }

    fn set_model_specific_registers(&mut self) -> Result<(), HypervisorError> {
        let entry = self.entry;
        // The kernel lets the counter of each virtual machine begin at 0, and a guest that resumes in a new one may remember
        // a higher count. So each shows the host's.
        let now = vdso::counter();
        let values = [(STAR, entry.star), (LSTAR, entry.lstar), (FMASK, entry.flag_mask), (TSC, now)];
        let entries = values.map(|(index, data)| kvm_msr_entry { index, data, ..Default::default() });
        let registers = Msrs::from_entries(&entries).expect("four entries are not too many");
        self.counters.ioctls += 1;
        let set = uninterrupted(|| self.fd.set_msrs(&registers))
            .map_err(|errno| refused(Operation::SetSystemRegisters, errno))?;
        match values.get(set) {
            Some((index, _)) => Err(HypervisorError::RegisterRefused { index: *index }),
            None => Ok(()),
        }
    }

    fn capabilities(&self) -> &Capabilities {
        &self.machine.capabilities
    }
}

impl Vcpu for KvmVcpu {
    fn run(&mut self) -> Result<Exit<'_>, HypervisorError> {
        self.machine.check()?;
        if self.shut_down {
            self.set_fixed_registers()?;
            self.shut_down = false;
        }
        self.page.request_registers(self.special_wanted);
        self.special_current = self.special_wanted;
        self.special_wanted = false;
        self.counters.runs += 1;
        // SAFETY: the descriptor is a vCPU's. The kernel writes to the run page, which is borrowed mutably, to entries of the
        // vCPU's ring that are its own, and to the guest's memory, into which no reference exists and which `machine` keeps
        // mapped.
        let result = unsafe { libc::ioctl(self.fd.as_raw_fd(), KVM_RUN, 0) };
        if result < 0 {
            let reason = io::Error::last_os_error();
            if reason.kind() == io::ErrorKind::Interrupted {
                return Ok(Exit::Interrupted);
            }
            return Err(match reason.raw_os_error() {
                // The page behind a slot's address cannot be had (`kvm_handle_error_pfn` in Linux's `arch/x86/kvm/mmu/mmu.c`).
                Some(libc::EFAULT) => HypervisorError::LostMemory { reason },
                _ => HypervisorError::Refused { operation: Operation::Run, reason },
            });
        }
        let exit = self.page.exit();
        if exit == Exit::ManyWritten {
            self.machine.make_room_in_rings()?;
            // They are wanted at the exit that the guest itself makes.
            self.special_wanted = self.special_current;
            return Ok(Exit::ManyWritten);
        }
        self.shut_down = exit == Exit::Shutdown;
        Ok(exit)
    }

    fn regs(&self) -> Regs {
        Regs::from(&self.page.regs())
    }

    fn set_regs(&mut self, regs: &Regs) {
        let rflags = regs.rflags | self.capabilities().user_flags();
        self.page.set_regs((&Regs { rflags, ..*regs }).into());
    }

    fn special_regs(&mut self) -> Result<SpecialRegs, HypervisorError> {
        self.machine.check()?;
        self.special_wanted = true;
        if !self.special_current {
            self.counters.ioctls += 1;
            let registers = uninterrupted(|| self.fd.get_sregs())
                .map_err(|errno| refused(Operation::ReadSpecialRegisters, errno))?;
            self.page.store_special_regs(registers);
            self.special_current = true;
        }
        Ok(SpecialRegs::from(&self.page.special_regs()))
    }

    fn set_special_regs(&mut self, regs: &SpecialRegs) -> Result<(), HypervisorError> {
        self.machine.check()?;
        let mut regs = *regs;
        if self.capabilities().ports == PortAccess::BitmapOfAvailableTask {
            regs.tr.kind = AVAILABLE_TASK;
        }
        self.page.set_special_regs((&regs).into());
        self.special_current = true;
        Ok(())
    }

    fn settle(&mut self) -> Result<(), HypervisorError> {
        let interrupter = self.interrupter();
        interrupter.request();
        // An instruction that the kernel emulates can make several exits, one for each piece of memory that is missing.
        // Their number is bounded, and then the request ends the run before the next instruction.
        let result = loop {
            match self.run() {
                Ok(Exit::Interrupted) => break Ok(()),
                Ok(_) => {}
                Err(error) => break Err(error),
            }
        };
        interrupter.clear();
        result
    }

    fn abandon(&mut self) -> Result<(), HypervisorError> {
        self.settle()?;
        self.counters.ioctls += 1;
        let none = kvm_vcpu_events::default();
        uninterrupted(|| self.fd.set_vcpu_events(&none)).map_err(|errno| refused(Operation::SetEvents, errno))
    }

    fn fpu(&mut self) -> Result<FpuState, HypervisorError> {
        self.machine.check()?;
        self.counters.ioctls += 1;
        let area = uninterrupted(|| self.fd.get_xsave()).map_err(|errno| refused(Operation::ReadFpu, errno))?;
        Ok(FpuState(Box::new(area.region)))
    }

    fn set_fpu(&mut self, state: &FpuState) -> Result<(), HypervisorError> {
        self.machine.check()?;
        let area = kvm_xsave { region: *state.0, ..Default::default() };
        self.counters.ioctls += 1;
        // SAFETY: the kernel reads more than the 4 KiB that are there only where this process has asked for permission to
        // use state components that do not fit into them, and this crate asks for none and hides them from guests.
        uninterrupted(|| unsafe { self.fd.set_xsave(&area) }).map_err(|errno| refused(Operation::SetFpu, errno))
    }

    fn interrupter(&self) -> Arc<dyn Interrupt> {
        self.page.interrupter()
    }

    fn counters(&self) -> Counters {
        self.counters
    }

    fn statistics(&self) -> Result<Option<Box<dyn StatisticsReader>>, HypervisorError> {
        self.machine.check()?;
        if !self.machine.device.has_statistics {
            return Ok(None);
        }
        // SAFETY: `fd` stays open during the borrow.
        let fd = unsafe { BorrowedFd::borrow_raw(self.fd.as_raw_fd()) };
        Ok(Some(Box::new(KvmStatistics::open(fd, self.machine.clone())?)))
    }
}

/// `_IO(KVMIO, 0x80)` in `linux/kvm.h`.
const KVM_RUN: libc::c_ulong = 0xae80;

// Model-specific registers (AMD64 Architecture Programmer's Manual, volume 2, appendix A).
const TSC: u32 = 0x10;
const STAR: u32 = 0xc000_0081;
const LSTAR: u32 = 0xc000_0082;
const FMASK: u32 = 0xc000_0084;

/// The type of a 64-bit task state segment that is not busy.
const AVAILABLE_TASK: u8 = 0x9;
