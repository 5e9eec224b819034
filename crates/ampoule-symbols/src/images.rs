//! The images in a guest's memory: its executable, and the libraries that it has mapped.
//!
//! Each is read for the addresses that lie in it, and for no others. What they cost together is what one would.

use std::ops::Range;
use std::panic::resume_unwind;
use std::thread;

use crate::call_stack;
use crate::name_cache::Found;
use crate::{Backtrace, CallStack, Frame, Memory, NameCache, Omission, Registers, Symbols};

/// Finds the image that lies at an address, and between which addresses it does. It is asked once for each image that a stack
/// leads to.
pub type FindImage<'find, 'image> = dyn FnMut(u64) -> Option<(Range<u64>, Symbols<'image>)> + 'find;

/// Walks up a guest's stack from these registers through all of its images, for at most `limit` frames; see [`Symbols::walk`].
pub fn walk<'image>(
    images: &mut FindImage<'_, 'image>,
    registers: &Registers,
    memory: &mut Memory<'_>,
    limit: usize,
) -> CallStack {
    call_stack::walk(images, registers, memory, limit)
}

/// The images that name addresses.
#[derive(Debug)]
pub struct Images<'image> {
    /// The executable comes first, and has what none of the others has.
    all: Vec<Image<'image>>,
}

#[derive(Debug)]
struct Image<'image> {
    symbols: Symbols<'image>,
    addresses: Range<u64>,
    cache: &'image NameCache,
}

impl<'image> Images<'image> {
    /// An executable, with what earlier calls have found out about it.
    #[must_use]
    pub fn new(executable: Symbols<'image>, cache: &'image NameCache) -> Self {
        Self { all: vec![Image { symbols: executable, addresses: 0..u64::MAX, cache }] }
    }

    /// Adds a library, which lies between these addresses.
    pub fn add(&mut self, library: Symbols<'image>, addresses: Range<u64>, cache: &'image NameCache) {
        self.all.push(Image { symbols: library, addresses, cache });
    }

    /// Names what is on a stack, as [`Symbols::name_with`] does.
    #[must_use]
    pub fn name(&self, stack: &CallStack) -> Backtrace {
        let asked = self.asked(stack.instructions());
        let known: Option<Vec<Found>> =
            self.all.iter().zip(&asked).map(|(image, addresses)| image.cache.all(addresses)).collect();
        let found = known.or_else(|| {
            let share = share_of(&asked);
            on_thread(|| {
                let look_up = |(image, addresses): (&Image<'_>, &Vec<u64>)| match image.cache.all(addresses) {
                    Some(found) => found,
                    None => image.symbols.look_up(addresses, image.cache, share),
                };
                self.all.iter().zip(&asked).map(look_up).collect()
            })
        });
        let omission = match &found {
            Some(found) => found.iter().find_map(|found| found.omission),
            None => Some(Omission::NoThread),
        };
        let frames = stack.frames.iter().flat_map(|frame| {
            let (index, symbols) = self.at(frame.instruction());
            let calls = found.as_ref().and_then(|found| found[index].calls.get(&symbols.in_image(frame.instruction())));
            symbols.frames(frame.address, calls)
        });
        Backtrace::of_frames(frames.collect(), stack.truncated, omission)
    }

    /// Names instructions of many stacks, as [`Symbols::name_instructions`] does.
    #[must_use]
    pub fn name_instructions(&self, instructions: &[u64]) -> Vec<Vec<Frame>> {
        let asked = self.asked(instructions.iter().copied());
        let share = share_of(&asked);
        let look_up = |(image, addresses): (&Image<'_>, &Vec<u64>)| image.symbols.look_up_many(addresses, share);
        let found: Option<Vec<_>> = on_thread(|| self.all.iter().zip(&asked).map(look_up).collect());
        let named = |&address: &u64| {
            let (index, symbols) = self.at(address);
            let calls = found.as_ref().and_then(|found| found[index].get(&symbols.in_image(address)));
            symbols.frames(address, calls).collect()
        };
        instructions.iter().map(named).collect()
    }

    /// The image at an address.
    fn at(&self, address: u64) -> (usize, &Symbols<'image>) {
        let libraries = self.all.iter().enumerate().skip(1);
        let library = libraries.rev().find(|(_, library)| library.addresses.contains(&address));
        library.map_or((0, &self.all[0].symbols), |(index, library)| (index, &library.symbols))
    }

    /// For each image the addresses of its code among these, in ascending order, as its file gives them.
    fn asked(&self, instructions: impl Iterator<Item = u64>) -> Vec<Vec<u64>> {
        let mut asked = vec![Vec::new(); self.all.len()];
        for instruction in instructions {
            let (index, symbols) = self.at(instruction);
            let address = symbols.in_image(instruction);
            if symbols.elf.is_code(address) {
                asked[index].push(address);
            }
        }
        for addresses in &mut asked {
            addresses.sort_unstable();
            addresses.dedup();
        }
        asked
    }
}

/// Of how many images each is read with a share of the steps.
fn share_of(asked: &[Vec<u64>]) -> u64 {
    asked.iter().filter(|addresses| !addresses.is_empty()).count().max(1) as u64
}

/// A name can be nested so deep that the caller's stack would not suffice. `None` where no thread can be started.
fn on_thread<T: Send>(look_up: impl FnOnce() -> T + Send) -> Option<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name(THREAD.into()).stack_size(THREAD_STACK);
        let thread = thread.spawn_scoped(scope, look_up).ok()?;
        Some(thread.join().unwrap_or_else(|panic| resume_unwind(panic)))
    })
}

/// What the operating system shows the thread as.
const THREAD: &str = "ampoule-symbols";

/// Bytes of the stack on which names are looked up. The demangler's nesting is bounded, and needs less than half of it without
/// optimisations.
const THREAD_STACK: usize = 2 << 20;
