//! Files that are read back with the crate `object`. What gdb makes of them is in the workspace's tests.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use ampoule_vmm::processor::CoreNote;
use ampoule_vmm::{FaultAccess, PAGE_SIZE};
use object::LittleEndian as LE;
use object::elf::{self, FileHeader64, ProgramHeader64};
use object::read::elf::{FileHeader, ProgramHeader};

use super::segments::MAX_SEGMENTS;
use super::*;
use crate::address_space::{MappingKind, Protection, Purpose};
use crate::fault::{EndlessWait, Fault, FaultKind, FaultTarget, Position};
use crate::image;
use crate::limits::ExceededLimit;
use crate::termination::Termination;

const PAGE: u64 = PAGE_SIZE as u64;
const STACK: u64 = 0x7000_0000_0000;
const HEAP: u64 = 0x1000_0000;

/// A core dump that could not be written.
pub(crate) fn failed(error: CoreDumpError) -> CoreDump {
    CoreDump::new(Err(error))
}

/// Memory of which each page holds its number, except for those that hold zeros.
struct Numbered {
    zeros: Vec<usize>,
}

impl Memory for Numbered {
    fn is_touched(&self, page: usize) -> bool {
        !self.zeros.contains(&page)
    }

    fn read(&self, page: usize, into: &mut [u8]) {
        into.fill(0);
        if !self.zeros.contains(&page) {
            into[..8].copy_from_slice(&(page as u64 + 1).to_le_bytes());
        }
    }
}

fn run(at: u64, pages: u64, kind: MappingKind, protection: Protection, memory: Option<usize>) -> Run {
    Run { at: GuestVirt(at), pages, purpose: Purpose::Mapping(kind), protection, memory }
}

fn heap(at: u64, pages: u64, memory: usize) -> Run {
    run(at, pages, MappingKind::Heap, Protection::ReadWrite, Some(memory))
}

/// The file of a guest with this memory.
fn dump(runs: Vec<Run>, zeros: &[usize], stack_pointer: u64, limit: u64) -> (Core, u64) {
    let mut bytes = Vec::new();
    let omitted = write(runs, zeros, stack_pointer, limit, &mut bytes).unwrap();
    (Core(bytes), omitted)
}

fn write(runs: Vec<Run>, zeros: &[usize], stack_pointer: u64, limit: u64, sink: &mut dyn Write) -> Dumped {
    let image = image::tests::image();
    let started = StartRecord {
        auxiliary_vector: [9_u64, 0x40_1000, 0, 0].iter().flat_map(|word| word.to_le_bytes()).collect(),
        program: "a-program-with-a-long-name".into(),
        command_line: "a-program-with-a-long-name --and an-argument".into(),
        arguments: (0, 0),
        environment: (0, 0),
    };
    let vectors = CoreNote { owner: "LINUX", kind: 0x202, body: vec![7; 33] };
    Process {
        files: BTreeMap::new(),
        host_files: Vec::new(),
        registers: CoreRegisters { general: vec![0xee; 27 * 8], notes: vec![vectors] },
        stack_pointer: GuestVirt(stack_pointer),
        id: 4242,
        started: &started,
        executable: image.executable(),
        runs,
        memory: &Numbered { zeros: zeros.to_vec() },
        signal: Signal::of(&Termination::Killed, GuestVirt(0)),
    }
    .write(limit, sink)
}

struct Core(Vec<u8>);

impl Core {
    fn headers(&self) -> &[ProgramHeader64<LE>] {
        let header = FileHeader64::<LE>::parse(&*self.0).unwrap();
        assert_eq!((header.e_type(LE), header.e_machine(LE)), (elf::ET_CORE, elf::EM_X86_64));
        header.program_headers(LE, &*self.0).unwrap()
    }

    /// Address, pages in the file and in memory of each segment.
    fn segments(&self) -> Vec<(u64, u64, u64)> {
        let segments = self.headers().iter().filter(|header| header.p_type(LE) == elf::PT_LOAD);
        segments.map(|header| (header.p_vaddr(LE), header.p_filesz(LE) / PAGE, header.p_memsz(LE) / PAGE)).collect()
    }

