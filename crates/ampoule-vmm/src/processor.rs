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

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::address::{GuestPhys, GuestVirt};
use crate::arch;
use crate::hypervisor::{Counters, HypervisorError, Interrupt};
use crate::linux::advice::WithAdvice;
use crate::memory::TrackedRegion;
use crate::page_set::PageSet;

pub use arch::processor::VirtualMachines;

/// The instruction that a debugger puts in place of another one, so that user code stops there: with
/// [`Event::Exception`] of which [`Exception::is_breakpoint`] holds, behind this instruction.
pub const BREAKPOINT_INSTRUCTION: &[u8] = arch::processor::debugger::BREAKPOINT_INSTRUCTION;

/// What makes processors.
pub trait Backend: Send + Sync {
    /// Makes what a processor for a guest with `memory` bytes needs beside that memory.
    ///
    /// # Errors
    ///
    /// [`PrepareError`] when the host has no memory for it, or when so much memory cannot be mapped (`InvalidInput`).
    fn prepare(&self, memory: usize) -> Result<Prepared, PrepareError>;

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
pub trait Unstarted {
    /// Gives the processor the guest's memory. It is to run user code from `entry` on.
    ///
    /// # Errors
    ///
    /// [`HypervisorError`] when the host is out of resources or refuses a setting.
    fn start(self: Box<Self>, memory: &TrackedRegion, entry: Entry) -> Result<Box<dyn Processor>, HypervisorError>;

    /// Gives the processor the guest's memory. It is to resume user code that waits in the doorbell, and was [prepared
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
    /// After [`Event::SystemCall`] this is to be preceded by [`finish_system_call`](Self::finish_system_call) or
    /// [`load`](Self::load). After any other event user code continues where it was: the faulting instruction is executed
    /// again, the doorbell returns.
    ///
    /// # Errors
    ///
    /// [`HypervisorError`] when user code could not be run at all.
    fn run(&mut self) -> Result<Event, HypervisorError>;

    /// Gives the system call that was the last event its result.
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

    /// Remembers the context of user code that waits in the doorbell, for this processor, and for others that were prepared
    /// like it, to [go back to](Self::restore). To be called before [`PageMap::checkpoint`], with which it belongs together:
    /// what the processor resumes from may lie in memory beside the map.
    ///
    /// # Errors
    ///
    /// [`HypervisorError`] when the hypervisor cannot report it.
    fn checkpoint(&mut self) -> Result<Arc<Waiting>, HypervisorError>;

    /// Goes back to user code that waits in the doorbell, whatever it is doing now. [`PageMap::restore`] goes with it. Where
    /// user code waits in the doorbell now, this takes no exit and no call into the kernel, if the architecture allows.
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

/// Why user code stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// It called the doorbell ([`DOORBELL`](crate::DOORBELL)).
    Doorbell,
    /// It made a system call.
    SystemCall(SystemCall),
    /// It accessed a page that is not mapped, or not for this access.
    PageFault(PageFault),
    /// The processor raised another exception.
    Exception(Exception),
    /// It has executed one instruction ([`Processor::set_single_step`]).
    Step,
    /// It has tried to look like the host's own code by an instruction of its own.
    Forged {
        /// The port that the instruction named.
        port: u16,
    },
    /// It was [interrupted](Processor::interrupter).
    Interrupted,
    /// It has written more pages than the hypervisor can list, which has made room for others. None is lost:
    /// [`collect_written`](WrittenPages::collect_written) has all of them.
    ManyWritten,
    /// It cannot continue.
    Ended(End),
}

/// A system call, by the convention of the architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SystemCall {
    /// What is asked for.
    pub number: u64,
    /// The arguments, meaningful or not.
    pub arguments: [u64; 6],
}

/// An access that the map of pages does not allow, or did not when the processor last looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageFault {
    /// What was accessed.
    pub address: GuestVirt,
    /// How.
    pub access: FaultAccess,
    /// Whether the guest itself has denied the access, by means of its own that the map knows nothing of.
    pub by_own_denial: bool,
}

/// How memory is accessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FaultAccess {
    /// A load.
    Read,
    /// A store.
    Write,
    /// An instruction fetch.
    Execute,
}

/// An exception of the processor, by the architecture's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exception {
    /// The architecture's number of it.
    pub vector: u8,
    /// More about it, for those exceptions that have it.
    pub error_code: Option<u64>,
}

impl Exception {
    /// Whether user code has executed a [`BREAKPOINT_INSTRUCTION`].
    pub fn is_breakpoint(&self) -> bool {
        self.vector == arch::processor::debugger::BREAKPOINT_VECTOR
    }
}

/// Why user code cannot continue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum End {
    /// The processor could not deliver an exception and shut down.
    Shutdown,
    /// The hypervisor stopped for a reason that no user code should be able to give it.
    Unexpected(&'static str),
}

/// A register that holds the address of what belongs to a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThreadRegister {
    /// The thread pointer of the architecture's ABI: the base of FS on x86-64.
    Pointer,
    /// Another one, where there is another: the base of GS on x86-64.
    Second,
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

