//! Memory to write to, page by page.

use std::cell::RefCell;

use ampoule_guest::export;

/// Prepares memory of this many pages, all bytes of which have this value.
#[export]
fn prepare_pages(pages: u32, content: u8) {
    PAGES.replace(vec![content; pages as usize * PAGE_SIZE]);
}

/// Writes to the first `pages` pages of the prepared memory, and returns the sum of what was there.
#[export]
fn write_pages(pages: u32, value: u8) -> u64 {
    PAGES.with_borrow_mut(|memory| {
        let bytes = memory.iter_mut().step_by(PAGE_SIZE).take(pages as usize);
        bytes.map(|byte| u64::from(std::mem::replace(byte, value))).sum()
    })
}

thread_local! {
    static PAGES: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

const PAGE_SIZE: usize = 4096;
