//! Which pages a guest has written.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use ampoule_vmm::x86_64::shim::ExceptionFrame;
use ampoule_vmm::{GuestVirt, Hypervisor, HypervisorError, PAGE_SIZE, PageSet, Region, WriteTracking};

use crate::code::assemble;
use crate::failure::{Failure, differs, expect, require};
use crate::guest::{
    CODE, DATA_PAGES, FREE_RAM, FREE_SLOT, Guest, RAM_PAGES, RAM_SLOT, READ, SOMEWHERE, SYSTEM_SLOT, WRITE, offset,
    pages_on,
};
use crate::signal::{self, Kick};
use crate::values::Numbers;

pub(crate) fn a_written_page_shows_until_it_is_forgotten(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let mut guest = guest(hypervisor)?;
    expect("pages at the start", guest.written()?, [0; 0])?;
    store(&mut guest, 5)?;
    for _ in 0..3 {
        expect("pages after a store", guest.written()?, [5])?;
    }
    forget_all(&mut guest)?;
    expect("pages after they were forgotten", guest.written()?, [0; 0])?;
    for _ in 0..2 {
        store(&mut guest, 5)?;
        expect("pages after another store", guest.written()?, [5])?;
    }
    Ok(())
}

pub(crate) fn exactly_the_written_pages_show(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let mut guest = guest(hypervisor)?;
    // At both ends of the set, and around the boundaries of its words, which are two pages further on.
    let pages = [0, 1, 60, 61, 62, 63, 64, 125, 126, 127, 190, DATA_PAGES - 1];
    for page in pages {
        store(&mut guest, page)?;
    }
    expect("pages after some stores", guest.written()?, pages)
}

pub(crate) fn forgetting_some_pages_keeps_the_others(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let mut guest = guest(hypervisor)?;
    for page in [3, 70, 71, 150] {
        store(&mut guest, page)?;
    }
    let mut some = PageSet::new(RAM_PAGES);
    for page in [70, 150, 151] {
        some.insert(offset(page) / PAGE_SIZE);
    }
    guest.forget_written(&some)?;
    expect("pages after some were forgotten", guest.written()?, [3, 71])?;
    store(&mut guest, 70)?;
    expect("pages after one was written again", guest.written()?, [3, 70, 71])
}

pub(crate) fn a_page_is_told_once_and_added_to_the_set(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let mut guest = guest(hypervisor)?;
    let mut pages = PageSet::new(RAM_PAGES);
    pages.insert(RAM_PAGES - 1);
    store(&mut guest, 7)?;
    guest.vm.collect_written(RAM_SLOT, &mut pages)?;
    let has = |pages: &PageSet, page: usize| pages.contains(offset(page) / PAGE_SIZE);
    require("what was in the set", pages.contains(RAM_PAGES - 1), "there still", &pages)?;
    require("the written page", has(&pages, 7), "in the set", &pages)?;
    store(&mut guest, 7)?;
    store(&mut guest, 8)?;
    pages.clear();
    guest.vm.collect_written(RAM_SLOT, &mut pages)?;
    require("the page that was reported", !has(&pages, 7), "not reported again", &pages)?;
    require("the page written since", has(&pages, 8), "in the set", &pages)
}

pub(crate) fn however_many_pages_are_written_each_is_told(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let mut guest = guest(hypervisor)?;
    guest.vm.map(FREE_SLOT, FREE_RAM, Region::anonymous(MANY_PAGES * PAGE_SIZE)?, WriteTracking::On)?;
    guest.map_physical(OTHER, FREE_RAM, MANY_PAGES, WRITE);
    let mut told = PageSet::new(MANY_PAGES);
    guest.load(store_to_every_page())?;
    store_to_pages(&mut guest, 0..MANY_PAGES)?;
    guest.vm.collect_written(FREE_SLOT, &mut told)?;
    expect("pages that were reported", told.len(), MANY_PAGES)?;
    expect("pages of the other slot", guest.written()?, [0; 0])?;

    told.clear();
    store_to_pages(&mut guest, 0..MANY_PAGES)?;
    guest.vm.collect_written(FREE_SLOT, &mut told)?;
    expect("pages that were reported again", told.len(), 0)?;

    // The first ones were reported long ago, the last ones just now, and others in between stay reported.
    let forgotten = [0..3, 700..701, MANY_PAGES - 2..MANY_PAGES];
    forgotten.iter().cloned().flatten().for_each(|page| told.insert(page));
    guest.vm.forget_written(FREE_SLOT, &told)?;
    told.clear();
    guest.vm.collect_written(FREE_SLOT, &mut told)?;
    expect("pages after some were forgotten", told.len(), 0)?;
    store_to_pages(&mut guest, 0..MANY_PAGES)?;
    guest.vm.collect_written(FREE_SLOT, &mut told)?;
    // Others may be reported again too.
    for page in forgotten.into_iter().flatten() {
        require(format_args!("page {page}, forgotten and written again"), told.contains(page), "reported", &told)?;
    }
    Ok(())
}

