//! A ring-3 processor: the door through which everything above runs a guest's code.
//!
//! A [`Processor`] runs user code and stops at an [`Event`]. What is below it, a vCPU of a virtual machine with its ring 0, or
//! whatever else can run user code and be told which pages it may touch, is a [`Backend`]'s own business, and so is the
//! architecture: above this door no register has a name, and no page table a level.
//!
//! The memory that the guest can write is one region, which a backend shows it at physical address
//! [`MEMORY_BASE`](crate::address_map::MEMORY_BASE). Which of the guest's addresses lead where is said through a [`PageMap`].
//!
//! Making a processor takes two steps, so that a program can be loaded before the hypervisor knows of it: a backend first
//! [prepares](Backend::prepare) the map of pages, and the processor is [started](Unstarted::start) with the loaded memory.

mod context;
mod event;
mod signal;

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::address::{GuestPhys, GuestVirt};
use crate::arch;
use crate::hypervisor::{Counters, HypervisorError, Interrupt};
use crate::linux::advice::WithAdvice;
use crate::memory::{MappedMemory, TrackedRegion};
use crate::page_set::PageSet;

pub use self::context::{BadRegister, BadReturn, Context, CoreNote, CoreRegisters, Registers, ThreadRegister, Waiting};
pub use self::event::{End, Event, Exception, FaultAccess, PageFault, SystemCall};
pub use self::signal::{BadSignalFrame, SignalFrame, SignalHandler, SignalReturn};
pub use arch::baseline::{Baseline, ParseBaselineError};
pub use arch::processor::VirtualMachines;

/// The architecture of user code, by its number in ELF files (`e_machine`).
pub const ARCHITECTURE: u32 = arch::ELF_MACHINE;

/// The instruction that a debugger puts in place of another one, so that user code stops there: with
/// [`Event::Exception`] of which [`Exception::is_breakpoint`] holds, behind this instruction.
pub const BREAKPOINT_INSTRUCTION: &[u8] = arch::processor::debugger::BREAKPOINT_INSTRUCTION;

/// What makes processors.
pub trait Backend: Send + Sync {
    /// Makes what a processor for a guest with `memory` bytes needs beside that memory, if at most `attached` bytes are
    /// [attached](Processor::attach) to it at a time.
    ///
    /// # Errors
    ///
    /// [`PrepareError`] when the host has no memory for it, or when so much memory cannot be mapped (`InvalidInput`).
    fn prepare(&self, memory: usize, attached: usize) -> Result<Prepared, PrepareError>;

    /// The same, as it was for another guest when its map was [remembered](PageMap::checkpoint).
    ///
    /// # Errors
    ///
    /// [`PrepareError`] when the host has no memory or mapping for it.
    fn prepare_like(&self, checkpoint: &MapCheckpoint) -> Result<Prepared, PrepareError>;

    /// How guests behave here.
    fn behaviour(&self) -> Behaviour;
}

/// What a processor needs, made and not yet started.
pub struct Prepared {
    /// The map of the guest's pages. It is to live as long as the processor.
    pub pages: Box<dyn PageMap>,
    /// The rest.
    pub processor: Box<dyn Unstarted>,
}

/// A processor that has no memory and has not been started.
pub trait Unstarted: Send {
    /// Gives the processor the guest's memory. It is to run user code from `entry` on.
    ///
    /// # Errors
    ///
    /// [`HypervisorError`] when the host is out of resources or refuses a setting.
    fn start(self: Box<Self>, memory: &TrackedRegion, entry: Entry) -> Result<Box<dyn Processor>, HypervisorError>;

    /// User code that waits as these bytes say ([`Waiting::to_bytes`]), whoever has written them, for processors that are
    /// [prepared like](Backend::prepare_like) this one. To be called before [`PageMap::checkpoint`], with which it belongs
    /// together.
    ///
    /// # Errors
    ///
    /// [`BadRegister`] when no user code can wait like that on this backend.
    fn wait_as(&self, stored: &[u8]) -> Result<Arc<Waiting>, BadRegister>;

