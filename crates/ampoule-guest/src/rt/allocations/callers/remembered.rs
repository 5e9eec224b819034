//! The walk before, and how a new one makes use of it.
//!
//! A walk remembers of each call where on the stack its return address stands. What a call's caller is, and where that one's
//! return address stands, follows from the return address and the stack pointer next to it. So where a new walk meets a call
//! that is remembered, in the same place, the calls behind it are those that are remembered, as long as their return addresses
//! still stand in their places. To compare these takes nanoseconds.
//!
//! Only walks of the program's own stack are made use of: what lies above the stack pointer there stays readable, while a
//! stack that the program has made may be gone.

use std::cell::Cell;
use std::ptr::{self, NonNull};

use ampoule_abi::layout::MAX_CALLERS;

/// A call that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Call {
    /// Where its caller continues.
    pub(super) address: usize,
    /// Where on the stack that address stands.
    pub(super) at: usize,
}

/// The walk before, and room for the next one. Taken while that goes on, so that nothing in between finds it half done.
pub(super) struct Memory {
    walks: NonNull<Walks>,
}

struct Walks {
    both: [Remembered; 2],
    is_second_last: bool,
}

impl Memory {
    /// Takes it, unless there is no room for it. That is the C library's, since this runs within the program's allocator.
    pub(super) fn take() -> Option<Self> {
        let taken = NonNull::new(MEMORY.replace(ptr::null_mut()));
        let walks = taken.or_else(|| {
            // SAFETY: it may be called at any time.
            NonNull::new(unsafe { libc::calloc(1, size_of::<Walks>()) }.cast())
        });
        walks.map(|walks| Self { walks })
    }

    /// Begins a walk to the callers of the function in whose frame `within` lies. The program's own stack goes on above `base`.
    pub(super) fn walk(&mut self, within: usize, base: usize) -> Walk<'_> {
        // SAFETY: the room has this size and is aligned for everything, and zeros in it are two walks that have found nothing.
        // Nobody else has it.
        let Walks { both: [first, second], is_second_last } = unsafe { self.walks.as_mut() };
        let (last, next) = if *is_second_last { (second, first) } else { (first, second) };
        *is_second_last = !*is_second_last;

        (next.within, next.base) = (within, base);
        (next.count, next.are_missing) = (0, false);
        next.is_sound = within < base && base - within <= LARGEST_STACK;
        let mut walk = Walk { last, next, position: 0, is_over: false };
        if !walk.last.is_sound || !walk.next.is_sound || walk.last.base != base {
            walk.position = walk.last.count;
        } else if walk.last.within == within {
            // The function stands where it stood, and so does its return address, if it is the same.
            walk.meet();
        }
        walk
    }
}

#[cfg(test)]
impl Memory {
    /// Has this thread remember nothing.
    pub(super) fn forget() {
        // SAFETY: it is what `calloc` has returned, or null, and it is not taken.
        unsafe { libc::free(MEMORY.replace(ptr::null_mut()).cast()) };
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        MEMORY.set(self.walks.as_ptr());
    }
}

/// What a walk has found.
pub(super) struct Remembered {
    /// An address in the frame of the function whose callers these are.
    within: usize,
    base: usize,
    count: usize,
    are_missing: bool,
    /// Whether it is of the program's own stack, and each return address stands where it should.
    is_sound: bool,
    calls: [Call; MOST],
}

impl Remembered {
    /// The calls, innermost first.
    pub(super) fn calls(&self) -> &[Call] {
        &self.calls[..self.count]
    }

    /// Whether there are more.
    pub(super) fn are_missing(&self) -> bool {
        self.are_missing
    }

    fn push(&mut self, call: Call) {
        if self.count == MOST {
            self.are_missing = true;
            return;
        }
        let is_above = self.calls().last().is_none_or(|before| before.at < call.at);
        // SAFETY: the walk has read this call's return address, above the frames of this stack that it came from.
        self.is_sound = self.is_sound && is_above && unsafe { call.stands() };
        self.calls[self.count] = call;
        self.count += 1;
    }
}

impl Call {
    /// Whether the return address is in its place.
    ///
    /// # Safety
    ///
    /// The place can be read.
    unsafe fn stands(self) -> bool {
        // SAFETY: as the caller promises. The compiler knows nothing of such places.
        self.at.is_multiple_of(align_of::<usize>())
            && unsafe { ptr::with_exposed_provenance::<usize>(self.at).read_volatile() } == self.address
    }
}

/// A walk up the stack.
pub(super) struct Walk<'a> {
    last: &'a Remembered,
    next: &'a mut Remembered,
    /// The first call of the last walk that this one can still meet.
    position: usize,
    is_over: bool,
}

impl<'a> Walk<'a> {
    /// Adds a call, farther out than the one before. Those of functions that were called from where the walk begins are left out.
    pub(super) fn add(&mut self, call: Call) {
        if call.at < self.next.within {
            return;
        }
        let passed = self.last.calls()[self.position..].iter().take_while(|known| known.at < call.at).count();
        self.position += passed;
        if self.last.calls().get(self.position) == Some(&call) {
            self.meet();
        }
        if !self.is_over {
            self.next.push(call);
            self.is_over = self.next.are_missing;
        }
    }

    /// Whether nothing more is to be found.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    pub(super) fn finish(self) -> &'a Remembered {
        self.next
    }

    /// Adds the rest of the last walk, which this one has met, if its calls are still under way.
    fn meet(&mut self) {
        let rest = &self.last.calls()[self.position..];
        // SAFETY: the last walk is sound, so the places lie on the program's own stack, and above the present frames.
        if let Some(gone) = rest.iter().position(|call| !unsafe { call.stands() }) {
            // What is farther out may still be met.
            self.position += gone + 1;
        } else if self.last.are_missing && self.next.count + rest.len() < MAX_CALLERS {
            self.position = self.last.count;
        } else {
            let fitting = rest.len().min(MOST - self.next.count);
            self.next.calls[self.next.count..][..fitting].copy_from_slice(&rest[..fitting]);
            self.next.count += fitting;
            self.next.are_missing = self.last.are_missing || fitting < rest.len();
            self.is_over = true;
        }
    }
}

thread_local! {
    /// Null until it is first used, and while it is taken.
    static MEMORY: Cell<*mut Walks> = const { Cell::new(ptr::null_mut()) };
}

/// The most calls of a walk. More than a record has, so that a program that calls itself does not make each walk go all the
/// way.
const MOST: usize = 4 * MAX_CALLERS;

/// The largest stack that a host gives, in bytes. Below it there is nothing for terabytes, so that what is no farther from its
/// base lies on it.
const LARGEST_STACK: usize = 1 << 30;
