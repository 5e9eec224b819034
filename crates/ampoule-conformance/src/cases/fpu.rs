//! Floating-point and vector registers.

use ampoule_vmm::Hypervisor;
use ampoule_vmm::x86_64::registers::FpuState;

use crate::code::assemble;
use crate::failure::{Failure, expect, require};
use crate::guest::{Guest, SOMEWHERE, WRITE, offset};

pub(crate) fn a_new_vcpu_has_clean_registers(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    // An earlier machine leaves something where the next one could find it.
    let mut used = Vectors::new(hypervisor)?;
    used.load(Values::numbered(1))?;
    let mut new = Vectors::new(hypervisor)?;
    // What is read from an empty x87 stack is unspecified.
    let found = Values { top: 0, ..new.store()? };
    expect("registers of a new vCPU", found, Values::INITIAL)
}

pub(crate) fn registers_stay_over_exits(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let (mut one, mut other) = (Vectors::new(hypervisor)?, Vectors::new(hypervisor)?);
    let values = [Values::numbered(2), Values::numbered(3)];
    one.load(values[0])?;
    other.load(values[1])?;
    // The host uses its own registers in between.
    let sum: f64 = (1..100).map(f64::from).map(f64::sqrt).sum();
    require("the host's sum of square roots", sum.round() == 661.0, "661", sum)?;
    one.guest.vcpu.settle()?;
    expect("registers of one guest", one.store()?, values[0])?;
    expect("registers of the other", other.store()?, values[1])
}

pub(crate) fn state_can_be_taken_and_put_back(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let mut guest = Vectors::new(hypervisor)?;
    let values = [Values::numbered(4), Values::numbered(5)];
    guest.load(values[0])?;
    let state = guest.state()?;
    guest.load(values[1])?;
    require("the state with other values", guest.state()? != state, "another one than before", "the same")?;
    guest.guest.vcpu.set_fpu(&state)?;
    expect("the guest's registers", guest.store()?, values[0])
}

pub(crate) fn state_reads_back_as_it_was_set(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let mut guest = Vectors::new(hypervisor)?;
    guest.load(Values::numbered(6))?;
    let state = guest.state()?;
    require("the state asked for twice", guest.state()? == state, "the same one", "another")?;
    guest.load(Values::numbered(7))?;
    guest.guest.vcpu.set_fpu(&state)?;
    require("the state after it was set", guest.state()? == state, "the same one", "another")
}

pub(crate) fn a_state_can_move_to_another_machine(hypervisor: &dyn Hypervisor) -> Result<(), Failure> {
    let mut from = Vectors::new(hypervisor)?;
    let values = Values::numbered(8);
    from.load(values)?;
    let state = from.state()?;
    drop(from);
    let mut to = Vectors::new(hypervisor)?;
    to.guest.vcpu.set_fpu(&state)?;
    expect("registers in the first run", to.store()?, values)?;
    to.load(Values::numbered(9))?;
    to.guest.vcpu.set_fpu(&state)?;
    expect("registers in a later run", to.store()?, values)
}

/// A guest that loads and stores all its floating-point and vector registers.
struct Vectors {
    guest: Guest,
    avx: bool,
}

impl Vectors {
    fn new(hypervisor: &dyn Hypervisor) -> Result<Vectors, Failure> {
        let mut guest = Guest::new(hypervisor, &[])?;
        guest.map(SOMEWHERE, 0, WRITE);
        let avx = guest.capabilities.xcr0 & AVX != 0;
        Ok(Vectors { guest, avx })
    }

    fn load(&mut self, values: Values) -> Result<(), Failure> {
        self.guest.ram.write(offset(0), &values.to_bytes())?;
        self.run(if self.avx { load_avx() } else { load_sse() })
    }

    /// The values in the registers; without AVX, the upper halves are assumed to be right.
    fn store(&mut self) -> Result<Values, Failure> {
        if self.avx {
            self.guest.ram.fill_zero(offset(0), SIZE)?;
        }
        self.run(if self.avx { store_avx() } else { store_sse() })?;
        let mut bytes = [0; SIZE];
        self.guest.ram.read(offset(0), &mut bytes)?;
        Ok(Values::from_bytes(&bytes))
    }

