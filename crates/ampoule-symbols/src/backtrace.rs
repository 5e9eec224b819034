//! Backtraces as people read them.

use std::fmt;

use crate::Omission;

/// The calls that led a guest to where it is, innermost first.
///
/// `{}` leaves out the frames of the start-up code and of the guest library, which calls the guest's functions and which they
/// call; `{:#}` shows all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Backtrace {
    frames: Vec<Frame>,
    truncated: bool,
    omission: Option<Omission>,
}

/// A call in a [`Backtrace`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Frame {
    /// Address of the instruction; in callers, of the one that the call will return to.
    pub address: u64,
    /// Where the instruction lies in the image or a library, if it does. Not where the guest made the code itself.
    pub place: Option<ImagePlace>,
    /// The function, if the image has symbols or debug information for it. An exported function of which the compiler has left
    /// nothing but the code that calls it for the host has that code's frame.
    pub function: Option<String>,
    /// The source file, if the image has debug information. Relative to where the compiler ran if it is below; files of Rust's
    /// standard library begin with `library/`, and those of a crate from a registry with its name and version.
    pub file: Option<String>,
    /// The line in the file, counted from 1.
    pub line: Option<u32>,
    /// Whether the compiler has put the function into the next frame's one, so that both have the same address.
    pub inlined: bool,
}

/// A place in a guest's image, or in a library that the guest has mapped.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImagePlace {
    /// The name of the library's file, where it is not the image.
    pub library: Option<String>,
    /// The section, if it is in one: `.text`, `.rodata`, `.bss`.
    pub section: Option<String>,
    /// Bytes from where the image begins in the guest's memory.
    pub offset: u64,
}

impl Backtrace {
    /// These frames, of which the first are kept.
    pub(super) fn of_frames(mut frames: Vec<Frame>, truncated: bool, omission: Option<Omission>) -> Self {
        let is_cut = frames.len() > MAX_FRAMES;
        frames.truncate(MAX_FRAMES);
        Self::new(frames, truncated || is_cut, omission)
    }

    fn new(mut frames: Vec<Frame>, truncated: bool, omission: Option<Omission>) -> Self {
        name_exports(&mut frames);
        Self { frames, truncated, omission }
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

    /// Why names or lines that the image has are not here, if so.
    #[must_use]
    pub fn omission(&self) -> Option<Omission> {
        self.omission
    }

    /// The innermost call of the guest's own code: neither of the guest library, nor of Rust's standard library, nor of what
    /// starts a program. Where some of that has source lines, the innermost that has; so a C library's function without them
    /// gives way to its caller. `None` where nothing of the guest's own is known.
    #[must_use]
    pub fn own_frame(&self) -> Option<&Frame> {
        let own = || self.own().iter().filter(|frame| frame.function.is_some() && !STANDARD_LIBRARY.holds(frame));
        own().find(|frame| frame.line.is_some()).or_else(|| own().next())
    }

    /// The frames without those of the guest library and the start-up code, at both ends; all, if nothing would be left.
    fn short(&self) -> &[Frame] {
        match self.own() {
            [] => &self.frames,
            frames => frames,
        }
    }

    fn own(&self) -> &[Frame] {
        let entry = self.frames.iter().position(|frame| ENTRY.holds(frame));
        let called = &self.frames[..entry.unwrap_or(self.frames.len())];
        let glue =
            called.iter().rev().take_while(|frame| entry.is_some() && (GLUE.holds(frame) || frame.is_shim())).count();
        let called = &called[..called.len() - glue];
        // Where the guest waits for the host, the library has been called, and has called the host's code.
        let is_waiting = |frame: &&Frame| GUEST_LIBRARY.holds(frame) || frame.place.is_none();
        let waiting = called.iter().take_while(is_waiting).count();
        let library = called[..waiting].iter().rposition(|frame| GUEST_LIBRARY.holds(frame));
        &called[library.map_or(0, |last| last + 1)..]
    }
}

impl fmt::Display for Backtrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let frames = if f.alternate() { &self.frames[..] } else { self.short() };
        let mut index = 0;
        for run in frames.chunk_by(Frame::reads_like) {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{index:>5}: {}", run[0])?;
            if run.len() > 1 {
                write!(f, "\n       … and {} more like this", run.len() - 1)?;
            }
            index += run.len();
        }
        if self.truncated && frames.len() == self.frames.len() {
            write!(f, "\n       … and its callers, which are too many to show")?;
        }
        if let Some(omission) = self.omission {
            write!(f, "\n       … {omission}")?;
        }
        Ok(())
    }
}

impl Frame {
    /// Whether both are the same place in the source, as the turns of a recursion are.
    fn reads_like(&self, other: &Self) -> bool {
        self.function.is_some()
            && self.function == other.function
            && (&self.file, self.line) == (&other.file, other.line)
    }

