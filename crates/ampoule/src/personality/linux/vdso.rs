//! The virtual dynamic shared object: a library in memory by which C libraries read the clocks.
//!
//! It is what Linux gives to every process (`vdso(7)`): an ELF image with a dynamic section, whose address is in the
//! auxiliary vector. It has no section headers and no relocations. C libraries look its functions up by name and version
//! through the hash table of the System V ABI, which all of them can read.

use ampoule_vmm::vdso::{CLOCKS, Code, Fallback, Function};
use ampoule_vmm::{GuestVirt, PAGE_SIZE};
use linux_raw_sys::general::{
    __NR_clock_getres, __NR_clock_gettime, __NR_gettimeofday, __NR_time, CLOCK_MONOTONIC_COARSE, CLOCK_REALTIME_COARSE,
};
use object::elf;
use object::pod::{Pod, bytes_of};
use object::{I64, LittleEndian as LE, U16, U32, U64};

use super::time::{COARSE_RESOLUTION, RESOLUTION};

/// The image, for any address at the start of a page. Its code reads the time page at `page`.
pub(crate) fn image(page: GuestVirt) -> Vec<u8> {
    let code = Code::new(page, &FALLBACK);
    let mut names = Names::default();
    let [object, version] = [OBJECT, VERSION].map(|name| names.add(name));
    let symbols = FUNCTIONS.map(|(name, function)| (names.add(name), code.function(function)));

    let mut image = Image::default();
    image.skip(size_of::<elf::FileHeader64<LE>>());
    image.skip(PROGRAM_HEADERS * size_of::<elf::ProgramHeader64<LE>>());
    let hash = image.add_all(&hash_table().map(|word| U32::new(LE, word)));
    // Where the code will lie is known once the tables before it are there.
    let symbol_table = image.skip((1 + FUNCTIONS.len()) * size_of::<elf::Sym64<LE>>());
    let strings = image.add(&names.bytes);
    let versions = image.add_all(&version_of_symbols().map(|index| U16::new(LE, index)));
    let definitions = image.add(&version_definitions(object, version));
    let dynamic = image.skip(DYNAMIC_ENTRIES * size_of::<elf::Dyn64<LE>>());
    let text = image.add_aligned(code.bytes(), CODE_ALIGN);

    image.put_all(symbol_table + size_of::<elf::Sym64<LE>>(), &symbols.map(|(name, code)| symbol(name, text, code)));
    let entries = [
        (elf::DT_SONAME, object),
        (elf::DT_HASH, hash),
        (elf::DT_STRTAB, strings),
        (elf::DT_SYMTAB, symbol_table),
        (elf::DT_STRSZ, names.bytes.len()),
        (elf::DT_SYMENT, size_of::<elf::Sym64<LE>>()),
        (elf::DT_VERSYM, versions),
        (elf::DT_VERDEF, definitions),
        (elf::DT_VERDEFNUM, 2),
        (elf::DT_NULL, 0),
    ];
    let entries: [elf::Dyn64<LE>; DYNAMIC_ENTRIES] =
        entries.map(|(tag, value)| elf::Dyn64 { d_tag: I64::new(LE, tag), d_val: word(value) });
    image.put_all(dynamic, &entries);

    let len = image.bytes.len();
    image.put_all(0, &[file_header()]);
    let segment = |kind, flags, at, size, align| elf::ProgramHeader64::<LE> {
        p_type: U32::new(LE, kind),
        p_flags: U32::new(LE, flags),
        p_offset: word(at),
        p_vaddr: word(at),
        p_paddr: word(at),
        p_filesz: word(size),
        p_memsz: word(size),
        p_align: word(align),
    };
    let headers: [_; PROGRAM_HEADERS] = [
        segment(elf::PT_LOAD, elf::PF_R | elf::PF_X, 0, len, PAGE_SIZE),
        segment(elf::PT_DYNAMIC, elf::PF_R, dynamic, size_of_val(&entries), size_of::<u64>()),
    ];
    image.put_all(size_of::<elf::FileHeader64<LE>>(), &headers);
    image.bytes
}

fn file_header() -> elf::FileHeader64<LE> {
    let half = |value: usize| U16::new(LE, value as u16);
    elf::FileHeader64 {
        e_ident: elf::Ident {
            magic: elf::ELFMAG,
            class: elf::ELFCLASS64,
            data: elf::ELFDATA2LSB,
            version: elf::EV_CURRENT,
            os_abi: elf::ELFOSABI_NONE,
            abi_version: 0,
            padding: [0; 7],
        },
        e_type: U16::new(LE, elf::ET_DYN),
        e_machine: U16::new(LE, elf::EM_X86_64),
        e_version: U32::new(LE, elf::EV_CURRENT.0.into()),
        e_entry: word(0),
        e_phoff: word(size_of::<elf::FileHeader64<LE>>()),
        e_shoff: word(0),
        e_flags: U32::default(),
        e_ehsize: half(size_of::<elf::FileHeader64<LE>>()),
        e_phentsize: half(size_of::<elf::ProgramHeader64<LE>>()),
        e_phnum: half(PROGRAM_HEADERS),
        e_shentsize: half(0),
        e_shnum: half(0),
        e_shstrndx: U16::default(),
    }
}

