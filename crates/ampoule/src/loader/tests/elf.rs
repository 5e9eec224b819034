//! A small static executable. It lists no functions: what is loaded needs none.

/// Two segments: one with the headers and the code, one with some data and zeros.
#[derive(Clone, Debug)]
pub(in crate::loader) struct Elf {
    pub(in crate::loader) base: u64,
    pub(in crate::loader) position_independent: bool,
    pub(in crate::loader) alignment: u64,
    /// Bytes of the second segment in memory.
    pub(in crate::loader) bss: u64,
}

impl Default for Elf {
    fn default() -> Self {
        Self { base: 0x50_0000, position_independent: false, alignment: 0x1000, bss: 0x3000 }
    }
}

impl Elf {
    pub(in crate::loader) fn bytes(&self) -> Vec<u8> {
        let mut file = Vec::new();
        let half = |file: &mut Vec<u8>, value: u16| file.extend(value.to_le_bytes());
        let word = |file: &mut Vec<u8>, value: u32| file.extend(value.to_le_bytes());
        let long = |file: &mut Vec<u8>, value: u64| file.extend(value.to_le_bytes());

        file.extend(*b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
        half(&mut file, if self.position_independent { 3 } else { 2 });
        half(&mut file, 62);
        word(&mut file, 1);
        for value in [self.base + CODE, 64, 0] {
            long(&mut file, value);
        }
        word(&mut file, 0);
        for value in [64, 56, 3, 0, 0, 0] {
            half(&mut file, value);
        }
        let loaded = (INITIALIZED.len() + DYNAMIC.len()) as u64;
        let dynamic = DYNAMIC.len() as u64;
        for (kind, flags, offset, in_file, in_memory, alignment) in [
            (PT_LOAD, 5, 0, DATA, DATA, self.alignment),
            (PT_LOAD, 6, DATA, loaded, self.bss, self.alignment),
            (self.third_header(), 6, DATA + INITIALIZED.len() as u64, dynamic, dynamic, 8),
        ] {
            word(&mut file, kind);
            word(&mut file, flags);
            for value in [offset, self.base + offset, self.base + offset, in_file, in_memory, alignment] {
                long(&mut file, value);
            }
        }
        file.resize(DATA as usize, 0x90);
        file.extend(INITIALIZED);
        file.extend(DYNAMIC);
        file
    }

    /// The same, linked by an interpreter.
    pub(in crate::loader) fn with_interpreter(&self, path: &str) -> Vec<u8> {
        let mut file = self.bytes();
        let at = file.len() as u64;
        file.extend(path.as_bytes());
        file.push(0);
        let header = 64 + 2 * 56;
        file[header..header + 4].copy_from_slice(&PT_INTERP.to_le_bytes());
        file[header + 8..header + 16].copy_from_slice(&at.to_le_bytes());
        file[header + 32..header + 40].copy_from_slice(&(path.len() as u64 + 1).to_le_bytes());
        file
    }

    /// A position-independent executable says so in its dynamic section.
    fn third_header(&self) -> u32 {
        if self.position_independent { PT_DYNAMIC } else { PT_NULL }
    }
}

/// Where the first instruction stands, from the image's start.
pub(in crate::loader) const CODE: u64 = 0x200;

/// Where the second segment begins.
pub(in crate::loader) const DATA: u64 = 0x1000;

/// What the second segment begins with.
pub(in crate::loader) const INITIALIZED: [u8; 16] = *b"initialized data";

/// `DT_FLAGS_1` with `DF_1_PIE`, and the end of the section.
const DYNAMIC: [u8; 32] = *b"\xfb\xff\xff\x6f\0\0\0\0\0\0\0\x08\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

const PT_NULL: u32 = 0;
const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
