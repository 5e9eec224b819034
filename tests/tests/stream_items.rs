//! Streams of values: in order, as many as there are, of the types that both sides mean.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

use ampoule::{Call, CallError, ExceededLimit, Items, Limits, Sandbox, Sink, Termination};
use ampoule_tests::streams_image;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Order {
    Pieces { item: String, pieces: u32 },
    Everything,
}

/// How many there are, of how many pieces, and the item of the last one.
type Orders = (u64, u32, String);

#[test]
fn items_arrive_in_order_whatever_they_are_made_of() {
    let lamp = |pieces| Order::Pieces { item: format!("lamp {pieces}"), pieces };
    let orders = || (0..5000).map(lamp).chain([Order::Everything]);
    let mut sandbox = sandbox(16 << 10);
    for (items, expected) in [
        (Items::new(orders()), (5001, (0..5000).sum(), "*".to_owned())),
        (Items::new(orders().take(5000)), (5000, (0..5000).sum(), "lamp 4999".to_owned())),
        (Items::new(orders().take(1)), (1, 0, "lamp 0".to_owned())),
        (Items::new([]), (0, 0, String::new())),
    ] {
        assert_eq!(sandbox.call::<Orders>("orders", (items,)).unwrap(), expected);
    }
}

#[test]
fn a_stream_that_has_ended_is_not_asked_again() {
    let mut sandbox = sandbox(16 << 10);
    let once = |end: u32| {
        let mut next = 0;
        move || {
            next += 1;
            assert!(next <= end + 1, "asked again after the end");
            (next <= end).then_some(Order::Everything)
        }
    };
    for count in [0, 3] {
        let mut poll = once(count);
        let items = Items::asynchronous(move |_| Poll::Ready(poll()));
        assert_eq!(sandbox.call::<Orders>("orders", (items,)).unwrap().0, u64::from(count));
        let items = Items::new(std::iter::from_fn(once(count)));
        assert_eq!(sandbox.call::<Orders>("orders", (items,)).unwrap().0, u64::from(count));
    }
}

#[test]
fn a_type_that_the_guest_means_otherwise_is_refused_before_anything_is_sent() {
    mod other {
        #[derive(serde::Serialize, serde::Deserialize)]
        pub(crate) enum Order {
            Pieces { pieces: u32, item: String },
            Everything,
        }
    }
    let mut sandbox = sandbox(16 << 10);
    let orders = || {
        Items::new(
            (0..5)
                .map(|pieces| -> other::Order { panic!("order {pieces} was asked for") })
                .chain([other::Order::Everything, other::Order::Pieces { pieces: 1, item: String::new() }]),
        )
    };
    for _ in 0..2 {
        let error = sandbox.call::<Orders>("orders", (orders(),)).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, CallError::DifferentTypes { .. }), "{text}");
        assert!(text.contains("pieces") && text.contains("item"), "{text}");
    }
    let given = Sink::new(|_: other::Order| panic!("an order was sent"));
    let error = sandbox.call::<()>("send_orders", (1_u32, given)).unwrap_err();
    assert!(matches!(error, CallError::DifferentTypes { .. }), "{error}");
    assert_eq!(sandbox.call::<Orders>("orders", (Items::new([Order::Everything]),)).unwrap().1, 0);
}

#[test]
fn no_more_items_are_taken_ahead_than_fit_a_piece_or_than_are_allowed() {
    let mut sandbox = sandbox(1 << 20);
    let taken = Cell::new(0);
    let numbers = || (0..100_000_u32).inspect(|_| taken.set(taken.get() + 1));
    let first = |sandbox: &mut Sandbox, items| sandbox.call::<Vec<u32>>("take_items", (items, 3_u32)).unwrap();
    assert_eq!(first(&mut sandbox, Items::new(numbers())), [0, 1, 2]);
    // One more is taken, which has no room.
    assert_eq!(taken.take(), (64 << 10) / 4 + 1);
    for (most, expected) in [(1, 3), (2, 4), (0, 3), (1000, 1000)] {
        assert_eq!(first(&mut sandbox, Items::new(numbers()).at_once(most)), [0, 1, 2]);
        assert_eq!(taken.take(), expected, "{most} at once");
    }
    let none: Vec<u32> = sandbox.call("take_items", (Items::new(numbers()), 0_u32)).unwrap();
    assert_eq!((none, taken.take()), (Vec::new(), 0));
}

