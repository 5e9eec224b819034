//! The file of a core dump: headers, notes, memory.

use std::io::{self, Write};

use ampoule_vmm::{GuestVirt, PAGE_SIZE};
use object::LittleEndian as LE;
use object::elf::{self, FileHeader64, Ident, ProgramHeader64};
use object::pod::bytes_of;
use object::{U16, U32, U64};

use super::segments::{Plan, Segment};
use super::{Process, notes};
use crate::address_space::Run;

/// Writes the file, and returns how many bytes of memory were left out.
pub(super) fn write(process: &Process<'_>, limit: u64, sink: &mut dyn Write) -> io::Result<u64> {
    let notes = notes::of(process);
    let mut plan = Plan::new(process);
    plan.cut_to(limit.saturating_sub(layout(&notes, plan.segments.len()).memory));
    let layout = layout(&notes, plan.segments.len());

    sink.write_all(bytes_of(&file_header(plan.segments.len() as u16 + 1)))?;
    let [note_start, note_len] = [layout.notes, notes.len() as u64];
    sink.write_all(bytes_of(&header(elf::PT_NOTE, elf::PF_R, GuestVirt(0), [note_start, note_len, 0], 4)))?;
    let mut headers: Vec<_> = segment_headers(&plan.segments, layout.memory).collect();
    headers.sort_by_key(|header| header.p_vaddr.get(LE));
    headers.iter().try_for_each(|header| sink.write_all(bytes_of(header)))?;
    sink.write_all(&notes)?;
    sink.write_all(&vec![0; (layout.memory - note_start - note_len) as usize])?;
    let mut pages = Pages { process, buffer: vec![0; PORTION as usize * PAGE_SIZE] };
    plan.segments.iter().try_for_each(|segment| pages.write(segment, sink))?;
    sink.flush()?;
    Ok(plan.omitted)
}

/// Where the parts of the file begin.
struct Layout {
    notes: u64,
    memory: u64,
}

fn layout(notes: &[u8], segments: usize) -> Layout {
    let headers = size_of::<FileHeader64<LE>>() + (segments + 1) * size_of::<ProgramHeader64<LE>>();
    Layout { notes: headers as u64, memory: ((headers + notes.len()) as u64).next_multiple_of(PAGE) }
}

fn file_header(segments: u16) -> FileHeader64<LE> {
    let len = |len: usize| U16::new(LE, len as u16);
    FileHeader64 {
        e_ident: Ident {
            magic: elf::ELFMAG,
            class: elf::ELFCLASS64,
            data: elf::ELFDATA2LSB,
            version: elf::EV_CURRENT,
            os_abi: elf::ELFOSABI_SYSV,
            abi_version: 0,
            padding: [0; 7],
        },
        e_type: U16::new(LE, elf::ET_CORE),
        e_machine: U16::new(LE, elf::EM_X86_64),
        e_version: U32::new(LE, elf::EV_CURRENT.0.into()),
        e_entry: U64::default(),
        e_phoff: U64::new(LE, size_of::<FileHeader64<LE>>() as u64),
        e_shoff: U64::default(),
        e_flags: U32::default(),
        e_ehsize: len(size_of::<FileHeader64<LE>>()),
        e_phentsize: len(size_of::<ProgramHeader64<LE>>()),
        e_phnum: U16::new(LE, segments),
        e_shentsize: U16::default(),
        e_shnum: U16::default(),
        e_shstrndx: U16::default(),
    }
}

/// The headers of segments whose bytes follow each other from `offset` on.
fn segment_headers(segments: &[Segment], mut offset: u64) -> impl Iterator<Item = ProgramHeader64<LE>> {
    segments.iter().map(move |segment| {
        let [start, len] = [offset, segment.file_len()];
        offset += len;
        header(elf::PT_LOAD, flags(segment), segment.at, [start, len, segment.memory_len()], PAGE)
    })
}

fn header(
    kind: elf::ProgramType,
    flags: elf::ProgramFlags,
    at: GuestVirt,
    [offset, file_len, memory_len]: [u64; 3],
    alignment: u64,
) -> ProgramHeader64<LE> {
    ProgramHeader64 {
        p_type: U32::new(LE, kind),
        p_flags: U32::new(LE, flags),
        p_offset: U64::new(LE, offset),
        p_vaddr: U64::new(LE, at.0),
        p_paddr: U64::default(),
        p_filesz: U64::new(LE, file_len),
        p_memsz: U64::new(LE, memory_len),
        p_align: U64::new(LE, alignment),
    }
}

fn flags(segment: &Segment) -> elf::ProgramFlags {
    let may = |permitted, flag: elf::ProgramFlags| if permitted { flag.0 } else { 0 };
    let protection = segment.protection;
    elf::ProgramFlags(
        may(protection.is_readable(), elf::PF_R)
            | may(protection.is_writable(), elf::PF_W)
            | may(protection.is_executable(), elf::PF_X),
    )
}

/// Copies memory of the guest's, one portion after the other.
struct Pages<'guest> {
    process: &'guest Process<'guest>,
    buffer: Vec<u8>,
}

impl Pages<'_> {
    /// Writes those pages of a segment that are in the file.
    fn write(&mut self, segment: &Segment, sink: &mut dyn Write) -> io::Result<()> {
        let runs = &self.process.runs;
        let mut runs = runs[runs.partition_point(|run| run.end() <= segment.at)..].iter();
        let mut run: Option<&Run> = None;
        let mut page = 0;
        while page < segment.pages {
            let portion = (segment.pages - page).min(PORTION);
            let bytes = &mut self.buffer[..portion as usize * PAGE_SIZE];
            for into in bytes.chunks_exact_mut(PAGE_SIZE) {
                let at = GuestVirt(segment.at.0 + page * PAGE);
                while run.is_none_or(|run| run.end() <= at) {
                    run = Some(runs.next().expect("the segments are made of the runs"));
                }
                let memory = run.and_then(|run| run.memory_of((at.0 - run.at.0) / PAGE));
                match memory {
                    Some(memory) => self.process.memory.read(memory, into),
                    None => into.fill(0),
                }
                page += 1;
            }
            sink.write_all(bytes)?;
        }
        Ok(())
    }
}

const PAGE: u64 = PAGE_SIZE as u64;

/// How many pages are copied at a time.
const PORTION: u64 = 16;
