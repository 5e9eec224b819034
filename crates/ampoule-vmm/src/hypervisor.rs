//! What a hypervisor has to offer: the door through which everything above reaches a virtual machine.
//!
//! A [`Hypervisor`] makes [`Vm`]s, a `Vm` maps host memory into its guest-physical address space and makes [`Vcpu`]s, a
//! `Vcpu` runs until something happens that the host has to look at: an [`Exit`]. All three are used as trait objects, so
//! that one binary can hold several backends and a test can put a failing one in between
//! ([`FailAt`](crate::inject::FailAt)).

mod baseline_error;
mod open_error;
mod statistics;

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::address::GuestPhys;
use crate::arch::capabilities::Capabilities;
use crate::arch::registers::{FpuState, Regs, SpecialRegs, SyscallEntry};
use crate::linux::advice::WithAdvice;
use crate::memory::Region;
use crate::page_set::PageSet;
use crate::processor::Baseline;

pub use baseline_error::BaselineError;
pub use open_error::OpenError;
pub use statistics::{Statistics, StatisticsReader};

/// A hypervisor that was found usable.
pub trait Hypervisor: Send + Sync {
    /// Creates a virtual machine without memory or vCPUs.
    ///
    /// # Errors
    ///
    /// [`HypervisorError`] when the host is out of resources.
    fn create_vm(&self) -> Result<Box<dyn Vm>, HypervisorError>;

    /// How guests behave on this hypervisor and processor, found out by trying.
    fn capabilities(&self) -> &Capabilities;

    /// The same hypervisor, whose guests find of the processor what this baseline has and no more.
    ///
    /// # Errors
    ///
    /// [`BaselineError`] where the processor has less, or where guests find more all the same.
    fn with_baseline(&self, _baseline: Baseline) -> Result<Arc<dyn Hypervisor>, BaselineError> {
        Err(BaselineError::Unsupported)
    }
}

impl<H: Hypervisor + ?Sized> Hypervisor for Arc<H> {
    fn create_vm(&self) -> Result<Box<dyn Vm>, HypervisorError> {
        (**self).create_vm()
    }

    fn capabilities(&self) -> &Capabilities {
        (**self).capabilities()
    }

    fn with_baseline(&self, baseline: Baseline) -> Result<Arc<dyn Hypervisor>, BaselineError> {
        (**self).with_baseline(baseline)
    }
}

/// A virtual machine.
///
/// Its memory and kernel resources live until it and its vCPUs are dropped, in any order.
///
/// It belongs to the process that made it. In a child that was forked from that, everything that can fail is
/// [`HypervisorError::Forked`] for it and its vCPUs, and registers that are set are lost.
pub trait Vm: Send {
    /// Lets the guest see all of `region` at guest-physical address `at`, under a slot number that is not in use. The
    /// memory is kept alive for as long as a guest could reach it.
    ///
    /// # Errors
    ///
    /// [`HypervisorError::SlotInUse`], or what the hypervisor reports, for example when `at` is not at the start of a page
    /// or the range overlaps another slot's. Nothing is mapped then.
    fn map(
        &mut self,
        slot: u32,
        at: GuestPhys,
        region: Arc<Region>,
        tracking: WriteTracking,
    ) -> Result<(), HypervisorError>;

    /// Takes the memory in `slot` away from the guest.
    ///
    /// # Errors
    ///
    /// [`HypervisorError::SlotEmpty`], or what the hypervisor reports. The memory stays mapped then.
    fn unmap(&mut self, slot: u32) -> Result<(), HypervisorError>;

    /// Adds to `pages` those of a slot that the guest has written since the slot was mapped with [`WriteTracking::On`] and that
    /// have not been reported yet.
    ///
    /// A page is reported once, however often the guest writes it then, so that it pays for its first write to a page only; it
    /// is reported again when it is written after it was [forgotten](Vm::forget_written). It may be reported again without
    /// that. Writes of the host to the slot's region are not seen. Pages that the guest has only read, or that hold its page
    /// tables, may be reported too.
    ///
    /// # Errors
    ///
    /// [`HypervisorError::SlotEmpty`], [`HypervisorError::WritesNotTracked`], [`HypervisorError::SlotSize`] when `pages` is
    /// for a slot of another size, or what the hypervisor reports. Nothing is lost then.
    fn collect_written(&mut self, slot: u32, pages: &mut PageSet) -> Result<(), HypervisorError>;

