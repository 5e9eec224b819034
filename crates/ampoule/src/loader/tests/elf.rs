//! A small guest image.

/// Two segments: one with the headers and the code, one with the function records and zeros.
#[derive(Clone, Debug)]
pub(super) struct Elf {
    pub(super) base: u64,
    pub(super) position_independent: bool,
    pub(super) alignment: u64,
    /// Bytes of the second segment in memory.
    pub(super) bss: u64,
}

impl Default for Elf {
    fn default() -> Self {
        Self { base: 0x50_0000, position_independent: false, alignment: 0x1000, bss: 0x3000 }
    }
}

impl Elf {
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut file = Vec::new();
        let half = |file: &mut Vec<u8>, value: u16| file.extend(value.to_le_bytes());
        let word = |file: &mut Vec<u8>, value: u32| file.extend(value.to_le_bytes());
        let long = |file: &mut Vec<u8>, value: u64| file.extend(value.to_le_bytes());

        file.extend(*b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
        half(&mut file, if self.position_independent { 3 } else { 2 });
        half(&mut file, 62);
        word(&mut file, 1);
        for value in [self.base + CODE, 64, SECTIONS] {
            long(&mut file, value);
        }
        word(&mut file, 0);
        for value in [64, 56, 3, 64, 3, 2] {
            half(&mut file, value);
        }
        let loaded = (RECORD.len() + DYNAMIC.len()) as u64;
        let dynamic = DYNAMIC.len() as u64;
        for (kind, flags, offset, in_file, in_memory, alignment) in [
            (PT_LOAD, 5, 0, DATA, DATA, self.alignment),
            (PT_LOAD, 6, DATA, loaded, self.bss, self.alignment),
            (self.third_header(), 6, DATA + RECORD.len() as u64, dynamic, dynamic, 8),
        ] {
            word(&mut file, kind);
            word(&mut file, flags);
            for value in [offset, self.base + offset, self.base + offset, in_file, in_memory, alignment] {
                long(&mut file, value);
            }
        }
        file.resize(DATA as usize, 0x90);
        file.extend(RECORD);
        file.extend(DYNAMIC);
        file.extend(NAMES);
        file.resize(SECTIONS as usize, 0);
        let names = DATA + loaded;
        for (name, kind, flags, address, offset, size) in [
            (0, 0, 0, 0, 0, 0),
            (1, 1, 2, self.base + DATA, DATA, RECORD.len() as u64),
            (13, 3, 0, 0, names, NAMES.len() as u64),
        ] {
            word(&mut file, name);
            word(&mut file, kind);
            for value in [flags, address, offset, size, 0, 1, 0] {
                long(&mut file, value);
            }
        }
        file
    }

    /// A position-independent executable says so in its dynamic section.
    fn third_header(&self) -> u32 {
        if self.position_independent { PT_DYNAMIC } else { PT_NULL }
    }
}

/// Where the first instruction stands, from the image's start.
pub(super) const CODE: u64 = 0x200;

/// Where the second segment begins.
pub(super) const DATA: u64 = 0x1000;

const SECTIONS: u64 = DATA + 0x100;

/// The record of ABI version 1.0.
const RECORD: [u8; 32] = *b"\x20\0\0\0\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

/// `DT_FLAGS_1` with `DF_1_PIE`, and the end of the section.
const DYNAMIC: [u8; 32] = *b"\xfb\xff\xff\x6f\0\0\0\0\0\0\0\x08\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

const PT_NULL: u32 = 0;
const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;

const NAMES: &[u8] = b"\0ampoule_fns\0.shstrtab\0";
