//! `/proc/self/maps`: the process's mappings, a line for each, made when it is read.

use std::fmt::Write;
use std::ops::Range;

use ampoule_vfs::{Context, Metadata, NoProcess, Timestamp};
use ampoule_vmm::{GuestVirt, PAGE_SIZE};
use serde::{Deserialize, Serialize};

use crate::address_space::{AddressSpace, HostRole, MappedFile, MappingKind};

use super::State;

/// The file that the process runs.
pub(super) struct ProgramFile<'state> {
    pub(super) path: Vec<u8>,
    /// The numbers of its device, and its inode.
    pub(super) device: (u32, u32),
    pub(super) inode: u64,
    pub(super) parts: &'state [ProgramPart],
}

/// Where a part of it lies in memory: the first address, the one behind the last, and the byte of the file at the first.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct ProgramPart {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) offset: u64,
}

impl ProgramPart {
    /// Whether it lies somewhere, and its bytes have places in a file.
    pub(super) fn is_sound(&self) -> bool {
        self.start < self.end && self.offset.checked_add(self.end - self.start).is_some()
    }
}

impl State {
    /// The file that the process runs, where that is among its files.
    pub(super) fn program_file(&self) -> Option<ProgramFile<'_>> {
        let file = self.executable.as_ref()?;
        let Metadata { device, inode, .. } = self.vfs.metadata(file.location()).ok()?;
        let context = Context { now: Timestamp::default(), process: &NoProcess };
        let path = self.vfs.path_of(&context, file);
        Some(ProgramFile { path, device: (device.major, device.minor), inode, parts: &self.started.parts })
    }
}

/// Fills `into` with the text at a position, and returns how much that is. With details it is that of `/proc/self/smaps`.
pub(super) fn read(
    space: &AddressSpace,
    program: &Option<ProgramFile<'_>>,
    position: u64,
    into: &mut [u8],
    detailed: bool,
) -> usize {
    let mut to_skip = position;
    let mut filled = 0;
    let mut text = String::new();
    for shown in own(space, program.as_ref()).chain(hosts(space)) {
        if filled == into.len() {
            break;
        }
        text.clear();
        put_line(&mut text, &shown);
        if detailed {
            put_details(&mut text, &shown);
        }
        let skipped = to_skip.min(text.len() as u64);
        to_skip -= skipped;
        let part = &text.as_bytes()[skipped as usize..];
        let part = &part[..part.len().min(into.len() - filled)];
        into[filled..filled + part.len()].copy_from_slice(part);
        filled += part.len();
    }
    filled
}

/// A mapping as it is shown.
struct Shown {
    pages: Range<GuestVirt>,
    /// Whether they can be read, written and executed, and are shared.
    permissions: [bool; 4],
    /// Where in its file it begins, and the file's device and inode.
    file: (u64, (u32, u32), u64),
    name: String,
}

/// The guest's own mappings.
fn own<'a>(space: &'a AddressSpace, program: Option<&'a ProgramFile<'_>>) -> impl Iterator<Item = Shown> {
    space.mappings().flat_map(move |(pages, kind, protection)| {
        let [read, write, execute] = [protection.is_readable(), protection.is_writable(), protection.is_executable()];
        pieces(pages, kind, program).into_iter().map(move |pages| {
            let file = shown_file(space, program, &pages, kind);
            let name = match (kind, &file) {
                (_, Some(file)) => shown_path(file.path),
                (MappingKind::Heap, _) => "[heap]".to_owned(),
                (MappingKind::Stack, _) => "[stack]".to_owned(),
                (MappingKind::Vdso, _) => "[vdso]".to_owned(),
                _ => String::new(),
            };
            let is_shared = file.as_ref().is_some_and(|file| file.is_shared);
            let file = file.map_or((0, (0, 0), 0), |file| (file.offset, file.device, file.inode));
            Shown { pages, permissions: [read, write, execute, is_shared], file, name }
        })
    })
}