    /// Marks these pages of a slot as unwritten. To be called while no vCPU runs.
    ///
    /// # Errors
    ///
    /// As for [`collect_written`](Vm::collect_written).
    fn forget_written(&mut self, slot: u32, pages: &PageSet) -> Result<(), HypervisorError>;

    /// Forgets everything that was derived from the guest's page tables, which lie in this slot: translations, and which table
    /// an entry has led to. To be called while no vCPU runs.
    ///
    /// This is for edits that no smaller step makes known ([`PageTables::is_stale`](crate::x86_64::paging::PageTables::is_stale)).
    /// It costs a call into the kernel or two, and the guest a fault for each page that it uses from then on. Pages that the
    /// guest has written may be [reported](Vm::collect_written) again.
    ///
    /// # Errors
    ///
    /// [`HypervisorError::SlotEmpty`], or what the hypervisor reports. The guest must not run then before another attempt has
    /// succeeded.
    fn flush_translations(&mut self, slot: u32) -> Result<(), HypervisorError>;

    /// Creates a vCPU whose `syscall` instruction enters as `entry` says. Before its first run it needs
    /// [`Vcpu::set_special_regs`] and [`Vcpu::set_regs`].
    ///
    /// # Errors
    ///
    /// [`HypervisorError`] when the host is out of resources or refuses a setting.
    fn create_vcpu(&mut self, entry: &SyscallEntry) -> Result<Box<dyn Vcpu>, HypervisorError>;
}

/// Whether a hypervisor notes which pages of a slot the guest writes.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
pub enum WriteTracking {
    /// It notes none, and can use large pages.
    Off,
    /// It notes every page ([`Vm::collect_written`]).
    On,
}

/// A virtual processor. It runs on the thread that calls [`run`](Vcpu::run).
pub trait Vcpu: Send {
    /// Runs the guest until the next exit.
    ///
    /// # Errors
    ///
    /// [`HypervisorError`] when the hypervisor could not run the guest at all.
    fn run(&mut self) -> Result<Exit<'_>, HypervisorError>;

    /// The general registers as of the last exit or the last [`set_regs`](Vcpu::set_regs). Costs no call into the kernel.
    ///
    /// At an I/O exit the instruction pointer is that of the instruction or of the one after it, as the hypervisor likes.
    fn regs(&self) -> Regs;

    /// Sets the general registers for the next run. Costs no call into the kernel.
    ///
    /// After an exit by `out`, setting the instruction pointer to anything but that instruction or the one after it abandons
    /// the pending `out`: the guest continues there, and nothing of the `out` touches these registers.
    fn set_regs(&mut self, regs: &Regs);

    /// The special registers as of the last exit or the last [`set_special_regs`](Vcpu::set_special_regs). At most one
    /// call into the kernel; none when they were asked for a few runs ago, since the hypervisor brings them along for a while.
    ///
    /// # Errors
    ///
    /// [`HypervisorError`] when the hypervisor cannot report them.
    fn special_regs(&mut self) -> Result<SpecialRegs, HypervisorError>;

    /// Sets the special registers for the next run, which fails if they make no valid state.
    ///
    /// # Errors
    ///
    /// [`HypervisorError`] when the hypervisor refuses them at once.
    fn set_special_regs(&mut self, regs: &SpecialRegs) -> Result<(), HypervisorError>;

    /// Finishes the instruction that made the last exit and executes no other, so that the registers are those with which
    /// the guest would continue. To be called while nobody [interrupts](Vcpu::interrupter) this vCPU.
    ///
    /// # Errors
    ///
    /// [`HypervisorError`] when the hypervisor could not do so.
    fn settle(&mut self) -> Result<(), HypervisorError>;

