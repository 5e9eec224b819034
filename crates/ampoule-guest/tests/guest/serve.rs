//! What a guest answers, and what it asks of its host.

use std::cell::Cell;
use std::panic;

use crate::fake_host::{AREA_LEN, FakeHost, function_number, section};
use ampoule_abi::codec;
use ampoule_abi::layout::{FailureStatus, RECORD_ALIGN, RecordKind, ReturnStatus};
use ampoule_guest::{HostError, HostErrorKind, export, import};
use serde::{Deserialize, Serialize, Serializer};

#[import]
fn weekday() -> String;

#[import(name = "store.lookup")]
fn lookup(key: &str, fallback: Option<u32>) -> Result<u32, HostError>;

#[import]
fn send(payload: &[u8]) -> Result<(), HostError>;

#[export]
fn greet(name: &str) -> String {
    format!("Hello, {name}! Today is {}.", weekday())
}

#[export]
fn find(keys: &[String]) -> Result<Vec<u32>, String> {
    keys.iter().map(|key| Ok(lookup(key, Some(7))?)).collect()
}

#[export]
fn lookup_kind(key: String) -> String {
    match lookup(&key, None) {
        Ok(_) => "found".to_owned(),
        Err(error) => format!("{:?}", error.kind()),
    }
}

#[export]
fn send_zeros(len: usize) -> Result<(), String> {
    match send(&vec![0; len]) {
        Err(error) if matches!(error.kind(), HostErrorKind::TooLarge { .. }) => Err(error.to_string()),
        other => Ok(other?),
    }
}

#[derive(Deserialize)]
struct Document<'a> {
    title: &'a str,
    body: &'a [u8],
}

#[export]
fn addresses(bytes: &[u8], document: Document<'_>, lent: &Document<'_>, maybe: Option<&str>) -> Vec<u64> {
    let maybe = maybe.map_or(0, |text| text.as_ptr() as u64);
    let pointers = [document.title.as_ptr(), document.body.as_ptr(), lent.title.as_ptr(), lent.body.as_ptr()];
    [bytes.as_ptr() as u64, maybe].into_iter().chain(pointers.map(|pointer| pointer as u64)).collect()
}

#[export]
fn longest<'a>(left: &'a str, right: &'a str) -> &'a str {
    if left.len() < right.len() { right } else { left }
}

#[export]
fn zeros(len: usize) -> Vec<u8> {
    vec![0; len]
}

#[export]
fn fail(text: String) -> Result<(), String> {
    Err(text)
}

#[derive(Debug, Serialize, Deserialize)]
struct Shortage {
    left: u32,
    reason: String,
}

impl std::fmt::Display for Shortage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} left", self.left)
    }
}

#[import("store.take")]
fn take(number: u32) -> Result<(), Shortage>;

#[export]
fn fail_with_value(left: u32, reason: String) -> Result<(), Shortage> {
    Err(Shortage { left, reason })
}

#[export]
fn take_some() -> Result<(), Shortage> {
    take(5)
}

#[export]
fn panic_with(message: String) {
    panic!("{message}");
}

#[export]
fn panic_with_number() {
    panic::panic_any(7);
}

#[export]
fn resume() {
    panic::resume_unwind(Box::new("went on"));
}

#[export]
fn catch() -> bool {
    panic::catch_unwind(|| panic!("caught")).is_err()
}

/// Panics when it is dropped, as a payload of a panic may.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic::panic_any(Bomb);
    }
}

#[export]
fn panic_with_bomb() {
    panic::panic_any(Bomb);
}

/// Asks the host while it is encoded.
struct Curious;

impl Serialize for Curious {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        weekday().serialize(serializer)
    }
}

#[export]
fn curious() -> Curious {
    Curious
}

/// Asks the host while it is encoded, and continues when that panics.
struct Stubborn;

impl Serialize for Stubborn {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let refusals = [(); 2].map(|()| panic::catch_unwind(weekday).is_err());
        refusals.serialize(serializer)
    }
}

#[export]
fn stubborn() -> (String, Stubborn) {
    ("before".to_owned(), Stubborn)
}

/// Asks the host when it is dropped.
#[derive(Serialize)]
struct Farewell(u32);

impl Drop for Farewell {
    fn drop(&mut self) {
        weekday();
    }
}

#[export]
fn farewell() -> Farewell {
    Farewell(1)
}

thread_local! {
    static PREPARED: Cell<u32> = const { Cell::new(0) };
}

#[export]
fn prepared() -> u32 {
    PREPARED.get()
}

#[test]
fn init_runs_before_the_first_call() {
    let mut host = FakeHost::start_with(|| PREPARED.set(42));
    assert_eq!(host.call("prepared", |_| ()).result::<u32>(), 42);
}

#[test]
fn a_function_calls_the_host_and_returns() {
    let mut host = FakeHost::start();
    for (round, day) in [(1, "Monday"), (2, "Tuesday")] {
        host.begin_call("greet", |arguments| arguments.value("World").unwrap());
        assert!(host.host_call("weekday", round).is_empty());
        host.reply(&day);
        assert_eq!(host.answer().result::<String>(), format!("Hello, World! Today is {day}."));
    }
}

