//! What users of such a library rely on without a documented promise: extremes, many at once, and sandboxes within
//! sandboxes.

use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::Duration;

use ampoule::{Arguments, BuildError, Builder, Call, CallError, ExceededLimit, LoadError, Sandbox, Termination};
use ampoule_tests::{calls_builder, calls_image, calls_sandbox, calls_spawn, hostile_image};
use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

#[test]
fn what_is_not_a_number_keeps_all_its_bits() {
    #[derive(Serialize, Deserialize)]
    enum Shape {
        Nothing,
        Circle(f64),
        Named { name: String, inner: Option<Box<Shape>> },
    }
    let mut sandbox = calls_sandbox();
    for bits in [0x7fc0_0000_u32, 0x7fc0_1234, 0xffff_ffff, 0x7f80_0001, 0xff80_0000, 0x8000_0000] {
        let sent = (0i8, 0u64, 0i128, f32::from_bits(bits), false, ' ');
        let (_, _, _, received, _, _): (i8, u64, i128, f32, bool, char) = sandbox.call("echo_number", sent).unwrap();
        assert_eq!(received.to_bits(), bits, "{bits:#x}");
    }
    for bits in [0x7ff8_0000_0000_0000_u64, 0x7ff8_0000_dead_beef, u64::MAX, 0x7ff0_0000_0000_0001] {
        let wrapped: Shape = sandbox.call("wrap_shape", (Shape::Circle(f64::from_bits(bits)),)).unwrap();
        let Shape::Named { inner: Some(inner), .. } = wrapped else { panic!("not wrapped") };
        let Shape::Circle(received) = *inner else { panic!("another shape") };
        assert_eq!(received.to_bits(), bits, "{bits:#x}");
    }
}

#[test]
fn both_ends_of_every_range_work_and_what_is_beyond_them_is_refused_with_the_range() {
    type Setting = fn(Builder, usize) -> Builder;
    let settings: [(&str, Setting, usize, usize); 3] = [
        ("memory_limit", |builder, bytes| builder.stack_size(64 << 10).memory_limit(bytes), 1 << 20, 32 << 30),
        ("mailbox_size", Builder::mailbox_size, 4 << 10, 256 << 20),
        ("stack_size", |builder, bytes| builder.stack_size(bytes).memory_limit(2 << 30), 64 << 10, 1 << 30),
    ];
    for (name, set, least, most) in settings {
        for bytes in [least, most] {
            let mut sandbox = match set(Sandbox::builder(&hostile_image()), bytes).build() {
                // Its own C library makes this guest larger than the smallest memory limit.
                Err(BuildError::Load(LoadError::MemoryLimit { limit, .. })) if limit == 1 << 20 => continue,
                built => built.unwrap(),
            };
            assert!(sandbox.call::<bool>("alive", ()).unwrap(), "{name} of {bytes}");
            sandbox.reset().unwrap();
            assert!(sandbox.call::<bool>("alive", ()).unwrap(), "{name} of {bytes}");
        }
        for bytes in [0, least - 1, most + 1, usize::MAX] {
            let error = set(Sandbox::builder(&hostile_image()), bytes).build().unwrap_err();
            assert!(matches!(error, BuildError::Setting { .. }), "{name} of {bytes}: {error}");
            let text = error.to_string();
            assert!(text.contains(name) && text.contains(&format!("{least} to {most}")), "{text}");
        }
    }
}

#[test]
fn a_deadline_of_the_innermost_of_three_nested_calls_ends_only_that_one() {
    let outcome = Arc::new(Mutex::new(None));
    let mut innermost = calls_sandbox();
    let seen = Arc::clone(&outcome);
    let mut middle = notifying(move || {
        let call = Call::new("spin", ()).deadline(Duration::from_millis(20));
        *seen.lock().unwrap() = Some(innermost.call_with::<(), _>(call));
        innermost.reset().unwrap();
        assert_eq!(innermost.call::<u32>("increment", ()).unwrap(), 101);
    });
    let mut outermost = notifying(move || {
        middle.call::<()>("notify_host", (1u32,)).unwrap();
        assert_eq!(middle.call::<u32>("increment", ()).unwrap(), 101);
        middle.reset().unwrap();
    });
    for _ in 0..2 {
        let call = Call::new("notify_host", (1u32,)).deadline(Duration::from_secs(3600));
        outermost.call_with::<(), _>(call).unwrap();
        let error = outcome.lock().unwrap().take().expect("the innermost call was made").unwrap_err();
        let CallError::Terminated { cause: Termination::LimitExceeded(limit), .. } = error else { panic!("{error}") };
        assert!(matches!(limit, ExceededLimit::Deadline(_)), "{limit}");
    }
    assert_eq!(outermost.call::<u32>("increment", ()).unwrap(), 101);
}