    /// Forgets what the guest was about to do: an instruction that has made an exit, an exception that was being delivered.
    /// Registers that are set afterwards are the guest's whole state. To be called like [`settle`](Vcpu::settle).
    ///
    /// # Errors
    ///
    /// [`HypervisorError`] when the hypervisor could not do so.
    fn abandon(&mut self) -> Result<(), HypervisorError>;

    /// The floating-point and vector registers. Costs a call into the kernel.
    ///
    /// # Errors
    ///
    /// [`HypervisorError`] when the hypervisor cannot report them.
    fn fpu(&mut self) -> Result<FpuState, HypervisorError>;

    /// Sets the floating-point and vector registers. Costs a call into the kernel.
    ///
    /// # Errors
    ///
    /// [`HypervisorError`] when the hypervisor refuses them.
    fn set_fpu(&mut self, state: &FpuState) -> Result<(), HypervisorError>;

    /// A handle with which another thread, or a signal handler, ends a run.
    fn interrupter(&self) -> Arc<dyn Interrupt>;

    /// What this vCPU has cost so far.
    fn counters(&self) -> Counters;

    /// A handle that reads what the hypervisor itself has counted for this vCPU; `None` where it reports nothing. It serves
    /// to check the [`counters`](Vcpu::counters): neither making nor using it appears in them.
    ///
    /// # Errors
    ///
    /// [`HypervisorError`] when the hypervisor has statistics but cannot report them.
    fn statistics(&self) -> Result<Option<Box<dyn StatisticsReader>>, HypervisorError> {
        Ok(None)
    }
}

/// Ends runs of one vCPU. It may outlive the vCPU and does nothing then.
///
/// All operations are a load, a comparison and a store at most, and safe in a signal handler.
pub trait Interrupt: Send + Sync {
    /// From now on until [`clear`](Interrupt::clear) every run returns [`Exit::Interrupted`] before the guest executes
    /// anything. A run in progress notices when its thread handles a signal, so whoever wants to end it sends one after
    /// this call. The flags of the handler do not matter: a run that was restarted would end at once.
    ///
    /// Does nothing where the vCPU [is inherited](Interrupt::is_inherited).
    fn request(&self);

    /// Lets runs proceed again. Does nothing where the vCPU [is inherited](Interrupt::is_inherited).
    fn clear(&self);

    /// Whether the vCPU was made in a process from which this one was forked: it belongs to that one, and does not run here.
    fn is_inherited(&self) -> bool;
}

/// Why a vCPU stopped.
#[derive(Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Exit<'a> {
    /// The guest wrote to an I/O port.
    IoOut {
        /// The port.
        port: u16,
        /// What it wrote; more than one element for a string instruction.
        data: &'a [u8],
    },
    /// The guest waits for input from an I/O port.
    IoIn {
        /// The port.
        port: u16,
        /// How many bytes it waits for.
        len: usize,
    },
    /// The guest read guest-physical memory that is not mapped.
    MmioRead {
        /// The first byte.
        at: GuestPhys,
        /// How many bytes it waits for.
        len: usize,
    },
    /// The guest wrote to guest-physical memory that is not mapped.
    MmioWrite {
        /// The first byte.
        at: GuestPhys,
        /// What it wrote.
        data: &'a [u8],
    },
    /// The guest executed `hlt` in ring 0.
    Halt,
    /// The guest ran into a triple fault.
    Shutdown,
    /// [`Interrupt::request`] was called, or a signal came in.
    Interrupted,
    /// The guest has written more pages than the hypervisor can list, which has made room for others. The guest continues at the
    /// next run.
    ManyWritten,
    /// The processor refused to enter the guest.
    FailEntry {
        /// The processor's reason.
        reason: u64,
    },
    /// The hypervisor met something that it cannot handle, for example an instruction that it does not emulate.
    InternalError {
        /// The hypervisor's reason.
        suberror: u32,
    },
    /// Anything else, by the hypervisor's number.
    Other(u32),
}

/// How often a vCPU has called into the kernel.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub struct Counters {
    /// Calls that ran the guest (or tried to).
    pub runs: u64,
    /// All other calls concerning this vCPU, those of its creation included.
    pub ioctls: u64,
}

