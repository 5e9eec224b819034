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
//!   once.
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
//! The images are static executables for Linux on x86-64.

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
mod name_cache;
mod omission;
mod registers;
#[cfg(test)]
mod tests;
mod text;

pub use backtrace::{Backtrace, Frame, ImagePlace};
pub use call_stack::{CallStack, Memory};
pub use name_cache::NameCache;
pub use omission::Omission;
pub use registers::Registers;

use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread;

use budget::Budget;
use call_stack::CodeAddress;
use debug_info::{DebugInfo, Sections, Site};
use elf::Elf;
use name_cache::{Call, Found};

/// What an image tells about its code. To make one is cheap: nothing but the table of sections is read for it.
#[derive(Debug)]
pub struct Symbols<'image> {
    elf: Elf<'image>,
    load_bias: u64,
}

impl<'image> Symbols<'image> {
    /// `image` is the file, and `load_bias` what was added to its addresses when it was loaded.
    pub fn new(image: &'image [u8], load_bias: u64) -> Self {
        Self { elf: Elf::read(image), load_bias }
    }

    /// Walks up the guest's stack from these registers, for at most `limit` frames. It takes about as long as a few
    /// hundred reads of `memory`.
    pub fn walk(&self, registers: &Registers, memory: &mut Memory<'_>, limit: usize) -> CallStack {
        call_stack::walk(&self.elf, self.load_bias, registers, memory, limit)
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
        let mut addresses: Vec<u64> =
            stack.frames.iter().map(|frame| self.in_image(frame)).filter(|&it| self.elf.is_code(it)).collect();
        addresses.sort_unstable();
        addresses.dedup();
        if let Some(found) = cache.all(&addresses) {
            return self.backtrace(stack, &found);
        }
        thread::scope(|scope| {
            let thread = thread::Builder::new().name(THREAD.into()).stack_size(THREAD_STACK);
            match thread.spawn_scoped(scope, || self.look_up(&addresses, cache)) {
                Ok(thread) => self.backtrace(stack, &thread.join().unwrap_or_else(|panic| resume_unwind(panic))),
                Err(_) => self.without_names(stack),
            }
        })
    }

    /// The address within the call's instruction, as the image's file gives it.
    fn in_image(&self, frame: &CodeAddress) -> u64 {
        frame.instruction().wrapping_sub(self.load_bias)
    }

    /// Reads the image for what it says about these addresses, which are in ascending order.
    fn look_up(&self, addresses: &[u64], cache: &NameCache) -> Found {
        let sections = Sections::read(&self.elf);
        let units = cache.units().or_else(|| {
            let budget = Budget::new(NAMES_BUDGET);
            let units = DebugInfo::new(&sections, self.elf.code_start(), &budget).index().map(Arc::new)?;
            if budget.is_spent() {
                return None;
            }
            cache.keep_units(&units);
            Some(units)
        });

        let budget = Budget::new(NAMES_BUDGET);
        let symbols = self.elf.function_symbols(addresses, &budget);
        let debug_info = DebugInfo::new(&sections, self.elf.code_start(), &budget);
        let sites = debug_info.look_up(units.as_deref(), addresses);
        let calls = addresses.iter().zip(symbols.iter().zip(sites));
        let calls = calls.map(|(address, (symbol, sites))| (*address, calls_of(*symbol, sites))).collect();
        let found = Found { calls, omission: sections.omission };
        if !budget.is_spent() {
            cache.keep(&found);
        }
        found
    }

    fn backtrace(&self, stack: &CallStack, found: &Found) -> Backtrace {
        let unknown = [Call { function: None, file: None, line: None }];
        let mut frames = Vec::new();
        for frame in &stack.frames {
            let calls = found.calls.get(&self.in_image(frame)).map_or(&unknown[..], |calls| calls);
            for (depth, Call { function, file, line }) in calls.iter().enumerate() {
                frames.push(Frame {
                    address: frame.address,
                    place: self.place(frame.address),
                    function: function.clone(),
                    file: file.clone(),
                    line: *line,
                    inlined: depth + 1 < calls.len(),
                });
            }
        }
        let truncated = stack.truncated || frames.len() > MAX_FRAMES;
        frames.truncate(MAX_FRAMES);
        Backtrace::new(frames, truncated, found.omission)
    }

    fn without_names(&self, stack: &CallStack) -> Backtrace {
        let frame = |&CodeAddress { address, .. }: &CodeAddress| Frame {
            address,
            place: self.place(address),
            function: None,
            file: None,
            line: None,
            inlined: false,
        };
        Backtrace::new(stack.frames.iter().map(frame).collect(), stack.truncated, Some(Omission::NoThread))
    }

    /// Where an address of the guest lies in its image, be it code or data.
    pub fn place(&self, address: u64) -> Option<ImagePlace> {
        let memory = self.elf.memory();
        let address = address.wrapping_sub(self.load_bias);
        let section = self.elf.section_at(address).map(|section| text::text(section.name));
        memory.contains(&address).then(|| ImagePlace { section, offset: address - memory.start })
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

/// What the operating system shows the thread as.
const THREAD: &str = "ampoule-symbols";

/// Bytes of the stack on which names are looked up. The demangler's nesting is bounded, and needs less than half of it without
/// optimisations.
const THREAD_STACK: usize = 2 << 20;

/// The most frames of a backtrace, inlined ones included.
const MAX_FRAMES: usize = 256;
