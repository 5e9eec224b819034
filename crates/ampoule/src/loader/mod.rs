//! Loading: from an executable to an address space in which a program is about to start, as Linux's `execve` leaves it.

mod error;
mod execution;
mod interpreter;
mod start_block;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use ampoule_abi::layout::AT_AMPOULE;
use ampoule_vmm::address_map::USER_END;
use ampoule_vmm::{Contents, GuestVirt, PAGE_SIZE};
#[cfg(feature = "gdb")]
use linux_raw_sys::auxvec::AT_NULL;
use linux_raw_sys::auxvec::{
    AT_BASE, AT_CLKTCK, AT_EGID, AT_ENTRY, AT_EUID, AT_FLAGS, AT_GID, AT_HWCAP, AT_HWCAP2, AT_PAGESZ, AT_PHDR,
    AT_PHENT, AT_PHNUM, AT_SECURE, AT_SYSINFO_EHDR, AT_UID,
};

use crate::address_space::{AddressSpace, MapError, Placement, Protection};
use crate::image::{Executable, Permissions, Segment};
use crate::personality::linux::vdso;

use self::start_block::StartBlock;

pub use self::error::{ExecuteError, LoadError, StartText};
pub(crate) use self::execution::Execution;
pub(crate) use self::interpreter::Interpreter;

/// What a program finds when it starts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StartInfo<'a> {
    /// The path by which it was executed, for `AT_EXECFN`. None where that is none of its files: then it is the program's name.
    pub(crate) program: Option<&'a str>,
    /// The command line. The first argument is the program's name.
    pub(crate) arguments: &'a [String],
    /// The environment, by name.
    pub(crate) environment: &'a BTreeMap<String, String>,
    /// Random bytes for the C library, for `AT_RANDOM`.
    pub(crate) random: [u8; 16],
    /// The address of the ABI's info page, for [`AT_AMPOULE`], if there is one.
    pub(crate) info_page: Option<GuestVirt>,
    /// Where it reads its clocks, by the library whose address is in `AT_SYSINFO_EHDR`; without this it has none.
    pub(crate) time_page: Option<GuestVirt>,
    /// The most that the stack may grow to, in bytes.
    pub(crate) stack_size: usize,
    /// The processor's features, for `AT_HWCAP` and `AT_HWCAP2`.
    pub(crate) hardware: [u64; 2],
}

/// Where a program starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    /// The first instruction.
    pub(crate) entry: GuestVirt,
    /// The stack pointer at the first instruction.
    pub(crate) stack_pointer: GuestVirt,
    /// What it was started with.
    pub(crate) record: StartRecord,
}

/// What a program was started with, as far as a core dump shows it, whatever becomes of it in the guest's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StartRecord {
    /// The auxiliary vector, its end included.
    pub(crate) auxiliary_vector: Box<[u8]>,
    /// The name of the program: its first argument.
    pub(crate) program: Box<str>,
    /// The start of the command line, with spaces between its arguments.
    pub(crate) command_line: Box<str>,
    /// Where the arguments lie in memory, one behind the other with their zeros: an address, and how many bytes that is.
    pub(crate) arguments: (u64, u64),
    /// The same of the environment.
    pub(crate) environment: (u64, u64),
}

/// Loads an executable, and the interpreter that it names, into an address space in which only windows are mapped, and lays
/// out the stack for its start.
pub(crate) fn load(
    executable: &Executable,
    interpreter: Option<&Interpreter>,
    space: &mut AddressSpace,
    start: &StartInfo<'_>,
) -> Result<Start, LoadError> {
    let mut block = start_block(executable, start)?;
    let stack_used = (block.len() as u64 + STACK_ROOM).min(start.stack_size as u64);
    let vdso = start.time_page.map(vdso::image);
    let others = interpreter.map_or(0, Interpreter::memory_size) + vdso.as_ref().map_or(0, |_| PAGE);
    check_memory(executable, space, stack_used + others)?;

    let top =
        space.map_stack(start.stack_size as u64, stack_used).map_err(|error| stack_error(&error, start.stack_size))?;
    let mut parts = Vec::new();
    let mut end = GuestVirt(0);
    let segment_pages = executable.segment_pages().map_err(LoadError::Memory)?;
    for (segment, pages) in executable.segments().zip(segment_pages) {
        map_segment(&segment, space)?;
        let at = segment.address().page_start();
        if pages.pages() > 0 && protection(segment.permissions()).is_readable() {
            parts.push((space.first_page_behind(at, pages.pages()), pages));
        }
        end = segment.end();
    }
    let memory = space.memory_mut();
    let contents = Contents::of_parts(memory.pages(), parts);
    memory.show(&contents).map_err(LoadError::Memory)?;
    space.place_heap(GuestVirt(end.0.next_multiple_of(PAGE)));
    if let Some(image) = vdso {
        let at = space.map_vdso(image.len() as u64).map_err(|_| LoadError::PageTables { address: 0, size: PAGE })?;
        space.initialize(at, &image).expect("the pages were mapped for it");
        block.auxiliary(AT_SYSINFO_EHDR, at.0);
    }

    let mut entry = executable.entry();
    if let Some(interpreter) = interpreter {
        let base = interpreter.map(space)?;
        block.auxiliary(AT_BASE, base.0);
        entry = GuestVirt(base.0 + interpreter.entry());
    } else {
        block.auxiliary(AT_BASE, 0);
    }

    let (stack_pointer, bytes) = block.place(top);
    space.initialize(stack_pointer, &bytes).expect("the used part of the stack holds the start block");
    let [arguments, environment] = block.texts(top);
    let record = StartRecord {
        arguments,
        environment,
        auxiliary_vector: block.auxiliary_vector(&bytes).into(),
        program: start.arguments.first().map_or("", String::as_str).into(),
        command_line: command_line(start.arguments).into(),
    };
    Ok(Start { entry, stack_pointer, record })
}