    /// Gives the processor the guest's memory. It is to resume user code that [waits](Processor::checkpoint), and was [prepared
    /// like](Backend::prepare_like) the processor of that.
    ///
    /// # Errors
    ///
    /// As for [`start`](Self::start).
    fn resume(
        self: Box<Self>,
        memory: &TrackedRegion,
        waiting: &Arc<Waiting>,
    ) -> Result<Box<dyn Processor>, HypervisorError>;
}

/// Where user code begins; its other registers are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The first instruction.
    pub instruction: GuestVirt,
    /// The stack pointer.
    pub stack_pointer: GuestVirt,
}

/// Runs user code, on the thread that calls [`run`](Processor::run).
///
/// It has one *context* at a time: the registers with which user code continues. Several can take turns, by
/// [`save`](Processor::save) and [`load`](Processor::load).
///
/// An [interruption](Processor::interrupter) that is requested between two runs ends the next one, unless [`save`](Processor::save),
/// [`load`](Processor::load), [`checkpoint`](Processor::checkpoint) or [`restore`](Processor::restore) comes in between:
/// these may clear it.
pub trait Processor: WrittenPages + Send {
    /// Runs user code until something happens. Before that, [`PageMap::is_stale`] is to be looked at.
    ///
    /// After [`Event::SystemCall`], and after a [`restore`](Self::restore) of user code that waits in a system call, this is to
    /// be preceded by [`finish_system_call`](Self::finish_system_call) or [`load`](Self::load). After any other event user code continues where it was: the faulting instruction is executed
    /// again, the doorbell returns.
    ///
    /// # Errors
    ///
    /// [`HypervisorError`] when user code could not be run at all.
    fn run(&mut self) -> Result<Event, HypervisorError>;

    /// Gives the system call its result that was the last event, or in which user code waits that was
    /// [restored](Self::restore).
    ///
    /// # Errors
    ///
    /// [`BadReturn`] when the guest has made the call in such a way that it would not return to its own code. It cannot
    /// continue then.
    fn finish_system_call(&mut self, result: u64) -> Result<(), BadReturn>;

    /// The registers of the user code that made the last event: at the instruction that did it, or behind it for a system
    /// call, the doorbell, a breakpoint and a step. After [`Event::Forged`] hypervisors differ. After
    /// [`restore`](Self::restore), [`load`](Self::load) and [`finish_system_call`](Self::finish_system_call) those with
    /// which it continues.
    fn registers(&self) -> Registers;

    /// Sets a register that holds the address of what belongs to a thread.
    ///
    /// # Errors
    ///
    /// [`HypervisorError`] when the hypervisor refuses to.
    fn set_thread_register(&mut self, register: ThreadRegister, value: u64) -> Result<(), HypervisorError>;

    /// Whether every instruction of user code from now on is followed by [`Event::Step`]. What the kernel would execute on its
    /// behalf (a system call, the doorbell) is one step with what follows it: a system call with the instruction behind it (where the
    /// processor does not make its return a step of its own),
    /// the doorbell with its return. A step is lost when user code is interrupted right behind it and then
    /// [saved](Self::save) and loaded.
    ///
    /// This belongs to the processor: no context carries it, and [`load`](Self::load) and [`restore`](Self::restore) leave it
    /// as it is. A guest that sets the flag for it by itself raises [`Event::Exception`]; to switch the steps on or off clears
    /// that flag.
    ///
    /// # Errors
    ///
    /// [`HypervisorError`] when the hypervisor refuses to.
    fn set_single_step(&mut self, on: bool) -> Result<(), HypervisorError>;

    /// The context of the user code that made the last event. A system call that has not been finished is over in it: its
    /// result is 0 unless [`Context::set_result`] says otherwise.
    ///
    /// # Errors
    ///
    /// [`HypervisorError`] when the hypervisor cannot report it.
    fn save(&mut self) -> Result<Context, HypervisorError>;

    /// Makes this the context, whatever the last event was. That of the last event is lost unless it was saved.
    ///
    /// # Errors
    ///
    /// [`HypervisorError`] when the hypervisor refuses to.
    fn load(&mut self, context: &Context) -> Result<(), HypervisorError>;