pub(crate) fn signals_while_pages_are_forgotten_lose_no_write(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let mut guest = guest(hypervisor)?;
    guest.load(store_to_every_page())?;
    let kick = Kick::to_this_thread()?;
    // How many signals were requested, and sent.
    let (asked, sent) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        thread::Builder::new().spawn_scoped(scope, || {
            let mut numbers = Numbers::new(1);
            for number in 1..=ROUNDS {
                wait_for(&asked, number);
                (0..numbers.below(LONGEST_DELAY)).for_each(|_| std::hint::spin_loop());
                kick.send();
                sent.store(number, Ordering::SeqCst);
            }
        })?;
        let _rest = AskForAll(&asked);
        for number in 1..=ROUNDS {
            let count = if number % 8 == 0 { DATA_PAGES } else { FEW_PAGES };
            guest.restart(CODE)?;
            guest.set(|regs| (regs.rdi, regs.rcx) = (SOMEWHERE.0, count as u64));
            guest.ring()?;
            let pages: Vec<_> = (0..count).collect();
            expect("pages that were written after they had been forgotten", guest.written()?, pages)?;
            let told = guest.written_ram()?;
            asked.store(number, Ordering::SeqCst);
            let forgotten = guest.forget_written(&told);
            wait_for(&sent, number);
            signal::handle_pending();
            forgotten?;
        }
        Ok(())
    })
}

pub(crate) fn loads_from_fresh_memory_do_not_show(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let mut guest = guest(hypervisor)?;
    guest.load(assemble!(
        "2:",
        "mov rax, [rdi]",
        "test byte ptr [rdi + 8], 1",
        "movdqu xmm0, [rdi]",
        "prefetchw [rdi]",
        "add rdi, 4096",
        "dec rcx",
        "jnz 2b",
        "call qword ptr [0x400ff8]",
    ))?;
    guest.set(|regs| (regs.rdi, regs.rcx) = (SOMEWHERE.0, DATA_PAGES as u64));
    guest.ring()?;
    expect("pages after loads", guest.written()?, [0; 0])
}

pub(crate) fn refused_writes_do_not_show(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let mut guest = guest(hypervisor)?;
    guest.map(SOMEWHERE, 0, READ);
    guest.load(assemble!("mov [rdi], rbx"))?;
    guest.set(|regs| regs.rdi = SOMEWHERE.0);
    guest.page_fault()?;
    expect("pages after a refused store", guest.written()?, [0; 0])
}

pub(crate) fn writes_of_the_host_do_not_show(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let mut guest = guest(hypervisor)?;
    store(&mut guest, 2)?;
    guest.ram.write_u64(offset(2), 1)?;
    guest.ram.write_u64(offset(3), 1)?;
    guest.ram.fill_zero(offset(4), PAGE_SIZE)?;
    expect("pages after writes of the host", guest.written()?, [2])?;
    forget_all(&mut guest)?;
    guest.ram.write_u64(offset(2), 2)?;
    expect("pages after writes to a forgotten page", guest.written()?, [0; 0])
}