/// The start of the command line.
fn command_line(arguments: &[String]) -> String {
    let mut line = String::new();
    for argument in arguments {
        if line.len() > MAX_COMMAND_LINE {
            break;
        }
        line.extend((!line.is_empty()).then_some(' '));
        line.extend(argument.chars().take(MAX_COMMAND_LINE));
    }
    line.truncate(line.floor_char_boundary(MAX_COMMAND_LINE));
    line
}

/// Maps a segment. The pages at its end for which the file has no bytes are anonymous memory, as on Linux, if they can be.
fn map_segment(segment: &Segment<'_>, space: &mut AddressSpace) -> Result<(), LoadError> {
    let at = segment.address();
    let (first, size) = (at.page_start(), segment.memory_size());
    let len = (at.page_offset() as u64 + size).next_multiple_of(PAGE);
    let protection = protection(segment.permissions());
    let of_file = match at.page_offset() as u64 + segment.bytes().len() as u64 {
        of_file if protection == Protection::ReadWrite => of_file.next_multiple_of(PAGE),
        _ => len,
    };
    let error = |error| match error {
        MapError::OutOfTables(_) => LoadError::PageTables { address: at.0, size },
        _ => LoadError::NoRoom { address: at.0, size },
    };
    if of_file > 0 {
        space.map_image(first, of_file, protection).map_err(error)?;
    }
    if of_file < len {
        let zeros = GuestVirt(first.0 + of_file);
        let placed = space.map_anonymous(len - of_file, Placement::Hint(zeros), protection).map_err(error)?;
        if placed != zeros {
            return Err(error(MapError::Occupied));
        }
    }
    Ok(())
}

/// Checks that there is enough memory before anything is mapped, so that the error can say how much it takes.
fn check_memory(executable: &Executable, space: &AddressSpace, stack: u64) -> Result<(), LoadError> {
    let segments = executable.segments().map(|segment| {
        let into_page = segment.address().page_offset() as u64;
        (into_page + segment.memory_size()).next_multiple_of(PAGE)
    });
    let needed = segments.sum::<u64>() + stack.next_multiple_of(PAGE);
    let limit = space.memory_total();
    if needed > limit { Err(LoadError::MemoryLimit { needed, limit }) } else { Ok(()) }
}

fn stack_error(error: &MapError, stack_size: usize) -> LoadError {
    match error {
        MapError::OutOfTables(_) => {
            LoadError::PageTables { address: USER_END.0 - stack_size as u64, size: stack_size as u64 }
        }
        _ => LoadError::StackSize { size: stack_size },
    }
}

/// What stands on the stack at the program's start.
fn start_block(executable: &Executable, start: &StartInfo<'_>) -> Result<StartBlock, LoadError> {
    let limit = MAX_START_BLOCK.min(start.stack_size / 4);
    let mut block = StartBlock::new(start.program, start.arguments, start.environment, start.random, limit)?;
    if let Some(headers) = executable.program_headers() {
        block.auxiliary(AT_PHDR, headers.address.0);
        block.auxiliary(AT_PHENT, headers.entry_size as u64);
        block.auxiliary(AT_PHNUM, headers.count as u64);
    }
    for (kind, value) in [
        (AT_HWCAP, start.hardware[0]),
        (AT_PAGESZ, PAGE),
        (AT_CLKTCK, 100),
        (AT_FLAGS, 0),
        (AT_ENTRY, executable.entry().0),
        (AT_UID, USER_ID),
        (AT_EUID, USER_ID),
        (AT_GID, USER_ID),
        (AT_EGID, USER_ID),
        (AT_SECURE, 0),
        (AT_HWCAP2, start.hardware[1]),
    ] {
        block.auxiliary(kind, value);
    }
    if let Some(info_page) = start.info_page {
        block.auxiliary(AT_AMPOULE, info_page.0);
    }
    Ok(block)
}

/// What a debugger is to know of the auxiliary vector: where the executable was loaded.
#[cfg(feature = "gdb")]
pub(crate) fn auxiliary_vector(executable: &Executable) -> Vec<u8> {
    let headers = executable.program_headers();
    let headers = headers.map(|headers| {
        let (size, count) = (headers.entry_size as u64, headers.count as u64);
        [(AT_PHDR, headers.address.0), (AT_PHENT, size), (AT_PHNUM, count)]
    });
    let rest = [(AT_PAGESZ, PAGE), (AT_ENTRY, executable.entry().0), (AT_NULL, 0)];
    let pairs = headers.into_iter().flatten().chain(rest);
    pairs.flat_map(|(kind, value)| [kind.into(), value]).flat_map(u64::to_le_bytes).collect()
}

/// The check of the executable has refused segments that are both writable and executable.
fn protection(permissions: Permissions) -> Protection {
    match permissions {
        Permissions { write: true, .. } => Protection::ReadWrite,
        Permissions { execute: true, .. } => Protection::ReadExecute,
        Permissions { read: true, .. } => Protection::Read,
        Permissions { .. } => Protection::None,
    }
}

const PAGE: u64 = PAGE_SIZE as u64;

/// How much of the stack is mapped beyond the start block, in bytes: as much as Linux maps.
const STACK_ROOM: u64 = 128 << 10;

/// The most that arguments, environment and the pointers to them may take, in bytes. They may never take more than a quarter
/// of the stack either, as on Linux.
const MAX_START_BLOCK: usize = 128 << 10;

/// How much of the command line is recorded, in bytes: more than any report shows.
const MAX_COMMAND_LINE: usize = 256;

/// The user and group that the program runs as. Its system calls report the same.
const USER_ID: u64 = crate::personality::linux::USER_ID as u64;