    /// Whether it is the code that `#[export]` puts between the guest library and the function.
    fn is_shim(&self) -> bool {
        self.function.as_ref().is_some_and(|function| exported_by(function).is_some())
    }

    /// Whether it can be the function with this path. Debug information may have its last part only.
    fn is_called(&self, path: &str) -> bool {
        let name = path.rsplit("::").next();
        self.function.as_deref().is_some_and(|function| function == path || Some(function) == name)
    }
}

/// Gives the frames of shims the names of the exported functions that were inlined into them without a trace.
fn name_exports(frames: &mut [Frame]) {
    for index in 0..frames.len() {
        let Some(exported) = frames[index].function.as_deref().and_then(exported_by) else { continue };
        if !index.checked_sub(1).is_some_and(|callee| frames[callee].is_called(&exported)) {
            frames[index].function = Some(exported);
        }
    }
}

/// The path of the exported function that is called by the shim with this path, which lies in a constant without a name.
fn exported_by(shim: &str) -> Option<String> {
    let (scope, name) = shim.rsplit_once("::").unwrap_or(("", shim));
    let name = name.strip_prefix(SHIM)?;
    let scope = scope.strip_suffix('_').unwrap_or(scope);
    Some(format!("{scope}{name}"))
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
        write!(f, "{}+{:#x}", self.library.as_deref().unwrap_or("guest"), self.offset)
    }
}

/// Code that is known by the start of its functions' names or, where a compiler leaves the names short, by its files.
struct Origin {
    functions: &'static [&'static str],
    /// A directory, whose name may go on with a version, and the end of the path.
    files: &'static [(&'static str, &'static str)],
}

impl Origin {
    fn holds(&self, frame: &Frame) -> bool {
        let starts = |function: &String| self.functions.iter().any(|name| function.starts_with(name));
        let has = |file: &String| self.files.iter().any(|(dir, end)| file.contains(dir) && file.ends_with(end));
        frame.function.as_ref().is_some_and(starts) || frame.file.as_ref().is_some_and(has)
    }
}

/// The most frames of a backtrace, inlined ones included.
const MAX_FRAMES: usize = 256;

/// How the name of a shim begins; the function's follows (`ampoule-macros`).
const SHIM: &str = "__ampoule_shim_";

/// What calls a guest's own functions: the guest library, Rust's runtime, the C library's.
const ENTRY: Origin = Origin {
    functions: &["ampoule_guest::rt::serve::", "std::rt::", "__libc_start", "_start"],
    files: &[("ampoule-guest", "/src/rt/serve.rs"), ("library/", "std/src/rt.rs")],
};

/// The guest library, whose functions call the host.
const GUEST_LIBRARY: Origin = Origin {
    functions: &["ampoule_guest::", "<ampoule_guest::"],
    files: &[
        ("ampoule-guest", "/src/rt/host_call.rs"),
        ("ampoule-guest", "/src/rt/mailbox.rs"),
        ("ampoule-guest", "/src/rt/output.rs"),
    ],
};

/// Rust's standard library.
const STANDARD_LIBRARY: Origin = Origin {
    functions: &["std::", "core::", "alloc::", "<std::", "<core::", "<alloc::", "__rust", "rust_begin_unwind"],
    files: &[("library/", ".rs")],
};

