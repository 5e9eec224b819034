//! Walking up a guest's stack, from the instruction that it stopped at to the function that it started with.
//!
//! The stack is the guest's and may hold anything. So every frame must lie above the one before it, there is a limit to
//! their number, and what tells how to go from one to the next is read from the image's file, never from the guest.

use std::ops::Range;

use super::Symbols;
use super::budget::Budget;
use super::frame_table::FrameTable;
use super::images::FindImage;
use super::registers::{KnownRegisters, Registers};

/// Reads all of the buffer from this address of the guest's memory, or says that the guest could not.
pub type Memory<'memory> = dyn FnMut(u64, &mut [u8]) -> bool + 'memory;

/// Where a guest is: the instruction that it stopped at, and the calls that led there, innermost first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallStack {
    pub(super) frames: Vec<CodeAddress>,
    /// Whether there are callers that the limit left out.
    pub(super) truncated: bool,
}

impl CallStack {
    /// Addresses within the instructions that the guest is at, innermost first: the one that it stopped at, and the calls that
    /// led there.
    pub fn instructions(&self) -> impl ExactSizeIterator<Item = u64> {
        self.frames.iter().map(|frame| frame.instruction())
    }

    /// Whether there are callers that the limit left out.
    #[must_use]
    pub fn is_truncated(&self) -> bool {
        self.truncated
    }
}

/// An address that a guest executes, or will when a call returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CodeAddress {
    pub(super) address: u64,
    /// Whether it lies behind the call that it stands for. That call may be the last instruction of its function.
    pub(super) is_return: bool,
}

impl CodeAddress {
    /// An address within the instruction that is meant.
    pub(super) fn instruction(self) -> u64 {
        if self.is_return { self.address.wrapping_sub(1) } else { self.address }
    }
}

/// Walks up the stack from `registers`, for at most `limit` frames.
pub(super) fn walk<'image>(
    images: &mut FindImage<'_, 'image>,
    registers: &Registers,
    memory: &mut Memory<'_>,
    limit: usize,
) -> CallStack {
    let budget = Budget::new(WALK_BUDGET);
    let mut walk = Walk { images, open: Vec::new(), budget: &budget, memory };
    let mut frame = Frame {
        code: CodeAddress { address: registers.rip, is_return: false },
        registers: KnownRegisters::from(registers),
    };
    let mut frames = Vec::new();
    while frames.len() < limit {
        frames.push(frame.code);
        match walk.caller(&frame) {
            Some(caller) => frame = caller,
            None => return CallStack { frames, truncated: false },
        }
    }
    CallStack { frames, truncated: true }
}

/// A function that runs or waits for another, with the registers as it left them.
struct Frame {
    code: CodeAddress,
    registers: KnownRegisters,
}

struct Walk<'w, 'image> {
    images: &'w mut FindImage<'w, 'image>,
    /// Those that the stack has led to.
    open: Vec<Open<'w>>,
    budget: &'w Budget,
    memory: &'w mut Memory<'w>,
}

/// An image of which something is on the stack.
struct Open<'a> {
    addresses: Range<u64>,
    symbols: Symbols<'a>,
    table: Option<FrameTable<'a>>,
}

impl Walk<'_, '_> {
    /// The frame that waits for this one, if there is one and it can be found.
    fn caller(&mut self, frame: &Frame) -> Option<Frame> {
        let instruction = frame.code.instruction();
        let described = self.image_at(instruction).and_then(|index| {
            let Open { symbols, table, .. } = &mut self.open[index];
            let (table, address) = (table.as_mut()?, symbols.in_image(instruction));
            Some((table.description(address)?, table, address))
        });
        let caller = match described {
            Some((function, table, address)) => {
                let caller = table.caller(&function, address, &frame.registers, self.memory)?;
                let code = CodeAddress { address: caller.registers.rip()?, is_return: !caller.interrupted };
                Frame { code, registers: caller.registers }
            }
            None => self.caller_of_strange_code(frame)?,
        };
        let progress = caller.registers.rsp()? > frame.registers.rsp()?;
        (progress && caller.code.address != 0).then_some(caller)
    }

    /// The caller of code that the image does not describe: hand-written, made at run time, or no code at all.
    fn caller_of_strange_code(&mut self, frame: &Frame) -> Option<Frame> {
        let (return_address, rsp, rbp) = match self.jumped(frame) {
            Some(return_address) => (return_address, frame.registers.rsp()?.checked_add(8)?, frame.registers.rbp()),
            None => self.saved_by_frame_pointer(frame)?,
        };
        // Code of the image is called by code of the image. What is not may have been made, and call itself.
        if self.is_code(frame.code.address) && !self.is_code(return_address) {
            return None;
        }
        let registers = frame.registers.in_caller(return_address, rsp, rbp);
        Some(Frame { code: CodeAddress { address: return_address, is_return: true }, registers })
    }

    /// Where a call through a bad pointer came from: the target is no code, and the call has just pushed its return address.
    fn jumped(&mut self, frame: &Frame) -> Option<u64> {
        if frame.code.is_return || self.is_code(frame.code.address) {
            return None;
        }
        let return_address = self.read(frame.registers.rsp()?)?;
        self.is_code(return_address).then_some(return_address)
    }

    /// Return address, stack pointer and frame pointer of the caller of a function that begins with `push rbp; mov rbp, rsp`.
    fn saved_by_frame_pointer(&mut self, frame: &Frame) -> Option<(u64, u64, Option<u64>)> {
        let (rsp, rbp) = (frame.registers.rsp()?, frame.registers.rbp()?);
        if rbp < rsp || !rbp.is_multiple_of(8) {
            return None;
        }
        let saved_rbp = self.read(rbp)?;
        let return_address = self.read(rbp.checked_add(8)?)?;
        Some((return_address, rbp.checked_add(16)?, Some(saved_rbp)))
    }

    fn is_code(&mut self, address: u64) -> bool {
        self.image_at(address).is_some_and(|index| {
            let symbols = &self.open[index].symbols;
            symbols.elf.is_code(symbols.in_image(address))
        })
    }

    /// Which of the open images is at an address. It is opened if it is not.
    fn image_at(&mut self, address: u64) -> Option<usize> {
        let open = self.open.iter().position(|image| image.addresses.contains(&address));
        open.or_else(|| {
            let (addresses, symbols) = (self.images)(address)?;
            let table = FrameTable::read(&symbols.elf, self.budget);
            self.open.push(Open { addresses, symbols, table });
            Some(self.open.len() - 1)
        })
    }

    fn read(&mut self, address: u64) -> Option<u64> {
        let mut bytes = [0; 8];
        (self.memory)(address, &mut bytes).then(|| u64::from_le_bytes(bytes))
    }
}

/// Reads of the image's tables for one walk. A frame takes some hundreds.
const WALK_BUDGET: u64 = 1 << 22;
