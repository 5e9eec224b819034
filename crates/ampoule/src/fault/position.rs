//! Where in its code a guest was.

use std::fmt;
use std::sync::{Arc, OnceLock};

use ampoule_symbols::{Backtrace, CallStack, ImagePlace, Symbols};
use ampoule_vmm::Registers;

use crate::image::Executable;
use crate::libraries::Libraries;

/// Where in its code a guest was: the registers, and the calls that led there.
///
/// `{}` is the innermost call of the guest's own code, `{:#}` all calls without those of the guest library and the start-up
/// code.
#[derive(Clone)]
pub struct Position(Arc<Details>);

struct Details {
    registers: Registers,
    stack: CallStack,
    executable: Executable,
    libraries: Libraries,
    /// Made when it is first asked for, since that means reading debug information.
    backtrace: OnceLock<Backtrace>,
}

impl Position {
    /// That of code with these registers, with the stack that they lead to through these images.
    pub(crate) fn new(
        registers: Registers,
        stack: CallStack,
        (executable, libraries): (Executable, Libraries),
    ) -> Self {
        Self(Arc::new(Details { registers, stack, executable, libraries, backtrace: OnceLock::new() }))
    }

    /// The registers at that instruction.
    pub fn registers(&self) -> &Registers {
        &self.0.registers
    }

    /// The calls that led there, with the names and source lines that the image and its libraries have. They are read the first
    /// time, which takes milliseconds unless they were read before for another error.
    pub fn backtrace(&self) -> &Backtrace {
        let Details { stack, executable, libraries, backtrace, .. } = &*self.0;
        backtrace.get_or_init(|| libraries.images(executable).name(stack))
    }

    /// Whether the guest was in a function that can be named.
    pub(crate) fn is_known(&self) -> bool {
        self.backtrace().own_frame().is_some()
    }

    /// Where an address lies in the image, if it does.
    pub(super) fn place(&self, address: u64) -> Option<ImagePlace> {
        Symbols::new(self.0.executable.file(), self.0.executable.bias()).place(address)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let backtrace = self.backtrace();
        if f.alternate() {
            return write!(f, "{backtrace}");
        }
        let Some(frame) = backtrace.own_frame().or(backtrace.frames().first()) else {
            return f.write_str("no known place");
        };
        match &frame.function {
            Some(function) => write!(f, "`{function}`")?,
            None => f.write_str("code without a name")?,
        }
        match (&frame.file, frame.line, &frame.place) {
            (Some(file), Some(line), _) => write!(f, " at {file}:{line}"),
            (Some(file), None, _) => write!(f, " in {file}"),
            (None, _, Some(place)) => write!(f, " at {place}"),
            (None, _, None) => write!(f, " at {:#x}", frame.address),
        }
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Position")
            .field("at", &format_args!("{self}"))
            .field("registers", &self.0.registers)
            .finish_non_exhaustive()
    }
}
