//! Whether Rust's standard output holds text back, found out without writing memory.
//!
//! The stream cannot be asked: that takes its lock, and a page that every call writes is one that every restore writes back.
//! So its state is looked at from outside. It lies in this program's data, and its words are the same whenever nothing is
//! held back. The standard library does not promise that, so it is [tried](HeldText::examine) before it is relied on. Where
//! it turns out otherwise, the stream is flushed after every call, which costs a page and is right all the same.

use std::cell::Cell;
use std::hint;
use std::io::{self, Stdout, StdoutLock, Write};
use std::mem::{self, MaybeUninit};
use std::ptr;

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
        // Where there are more threads, in tests, none of them can print the trial's text or lose its own in the trial.
        let mut stream = io::stdout().lock();
        // Nobody is left to be told of an error, here and below.
        let _ = stream.flush();
        let is_shown = State::present().is_some_and(|locked| shows(&mut stream, &locked));
        drop(stream);
        Self { idle: if is_shown { State::present() } else { None } }
    }

    /// Prints what the stream holds back.
    pub(super) fn flush(&self) {
        if !self.idle.as_ref().is_some_and(State::is_present) {
            let _ = io::stdout().flush();
        }
    }
}

/// Whether a text changes this state of the stream, which holds nothing back, and its end changes it back.
fn shows(stream: &mut StdoutLock<'_>, empty: &State) -> bool {
    IS_TRIAL.set(true);
    let is_shown = matches!(stream.write(b"?"), Ok(1)) && !empty.is_present();
    let _ = stream.flush();
    IS_TRIAL.set(false);
    is_shown && empty.is_present()
}

/// Whether what is being written is the trial's, and nothing to print.
pub(super) fn is_trial() -> bool {
    IS_TRIAL.get()
}

impl State {
    /// The present state, if the handle is nothing but a pointer into this program's data.
    fn present() -> Option<Self> {
        let stream = io::stdout();
        if size_of::<Stdout>() != size_of::<usize>() {
            return None;
        }
        // SAFETY: the handle is as large as a pointer, so it has no room for anything beside one word, which is checked
        // before it is used as a pointer.
        let at = unsafe { mem::transmute_copy::<Stdout, *const Bytes>(&stream) };
        let program = (&raw const __executable_start).addr()..(&raw const _end).addr();
        if !program.contains(&at.addr()) || !program.contains(&(at.addr() + LEN - 1)) {
            return None;
        }
        // The compiler is not to know what lies there: neither where the stream's state ends, nor that some bytes between its
        // fields have no value. So it reads what the memory has.
        let at = hint::black_box(at);
        // SAFETY: all of it lies in the program's data, whatever type it has, and no other thread writes there: a guest has
        // only one.
        Some(Self { at, bytes: unsafe { at.read() } })
    }

    /// Whether the stream's state is this one.
    fn is_present(&self) -> bool {
        let (now, before) = hint::black_box((self.at, ptr::from_ref(&self.bytes)));
        // SAFETY: as for `present`, which has found the place.
        unsafe { libc::memcmp(now.cast(), before.cast(), LEN) == 0 }
    }
}

unsafe extern "C" {
    // Where the program's image begins and ends, by the linker.
    static __executable_start: u8;
    static _end: u8;
}

thread_local! {
    /// Other threads, which only tests have, go on printing.
    static IS_TRIAL: Cell<bool> = const { Cell::new(false) };
}

/// Bytes of the stream's state that are looked at: its lock with the thread that holds it and how often, its borrow, its
/// buffer's place, capacity and length, and whether writing it has panicked. With a standard library that has them elsewhere
/// the trial fails.
const LEN: usize = 7 * size_of::<usize>();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_standard_library_in_use_shows_whether_text_is_held_back() {
        // The test's harness prints too, in another thread.
        let mut stream = io::stdout().lock();
        let held = HeldText::examine();
        let idle = held.idle.as_ref().expect("the state shows it");
        stream.write_all(b"no line end").unwrap();
        assert!(!idle.is_present());
        held.flush();
        assert!(idle.is_present());
    }
}
