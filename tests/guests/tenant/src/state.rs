//! State of many kinds, which a model can follow: values on the heap, variables, mappings, the program break, and what the
//! host has returned.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

use ampoule_guest::{export, import};
use serde::Serialize;

/// A number of the host's.
#[import]
fn tick(step: u64) -> u64;

/// All of the state.
#[derive(Serialize)]
struct Observation {
    values: BTreeMap<u8, Vec<u64>>,
    variable: u64,
    /// By slot: whether the pages are writable, and the first and last word of each.
    regions: BTreeMap<u8, (bool, Vec<(u64, u64)>)>,
    /// The first word of each page of the heap that was grown.
    heap: Vec<u64>,
    heard: Vec<u64>,
}

/// Puts this many words on the heap.
#[export]
fn set_value(key: u8, words: u32, value: u64) {
    STATE.with_borrow_mut(|state| state.values.insert(key, vec![value; words as usize]));
}

#[export]
fn remove_value(key: u8) {
    STATE.with_borrow_mut(|state| state.values.remove(&key));
}

#[export]
fn add_to_variable(value: u64) {
    VARIABLE.fetch_add(value, Ordering::Relaxed);
}

/// Maps a slot's region again, filled with a value.
#[export]
fn map_region(slot: u8, pages: u32, value: u64) {
    unmap_region(slot);
    STATE.with_borrow_mut(|state| {
        let region = Region::map(pages as usize);
        for page in 0..region.pages {
            region.write(page, value);
        }
        state.regions.insert(slot, region);
    });
}

#[export]
fn unmap_region(slot: u8) {
    STATE.with_borrow_mut(|state| state.regions.remove(&slot).map(Region::unmap));
}

#[export]
fn protect_region(slot: u8, writable: bool) {
    STATE.with_borrow_mut(|state| {
        if let Some(region) = state.regions.get_mut(&slot) {
            region.protect(writable);
        }
    });
}

/// Writes a page of a region, where there is one that is writable.
#[export]
fn write_region(slot: u8, page: u32, value: u64) {
    STATE.with_borrow_mut(|state| {
        if let Some(region) = state.regions.get(&slot).filter(|region| region.writable) {
            region.write(page as usize % region.pages, value);
        }
    });
}

/// Writes a page of a region whatever its protection is.
#[export]
fn force_region(slot: u8, page: u32, value: u64) {
    STATE.with_borrow_mut(|state| {
        if let Some(region) = state.regions.get(&slot) {
            region.write(page as usize % region.pages, value);
        }
    });
}

/// Moves the program break up by pages that hold a value.
#[export]
fn grow_heap(pages: u32, value: u64) {
    STATE.with_borrow_mut(|state| {
        for _ in 0..pages {
            // SAFETY: the page above the old break is new; the allocator notices that the break was moved.
            unsafe {
                let at = libc::sbrk(8192) as usize;
                assert_ne!(at, usize::MAX);
                let page = at.next_multiple_of(4096);
                *(page as *mut u64) = value;
                state.heap.push(page);
            }
        }
    });
}

#[export]
fn ask_host(step: u64) -> u64 {
    let heard = tick(step);
    STATE.with_borrow_mut(|state| state.heard.push(heard));
    heard
}

/// Changes a value, asks the host, and then faults.
#[export]
fn change_and_fault(value: u64) {
    add_to_variable(value);
    set_value(0, 2000, value);
    ask_host(1);
    crate::fault();
}

#[export]
fn observe() -> Observation {
    STATE.with_borrow(|state| Observation {
        values: state.values.clone(),
        variable: VARIABLE.load(Ordering::Relaxed),
        regions: state.regions.iter().map(|(slot, region)| (*slot, (region.writable, region.words()))).collect(),
        // SAFETY: the pages are never given back.
        heap: state.heap.iter().map(|page| unsafe { *(*page as *const u64) }).collect(),
        heard: state.heard.clone(),
    })
}

/// All of the state, each part as one number.
#[export]
fn digest() -> Vec<(String, u64)> {
    let Observation { values, variable, regions, heap, heard } = observe();
    let parts = [
        ("values", hash(&values)),
        ("variable", variable),
        ("regions", hash(&regions)),
        ("heap", hash(&heap)),
        ("heard", hash(&heard)),
    ];
    let process = crate::process::describe_process().into_iter();
    // These change with every call that takes memory, such as this one.
    let process = process.filter(|(name, _)| !["program break", "free memory"].contains(&name.as_str()));
    parts.into_iter().map(|(name, number)| (name.to_owned(), number)).chain(process).collect()
}

/// A hash that is the same in every guest.
fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[derive(Default)]
struct State {
    values: BTreeMap<u8, Vec<u64>>,
    regions: BTreeMap<u8, Region>,
    heap: Vec<usize>,
    heard: Vec<u64>,
}

/// A mapping.
struct Region {
    at: usize,
    pages: usize,
    writable: bool,
}

impl Region {
    fn map(pages: usize) -> Self {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping touches no other memory.
        let at = unsafe { libc::mmap(ptr::null_mut(), pages * PAGE, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
        assert_ne!(at, libc::MAP_FAILED);
        let region = Self { at: at as usize, pages, writable: true };
        assert!(region.words().iter().all(|words| *words == (0, 0)), "fresh memory is zero");
        region
    }

    fn unmap(self) {
        // SAFETY: the mapping is this region's, and nobody uses it any more.
        assert_eq!(unsafe { libc::munmap(self.at as *mut _, self.pages * PAGE) }, 0);
    }

    fn protect(&mut self, writable: bool) {
        let protection = if writable { libc::PROT_READ | libc::PROT_WRITE } else { libc::PROT_READ };
        // SAFETY: the mapping is this region's.
        assert_eq!(unsafe { libc::mprotect(self.at as *mut _, self.pages * PAGE, protection) }, 0);
        self.writable = writable;
    }

    /// Writes the first and the last word of a page.
    fn write(&self, page: usize, value: u64) {
        for at in [self.at + page * PAGE, self.at + (page + 1) * PAGE - 8] {
            // SAFETY: the word lies in this region's mapping. Where that is not writable, the write is meant to fault.
            unsafe { ptr::write_volatile(at as *mut u64, value) };
        }
    }

    fn words(&self) -> Vec<(u64, u64)> {
        (0..self.pages)
            .map(|page| {
                let at = self.at + page * PAGE;
                // SAFETY: the words lie in this region's mapping.
                unsafe { (ptr::read_volatile(at as *const u64), ptr::read_volatile((at + PAGE - 8) as *const u64)) }
            })
            .collect()
    }
}

thread_local! {
    static STATE: RefCell<State> = RefCell::default();
}

static VARIABLE: AtomicU64 = AtomicU64::new(0);

const PAGE: usize = 4096;