#[test]
fn more_host_functions_than_a_snapshot_was_taken_with_do_no_harm() {
    let mut plain = calls_sandbox();
    plain.call::<u32>("increment", ()).unwrap();
    let snapshot = plain.snapshot().unwrap();
    let mut rich = calls_builder().host_fn("extra", |_: u64| ()).build().unwrap();
    rich.restore(&snapshot).unwrap();
    let spawned = calls_spawn(snapshot.builder()).host_fn("extra", |_: u64| ()).build().unwrap();
    for mut sandbox in [rich, spawned] {
        assert_eq!(sandbox.call::<u32>("count_on_host", (7u32,)).unwrap(), 7);
        assert_eq!(sandbox.call::<u32>("increment", ()).unwrap(), 102);
    }
}

#[test]
fn a_sandbox_outlives_the_snapshot_that_it_comes_from() {
    let mut original = calls_sandbox();
    original.call::<u32>("increment", ()).unwrap();
    let snapshot = original.snapshot().unwrap();
    let mut child = calls_spawn(snapshot.builder()).build().unwrap();
    drop(original);
    drop(snapshot);
    for _ in 0..3 {
        assert_eq!(child.call::<u32>("increment", ()).unwrap(), 102);
        assert!(child.call::<bool>("exercise_memory", (3u32,)).unwrap());
        let later = child.snapshot().unwrap();
        child.reset().unwrap();
        child.restore(&later).unwrap();
        assert_eq!(child.call::<u32>("increment", ()).unwrap(), 103);
        drop(later);
        child.reset().unwrap();
    }
}

#[test]
fn two_hundred_threads_build_and_call_at_once() {
    calls_image();
    allow_many_files();
    let start = Barrier::new(200);
    thread::scope(|scope| {
        for number in 0..200_u32 {
            let start = &start;
            scope.spawn(move || {
                start.wait();
                let mut sandbox = calls_builder().memory_limit(8 << 20).stack_size(256 << 10).build().unwrap();
                assert_eq!(sandbox.call::<u32>("divide", (number * 3, 3u32)).unwrap(), number);
                assert_eq!(sandbox.call::<u32>("count_on_host", (number % 5,)).unwrap(), number % 5);
            });
        }
    });
}

#[test]
fn calls_that_are_drawn_at_random_give_what_their_types_say_and_never_end_the_guest() {
    let sandbox = Mutex::new(calls_sandbox());
    proptest!(ProptestConfig::with_cases(2000), |(name in name(), given in given(), wanted in wanted())| {
        let mut sandbox = sandbox.lock().unwrap();
        let outcome = given.call(&mut sandbox, &name, wanted);
        let takes_and_gives = match name.as_str() {
            "empty" => Some((Given::Nothing, Wanted::Nothing)),
            "divide" => Some((Given::Two(0, 0), Wanted::Number)),
            "echo_text" => Some((Given::Text(String::new()), Wanted::Text)),
            "echo_bytes" => Some((Given::Bytes(Vec::new()), Wanted::Bytes)),
            "echo_numbers" => Some((Given::Numbers(Vec::new()), Wanted::Numbers)),
            _ => None,
        };
        let same = |one: &Given, other: &Given| std::mem::discriminant(one) == std::mem::discriminant(other);
        match (takes_and_gives, outcome) {
            (None, Err(CallError::UnknownFunction { function, .. })) => prop_assert_eq!(function, name),
            (Some((takes, _)), Err(CallError::WrongArguments { .. })) => prop_assert!(!same(&takes, &given)),
            (Some((takes, gives)), Err(CallError::WrongResult { .. })) => {
                prop_assert!(same(&takes, &given) && gives != wanted);
            }
            (Some((Given::Two(..), _)), Err(CallError::Function { message, .. })) => {
                prop_assert!(matches!(given, Given::Two(_, 0)), "{}", message);
            }
            (Some((takes, gives)), Ok(result)) => {
                prop_assert!(same(&takes, &given) && gives == wanted);
                prop_assert_eq!(result, given.expected());
            }
            (_, outcome) => prop_assert!(false, "`{}` of {:?}: {:?}", name, given, outcome),
        }
        prop_assert!(sandbox.poisoned().is_none());
    });
}

