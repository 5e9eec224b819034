//! The guest's machine code, and the state that it loads and stores. It changes no general register and no flag unless it
//! says so, and finds its data at RDI.

use ampoule_vmm::PAGE_SIZE;
use ampoule_vmm::x86_64::shim::DOORBELL;

/// The widest vector registers that guests can use: these tests ask the processor, not `cpuid`, which hides AVX-512.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) enum Width {
    Sse,
    Avx,
    Avx512,
}

impl Width {
    pub(crate) fn bytes(self) -> usize {
        match self {
            Width::Sse => 16,
            Width::Avx => 32,
            Width::Avx512 => 64,
        }
    }

    pub(crate) fn registers(self) -> usize {
        if self == Width::Avx512 { 32 } else { 16 }
    }

    /// `movups`, or `vmovups`, between a register and `[rdi + ..]`; `opcode` says in which direction.
    fn vector_move(self, opcode: u8, register: u8) -> Vec<u8> {
        let high = register >> 3 & 1;
        let mut code = match self {
            Width::Sse => vec![0x40 | high << 2, 0x0f],
            Width::Avx => vec![0xc5, 0xfc ^ high << 7],
            Width::Avx512 => vec![0x62, 0xf1 ^ high << 7 ^ (register >> 4) << 4, 0x7c, 0x48],
        };
        code.extend([opcode, MEMORY | (register & 7) << 3]);
        code
    }
}

/// A place in the program.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) enum Place {
    /// Loads all registers, rings, and goes on to [`Place::Store`].
    Load,
    /// Stores all registers and rings.
    Store,
    SystemCall,
    Undefined,
    Privileged,
    NullRead,
    ForgedOut,
    /// Calls the function at RAX and rings.
    CallRax,
    /// Reads a byte at RAX into RAX and rings.
    ReadRax,
    WriteRax,
}

pub(crate) struct Program {
    pub(crate) page: [u8; PAGE_SIZE],
    places: Vec<(Place, u64)>,
}

impl Program {
    pub(crate) fn new(width: Width) -> Program {
        let mut page = [0; PAGE_SIZE];
        let (mut at, mut places) = (0, Vec::new());
        for (place, code, rings) in [
            (Place::Load, load(width), true),
            (Place::Store, store(width), true),
            (Place::SystemCall, vec![0x0f, 0x05], false),
            (Place::Undefined, vec![0x0f, 0x0b], false),
            (Place::Privileged, vec![0xf4], false),
            (Place::NullRead, vec![0x8a, 0x04, 0x25, 0, 0, 0, 0], false),
            (Place::ForgedOut, vec![0xe6, 0x11], false),
            (Place::CallRax, vec![0xff, 0xd0], true),
            (Place::ReadRax, vec![0x8a, 0x00], true),
            (Place::WriteRax, vec![0x88, 0x00], false),
        ] {
            places.push((place, at as u64));
            page[at..at + code.len()].copy_from_slice(&code);
            at += code.len();
            if rings {
                // call [rip + ..]
                let displacement = (DOORBELL_POINTER - at - 6) as u32;
                page[at..at + 2].copy_from_slice(&[0xff, 0x15]);
                page[at + 2..at + 6].copy_from_slice(&displacement.to_le_bytes());
                at += 6;
            }
        }
        assert!(at <= DOORBELL_POINTER);
        page[DOORBELL_POINTER..].copy_from_slice(&DOORBELL.0.to_le_bytes());
        Program { page, places }
    }

    /// Where a place lies, from the start of the page.
    pub(crate) fn offset(&self, place: Place) -> u64 {
        let found = self.places.iter().find(|(at, _)| *at == place);
        found.expect("the program has all places").1
    }
}

/// What the guest has in its registers.
#[derive(Clone, Eq, PartialEq, Debug)]
pub(crate) struct Image {
    /// Control word, status word, and which registers hold something.
    pub(crate) control: [u8; 5],
    pub(crate) mxcsr: u32,
    pub(crate) x87: [[u8; 10]; 8],
    pub(crate) vectors: [[u8; 64]; 32],
    pub(crate) masks: [u16; 8],
}

impl Image {
    /// What [`Place::Load`] makes of the [`source`] of `seed`.
    pub(crate) fn loaded(seed: u8, width: Width) -> Image {
        let mut control = [0, 0, 0, 0, 0xff];
        control[..2].copy_from_slice(&control_word(seed).to_le_bytes());
        let mut vectors = [[0; 64]; 32];
        for (number, register) in vectors.iter_mut().enumerate().take(width.registers()) {
            register[..width.bytes()].copy_from_slice(&vector(seed, number)[..width.bytes()]);
        }
        let masks = if width == Width::Avx512 { std::array::from_fn(|number| mask(seed, number)) } else { [0; 8] };
        // The last register loaded is the top of the stack.
        let x87 = std::array::from_fn(|number| x87(seed, 7 - number));
        Image { control, mxcsr: mxcsr(seed), x87, vectors, masks }
    }

