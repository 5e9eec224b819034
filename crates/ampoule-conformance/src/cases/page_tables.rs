//! Page tables whose places and entries change.

use ampoule_vmm::{GuestVirt, Hypervisor, HypervisorError, PAGE_SIZE, PageMap as _};

use crate::code::assemble;
use crate::failure::{Failure, differs, expect};
use crate::guest::{
    CODE, DATA_PAGES, FREE_SLOT, Guest, PRESENT, READ, SOMEWHERE, USER, WRITE, WRITING, offset, pages_on,
};

pub(crate) fn a_table_that_keeps_its_place_needs_no_flush(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let places = [SOMEWHERE, GuestVirt(SOMEWHERE.0 + (2 << 20)), GuestVirt(SOMEWHERE.0 + (1 << 39))];
    let mut guest = numbered(hypervisor, AMPLE)?;
    for round in 0..ROUNDS {
        // In a different order each time, so that a table that has changed its place would be found through another one's
        // path.
        let mapped = [0, 1, 2].map(|index| (places[(index + round) % places.len()], 1 + round * places.len() + index));
        for (at, page) in mapped {
            guest.map(at, page, READ);
            expect("what was loaded", load(&mut guest, at)?, page as u64)?;
        }
        for (at, page) in mapped {
            guest.unmap(at);
            guest.ram.revoke(offset(page), PAGE_SIZE)?;
            expect("the fault", fault(&mut guest, at)?, (at.0, USER))?;
        }
    }
    expect("whether tables have changed their place", guest.tables.is_stale(), false)
}

pub(crate) fn a_table_that_serves_other_addresses_is_seen_after_a_flush(
    hypervisor: &dyn Hypervisor,
) -> Result<(), Failure> {
    // The same entry of tables of the lowest level that are close together.
    let places = [0, 2 << 20, 4 << 20].map(|by| GuestVirt(SOMEWHERE.0 + by));
    moving_from_place_to_place(hypervisor, places, 1)
}

pub(crate) fn upper_tables_that_serve_other_addresses_are_seen_after_a_flush(
    hypervisor: &dyn Hypervisor,
) -> Result<(), Failure> {
    let far_apart = [1_u64 << 30, 2 << 30, 3 << 30].map(|by| GuestVirt(SOMEWHERE.0 + by));
    moving_from_place_to_place(hypervisor, far_apart, 2)?;
    let farther = [1_u64 << 39, 2 << 39, 3 << 39].map(|by| GuestVirt(SOMEWHERE.0 + by));
    moving_from_place_to_place(hypervisor, farther, 3)
}

pub(crate) fn tables_that_are_put_back_are_seen(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let places = [0, 2 << 20, 1 << 30].map(|by| GuestVirt(SOMEWHERE.0 + by));
    // So few that each state has its tables where another state has different ones.
    let mut guest = numbered(hypervisor, 2)?;
    let mut states = Vec::new();
    for (index, at) in places.iter().enumerate() {
        guest.map(*at, 1 + index, READ);
        flush_if_stale(&mut guest)?;
        load(&mut guest, *at)?;
        states.push(guest.tables.checkpoint()?);
        guest.unmap(*at);
        guest.ram.revoke(offset(1 + index), PAGE_SIZE)?;
    }
    for index in [0, 1, 2, 0, 2, 1, 1, 0] {
        guest.tables.restore(&states[index]);
        guest.ram.revoke(offset(0), (1 + places.len()) * PAGE_SIZE)?;
        flush_if_stale(&mut guest)?;
        for (place, at) in places.iter().enumerate() {
            if place == index {
                expect("what was loaded", load(&mut guest, *at)?, 1 + place as u64)?;
            } else {
                expect("the fault", fault(&mut guest, *at)?, (at.0, USER))?;
            }
        }
    }
    Ok(())
}

pub(crate) fn a_permission_that_was_narrowed_is_gone_after_a_flush(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let mut guest = Guest::new(hypervisor, assemble!("mov [rdi], rdi", "call qword ptr [0x400ff8]"))?;
    for page in 0..DATA_PAGES {
        guest.map(pages_on(SOMEWHERE, page), page, WRITE);
    }
    for page in [0, 1, DATA_PAGES - 1] {
        let at = pages_on(SOMEWHERE, page);
        use_page(&mut guest, at);
        guest.ring()?;
    }
    guest.map_pages(SOMEWHERE, 0, DATA_PAGES / 2, READ);
    (DATA_PAGES / 2..DATA_PAGES).for_each(|page| guest.unmap(pages_on(SOMEWHERE, page)));
    guest.flush()?;
    for (page, cause) in [(0, WRITING | PRESENT), (1, WRITING | PRESENT), (DATA_PAGES - 1, WRITING)] {
        let at = pages_on(SOMEWHERE, page);
        expect("the fault", fault(&mut guest, at)?, (at.0, USER | cause))?;
    }
    Ok(())
}

