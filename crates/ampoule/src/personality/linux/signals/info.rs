//! What a process learns of a signal: `siginfo_t`.

use std::mem::offset_of;

use linux_raw_sys::general::{
    __sifields__bindgen_ty_1, __sifields__bindgen_ty_2, SI_KERNEL, SI_TIMER, siginfo__bindgen_ty_1__bindgen_ty_1,
    siginfo_t,
};

use crate::personality::linux::process::{ProcessId, USER_ID};
use crate::personality::linux::structure::to_bytes;

/// A signal and what there is to know of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::personality::linux) struct Info {
    signal: i32,
    code: i32,
    /// What lies behind the number and the code; the rest is zero.
    fields: [u8; FIELDS_LEN],
}

impl Info {
    /// One that the kernel sends, without more to be known.
    pub(in crate::personality::linux) fn from_kernel(signal: i32) -> Self {
        Self { signal, code: SI_KERNEL as i32, fields: [0; FIELDS_LEN] }
    }

    /// One that the process sends itself, by a call of this code.
    pub(in crate::personality::linux) fn sent(signal: i32, code: i32, own: ProcessId) -> Self {
        let sender = to_bytes!(__sifields__bindgen_ty_1 { _pid: own.number() as i32, _uid: USER_ID });
        Self { signal, code, fields: padded(&sender) }
    }

    /// One that the process sends itself together with what is to be known of it, of which the number does not count.
    pub(super) fn given(signal: i32, info: &[u8; GIVEN_LEN]) -> Self {
        let code = i32::from_le_bytes([info[CODE], info[CODE + 1], info[CODE + 2], info[CODE + 3]]);
        Self { signal, code, fields: padded(&info[FIELDS..]) }
    }

    /// That of a fault at this address.
    pub(super) fn of_fault(signal: i32, code: i32, address: u64) -> Self {
        Self { signal, code, fields: padded(&address.to_le_bytes()) }
    }

    /// That of a timer.
    pub(in crate::personality::linux) fn of_timer(signal: i32, timer: i32, value: u64) -> Self {
        let mut fields = padded(&timer.to_le_bytes());
        fields[TIMER_VALUE..TIMER_VALUE + 8].copy_from_slice(&value.to_le_bytes());
        Self { signal, code: SI_TIMER, fields }
    }

    /// The same of a timer that has expired so many times more since.
    pub(super) fn with_overrun(mut self, overrun: i32) -> Self {
        self.fields[TIMER_OVERRUN..TIMER_OVERRUN + 4].copy_from_slice(&overrun.to_le_bytes());
        self
    }

    pub(in crate::personality::linux) fn signal(&self) -> i32 {
        self.signal
    }

    pub(in crate::personality::linux) fn code(&self) -> i32 {
        self.code
    }

    pub(super) fn parts(&self) -> (i32, i32, [u8; FIELDS_LEN]) {
        (self.signal, self.code, self.fields)
    }

    pub(super) fn of_parts(signal: i32, code: i32, fields: [u8; FIELDS_LEN]) -> Self {
        Self { signal, code, fields }
    }

    /// What lies behind the number and the code: who has sent it, or the timer and its overrun, and then the value.
    pub(in crate::personality::linux) fn words(&self) -> [u32; 4] {
        let word = |index: usize| {
            self.fields[4 * index..4 * index + 4].iter().rev().fold(0, |word, byte| word << 8 | *byte as u32)
        };
        [word(0), word(1), word(2), word(3)]
    }

    pub(in crate::personality::linux) fn is_of_timer(&self) -> bool {
        self.code == SI_TIMER
    }

    /// Whether there is a value: with all that a process sends by itself, but for what `kill` sends.
    pub(in crate::personality::linux) fn has_value(&self) -> bool {
        self.code < 0
    }

    pub(in crate::personality::linux) fn to_bytes(self) -> [u8; size_of::<siginfo_t>()] {
        let common = to_bytes!(siginfo__bindgen_ty_1__bindgen_ty_1 { si_signo: self.signal, si_code: self.code });
        let mut info = [0; size_of::<siginfo_t>()];
        info[..common.len()].copy_from_slice(&common);
        info[FIELDS..GIVEN_LEN].copy_from_slice(&self.fields);
        info
    }
}

fn padded(given: &[u8]) -> [u8; FIELDS_LEN] {
    let mut fields = [0; FIELDS_LEN];
    fields[..given.len()].copy_from_slice(given);
    fields
}

/// Where the fields begin that depend on the signal.
const FIELDS: usize = offset_of!(siginfo__bindgen_ty_1__bindgen_ty_1, _sifields);
const CODE: usize = offset_of!(siginfo__bindgen_ty_1__bindgen_ty_1, si_code);

/// Where a timer's overrun and its value lie among them.
const TIMER_OVERRUN: usize = offset_of!(__sifields__bindgen_ty_2, _overrun);
const TIMER_VALUE: usize = offset_of!(__sifields__bindgen_ty_2, _sigval);

/// How much of `siginfo_t` there can be anything in (Linux's `struct kernel_siginfo`).
pub(super) const GIVEN_LEN: usize = 48;
pub(super) const FIELDS_LEN: usize = GIVEN_LEN - FIELDS;
