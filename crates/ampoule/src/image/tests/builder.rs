//! Writes small ELF files, valid or not.

/// An ELF file in parts, each of which a test may change before the file is written.
///
/// The file begins with the headers and the code, in one executable segment. From [`DATA`] on follow the dynamic section
/// and the function records in a writable segment, then what is not loaded: the section names and headers.
#[derive(Clone, Debug)]
pub(super) struct ElfFile {
    pub(super) ident: [u8; 16],
    pub(super) elf_type: u16,
    pub(super) machine: u16,
    pub(super) entry: u64,
    pub(super) program_header_offset: u64,
    pub(super) program_header_size: u16,
    pub(super) program_headers: Vec<ProgramHeader>,
    pub(super) dynamic: Vec<(u64, u64)>,
    pub(super) records: Vec<u8>,
    pub(super) section_header_size: u16,
    pub(super) section_names: u16,
    pub(super) sections: Vec<Section>,
}

#[derive(Clone, Debug)]
pub(super) struct ProgramHeader {
    pub(super) kind: u32,
    pub(super) flags: u32,
    pub(super) offset: u64,
    pub(super) address: u64,
    pub(super) file_size: u64,
    pub(super) memory_size: u64,
    pub(super) alignment: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Section {
    pub(super) name: &'static str,
    pub(super) kind: u32,
    pub(super) flags: u64,
    pub(super) address: u64,
    pub(super) offset: u64,
    pub(super) size: u64,
}

impl ElfFile {
    /// A guest at fixed addresses, with these function records.
    pub(super) fn fixed(records: Vec<u8>) -> Self {
        let data_size = FUNCTIONS - DATA + records.len() as u64;
        Self {
            ident: *b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0",
            elf_type: ET_EXEC,
            machine: EM_X86_64,
            entry: BASE + CODE,
            program_header_offset: 64,
            program_header_size: 56,
            program_headers: vec![
                ProgramHeader {
                    kind: PT_LOAD,
                    flags: PF_R | PF_X,
                    offset: 0,
                    address: BASE,
                    file_size: DATA,
                    memory_size: DATA,
                    alignment: 0x1000,
                },
                ProgramHeader {
                    kind: PT_LOAD,
                    flags: PF_R | PF_W,
                    offset: DATA,
                    address: BASE + DATA,
                    file_size: data_size,
                    memory_size: data_size + 0x3000,
                    alignment: 0x1000,
                },
                ProgramHeader {
                    kind: PT_GNU_STACK,
                    flags: PF_R | PF_W,
                    offset: 0,
                    address: 0,
                    file_size: 0,
                    memory_size: 0,
                    alignment: 16,
                },
            ],
            dynamic: Vec::new(),
            section_header_size: 64,
            section_names: 2,
            sections: vec![
                Section { name: "", kind: 0, flags: 0, address: 0, offset: 0, size: 0 },
                Section {
                    name: "ampoule_fns",
                    kind: SHT_PROGBITS,
                    flags: SHF_ALLOC,
                    address: BASE + FUNCTIONS,
                    offset: FUNCTIONS,
                    size: records.len() as u64,
                },
                Section {
                    name: ".shstrtab",
                    kind: SHT_STRTAB,
                    flags: 0,
                    address: 0,
                    offset: FUNCTIONS + records.len() as u64,
                    size: 0,
                },
            ],
            records,
        }
    }

    /// The same as a static PIE.
    pub(super) fn position_independent(records: Vec<u8>) -> Self {
        let mut file = Self::fixed(records);
        file.elf_type = ET_DYN;
        file.entry -= BASE;
        file.program_headers[TEXT].address -= BASE;
        file.program_headers[WRITABLE].address -= BASE;
        file.sections[FUNCTIONS_SECTION].address -= BASE;
        file.add_dynamic(&[(DT_FLAGS_1, DF_1_PIE)]);
        file
    }

    /// Adds a dynamic section with these entries, to which tests may add.
    pub(super) fn add_dynamic(&mut self, entries: &[(u64, u64)]) {
        self.dynamic.extend(entries);
        self.program_headers.push(ProgramHeader {
            kind: PT_DYNAMIC,
            flags: PF_R | PF_W,
            offset: DATA,
            address: self.program_headers[WRITABLE].address,
            file_size: FUNCTIONS - DATA,
            memory_size: FUNCTIONS - DATA,
            alignment: 8,
        });
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut names = Vec::new();
        let mut section_headers = Vec::new();
        let names_size: usize = self.sections.iter().map(|s| s.name.len() + 1).sum();
        for section in &self.sections {
            let is_names = section.kind == SHT_STRTAB;
            put(&mut section_headers, names.len() as u32);
            put(&mut section_headers, section.kind);
            put(&mut section_headers, section.flags);
            put(&mut section_headers, section.address);
            put(&mut section_headers, section.offset);
            let size = if is_names { names_size as u64 } else { section.size };
            put(&mut section_headers, size);
            section_headers.extend([0; 24]);
            names.extend(section.name.bytes().chain([0]));
        }

        let mut file = vec![0xf4; DATA as usize];
        let mut dynamic = Vec::new();
        for (tag, value) in &self.dynamic {
            put(&mut dynamic, *tag);
            put(&mut dynamic, *value);
        }
        dynamic.resize((FUNCTIONS - DATA) as usize, 0);
        file.extend(dynamic);
        file.extend(&self.records);
        file.extend(names);
        let section_header_offset = file.len() as u64;
        file.extend(section_headers);

        let headers = self.headers(section_header_offset);
        file[..headers.len()].copy_from_slice(&headers);
        file
    }

