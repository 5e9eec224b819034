//! Faults: how a guest ended itself, and where.

mod kind;
mod panic;
mod position;

use std::fmt;
use std::sync::Arc;

use ampoule_symbols::{Backtrace, ImagePlace};
use ampoule_vmm::Registers;

use crate::guest_text;

pub use ampoule_vmm::FaultAccess;
pub use kind::{EndlessWait, FaultKind, FaultTarget};
use kind::{SignalName, Size};
pub use panic::GuestPanic;
pub use position::Position;

/// How a guest ended itself: what it did, with which registers, the calls that led there, and what it had printed to standard
/// error.
///
/// `{}` is one line: what it did, in which function of the guest's own code, what that usually is, and, where the guest ended by
/// its own decision, the last line that it printed to standard error. `{:#}` goes on with the backtrace, the registers, and the
/// last lines of standard error.
#[derive(Clone)]
pub struct Fault(Arc<Details>);

struct Details {
    kind: FaultKind,
    position: Position,
    stderr: String,
    refused_memory: Option<u64>,
    /// The signal with which the guest has ended itself when it handled the fault.
    ended_by: Option<i32>,
}

impl Fault {
    /// A fault of code at this position.
    pub(crate) fn new(kind: FaultKind, position: Position) -> Self {
        Self(Arc::new(Details { kind, position, stderr: String::new(), refused_memory: None, ended_by: None }))
    }

    /// Adds what else is known of the call: the end of what it printed to standard error, with `true` if the beginning is
    /// missing; and the guest's memory in bytes, if it was refused more.
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

    /// Where in its code it did that; after a system call, the instruction behind it.
    pub fn position(&self) -> &Position {
        &self.0.position
    }

    /// The registers at [that instruction](Self::position).
    pub fn registers(&self) -> &Registers {
        self.0.position.registers()
    }

    /// The calls that led there; see [`Position::backtrace`].
    pub fn backtrace(&self) -> &Backtrace {
        self.0.position.backtrace()
    }

    /// Where in the image the accessed address lies, if it does.
    pub fn place(&self) -> Option<ImagePlace> {
        self.0.position.place(self.0.kind.address()?)
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

    /// The same fault, in whose handler the guest has ended itself with this signal.
    pub(crate) fn ended_by(self, signal: i32) -> Self {
        let Details { kind, position, .. } = &*self.0;
        let (kind, position) = (kind.clone(), position.clone());
        let ended_by = Some(signal);
        Self(Arc::new(Details { kind, position, stderr: String::new(), refused_memory: None, ended_by }))
    }

    /// The Linux number of the signal with which the guest has ended itself when it handled the fault, if it did so.
    pub fn ending_signal(&self) -> Option<i32> {
        self.0.ended_by
    }

    /// What happened, in one line.
    pub(crate) fn summary(&self) -> impl fmt::Display {
        fmt::from_fn(|f| self.fmt_summary(f))
    }

    fn fmt_summary(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Details { kind, position, refused_memory, .. } = &*self.0;
        write!(f, "{}", kind.what())?;
        if let Some(place) = self.place() {
            write!(f, " ({place})")?;
        }
        write!(f, " in {position}")?;
        if let Some(hint) = kind.hint() {
            write!(f, "; {hint}")?;
        }
        if let (Some(limit), false) = (refused_memory, matches!(kind, FaultKind::OutOfMemory { .. })) {
            write!(f, "; before that it was refused more memory than its {} (`Builder::memory_limit`)", Size(*limit))?;
        }
        if let Some(signal) = self.0.ended_by {
            write!(f, "; its handler of that ended it with {}", SignalName(signal))?;
        }
        if let Some(line) = self.last_words().last() {
            write!(f, "; it last printed to standard error: {}", guest_text::line(line))?;
        }
        Ok(())
    }

    /// What is to be known beyond the [summary](Self::summary), in lines of its own that begin with a line end.
    pub(crate) fn details(&self) -> impl fmt::Display {
        fmt::from_fn(|f| {
            write!(f, "\n{:#}", self.0.position)?;
            f.write_str("\n  registers:")?;
            for row in self.registers().to_string().lines() {
                write!(f, "\n    {row}")?;
            }
            let lines: Vec<&str> = self.last_words().collect();
            if !lines.is_empty() {
                f.write_str("\n  it last printed to standard error:")?;
            }
            for line in &lines[lines.len().saturating_sub(SHOWN_LINES)..] {
                write!(f, "\n    | {}", guest_text::line(line))?;
            }
            Ok(())
        })
    }

    /// The lines of standard error, where they may say why the guest ended.
    fn last_words(&self) -> impl Iterator<Item = &str> {
        let stderr = if self.0.kind.is_own_decision() { &*self.0.stderr } else { "" };
        stderr.lines().filter(|line| !line.trim().is_empty() && !line.starts_with(BACKTRACE_NOTE))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_summary(f)?;
        if f.alternate() { write!(f, "{}", self.details()) } else { Ok(()) }
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
            .field("kind", &format_args!("{}", self.0.kind))
            .field("position", &self.0.position)
            .field("stderr", &guest_text::quoted(&self.0.stderr))
            .field("refused_memory", &self.0.refused_memory)
            .field("ended_by", &self.0.ended_by)
            .finish()
    }
}

impl std::error::Error for Fault {}

/// How a note of Rust's standard library begins that stands behind a panic and a refused allocation, and says nothing of them
/// (`library/std/src/panicking.rs` and `alloc.rs`, 1.95).
const BACKTRACE_NOTE: &str = "note: run with `RUST_BACKTRACE=1`";

/// How many lines of standard error a fault shows at most.
const SHOWN_LINES: usize = 10;

#[cfg(test)]
mod tests;
