//! What the page tables allow, and no more.

use ampoule_vmm::x86_64::paging::Access;
use ampoule_vmm::x86_64::shim;
use ampoule_vmm::{GuestVirt, Hypervisor, PAGE_SIZE};

use crate::code::assemble;
use crate::failure::{Failure, expect, require};
use crate::guest::{
    CODE, DATA_PAGES, EXECUTE, FETCH, Guest, PRESENT, READ, SOMEWHERE, SUPERVISOR, USER, WRITE, WRITING, offset,
    pages_on,
};

pub(crate) fn each_permission_holds(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let mut guest = Guest::new(hypervisor, &[])?;
    guest.ram.write(offset(0), RETURN)?;
    for write in [false, true] {
        for execute in [false, true] {
            for user in [false, true] {
                let access = Access { write, execute, user };
                guest.map(SOMEWHERE, 0, access);
                guest.ram.revoke(offset(0), PAGE_SIZE)?;
                for (what, code, allowed, cause) in uses(access) {
                    let what = format!("{what} with {access:?}");
                    attempt(&mut guest, &what, code, allowed, cause)?;
                }
            }
        }
    }
    Ok(())
}

pub(crate) fn protection_keys_are_out_of_reach_unless_promised(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let mut guest = Guest::new(hypervisor, &[])?;
    for code in [
        assemble!("xor ecx, ecx", "rdpkru", "call qword ptr [0x400ff8]"),
        assemble!("xor ecx, ecx", "xor edx, edx", "xor eax, eax", "wrpkru", "call qword ptr [0x400ff8]"),
    ] {
        guest.load(code)?;
        if guest.capabilities.protection_keys {
            guest.ring()?;
        } else {
            guest.exception(INVALID_OPCODE)?;
        }
    }
    Ok(())
}

pub(crate) fn what_belongs_to_ring_0_is_out_of_reach(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let mut guest = Guest::new(hypervisor, &[])?;
    for address in pages_of_ring_0(&guest)? {
        for code in [load(), store(), jump()] {
            guest.load(code)?;
            guest.set(|regs| regs.rdi = address);
            let (faulted, error) = guest.page_fault()?;
            expect("the fault's address", faulted, address)?;
            expect(format_args!("error code at {address:#x}"), error & (USER | PRESENT), USER | PRESENT)?;
        }
    }
    Ok(())
}

pub(crate) fn the_stubs_cannot_be_overwritten(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let mut guest = Guest::new(hypervisor, &[])?;
    for address in [shim::DOORBELL.0, guest.system.syscall_entry().lstar] {
        guest.load(store())?;
        guest.set(|regs| regs.rdi = address);
        expect("the fault", guest.page_fault()?, (address, USER | WRITING | PRESENT))?;
    }
    Ok(())
}

pub(crate) fn a_permission_that_was_narrowed_and_revoked_is_gone(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let mut guest = Guest::new(hypervisor, &[])?;
    guest.ram.write(offset(0), RETURN)?;
    for narrow in [READ, Access { user: false, ..SUPERVISOR }] {
        for (what, code, allowed, cause) in uses(narrow) {
            guest.map(SOMEWHERE, 0, Access { write: true, execute: true, user: true });
            attempt(&mut guest, &format!("{what} while all is allowed"), code, true, cause)?;
            guest.map(SOMEWHERE, 0, narrow);
            guest.ram.revoke(offset(0), PAGE_SIZE)?;
            attempt(&mut guest, &format!("{what} after narrowing to {narrow:?}"), code, allowed, cause)?;
        }
    }
    Ok(())
}

pub(crate) fn widening_needs_no_revocation(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let mut guest = Guest::new(hypervisor, &[])?;
    guest.ram.write(offset(0), RETURN)?;
    for (what, code, access) in [("store", store(), WRITE), ("call", call(), EXECUTE)] {
        guest.map(SOMEWHERE, 0, READ);
        guest.ram.revoke(offset(0), PAGE_SIZE)?;
        guest.load(code)?;
        guest.set(|regs| (regs.rdi, regs.rbx) = (SOMEWHERE.0, 0xc3));
        require(what, guest.page_fault()?.1 & PRESENT != 0, "a fault of a page that is there", ())?;
        guest.map(SOMEWHERE, 0, access);
        guest.ring()?;
    }
    Ok(())
}

