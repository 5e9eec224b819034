//! Calls by any name, of any types, with any values: what was sent arrives, at the guest and at the host, and what does not fit
//! is refused before the guest runs.

#![no_main]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ampoule::{Builder, CallError, EncodeError, Image, Output, Sandbox};
use ampoule_abi::codec;
use ampoule_abi::layout::RecordKind;
use ampoule_fuzz::guest::Guest;
use ampoule_fuzz::values::{Bits32, Bits64, Collections, Newtype, Struct, Value};
use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use serde::Serialize;

#[derive(Arbitrary, Debug)]
struct Call {
    name: Name,
    values: Values,
    host_refuses: bool,
    reset: bool,
}

/// What is called.
#[derive(Arbitrary, Debug)]
enum Name {
    /// The function that returns such values itself.
    Echo,
    /// The one that has the host return them.
    Relay,
    /// Any other.
    Exported(u8),
    Text(String),
}

thread_local! {
    /// One sandbox for all inputs: each begins with a reset.
    static SANDBOX: RefCell<(Sandbox, Arc<Host>)> = RefCell::new(sandbox());
}

fuzz_target!(|calls: Vec<Call>| SANDBOX.with_borrow_mut(|(sandbox, host)| {
    sandbox.reset().expect("a reset is always possible");
    for call in calls.iter().take(MOST_CALLS) {
        if call.reset {
            sandbox.reset().expect("a reset is always possible");
        }
        perform(sandbox, host, call);
        assert!(sandbox.poisoned().is_none());
    }
}));

fn perform(sandbox: &mut Sandbox, host: &Host, call: &Call) {
    host.refuses.store(call.host_refuses, Ordering::Relaxed);
    let before = host.asked.load(Ordering::Relaxed);
    let kind = call.values.kind();
    match &call.name {
        Name::Echo => call.values.echo(sandbox, &format!("echo {kind}"), false),
        Name::Relay => call.values.echo(sandbox, &format!("relay {kind}"), call.host_refuses),
        Name::Exported(index) => {
            let names: Vec<_> = EXPORTS.iter().filter(|name| !name.ends_with(kind)).collect();
            let error = call.values.refused(sandbox, names[usize::from(*index) % names.len()]);
            assert!(matches!(error, CallError::WrongArguments { .. }), "{error}");
        }
        Name::Text(name) if !EXPORTS.contains(&name.as_str()) => {
            let error = call.values.refused(sandbox, name);
            assert!(matches!(&error, CallError::UnknownFunction { function, .. } if function == name), "{error}");
        }
        Name::Text(_) => {}
    }
    let asked = host.asked.load(Ordering::Relaxed) - before;
    assert!(asked <= u64::from(matches!(call.name, Name::Relay)));
}

/// What came back is what was sent, unless that was too much or the host has refused it.
fn compare<T: Serialize + Debug + PartialEq>(sent: &T, found: Result<T, CallError>, refused: bool) {
    let mut payload = vec![0; ROOM];
    match (codec::encode(sent, &mut payload[..]), found) {
        (Ok(len), Ok(found)) => {
            assert!(len <= MAILBOX && !refused);
            assert_eq!(found, *sent);
        }
        (Ok(len), Err(CallError::PayloadTooLarge { needed, mailbox_size, .. })) => {
            assert!(len > MAILBOX);
            assert_eq!((needed, mailbox_size), (len as u64, MAILBOX));
        }
        (Ok(_), Err(CallError::Function { message, .. })) => assert!(refused && message == REFUSAL, "{message}"),
        // As arguments the values lie a level less deep.
        (Err(EncodeError::TooDeep), Err(error)) => assert!(!error.poisons(), "{error}"),
        (encoded, found) => panic!("{encoded:?}, {found:?}: {sent:?}"),
    }
}

/// The host's side of the guest's imports.
#[derive(Default)]
struct Host {
    refuses: AtomicBool,
    asked: AtomicU64,
}

impl Host {
    fn answer<T>(&self, values: T) -> Result<T, &'static str> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if self.refuses.load(Ordering::Relaxed) { Err(REFUSAL) } else { Ok(values) }
    }
}