pub(crate) fn every_kind_of_write_shows(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let mut guest = guest(hypervisor)?;
    // Code, where rdi points to, and the pages that it writes.
    let cases: [(&[u8], u64, &[usize]); 12] = [
        (assemble!("mov byte ptr [rdi], 1", "call qword ptr [0x400ff8]"), 0x1fff, &[1]),
        (assemble!("mov [rdi], rax", "call qword ptr [0x400ff8]"), 0x1ffc, &[1, 2]),
        (assemble!("mov ecx, 0x500", "rep stosq", "call qword ptr [0x400ff8]"), 0x1000, &[1, 2, 3]),
        (
            assemble!("lea rsi, [rdi + 0x60000]", "mov ecx, 16", "rep movsb", "call qword ptr [0x400ff8]"),
            0x3ff8,
            &[3, 4],
        ),
        (assemble!("lock xadd [rdi], rax", "call qword ptr [0x400ff8]"), 0x3000, &[3]),
        (assemble!("lock cmpxchg [rdi], rbx", "call qword ptr [0x400ff8]"), 0x4000, &[4]),
        (assemble!("bts dword ptr [rdi], 3", "call qword ptr [0x400ff8]"), 0x5000, &[5]),
        (assemble!("movdqu [rdi], xmm0", "call qword ptr [0x400ff8]"), 0x5ff8, &[5, 6]),
        (assemble!("movntdq [rdi], xmm0", "sfence", "call qword ptr [0x400ff8]"), 0x6000, &[6]),
        (assemble!("fxsave [rdi]", "call qword ptr [0x400ff8]"), 0x6f00, &[6, 7]),
        (assemble!("mov rsp, rdi", "push rax", "mov rsp, rbp", "call qword ptr [0x400ff8]"), 0x9000, &[8]),
        (assemble!("mov rsp, rdi", "call qword ptr [0x400ff8]"), 0xa008, &[10]),
    ];
    for (code, at, expected) in cases {
        guest.load(code)?;
        forget_all(&mut guest)?;
        guest.set(|regs| (regs.rdi, regs.rbp) = (SOMEWHERE.0 + at, regs.rsp));
        guest.ring()?;
        expect(format_args!("pages written by {code:x?}"), guest.written()?, expected)?;
    }
    Ok(())
}

pub(crate) fn the_stack_of_exceptions_shows(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let mut guest = guest(hypervisor)?;
    let pages = guest.system.region().len() / PAGE_SIZE;
    let mut written = PageSet::new(pages);
    guest.load(assemble!("ud2"))?;
    let frame = guest.exception(6)?;
    let stack = stack_of(&guest, &frame)?;
    for _ in 0..2 {
        let mut all = PageSet::new(pages);
        (0..pages).for_each(|page| all.insert(page));
        guest.vm.forget_written(SYSTEM_SLOT, &all)?;
        written.clear();
        guest.vm.collect_written(SYSTEM_SLOT, &mut written)?;
        expect("pages of the system after they were forgotten", written.len(), 0)?;
        guest.load(assemble!("ud2"))?;
        guest.exception(6)?;
        // Page tables may show too: some processors treat walking them as writing.
        guest.vm.collect_written(SYSTEM_SLOT, &mut written)?;
        require("pages of the system", written.contains(stack), format!("the stack, page {stack}"), &written)?;
    }
    Ok(())
}

pub(crate) fn discarding_and_revoking_forget_nothing(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let mut guest = guest(hypervisor)?;
    store(&mut guest, 20)?;
    store(&mut guest, 21)?;
    guest.ram.discard(offset(20), PAGE_SIZE)?;
    guest.ram.revoke(offset(21), PAGE_SIZE)?;
    expect("pages after discarding and revoking", guest.written()?, [20, 21])?;
    forget_all(&mut guest)?;
    guest.ram.discard(offset(20), 2 * PAGE_SIZE)?;
    store(&mut guest, 21)?;
    expect("pages after a store to a discarded one", guest.written()?, [21])
}

pub(crate) fn each_slot_has_its_own_set(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let mut guest = guest(hypervisor)?;
    // Two slots of other sizes: one word exactly, and one page.
    for (slot, pages, written) in [(FREE_SLOT, 64, 63), (FREE_SLOT + 1, 1, 0)] {
        guest.vm.map(slot, FREE_RAM, Region::anonymous(pages * PAGE_SIZE)?, WriteTracking::On)?;
        guest.map_physical(OTHER, FREE_RAM, pages, WRITE);
        guest.load(store_code())?;
        guest.set(|regs| regs.rdi = pages_on(OTHER, written).0);
        guest.ring()?;
        let mut set = PageSet::new(pages);
        guest.vm.collect_written(slot, &mut set)?;
        expect("pages of the other slot", set.iter().collect::<Vec<_>>(), [written])?;
        expect("pages of this slot", guest.written()?, [0; 0])?;

        // One write is reported, and another is not before its memory is gone.
        guest.vm.forget_written(slot, &set)?;
        guest.restart(CODE)?;
        guest.set(|regs| regs.rdi = pages_on(OTHER, written).0);
        guest.ring()?;
        guest.vm.unmap(slot)?;
        guest.vm.map(slot, FREE_RAM, Region::anonymous(pages * PAGE_SIZE)?, WriteTracking::On)?;
        set.clear();
        guest.vm.collect_written(slot, &mut set)?;
        expect("pages of a slot with new memory", set.len(), 0)?;
        guest.vm.unmap(slot)?;
    }
    Ok(())
}

