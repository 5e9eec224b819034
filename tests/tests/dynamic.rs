//! Calls without Rust types, in both directions.

use std::sync::{Arc, Mutex};

use ampoule::dynamic::{DynamicFn, Failure, Value};
use ampoule::{Builder, CallError, DecodeError, Image, Limits, Output, Pool, Sandbox, Spawn, Termination};
use ampoule_tests::{calls_sandbox, hostile_sandbox, shop_image};
use serde_json::json;

#[test]
fn a_function_says_what_it_takes_and_gives() {
    let sandbox = shop_builder().build().unwrap();
    let types = |name: &str| {
        let function = sandbox.dynamic_fn(name).unwrap();
        let parameters: Vec<String> = function.parameters().map(|parameter| parameter.to_string()).collect();
        (parameters, function.result().to_string(), function.error().map(|error| error.to_string()))
    };
    assert_eq!(types("total"), (vec!["Vec<Order>".to_owned()], "u64".to_owned(), None));
    assert_eq!(types("price"), (vec!["String".to_owned()], "u64".to_owned(), Some("ShopError".to_owned())));
    // This one can only be written.
    assert_eq!(types("receipt").1, "_");
}

#[test]
fn a_call_can_be_made_again_and_in_any_sandbox_of_the_image() {
    let mut sandbox = shop_builder().build().unwrap();
    let total = sandbox.dynamic_fn("total").unwrap();
    let mut call = total.prepare();
    call.argument(json!([{"price": 3, "quantity": 2}])).unwrap();
    let mut other = Sandbox::builder(sandbox.image());
    other = shop_functions(other);
    let mut other = other.build().unwrap();
    for sandbox in [&mut sandbox, &mut other] {
        assert_eq!(json(&call.make(sandbox)), "6");
        assert_eq!(json(&call.make(sandbox)), "6");
    }
    let again = Image::from_bytes(shop_image().bytes().to_vec()).unwrap();
    let mut foreign = shop_functions(Sandbox::builder(&again)).build().unwrap();
    assert!(matches!(call.make(&mut foreign), Err(CallError::ForeignFunction { .. })));
}

#[test]
fn a_call_needs_all_of_its_arguments_and_keeps_its_limits() {
    let mut sandbox = calls_sandbox();
    let divide = sandbox.dynamic_fn("divide").unwrap();
    let mut call = divide.prepare();
    call.argument(json!(6)).unwrap();
    let error = call.make(&mut sandbox).unwrap_err().to_string();
    assert_eq!(error, "guest function `divide` expects (u32, u32) -> Result<u32, String>, called with (u32)");
    // What was refused leaves the call as it was.
    call.argument(json!("x")).unwrap_err();
    call.argument(json!(2)).unwrap();
    assert_eq!(json(&call.make(&mut sandbox)), "3");
    let error = call.argument(json!(1)).unwrap_err().to_string();
    assert_eq!(error, "argument 3 is one too many: `divide` takes 2");

    let spin = sandbox.dynamic_fn("spin").unwrap().prepare();
    let limited = spin.limits(Limits::new().cpu_time(std::time::Duration::from_millis(20)));
    let error = limited.make(&mut sandbox).unwrap_err();
    assert!(matches!(&error, CallError::Terminated { cause: Termination::LimitExceeded(_), .. }), "{error}");
    assert!(matches!(call.make(&mut sandbox), Err(CallError::Poisoned { .. })));
}

#[test]
fn what_does_not_fit_the_mailbox_is_refused_before_and_after() {
    let mut sandbox = shop_builder().mailbox_size(8192).build().unwrap();
    let mut call = sandbox.dynamic_fn("price").unwrap().prepare();
    call.argument(json!("a".repeat(9000))).unwrap();
    let error = call.make(&mut sandbox).unwrap_err();
    assert!(matches!(error, CallError::PayloadTooLarge { needed: 9004, mailbox_size: 8192, .. }), "{error}");
    let mut call = sandbox.dynamic_fn("receipt").unwrap().prepare();
    for argument in [json!(1), json!(2), json!(vec![""; 1500])] {
        call.argument(argument).unwrap();
    }
    // The notes fit, and what describes them too.
    assert!(call.make(&mut sandbox).is_ok());
}

