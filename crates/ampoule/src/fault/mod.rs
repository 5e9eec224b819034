//! Faults: how a guest ended itself, and where.

mod kind;
mod panic;

use std::fmt;
use std::sync::{Arc, OnceLock};

use ampoule_abi::text::printable_line;
use ampoule_symbols::{Backtrace, CallStack, ImagePlace, Symbols};
use ampoule_vmm::Registers;

use crate::image::Executable;

pub use ampoule_vmm::FaultAccess;
pub use kind::{EndlessWait, FaultKind, FaultTarget};
pub use panic::GuestPanic;

/// How a guest ended itself: what it did, with which registers, the calls that led there, and what it had printed to standard
/// error.
///
/// `{}` shows all of that except the registers, and standard error only where the guest ended by its own decision, and then
/// only its last lines; `{:#}` shows the whole backtrace.
#[derive(Clone)]
pub struct Fault(Arc<Details>);

struct Details {
    kind: FaultKind,
    registers: Registers,
    stack: CallStack,
    executable: Executable,
    stderr: String,
    refused_memory: Option<u64>,
    /// Made when it is first asked for, since that means reading debug information.
    backtrace: OnceLock<Backtrace>,
}

impl Fault {
    /// A fault of code that had these registers, with the stack that they lead to.
    pub(crate) fn new(kind: FaultKind, registers: Registers, stack: CallStack, executable: Executable) -> Self {
        let (stderr, refused_memory, backtrace) = (String::new(), None, OnceLock::new());
        Self(Arc::new(Details { kind, registers, stack, executable, stderr, refused_memory, backtrace }))
    }

    /// Adds what else is known of the call: the end of what it printed to standard error, with `true` if the beginning is
    /// missing, and the guest's memory in bytes, if it was refused more.
    pub(crate) fn add_circumstances(&mut self, stderr: (&[u8], bool), refused_memory: Option<u64>) {
        if let Some(details) = Arc::get_mut(&mut self.0) {
            details.stderr = last_text(stderr);
            details.refused_memory = refused_memory;
        }
    }

    /// What the guest did.
    pub fn kind(&self) -> &FaultKind {
        &self.0.kind
    }

    /// The registers at the instruction that did it; after a system call, at the instruction behind it.
    pub fn registers(&self) -> &Registers {
        &self.0.registers
    }

    /// The calls that led there, with the names and source lines that the image has. They are read from the image the first
    /// time, which takes milliseconds.
    pub fn backtrace(&self) -> &Backtrace {
        self.0.backtrace.get_or_init(|| self.symbols().name(&self.0.stack))
    }

    /// Where in the image the accessed address lies, if it does.
    pub fn place(&self) -> Option<ImagePlace> {
        self.symbols().place(self.0.kind.address()?)
    }

    /// The last 4 KiB of what the guest printed to standard error in the call that it ended in, wherever its
    /// [`Output`](crate::Output) goes. What is not UTF-8 is replaced by U+FFFD. The text is the guest's and untrusted,
    /// control characters included.
    pub fn stderr(&self) -> &str {
        &self.0.stderr
    }

    /// The guest's memory in bytes, if it was refused more in the call that it ended in.
    /// [`Builder::memory_limit`](crate::Builder::memory_limit) sets it.
    ///
    /// It need not have ended because of that: if it did, the kind is [`FaultKind::OutOfMemory`].
    pub fn refused_memory(&self) -> Option<u64> {
        self.0.refused_memory
    }

    fn symbols(&self) -> Symbols<'_> {
        Symbols::new(self.0.executable.file(), self.0.executable.bias())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.kind.fmt(f)?;
        if let Some(place) = self.place() {
            write!(f, " ({place})")?;
        }
        if let (Some(limit), false) = (self.0.refused_memory, matches!(self.0.kind, FaultKind::OutOfMemory { .. })) {
            write!(f, "; before that it was refused more memory than its {limit} bytes (`Builder::memory_limit`)")?;
        }
        f.write_str("\n")?;
        self.backtrace().fmt(f)?;
        if self.0.kind.is_own_decision() && !self.0.stderr.is_empty() {
            f.write_str("\n  it last printed to standard error:")?;
            let lines: Vec<&str> = self.0.stderr.lines().collect();
            for line in &lines[lines.len().saturating_sub(SHOWN_LINES)..] {
                write!(f, "\n    | {}", printable_line(line))?;
            }
        }
        Ok(())
    }
}

/// The end of a text, from the start of a character on.
fn last_text((bytes, is_cut): (&[u8], bool)) -> String {
    let is_continuation = |byte: &u8| byte & 0b1100_0000 == 0b1000_0000;
    let cut = if is_cut { bytes.iter().take(3).take_while(|byte| is_continuation(byte)).count() } else { 0 };
    String::from_utf8_lossy(&bytes[cut..]).into_owned()
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fault")
            .field("kind", &self.0.kind)
            .field("registers", &self.0.registers)
            .field("stderr", &self.0.stderr)
            .field("refused_memory", &self.0.refused_memory)
            .finish_non_exhaustive()
    }
}

impl std::error::Error for Fault {}

/// How many lines of standard error a fault shows at most.
const SHOWN_LINES: usize = 10;
