//! What a program finds when it starts, read as a C library reads it.

pub(super) mod elf;

use std::sync::Arc;

use ampoule_vmm::x86_64::paging::PageTables;
use ampoule_vmm::{GuestPhys, HostOnly, Region, TrackedRegion};

use super::*;
use crate::address_space::{Location, MapError, MappedFile, MappingKind, Parts};
use crate::executable_memory::ExecutableMemory;
use crate::guest_memory::GuestMemory;

use elf::{CODE, DATA, Elf, INITIALIZED};

#[test]
fn the_stack_is_laid_out_as_linux_does_it() {
    let (space, start) = loaded(&Elf::default(), &["guest", "-v", ""], &[("HOME", "/"), ("A", "b=c")]);
    assert!(start.stack_pointer.0.is_multiple_of(16));
    let process = Process::read(&space, start.stack_pointer);
    assert_eq!(process.arguments, ["guest", "-v", ""]);
    assert_eq!(process.environment, ["A=b=c", "HOME=/"]);
    assert_eq!(process.string(&space, AT_EXECFN), "/bin/guest");
    assert_eq!(process.string(&space, AT_PLATFORM), "x86_64");
    assert_eq!(space.read_array(GuestVirt(process.auxiliary[&AT_RANDOM])), Ok(RANDOM));
    let expected = [
        (AT_PHDR, 0x50_0000 + 64),
        (AT_PHENT, 56),
        (AT_PHNUM, 3),
        (AT_PAGESZ, 4096),
        (AT_BASE, 0),
        (AT_FLAGS, 0),
        (AT_ENTRY, 0x50_0000 + CODE),
        (AT_UID, 1000),
        (AT_EUID, 1000),
        (AT_GID, 1000),
        (AT_EGID, 1000),
        (AT_SECURE, 0),
        (AT_CLKTCK, 100),
        (AT_HWCAP2, 2),
    ];
    for (kind, value) in expected {
        assert_eq!(process.auxiliary.get(&kind.into()), Some(&value), "type {kind}");
    }
    assert_eq!(process.auxiliary.get(&AT_AMPOULE), Some(&INFO_PAGE.0));
    assert_eq!(process.auxiliary.get(&AT_SYSINFO_EHDR), None);
    assert_eq!(process.auxiliary.len(), expected.len() + 5);
}

#[test]
fn the_stack_pointer_is_aligned_whatever_stands_above() {
    for extra in 0..20 {
        let name = "x".repeat(extra);
        let arguments: Vec<&str> = std::iter::repeat_n(name.as_str(), 1 + extra % 3).collect();
        let (space, start) = loaded(&Elf::default(), &arguments, &[]);
        assert!(start.stack_pointer.0.is_multiple_of(16));
        assert_eq!(Process::read(&space, start.stack_pointer).arguments, arguments);
    }
}

#[test]
fn segments_are_where_the_executable_says_with_their_permissions() {
    let (mut space, start) = loaded(&Elf::default(), &["guest"], &[]);
    assert_eq!(start.entry, GuestVirt(0x50_0000 + CODE));
    let text = GuestVirt(0x50_0000);
    assert_eq!(space.read_array(text), Ok(*b"\x7fELF"));
    assert_eq!(describe(&space, text), (MappingKind::Image, Protection::ReadExecute));
    assert!(space.write(text, b"x").is_err());

    let data = GuestVirt(0x50_0000 + DATA);
    assert_eq!(describe(&space, data), (MappingKind::Image, Protection::ReadWrite));
    assert_eq!(space.read_array(data), Ok(INITIALIZED));
    // Pages for which the file has no bytes can be given back, and those for which it has some cannot.
    let zeros = GuestVirt(data.0 + PAGE_SIZE as u64);
    assert_eq!(describe(&space, zeros), (MappingKind::Anonymous, Protection::ReadWrite));
    assert_eq!(space.write(zeros, b"x"), Ok(()));
    space.discard(zeros, 0x2000).unwrap();
    assert_eq!(space.read_array(zeros), Ok([0]));
    assert!(matches!(space.discard(data, 0x1000), Err(MapError::InvalidRange)));
    let bss_end = GuestVirt(data.0 + 0x3000);
    assert_eq!(space.read_array(GuestVirt(bss_end.0 - 8)), Ok([0; 8]));
    assert_eq!(space.describe(bss_end), Location::Unmapped);
    assert_eq!(space.heap_end(), bss_end);
    assert_eq!(space.move_heap_end(GuestVirt(bss_end.0 + 1)), GuestVirt(bss_end.0 + 1));
}

