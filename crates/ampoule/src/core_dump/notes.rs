//! The notes of a core dump: registers, the signal, the process, its auxiliary vector, its files.

use ampoule_vmm::PAGE_SIZE;

use super::Process;
use crate::address_space::{FileId, MappingKind, Purpose};
use crate::image::Segment;
use crate::personality::linux::structure::to_bytes;
use crate::personality::linux::{PARENT_ID, USER_ID};

/// All notes, one after the other.
pub(super) fn of(process: &Process<'_>) -> Vec<u8> {
    let mut notes = Vec::new();
    add(&mut notes, "CORE", NT_PRSTATUS, &status(process));
    add(&mut notes, "CORE", NT_PRPSINFO, &process_info(process));
    if let Some(signal) = process.signal {
        add(&mut notes, "CORE", NT_SIGINFO, &signal.info(process.id));
    }
    add(&mut notes, "CORE", NT_AUXV, &process.started.auxiliary_vector);
    add(&mut notes, "CORE", NT_FILE, &files(process));
    for note in &process.registers.notes {
        add(&mut notes, note.owner, note.kind, &note.body);
    }
    notes
}

/// Adds a note: the sizes of its name and its body, its kind, and both, each filled up to a multiple of four bytes (System V
/// ABI, "Note Section").
fn add(notes: &mut Vec<u8>, owner: &str, kind: u32, body: &[u8]) {
    for word in [owner.len() as u32 + 1, body.len() as u32, kind] {
        notes.extend(word.to_le_bytes());
    }
    for bytes in [&[owner.as_bytes(), &[0]].concat(), body] {
        notes.extend(bytes);
        notes.resize(notes.len().next_multiple_of(4), 0);
    }
}

/// The signal, the numbers of the process and its general registers (`struct elf_prstatus`).
fn status(process: &Process<'_>) -> Vec<u8> {
    let number = process.signal.map_or(0, |signal| signal.number);
    let start = to_bytes!(StatusStart {
        si_signo: number,
        si_code: process.signal.map_or(0, |signal| signal.code),
        pr_cursig: number as i16,
        pr_pid: process.id,
        pr_ppid: PARENT_ID as i32,
        pr_pgrp: process.id,
        pr_sid: process.id,
    });
    let mut status = start.to_vec();
    status.extend(&process.registers.general);
    // `pr_fpvalid`: there are floating-point registers. The structure ends at a multiple of its alignment.
    status.extend(1_i32.to_le_bytes());
    status.resize(status.len().next_multiple_of(align_of::<StatusStart>()), 0);
    status
}

/// The process's name, arguments and user (`struct elf_prpsinfo`).
fn process_info(process: &Process<'_>) -> Vec<u8> {
    to_bytes!(ProcessInfo {
        pr_sname: b'R',
        pr_uid: USER_ID,
        pr_gid: USER_ID,
        pr_pid: process.id,
        pr_ppid: PARENT_ID as i32,
        pr_pgrp: process.id,
        pr_sid: process.id,
        pr_fname: text(&process.started.program),
        pr_psargs: text(&process.started.command_line),
    })
    .to_vec()
}

/// A text, cut where it does not fit, with a zero at its end.
fn text<const N: usize>(text: &str) -> [u8; N] {
    let mut field = [0; N];
    for (place, byte) in field[..N - 1].iter_mut().zip(text.bytes()) {
        *place = byte;
    }
    field
}

/// Which addresses show which part of which file: how many they are, the unit of the offsets, start, end and offset of each,
/// and then the file's name for each (Linux's `fill_files_note` in `fs/binfmt_elf.c`).
fn files(process: &Process<'_>) -> Vec<u8> {
    let parts = file_parts(process);
    let mut note = Vec::new();
    for word in [parts.len() as u64, PAGE].into_iter().chain(parts.iter().flat_map(|part| part.place)) {
        note.extend(word.to_le_bytes());
    }
    for part in &parts {
        let text = |text: &'_ str| text.as_bytes()[..text.floor_char_boundary(MAX_NAME)].to_vec();
        let name = match part.file {
            Of::Guests(file) => {
                process.files.get(&file).map(|file| file.path[..file.path.len().min(MAX_NAME)].to_vec())
            }
            Of::Hosts(file) => process.host_files.get(file).map(|path| text(path)),
            Of::Executable => None,
        };
        let name = name.unwrap_or_else(|| text(process.executable.name()));
        note.extend(name.into_iter().take_while(|byte| *byte != 0).chain([0]));
    }
    note
}