    /// What a debugger reads at an address; nothing where no segment is.
    fn word(&self, at: u64) -> Option<u64> {
        let mut headers = self.headers().iter().filter(|header| header.p_type(LE) == elf::PT_LOAD);
        let of =
            |header: &&ProgramHeader64<LE>| (header.p_vaddr(LE)..header.p_vaddr(LE) + header.p_memsz(LE)).contains(&at);
        let header = headers.find(of)?;
        let data = header.data(LE, &*self.0).unwrap();
        let at = (at - header.p_vaddr(LE)) as usize;
        Some(data.get(at..at + 8).map_or(0, |word| u64::from_le_bytes(word.try_into().unwrap())))
    }

    /// The bodies of the notes, by their kinds.
    fn notes(&self) -> BTreeMap<u32, Vec<u8>> {
        let header = self.headers().iter().find(|header| header.p_type(LE) == elf::PT_NOTE).unwrap();
        let mut notes = header.notes(LE, &*self.0).unwrap().unwrap();
        let mut found = BTreeMap::new();
        while let Some(note) = notes.next().unwrap() {
            assert!([b"CORE".as_slice(), b"LINUX"].contains(&note.name()));
            found.insert(note.n_type(LE).0, note.desc().to_vec());
        }
        found
    }
}

#[test]
fn pages_of_zeros_are_not_in_the_file_and_read_as_zeros() {
    // A single page between others is written, for the sake of fewer segments.
    let zeros: Vec<usize> = (3..40).chain([45]).collect();
    let bare = run(HEAP + 50 * PAGE, 10, MappingKind::Heap, Protection::ReadWrite, None);
    let (core, omitted) = dump(vec![heap(HEAP, 50, 0), bare], &zeros, 0, u64::MAX);
    assert_eq!((core.segments(), omitted), (vec![(HEAP, 3, 40), (HEAP + 40 * PAGE, 10, 20)], 0));
    for page in 0..60 {
        let expected = if zeros.contains(&(page as usize)) || page >= 50 { 0 } else { page + 1 };
        assert_eq!(core.word(HEAP + page * PAGE), Some(expected), "page {page}");
    }
    assert_eq!(core.word(HEAP + 60 * PAGE), None);
    assert!(core.0.len() as u64 <= 14 * PAGE + PAGE);
}

#[test]
fn pages_whose_frames_lie_apart_are_one_segment() {
    let (core, _) = dump(vec![heap(HEAP, 2, 7), heap(HEAP + 2 * PAGE, 30, 100)], &[], 0, u64::MAX);
    assert_eq!(core.segments(), [(HEAP, 32, 32)]);
    assert_eq!(core.word(HEAP + PAGE), Some(9));
    assert_eq!(core.word(HEAP + 31 * PAGE), Some(130));
}

#[test]
fn terabytes_that_a_guest_has_reserved_cost_nothing() {
    let pages = 100 << 28;
    let reserved = run(HEAP, pages, MappingKind::Anonymous, Protection::None, None);
    for stack_pointer in [0, HEAP + (1 << 40), u64::MAX] {
        let (core, omitted) = dump(vec![reserved], &[], stack_pointer, u64::MAX);
        let covered: u64 = core.segments().iter().map(|(_, _, pages)| pages).sum();
        assert_eq!((covered, omitted), (pages, 0));
        assert!(core.0.len() < 3 * PAGE_SIZE, "{}", core.0.len());
    }
}

/// A stack of 8 pages, of which 4 are in use; a heap of 8 pages; constants of 8 pages.
fn three_parts() -> Vec<Run> {
    vec![
        run(0x40_0000, 8, MappingKind::Image, Protection::Read, Some(100)),
        heap(HEAP, 8, 200),
        run(STACK, 8, MappingKind::Stack, Protection::ReadWrite, Some(300)),
    ]
}