    fn headers(&self, section_header_offset: u64) -> Vec<u8> {
        let mut headers = self.ident.to_vec();
        put(&mut headers, self.elf_type);
        put(&mut headers, self.machine);
        put(&mut headers, 1u32);
        put(&mut headers, self.entry);
        put(&mut headers, self.program_header_offset);
        put(&mut headers, if self.sections.is_empty() { 0 } else { section_header_offset });
        put(&mut headers, 0u32);
        put(&mut headers, 64u16);
        put(&mut headers, self.program_header_size);
        put(&mut headers, self.program_headers.len() as u16);
        put(&mut headers, self.section_header_size);
        put(&mut headers, self.sections.len() as u16);
        put(&mut headers, self.section_names);
        for header in self.program_headers.iter().take(16) {
            put(&mut headers, header.kind);
            put(&mut headers, header.flags);
            put(&mut headers, header.offset);
            put(&mut headers, header.address);
            put(&mut headers, header.address);
            put(&mut headers, header.file_size);
            put(&mut headers, header.memory_size);
            put(&mut headers, header.alignment);
        }
        headers
    }
}

/// A function record in parts, each of which a test may change.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) size: u32,
    pub(super) kind: u16,
    pub(super) reserved: u16,
    pub(super) value: u64,
    pub(super) name_len: u32,
    pub(super) signature_len: u32,
    pub(super) text: Vec<u8>,
}

impl Record {
    pub(super) fn abi(major: u32, minor: u32) -> Self {
        Self::new(1, u64::from(major) << 32 | u64::from(minor), b"", b"")
    }

    pub(super) fn export(name: &str, signature: &str) -> Self {
        Self::new(2, 0x40_0123, name.as_bytes(), signature.as_bytes())
    }

    pub(super) fn import(name: &str, signature: &str) -> Self {
        Self::new(3, 0, name.as_bytes(), signature.as_bytes())
    }

    pub(super) fn new(kind: u16, value: u64, name: &[u8], signature: &[u8]) -> Self {
        let mut text = [name, signature].concat();
        text.resize(text.len().next_multiple_of(8).max(8), 0);
        Self {
            size: 24 + text.len() as u32,
            kind,
            reserved: 0,
            value,
            name_len: name.len() as u32,
            signature_len: signature.len() as u32,
            text,
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        put(&mut bytes, self.size);
        put(&mut bytes, self.kind);
        put(&mut bytes, self.reserved);
        put(&mut bytes, self.value);
        put(&mut bytes, self.name_len);
        put(&mut bytes, self.signature_len);
        bytes.extend(&self.text);
        bytes
    }
}

/// The records one after the other, with a record of this host's ABI before them.
pub(super) fn with_abi(records: &[Record]) -> Vec<u8> {
    let abi = Record::abi(1, 0).bytes();
    [abi, section(records)].concat()
}

/// The records one after the other.
pub(super) fn section(records: &[Record]) -> Vec<u8> {
    records.iter().flat_map(Record::bytes).collect()
}

trait Word {
    fn append_to(self, bytes: &mut Vec<u8>);
}

macro_rules! impl_word {
    ($($word:ty),*) => {
        $(impl Word for $word {
            fn append_to(self, bytes: &mut Vec<u8>) {
                bytes.extend(self.to_le_bytes());
            }
        })*
    };
}

impl_word!(u16, u32, u64);

fn put(bytes: &mut Vec<u8>, word: impl Word) {
    word.append_to(bytes);
}

/// Index of the program header of the code.
pub(super) const TEXT: usize = 0;
/// Index of the program header of the data.
pub(super) const WRITABLE: usize = 1;
/// Index of the program header of the stack.
pub(super) const STACK: usize = 2;
/// Index of the section of the function records.
pub(super) const FUNCTIONS_SECTION: usize = 1;
/// Index of the section of the section names.
pub(super) const NAMES_SECTION: usize = 2;

/// Address of a fixed image.
pub(super) const BASE: u64 = 0x40_0000;
/// Offset of the first instruction.
pub(super) const CODE: u64 = 0x800;
/// Offset of the writable segment.
pub(super) const DATA: u64 = 0x1000;
/// Offset of the function records.
pub(super) const FUNCTIONS: u64 = 0x1100;

// From the System V ABI and its GNU extensions (elf.h).
pub(super) const ET_EXEC: u16 = 2;
pub(super) const ET_DYN: u16 = 3;
pub(super) const EM_X86_64: u16 = 62;
pub(super) const PT_LOAD: u32 = 1;
pub(super) const PT_DYNAMIC: u32 = 2;
pub(super) const PT_INTERP: u32 = 3;
pub(super) const PT_GNU_STACK: u32 = 0x6474_e551;
pub(super) const PF_X: u32 = 1;
pub(super) const PF_W: u32 = 2;
pub(super) const PF_R: u32 = 4;
pub(super) const DT_NEEDED: u64 = 1;
pub(super) const DT_SONAME: u64 = 14;
pub(super) const DT_TEXTREL: u64 = 22;
pub(super) const DT_FLAGS: u64 = 30;
pub(super) const DF_TEXTREL: u64 = 4;
pub(super) const DT_FLAGS_1: u64 = 0x6fff_fffb;
pub(super) const DF_1_PIE: u64 = 0x0800_0000;
pub(super) const SHT_PROGBITS: u32 = 1;
pub(super) const SHT_STRTAB: u32 = 3;
pub(super) const SHT_NOBITS: u32 = 8;
pub(super) const SHF_ALLOC: u64 = 2;
