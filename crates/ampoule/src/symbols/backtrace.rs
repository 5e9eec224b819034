//! Backtraces as people read them.

use std::fmt;

/// The calls that led a guest to where it is, innermost first.
///
/// `{}` leaves out the frames of the start-up code and of the guest library's loop that waits for calls; `{:#}` shows all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Backtrace {
    frames: Vec<Frame>,
    truncated: bool,
}

/// A call in a [`Backtrace`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Frame {
    /// Address of the instruction; in callers, of the one that the call will return to.
    pub address: u64,
    /// Where the instruction lies in the image, if it does. Not where the guest made the code itself.
    pub place: Option<ImagePlace>,
    /// The function, if the image has symbols or debug information for it.
    pub function: Option<String>,
    /// The source file, if the image has debug information; relative to where the compiler ran if it is below.
    pub file: Option<String>,
    /// The line in the file, counted from 1.
    pub line: Option<u32>,
    /// Whether the compiler has put the function into the next frame's one, so that both have the same address.
    pub inlined: bool,
}

/// A place in a guest's image.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImagePlace {
    /// The section, if it is in one: `.text`, `.rodata`, `.bss`.
    pub section: Option<String>,
    /// Bytes from where the image begins in the guest's memory.
    pub offset: u64,
}

impl Backtrace {
    pub(super) fn new(frames: Vec<Frame>, truncated: bool) -> Self {
        Self { frames, truncated }
    }

    /// The frames, innermost first. What the compiler inlined has frames of its own.
    #[must_use]
    pub fn frames(&self) -> &[Frame] {
        &self.frames
    }

    /// Whether there are callers beyond the last frame that were not looked at.
    #[must_use]
    pub fn is_truncated(&self) -> bool {
        self.truncated
    }

    /// The frames without those below the function that the guest was called for; all, if nothing would be left.
    fn short(&self) -> &[Frame] {
        let is = |frame: &Frame, names: &[&str]| {
            frame.function.as_ref().is_some_and(|function| names.iter().any(|name| function.starts_with(name)))
        };
        let entry = self.frames.iter().position(|frame| is(frame, &ENTRIES));
        let called = &self.frames[..entry.unwrap_or(self.frames.len())];
        let glue = called.iter().rev().take_while(|frame| entry.is_some() && is(frame, &GLUE)).count();
        match &called[..called.len() - glue] {
            [] => &self.frames,
            frames => frames,
        }
    }
}

impl fmt::Display for Backtrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let frames = if f.alternate() { &self.frames[..] } else { self.short() };
        for (index, frame) in frames.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{index:>5}: {frame}")?;
        }
        if self.truncated && frames.len() == self.frames.len() {
            write!(f, "\n       … and its callers, which are too many to show")?;
        }
        Ok(())
    }
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, place, function, file, line, .. } = self;
        f.write_str(function.as_deref().unwrap_or("<unknown>"))?;
        match (file, line, place) {
            (Some(file), Some(line), _) => write!(f, "  {file}:{line}"),
            (Some(file), None, _) => write!(f, "  {file}"),
            (None, _, Some(place)) => write!(f, "  {place}"),
            (None, _, None) => write!(f, "  {address:#x}"),
        }
    }
}

impl fmt::Display for ImagePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(section) = &self.section {
            write!(f, "{section} of ")?;
        }
        write!(f, "guest+{:#x}", self.offset)
    }
}

/// Where a guest comes from when it calls its own functions: the guest library, Rust's runtime, the C library's.
const ENTRIES: [&str; 5] = [
    "ampoule_guest::rt::serve::",
    "std::rt::",
    "std::sys::backtrace::__rust_begin_short_backtrace",
    "__libc_start",
    "_start",
];

/// What stands between the guest library and the function that it calls.
const GLUE: [&str; 7] = [
    "ampoule_guest::rt::",
    "std::panic::catch_unwind",
    "std::panicking::",
    "__rust_try",
    "core::ops::function::",
    "<core::panic::unwind_safe::",
    "<alloc::boxed::Box<",
];
