//! A real guest that sends any messages in any order, with any text in its areas. Whatever it says, a call ends with an answer
//! that says what is the matter, and the guest can be put back.

#![no_main]

use std::cell::RefCell;
use std::time::Duration;

use ampoule::{Call, CallError, Image, Limits, Output, Sandbox, Snapshot};
use ampoule_abi::layout::RecordKind;
use ampoule_fuzz::guest::Guest;
use ampoule_fuzz::input::Input;
use libfuzzer_sys::fuzz_target;

thread_local! {
    /// One sandbox for all inputs: each begins with a reset.
    static SANDBOX: RefCell<Talker> = RefCell::new(Talker::new());
}

fuzz_target!(|input: &[u8]| SANDBOX.with_borrow_mut(|talker| talker.perform(Input(input))));

struct Talker {
    sandbox: Sandbox,
    /// Of its functions.
    numbers: Vec<u32>,
}

impl Talker {
    fn perform(&mut self, mut input: Input<'_>) {
        self.sandbox.reset().expect("a reset is always possible");
        let mut snapshot: Option<Snapshot> = None;
        for _ in 0..MOST_STEPS {
            if input.0.is_empty() {
                break;
            }
            let [step] = input.array();
            match step % 8 {
                0 if self.sandbox.poisoned().is_none() => {
                    snapshot = Some(self.sandbox.snapshot().expect("a sandbox that waits can be kept"));
                }
                1 => match &snapshot {
                    Some(snapshot) => self.sandbox.restore(snapshot).expect("it is of this sandbox"),
                    None => self.sandbox.reset().expect("a reset is always possible"),
                },
                _ => {
                    let script = self.script(&mut input, 1 + usize::from(step >> 3));
                    self.call(&script);
                }
            }
        }
        self.sandbox.reset().expect("a reset is always possible");
        // The guest's own deadline may be too short where the machine has much to do.
        let nothing: &[u8] = &[];
        let call = Call::new("run", (nothing,)).deadline(Duration::from_secs(10));
        let answer = self.sandbox.call_with::<Vec<u8>, _>(call);
        assert!(matches!(&answer, Ok(bytes) if bytes.is_empty()), "{answer:?}");
    }

    fn call(&mut self, script: &[u8]) {
        let was_poisoned = self.sandbox.poisoned().is_some();
        let answer = self.sandbox.call::<Vec<u8>>("run", (script,));
        let is_poisoned = self.sandbox.poisoned().is_some();
        match answer {
            Ok(bytes) => {
                assert!(!was_poisoned && !is_poisoned);
                assert!(bytes.len() <= MAILBOX);
            }
            Err(CallError::Poisoned { .. }) => assert!(was_poisoned),
            Err(error) => {
                assert_eq!((was_poisoned, is_poisoned), (false, error.poisons()), "{error}");
                let text = error.to_string();
                assert!((1..MAX_TEXT).contains(&text.len()), "{text}");
            }
        }
    }

    /// Steps for the guest, in the form that it reads.
    fn script(&self, input: &mut Input<'_>, steps: usize) -> Vec<u8> {
        let mut script = Vec::new();
        for _ in 0..steps {
            let [step] = input.array();
            match step % 16 {
                0..=7 => {
                    script.extend([0, step >> 7]);
                    self.message(input, &mut script);
                }
                8..=10 => {
                    let area = 1 + u8::from(step % 16 == 10);
                    let at = u16::from_le_bytes(input.array()) % (2 * MAILBOX as u16);
                    let text = input.block();
                    let text = &text[..text.len().min(255)];
                    script.push(area);
                    script.extend(if step & 0x80 == 0 { 0 } else { at }.to_le_bytes());
                    script.push(text.len() as u8);
                    script.extend(text);
                }
                11 | 12 => {
                    script.push(3);
                    script.extend(number(input).to_le_bytes());
                }
                13 | 14 => script.push(4),
                _ => script.push(5 + (step >> 7)),
            }
        }
        script.truncate(MAILBOX - 4);
        script
    }

    /// The fields of a message, most of which are as they should be.
    fn message(&self, input: &mut Input<'_>, script: &mut Vec<u8>) {
        let [off, function] = input.array();
        let off = if off < 0xc0 { 0 } else { off };
        let function = match function {
            0..0xe0 => self.numbers[usize::from(function) % self.numbers.len()],
            _ => number(input),
        };
        script.push(off);
        let [kind, length, status] = [(); 3].map(|()| number(input));
        for field in [kind, function, length, status] {
            script.extend(field.to_le_bytes());
        }
        script.extend(u64::from(number(input)).to_le_bytes());
    }

    fn new() -> Self {
        let functions = [
            (RecordKind::Export, "run", "fn(Vec<u8>) -> Result<Vec<u8>, String>"),
            (RecordKind::Import, "note", "fn(Vec<u8>)"),
            (RecordKind::Import, "sum", "fn(Vec<u32>) -> u64"),
            (RecordKind::Import, "refuse", "fn(String) -> Result<(), String>"),
            (RecordKind::Import, "fill", "fn(u32) -> Vec<u8>"),
        ];
        let source = concat!(include_str!("../guests/abi.h"), include_str!("../guests/messages.c"));
        let guest = Guest::new(source, &functions).expect("it can be written");
        let image = Image::from_bytes(guest.compile(&[]).expect("it can be compiled")).expect("it is a guest");
        let limits = Limits::new().deadline(Duration::from_secs(1)).output(1 << 20);
        let sandbox = Sandbox::builder(&image)
            .memory_limit(1 << 20)
            .stack_size(64 << 10)
            .mailbox_size(MAILBOX)
            .limits(limits)
            .stdout(Output::discard())
            .stderr(Output::discard())
            .host_fn("note", |_: Vec<u8>| ())
            .host_fn("sum", |numbers: Vec<u32>| numbers.into_iter().map(u64::from).sum::<u64>())
            .try_host_fn("refuse", Err::<(), String>)
            .host_fn("fill", |bytes: u32| vec![0xa5_u8; bytes as usize % (2 * MAILBOX)])
            .build()
            .expect("this target needs /dev/kvm");
        Self { sandbox, numbers: guest.numbers().to_vec() }
    }
}

/// Small as a rule, as kinds, lengths and statuses are.
fn number(input: &mut Input<'_>) -> u32 {
    match input.array() {
        [byte @ 0..0xc0] => u32::from(byte % 8),
        [byte @ 0xc0..0xe0] => u32::from(byte),
        [0xe0..0xf0] => u32::from(u16::from_le_bytes(input.array())) % (2 * MAILBOX as u32),
        _ => u32::from_le_bytes(input.array()),
    }
}

/// So many take far less time than an input may.
const MOST_STEPS: usize = 200;

const MAILBOX: usize = 4096;

/// Of an error that quotes all that a guest can say, each byte of it as an escape.
const MAX_TEXT: usize = 1 << 16;
