//! Memory of the host's in a slot: files, whose pages guests share and which may be cut short.

use std::env;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ampoule_vmm::{Hypervisor, MappedMemory, PAGE_SIZE, PageSet, WriteTracking};

use crate::code::assemble;
use crate::failure::{Failure, expect};
use crate::guest::{FREE_RAM, FREE_SLOT, Guest, READ, SOMEWHERE, WRITE, pages_on};

pub(crate) fn a_file_is_seen_as_it_is_now(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let file = file_of_sevens(3)?;
    let mut guests = [Guest::new(hypervisor, &[])?, Guest::new(hypervisor, &[])?];
    // Page 0 of the memory is page 1 of the file.
    let memory = MappedMemory::of_file(file.as_fd(), PAGE_SIZE as u64, 2 * PAGE_SIZE)?;
    for guest in &mut guests {
        show(guest, &memory)?;
        expect("what was loaded", load(guest, 1)?, 0x0707_0707_0707_0707)?;
    }
    file.write_all_at(&9_u64.to_le_bytes(), 2 * PAGE_SIZE as u64)?;
    for guest in &mut guests {
        expect("what was loaded of the changed file", load(guest, 1)?, 9)?;
    }
    Ok(())
}

pub(crate) fn what_a_guest_writes_to_a_copy_can_be_forgotten(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let file = file_of_sevens(3)?;
    let mut guest = Guest::new(hypervisor, &[])?;
    let memory = MappedMemory::copy_of_file(file.as_fd(), 0, 3 * PAGE_SIZE)?;
    show(&mut guest, &memory)?;
    for _ in 0..2 {
        store(&mut guest, 2, 11)?;
        expect("what was stored", load(&mut guest, 2)?, 11)?;
        let mut written = PageSet::new(3);
        guest.vm.collect_written(FREE_SLOT, &mut written)?;
        expect("the written pages", written.iter().collect::<Vec<_>>(), [2])?;
        guest.vm.forget_written(FREE_SLOT, &written)?;
        expect("whether what was written can be forgotten", memory.forget(2..3), true)?;
        expect("what was loaded of the page again", load(&mut guest, 2)?, 0x0707_0707_0707_0707)?;
    }
    let mut byte = [0];
    file.read_exact_at(&mut byte, 2 * PAGE_SIZE as u64)?;
    expect("the file", byte, [7])
}

pub(crate) fn a_page_that_its_file_has_lost_is_an_error(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let file = file_of_sevens(3)?;
    for memory in [
        MappedMemory::of_file(file.as_fd(), 0, 3 * PAGE_SIZE)?,
        MappedMemory::copy_of_file(file.as_fd(), 0, 3 * PAGE_SIZE)?,
    ] {
        let mut guest = Guest::new(hypervisor, &[])?;
        show(&mut guest, &memory)?;
        for page in [1, 2] {
            load(&mut guest, page)?;
        }
        file.set_len(PAGE_SIZE as u64)?;
        for page in [1, 2] {
            guest.load(load_code())?;
            guest.set(|regs| regs.rdi = pages_on(SOMEWHERE, page).0);
            let lost = guest.vcpu.run().err().is_some_and(|error| error.is_lost_memory());
            expect("whether a load of a lost page is reported as lost memory", lost, true)?;
        }
        expect("what was loaded of the page that is left", load(&mut guest, 0)?, 0x0707_0707_0707_0707)?;
        file.set_len(3 * PAGE_SIZE as u64)?;
        expect("what was loaded once the file was longer again", load(&mut guest, 2)?, 0)?;
        file.write_all_at(&vec![7; 3 * PAGE_SIZE], 0)?;
    }
    Ok(())
}

pub(crate) fn a_slot_that_is_used_again_shows_the_other_memory(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let mut guest = Guest::new(hypervisor, &[])?;
    let memory = |value: u64| -> Result<_, Failure> {
        let file = file_of_sevens(1)?;
        file.write_all_at(&value.to_le_bytes(), 0)?;
        Ok(MappedMemory::of_file(file.as_fd(), 0, PAGE_SIZE)?)
    };
    for value in 1..=4 {
        show(&mut guest, &memory(value)?)?;
        expect("what was loaded", load(&mut guest, 0)?, value)?;
        guest.unmap(SOMEWHERE);
        guest.vm.unmap(FREE_SLOT)?;
        guest.load(load_code())?;
        guest.set(|regs| regs.rdi = SOMEWHERE.0);
        expect("the address of the fault", guest.page_fault()?.0, SOMEWHERE.0)?;
    }
    Ok(())
}

/// Maps memory at [`SOMEWHERE`].
fn show(guest: &mut Guest, memory: &Arc<MappedMemory>) -> Result<(), Failure> {
    let (tracking, access) = if memory.is_tracked() { (WriteTracking::On, WRITE) } else { (WriteTracking::Off, READ) };
    guest.vm.map(FREE_SLOT, FREE_RAM, Arc::clone(memory.region()), tracking)?;
    guest.map_physical(SOMEWHERE, FREE_RAM, memory.pages(), access);
    Ok(())
}

/// What the guest loads from the start of a page.
fn load(guest: &mut Guest, page: usize) -> Result<u64, Failure> {
    guest.load(load_code())?;
    guest.set(|regs| regs.rdi = pages_on(SOMEWHERE, page).0);
    Ok(guest.ring()?.rbx)
}

fn store(guest: &mut Guest, page: usize, value: u64) -> Result<(), Failure> {
    guest.load(assemble!("mov [rdi], rbx", "call qword ptr [0x400ff8]"))?;
    guest.set(|regs| (regs.rdi, regs.rbx) = (pages_on(SOMEWHERE, page).0, value));
    guest.ring().map(drop)
}

fn load_code() -> &'static [u8] {
    assemble!("mov rbx, [rdi]", "call qword ptr [0x400ff8]")
}

/// A file without a name.
fn file_of_sevens(pages: usize) -> Result<File, Failure> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let path = env::temp_dir().join(format!("ampoule-conformance-{}-{number}", process::id()));
    let file = File::options().read(true).write(true).create_new(true).open(&path)?;
    fs::remove_file(path)?;
    file.write_all_at(&vec![7; pages * PAGE_SIZE], 0)?;
    Ok(file)
}
