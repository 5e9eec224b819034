//! The image's own description of its stack frames: the section `.eh_frame`, which compilers write for exceptions.

use gimli::{
    BaseAddresses, CfaRule, EhFrame, EhFrameOffset, Encoding, Evaluation, EvaluationResult, Format,
    FrameDescriptionEntry, Location, Register, RegisterRule, Result, UnwindContext, UnwindContextStorage,
    UnwindExpression, UnwindSection, UnwindTableRow, Value, X86_64,
};

use super::budget::{Budget, Metered};
use super::call_stack::Memory;
use super::elf::Elf;
use super::registers::{KEPT, KnownRegisters};

/// How to find a function's caller, for each instruction of an image.
pub(super) struct FrameTable<'a> {
    frames: EhFrame<Metered<'a>>,
    index: Option<Index<'a>>,
    bases: BaseAddresses,
    context: UnwindContext<usize, SmallRows>,
}

/// The description of a function's frame.
pub(super) type Description<'a> = FrameDescriptionEntry<Metered<'a>>;

/// Where a function will return to.
pub(super) struct Caller {
    /// As they will be then.
    pub(super) registers: KnownRegisters,
    /// Whether it did not call but was interrupted by a signal.
    pub(super) interrupted: bool,
}

impl<'a> FrameTable<'a> {
    pub(super) fn read(elf: &Elf<'a>, budget: &'a Budget) -> Option<Self> {
        let frames = elf.section(".eh_frame")?;
        let index = elf.section(".eh_frame_hdr");
        Some(Self {
            bases: BaseAddresses::default().set_eh_frame(frames.address),
            index: index.and_then(|index| Index::read(index.data, index.address, frames.address)),
            frames: EhFrame::from(Metered::new(frames.data, budget)),
            context: UnwindContext::new_in(),
        })
    }

    /// The function that holds the instruction at this image address, if the table knows it.
    pub(super) fn description(&self, address: u64) -> Option<Description<'a>> {
        let description = match &self.index {
            Some(index) => {
                let offset = EhFrameOffset(index.lookup(address)?);
                self.frames.fde_from_offset(&self.bases, offset, EhFrame::cie_from_offset)
            }
            None => self.frames.fde_for_address(&self.bases, address, EhFrame::cie_from_offset),
        };
        description.ok().filter(|description| description.contains(address))
    }

    /// The caller of a function that is at this instruction; `None` if it is the outermost, or the guest's memory does not
    /// hold what the description says.
    pub(super) fn caller(
        &mut self,
        function: &Description<'a>,
        address: u64,
        registers: &KnownRegisters,
        memory: &mut Memory<'_>,
    ) -> Option<Caller> {
        let row = function.unwind_info_for_address(&self.frames, &self.bases, &mut self.context, address).ok()?;
        let mut rules = Rules { frames: &self.frames, registers, memory };
        let frame_address = rules.frame_address(row.cfa())?;
        let mut value = |register| row.register(register).map(|rule| rules.value(register, &rule, frame_address));

        let mut caller = registers.kept();
        caller.set(X86_64::RSP, Some(frame_address));
        for register in KEPT.into_iter().chain([X86_64::RSP]) {
            if let Some(value) = value(register) {
                caller.set(register, value);
            }
        }
        let return_address = value(function.cie().return_address_register())??;
        caller.set(X86_64::RA, Some(return_address));
        Some(Caller { registers: caller, interrupted: function.is_signal_trampoline() })
    }
}

/// Room for the rules of a frame. What the library uses by default is moved over the stack with ten times as much.
struct SmallRows;

impl UnwindContextStorage<usize> for SmallRows {
    type Rules = [(Register, RegisterRule<usize>); MAX_RULES];
    type Stack = Box<[UnwindTableRow<usize, Self>; MAX_REMEMBERED]>;
}

/// The section `.eh_frame_hdr`: the descriptions in the order of their functions (Linux Standard Base, Core
/// Specification, section 10.6.2), in the encoding that all linkers use.
struct Index<'a> {
    rows: &'a [[u8; INDEX_ROW]],
    address: u64,
    frames_address: u64,
}

impl<'a> Index<'a> {
    fn read(section: &'a [u8], address: u64, frames_address: u64) -> Option<Self> {
        let (header, rows) = section.split_first_chunk::<INDEX_HEADER>()?;
        let [version, pointer, count, row, .., c0, c1, c2, c3] = *header;
        let is_usual = [version, pointer, count, row] == [1, PCREL_SDATA4, UDATA4, DATAREL_SDATA4];
        let count = u32::from_le_bytes([c0, c1, c2, c3]) as usize;
        let (rows, _) = rows.as_chunks();
        is_usual.then(|| Self { rows: &rows[..rows.len().min(count)], address, frames_address })
    }