    /// Remembers the context of user code that waits in the doorbell, or in a system call that has no result yet, for this
    /// processor, and for others that were prepared like it, to [go back to](Self::restore). To be called before [`PageMap::checkpoint`], with which it belongs together:
    /// what the processor resumes from may lie in memory beside the map.
    ///
    /// # Errors
    ///
    /// [`HypervisorError`] when the hypervisor cannot report it.
    fn checkpoint(&mut self) -> Result<Arc<Waiting>, HypervisorError>;

    /// Goes back to user code that waits, whatever it is doing now. [`PageMap::restore`] goes with it. Where user code waits in the
    /// doorbell now, this takes no exit and no call into the kernel, if the architecture allows.
    ///
    /// # Errors
    ///
    /// [`HypervisorError`] when the hypervisor refuses to. The processor is then no longer usable.
    fn restore(&mut self, waiting: &Arc<Waiting>) -> Result<(), HypervisorError>;

    /// Makes everybody forget what they have derived from the map of pages; see [`PageMap::is_stale`].
    ///
    /// # Errors
    ///
    /// [`HypervisorError`]; user code must not run before another attempt has succeeded.
    fn flush_translations(&mut self) -> Result<(), HypervisorError>;

    /// Shows the guest memory of the host's beside its own, from physical address `at` on, under a number that is free: what
    /// [`PageMap::map`] can lead to from then on. It is kept as long as the guest could reach it.
    ///
    /// # Errors
    ///
    /// [`HypervisorError`], and nothing is shown then.
    fn attach(&mut self, number: u32, at: GuestPhys, memory: &MappedMemory) -> Result<(), HypervisorError>;

    /// Takes the memory under this number away, with everything that was derived from it: nothing is left to revoke. To be
    /// called after [`PageMap::unmap`].
    ///
    /// # Errors
    ///
    /// [`HypervisorError`]; user code must not run then before another attempt has succeeded.
    fn detach(&mut self, number: u32) -> Result<(), HypervisorError>;

    /// Adds to `pages` those of the memory under this number that the guest has written; as
    /// [`WrittenPages::collect_written`] does. The memory is [tracked](MappedMemory::is_tracked).
    ///
    /// # Errors
    ///
    /// As for [`WrittenPages::collect_written`].
    fn collect_attached(&mut self, number: u32, pages: &mut PageSet) -> Result<(), HypervisorError>;

    /// Marks these pages of the memory under this number as unwritten; as [`WrittenPages::forget_written`] does.
    ///
    /// # Errors
    ///
    /// As for [`WrittenPages::forget_written`].
    fn forget_attached(&mut self, number: u32, pages: &PageSet) -> Result<(), HypervisorError>;

    /// A handle with which another thread, or a signal handler, makes [`run`](Self::run) return [`Event::Interrupted`]. User
    /// code simply continues at the next run.
    fn interrupter(&self) -> Arc<dyn Interrupt>;

    /// What the processor has cost so far.
    fn counters(&self) -> Counters;
}

/// Knows which pages of its memory a guest has written.
pub trait WrittenPages {
    /// Adds to `pages` those of the guest's memory that it has written and that have not been reported yet; as
    /// [`Vm::collect_written`](crate::Vm::collect_written) says.
    ///
    /// # Errors
    ///
    /// [`HypervisorError`] when the hypervisor cannot report them. None is lost then.
    fn collect_written(&mut self, pages: &mut PageSet) -> Result<(), HypervisorError>;

    /// Marks these pages of the guest's memory as unwritten.
    ///
    /// # Errors
    ///
    /// [`HypervisorError`] when the hypervisor refuses to.
    fn forget_written(&mut self, pages: &PageSet) -> Result<(), HypervisorError>;
}