/// A part of a file that is mapped.
#[derive(Clone, Copy)]
struct FilePart {
    /// Start, end and offset, in pages of the file.
    place: [u64; 3],
    file: Of,
}

/// Whose file it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    Executable,
    /// One that the guest has mapped.
    Guests(FileId),
    /// One that the application has mapped for it.
    Hosts(usize),
}

/// The parts of the image and of other files that are mapped still.
fn file_parts(process: &Process<'_>) -> Vec<FilePart> {
    let segments: Vec<Segment<'_>> = process.executable.segments().collect();
    let mut parts: Vec<FilePart> = Vec::new();
    let mut add = |start: u64, end: u64, offset: u64, file: Of| {
        if let Some(FilePart { place: [before, end_before, offset_before], file: file_before }) = parts.last_mut()
            && (*end_before, *file_before) == (start, file)
            && *offset_before + (start - *before) / PAGE == offset
        {
            *end_before = end;
        } else if parts.len() < MAX_PARTS {
            parts.push(FilePart { place: [start, end, offset], file });
        }
    };
    for run in &process.runs {
        match run.purpose {
            Purpose::Mapping(MappingKind::Image) => {
                for segment in &segments {
                    let first = segment.address().page_start().0;
                    let last = (segment.address().0 + segment.bytes().len() as u64).next_multiple_of(PAGE);
                    let (start, end) = (run.at.0.max(first), run.end().0.min(last));
                    if start < end && !segment.bytes().is_empty() {
                        add(start, end, segment.file_offset() / PAGE + (start - first) / PAGE, Of::Executable);
                    }
                }
            }
            Purpose::Mapping(MappingKind::File(of) | MappingKind::BehindFile(of)) => {
                add(run.at.0, run.end().0, of.first, Of::Guests(of.file));
            }
            Purpose::Host { file: Some((file, first)) } => add(run.at.0, run.end().0, first, Of::Hosts(file)),
            Purpose::Mapping(_) | Purpose::Shared | Purpose::Host { file: None } => {}
        }
    }
    parts
}

/// `struct elf_prstatus` up to the general registers, whose number depends on the architecture (Linux's
/// `include/linux/elfcore.h`; `sys/procfs.h`).
#[repr(C)]
struct StatusStart {
    si_signo: i32,
    si_code: i32,
    si_errno: i32,
    pr_cursig: i16,
    pr_sigpend: u64,
    pr_sighold: u64,
    pr_pid: i32,
    pr_ppid: i32,
    pr_pgrp: i32,
    pr_sid: i32,
    /// User and system time, of the process and of its children: seconds and microseconds.
    times: [u64; 8],
}

/// `struct elf_prpsinfo` (Linux's `include/linux/elfcore.h`).
#[repr(C)]
struct ProcessInfo {
    pr_state: u8,
    pr_sname: u8,
    pr_zomb: u8,
    pr_nice: u8,
    pr_flag: u64,
    pr_uid: u32,
    pr_gid: u32,
    pr_pid: i32,
    pr_ppid: i32,
    pr_pgrp: i32,
    pr_sid: i32,
    pr_fname: [u8; 16],
    pr_psargs: [u8; 80],
}

const PAGE: u64 = PAGE_SIZE as u64;

// Kinds of notes (Linux's `include/uapi/linux/elf.h`).
const NT_PRSTATUS: u32 = 1;
const NT_PRPSINFO: u32 = 3;
const NT_AUXV: u32 = 6;
const NT_SIGINFO: u32 = 0x5349_4749;
const NT_FILE: u32 = 0x4649_4c45;

/// The most parts of files that are listed: a guest may have cut it into as many as it has pages.
const MAX_PARTS: usize = 1024;

/// The most bytes of a file's name that are shown, once for each part.
const MAX_NAME: usize = 1024;