fn symbol(name: usize, text: usize, (at, size): (usize, usize)) -> elf::Sym64<LE> {
    elf::Sym64 {
        st_name: U32::new(LE, name as u32),
        st_info: elf::SymbolInfo::new(elf::STB_GLOBAL, elf::STT_FUNC),
        st_other: elf::STV_DEFAULT.into(),
        // There are no sections; any number but 0 says that the symbol is defined, and relative to the image.
        st_shndx: U16::new(LE, elf::SymbolSection(1)),
        st_value: word(text + at),
        st_size: word(size),
    }
}

/// One bucket with all symbols: the first leads to the second, and so on.
fn hash_table() -> [u32; 4 + FUNCTIONS.len()] {
    let symbols = 1 + FUNCTIONS.len() as u32;
    let mut table = [0; 4 + FUNCTIONS.len()];
    [table[0], table[1], table[2]] = [1, symbols, 1];
    for index in 1..symbols - 1 {
        table[3 + index as usize] = index + 1;
    }
    table
}

/// The version of each symbol, by its index among the definitions.
fn version_of_symbols() -> [elf::VersionIndex; 1 + FUNCTIONS.len()] {
    let mut versions = [VERSION_INDEX; 1 + FUNCTIONS.len()];
    versions[0] = elf::VER_NDX_LOCAL;
    versions
}

/// The definitions of the object itself and of its one version, each with its name.
fn version_definitions(object: usize, version: usize) -> Vec<u8> {
    let half = |value: usize| U16::new(LE, value as u16);
    let whole = |value: usize| U32::new(LE, value as u32);
    let size = size_of::<elf::Verdef<LE>>() + size_of::<elf::Verdaux<LE>>();
    let mut bytes = Vec::new();
    for (index, flags, name, text, next) in [
        (elf::VER_NDX_GLOBAL, elf::VER_FLG_BASE, object, OBJECT, size),
        (VERSION_INDEX, elf::VersionFlags(0), version, VERSION, 0),
    ] {
        let definition = elf::Verdef::<LE> {
            vd_version: U16::new(LE, elf::VER_DEF_CURRENT),
            vd_flags: U16::new(LE, flags),
            vd_ndx: U16::new(LE, index),
            vd_cnt: half(1),
            vd_hash: U32::new(LE, elf::hash(text.as_bytes())),
            vd_aux: whole(size_of::<elf::Verdef<LE>>()),
            vd_next: whole(next),
        };
        bytes.extend_from_slice(bytes_of(&definition));
        bytes.extend_from_slice(bytes_of(&elf::Verdaux::<LE> { vda_name: whole(name), vda_next: whole(0) }));
    }
    bytes
}

fn word(value: usize) -> U64<LE> {
    U64::new(LE, value as u64)
}

/// The table of strings, which begins with an empty one.
struct Names {
    bytes: Vec<u8>,
}

impl Default for Names {
    fn default() -> Self {
        Self { bytes: vec![0] }
    }
}

impl Names {
    /// Adds a string, and returns where it begins.
    fn add(&mut self, name: &str) -> usize {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        at
    }
}

/// The image as it grows. What is added begins at a multiple of 8.
#[derive(Default)]
struct Image {
    bytes: Vec<u8>,
}

impl Image {
    fn add(&mut self, bytes: &[u8]) -> usize {
        self.add_aligned(bytes, size_of::<u64>())
    }

    fn add_aligned(&mut self, bytes: &[u8], align: usize) -> usize {
        let at = self.bytes.len().next_multiple_of(align);
        self.bytes.resize(at, 0);
        self.bytes.extend_from_slice(bytes);
        at
    }

    fn add_all<T: Pod>(&mut self, items: &[T]) -> usize {
        let at = self.skip(size_of_val(items));
        self.put_all(at, items);
        at
    }

    /// Leaves room for something.
    fn skip(&mut self, len: usize) -> usize {
        self.add(&vec![0; len])
    }

    /// Fills room that was left.
    fn put_all<T: Pod>(&mut self, at: usize, items: &[T]) {
        for (index, item) in items.iter().enumerate() {
            let at = at + index * size_of::<T>();
            self.bytes[at..at + size_of::<T>()].copy_from_slice(bytes_of(item));
        }
    }
}

