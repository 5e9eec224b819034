//! What `docs/guide/pages/host-data.md` shows.

use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use ampoule::{Call, CallError, Pool, Sandbox};
use shop_types::{Offer, Order, Refusal};

use super::{image, ready, shop};

#[test]
fn a_closure_shares_state_with_the_application() -> Result<(), Box<dyn Error>> {
    let asked = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&asked);
    let mut sandbox = Sandbox::builder(&image())
        .host_fn("list_price", move |_item: String| {
            counter.fetch_add(1, Ordering::Relaxed);
            250u64
        })
        .build()?;
    let order = Order { item: "lamp".to_owned(), pieces: 1 };
    sandbox.call::<Offer>("offer", (&order,))?;
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    Ok(())
}

#[test]
fn a_failure_of_the_host_is_an_error_in_the_guest() -> Result<(), Box<dyn Error>> {
    let mut sandbox = shop().build()?;
    let order = Order { item: "moon".to_owned(), pieces: 1 };
    let offer: Result<Offer, Refusal> = sandbox.call("offer", (&order,))?;
    assert_eq!(offer, Err(Refusal::Unknown("moon".to_owned())));
    Ok(())
}

/// What the host functions of a request may use.
struct Request {
    tenant: String,
    lookups: u32,
}

fn list_price(request: &mut Request, item: String) -> Result<u64, Refusal> {
    request.lookups += 1;
    match (request.tenant.as_str(), item.as_str()) {
        ("north", "lamp") => Ok(200),
        _ => Err(Refusal::Unknown(item)),
    }
}

#[test]
fn a_pool_serves_requests_with_data_of_their_own() -> Result<(), Box<dyn Error>> {
    let snapshot = ready();
    let pool =
        Pool::builder(&snapshot).size(2).spawn_with(|spawn| spawn.host_fn_with("list_price", list_price)).build()?;

    let order = Order { item: "lamp".to_owned(), pieces: 2 };
    let mut sandbox = pool.take()?;
    let mut request = Request { tenant: "north".to_owned(), lookups: 0 };
    let offer: Offer = sandbox.call_with(Call::new("offer", (&order,)).data(&mut request))?;
    assert_eq!((offer, request.lookups), (Offer { cents: 400 }, 1));

    let mut request = Request { tenant: "south".to_owned(), lookups: 0 };
    let offer: Result<Offer, Refusal> = sandbox.call_with(Call::new("offer", (&order,)).data(&mut request))?;
    assert_eq!(offer, Err(Refusal::Unknown("lamp".to_owned())));

    let forgotten = sandbox.call::<Offer>("offer", (&order,));
    assert!(matches!(forgotten, Err(CallError::WrongData { given: None, .. })));
    Ok(())
}

#[test]
fn a_tenant_has_a_pool_of_its_own() -> Result<(), Box<dyn Error>> {
    let snapshot = ready();
    let pool_of = |percent: u64| {
        Pool::builder(&snapshot)
            .size(1)
            .spawn_with(move |spawn| spawn.host_fn("list_price", move |_item: String| 250 * percent / 100))
            .build()
    };
    let (cheap, dear) = (pool_of(80)?, pool_of(120)?);
    let order = Order { item: "lamp".to_owned(), pieces: 1 };
    assert_eq!(cheap.take()?.call::<Offer>("offer", (&order,))?, Offer { cents: 200 });
    assert_eq!(dear.take()?.call::<Offer>("offer", (&order,))?, Offer { cents: 300 });
    Ok(())
}

#[test]
fn what_host_functions_record_outlives_a_reset() -> Result<(), Box<dyn Error>> {
    let log = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&log);
    let mut sandbox = Sandbox::builder(&image())
        .host_fn("list_price", move |item: String| {
            sink.lock().expect("nobody panics with the lock").push(item);
            250u64
        })
        .build()?;
    let order = Order { item: "lamp".to_owned(), pieces: 1 };
    sandbox.call::<Offer>("offer", (&order,))?;
    sandbox.reset()?;
    sandbox.call::<Offer>("offer", (&order,))?;
    assert_eq!(log.lock().expect("nobody panics with the lock").len(), 2);
    Ok(())
}
