use std::fs::File;
use std::os::fd::AsFd;
use std::process::{Command, Output};
use std::ptr;
use std::slice;

use super::*;
use crate::address::PAGE_SIZE;

#[test]
fn pages_are_mapped_to_free_addresses_only() {
    let pages = Pages::new();
    let error = map_to_free(pages.at(1), PAGE_SIZE, Source::Zeros).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EEXIST));
    assert_eq!(pages.first_bytes(), [WRITTEN; 3]);
    pages.unmap(1);
    map_to_free(pages.at(1), PAGE_SIZE, Source::Zeros).unwrap();
    assert_eq!(pages.first_bytes(), [WRITTEN, 0, WRITTEN]);
}

#[test]
fn pages_are_replaced_by_zeros_or_by_those_of_a_file() {
    let pages = Pages::new();
    // SAFETY: the page is the test's own.
    unsafe { map_over(pages.at(0), PAGE_SIZE, Source::Zeros).unwrap() };
    let file = File::open("/proc/self/exe").unwrap();
    // SAFETY: as above.
    unsafe { map_over(pages.at(1), PAGE_SIZE, Source::File(file.as_fd(), 0)).unwrap() };
    assert_eq!(pages.first_bytes(), [0, 0x7f, WRITTEN]);
}

#[test]
fn a_failure_leaves_no_hole() {
    let pages = Pages::new();
    let unreadable = File::options().write(true).open("/dev/null").unwrap();
    for is_hole in [false, true] {
        if is_hole {
            // As a kernel leaves it that does not put back what it has unmapped.
            pages.unmap(1);
        }
        // SAFETY: the page is the test's own.
        let error = unsafe { map_over(pages.at(1), PAGE_SIZE, Source::File(unreadable.as_fd(), 0)).unwrap_err() };
        assert_eq!(error.raw_os_error(), Some(libc::EACCES), "the error is that of the first attempt");
        assert!(is_mapped(pages.at(0), 3 * PAGE_SIZE));
        assert_eq!(pages.first_bytes(), [WRITTEN, 0, WRITTEN]);
    }
}

#[test]
fn where_nothing_can_be_mapped_pages_stay() {
    let output = in_own_process("where_nothing_can_be_mapped_pages_stay", || {
        let pages = Pages::new();
        exhaust_address_space();
        // SAFETY: the pages are the test's own.
        let error = unsafe { map_over(pages.at(0), 3 * PAGE_SIZE, Source::Zeros).unwrap_err() };
        assert_eq!(error.raw_os_error(), Some(libc::ENOMEM));
        assert_eq!(pages.first_bytes(), [WRITTEN; 3]);
    });
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_hole_that_cannot_be_filled_ends_the_process() {
    let output = in_own_process("a_hole_that_cannot_be_filled_ends_the_process", || {
        let pages = Pages::new();
        pages.unmap(1);
        exhaust_address_space();
        // SAFETY: the pages are the test's own.
        let _ = unsafe { map_over(pages.at(0), 3 * PAGE_SIZE, Source::Zeros) };
        unreachable!("there is a hole");
    });
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("cannot be mapped again"), "{said}");
    assert!(!said.contains("unreachable"), "{said}");
}

/// Three pages, each of which begins with a byte that was written.
struct Pages(*mut u8);

impl Pages {
    fn new() -> Pages {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address that the kernel chooses touches no existing memory.
        let start = unsafe { libc::mmap(ptr::null_mut(), 3 * PAGE_SIZE, access, flags, -1, 0) };
        assert_ne!(start, libc::MAP_FAILED);
        let pages = Pages(start.cast());
        // SAFETY: the pages are mapped, writable, and the test's own.
        (0..3).for_each(|page| unsafe { pages.at(page).write(WRITTEN) });
        pages
    }

    fn at(&self, page: usize) -> *mut u8 {
        self.0.wrapping_add(page * PAGE_SIZE)
    }

    fn unmap(&self, page: usize) {
        // SAFETY: the page is the test's own, and accessed again only when it is mapped again.
        assert_eq!(unsafe { libc::munmap(self.at(page).cast(), PAGE_SIZE) }, 0);
    }

    fn first_bytes(&self) -> [u8; 3] {
        // SAFETY: the pages are mapped, and nobody writes to them now.
        let bytes = unsafe { slice::from_raw_parts(self.0, 3 * PAGE_SIZE) };
        [bytes[0], bytes[PAGE_SIZE], bytes[2 * PAGE_SIZE]]
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the pages are the test's own.
        unsafe { libc::munmap(self.0.cast(), 3 * PAGE_SIZE) };
    }
}

/// Runs `body` in a process in which no other test runs. `test` is the name of the calling test.
fn in_own_process(test: &str, body: impl FnOnce()) -> Output {
    if std::env::var_os(IN_OWN_PROCESS).is_some() {
        body();
        std::process::exit(0);
    }
    let (_crate, module) = module_path!().split_once("::").unwrap();
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", &format!("{module}::{test}")])
        .env(IN_OWN_PROCESS, "1")
        .output()
        .unwrap()
}

/// Leaves no room for another mapping.
fn exhaust_address_space() {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: `none` lives during the call.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const none) }, 0);
}

const WRITTEN: u8 = 9;

const IN_OWN_PROCESS: &str = "AMPOULE_TEST_IN_OWN_PROCESS";