#[test]
fn a_limit_leaves_out_the_least_useful_first_and_what_it_leaves_out_is_missing() {
    let stack_pointer = STACK + 4 * PAGE + 8;
    let (whole, _) = dump(three_parts(), &[], stack_pointer, u64::MAX);
    let headers = whole.0.len() as u64 - 24 * PAGE;
    let last_pages = [STACK, HEAP, 0x40_0000].map(|at| at + 7 * PAGE);
    for (pages, present) in [(24, 3), (23, 2), (16, 2), (12, 2), (11, 1), (4, 1), (3, 0), (0, 0)] {
        let (core, omitted) = dump(three_parts(), &[], stack_pointer, headers + pages * PAGE);
        assert_eq!(omitted, (24 - pages) * PAGE);
        assert!(core.0.len() as u64 <= headers + pages * PAGE, "{pages} pages: {}", core.0.len());
        let mut expected = [Some(308), Some(208), Some(108)];
        expected[present..].fill(None);
        assert_eq!(last_pages.map(|at| core.word(at)), expected, "{pages} pages");
    }
    // Even a limit of nothing leaves the registers.
    let (core, omitted) = dump(three_parts(), &[], stack_pointer, 0);
    assert_eq!((core.segments(), omitted), (Vec::new(), 24 * PAGE));
    assert!(core.notes().contains_key(&1));
}

#[test]
fn no_zeros_stand_for_what_was_left_out() {
    let bare = run(HEAP + 8 * PAGE, 8, MappingKind::Heap, Protection::ReadWrite, None);
    let runs = || vec![heap(HEAP, 8, 0), bare];
    let headers = dump(runs(), &[], 0, u64::MAX).0.0.len() as u64 - 8 * PAGE;
    let (core, omitted) = dump(runs(), &[], 0, headers + 3 * PAGE);
    assert_eq!((core.segments(), omitted), (vec![(HEAP, 3, 3)], 5 * PAGE));
    assert_eq!((core.word(HEAP + 2 * PAGE), core.word(HEAP + 3 * PAGE)), (Some(3), None));
}

#[test]
fn memory_in_more_pieces_than_a_file_can_have_segments_is_cut() {
    let runs: Vec<Run> = (0..70_000).map(|index| heap(HEAP + 2 * PAGE * index, 1, index as usize)).collect();
    let stack_pointer = HEAP + 2 * PAGE * 69_999;
    let (core, omitted) = dump(runs, &[], stack_pointer, u64::MAX);
    assert_eq!(core.segments().len(), MAX_SEGMENTS);
    assert_eq!(omitted, (70_000 - MAX_SEGMENTS as u64) * PAGE);
    assert_eq!(core.word(stack_pointer), Some(70_000), "the stack is there");
    assert_eq!(core.word(HEAP), Some(1));
}

#[test]
fn the_notes_have_the_process_its_signal_and_its_registers() {
    let notes = dump(three_parts(), &[], 0, u64::MAX).0.notes();
    assert_eq!(notes.keys().copied().collect::<Vec<_>>(), [1, 3, 6, 0x202, 0x4649_4c45, 0x5349_4749]);
    let int = |kind: u32, at: usize| i32::from_le_bytes(notes[&kind][at..at + 4].try_into().unwrap());
    // `struct elf_prstatus`: 336 bytes, with the registers from byte 112 on.
    assert_eq!(notes[&1].len(), 336);
    assert_eq!((int(1, 0), int(1, 12) & 0xffff, int(1, 32), int(1, 328)), (libc::SIGKILL, libc::SIGKILL, 4242, 1));
    assert!(notes[&1][112..328].iter().all(|byte| *byte == 0xee));
    // `struct elf_prpsinfo`: 136 bytes, with the names from byte 40 and byte 56 on.
    assert_eq!(notes[&3].len(), 136);
    assert_eq!((int(3, 16), int(3, 20), int(3, 24)), (1000, 1000, 4242));
    assert_eq!(&notes[&3][40..56], b"a-program-with-\0");
    assert!(notes[&3][56..].starts_with(b"a-program-with-a-long-name --and an-argument\0"));
    assert_eq!(notes[&6].len(), 32);
    assert_eq!(notes[&0x202], [7; 33]);
    assert_eq!((notes[&0x5349_4749].len(), int(0x5349_4749, 0)), (128, libc::SIGKILL));
}