/// Raises the limit of open files as far as the process may: each sandbox takes some.
fn allow_many_files() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: writes the limit.
    assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) }, 0);
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: reads the limit.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
}

/// What a call is made with.
#[derive(Clone, Debug, PartialEq)]
enum Given {
    Nothing,
    One(u32),
    Two(u32, u32),
    Float(f64),
    Text(String),
    Bytes(Vec<u8>),
    Numbers(Vec<u32>),
    Mixed(String, Option<u64>),
}

/// The type that its result is requested as.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Wanted {
    Nothing,
    Number,
    Text,
    Bytes,
    Numbers,
}

impl Given {
    /// The call's result, as the argument that would give it in a function that returns its argument.
    fn call(&self, sandbox: &mut Sandbox, name: &str, wanted: Wanted) -> Result<Given, CallError> {
        match self.clone() {
            Given::Nothing => ask(sandbox, name, (), wanted),
            Given::One(number) => ask(sandbox, name, (number,), wanted),
            Given::Two(a, b) => ask(sandbox, name, (a, b), wanted),
            Given::Float(number) => ask(sandbox, name, (number,), wanted),
            Given::Text(text) => ask(sandbox, name, (text,), wanted),
            Given::Bytes(bytes) => ask(sandbox, name, (bytes,), wanted),
            Given::Numbers(numbers) => ask(sandbox, name, (numbers,), wanted),
            Given::Mixed(text, number) => ask(sandbox, name, (text, number), wanted),
        }
    }

    fn expected(&self) -> Given {
        match self {
            Given::Two(a, b) => Given::One(a / b),
            other => other.clone(),
        }
    }
}

fn ask(sandbox: &mut Sandbox, name: &str, arguments: impl Arguments, wanted: Wanted) -> Result<Given, CallError> {
    fn get<R: DeserializeOwned>(
        sandbox: &mut Sandbox,
        name: &str,
        arguments: impl Arguments,
        into: impl Fn(R) -> Given,
    ) -> Result<Given, CallError> {
        sandbox.call(name, arguments).map(into)
    }
    match wanted {
        Wanted::Nothing => get(sandbox, name, arguments, |()| Given::Nothing),
        Wanted::Number => get(sandbox, name, arguments, Given::One),
        Wanted::Text => get(sandbox, name, arguments, Given::Text),
        Wanted::Bytes => get(sandbox, name, arguments, Given::Bytes),
        Wanted::Numbers => get(sandbox, name, arguments, Given::Numbers),
    }
}

fn name() -> impl Strategy<Value = String> {
    let exported = prop::sample::select(vec!["empty", "divide", "echo_text", "echo_bytes", "echo_numbers"]);
    prop_oneof![9 => exported.prop_map(str::to_owned), 1 => any::<String>()]
}

fn given() -> impl Strategy<Value = Given> {
    prop_oneof![
        Just(Given::Nothing),
        any::<u32>().prop_map(Given::One),
        (any::<u32>(), 0..4_u32).prop_map(|(a, b)| Given::Two(a, b)),
        any::<f64>().prop_map(Given::Float),
        any::<String>().prop_map(Given::Text),
        prop::collection::vec(any::<u8>(), 0..5000).prop_map(Given::Bytes),
        prop::collection::vec(any::<u32>(), 0..2000).prop_map(Given::Numbers),
        any::<(String, Option<u64>)>().prop_map(|(text, number)| Given::Mixed(text, number)),
    ]
}

fn wanted() -> impl Strategy<Value = Wanted> {
    prop::sample::select(vec![Wanted::Nothing, Wanted::Number, Wanted::Text, Wanted::Bytes, Wanted::Numbers])
}

/// A sandbox of the well-behaved guest that notifies `notified`.
fn notifying(notified: impl FnMut() + Send + 'static) -> Sandbox {
    Sandbox::builder(&calls_image())
        .host_fn("add", |a: u32, b: u32| a + b)
        .host_fn("notify", notified)
        .try_host_fn("parse", |text: String| text.parse::<u32>())
        .try_host_fn("transform", Ok::<Vec<u8>, String>)
        .build()
        .unwrap()
}