pub(crate) fn what_cannot_be_told_is_an_error(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let mut guest = guest(hypervisor)?;
    guest.vm.map(FREE_SLOT, FREE_RAM, Region::anonymous(PAGE_SIZE)?, WriteTracking::Off)?;
    let (mut one, mut many) = (PageSet::new(1), PageSet::new(RAM_PAGES + 1));
    for result in [guest.vm.collect_written(FREE_SLOT, &mut one), guest.vm.forget_written(FREE_SLOT, &one)] {
        let told = matches!(result, Err(HypervisorError::WritesNotTracked { slot: FREE_SLOT }));
        require("a slot whose writes are not tracked", told, "WritesNotTracked", result)?;
    }
    let empty = FREE_SLOT + 1;
    for result in [guest.vm.collect_written(empty, &mut one), guest.vm.forget_written(empty, &one)] {
        let told = matches!(result, Err(HypervisorError::SlotEmpty { slot }) if slot == empty);
        require("an empty slot", told, "SlotEmpty", result)?;
    }
    for result in [guest.vm.collect_written(RAM_SLOT, &mut many), guest.vm.forget_written(RAM_SLOT, &many)] {
        let told = matches!(result, Err(HypervisorError::SlotSize { slot: RAM_SLOT, pages: RAM_PAGES, given })
            if given == RAM_PAGES + 1);
        require("a set of another size", told, "SlotSize", result)?;
    }
    Ok(())
}

/// A guest with all data mapped from [`SOMEWHERE`] on.
fn guest(hypervisor: &dyn Hypervisor) -> Result<Guest, Failure> {
    let mut guest = Guest::new(hypervisor, store_code())?;
    guest.map_pages(SOMEWHERE, 0, DATA_PAGES, WRITE);
    Ok(guest)
}

/// Lets the guest write one page of data.
fn store(guest: &mut Guest, page: usize) -> Result<(), Failure> {
    guest.ram.write(0, store_code())?;
    guest.restart(CODE)?;
    guest.set(|regs| regs.rdi = pages_on(SOMEWHERE, page).0);
    guest.ring().map(drop)
}

/// The system's page whose end holds a frame.
fn stack_of(guest: &Guest, frame: &ExceptionFrame) -> Result<usize, Failure> {
    let system = guest.system.region();
    for page in 0..system.len() / PAGE_SIZE {
        let end = (page + 1) * PAGE_SIZE;
        if (system.read_u64(end - 16)?, system.read_u64(end - 8)?) == (frame.rsp, frame.ss) {
            return Ok(page);
        }
    }
    Err(differs("the frame of an exception", "at the end of some page".to_owned(), format!("{frame:x?}")))
}

fn forget_all(guest: &mut Guest) -> Result<(), Failure> {
    let mut all = PageSet::new(RAM_PAGES);
    (0..RAM_PAGES).for_each(|page| all.insert(page));
    Ok(guest.forget_written(&all)?)
}

/// Lets a guest that has loaded [`store_to_every_page`] write pages from [`OTHER`] on.
fn store_to_pages(guest: &mut Guest, pages: Range<usize>) -> Result<(), Failure> {
    guest.restart(CODE)?;
    guest.set(|regs| (regs.rdi, regs.rcx) = (pages_on(OTHER, pages.start).0, pages.len() as u64));
    guest.ring().map(drop)
}

/// Ends the thread that sends the signals, however the case ends.
struct AskForAll<'a>(&'a AtomicU64);

impl Drop for AskForAll<'_> {
    fn drop(&mut self) {
        self.0.store(ROUNDS, Ordering::SeqCst);
    }
}

fn wait_for(counter: &AtomicU64, number: u64) {
    for round in 0_u64.. {
        if counter.load(Ordering::SeqCst) >= number {
            return;
        }
        // A thread that has to be woken up first would be late.
        if round % 1000 == 999 { thread::yield_now() } else { std::hint::spin_loop() }
    }
}

fn store_to_every_page() -> &'static [u8] {
    assemble!("2:", "mov [rdi], rbx", "add rdi, 4096", "dec rcx", "jnz 2b", "call qword ptr [0x400ff8]")
}

fn store_code() -> &'static [u8] {
    assemble!("mov [rdi], rbx", "call qword ptr [0x400ff8]")
}

/// More pages than hypervisors usually keep in their logs of written pages.
const MANY_PAGES: usize = 3000;

/// For signals while pages are forgotten.
const FEW_PAGES: usize = 8;
const ROUNDS: u64 = 2000;

/// About as long as it takes to forget them.
const LONGEST_DELAY: u64 = 400;

/// An address far from [`SOMEWHERE`].
const OTHER: GuestVirt = GuestVirt(0x5_5555_5000);