    fn state(&mut self) -> Result<FpuState, Failure> {
        Ok(self.guest.vcpu.fpu()?)
    }

    fn run(&mut self, code: &[u8]) -> Result<(), Failure> {
        self.guest.load(code)?;
        self.guest.set(|regs| regs.rdi = SOMEWHERE.0);
        self.guest.ring().map(drop)
    }
}

/// What the registers hold.
#[derive(Copy, Clone, PartialEq, Debug)]
struct Values {
    /// In pairs: the lower and the upper half of a vector register.
    vectors: [u128; 2 * VECTORS],
    /// MXCSR.
    simd_control: u32,
    /// The x87 control word.
    control: u32,
    /// The top of the x87 stack, as it is stored.
    top: u64,
}

impl Values {
    /// What a Linux program finds at its start.
    const INITIAL: Values = Values { vectors: [0; 2 * VECTORS], simd_control: 0x1f80, control: 0x37f, top: 0 };

    /// Values that differ from register to register and from number to number.
    fn numbered(number: u8) -> Values {
        Values {
            vectors: std::array::from_fn(|half| u128::from_le_bytes([number * 20 + half as u8; 16])),
            // All exceptions masked, and rounding as the number says.
            simd_control: 0x1f80 | u32::from(number % 3 + 1) << 13,
            control: 0x37f | u32::from(number % 3 + 1) << 10,
            top: (f64::from(number) + 0.5).to_bits(),
        }
    }

    fn to_bytes(self) -> [u8; SIZE] {
        let mut bytes = [0; SIZE];
        for (slot, half) in bytes.chunks_exact_mut(16).zip(self.vectors) {
            slot.copy_from_slice(&half.to_le_bytes());
        }
        bytes[512..516].copy_from_slice(&self.simd_control.to_le_bytes());
        bytes[516..520].copy_from_slice(&self.control.to_le_bytes());
        bytes[520..528].copy_from_slice(&self.top.to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8; SIZE]) -> Values {
        let at = |offset: usize, len: usize| {
            let mut value = [0; 16];
            value[..len].copy_from_slice(&bytes[offset..offset + len]);
            u128::from_le_bytes(value)
        };
        Values {
            vectors: std::array::from_fn(|half| at(half * 16, 16)),
            simd_control: at(512, 4) as u32,
            control: at(516, 4) as u32,
            top: at(520, 8) as u64,
        }
    }
}

fn load_avx() -> &'static [u8] {
    assemble!(
        "fninit",
        "fldcw [rdi + 516]",
        "fld qword ptr [rdi + 520]",
        "ldmxcsr [rdi + 512]",
        ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
        "vmovdqu ymm\\n, [rdi + 32 * \\n]",
        ".endr",
        "call qword ptr [0x400ff8]",
    )
}

fn load_sse() -> &'static [u8] {
    assemble!(
        "fninit",
        "fldcw [rdi + 516]",
        "fld qword ptr [rdi + 520]",
        "ldmxcsr [rdi + 512]",
        ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
        "movdqu xmm\\n, [rdi + 32 * \\n]",
        ".endr",
        "call qword ptr [0x400ff8]",
    )
}

fn store_avx() -> &'static [u8] {
    assemble!(
        "fnstcw [rdi + 516]",
        "fst qword ptr [rdi + 520]",
        "stmxcsr [rdi + 512]",
        ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
        "vmovdqu [rdi + 32 * \\n], ymm\\n",
        ".endr",
        "call qword ptr [0x400ff8]",
    )
}

fn store_sse() -> &'static [u8] {
    assemble!(
        "fnstcw [rdi + 516]",
        "fst qword ptr [rdi + 520]",
        "stmxcsr [rdi + 512]",
        ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
        "movdqu [rdi + 32 * \\n], xmm\\n",
        ".endr",
        "call qword ptr [0x400ff8]",
    )
}

/// Vector registers.
const VECTORS: usize = 16;

/// The size of all values in memory, in bytes.
const SIZE: usize = 528;

/// The bit of XCR0 for the upper halves of the vector registers.
const AVX: u64 = 1 << 2;
