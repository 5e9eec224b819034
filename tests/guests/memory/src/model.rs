//! Operations on memory that are drawn from a seed, and a model of what they should lead to, which lies in the guest's
//! memory too.

mod perform;

use std::cell::RefCell;
use std::io;
use std::ptr;

use ampoule_guest::export;
use ampoule_memory_model::{CODE, CONSTANTS, Contents, Model, Page, Place, WINDOWS, Window};

use crate::PAGE;

/// Performs this many operations that are drawn from a seed, and then compares all memory with the model. Returns the
/// model's digest, or the first difference.
#[export]
fn run(seed: u64, steps: u32) -> Result<u64, String> {
    STATE.with_borrow_mut(|state| {
        state.model.reseed(seed);
        for _ in 0..steps {
            for action in state.model.draw() {
                state.perform(&action);
            }
        }
        state.verify();
        state.outcome()
    })
}

/// Compares all memory with the model. Returns the model's digest, or the first difference.
#[export]
fn verify() -> Result<u64, String> {
    STATE.with_borrow_mut(|state| {
        state.verify();
        state.outcome()
    })
}

/// Has the host print a page, which it reads itself. Returns what the system call returns.
#[export]
fn show(window: u32, page: u32) -> i64 {
    let at = address(window, page);
    // SAFETY: the call only reads memory.
    returned(unsafe { libc::syscall(libc::SYS_write, libc::STDOUT_FILENO, at, PAGE) })
}

/// Has the host write to a page, which cannot be written. Returns what the system call returns.
#[export]
fn receive(window: u32, page: u32) -> i64 {
    let at = address(window, page);
    // SAFETY: the call writes nothing, since nothing can be written there.
    returned(unsafe { libc::syscall(libc::SYS_getrandom, at, 8, 0) })
}

/// Where a window lies; zero for one that is not mapped.
#[export]
fn window_address(window: u32) -> u64 {
    STATE.with_borrow(|state| state.addresses[window as usize])
}

fn address(window: u32, page: u32) -> u64 {
    STATE.with_borrow(|state| state.address(Place { window: Window(window as usize), page: page as usize }))
}

/// A system call's result, with its error as a negative number.
fn returned(result: i64) -> i64 {
    if result == -1 { -i64::from(io::Error::last_os_error().raw_os_error().unwrap_or_default()) } else { result }
}

struct State {
    model: Model,
    /// Addresses of the windows; zero for a floating one of which nothing is mapped.
    addresses: Vec<u64>,
    /// Addresses of the pages of the heap that stay.
    heap: Vec<u64>,
    differences: u64,
    first_difference: String,
}

impl State {
    fn new() -> Self {
        let address = |window| match Window(window) {
            CONSTANTS => crate::image::constants(),
            CODE => crate::image::code(),
            window => window.address().unwrap_or_default(),
        };
        Self {
            model: Model::new(),
            addresses: (0..WINDOWS).map(address).collect(),
            heap: Vec::new(),
            differences: 0,
            first_difference: String::new(),
        }
    }

    /// Compares all pages that can be read.
    fn verify(&mut self) {
        for window in (0..WINDOWS).map(Window) {
            for place in window.whole().places() {
                if let Some(page) = self.model.page(place).filter(|page| page.protection.is_readable()) {
                    self.compare(self.address(place), page.contents, &place);
                }
            }
        }
        for index in 0..self.heap.len() {
            let contents = Contents { stamp: self.model.heap()[index], ..Contents::ZERO };
            self.compare(self.heap[index], contents, &"the heap");
        }
    }

    /// Compares a page with what it should hold.
    fn compare(&mut self, at: u64, contents: Contents, what: &dyn std::fmt::Debug) {
        let different = (0..Contents::WORDS).find(|index| read_word(at, *index) != contents.word(*index));
        if let Some(index) = different {
            let (found, expected) = (read_word(at, index), contents.word(index));
            self.differs(format!(
                "word {index} of the page at {at:#x} is {found:#x} instead of {expected:#x}: {what:?}"
            ));
        }
    }

    fn differs(&mut self, difference: String) {
        if self.differences == 0 {
            self.first_difference = difference;
        }
        self.differences += 1;
    }

    fn outcome(&self) -> Result<u64, String> {
        match self.differences {
            0 => Ok(self.model.digest()),
            count => Err(format!("{count} differences; the first one: {}", self.first_difference)),
        }
    }

    fn address(&self, place: Place) -> u64 {
        self.addresses[place.window.0] + place.page as u64 * PAGE
    }

    fn page(&self, place: Place) -> Page {
        self.model.page(place).expect("the page is mapped")
    }
}

fn read_word(at: u64, index: usize) -> u64 {
    // SAFETY: according to the model the page can be read. Where it cannot, the read is meant to fault.
    unsafe { ptr::read_volatile((at as *const u64).add(index)) }
}

/// Writes those words of a page that a stamp is written to.
fn write_stamp(at: u64, contents: Contents) {
    for index in Contents::STAMPED {
        // SAFETY: according to the model the page can be written, and it holds nothing else. Where it cannot, the write is
        // meant to fault.
        unsafe { ptr::write_volatile((at as *mut u64).add(index), contents.word(index)) };
    }
}

thread_local! {
    static STATE: RefCell<State> = RefCell::new(State::new());
}