#[test]
fn position_independent_executables_are_moved() {
    let elf = Elf { base: 0, position_independent: true, ..Elf::default() };
    let (space, start) = loaded(&elf, &["guest"], &[]);
    assert_eq!(start.entry, GuestVirt(0x40_0000 + CODE));
    let process = Process::read(&space, start.stack_pointer);
    assert_eq!(process.auxiliary[&AT_PHDR.into()], 0x40_0000 + 64);
    assert_eq!(process.auxiliary[&AT_ENTRY.into()], start.entry.0);

    let aligned = Elf { alignment: 1 << 24, ..elf };
    let (_, start) = loaded(&aligned, &["guest"], &[]);
    assert_eq!(start.entry, GuestVirt((1 << 24) + CODE));
}

#[test]
fn an_interpreter_is_started_in_the_programs_place() {
    let mut space = space();
    let program = Elf::default();
    let interpreter = Elf { base: 0, position_independent: true, alignment: 1 << 21, ..program };
    let start = load_with(&program, Some(&interpreter), &mut space).unwrap();
    let process = Process::read(&space, start.stack_pointer);
    assert_eq!(process.auxiliary[&AT_ENTRY.into()], 0x50_0000 + CODE);
    assert_eq!(process.auxiliary[&AT_PHDR.into()], 0x50_0000 + 64);
    let base = process.auxiliary[&AT_BASE.into()];
    assert!(base > 0x50_0000 && base.is_multiple_of(1 << 21), "{base:#x}");
    assert_eq!(start.entry, GuestVirt(base + CODE));
    assert_eq!(space.read_array(GuestVirt(base)), Ok(*b"\x7fELF"));

    let (data, zeros) = (GuestVirt(base + DATA), GuestVirt(base + DATA + PAGE));
    let (kind, protection) = describe(&space, data);
    let mapped = space.mapped_file(kind.file().unwrap().file).unwrap();
    assert_eq!((&*mapped.path, protection), (b"/lib/ld.so".as_slice(), Protection::ReadWrite));
    assert_eq!(space.read_array(data), Ok(INITIALIZED));
    // What follows in the file is not the segment's.
    let end = GuestVirt(zeros.0 - 8);
    assert_eq!(space.read_array(end), Ok([0; 8]));
    assert_eq!(space.write(zeros, b"x"), Ok(()));
    assert!(space.write(GuestVirt(base), b"x").is_err());
}

#[test]
fn an_interpreter_can_have_addresses_of_its_own_and_no_others() {
    let mut space = space();
    let fixed = Elf { base: 0x80_0000, ..Elf::default() };
    let start = load_with(&Elf::default(), Some(&fixed), &mut space).unwrap();
    assert_eq!(start.entry, GuestVirt(0x80_0000 + CODE));
    assert_eq!(Process::read(&space, start.stack_pointer).auxiliary[&AT_BASE.into()], 0);

    for (base, position_independent) in [(0x50_0000, false), (USER_END.0 - (1 << 20), false), (USER_END.0 >> 1, true)] {
        let hostile = Elf { base, position_independent, ..Elf::default() };
        let error = load_with(&Elf::default(), Some(&hostile), &mut self::space()).unwrap_err();
        assert!(matches!(error, LoadError::NoRoom { .. }), "{error}");
    }
    let large = Elf { bss: 64 << 20, base: 0, position_independent: true, ..Elf::default() };
    let error = load_with(&Elf::default(), Some(&large), &mut self::space()).unwrap_err();
    assert!(matches!(error, LoadError::MemoryLimit { .. }), "{error}");
}

#[test]
fn an_executable_that_does_not_fit_says_how_much_it_needs() {
    let elf = Elf { bss: 64 << 20, ..Elf::default() };
    let error = load_into(&elf, &mut space(), &["guest"], &[]).unwrap_err();
    let LoadError::MemoryLimit { needed, limit } = error else { panic!("{error}") };
    assert!(needed > 64 << 20);
    assert_eq!(limit, MEMORY as u64);
    assert!(error.to_string().contains("`Builder::memory_limit`"));
}

#[test]
fn an_executable_in_the_place_of_the_stack_is_refused() {
    let elf = Elf { base: USER_END.0 - (1 << 20), ..Elf::default() };
    let error = load_into(&elf, &mut space(), &["guest"], &[]).unwrap_err();
    assert!(matches!(error, LoadError::NoRoom { address, .. } if address == elf.base));
}

#[test]
fn texts_that_would_not_arrive_are_refused() {
    for (arguments, environment, expected) in [
        (["guest", "a\0b"], ("A", "b"), StartText::Argument { index: 1 }),
        (["guest", ""], ("A=", "b"), StartText::VariableName { name: "A=".to_owned() }),
        (["guest", ""], ("A", "\0"), StartText::VariableValue { name: "A".to_owned() }),
    ] {
        let error = load_into(&Elf::default(), &mut space(), &arguments, &[environment]).unwrap_err();
        assert!(matches!(error, LoadError::StartText { text, .. } if text == expected));
    }
    let error = load_into(&Elf::default(), &mut space(), &["guest"], &[("", "b")]).unwrap_err();
    assert!(matches!(error, LoadError::UnnamedVariable));
}