/// What stands between them and the functions that they call.
const GLUE: Origin = Origin {
    functions: &["std::panic::", "std::panicking::", "std::sys::backtrace::__rust_begin_short_backtrace", "__rust_try"],
    files: &[
        ("library/", "std/src/panic.rs"),
        ("library/", "std/src/panicking.rs"),
        ("library/", "core/src/panic/unwind_safe.rs"),
        ("library/", "core/src/ops/function.rs"),
    ],
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_read_like_those_of_a_panic() {
        let named = frame("decode::huffman::build", "decode/src/huffman.rs", 88);
        let place = Some(ImagePlace { library: None, section: Some(".text".into()), offset: 0x1a000 });
        let bare = Frame { address: 0x41_a000, place, function: None, file: None, line: None, inlined: false };
        let made_at_run_time = Frame { place: None, ..bare.clone() };
        assert_eq!(
            Backtrace::new(vec![named, bare, made_at_run_time], true, None).to_string(),
            "    0: decode::huffman::build  decode/src/huffman.rs:88
    1: <unknown>  .text of guest+0x1a000
    2: <unknown>  0x41a000
       … and its callers, which are too many to show"
        );
    }

    #[test]
    fn the_short_form_ends_with_the_function_that_was_called() {
        let backtrace = Backtrace::new(guest_called("ampoule_guest::rt::serve::respond"), false, None);
        assert_eq!(
            backtrace.to_string(),
            "    0: decode::huffman::build  decode/src/huffman.rs:88\n    1: guest::thumbnail  src/main.rs:9"
        );
        assert_eq!(format!("{backtrace:#}").lines().count(), backtrace.frames().len());
    }

    #[test]
    fn the_turns_of_a_recursion_are_folded() {
        let turn = frame("guest::recurse", "src/main.rs", 3);
        let frames = vec![frame("guest::leaf", "src/main.rs", 9), turn.clone(), turn.clone(), turn];
        assert_eq!(
            Backtrace::new(frames, false, None).to_string(),
            "    0: guest::leaf  src/main.rs:9
    1: guest::recurse  src/main.rs:3
       … and 2 more like this"
        );
    }

    #[test]
    fn the_guest_library_is_known_by_its_files_where_names_are_short() {
        let backtrace = Backtrace::new(guest_called("respond"), false, None);
        assert_eq!(backtrace.to_string().lines().count(), 2);
    }

    #[test]
    fn the_own_frame_is_the_innermost_of_the_guests_code_that_has_a_line() {
        let own = |frames: Vec<Frame>| Backtrace::new(frames, false, None).own_frame().cloned();
        let name = |frames| own(frames).and_then(|frame| frame.function);
        assert_eq!(name(guest_called("respond")).as_deref(), Some("decode::huffman::build"));

        let mut frames = guest_called("respond");
        frames.insert(0, frame("core::slice::copy", "library/core/src/slice.rs", 3));
        frames.insert(0, Frame { file: None, line: None, ..frame("memcpy", "", 0) });
        assert_eq!(name(frames.clone()).as_deref(), Some("decode::huffman::build"));
        frames.iter_mut().for_each(|frame| (frame.file, frame.line) = (None, None));
        assert_eq!(name(frames).as_deref(), Some("memcpy"), "no lines at all");

        assert_eq!(own(guest_called("ampoule_guest::rt::serve::respond").split_off(3)), None);
        assert_eq!(own(Vec::new()), None);
    }

    #[test]
    fn a_guest_that_waits_for_the_host_is_where_it_called_the_library() {
        let mut frames = guest_called("ampoule_guest::rt::serve::respond");
        frames.insert(0, frame("ampoule_guest::rt::host_call::call", "/src/ampoule-guest/src/rt/host_call.rs", 9));
        frames.insert(0, Frame { place: None, function: None, file: None, line: None, ..frame("", "", 0) });
        let backtrace = Backtrace::new(frames, false, None);
        assert!(backtrace.to_string().starts_with("    0: decode::huffman::build"), "{backtrace}");
        assert_eq!(backtrace.own_frame(), backtrace.frames().get(2));
    }

    #[test]
    fn a_fault_of_the_runtime_itself_is_shown_whole() {
        let frames = guest_called("ampoule_guest::rt::serve::respond").split_off(3);
        assert_eq!(Backtrace::new(frames, false, None).to_string().lines().count(), 3);
    }

    #[test]
    fn an_exported_function_that_was_inlined_without_a_trace_is_named_by_its_shim() {
        let called = |shim: &str| {
            let mut frames = guest_called("ampoule_guest::rt::serve::respond");
            frames[1] = Frame { file: None, line: None, ..frame(shim, "", 0) };
            Backtrace::new(frames, false, None)
        };
        let backtrace = called("guest::album::_::__ampoule_shim_thumbnail");
        assert_eq!(backtrace.frames()[1].function.as_deref(), Some("guest::album::thumbnail"));
        assert!(backtrace.to_string().lines().nth(1).is_some_and(|line| line.contains("guest::album::thumbnail")));
        let backtrace = called("__ampoule_shim_thumbnail");
        assert_eq!(backtrace.frames()[1].function.as_deref(), Some("thumbnail"));
    }

    #[test]
    fn the_shim_of_an_exported_function_that_is_there_is_not_shown() {
        for function in ["guest::thumbnail", "thumbnail"] {
            let mut frames = guest_called("ampoule_guest::rt::serve::respond");
            frames[1].function = Some(function.to_owned());
            frames.insert(2, frame("guest::_::__ampoule_shim_thumbnail", "src/main.rs", 8));
            let text = Backtrace::new(frames, false, None).to_string();
            assert!(text.ends_with(&format!("1: {function}  src/main.rs:9")), "{text}");
        }
    }

    fn guest_called(respond: &str) -> Vec<Frame> {
        vec![
            frame("decode::huffman::build", "decode/src/huffman.rs", 88),
            frame("guest::thumbnail", "src/main.rs", 9),
            frame("std::panicking::catch_unwind", "library/std/src/panicking.rs", 5),
            frame(respond, "/home/me/.cargo/ampoule-guest-0.1.0/src/rt/serve.rs", 90),
            frame("std::rt::lang_start", "library/std/src/rt.rs", 20),
            frame("_start", "start.S", 115),
        ]
    }

    fn frame(function: &str, file: &str, line: u32) -> Frame {
        let (function, file) = (Some(function.to_string()), Some(file.to_string()));
        Frame { address: 0x41_a000, place: None, function, file, line: Some(line), inlined: false }
    }
}