#[test]
fn a_host_function_gets_its_arguments() {
    let mut host = FakeHost::start();
    host.begin_call("find", |arguments| arguments.value(&vec!["a", "b"]).unwrap());
    for (sequence, key) in [(1, "a"), (2, "b")] {
        let arguments = host.host_call("store.lookup", sequence);
        assert_eq!(codec::decode::<(&str, Option<u32>)>(&arguments[..]), Ok((key, Some(7))));
        host.reply(&(sequence as u32));
    }
    assert_eq!(host.answer().result::<Vec<u32>>(), [1, 2]);
}

#[test]
fn strings_and_bytes_are_borrowed_from_the_mailbox() {
    let mut host = FakeHost::start();
    let answer = host.call("addresses", |arguments| {
        arguments.value(&vec![1u8, 2]).unwrap();
        arguments.value(&("title", vec![3u8])).unwrap();
        arguments.value(&("title", vec![3u8])).unwrap();
        arguments.value(&Some("text")).unwrap();
    });
    let addresses: Vec<u64> = answer.result();
    assert_eq!(addresses.len(), 6);
    for address in addresses {
        assert!(host.inbound_addresses().contains(&address), "{address:#x}");
    }
}

#[test]
fn a_result_may_be_borrowed_from_the_arguments() {
    let mut host = FakeHost::start();
    let answer = host.call("longest", |arguments| {
        arguments.value("short").unwrap();
        arguments.value("long enough").unwrap();
    });
    assert_eq!(answer.result::<String>(), "long enough");
}

#[test]
fn an_error_travels_as_its_text() {
    let mut host = FakeHost::start();
    let answer = host.call("fail", |arguments| arguments.value("no such file").unwrap());
    assert_eq!(answer.text(ReturnStatus::Failed), "no such file");
}