/// Says which of the guest's addresses lead where, and what the guest may do there.
pub trait PageMap: fmt::Debug + Send {
    /// Maps `pages` pages from `at` on to as many of the guest's memory from `to` on. What was mapped there is replaced; where
    /// that takes permissions away, [`TrackedRegion::revoke`] the memory that was mapped before user code runs again.
    ///
    /// # Errors
    ///
    /// [`MapExhausted`]; nothing has changed then.
    ///
    /// # Panics
    ///
    /// When an address is not at the start of a page, or the range leaves the guest's or the shared addresses.
    fn map(&mut self, at: GuestVirt, to: GuestPhys, pages: usize, access: PageAccess) -> Result<(), MapExhausted>;

    /// Unmaps `pages` pages from `at` on, as far as they are mapped. [`TrackedRegion::discard`] or [`TrackedRegion::revoke`] the
    /// memory that was mapped before user code runs again.
    ///
    /// # Panics
    ///
    /// As for [`map`](Self::map).
    fn unmap(&mut self, at: GuestVirt, pages: usize);

    /// Where an address leads, and what the guest may do there; `None` when it is not mapped.
    fn translate(&self, at: GuestVirt) -> Option<(GuestPhys, PageAccess)>;

    /// Whether user code must not run before [`Processor::flush_translations`], because no smaller step makes the last changes
    /// known.
    fn is_stale(&self) -> bool;

    /// Notes that all translations have been flushed.
    fn mark_flushed(&mut self);

    /// Remembers the map.
    ///
    /// # Errors
    ///
    /// What the host reports when it has no memory for it.
    fn checkpoint(&mut self) -> io::Result<MapCheckpoint>;

    /// Goes back to this map, or to an equal one's. [`TrackedRegion::revoke`] the memory that was mapped since, and look at
    /// [`is_stale`](Self::is_stale).
    ///
    /// # Panics
    ///
    /// When the checkpoint is of a map that was prepared for another amount of memory.
    fn restore(&mut self, checkpoint: &MapCheckpoint);
}
/// What the guest may do with a page. Reading is always allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageAccess {
    /// Writing is allowed.
    pub write: bool,
    /// Executing is allowed.
    pub execute: bool,
}

/// The host has no room for what a processor needs beside the guest's memory.
#[derive(Debug, thiserror::Error)]
#[error("the host has no room for {bytes} bytes of page tables: {}", WithAdvice(.reason))]
pub struct PrepareError {
    /// How many bytes were needed.
    pub bytes: usize,
    /// What the host reports.
    pub reason: io::Error,
}

/// There is no room for what a mapping needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the mapping needs {needed} more page tables, and there is room for {available}")]
pub struct MapExhausted {
    /// How many page tables would have to be made.
    pub needed: usize,
    /// How many can be made.
    pub available: usize,
}
/// A map of pages as it was at one moment.
#[derive(Debug)]
pub struct MapCheckpoint(pub(crate) arch::paging::TablesCheckpoint);

/// How guests behave on a backend. A guest that was remembered on one can continue on another where they behave the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Behaviour(pub(crate) arch::capabilities::Capabilities);

impl Behaviour {
    /// What Linux would say of the processor's features in `AT_HWCAP` and `AT_HWCAP2`.
    pub fn hardware_capabilities(&self) -> [u64; 2] {
        arch::processor::hardware_capabilities(&self.0)
    }

    /// Which registers user code has, as gdb's target description: a text in XML.
    pub fn target_description(&self) -> String {
        arch::processor::debugger::target_description(self.0.xcr0)
    }

    /// What guests find of the processor, where that is not all that they can use.
    pub fn baseline(&self) -> Option<Baseline> {
        self.0.baseline
    }

    /// The instruction sets that guests can find, and rely on from then on, by the names of `/proc/cpuinfo`. Those whose registers
    /// no guest has are left out.
    pub fn features(&self) -> Vec<&'static str> {
        let all = || arch::features::FeatureSet::of_processor().names();
        self.0.baseline.map_or_else(all, Baseline::features)
    }

    /// Whether the processor's counter that guests read is the one that the host reads ([`vdso::counter`](crate::vdso::counter)),
    /// and that the host's own clocks go by.
    pub fn shares_counter(&self) -> bool {
        self.0.counter
    }
}

impl fmt::Display for Behaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