    /// The offset in `.eh_frame` of the description that may be of the function at this address.
    fn lookup(&self, address: u64) -> Option<usize> {
        let absolute = |offset: [u8; 4]| self.address.wrapping_add_signed(i64::from(i32::from_le_bytes(offset)));
        let behind = self.rows.partition_point(|&[a, b, c, d, ..]| absolute([a, b, c, d]) <= address);
        let [.., a, b, c, d] = *self.rows.get(behind.checked_sub(1)?)?;
        usize::try_from(absolute([a, b, c, d]).checked_sub(self.frames_address)?).ok()
    }
}

/// What the rules of a description need to give values.
struct Rules<'r, 'a, 'm> {
    frames: &'r EhFrame<Metered<'a>>,
    registers: &'r KnownRegisters,
    memory: &'r mut Memory<'m>,
}

impl Rules<'_, '_, '_> {
    /// The stack pointer before the call, which the ABI calls the canonical frame address.
    fn frame_address(&mut self, rule: &CfaRule<usize>) -> Option<u64> {
        match rule {
            CfaRule::RegisterAndOffset { register, offset } => {
                Some(self.registers.value(*register)?.wrapping_add_signed(*offset))
            }
            CfaRule::Expression(expression) => self.evaluate(expression, None),
        }
    }

    /// The caller's value of a register.
    fn value(&mut self, register: Register, rule: &RegisterRule<usize>, frame_address: u64) -> Option<u64> {
        match rule {
            RegisterRule::SameValue => self.registers.value(register),
            RegisterRule::Offset(offset) => self.read(frame_address.wrapping_add_signed(*offset), 8),
            RegisterRule::ValOffset(offset) => Some(frame_address.wrapping_add_signed(*offset)),
            RegisterRule::Register(other) => self.registers.value(*other),
            RegisterRule::Expression(expression) => {
                let address = self.evaluate(expression, Some(frame_address))?;
                self.read(address, 8)
            }
            RegisterRule::ValExpression(expression) => self.evaluate(expression, Some(frame_address)),
            RegisterRule::Constant(value) => Some(*value),
            _ => None,
        }
    }

    fn evaluate(&mut self, expression: &UnwindExpression<usize>, initial: Option<u64>) -> Option<u64> {
        self.try_evaluate(expression, initial).ok().flatten()
    }

    fn try_evaluate(&mut self, expression: &UnwindExpression<usize>, initial: Option<u64>) -> Result<Option<u64>> {
        let bytecode = expression.get(self.frames)?.0;
        let mut evaluation = Evaluation::new(bytecode, ENCODING);
        evaluation.set_max_iterations(MAX_OPERATIONS);
        if let Some(value) = initial {
            evaluation.set_initial_value(value);
        }
        let mut state = evaluation.evaluate()?;
        loop {
            state = match state {
                EvaluationResult::Complete => break,
                EvaluationResult::RequiresMemory { address, size, space: None, .. } => {
                    let Some(value) = self.read(address, size) else { return Ok(None) };
                    evaluation.resume_with_memory(Value::Generic(value))?
                }
                EvaluationResult::RequiresRegister { register, .. } => {
                    let Some(value) = self.registers.value(register) else { return Ok(None) };
                    evaluation.resume_with_register(Value::Generic(value))?
                }
                _ => return Ok(None),
            };
        }
        Ok(match evaluation.as_result() {
            [piece] => match piece.location {
                Location::Address { address } => Some(address),
                _ => None,
            },
            _ => None,
        })
    }

    /// Reads a little-endian number of up to eight bytes.
    fn read(&mut self, address: u64, size: u8) -> Option<u64> {
        let mut bytes = [0; 8];
        let read = bytes.get_mut(..usize::from(size))?;
        (self.memory)(address, read).then(|| u64::from_le_bytes(bytes))
    }
}

const ENCODING: Encoding = Encoding { address_size: 8, format: Format::Dwarf32, version: 4 };

/// The most registers that a frame's description has rules for. Those that there are rules for at all are the general ones.
const MAX_RULES: usize = 20;

/// The most rows of rules that a description keeps at a time, the current one included. Compilers nest two.
const MAX_REMEMBERED: usize = 4;

/// The most operations of one expression. Those of procedure linkage tables, the longest that linkers write, have eleven.
const MAX_OPERATIONS: u32 = 256;

/// Version, encodings of the pointer to `.eh_frame`, of the count and of the rows; that pointer; the count.
const INDEX_HEADER: usize = 12;

/// Function and description, both counted from the start of the section.
const INDEX_ROW: usize = 8;

/// `DW_EH_PE_pcrel | DW_EH_PE_sdata4`: four bytes, signed, counted from where they stand.
const PCREL_SDATA4: u8 = 0x1b;

/// `DW_EH_PE_udata4`: four bytes, unsigned.
const UDATA4: u8 = 0x03;

/// `DW_EH_PE_datarel | DW_EH_PE_sdata4`: four bytes, signed, counted from the start of the section.
const DATAREL_SDATA4: u8 = 0x3b;