/// A mapping in parts of which each is a part of the program's file or none. Two that lie side by side may be one mapping, even
/// where they do not in the file.
fn pieces(pages: Range<GuestVirt>, kind: MappingKind, program: Option<&ProgramFile<'_>>) -> Vec<Range<GuestVirt>> {
    let mut ends: Vec<_> = match (kind, program) {
        (MappingKind::Image, Some(program)) => program.parts.iter().flat_map(|part| [part.start, part.end]).collect(),
        _ => Vec::new(),
    };
    ends.retain(|end| (pages.start.0 + 1..pages.end.0).contains(end));
    ends.push(pages.end.0);
    ends.sort_unstable();
    ends.dedup();
    let starts = [pages.start.0].into_iter().chain(ends.clone());
    starts.zip(ends).map(|(start, end)| GuestVirt(start)..GuestVirt(end)).collect()
}

/// What is shown of the file behind a mapping.
struct ShownFile<'a> {
    is_shared: bool,
    offset: u64,
    device: (u32, u32),
    inode: u64,
    path: &'a [u8],
}

fn shown_file<'a>(
    space: &'a AddressSpace,
    program: Option<&'a ProgramFile<'_>>,
    pages: &Range<GuestVirt>,
    kind: MappingKind,
) -> Option<ShownFile<'a>> {
    if kind == MappingKind::Image {
        let ProgramFile { path, device, inode, parts } = program?;
        let part = parts.iter().find(|part| (part.start..part.end).contains(&pages.start.0))?;
        let offset = part.offset + (pages.start.0 - part.start);
        return Some(ShownFile { is_shared: false, offset, device: *device, inode: *inode, path });
    }
    let of = kind.file()?;
    let MappedFile { path, device, inode, .. } = &**space.mapped_file(of.file)?;
    let (is_shared, offset) = (of.sharing.is_shared(), of.first * PAGE);
    Some(ShownFile { is_shared, offset, device: *device, inode: *inode, path })
}

/// What the application has mapped, which nobody else writes. Its name on the host is none of the guest's.
fn hosts(space: &AddressSpace) -> impl Iterator<Item = Shown> {
    space.host_pages().iter().map(|pages| {
        let name = match &pages.role {
            HostRole::File(path) => shown_path(path.as_bytes()),
            HostRole::Mapped => "[mapped]".to_owned(),
            HostRole::Lent => "[lent]".to_owned(),
        };
        let is_file = matches!(pages.role, HostRole::File(_));
        let permissions = [true, pages.access.write, pages.access.execute, is_file];
        Shown { pages: pages.at..pages.end(), permissions, file: (0, (0, 0), 0), name }
    })
}

fn put_line(text: &mut String, Shown { pages, permissions, file, name }: &Shown) {
    let [read, write, execute, is_shared] = *permissions;
    let may = |permitted, letter| if permitted { letter } else { '-' };
    let (read, write, execute) = (may(read, 'r'), may(write, 'w'), may(execute, 'x'));
    let sharing = if is_shared { 's' } else { 'p' };
    let (offset, (major, minor), inode) = file;
    let start = text.len();
    put(text, format_args!("{:08x}-{:08x} {read}{write}{execute}{sharing} ", pages.start.0, pages.end.0));
    put(text, format_args!("{offset:08x} {major:02x}:{minor:02x} {inode} "));
    // As on Linux the name begins in column 73, and nothing follows where there is none.
    if !name.is_empty() {
        put(text, format_args!("{:1$}{name}", "", NAME_COLUMN.saturating_sub(text.len() - start)));
    }
    text.push('\n');
}

/// A path as Linux writes it, so that each mapping has one line.
fn shown_path(path: &[u8]) -> String {
    String::from_utf8_lossy(path).replace('\n', "\\012")
}

/// How much of it is memory: all that is accessible, of which pages of large files may be given later.
fn put_details(text: &mut String, Shown { pages, permissions, .. }: &Shown) {
    let size = (pages.end.0 - pages.start.0) >> 10;
    let resident = if permissions[0] { size } else { 0 };
    let rows = [("Size", size), ("KernelPageSize", 4), ("MMUPageSize", 4), ("Rss", resident), ("Pss", resident)];
    for (name, kib) in rows {
        put(text, format_args!("{:15} {kib:8} kB\n", format!("{name}:")));
    }
}

fn put(text: &mut String, what: std::fmt::Arguments<'_>) {
    text.write_fmt(what).expect("text goes into a string");
}

const PAGE: u64 = PAGE_SIZE as u64;

/// Where the name begins in its line (Linux's `fs/proc/task_mmu.c`).
const NAME_COLUMN: usize = 73;