pub(crate) fn a_revocation_reaches_every_page_and_keeps_the_contents(
    hypervisor: &dyn Hypervisor,
) -> Result<(), Failure> {
    // Store to every page, counted by rcx.
    let mut guest = Guest::new(
        hypervisor,
        assemble!("2:", "mov [rdi], rcx", "add rdi, 4096", "dec rcx", "jnz 2b", "call qword ptr [0x400ff8]"),
    )?;
    let start = guest.start();
    guest.map_pages(SOMEWHERE, 0, DATA_PAGES, WRITE);
    guest.set(|regs| (regs.rdi, regs.rcx) = (SOMEWHERE.0, DATA_PAGES as u64));
    guest.ring()?;

    guest.map_pages(SOMEWHERE, 0, DATA_PAGES, READ);
    guest.ram.revoke(offset(0), DATA_PAGES * PAGE_SIZE)?;
    for page in 0..DATA_PAGES {
        let address = pages_on(SOMEWHERE, page).0;
        guest.restart(CODE)?;
        guest.set(|regs| (regs.rsp, regs.rdi, regs.rcx) = (start.rsp, address, 1));
        expect("the fault", guest.page_fault()?, (address, USER | WRITING | PRESENT))?;
        expect(format_args!("page {page}"), guest.ram.read_u64(offset(page))?, (DATA_PAGES - page) as u64)?;
    }
    Ok(())
}

/// Addresses in the tables of descriptors and interrupts, in the task state segment, in the stubs of exceptions and on
/// their stack (AMD64 Architecture Programmer's Manual, volume 2, sections 4.8.3 and 12.2.5).
fn pages_of_ring_0(guest: &Guest) -> Result<[u64; 5], Failure> {
    let special = guest.system.initial_special_regs(&guest.capabilities, guest.tables.root());
    let read = |at: u64| {
        let (phys, _) = guest.tables.translate(GuestVirt(at)).expect("the system's pages are mapped");
        guest.system.region().read_u64((phys.0 - shim::SYSTEM_BASE.0) as usize)
    };
    let (low, high) = (read(special.idt.base)?, read(special.idt.base + 8)?);
    let stub = low & 0xffff | low >> 48 << 16 | high << 32;
    let stack_end = read(special.tr.base + 36)?;
    Ok([special.gdt.base, special.idt.base, special.tr.base, stub, stack_end - 8])
}

/// Each way to use a page: its name and code, whether `access` allows it, and its bits of the error code.
fn uses(access: Access) -> [(&'static str, &'static [u8], bool, u64); 3] {
    let Access { write, execute, user } = access;
    [("load", load(), user, 0), ("store", store(), user && write, WRITING), ("call", call(), user && execute, FETCH)]
}

/// Uses the page at [`SOMEWHERE`] without changing its first byte.
#[track_caller]
fn attempt(guest: &mut Guest, what: &str, code: &[u8], allowed: bool, cause: u64) -> Result<(), Failure> {
    guest.load(code)?;
    guest.set(|regs| (regs.rdi, regs.rbx) = (SOMEWHERE.0, RETURN[0].into()));
    if allowed {
        return guest.ring().map(drop);
    }
    expect(what, guest.page_fault()?, (SOMEWHERE.0, USER | PRESENT | cause))
}

fn load() -> &'static [u8] {
    assemble!("mov rax, [rdi]", "call qword ptr [0x400ff8]")
}

fn store() -> &'static [u8] {
    assemble!("mov [rdi], rbx", "call qword ptr [0x400ff8]")
}

fn call() -> &'static [u8] {
    assemble!("call rdi", "call qword ptr [0x400ff8]")
}

fn jump() -> &'static [u8] {
    assemble!("jmp rdi")
}

/// The vector of the exception.
const INVALID_OPCODE: u8 = 6;

/// `ret`
const RETURN: &[u8] = &[0xc3];
