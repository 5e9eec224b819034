//! Names for addresses in hostile ELF images: functions, source lines, and the calls that led there.
//!
//! All of it is read from the image's file, which is not trusted and can have been made to exhaust its reader. So there are
//! limits to the steps, the memory and the depth of everything here, and a file that runs into one, or is damaged, only has
//! less to say. The guest's memory is read for one thing, the return addresses on its stack, and those are not believed to
//! end.
//!
//! Three steps lead to a [`Backtrace`], so that each can be taken when its time has come:
//!
//! - [`Symbols::new`] finds the parts of the image. It is cheap, and nothing of it has to be kept.
//! - [`Symbols::walk`] goes up the stack, while the guest's memory is still as it was, and leaves a [`CallStack`].
//! - [`Symbols::name`] reads the debug information, if somebody wants to know. With a [`NameCache`] of the image, it is read
//!   once. [`Symbols::name_instructions`] does so for the stacks of a whole profile.
//!
//! ```
//! use ampoule_symbols::{Registers, Symbols};
//!
//! let image = std::fs::read("/proc/self/exe")?;
//! let symbols = Symbols::new(&image, 0);
//! let registers = Registers { rip: 0x40_1000, rsp: 0x7000_0000, ..Registers::default() };
//! let unreadable = &mut |_address: u64, _buffer: &mut [u8]| false;
//! let stack = symbols.walk(&registers, unreadable, 64);
//! println!("{}", symbols.name(&stack));
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! [`walk`] and [`Images`] do the same for a guest that has mapped libraries.
//!
//! The images are executables and shared libraries for Linux on x86-64.

mod backtrace;
mod budget;
mod call_stack;
mod cpp_name;
mod debug_info;
mod elf;
mod frame_table;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod images;
mod name_cache;
mod omission;
mod registers;
#[cfg(test)]
mod tests;
mod text;

pub use backtrace::{Backtrace, Frame, ImagePlace};
pub use call_stack::{CallStack, Memory};
pub use images::{FindImage, Images, walk};
pub use name_cache::NameCache;
pub use omission::Omission;
pub use registers::Registers;

use std::collections::HashMap;
use std::sync::Arc;

use budget::Budget;
use debug_info::{DebugInfo, Sections, Site, UnitIndex};
use elf::Elf;
use name_cache::{Call, Found};

/// What an image tells about its code. To make one is cheap: nothing but the table of sections is read for it.
#[derive(Clone, Debug)]
pub struct Symbols<'image> {
    elf: Arc<Elf<'image>>,
    load_bias: u64,
    /// What places call it, if it is not the executable.
    library: Option<Arc<str>>,
}

impl<'image> Symbols<'image> {
    /// `image` is the file, and `load_bias` what was added to its addresses when it was loaded.
    pub fn new(image: &'image [u8], load_bias: u64) -> Self {
        Self { elf: Arc::new(Elf::read(image)), load_bias, library: None }
    }

    /// A library of this name, of which the guest has mapped the bytes from `offset` on at the address `at`. `None` where the file
    /// has no segment there.
    pub fn of_library(image: &'image [u8], name: &str, at: u64, offset: u64) -> Option<Self> {
        let elf = Elf::read(image);
        let load_bias = elf.bias_of(at, offset)?;
        Some(Self { elf: Arc::new(elf), load_bias, library: Some(text::text(name.as_bytes()).into()) })
    }

    /// Walks up the guest's stack from these registers, for at most `limit` frames. It takes about as long as a few
    /// hundred reads of `memory`.
    pub fn walk(&self, registers: &Registers, memory: &mut Memory<'_>, limit: usize) -> CallStack {
        images::walk(&mut |_| Some((0..u64::MAX, self.clone())), registers, memory, limit)
    }

    /// Names what is on a stack. That reads the debug information, which takes milliseconds and can be done later.
    #[must_use]
    pub fn name(&self, stack: &CallStack) -> Backtrace {
        self.name_with(stack, &NameCache::default())
    }

    /// Like [`name`](Self::name), with what earlier calls have found out about this image, whatever bias it was loaded with.
    /// That takes microseconds where they have met the same addresses, and otherwise a part of the time.
    ///
    /// What has to be read is read on a thread of its own, since a name can be nested so deep that the caller's stack would not
    /// suffice. Where none can be started, the addresses stay without names ([`Omission::NoThread`]).
    #[must_use]
    pub fn name_with(&self, stack: &CallStack, cache: &NameCache) -> Backtrace {
        Images::new(self.clone(), cache).name(stack)
    }

    /// Names [instructions](CallStack::instructions) of many stacks: for each, in the same order, the function that it is of and,
    /// before that, those that were inlined there, innermost first.
    ///
    /// All of them together take a few seconds at most. Where an image would need more, those that are left have no names.
    #[must_use]
    pub fn name_instructions(&self, instructions: &[u64]) -> Vec<Vec<Frame>> {
        Images::new(self.clone(), &NameCache::default()).name_instructions(instructions)
    }

