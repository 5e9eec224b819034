//! The function records of this program: the section that the linker collects from all of its crates.

use std::cell::UnsafeCell;
use std::ptr;

use ampoule_abi::layout::{self, ABI_MAJOR, RECORD_HEADER_LEN, RecordHeader, RecordKind};

use super::call::{BadArguments, Call, Return};

/// Decodes the arguments of an export, calls it, and encodes what it returns.
pub type Shim = for<'a> fn(&Call<'a>) -> Result<Return<'a>, BadArguments>;

/// The value of an import's record.
pub type Imported = u64;

/// A record in the section `ampoule_fns`.
///
/// Nothing ever writes to it. The cell has the compiler put all records into a section of the same flags: the address of
/// a shim is relocated when a position-independent program starts, so records of exports are not in read-only memory, and
/// a section whose parts differ in that would be split or, worse, take the flags of its first part.
#[derive(Debug)]
#[repr(transparent)]
pub struct Record<F, const N: usize>(UnsafeCell<layout::Record<F, N>>);

// SAFETY: nothing writes to the cell, and what it holds (numbers, text and a function pointer) is `Sync`.
unsafe impl<F: Sync, const N: usize> Sync for Record<F, N> {}

impl<const N: usize> Record<Shim, N> {
    /// The record of an export.
    pub const fn export(name: &str, signature: &str, shim: Shim) -> Self {
        Self(UnsafeCell::new(layout::Record::new(RecordKind::Export, shim, name, signature)))
    }
}

impl<const N: usize> Record<Imported, N> {
    /// The record of an import.
    pub const fn import(name: &str, signature: &str) -> Self {
        Self(UnsafeCell::new(layout::Record::new(RecordKind::Import, 0, name, signature)))
    }

    /// The number of the import: the offset of its record in the section.
    pub(super) fn number(&'static self) -> u32 {
        number_of(ptr::from_ref(self).cast())
    }
}

/// The number of the function of a record: the record's offset in the section.
pub(super) fn number_of(record: *const ()) -> u32 {
    (record.addr() - section().as_ptr().addr()) as u32
}

/// The exports of this program by their numbers.
pub(super) struct Exports {
    /// In ascending order of the numbers.
    shims: Vec<(u32, Shim)>,
}

impl Exports {
    pub(super) fn of_this_program() -> Self {
        let section = section();
        let mut shims = Vec::new();
        let mut offset = 0;
        while let Some(bytes) = section[offset..].first_chunk::<RECORD_HEADER_LEN>() {
            let header = RecordHeader::from_bytes(bytes);
            if header.kind == RecordKind::Export as u16 {
                let shim = ptr::with_exposed_provenance::<()>(header.value as usize);
                // SAFETY: an export's record is made by `Record::export`, the only constructor of that kind, from a
                // `Shim`. Another version of this crate could make others: `ABI_RECORD` keeps it out of the program.
                let shim = unsafe { std::mem::transmute::<*const (), Shim>(shim) };
                shims.push((offset as u32, shim));
            }
            offset += header.size as usize;
        }
        Self { shims }
    }

    pub(super) fn find(&self, number: u32) -> Option<Shim> {
        let index = self.shims.binary_search_by_key(&number, |&(number, _)| number).ok()?;
        Some(self.shims[index].1)
    }
}

/// The bytes between the symbols that the linker defines for a section whose name is an identifier.
fn section() -> &'static [u8] {
    unsafe extern "C" {
        #[link_name = "__start_ampoule_fns"]
        static START: UnsafeCell<u8>;
        #[link_name = "__stop_ampoule_fns"]
        static STOP: UnsafeCell<u8>;
    }

    let start = (&raw const START).cast::<u8>();
    let len = (&raw const STOP).addr() - start.addr();
    // SAFETY: all between the two symbols is the section, which is there while the program runs and holds nothing but
    // records, which nothing writes to. There is one record at least, `ABI_RECORD`.
    unsafe { std::slice::from_raw_parts(start, len) }
}

/// The minor version of the ABI that a host must have at least. This crate can do without what came later.
pub(super) const NEEDED_MINOR: u32 = 0;

/// The version of the ABI that this program needs.
///
/// The symbol is global, so the linker refuses a program with two versions of this crate, whose records would not
/// understand each other.
#[used]
#[unsafe(export_name = "ampoule_abi_record")]
#[unsafe(link_section = "ampoule_fns")]
pub(super) static ABI_RECORD: Record<u64, { layout::padded_text_len("", "") }> = Record(UnsafeCell::new(
    layout::Record::new(RecordKind::Abi, (ABI_MAJOR as u64) << 32 | NEEDED_MINOR as u64, "", ""),
));