#[test]
fn an_item_may_be_as_large_as_the_mailbox_and_no_larger() {
    let mut sandbox = sandbox(100 << 10);
    let mailbox = 100 << 10;
    let fits = mailbox - 4;
    let lengths = vec![10, fits, 70_000, fits + 1, 20, 80_000, 60_000, 10_000];
    let mut texts = Vec::new();
    let failed: Vec<(u32, String)> =
        sandbox.call("send_texts", (&lengths, Sink::new(|text: String| texts.push(text.len() as u32)))).unwrap();
    assert_eq!(texts, [10, fits, 70_000, 20, 80_000, 60_000, 10_000]);
    assert_eq!(failed.len(), 1);
    assert!(failed[0].0 == fits + 1 && failed[0].1.contains("does not fit the mailbox of 102400"), "{failed:?}");

    let large = |length: u32| Order::Pieces { item: "y".repeat(length as usize), pieces: 1 };
    let orders = [large(10), large(fits - 8), large(3)];
    assert_eq!(sandbox.call::<Orders>("orders", (Items::new(orders),)).unwrap().1, 3);
    let error = sandbox.call::<Orders>("orders", (Items::new([large(10), large(fits)]),)).unwrap_err();
    assert!(matches!(&error, CallError::Function { message, .. } if message.contains("an item of")), "{error}");
}

#[test]
fn results_are_taken_one_by_one_while_the_guest_makes_them() {
    let given = Cell::new(0_u64);
    let numbers = (0..50_000_u64).inspect(|_| given.set(given.get() + 1)).map(|number| number * 3);
    let mut taken = Vec::new();
    let ahead = Cell::new(0);
    let doubled = Sink::new(|number: u64| {
        taken.push(number);
        ahead.set(ahead.get().max(given.get() - taken.len() as u64));
    });
    assert_eq!(sandbox(1 << 20).call::<u64>("double", (Items::new(numbers), doubled)).unwrap(), 50_000);
    assert!(taken.iter().copied().eq((0..50_000).map(|number| number * 6)));
    assert!(ahead.get() <= 3 * (64 << 10) / 8, "{} were on their way", ahead.get());

    let mut orders = Vec::new();
    sandbox(16 << 10).call::<()>("send_orders", (5_u32, Sink::new(|order: Order| orders.push(order)))).unwrap();
    assert_eq!(orders, [Order::Everything, Order::Pieces { item: "lamp".to_owned(), pieces: 5 }]);
}

#[test]
fn errors_of_the_hosts_iterator_and_closure_are_the_guests() {
    let mut sandbox = sandbox(16 << 10);
    let torn = || io::Error::new(io::ErrorKind::UnexpectedEof, "torn");
    let items = Items::fallible([Ok(1_u32), Ok(2), Err(torn()), Ok(3), Err(torn()), Err(torn())]);
    let found: Vec<Result<u32, String>> = sandbox.call("items_and_errors", (items,)).unwrap();
    let torn = || Err("UnexpectedEof: torn".to_owned());
    assert_eq!(found, [Ok(1), Ok(2), torn(), Ok(3), torn(), torn()]);

    let taken = RefCell::new(Vec::new());
    let picky = Sink::fallible(|number: u32| {
        taken.borrow_mut().push(number);
        if number == 11 { Err("no elevens") } else { Ok(()) }
    });
    let outcomes: Vec<String> = sandbox.call("failures_of_sending", (picky,)).unwrap();
    assert_eq!(outcomes, ["sent", "no elevens", "sent"]);
    assert_eq!(*taken.borrow(), [0, 1, 2, 10, 11, 20, 21, 22]);
}