    /// What [`Place::Store`] wrote.
    pub(crate) fn stored(page: &[u8; PAGE_SIZE]) -> Image {
        let bytes = |at: usize| &page[at..];
        Image {
            control: *bytes(0).first_chunk().unwrap(),
            mxcsr: u32::from_le_bytes(*bytes(24).first_chunk().unwrap()),
            x87: std::array::from_fn(|number| *bytes(32 + 16 * number).first_chunk().unwrap()),
            vectors: std::array::from_fn(|number| *bytes(VECTORS + 64 * number).first_chunk().unwrap()),
            masks: std::array::from_fn(|number| u16::from_le_bytes(*bytes(MASKS + 8 * number).first_chunk().unwrap())),
        }
    }

    /// With what `cpuid` hides in its initial state.
    pub(crate) fn without_hidden(mut self) -> Image {
        for register in &mut self.vectors {
            register[32..].fill(0);
        }
        self.vectors[16..].fill([0; 64]);
        self.masks = [0; 8];
        self
    }
}

/// The page from which [`Place::Load`] loads.
pub(crate) fn source(seed: u8) -> [u8; PAGE_SIZE] {
    let mut page = [0; PAGE_SIZE];
    let mut put = |at: usize, bytes: &[u8]| page[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &control_word(seed).to_le_bytes());
    put(24, &mxcsr(seed).to_le_bytes());
    for number in 0..8 {
        put(32 + 16 * number, &x87(seed, number));
        put(MASKS + 8 * number, &mask(seed, number).to_le_bytes());
    }
    for number in 0..32 {
        put(VECTORS + 64 * number, &vector(seed, number));
    }
    page
}

fn load(width: Width) -> Vec<u8> {
    let mut code = vec![0xdb, 0xe3]; // fninit
    code.extend(with_displacement(&[0xd9, 0xaf], 0)); // fldcw
    code.extend(with_displacement(&[0x0f, 0xae, 0x97], 24)); // ldmxcsr
    for number in 0..8 {
        code.extend(with_displacement(&[0xdb, 0xaf], 32 + 16 * number)); // fld
    }
    for register in 0..width.registers() {
        code.extend(with_displacement(&width.vector_move(0x10, register as u8), VECTORS + 64 * register));
    }
    if width == Width::Avx512 {
        for register in 0..8 {
            let kmovw = [0xc5, 0xf8, 0x90, MEMORY | (register as u8) << 3];
            code.extend(with_displacement(&kmovw, MASKS + 8 * register));
        }
    }
    code
}

fn store(width: Width) -> Vec<u8> {
    let mut code = with_displacement(&[0x48, 0x0f, 0xae, 0x87], PAGE_SIZE); // fxsave64
    for register in 0..width.registers() {
        let to = PAGE_SIZE + VECTORS + 64 * register;
        code.extend(with_displacement(&width.vector_move(0x11, register as u8), to));
    }
    if width == Width::Avx512 {
        for register in 0..8 {
            let kmovw = [0xc5, 0xf8, 0x91, MEMORY | (register as u8) << 3];
            code.extend(with_displacement(&kmovw, PAGE_SIZE + MASKS + 8 * register));
        }
    }
    code
}

fn with_displacement(instruction: &[u8], displacement: usize) -> Vec<u8> {
    [instruction, &(displacement as u32).to_le_bytes()].concat()
}

/// Rounding and precision other than those after `fninit`, no exception unmasked.
fn control_word(seed: u8) -> u16 {
    if seed % 2 == 1 { 0x0c7f } else { 0x027f }
}

/// Rounding towards zero, or flushing to zero.
fn mxcsr(seed: u8) -> u32 {
    if seed % 2 == 1 { 0x7f80 } else { 0x9f80 }
}

/// A normal number.
fn x87(seed: u8, number: usize) -> [u8; 10] {
    let mut bytes = [seed << 4 | number as u8; 10];
    bytes[7] |= 0x80;
    bytes[8..].copy_from_slice(&(0x3fff_u16 + number as u16).to_le_bytes());
    bytes
}

fn vector(seed: u8, number: usize) -> [u8; 64] {
    std::array::from_fn(|at| (at as u8) ^ seed << 6 ^ (number as u8).wrapping_mul(37) | 1)
}

fn mask(seed: u8, number: usize) -> u16 {
    u16::from(seed) << 12 | number as u16 | 0x80
}

/// A ModRM byte for `[rdi + 32 bits]`.
const MEMORY: u8 = 0x87;

// Where things lie in the pages to load from and to store to; up to the vectors as in the format of `fxsave`.
const VECTORS: usize = 512;
const MASKS: usize = VECTORS + 32 * 64;

const DOORBELL_POINTER: usize = PAGE_SIZE - 8;
