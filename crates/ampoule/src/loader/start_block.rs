//! What a program finds on its stack: arguments, environment, auxiliary vector, and the strings that these point to.
//!
//! From the stack pointer upwards: the number of arguments, a pointer to each, a zero; a pointer to each variable of the
//! environment, a zero; the pairs of the auxiliary vector; random bytes; the strings; a zero word at the top.

use std::collections::BTreeMap;

use ampoule_vmm::GuestVirt;
use linux_raw_sys::auxvec::{AT_EXECFN, AT_NULL, AT_PLATFORM, AT_RANDOM};

use super::{LoadError, StartText};

/// The block, before its place is known.
#[derive(Debug)]
pub(super) struct StartBlock {
    random: [u8; 16],
    /// All strings, each with its terminating zero.
    strings: Vec<u8>,
    /// Where the strings begin that the arguments, the environment and the auxiliary vector point to.
    arguments: Vec<usize>,
    environment: Vec<usize>,
    platform: usize,
    program_name: usize,
    auxiliary: Vec<(u64, u64)>,
}

impl StartBlock {
    /// A block whose texts and pointers take at most `limit` bytes.
    pub(super) fn new(
        program: Option<&str>,
        arguments: &[String],
        environment: &BTreeMap<String, String>,
        random: [u8; 16],
        limit: usize,
    ) -> Result<Self, LoadError> {
        let needed = texts_size(arguments, environment);
        if needed > limit {
            return Err(LoadError::StartTextTooLong { needed, limit });
        }
        let mut block = Self {
            random,
            strings: Vec::with_capacity(needed),
            arguments: Vec::new(),
            environment: Vec::new(),
            platform: 0,
            program_name: 0,
            auxiliary: Vec::new(),
        };
        block.platform = block.string(&[PLATFORM]);
        for (index, argument) in arguments.iter().enumerate() {
            check(argument, &['\0'], || StartText::Argument { index })?;
            let at = block.string(&[argument]);
            block.arguments.push(at);
        }
        for (name, value) in environment {
            if name.is_empty() {
                return Err(LoadError::UnnamedVariable);
            }
            check(name, &['\0', '='], || StartText::VariableName { name: name.clone() })?;
            check(value, &['\0'], || StartText::VariableValue { name: name.clone() })?;
            let at = block.string(&[name, "=", value]);
            block.environment.push(at);
        }
        let name = || arguments.first().map_or("", String::as_str);
        block.program_name = block.string(&[program.unwrap_or_else(name)]);
        Ok(block)
    }

    /// Adds a pair to the auxiliary vector.
    pub(super) fn auxiliary(&mut self, kind: impl Into<u64>, value: u64) {
        self.auxiliary.push((kind.into(), value));
    }

    /// The most bytes that the block may take.
    pub(super) fn len(&self) -> usize {
        WORD * self.words() + self.random.len() + self.strings.len() + WORD + 2 * STACK_ALIGN
    }

    /// The block's bytes when it ends at `top`, and where they begin: the stack pointer at the program's start.
    pub(super) fn place(&self, top: GuestVirt) -> (GuestVirt, Vec<u8>) {
        let strings = top.0 - (WORD + self.strings.len()) as u64;
        let random = (strings - self.random.len() as u64) & ALIGN_MASK;
        let start = (random - (WORD * self.words()) as u64) & ALIGN_MASK;

        let string = |offset: &usize| strings + *offset as u64;
        let mut words = vec![self.arguments.len() as u64];
        words.extend(self.arguments.iter().map(string).chain([0]));
        words.extend(self.environment.iter().map(string).chain([0]));
        words.extend(self.auxiliary.iter().flat_map(|(kind, value)| [*kind, *value]));
        words.extend([AT_RANDOM.into(), random, AT_PLATFORM.into(), string(&self.platform)]);
        words.extend([AT_EXECFN.into(), string(&self.program_name), AT_NULL.into(), 0]);

        let mut bytes = vec![0; (top.0 - start) as usize];
        for (place, word) in bytes.chunks_exact_mut(WORD).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        let mut put = |at: u64, from: &[u8]| {
            let offset = (at - start) as usize;
            bytes[offset..offset + from.len()].copy_from_slice(from);
        };
        put(random, &self.random);
        put(strings, &self.strings);
        (GuestVirt(start), bytes)
    }

    /// Where the arguments lie in the block, and the environment, one text behind the other: an address, and how many bytes
    /// that is.
    pub(super) fn texts(&self, top: GuestVirt) -> [(u64, u64); 2] {
        let strings = top.0 - (WORD + self.strings.len()) as u64;
        let end = self.program_name;
        let environment = self.environment.first().copied().unwrap_or(end);
        let arguments = self.arguments.first().copied().unwrap_or(environment);
        [(arguments, environment), (environment, end)]
            .map(|(start, end)| (strings + start as u64, (end - start) as u64))
    }

    /// The auxiliary vector in the block's [placed](Self::place) bytes, its end included.
    pub(super) fn auxiliary_vector<'bytes>(&self, bytes: &'bytes [u8]) -> &'bytes [u8] {
        let end = WORD * self.words();
        &bytes[end - 2 * WORD * (self.auxiliary.len() + OWN_PAIRS)..end]
    }

    /// How many words stand below the random bytes: the count, the pointers with their two zeros, the auxiliary vector.
    fn words(&self) -> usize {
        let pointers = 1 + self.arguments.len() + 1 + self.environment.len() + 1;
        pointers + 2 * (self.auxiliary.len() + OWN_PAIRS)
    }

    /// Adds a string in parts, and returns where it begins.
    fn string(&mut self, parts: &[&str]) -> usize {
        let at = self.strings.len();
        for part in parts {
            self.strings.extend_from_slice(part.as_bytes());
        }
        self.strings.push(0);
        at
    }
}

/// Bytes of all arguments and variables, with their terminating zeros and the pointers to them.
fn texts_size(arguments: &[String], environment: &BTreeMap<String, String>) -> usize {
    let arguments = arguments.iter().map(|argument| argument.len() + 1 + WORD);
    let environment = environment.iter().map(|(name, value)| name.len() + 1 + value.len() + 1 + WORD);
    arguments.chain(environment).sum()
}

fn check(text: &str, refused: &[char], what: impl FnOnce() -> StartText) -> Result<(), LoadError> {
    match text.chars().find(|character| refused.contains(character)) {
        Some(character) => Err(LoadError::StartText { text: what(), character }),
        None => Ok(()),
    }
}

/// What the processor is called in `AT_PLATFORM`.
const PLATFORM: &str = "x86_64";

const WORD: usize = 8;

/// The stack pointer at a program's start is a multiple of this (System V ABI for x86-64, section 3.4.1).
const STACK_ALIGN: usize = 16;
const ALIGN_MASK: u64 = !(STACK_ALIGN as u64 - 1);

/// The pairs of the auxiliary vector that point into the block or end it.
const OWN_PAIRS: usize = 4;