    /// The address of an instruction as the image's file gives it.
    fn in_image(&self, instruction: u64) -> u64 {
        instruction.wrapping_sub(self.load_bias)
    }

    /// Reads the image for what it says about these addresses, which are in ascending order. It is one of so many that share the
    /// steps.
    fn look_up(&self, addresses: &[u64], cache: &NameCache, share: u64) -> Found {
        let sections = Sections::read(&self.elf);
        let units = cache.units().or_else(|| {
            let budget = Budget::new(NAMES_BUDGET / share);
            let units = DebugInfo::new(&sections, self.elf.code_start(), &budget).index().map(Arc::new)?;
            if budget.is_spent() {
                return None;
            }
            cache.keep_units(&units);
            Some(units)
        });

        let budget = Budget::new(NAMES_BUDGET / share);
        let calls = self.calls_at(addresses, &sections, units.as_deref(), &budget);
        let found = Found { calls, omission: sections.omission };
        if !budget.is_spent() {
            cache.keep(&found);
        }
        found
    }

    /// The same for so many addresses that they are looked up part by part.
    fn look_up_many(&self, addresses: &[u64], share: u64) -> HashMap<u64, Arc<[Call]>> {
        let sections = Sections::read(&self.elf);
        let budget = Budget::new(MANY_NAMES_BUDGET / share);
        let units = DebugInfo::new(&sections, self.elf.code_start(), &budget).index();
        let mut found = HashMap::new();
        for part in addresses.chunks(ADDRESSES_AT_ONCE) {
            if budget.is_spent() {
                break;
            }
            found.extend(self.calls_at(part, &sections, units.as_ref(), &budget));
        }
        found
    }

    fn calls_at(
        &self,
        addresses: &[u64],
        sections: &Sections<'_>,
        units: Option<&UnitIndex>,
        budget: &Budget,
    ) -> HashMap<u64, Arc<[Call]>> {
        let symbols = self.elf.function_symbols(addresses, budget);
        let sites = DebugInfo::new(sections, self.elf.code_start(), budget).look_up(units, addresses);
        let calls = addresses.iter().zip(symbols.iter().zip(sites));
        calls.map(|(address, (symbol, sites))| (*address, calls_of(*symbol, sites))).collect()
    }

    /// The frames of the calls at an address, as far as they are known.
    fn frames(&self, address: u64, calls: Option<&Arc<[Call]>>) -> impl Iterator<Item = Frame> {
        let calls = calls.map_or(&[UNKNOWN][..], |calls| calls);
        calls.iter().enumerate().map(move |(depth, Call { function, file, line })| Frame {
            address,
            place: self.place(address),
            function: function.clone(),
            file: file.clone(),
            line: *line,
            inlined: depth + 1 < calls.len(),
        })
    }

    /// Where an address of the guest lies in its image, be it code or data.
    pub fn place(&self, address: u64) -> Option<ImagePlace> {
        let memory = self.elf.memory();
        let address = address.wrapping_sub(self.load_bias);
        let section = self.elf.section_at(address).map(|section| text::text(section.name));
        let library = self.library.as_deref().map(str::to_owned);
        memory.contains(&address).then(|| ImagePlace { library, section, offset: address - memory.start })
    }
}

/// The calls at an address, of the symbol there and what debug information has.
fn calls_of(symbol: Option<&[u8]>, sites: Vec<Site>) -> Arc<[Call]> {
    let symbol = symbol.map(text::function_name);
    let sites = if sites.is_empty() { vec![Site::default()] } else { sites };
    let last = sites.len() - 1;
    let call = |(depth, Site { function, line }): (usize, Site)| {
        // The symbol is that of the function into which the others were inlined.
        let symbol = symbol.clone().filter(|_| depth == last);
        let function = match function {
            Some(function) if function.is_full => Some(function.name),
            function => symbol.or(function.map(|function| function.name)),
        };
        Call { function, file: line.file, line: line.line }
    };
    sites.into_iter().enumerate().map(call).collect()
}

/// Steps that naming a stack may take, and as many for the index of units before it: those of some hundred megabytes of debug
/// information, and less than a second.
const NAMES_BUDGET: u64 = 1 << 25;

/// The same for the addresses of a whole profile.
const MANY_NAMES_BUDGET: u64 = 1 << 27;

/// How many addresses of a profile are looked up in one pass. For each there is some memory in each pass and each unit.
const ADDRESSES_AT_ONCE: usize = 256;

/// A call of which nothing is known.
const UNKNOWN: Call = Call { function: None, file: None, line: None };