#[test]
fn a_panic_is_reported_and_the_guest_goes_on() {
    let mut host = FakeHost::start();
    let panic = host.call("panic_with", |arguments| arguments.value("out of ideas").unwrap()).panic();
    assert_eq!(panic.message, "out of ideas");
    assert!(panic.file.ends_with("guest/serve.rs"), "{}", panic.file);
    let line = include_str!("serve.rs").lines().position(|line| line.contains(r#"panic!("{message}")"#));
    assert_eq!(Some(panic.line as usize - 1), line);
    assert_eq!(panic.column, 5);

    assert_eq!(host.call("prepared", |_| ()).result::<u32>(), 0);
}

#[test]
fn a_panic_without_a_text_has_the_name_of_its_type() {
    let mut host = FakeHost::start();
    assert_eq!(host.call("panic_with_number", |_| ()).panic().message, "Box<dyn Any>");
    assert_eq!(host.call("panic_with_bomb", |_| ()).panic().message, "Box<dyn Any>");
    assert_eq!(host.call("prepared", |_| ()).result::<u32>(), 0);
}

#[test]
fn a_panic_that_the_guest_caught_is_not_reported() {
    let mut host = FakeHost::start();
    assert!(host.call("catch", |_| ()).result::<bool>());
    let resumed = host.call("resume", |_| ()).panic();
    assert_eq!((resumed.message.as_str(), resumed.file.as_str(), resumed.line), ("went on", "", 0));
}

#[test]
fn a_message_that_is_too_long_is_cut_at_a_character() {
    let mut host = FakeHost::start();
    let long = "é".repeat(AREA_LEN / 2 - 10);
    let answer = host.call("fail", |arguments| arguments.value(&long).unwrap());
    assert_eq!(answer.text(ReturnStatus::Failed), long);

    let panic = host.call("panic_with", |arguments| arguments.value(&long).unwrap());
    assert!(panic.len() <= AREA_LEN);
    let panic = panic.panic();
    assert!(panic.file.ends_with("guest/serve.rs"));
    assert!(panic.message.len() > AREA_LEN - 200 && long.starts_with(&panic.message));
}

#[test]
fn the_value_of_an_error_stands_behind_its_text_if_both_fit() {
    let mut host = FakeHost::start();
    let mut fail = |reason: &str| {
        host.call("fail_with_value", |arguments| {
            arguments.value(&7u32).and_then(|()| arguments.value(reason)).unwrap();
        })
    };
    let answer = fail("sold");
    assert_eq!(answer.text(ReturnStatus::Failed), "7 left");
    assert_eq!((answer.len(), answer.needed), (4 + 6, 4 + 4 + 4));
    assert_eq!(fail(&"x".repeat(AREA_LEN - 8 - 10)).needed, AREA_LEN as u64 - 10);
    assert_eq!(fail(&"x".repeat(AREA_LEN - 8 - 9)).needed, 0);
}

#[test]
fn an_error_of_the_host_is_a_value_where_the_host_gives_one() {
    let mut host = FakeHost::start();
    host.begin_call("take_some", |_| ());
    host.fail_with("sold out", &Shortage { left: 3, reason: "sold".to_owned() });
    assert_eq!(host.answer().text(ReturnStatus::Failed), "3 left");

    host.begin_call("take_some", |_| ());
    host.fail(FailureStatus::Failed, "sold out", 0);
    let message = host.answer().panic().message;
    assert!(message.starts_with("host function `store.take`: sold out (only a text came; "), "{message}");
    assert!(message.contains("`guest::serve::Shortage`") && message.contains("`host_fn`"), "{message}");
}

#[test]
fn a_result_that_does_not_fit_tells_its_size() {
    let mut host = FakeHost::start();
    let fitting = host.call("zeros", |arguments| arguments.value(&(AREA_LEN - 4)).unwrap());
    assert_eq!(fitting.len(), AREA_LEN);

    let answer = host.call("zeros", |arguments| arguments.value(&(1usize << 20)).unwrap());
    assert_eq!((answer.status, answer.needed, answer.len()), (ReturnStatus::TooLarge, (1 << 20) + 4, 0));
}

#[test]
fn a_number_that_is_no_exports_is_an_unknown_function() {
    let mut host = FakeHost::start();
    let export = function_number(RecordKind::Export, "greet");
    let import = function_number(RecordKind::Import, "weekday");
    let end = section().len() as u32;
    for number in [import, export + RECORD_ALIGN as u32, export + 1, end, end + 8, u32::MAX] {
        host.begin_call_of(number, &[]);
        assert_eq!(host.answer().status, ReturnStatus::UnknownFunction, "{number}");
    }
}

#[test]
fn arguments_that_cannot_be_decoded_are_named() {
    let mut host = FakeHost::start();
    let longest = function_number(RecordKind::Export, "longest");
    for (arguments, beginning) in [
        (&b"\x01\0\0\0a\x01\0\0\0\xff"[..], "argument `right`: the string is not UTF-8"),
        (b"\xff\0\0\0a", "argument `left`: "),
        (b"", "argument `left`: "),
        (b"\x01\0\0\0a\0\0\0\0\x07", "after the last argument: 1 bytes are left over"),
    ] {
        host.begin_call_of(longest, arguments);
        let text = host.answer().text(ReturnStatus::BadArguments);
        assert!(text.starts_with(beginning), "{text}");
    }
}

#[test]
fn a_failed_host_call_is_an_error_that_the_guest_can_handle() {
    let mut host = FakeHost::start();
    for (status, kind) in [
        (FailureStatus::Failed, HostErrorKind::Failed),
        (FailureStatus::BadArguments, HostErrorKind::BadArguments),
        (FailureStatus::TooLarge, HostErrorKind::TooLarge { needed: 5000, capacity: AREA_LEN as u64 }),
    ] {
        host.begin_call("lookup_kind", |arguments| arguments.value("key").unwrap());
        host.fail(status, "reason", 5000);
        assert_eq!(host.answer().result::<String>(), format!("{kind:?}"));
    }
    host.begin_call("lookup_kind", |arguments| arguments.value("key").unwrap());
    host.reply_bytes(&[1]);
    assert_eq!(host.answer().result::<String>(), "BadResult");

    host.begin_call("find", |arguments| arguments.value(&vec!["key"]).unwrap());
    host.fail(FailureStatus::Failed, "no such key", 0);
    assert_eq!(host.answer().text(ReturnStatus::Failed), "host function `store.lookup`: no such key");
}

#[test]
fn a_failed_host_call_panics_where_the_guest_does_not_handle_it() {
    let mut host = FakeHost::start();
    host.begin_call("greet", |arguments| arguments.value("World").unwrap());
    host.fail(FailureStatus::Failed, "the calendar is closed", 0);
    let panic = host.answer().panic();
    assert_eq!(panic.message, "host function `weekday`: the calendar is closed");
    assert!(panic.file.ends_with("guest/serve.rs"), "{}", panic.file);
}

#[test]
fn arguments_too_large_for_the_mailbox_are_not_sent() {
    let mut host = FakeHost::start();
    let answer = host.call("send_zeros", |arguments| arguments.value(&AREA_LEN).unwrap());
    assert_eq!(
        answer.text(ReturnStatus::Failed),
        "host function `send`: arguments of 4100 bytes do not fit the mailbox of 4096 bytes"
    );
}

#[test]
fn a_value_must_not_call_the_host_on_its_way() {
    let mut host = FakeHost::start();
    for function in ["curious", "farewell"] {
        assert_eq!(
            host.call(function, |_| ()).panic().message,
            "host function `weekday` was called while a value was on its way between guest and host"
        );
    }
}

#[test]
fn a_panic_that_a_value_caught_on_its_way_does_it_no_harm() {
    let mut host = FakeHost::start();
    let result: (String, [bool; 2]) = host.call("stubborn", |_| ()).result();
    assert_eq!(result, ("before".to_owned(), [true, true]));
}

#[test]
fn a_message_that_is_no_call_ends_the_loop() {
    let host = FakeHost::start();
    assert_eq!(host.stop(), "the host sent no call to its guest, but a message of kind 9 with 0 bytes");
}
