//! Faults: how a guest ended itself, and where.

mod kind;
mod panic;

use std::fmt;
use std::sync::{Arc, OnceLock};

use ampoule_symbols::{Backtrace, CallStack, ImagePlace, Symbols};
use ampoule_vmm::Registers;

use crate::image::Image;
use crate::loader;

pub use ampoule_vmm::FaultAccess;
pub use kind::{EndlessWait, FaultKind, FaultTarget};
pub use panic::GuestPanic;

/// How a guest ended itself: what it did, with which registers, and the calls that led there.
///
/// `{}` shows all of that but the registers, like a good panic; `{:#}` shows the whole backtrace.
#[derive(Clone)]
pub struct Fault(Arc<Details>);

struct Details {
    kind: FaultKind,
    registers: Registers,
    stack: CallStack,
    image: Image,
    /// Made when it is first asked for, since that means to read debug information.
    backtrace: OnceLock<Backtrace>,
}

impl Fault {
    /// A fault of code that stood at these registers, with the stack that they lead to.
    pub(crate) fn new(kind: FaultKind, registers: Registers, stack: CallStack, image: Image) -> Self {
        Self(Arc::new(Details { kind, registers, stack, image, backtrace: OnceLock::new() }))
    }

    /// What the guest did.
    pub fn kind(&self) -> &FaultKind {
        &self.0.kind
    }

    /// The registers at the instruction that did it; after a system call, at the one behind it.
    pub fn registers(&self) -> &Registers {
        &self.0.registers
    }

    /// The calls that led there, with the names and source lines that the image has. They are read from the image at the
    /// first time, which takes milliseconds.
    pub fn backtrace(&self) -> &Backtrace {
        self.0.backtrace.get_or_init(|| self.symbols().name(&self.0.stack))
    }

    /// Where in the image the address lies that was touched, if it does.
    pub fn place(&self) -> Option<ImagePlace> {
        self.symbols().place(self.0.kind.address()?)
    }

    fn symbols(&self) -> Symbols<'_> {
        Symbols::new(self.0.image.file(), loader::bias(&self.0.image))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.kind.fmt(f)?;
        if let Some(place) = self.place() {
            write!(f, " ({place})")?;
        }
        f.write_str("\n")?;
        self.backtrace().fmt(f)
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fault")
            .field("kind", &self.0.kind)
            .field("registers", &self.0.registers)
            .finish_non_exhaustive()
    }
}

impl std::error::Error for Fault {}