/// A system call whose return address is not the guest's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system call would return to {address}, which is not an address of the guest's")]
pub struct BadReturn {
    /// The return address.
    pub address: GuestVirt,
}

/// Registers that no user code can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadRegister {
    /// They are not as long as the description says.
    #[error("the registers take {expected} bytes, and {given} were given")]
    Size {
        /// How many bytes they take.
        expected: usize,
        /// How many there were.
        given: usize,
    },
    /// An address is none of user code's.
    #[error("register {name} cannot hold {value:#x}, which is no address that user code can have")]
    Address {
        /// The register.
        name: &'static str,
        /// What it was to hold.
        value: u64,
    },
}

/// The general registers of user code, to be printed or looked up by their names.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Registers(pub(crate) arch::registers::Regs);

impl Registers {
    /// The register of this name, in the architecture's usual spelling and lower case (`"rip"`).
    pub fn get(&self, name: &str) -> Option<u64> {
        self.iter().find(|(other, _)| *other == name).map(|(_, value)| value)
    }

    /// All of them by name, in the architecture's usual order.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.0.by_name().into_iter()
    }

    /// Where the next instruction is.
    pub fn instruction_pointer(&self) -> u64 {
        self.0.rip
    }

    /// Where the stack ends.
    pub fn stack_pointer(&self) -> u64 {
        self.0.rsp
    }

    /// The arguments of a function that has just been called, by the architecture's C calling convention, meaningful or not.
    pub fn arguments(&self) -> [u64; 6] {
        let arch::registers::Regs { rdi, rsi, rdx, rcx, r8, r9, .. } = self.0;
        [rdi, rsi, rdx, rcx, r8, r9]
    }
}

/// In rows of four.
impl fmt::Display for Registers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, value)) in self.iter().enumerate() {
            let before = match index {
                0 => "",
                _ if index % REGISTERS_IN_A_ROW == 0 => "\n",
                _ => "  ",
            };
            write!(f, "{before}{name:>6} {value:016x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Registers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut registers = f.debug_map();
        for (name, value) in self.iter() {
            registers.entry(&format_args!("{name}"), &format_args!("{value:#x}"));
        }
        registers.finish()
    }
}

impl fmt::Display for FaultAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read of",
            Self::Write => "write to",
            Self::Execute => "execution of",
        })
    }
}

/// All registers of user code: general, thread, floating-point and vector registers.
#[derive(Clone, Debug)]
pub struct Context(pub(crate) arch::processor::UserContext);

impl Context {
    /// The context of code that begins.
    pub fn new(entry: Entry) -> Context {
        Context(arch::processor::UserContext::new(entry))
    }

    /// The general registers.
    pub fn registers(&self) -> Registers {
        self.0.registers()
    }

    /// Lets the code continue elsewhere: behind an instruction that has been executed on its behalf, or again at one that a
    /// breakpoint had replaced.
    pub fn set_instruction_pointer(&mut self, at: GuestVirt) {
        self.0.set_instruction_pointer(at);
    }

    /// Sets where the stack ends.
    pub fn set_stack_pointer(&mut self, to: GuestVirt) {
        self.0.set_stack_pointer(to);
    }

    /// Sets the register in which system calls and functions give their results.
    pub fn set_result(&mut self, result: u64) {
        self.0.set_result(result);
    }

    /// All registers as gdb transfers them, in the order of the [description](Behaviour::target_description).
    pub fn debugger_registers(&self, behaviour: Behaviour) -> Vec<u8> {
        arch::processor::debugger::registers(&self.0, behaviour.0.xcr0)
    }

    /// Sets all registers to what gdb has sent. Those that user code cannot set keep their values.
    ///
    /// # Errors
    ///
    /// [`BadRegister`]; nothing has changed then.
    pub fn set_debugger_registers(&mut self, behaviour: Behaviour, registers: &[u8]) -> Result<(), BadRegister> {
        arch::processor::debugger::set_registers(&mut self.0, behaviour.0.xcr0, registers)
    }

    /// All registers in the forms that core dumps of Linux on this architecture have.
    pub fn core_registers(&self) -> CoreRegisters {
        self.0.core_registers()
    }
}

/// The registers of a thread as a core dump of Linux has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoreRegisters {
    /// The general registers: `pr_reg` of the note `NT_PRSTATUS` (`elf_gregset_t` of the C library's `sys/procfs.h`).
    pub general: Vec<u8>,
    /// The notes with the floating-point and vector registers.
    pub notes: Vec<CoreNote>,
}

/// A note of a core dump.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoreNote {
    /// Who has defined its kind: the note's name.
    pub owner: &'static str,
    /// Its kind, one of the `NT_` numbers.
    pub kind: u32,
    /// What it says.
    pub body: Vec<u8>,
}

/// User code that waits in the doorbell ([`Processor::checkpoint`]).
#[derive(Debug)]
pub struct Waiting(pub(crate) arch::processor::WaitingContext);

impl Waiting {
    /// The context of the code that waits.
    pub fn context(&self) -> Context {
        Context(self.0.context())
    }
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

const REGISTERS_IN_A_ROW: usize = 4;
