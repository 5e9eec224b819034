//! The registers of user code, which nothing above knows by name, except to print them.

use std::fmt;

use super::{BadSignalFrame, Behaviour, Entry, SignalFrame, SignalHandler, SignalReturn};
use crate::address::GuestVirt;
use crate::arch;

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

    /// Lets the code continue in a signal handler, from which it comes back by
    /// [`leave_signal_handler`](Self::leave_signal_handler). The frame is to be written first.
    pub fn enter_signal_handler(&mut self, handler: &SignalHandler) -> SignalFrame {
        self.0.enter_signal_handler(handler)
    }

    /// Lets code that makes the system call `rt_sigreturn` continue where the frame says that its stack pointer is in. `read`
    /// copies the code's memory, and returns whether it could.
    ///
    /// # Errors
    ///
    /// [`BadSignalFrame`]; nothing has changed then.
    pub fn leave_signal_handler(
        &mut self,
        read: impl Fn(GuestVirt, &mut [u8]) -> bool,
    ) -> Result<SignalReturn, BadSignalFrame> {
        self.0.leave_signal_handler(read)
    }

    /// The exceptions of floating-point arithmetic for which the processor has raised its exception, if that was the last
    /// event: of IEEE 754, from the lowest bit, invalid operation, a denormal operand, division by zero, overflow,
    /// underflow and inexact result.
    pub fn floating_point_exceptions(&self) -> u32 {
        self.0.floating_point_exceptions()
    }

    /// Lets the code make the system call again that it was making when it was [saved](super::Processor::save), as if it had
    /// not made it.
    pub fn repeat_system_call(&mut self) {
        self.0.repeat_system_call();
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

/// User code that waits in the doorbell or in a system call ([`Processor::checkpoint`](super::Processor::checkpoint)).
#[derive(Debug)]
pub struct Waiting(pub(crate) arch::processor::WaitingContext);

impl Waiting {
    /// The context of the code that waits.
    pub fn context(&self) -> Context {
        Context(self.0.context())
    }

    /// Whether it waits in a system call, and otherwise in the doorbell.
    pub fn is_in_system_call(&self) -> bool {
        self.0.is_in_system_call()
    }

    /// All registers of the code, in a form that outlives the process and can be [read](super::Unstarted::wait_as) by any backend
    /// of the architecture: `docs/snapshot-format.md` says what it is.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.to_bytes()
    }
}
/// A register that holds the address of what belongs to a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThreadRegister {
    /// The thread pointer of the architecture's ABI: the base of FS on x86-64.
    Pointer,
    /// Another one, where there is another: the base of GS on x86-64.
    Second,
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
    /// A value is none that the register can have on this processor.
    #[error("register {name} cannot hold {value:#x} on this processor")]
    Value {
        /// The register.
        name: &'static str,
        /// What it was to hold.
        value: u64,
    },
}

const REGISTERS_IN_A_ROW: usize = 4;
