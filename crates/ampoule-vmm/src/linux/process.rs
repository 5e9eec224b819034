//! Which process this is.
//!
//! A child that is forked has a copy of all objects, but what its parent shares with the kernel through them is still the
//! parent's: what the child writes there reaches the parent's virtual machines. So whoever shares something remembers the
//! [`Process`] in which that began, and looks whether this is still it.
//!
//! Processes are told apart by a word on a page that the kernel gives to every child filled with zeros. To look at it is no
//! system call, and safe in a signal handler. Process identifiers are not used: in a PID namespace of its own a child can have
//! its parent's.

use std::io;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use crate::address::PAGE_SIZE;

/// A process, as one that can be told from those it was forked from. A child that shares its parent's memory (`vfork`) is no
/// process of its own.
#[derive(Clone, Copy, Debug)]
pub struct Process {
    word: &'static AtomicU64,
    number: u64,
}

impl Process {
    /// This one.
    ///
    /// # Errors
    ///
    /// What the kernel reports when it has no memory for the page that tells processes apart.
    pub fn current() -> io::Result<Process> {
        let word = word()?;
        let number = match word.load(Ordering::Relaxed) {
            0 => number_process(word),
            number => number,
        };
        Ok(Process { word, number })
    }

    /// Whether this is the process, and no child that was forked from it. Safe in a signal handler.
    pub fn is_current(&self) -> bool {
        self.word.load(Ordering::Relaxed) == self.number
    }
}

/// A value that each process has for itself. A lock, above all: if another thread holds it when the process is forked, nobody
/// in the child ever releases it.
#[derive(Debug)]
pub(crate) struct PerProcess<T: 'static>(AtomicPtr<Own<T>>);

#[derive(Debug)]
struct Own<T> {
    process: Process,
    value: T,
}

impl<T: Send + Sync> PerProcess<T> {
    pub(crate) const fn new() -> PerProcess<T> {
        PerProcess(AtomicPtr::new(ptr::null_mut()))
    }

    /// This process's value. It is made when it is first asked for, out of the parent's if that has one; several threads may
    /// do so at the same time, and all but one make it for nothing.
    pub(crate) fn get(&self, make: impl FnOnce(Option<&T>) -> T) -> io::Result<&'static T> {
        let process = Process::current()?;
        let found = self.0.load(Ordering::Acquire);
        // SAFETY: the pointer is null or that of a value that is never freed.
        let own = unsafe { found.as_ref() };
        if let Some(own) = own
            && own.process.is_current()
        {
            return Ok(&own.value);
        }
        let made = Box::into_raw(Box::new(Own { process, value: make(own.map(|parents| &parents.value)) }));
        match self.0.compare_exchange(found, made, Ordering::AcqRel, Ordering::Acquire) {
            // SAFETY: `made` comes from a box, and is never freed from now on.
            Ok(_) => Ok(unsafe { &(*made).value }),
            Err(other) => {
                // SAFETY: `made` comes from a box, and nobody else has seen it.
                drop(unsafe { Box::from_raw(made) });
                // SAFETY: another thread of this process has put it there, and it is never freed.
                Ok(unsafe { &(*other).value })
            }
        }
    }
}

/// The word that tells this process from those it was forked from: 0 until it has got a number. It has the same address in
/// all of them.
fn word() -> io::Result<&'static AtomicU64> {
    static WORD: AtomicPtr<AtomicU64> = AtomicPtr::new(ptr::null_mut());
    // SAFETY: the pointer is null or that of a word that is never unmapped.
    if let Some(word) = unsafe { WORD.load(Ordering::Acquire).as_ref() } {
        return Ok(word);
    }
    let page = page_that_is_wiped_in_children()?;
    match WORD.compare_exchange(ptr::null_mut(), page, Ordering::AcqRel, Ordering::Acquire) {
        // SAFETY: the page is mapped, begins with zeros, which are a valid word, and is never unmapped from now on.
        Ok(_) => Ok(unsafe { &*page }),
        Err(other) => {
            // SAFETY: the page is ours, and nobody else has seen it.
            unsafe { libc::munmap(page.cast(), PAGE_SIZE) };
            // SAFETY: as above.
            Ok(unsafe { &*other })
        }
    }
}

/// Gives this process a number that none has from which it was forked.
fn number_process(word: &AtomicU64) -> u64 {
    /// The last number that this process or one of those has got. It is taken before it is given, so that no child is ever
    /// without one that its parent has.
    static LAST: AtomicU64 = AtomicU64::new(0);
    let number = LAST.fetch_add(1, Ordering::AcqRel) + 1;
    match word.compare_exchange(0, number, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => number,
        // Another thread was quicker.
        Err(other) => other,
    }
}

fn page_that_is_wiped_in_children() -> io::Result<*mut AtomicU64> {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping at an address that the kernel chooses touches no existing memory.
    let page = unsafe { libc::mmap(ptr::null_mut(), PAGE_SIZE, access, flags, -1, 0) };
    if page == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the page is ours.
    if unsafe { libc::madvise(page, PAGE_SIZE, libc::MADV_WIPEONFORK) } != 0 {
        let error = io::Error::last_os_error();
        // SAFETY: as above, and nobody knows of it.
        unsafe { libc::munmap(page, PAGE_SIZE) };
        return Err(error);
    }
    Ok(page.cast())
}

#[cfg(test)]
mod tests;
