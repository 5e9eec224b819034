//! Whether Rust's standard output holds text back, found out without writing memory.
//!
//! The stream cannot be asked: that takes its lock, and a page that every call writes is one that every restore writes back. So
//! its state is looked at from outside. It lies in this program's data, and its words are the same whenever nothing is held
//! back. The standard library does not promise that, so it is [tried](HeldText::examine) before it is relied on. Where it turns
//! out otherwise, the stream is flushed after every call, which costs a page and is right all the same.

use std::io::{self, Stdout, Write};
use std::mem::{self, MaybeUninit};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

/// The state of Rust's standard output while it holds nothing back.
#[derive(Debug)]
pub(super) struct HeldText {
    idle: Option<State>,
}

#[derive(Debug)]
struct State {
    at: *const Bytes,
    bytes: Bytes,
}

/// Not all bytes of a value need be initialized.
type Bytes = [MaybeUninit<u8>; LEN];

impl HeldText {
    /// Flushes the stream, and finds out whether its state shows that it holds something back.
    pub(super) fn examine() -> Self {
        let mut stream = io::stdout();
        // Nobody is left to be told of an error, here and below.
        let _ = stream.flush();
        let Some(idle) = State::of(&stream) else { return Self { idle: None } };
        IS_TRIAL.store(true, Ordering::Relaxed);
        let is_shown = matches!(stream.write(b"?"), Ok(1)) && !idle.is_present();
        let _ = stream.flush();
        IS_TRIAL.store(false, Ordering::Relaxed);
        Self { idle: (is_shown && idle.is_present()).then_some(idle) }
    }

    /// Prints what the stream holds back.
    pub(super) fn flush(&self) {
        if !self.idle.as_ref().is_some_and(State::is_present) {
            let _ = io::stdout().flush();
        }
    }
}

/// Whether what is being written is the trial's, and nothing to print.
pub(super) fn is_trial() -> bool {
    IS_TRIAL.load(Ordering::Relaxed)
}

impl State {
    /// The present state, if the handle is nothing but a pointer into this program's data.
    fn of(stream: &Stdout) -> Option<Self> {
        if size_of::<Stdout>() != size_of::<usize>() {
            return None;
        }
        // SAFETY: the handle is as large as a pointer, so it has no room for anything beside one word, which is checked before it
        // is used as a pointer.
        let at = unsafe { mem::transmute_copy::<Stdout, *const Bytes>(stream) };
        let program = (&raw const __executable_start).addr()..(&raw const _end).addr();
        if !program.contains(&at.addr()) || !program.contains(&(at.addr() + LEN - 1)) {
            return None;
        }
        // SAFETY: all of it lies in the program's data, whatever type it has, and no other thread writes there.
        Some(Self { at, bytes: unsafe { at.read() } })
    }

    /// Whether the stream's state is this one.
    fn is_present(&self) -> bool {
        // SAFETY: as for `of`, which has found the place.
        unsafe { libc::memcmp(self.at.cast(), ptr::from_ref(&self.bytes).cast(), LEN) == 0 }
    }
}

unsafe extern "C" {
    // Where the program's image begins and ends, by the linker.
    static __executable_start: u8;
    static _end: u8;
}

static IS_TRIAL: AtomicBool = AtomicBool::new(false);

/// Bytes of the stream's state that are looked at: its lock with the thread that holds it, its borrow, and its buffer's place,
/// capacity and length.
const LEN: usize = 7 * size_of::<usize>();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_standard_library_in_use_shows_whether_text_is_held_back() {
        let held = HeldText::examine();
        let idle = held.idle.as_ref().expect("the state shows it");
        io::stdout().write_all(b"no line end").unwrap();
        assert!(!idle.is_present());
        held.flush();
        assert!(idle.is_present());
    }
}