#[test]
fn texts_are_bounded() {
    let fits = "x".repeat((128 << 10) - 9);
    loaded(&Elf::default(), &[&fits], &[]);
    let error = load_into(&Elf::default(), &mut space(), &[&fits, ""], &[]).unwrap_err();
    let LoadError::StartTextTooLong { needed, limit } = error else { panic!("{error}") };
    assert_eq!((needed, limit), ((128 << 10) + 9, 128 << 10));
}

/// A program's start, as it sees it.
struct Process {
    arguments: Vec<String>,
    environment: Vec<String>,
    auxiliary: BTreeMap<u64, u64>,
}

impl Process {
    fn read(space: &AddressSpace, stack_pointer: GuestVirt) -> Self {
        let mut at = stack_pointer.0;
        let mut next = || {
            at += 8;
            space.read_u64(GuestVirt(at - 8)).unwrap()
        };
        let count = next();
        let arguments: Vec<u64> = std::iter::repeat_with(&mut next).take(count as usize).collect();
        assert_eq!(next(), 0);
        let environment: Vec<u64> = std::iter::repeat_with(&mut next).take_while(|pointer| *pointer != 0).collect();
        let auxiliary = std::iter::repeat_with(|| (next(), next())).take_while(|(kind, _)| *kind != AT_NULL);
        let auxiliary = auxiliary.collect();
        let strings = |pointers: Vec<u64>| pointers.into_iter().map(|pointer| string(space, pointer)).collect();
        Self { arguments: strings(arguments), environment: strings(environment), auxiliary }
    }

    fn string(&self, space: &AddressSpace, kind: u64) -> String {
        string(space, self.auxiliary[&kind])
    }
}

fn string(space: &AddressSpace, at: u64) -> String {
    String::from_utf8(space.read_c_string(GuestVirt(at), 1 << 20).unwrap()).unwrap()
}

fn describe(space: &AddressSpace, at: GuestVirt) -> (MappingKind, Protection) {
    match space.describe(at) {
        Location::Mapped { kind, protection } => (kind, protection),
        location => panic!("{location:?}"),
    }
}

fn loaded(elf: &Elf, arguments: &[&str], environment: &[(&str, &str)]) -> (AddressSpace, Start) {
    let mut space = space();
    let start = load_into(elf, &mut space, arguments, environment).unwrap();
    (space, start)
}

fn load_with(elf: &Elf, interpreter: Option<&Elf>, space: &mut AddressSpace) -> Result<Start, LoadError> {
    let interpreter = interpreter.map(|elf| {
        // Followed by something else.
        let bytes = [elf.bytes(), vec![0xee; 2 * PAGE_SIZE]].concat();
        let file = MappedFile {
            path: b"/lib/ld.so".to_vec().into(),
            device: (0, 1),
            inode: 2,
            size: bytes.len() as u64,
            frozen: None,
            paged: None,
            executable: true,
        };
        Interpreter::new(Executable::check_interpreter("ld.so".into(), bytes.into(), None).unwrap(), Arc::new(file))
    });
    load_both(elf, interpreter.as_ref(), space, &["guest"], &[])
}

fn load_into(
    elf: &Elf,
    space: &mut AddressSpace,
    arguments: &[&str],
    environment: &[(&str, &str)],
) -> Result<Start, LoadError> {
    load_both(elf, None, space, arguments, environment)
}

fn load_both(
    elf: &Elf,
    interpreter: Option<&Interpreter>,
    space: &mut AddressSpace,
    arguments: &[&str],
    environment: &[(&str, &str)],
) -> Result<Start, LoadError> {
    let executable = Executable::check("in memory".into(), elf.bytes().into()).unwrap();
    let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let info = StartInfo {
        program: Some("/bin/guest"),
        arguments: &arguments,
        environment: &environment,
        random: RANDOM,
        info_page: Some(INFO_PAGE),
        time_page: None,
        stack_size: 8 << 20,
        hardware: [0, 2],
    };
    load(&executable, interpreter, space, &info)
}

fn space() -> AddressSpace {
    let tables = 64 * PAGE_SIZE;
    AddressSpace::new(Parts {
        memory: GuestMemory::new(
            TrackedRegion::anonymous(MEMORY, HostOnly::default()).unwrap(),
            GuestPhys(0x1_0000_0000),
            0,
        ),
        tables: Box::new(PageTables::new(Region::anonymous(tables).unwrap(), GuestPhys(0), 0..tables).unwrap()),
        executable_memory: ExecutableMemory::Refused,
    })
}

const MEMORY: usize = 16 << 20;
const RANDOM: [u8; 16] = *b"sixteen of bytes";
const INFO_PAGE: GuestVirt = GuestVirt(0x7f80_4000_0000);
const AT_NULL: u64 = 0;
const AT_PLATFORM: u64 = 15;
const AT_RANDOM: u64 = 25;
const AT_EXECFN: u64 = 31;
const AT_SYSINFO_EHDR: u64 = 33;