/// Why the hypervisor could not do something. The text says all of it: there is no [`source`](std::error::Error::source).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HypervisorError {
    /// The kernel refused.
    #[error("the hypervisor could not {operation}: {}", WithAdvice(reason))]
    Refused {
        /// What was asked of it.
        operation: Operation,
        /// Its answer.
        reason: io::Error,
    },
    /// Memory was to be mapped under a slot number that is in use.
    #[error("memory slot {slot} is in use")]
    SlotInUse {
        /// The slot.
        slot: u32,
    },
    /// Memory was to be unmapped from a slot that holds none.
    #[error("memory slot {slot} is empty")]
    SlotEmpty {
        /// The slot.
        slot: u32,
    },
    /// The written pages were asked for of a slot that was mapped with [`WriteTracking::Off`].
    #[error("writes to memory slot {slot} are not tracked")]
    WritesNotTracked {
        /// The slot.
        slot: u32,
    },
    /// A set of pages was given for a slot of another size.
    #[error("memory slot {slot} has {pages} pages, but a set of {given} was given for it")]
    SlotSize {
        /// The slot.
        slot: u32,
        /// How many pages the slot has.
        pages: usize,
        /// How many pages the set can hold.
        given: usize,
    },
    /// A system register does not exist on this hypervisor.
    #[error("the hypervisor does not let system register {index:#x} be set")]
    RegisterRefused {
        /// The register's number, by which the processor's instructions name it.
        index: u32,
    },
    /// The guest could not be run, because it has accessed memory that the host cannot give it: most often a page of a mapped file
    /// that was cut short.
    #[error("the host does not have the memory that the guest has accessed: {}", WithAdvice(reason))]
    LostMemory {
        /// What the kernel says.
        reason: io::Error,
    },
    /// The virtual machine belongs to the process from which this one was forked. Nothing was done to it.
    #[error(
        "the virtual machine was made before this process was forked, and belongs to the process that made it; a child has to \
         make its own: build or spawn a new sandbox there"
    )]
    Forked,
}

impl HypervisorError {
    /// Whether it is [`LostMemory`](Self::LostMemory).
    pub fn is_lost_memory(&self) -> bool {
        matches!(self, Self::LostMemory { .. })
    }
}

/// What a hypervisor was asked to do.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
#[non_exhaustive]
#[expect(missing_docs, reason = "`Display` says what each means")]
pub enum Operation {
    CreateVm,
    MapMemory,
    UnmapMemory,
    FlushTranslations,
    TrackWrites,
    ReadWrittenPages,
    ForgetWrittenPages,
    CreateVcpu,
    MapRunPage,
    SetProcessorFeatures,
    EnableRegisterState,
    SetSystemRegisters,
    Run,
    ReadSpecialRegisters,
    SetSpecialRegisters,
    ReadFpu,
    SetFpu,
    SetEvents,
    ReadStatistics,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Operation::CreateVm => "create a virtual machine",
            Operation::MapMemory => "map memory into a guest",
            Operation::UnmapMemory => "unmap memory from a guest",
            Operation::FlushTranslations => "forget what it knows about a guest's page tables",
            Operation::TrackWrites => "keep track of written pages in a ring",
            Operation::ReadWrittenPages => "report which pages a guest has written",
            Operation::ForgetWrittenPages => "forget which pages a guest has written",
            Operation::CreateVcpu => "create a vCPU",
            Operation::MapRunPage => "map a vCPU's run page",
            Operation::SetProcessorFeatures => "set which features a vCPU has",
            Operation::EnableRegisterState => "enable register state of a vCPU",
            Operation::SetSystemRegisters => "set a vCPU's system registers",
            Operation::Run => "run a vCPU",
            Operation::ReadSpecialRegisters => "read a vCPU's special registers",
            Operation::SetSpecialRegisters => "set a vCPU's special registers",
            Operation::ReadFpu => "read a vCPU's floating-point registers",
            Operation::SetFpu => "set a vCPU's floating-point registers",
            Operation::SetEvents => "set a vCPU's pending events",
            Operation::ReadStatistics => "report a vCPU's statistics",
        })
    }
}