#[test]
fn an_image_that_is_cut_to_pieces_is_listed_in_bounded_room() {
    let image = image::tests::image();
    let segment = image.executable().segments().next().unwrap();
    let at = segment.address().page_start().0;
    // Pieces of the same file that follow each other are one part, whatever may be done with them.
    let pieces = [Protection::Read, Protection::None, Protection::ReadExecute].into_iter().enumerate();
    let pieces =
        pieces.map(|(index, protection)| run(at + PAGE * index as u64, 1, MappingKind::Image, protection, Some(index)));
    let files = |runs: Vec<Run>| {
        let note = dump(runs, &[], 0, u64::MAX).0.notes().remove(&0x4649_4c45).unwrap();
        let words = |count: usize| note.chunks(8).take(count).map(|word| u64::from_le_bytes(word.try_into().unwrap()));
        (words(2 + 3).collect::<Vec<_>>(), note.len())
    };
    // The image has two pages in the file, one behind the other.
    let (words, _) = files(pieces.collect());
    assert_eq!(words, [1, PAGE, at, at + 2 * PAGE, 0]);
    // A guest cuts its image into as many parts as it has pages; here one page is all of them.
    let many = (0..10_000).map(|_| run(at, 1, MappingKind::Image, Protection::Read, Some(0))).collect();
    let (words, len) = files(many);
    assert_eq!(words[0], 1024);
    assert!(len < 1024 * (24 + 1025) + 16, "{len}");
}

#[test]
fn a_writer_that_fails_is_reported() {
    struct Full(usize);
    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self.0.checked_sub(bytes.len()).ok_or(ErrorKind::StorageFull)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    for room in [0, 64, 1000, 10 * PAGE_SIZE] {
        let written = write(three_parts(), &[], 0, u64::MAX, &mut Full(room));
        assert!(
            matches!(&written, Err(CoreDumpError::Write { reason }) if reason.kind() == ErrorKind::StorageFull),
            "{written:?}"
        );
    }
}

#[test]
fn every_end_has_the_signal_that_it_would_have_on_linux() {
    let at = GuestVirt(0x40_1234);
    let signal = |termination: Termination| Signal::of(&termination, at).map(|signal| (signal.number, signal.code));
    let of = |kind: FaultKind| signal(Fault::new(kind, position()).into());
    let page_fault = |target| FaultKind::PageFault { address: 8, access: FaultAccess::Write, target };
    let protected = FaultTarget::Protected { readable: true, writable: false, executable: false };
    let exception = |vector| FaultKind::Exception { vector, error_code: None };
    for (kind, expected) in [
        (page_fault(FaultTarget::Null), (libc::SIGSEGV, 1)),
        (page_fault(protected), (libc::SIGSEGV, 2)),
        (page_fault(FaultTarget::BehindFile), (libc::SIGBUS, 2)),
        (FaultKind::StackOverflow { address: 8 }, (libc::SIGSEGV, 1)),
        (exception(0), (libc::SIGFPE, 1)),
        (exception(3), (libc::SIGTRAP, 128)),
        (exception(6), (libc::SIGILL, 2)),
        (exception(13), (libc::SIGSEGV, 128)),
        (exception(17), (libc::SIGBUS, libc::BUS_ADRALN)),
        (exception(200), (libc::SIGKILL, 128)),
        (FaultKind::OutOfMemory { limit: 1, panic: None }, (libc::SIGABRT, -6)),
        (FaultKind::Aborted { signal: 10 }, (10, -6)),
        (FaultKind::ForgedExit { port: 1 }, (libc::SIGSEGV, 128)),
        (FaultKind::Deadlocked(EndlessWait::Lock), (libc::SIGKILL, 0)),
    ] {
        assert_eq!(of(kind.clone()), Some(expected), "{kind}");
    }
    assert_eq!(of(FaultKind::Exited { code: 3 }), None);
    for (limit, number) in [
        (ExceededLimit::Deadline(Duration::ZERO), libc::SIGALRM),
        (ExceededLimit::CpuTime(Duration::ZERO), libc::SIGXCPU),
        (ExceededLimit::Output(1), libc::SIGXFSZ),
        (ExceededLimit::SystemCalls(1), libc::SIGSYS),
        (ExceededLimit::HostCalls(1), libc::SIGKILL),
    ] {
        assert_eq!(signal(limit.into()), Some((number, 0)));
    }
    let info = Signal::of(&Fault::new(page_fault(FaultTarget::Null), position()).into(), at).unwrap().info(1);
    assert_eq!(info[16..24], 8_u64.to_le_bytes());
    let info = Signal::of(&Fault::new(exception(6), position()).into(), at).unwrap().info(1);
    assert_eq!(info[16..24], at.0.to_le_bytes());
    let info = Signal::of(&Fault::new(FaultKind::Aborted { signal: 6 }, position()).into(), at).unwrap().info(77);
    assert_eq!(info[16..24], [77, 0, 0, 0, 0xe8, 3, 0, 0]);
}