/// The functions, by the names that C libraries look for.
const FUNCTIONS: [(&str, Function); 5] = [
    ("__vdso_clock_gettime", Function::ClockGettime),
    ("__vdso_gettimeofday", Function::Gettimeofday),
    ("__vdso_time", Function::Time),
    ("__vdso_clock_getres", Function::ClockGetres),
    ("__vdso_getcpu", Function::Getcpu),
];

/// What the object and the version of its functions are called on Linux (`arch/x86/entry/vdso/vdso.lds.S`).
const OBJECT: &str = "linux-vdso.so.1";
const VERSION: &str = "LINUX_2.6";

/// The index of the version, behind that of the object itself.
const VERSION_INDEX: elf::VersionIndex = elf::VersionIndex(2);

const FALLBACK: Fallback = {
    let mut resolutions = [RESOLUTION.subsec_nanos(); CLOCKS];
    resolutions[CLOCK_REALTIME_COARSE as usize] = COARSE_RESOLUTION.subsec_nanos();
    resolutions[CLOCK_MONOTONIC_COARSE as usize] = COARSE_RESOLUTION.subsec_nanos();
    Fallback {
        clock_gettime: __NR_clock_gettime,
        gettimeofday: __NR_gettimeofday,
        time: __NR_time,
        clock_getres: __NR_clock_getres,
        resolutions,
    }
};

const PROGRAM_HEADERS: usize = 2;
const DYNAMIC_ENTRIES: usize = 10;

/// What the code's address is to be a multiple of.
const CODE_ALIGN: usize = 16;

#[cfg(test)]
mod tests {
    use std::ffi::{CStr, CString, c_void};
    use std::io::Write;
    use std::os::fd::{AsRawFd, FromRawFd};

    use ampoule_vmm::vdso::TimePage;
    use object::{Object, ObjectSegment};

    use super::*;

    #[test]
    fn it_is_a_shared_object_of_one_page() {
        let image = image(GuestVirt(0x1234_5678));
        assert!(image.len() <= PAGE_SIZE);
        let file = object::File::parse(&*image).unwrap();
        assert_eq!((file.architecture(), file.kind()), (object::Architecture::X86_64, object::ObjectKind::Dynamic));
        assert_eq!(file.segments().map(|segment| segment.size()).collect::<Vec<_>>(), [image.len() as u64]);
    }

    /// The host's own dynamic linker loads it, finds the functions, and calls one.
    #[test]
    fn a_dynamic_linker_finds_its_functions_by_their_names_and_version() {
        let mut content = TimePage { sequence: 1, clocks: 1, base: 7_000_000_042, ..TimePage::default() };
        content.offsets[0] = 1_000_000_000;
        // In words, to be aligned as the page is.
        let page: Vec<u64> =
            content.to_bytes().chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())).collect();
        let linker = Linker::load(&image(GuestVirt(page.as_ptr().expose_provenance() as u64)));
        for (name, _) in FUNCTIONS {
            assert!(!linker.find(name, c"LINUX_2.6").is_null(), "{name}");
            assert!(linker.find(name, c"LINUX_2.7").is_null(), "{name}");
        }
        assert!(linker.find("__vdso_nothing", c"LINUX_2.6").is_null());
        let found = linker.find("__vdso_clock_gettime", c"LINUX_2.6");
        // SAFETY: it has this type, the object is still loaded, and the page is there.
        let clock_gettime: extern "C" fn(i32, *mut [u64; 2]) -> i32 = unsafe { std::mem::transmute(found) };
        let mut time = [0; 2];
        assert_eq!((clock_gettime(0, &mut time), time), (0, [8, 42]));
    }

    /// An image that the host's dynamic linker has loaded.
    struct Linker(*mut c_void);

    impl Linker {
        fn load(image: &[u8]) -> Self {
            // SAFETY: a new file without a name, which is owned here.
            let mut file = unsafe { std::fs::File::from_raw_fd(libc::memfd_create(c"vdso".as_ptr(), 0)) };
            file.write_all(image).unwrap();
            let path = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap();
            // SAFETY: loading it runs none of its code.
            let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
            assert!(!handle.is_null(), "the linker refuses it");
            Self(handle)
        }

        fn find(&self, name: &str, version: &CStr) -> *mut c_void {
            let name = CString::new(name).unwrap();
            // SAFETY: the object is loaded, and both are strings.
            unsafe { libc::dlvsym(self.0, name.as_ptr(), version.as_ptr()) }
        }
    }

    impl Drop for Linker {
        fn drop(&mut self) {
            // SAFETY: nobody has anything of it any more.
            unsafe { libc::dlclose(self.0) };
        }
    }
}