#[test]
fn an_error_has_its_text_and_its_value() {
    let mut sandbox = shop_builder().build().unwrap();
    let fail = |sandbox: &mut Sandbox, name: &str, argument: serde_json::Value| -> Failure {
        let mut call = sandbox.dynamic_fn(name).unwrap().prepare();
        call.argument(argument).unwrap();
        call.make(sandbox).unwrap().unwrap_err()
    };
    let failure = fail(&mut sandbox, "price", json!("chair"));
    assert_eq!(failure.message(), "only 2 are left");
    assert_eq!(serde_json::to_string(failure.value().unwrap()).unwrap(), r#"{"SoldOut":{"left":2}}"#);
    let failure = fail(&mut sandbox, "price", json!("stool"));
    assert_eq!(serde_json::to_string(failure.value().unwrap()).unwrap(), r#"{"Unknown":"stool"}"#);
    // The alias hides the error's type from the signature, and not from the guest's description.
    let failure = fail(&mut sandbox, "price_by_alias", json!(""));
    assert_eq!(serde_json::to_string(failure.value().unwrap()).unwrap(), r#""Closed""#);
    let failure = fail(&mut sandbox, "fail_with_text", json!("text\u{1b}"));
    assert_eq!((failure.message(), failure.value().is_none()), ("text\u{1b}", true));
    assert_eq!(failure.to_string(), "text\\u{1b}");
}

#[test]
fn a_result_that_lies_is_an_error_and_harms_nobody() {
    let mut sandbox = hostile_sandbox();
    let answer = sandbox.dynamic_fn("answer_with").unwrap();
    for (payload, claimed) in [
        (&[255, 255, 255, 255][..], 4),
        (&[1, 0, 0, 0, 9, 0, 0, 0, b'a'], 9),
        (&[1, 0, 0, 0, 1, 0, 0, 0, 0xff], 9),
        (&[0, 0, 0, 0, 0], 5),
        (&[], 0),
    ] {
        let error = make(&mut sandbox, &answer, payload, claimed).unwrap_err();
        let CallError::Decode { reason, .. } = &error else { panic!("{error}") };
        assert!(!matches!(reason, DecodeError::Custom(_) | DecodeError::TooDeep { .. }), "{reason}");
        sandbox.reset().unwrap();
    }
    let answered = make(&mut sandbox, &answer, &[1, 0, 0, 0, 1, 0, 0, 0, b'a'], 9);
    assert_eq!(json(&answered), r#"["a"]"#);
}

#[test]
fn host_functions_see_their_arguments_and_answer_with_what_the_guest_expects() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let [discounts, records] = [Arc::clone(&seen), Arc::clone(&seen)];
    let builder = Sandbox::builder(&shop_image())
        .dynamic_host_fn("discount", move |call| {
            let arguments = call.arguments().map(|arguments| serde_json::to_string(arguments).unwrap());
            discounts.lock().unwrap().push((call.name().to_owned(), arguments));
            // An argument of the answer's own type is an answer.
            Ok(call.arguments().unwrap()[0].clone())
        })
        .dynamic_host_fn("record", move |call| {
            let arguments = call.arguments().map(|arguments| serde_json::to_string(arguments).unwrap());
            records.lock().unwrap().push((call.name().to_owned(), arguments));
            assert_eq!(call.result().to_string(), "u64");
            call.answer(json!(7)).map_err(|error| error.to_string())
        })
        .dynamic_host_fn("stock", |call| Err(call.answer(json!("many")).unwrap_err().to_string()))
        .dynamic_host_fn("stock.by_alias", |_| Err("closed".to_owned()))
        // Of another type than the guest expects.
        .dynamic_host_fn("stock.or_text", |call| Ok(call.arguments().unwrap()[0].clone()));
    let mut sandbox = quiet(builder).build().unwrap();
    assert_eq!(sandbox.call::<u64>("discounted", (5u64, 6u64)).unwrap(), 30);
    assert_eq!(sandbox.call::<u64>("sell", ("lamp", 1u64, 2u64)).unwrap(), 7);
    let seen = seen.lock().unwrap();
    assert_eq!(seen[0], ("discount".to_owned(), Some(r#"[{"quantity":5,"price":6}]"#.to_owned())));
    // The guest only writes this one, and does not say what it is made of.
    assert_eq!(seen[1], ("record".to_owned(), None));
    let reason = sandbox.call::<String>("stock_or_reason", ("lamp",)).unwrap();
    assert!(reason.contains("it answered with a String"), "{reason}");
}

#[test]
fn sandboxes_that_are_spawned_and_those_of_pools_have_dynamic_host_functions_of_their_own() {
    let snapshot = shop_builder().build().unwrap().snapshot().unwrap();
    let with_functions = |mut spawn: Spawn| {
        for name in ["discount", "stock", "stock.by_alias", "stock.or_text"] {
            spawn = spawn.dynamic_host_fn(name, |_| Err("it is not provided".to_owned()));
        }
        spawn.dynamic_host_fn("record", |call| call.answer(json!(9)).map_err(|error| error.to_string()))
    };
    let mut spawned = with_functions(snapshot.builder()).build().unwrap();
    assert_eq!(spawned.call::<u64>("sell", ("lamp", 1u64, 2u64)).unwrap(), 9);
    let pool = Pool::builder(&snapshot).size(1).spawn_with(with_functions).build().unwrap();
    assert_eq!(pool.take().unwrap().call::<u64>("sell", ("lamp", 1u64, 2u64)).unwrap(), 9);
}

/// Lets the guest answer its first call with these bytes.
fn make(
    sandbox: &mut Sandbox,
    answer: &DynamicFn,
    payload: &[u8],
    claimed: u32,
) -> Result<Result<Value, Failure>, CallError> {
    let mut call = answer.prepare();
    for argument in [json!(1), json!(0), json!(payload), json!(claimed)] {
        call.argument(argument).unwrap();
    }
    call.make(sandbox)
}

fn json(answered: &Result<Result<Value, Failure>, CallError>) -> String {
    serde_json::to_string(answered.as_ref().unwrap().as_ref().unwrap()).unwrap()
}

fn shop_builder() -> Builder {
    shop_functions(Sandbox::builder(&shop_image()))
}

fn shop_functions(mut builder: Builder) -> Builder {
    for name in ["discount", "record", "stock", "stock.by_alias", "stock.or_text"] {
        builder = builder.dynamic_host_fn(name, |_| Err("it is not provided".to_owned()));
    }
    quiet(builder)
}

fn quiet(builder: Builder) -> Builder {
    builder.stdout(Output::discard()).stderr(Output::discard())
}