fn position() -> Position {
    crate::error_tests::position()
}

/// A directory of a test, which is removed with what is in it.
struct Directory(std::path::PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ampoule-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn text(text: &str) -> impl FnOnce(&mut dyn Write) -> Dumped {
    move |sink| sink.write_all(text.as_bytes()).map(|()| 0).map_err(CoreDumpError::write)
}

#[test]
fn files_have_the_sandboxs_name_overwrite_nothing_and_are_their_owners() {
    let directory = Directory::new("names");
    fs::write(directory.0.join("guest.1.core"), "another process's").unwrap();
    fs::write(directory.0.join("guest.2.core.partial"), "being written").unwrap();
    std::os::unix::fs::symlink("/dev/full", directory.0.join("guest.3.core")).unwrap();
    let dumps = CoreDumps::to_dir(&directory.0);
    for number in [4, 5] {
        let dump = dumps.write("guest", text("memory"));
        let path = directory.0.join(format!("guest.{number}.core"));
        assert_eq!(dump.path().ok(), Some(&*path), "{dump}");
        assert_eq!(dump.to_string(), format!("core dump: {}", path.display()));
        assert_eq!(fs::read(&path).unwrap(), b"memory");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    }
    assert_eq!(fs::read(directory.0.join("guest.1.core")).unwrap(), b"another process's");
    let names = ["guest.1.core", "guest.2.core.partial", "guest.3.core", "guest.4.core", "guest.5.core"];
    assert_eq!(directory.names(), names);
}

#[test]
fn a_file_that_is_not_complete_is_never_seen_under_its_name_and_does_not_stay() {
    let directory = Directory::new("incomplete");
    let dumps = CoreDumps::to_dir(&directory.0).count_limit(1);
    let dump = dumps.write("guest", |_| {
        assert_eq!(directory.names(), ["guest.1.core.partial"]);
        Err(CoreDumpError::write(ErrorKind::StorageFull.into()))
    });
    assert_eq!(directory.names(), [""; 0]);
    assert!(dump.path().is_err() && dump.to_string().starts_with("no core dump: could not write it: "), "{dump}");
    assert!(dumps.write("guest", text("x")).path().is_ok(), "one that failed does not count");
}

#[test]
fn clones_write_no_more_files_than_allowed_together() {
    let directory = Directory::new("count");
    let dumps = CoreDumps::to_dir(&directory.0).count_limit(2);
    let clone = dumps.clone();
    assert!(dumps.write("one", text("x")).path().is_ok());
    assert!(clone.write("two", text("x")).path().is_ok());
    for dumps in [dumps, clone] {
        let dump = dumps.write("three", text("x"));
        assert!(matches!(dump.path(), Err(CoreDumpError::TooMany { limit: 2 })), "{dump}");
    }
    assert_eq!(directory.names().len(), 2);
}

#[test]
fn a_directory_that_does_not_exist_is_named() {
    let dump = CoreDumps::to_dir("/nowhere/at all").write("guest", text("x"));
    let message = dump.to_string();
    assert!(message.starts_with("no core dump: could not make a file in `/nowhere/at all`: "), "{message}");
    let Err(CoreDumpError::Create { reason, .. }) = dump.path() else { panic!("{dump}") };
    assert_eq!(reason.kind(), ErrorKind::NotFound);
}