#[test]
fn typed_functions_take_other_items_in_each_call() {
    let mut sandbox = sandbox(16 << 10);
    let double = sandbox.typed_fn::<(Items<'_, u64>, Sink<'_, u64>), u64>("double").unwrap();
    for numbers in [vec![1, 2, 3], vec![], vec![7]] {
        let mut doubled = Vec::new();
        let streams = (Items::new(numbers.iter().copied()), Sink::new(|number| doubled.push(number)));
        assert_eq!(double.call(&mut sandbox, streams).unwrap(), numbers.len() as u64);
        assert!(doubled.iter().copied().eq(numbers.iter().map(|number| 2 * number)));
    }
    let error = sandbox.typed_fn::<(Items<'_, u32>, Sink<'_, u64>), u64>("double").unwrap_err();
    assert!(matches!(error, CallError::WrongArguments { .. }), "{error}");
}

#[test]
fn asynchronous_items_are_awaited_and_given_up_with_the_call() {
    #[derive(Default)]
    struct Channel {
        numbers: VecDeque<u64>,
        is_closed: bool,
        waker: Option<Waker>,
    }
    let channel = Arc::new(Mutex::new(Channel::default()));
    let numbers = |channel: &Arc<Mutex<Channel>>| {
        let channel = Arc::clone(channel);
        Items::asynchronous(move |context| {
            let mut channel = channel.lock().unwrap();
            match channel.numbers.pop_front() {
                Some(number) => Poll::Ready(Some(number)),
                None if channel.is_closed => Poll::Ready(None),
                None => {
                    channel.waker = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
    };
    let sender = {
        let channel = Arc::clone(&channel);
        thread::spawn(move || {
            for number in 0..100 {
                let waker = loop {
                    let mut channel = channel.lock().unwrap();
                    // It is awaited before each of the first few, and finds the others there.
                    if number > 5 || channel.waker.is_some() {
                        channel.numbers.push_back(number);
                        channel.is_closed = number == 99;
                        break channel.waker.take();
                    }
                    drop(channel);
                    thread::yield_now();
                };
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
        })
    };
    let mut sandbox = sandbox(16 << 10);
    let doubled = Rc::new(RefCell::new(Vec::new()));
    let sink = {
        let doubled = Rc::clone(&doubled);
        Sink::asynchronous(async move |number: u64| doubled.borrow_mut().push(number))
    };
    assert_eq!(sandbox.call::<u64>("double", (numbers(&channel), sink)).unwrap(), 100);
    sender.join().unwrap();
    assert!(doubled.borrow().iter().copied().eq((0..100).map(|number| 2 * number)));

    let never = Items::asynchronous(|_| Poll::<Option<u64>>::Pending);
    let call = Call::new("double", (never, Sink::new(|_: u64| ()))).deadline(Duration::from_millis(10));
    let error = sandbox.call_with::<u64, _>(call).unwrap_err();
    let CallError::Terminated { cause: Termination::LimitExceeded(ExceededLimit::Deadline(_)), .. } = error else {
        panic!("{error}")
    };
    sandbox.reset().unwrap();
    let stuck = Sink::asynchronous(async |_: u64| std::future::pending().await);
    let call =
        Call::new("double", (Items::new([1_u64]), stuck)).limits(Limits::new().deadline(Duration::from_millis(10)));
    assert!(sandbox.call_with::<u64, _>(call).unwrap_err().poisons());
}

fn sandbox(mailbox: usize) -> Sandbox {
    Sandbox::builder(&streams_image()).mailbox_size(mailbox).host_fn("note", |_: String| ()).build().unwrap()
}