/// The functions of the guest, by the values that they take and return.
macro_rules! functions {
    ($($kind:ident($($value:ident: $type:ty),+) is $signature:literal,)+) => {
        #[derive(Arbitrary, Debug)]
        enum Values {
            $($kind($($type),+),)+
        }

        impl Values {
            fn kind(&self) -> &'static str {
                match self {
                    $(Self::$kind(..) => stringify!($kind),)+
                }
            }

            /// Calls a function that returns them.
            fn echo(&self, sandbox: &mut Sandbox, name: &str, refused: bool) {
                match self {
                    $(Self::$kind($($value),+) => {
                        let found = sandbox.call::<($($type,)+)>(name, ($($value,)+));
                        compare(&($($value.clone(),)+), found, refused);
                    })+
                }
            }

            /// Calls a function that does not take them.
            fn refused(&self, sandbox: &mut Sandbox, name: &str) -> CallError {
                match self {
                    $(Self::$kind($($value),+) => sandbox.call::<($($type,)+)>(name, ($($value,)+)).expect_err(name),)+
                }
            }
        }

        const EXPORTS: &[&str] =
            &[$(concat!("echo ", stringify!($kind)), concat!("relay ", stringify!($kind)),)+];

        /// A host function stands behind the function that calls it.
        const RECORDS: &[(RecordKind, &str, &str)] = &[$(
            (RecordKind::Export, concat!("echo ", stringify!($kind)), $signature),
            (RecordKind::Export, concat!("relay ", stringify!($kind)), $signature),
            (RecordKind::Import, concat!("host ", stringify!($kind)), $signature),
        )+];

        fn with_host_functions(builder: Builder, host: &Arc<Host>) -> Builder {
            $(
                let answering = Arc::clone(host);
                let answer = move |$($value: $type),+| answering.answer(($($value,)+));
                let builder = builder.try_host_fn(concat!("host ", stringify!($kind)), answer);
            )+
            builder
        }
    };
}

functions! {
    Anything(value: Value) is "fn(Value) -> Result<(Value,), String>",
    Gathered(collections: Collections) is "fn(Collections) -> Result<(Collections,), String>",
    Structs(first: Struct, others: Vec<Newtype>) is
        "fn(Struct, Vec<Newtype>) -> Result<(Struct, Vec<Newtype>), String>",
    Texts(text: String, perhaps: Option<String>, letter: char) is
        "fn(&str, Option<String>, char) -> Result<(String, Option<String>, char), String>",
    Numbers(a: u8, b: i16, c: u32, d: i64, e: u128, f: bool) is
        "fn(u8, i16, u32, i64, u128, bool) -> Result<(u8, i16, u32, i64, u128, bool), String>",
    Floats(single: Bits32, double: Bits64) is "fn(Bits32, Bits64) -> Result<(Bits32, Bits64), String>",
    Bytes(bytes: Vec<u8>) is "fn(&[u8]) -> Result<(Vec<u8>,), String>",
    Arrays(array: [u16; 5], rows: Vec<Vec<u64>>) is
        "fn([u16; 5], Vec<Vec<u64>>) -> Result<([u16; 5], Vec<Vec<u64>>), String>",
    Maps(map: BTreeMap<u32, String>, perhaps: Option<Box<Value>>) is
        "fn(HashMap<u32, String>, Option<Value>) -> Result<(HashMap<u32, String>, Option<Value>), String>",
}

fn sandbox() -> (Sandbox, Arc<Host>) {
    let source = concat!(include_str!("../guests/abi.h"), include_str!("../guests/calls.c"));
    let guest = Guest::new(source, RECORDS).expect("it can be written");
    let image = Image::from_bytes(guest.compile(&[]).expect("it can be compiled")).expect("it is a guest");
    let host = Arc::default();
    let builder = Sandbox::builder(&image).memory_limit(1 << 20).stack_size(64 << 10).mailbox_size(MAILBOX);
    let builder = with_host_functions(builder, &host).stdout(Output::discard()).stderr(Output::discard());
    (builder.build().expect("this target needs /dev/kvm"), host)
}

/// So many take far less time than an input may.
const MOST_CALLS: usize = 200;

/// So few bytes that some values do not fit.
const MAILBOX: usize = 4096;

/// Enough for every value that an input of this target's length can describe.
const ROOM: usize = 1 << 20;

const REFUSAL: &str = "the host refuses: ▒ \u{1f980}";
