//! Functions of the host in tests without one.

use std::cell::Cell;
use std::io;
use std::panic;
use std::rc::Rc;

use ampoule_guest::testing::{provide, restore, try_provide};
use ampoule_guest::{HostError, HostErrorKind, generation, import, on_restore};
use serde::{Deserialize, Serialize};

#[import]
fn weekday() -> String;

#[import("store.lookup")]
fn lookup(key: &str) -> Result<u32, HostError>;

#[import]
fn read(path: &str, at: u64) -> io::Result<Vec<u8>>;

#[import]
fn mix(a: u8, b: &[u8], c: Option<&str>, d: bool, e: (i32, i32), f: &[String]) -> Result<String, String>;

#[import]
#[rustfmt::skip]
#[expect(clippy::too_many_arguments, reason = "that is what is tried")]
fn in_order(
    p1: u32, p2: u32, p3: u32, p4: u32, p5: u32, p6: u32, p7: u32, p8: u32,
    p9: u32, p10: u32, p11: u32, p12: u32, p13: u32, p14: u32, p15: u32, p16: u32,
    p17: u32, p18: u32, p19: u32, p20: u32, p21: u32, p22: u32, p23: u32, p24: u32,
    p25: u32, p26: u32, p27: u32, p28: u32, p29: u32, p30: u32, p31: u32, p32: u32,
) -> [u32; 32];

fn panic_of(function: impl FnOnce() + panic::UnwindSafe) -> String {
    let payload = panic::catch_unwind(function).expect_err("it panics");
    *payload.downcast::<String>().expect("a text")
}

#[test]
fn a_function_that_nobody_provides_says_how_to_provide_it() {
    let message = panic_of(|| drop(lookup("key")));
    assert_eq!(
        message,
        "host function `store.lookup` was called outside a sandbox; a test provides it with \
         `let _guard = ampoule_guest::testing::provide(\"store.lookup\", |..| ..);`"
    );
}

#[test]
fn a_function_is_provided_until_its_guard_is_dropped() {
    let outer = provide("weekday", || "Monday".to_string());
    {
        let _inner = provide("weekday", || "Tuesday");
        assert_eq!(weekday(), "Tuesday");
    }
    assert_eq!(weekday(), "Monday");
    drop(outer);
    assert!(panic_of(|| drop(weekday())).contains("outside a sandbox"));
}

#[test]
fn a_closure_may_keep_what_it_was_called_with() {
    let sum = Rc::new(Cell::new(0));
    let seen = Rc::clone(&sum);
    let _lookup = provide("store.lookup", move |key: String| {
        seen.set(seen.get() + key.len());
        7u32
    });
    assert_eq!((lookup("a"), lookup("bc")), (Ok(7), Ok(7)));
    assert_eq!(sum.get(), 3);
}

