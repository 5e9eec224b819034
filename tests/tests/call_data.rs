//! Data that the application lends to the host functions of one call.

use std::any::type_name;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use ampoule::{BuildError, Builder, Call, CallError, Limits, Pool, Sandbox, Spawn, Termination};
use ampoule_tests::{calls_image, calls_sandbox};

/// What a request brings.
#[derive(Debug, Default, PartialEq)]
struct Request {
    tenant: String,
    parsed: Vec<String>,
    sum: u32,
}

/// Adds as often as the request allows.
fn add(request: &mut Request, a: u32, b: u32) -> u32 {
    request.sum += b;
    a + b
}

fn parse(request: &mut Request, text: String) -> Result<u32, String> {
    request.parsed.push(text.clone());
    match request.tenant.as_str() {
        "north" => Ok(text.len() as u32),
        tenant => Err(format!("{tenant} may not parse")),
    }
}

fn builder() -> Builder {
    Sandbox::builder(&calls_image())
        .host_fn_with("add", add)
        .try_host_fn_with("parse", parse)
        .host_fn("notify", || ())
        .try_host_fn("transform", Ok::<Vec<u8>, String>)
}

fn spawn(spawn: Spawn) -> Spawn {
    spawn
        .host_fn_with("add", add)
        .try_host_fn_with("parse", parse)
        .host_fn("notify", || ())
        .try_host_fn("transform", Ok::<Vec<u8>, String>)
}

fn of(tenant: &str) -> Request {
    Request { tenant: tenant.to_owned(), ..Request::default() }
}

#[test]
fn each_call_has_data_of_its_own_that_host_functions_read_and_change() {
    let mut sandbox = builder().build().unwrap();
    let (mut north, mut south) = (of("north"), of("south"));
    for round in 1..=3 {
        let counted: u32 = sandbox.call_with(Call::new("count_on_host", (10u32,)).data(&mut north)).unwrap();
        assert_eq!((counted, north.sum, south.sum), (10, 10 * round, 0));
    }
    let answer: String = sandbox.call_with(Call::new("parse_or_reason", ("four",)).data(&mut north)).unwrap();
    assert_eq!(answer, "number 4");
    let answer: String = sandbox.call_with(Call::new("parse_or_reason", ("four",)).data(&mut south)).unwrap();
    assert_eq!(answer, "error: host function `parse`: south may not parse");
    assert_eq!((north.parsed, south.parsed), (vec!["four".to_owned()], vec!["four".to_owned()]));
}

#[test]
fn a_resolved_function_takes_data_too() {
    let mut sandbox = builder().build().unwrap();
    let count = sandbox.typed_fn::<(u32,), u32>("count_on_host").unwrap();
    let mut request = of("north");
    assert_eq!(count.call_with_data(&mut sandbox, (7,), Limits::new(), &mut request).unwrap(), 7);
    let cut = count.call_with_data(&mut sandbox, (100,), Limits::new().host_calls(3), &mut request);
    assert!(matches!(cut, Err(CallError::Terminated { cause: Termination::LimitExceeded(_), .. })), "{cut:?}");
    assert_eq!(request.sum, 7 + 3);
    sandbox.reset().unwrap();
    let error = count.call(&mut sandbox, (7,)).unwrap_err();
    assert!(matches!(error, CallError::WrongData { given: None, .. }), "{error}");
}

#[test]
fn a_call_without_the_right_data_is_refused_before_the_guest_runs() {
    let mut sandbox = builder().build().unwrap();
    let exits = sandbox.stats().unwrap().exits;
    let error = sandbox.call::<u32>("count_on_host", (1u32,)).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("without data") && text.contains("Call::data"), "{text}");
    assert!(text.contains("`add`") && text.contains(type_name::<Request>()), "{text}");

    let mut other = 5u64;
    let error = sandbox.call_with::<u32, _>(Call::new("count_on_host", (1u32,)).data(&mut other)).unwrap_err();
    assert!(matches!(&error, CallError::WrongData { given: Some("u64"), .. }), "{error}");
    assert!(error.to_string().contains("with data of the type `u64`"), "{error}");
    assert!(!error.poisons());
    assert_eq!(sandbox.stats().unwrap().exits, exits);

    // Whether the function would have called the host is not known beforehand.
    assert!(matches!(sandbox.call::<()>("empty", ()), Err(CallError::WrongData { .. })));
    sandbox.call_with::<(), _>(Call::new("empty", ()).data(&mut of("north"))).unwrap();
}