pub(crate) fn a_flush_loses_neither_contents_nor_writes(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let mut guest = Guest::new(hypervisor, assemble!("mov [rdi], rdi", "call qword ptr [0x400ff8]"))?;
    guest.map_pages(SOMEWHERE, 0, DATA_PAGES, WRITE);
    let write = |guest: &mut Guest, page: usize| {
        use_page(guest, pages_on(SOMEWHERE, page));
        guest.ring().map(drop)
    };
    for page in 0..4 {
        write(&mut guest, page)?;
    }
    guest.flush()?;
    expect("the pages that were written before", guest.written()?, vec![0, 1, 2, 3])?;
    let all = guest.written_ram()?;
    guest.forget_written(&all)?;
    guest.flush()?;
    for page in [2, 5] {
        write(&mut guest, page)?;
    }
    expect("the pages that were written since", guest.written()?, vec![2, 5])?;
    for page in [0, 1, 2, 3, 5] {
        expect("the contents", guest.ram.read_u64(offset(page))?, pages_on(SOMEWHERE, page).0)?;
    }
    Ok(())
}

pub(crate) fn a_flush_of_an_empty_slot_is_refused(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let mut guest = Guest::new(hypervisor, &[])?;
    match guest.vm.flush_translations(FREE_SLOT) {
        Err(HypervisorError::SlotEmpty { slot: FREE_SLOT }) => Ok(()),
        other => Err(differs("the flush", "an error".to_owned(), format!("{other:?}"))),
    }
}

/// Maps one page after another at addresses that share no table on as many levels as there are spare tables.
#[track_caller]
fn moving_from_place_to_place(
    hypervisor: &dyn Hypervisor,
    places: [GuestVirt; 3],
    spare_tables: usize,
) -> Result<(), Failure> {
    let mut guest = numbered(hypervisor, spare_tables)?;
    let mut flushes = 0;
    for round in 0..ROUNDS * places.len() {
        let (at, page) = (places[round % places.len()], 1 + round);
        guest.map(at, page, READ);
        flushes += usize::from(flush_if_stale(&mut guest)?);
        expect("what was loaded", load(&mut guest, at)?, page as u64)?;
        for other in places.into_iter().filter(|other| *other != at) {
            expect("the fault", fault(&mut guest, other)?, (other.0, USER))?;
        }
        guest.unmap(at);
        guest.ram.revoke(offset(page), PAGE_SIZE)?;
    }
    expect("how often tables have changed their place", flushes, ROUNDS * places.len() - 1)
}

fn flush_if_stale(guest: &mut Guest) -> Result<bool, Failure> {
    let is_stale = guest.tables.is_stale();
    if is_stale {
        guest.flush()?;
    }
    Ok(is_stale)
}

/// A guest that loads from an address, and whose pages of data hold their own numbers.
fn numbered(hypervisor: &dyn Hypervisor, spare_tables: usize) -> Result<Guest, Failure> {
    let code = assemble!("mov rbx, [rdi]", "call qword ptr [0x400ff8]");
    let guest = Guest::with_spare_tables(hypervisor, code, spare_tables)?;
    for page in 0..DATA_PAGES {
        guest.ram.write_u64(offset(page), page as u64)?;
    }
    Ok(guest)
}

/// Starts the code with an address.
fn use_page(guest: &mut Guest, at: GuestVirt) {
    guest.go(CODE);
    guest.set(|regs| regs.rdi = at.0);
}

#[track_caller]
fn load(guest: &mut Guest, at: GuestVirt) -> Result<u64, Failure> {
    use_page(guest, at);
    Ok(guest.ring()?.rbx)
}

#[track_caller]
fn fault(guest: &mut Guest, at: GuestVirt) -> Result<(u64, u64), Failure> {
    guest.restart(CODE)?;
    guest.set(|regs| regs.rdi = at.0);
    let fault = guest.page_fault()?;
    guest.vcpu.abandon()?;
    guest.restart(CODE)?;
    Ok(fault)
}

const ROUNDS: usize = 4;

const AMPLE: usize = 16;