#[test]
fn a_closure_gets_each_parameter_in_its_place() {
    let _mix = provide("mix", |a: u8, b: Vec<u8>, c: Option<String>, d: bool, e: (i32, i32), f: Vec<String>| {
        format!("{a} {b:?} {c:?} {d} {e:?} {f:?}")
    });
    let mixed = mix(1, &[2], Some("three"), true, (4, 5), &["six".to_string()]);
    assert_eq!(mixed.as_deref(), Ok(r#"1 [2] Some("three") true (4, 5) ["six"]"#));
}

#[test]
fn a_failure_reaches_the_caller_as_its_error() {
    let _read = try_provide("read", |path: String, _at: u64| -> Result<Vec<u8>, String> { Err(format!("no {path}")) });
    assert_eq!(read("here", 0).unwrap_err().to_string(), "host function `read`: no here");

    let _weekday = try_provide("weekday", || -> Result<String, &str> { Err("closed") });
    assert_eq!(panic_of(|| drop(weekday())), "host function `weekday`: closed");
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum ShopError {
    SoldOut { left: u32 },
    Closed,
}

type ShopResult<T> = Result<T, ShopError>;

#[import("shop.price")]
fn price(item: &str) -> ShopResult<u64>;

#[import("shop.hours")]
fn hours() -> Result<u64, ShopError>;

#[test]
fn an_error_that_serde_knows_reaches_the_caller_as_it_is() {
    let _price = provide("shop.price", |item: String| match item.as_str() {
        "lamp" => Ok(30u64),
        _ => Err(ShopError::SoldOut { left: 2 }),
    });
    let _hours = provide("shop.hours", || Err::<u64, _>(ShopError::Closed));
    assert_eq!((price("lamp"), price("chair")), (Ok(30), Err(ShopError::SoldOut { left: 2 })));
    assert_eq!(hours(), Err(ShopError::Closed));

    let _lookup = provide("store.lookup", |key: String| Err::<u32, _>(format!("no {key}")));
    assert_eq!(lookup("key").unwrap_err().message(), "no key");
}

#[test]
fn an_error_that_is_no_value_of_the_import_panics_with_its_text() {
    let _hours = try_provide("shop.hours", || Err::<u64, _>("the shop is closed"));
    let text = panic_of(|| drop(hours()));
    assert!(text.starts_with("host function `shop.hours`: the shop is closed (only a text came; "), "{text}");
}

#[test]
fn a_closure_can_borrow_its_arguments() {
    let mut keys = 0;
    let borrowing = ampoule_guest::borrowing!(move |key: &str| {
        keys += 1;
        key.len() as u32 + keys
    });
    let _lookup = provide("store.lookup", borrowing);
    assert_eq!((lookup("key").unwrap(), lookup("keys").unwrap()), (4, 6));
    let refusing = ampoule_guest::borrowing!(|key: &str| if key.is_empty() { Err("no key") } else { Ok(1u32) });
    let _lookup = try_provide("store.lookup", refusing);
    assert_eq!((lookup("key").unwrap(), lookup("").unwrap_err().message()), (1, "no key"));
}

#[test]
fn types_that_do_not_match_are_errors() {
    let _lookup = provide("store.lookup", |_key: u64| 7u32);
    assert_eq!(lookup("key").unwrap_err().kind(), HostErrorKind::BadArguments);

    let _lookup = provide("store.lookup", |_key: String| 7u8);
    assert_eq!(lookup("key").unwrap_err().kind(), HostErrorKind::BadResult);
}

#[test]
fn a_restore_changes_the_generation_and_runs_the_hooks_each_time() {
    let runs = Rc::new(Cell::new(0));
    let counted = Rc::clone(&runs);
    on_restore(move || counted.set(counted.get() + 1));
    let first = generation();
    assert_ne!(first, 0, "0 is for hosts that have no generations");
    assert_eq!((generation(), runs.get()), (first, 0));

    restore();
    let second = generation();
    assert_eq!(runs.get(), 1);
    restore();
    assert_eq!(runs.get(), 2);
    assert!(first != second && second != generation() && first != generation());
}

#[test]
fn a_restore_is_noticed_by_its_own_thread_only() {
    on_restore(|| panic!("a hook of this thread"));
    let other = std::thread::spawn(|| {
        let before = generation();
        restore();
        generation() != before
    });
    let before = generation();
    assert!(other.join().expect("no hook of this thread runs"));
    assert_eq!(generation(), before);
}

#[test]
fn functions_are_provided_to_their_own_thread_only() {
    let _weekday = provide("weekday", || "Monday");
    let other = std::thread::spawn(|| panic_of(|| drop(weekday())));
    assert!(other.join().expect("a message").contains("outside a sandbox"));
}

#[test]
#[rustfmt::skip]
fn a_function_with_32_parameters_can_be_provided() {
    let _in_order = provide("in_order", |
        p1: u32, p2: u32, p3: u32, p4: u32, p5: u32, p6: u32, p7: u32, p8: u32,
        p9: u32, p10: u32, p11: u32, p12: u32, p13: u32, p14: u32, p15: u32, p16: u32,
        p17: u32, p18: u32, p19: u32, p20: u32, p21: u32, p22: u32, p23: u32, p24: u32,
        p25: u32, p26: u32, p27: u32, p28: u32, p29: u32, p30: u32, p31: u32, p32: u32,
    | {
        [p1, p2, p3, p4, p5, p6, p7, p8, p9, p10, p11, p12, p13, p14, p15, p16,
         p17, p18, p19, p20, p21, p22, p23, p24, p25, p26, p27, p28, p29, p30, p31, p32,]
    });
    let order: [u32; 32] = std::array::from_fn(|index| index as u32 + 1);
    assert_eq!(in_order(
        1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16,
        17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32,
    ), order);
}