#[test]
fn data_that_no_host_function_works_with_does_no_harm() {
    let mut sandbox = calls_sandbox();
    assert_eq!(sandbox.call_with::<u32, _>(Call::new("count_on_host", (3u32,)).data(&mut ())).unwrap(), 3);
}

#[test]
fn host_functions_of_a_sandbox_work_with_one_type() {
    let error = Sandbox::builder(&calls_image())
        .host_fn_with("add", |_: &mut Request, a: u32, b: u32| a + b)
        .host_fn_with("notify", |_: &mut u64| ())
        .try_host_fn("parse", |text: String| text.parse::<u32>())
        .try_host_fn("transform", Ok::<Vec<u8>, String>)
        .build()
        .unwrap_err();
    let text = error.to_string();
    let BuildError::DifferentData { mut functions, .. } = error else { panic!("{text}") };
    functions.sort();
    assert_eq!(functions, ["add", "notify"]);
    assert!(text.contains("`u64`") && text.contains(type_name::<Request>()), "{text}");

    // One that the guest does not import has no say.
    let mut sandbox = ampoule_tests::calls_builder().host_fn_with("unused", |_: &mut u64| ()).build().unwrap();
    sandbox.call::<()>("empty", ()).unwrap();
}

#[test]
fn data_need_not_be_able_to_change_threads() {
    let mut sandbox = Sandbox::builder(&calls_image())
        .host_fn_with("add", |count: &mut Rc<Cell<u32>>, a: u32, b: u32| {
            count.set(count.get() + 1);
            a + b
        })
        .host_fn("notify", || ())
        .try_host_fn("parse", |text: String| text.parse::<u32>())
        .try_host_fn("transform", Ok::<Vec<u8>, String>)
        .build()
        .unwrap();
    let count = Rc::new(Cell::new(0u32));
    let mut lent = Rc::clone(&count);
    sandbox.call_with::<u32, _>(Call::new("count_on_host", (4u32,)).data(&mut lent)).unwrap();
    assert_eq!(count.get(), 4);
    drop(lent);
    assert_eq!(Rc::strong_count(&count), 1, "the sandbox keeps nothing of it");
}

#[test]
fn data_comes_back_from_a_call_in_which_a_host_function_panics() {
    let mut sandbox = Sandbox::builder(&calls_image())
        .host_fn_with("add", |request: &mut Request, a: u32, b: u32| {
            request.sum += 1;
            assert!(request.sum < 3, "the budget is used up");
            a + b
        })
        .host_fn("notify", || ())
        .try_host_fn("parse", |text: String| text.parse::<u32>())
        .try_host_fn("transform", Ok::<Vec<u8>, String>)
        .build()
        .unwrap();
    let mut request = of("north");
    let call = Call::new("count_on_host", (9u32,)).data(&mut request);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| sandbox.call_with::<u32, _>(call)));
    assert!(panicked.is_err());
    assert_eq!(request.sum, 3);
    assert!(sandbox.poisoned().is_some());
}

#[test]
fn requests_in_a_pool_never_see_each_others_data() {
    let snapshot = builder().build().unwrap().snapshot().unwrap();
    let pool = Pool::builder(&snapshot).size(2).spawn_with(spawn).build().unwrap();
    let served = Arc::new(AtomicU32::new(0));
    thread::scope(|scope| {
        for client in 0..4u32 {
            let (pool, served) = (&pool, &served);
            scope.spawn(move || {
                for round in 0..10u32 {
                    let mut request = of(if client % 2 == 0 { "north" } else { "south" });
                    let text = format!("{client}-{round}");
                    let mut sandbox = pool.take().unwrap();
                    let call = Call::new("parse_or_reason", (text.as_str(),)).data(&mut request);
                    let answer: String = sandbox.call_with(call).unwrap();
                    assert_eq!(answer.starts_with("number"), client % 2 == 0, "{answer}");
                    assert_eq!(request.parsed, [text]);
                    served.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(served.load(Ordering::Relaxed), 40);
    assert_eq!(pool.stats().replaced, 0);
}
