//! What `docs/guide/pages/pools.md` shows.

use std::error::Error;
use std::thread;
use std::time::Duration;

use ampoule::{Limits, Output, Pool};
use shop_types::{Offer, Order};

use super::{list_price, ready};

#[test]
fn threads_share_a_pool() -> Result<(), Box<dyn Error>> {
    let snapshot = ready();
    let pool = Pool::builder(&snapshot)
        .size(4)
        .ready(1)
        .spawn_with(|spawn| {
            spawn
                .host_fn("list_price", list_price)
                .stderr(Output::discard())
                .limits(Limits::new().deadline(Duration::from_secs(60)))
        })
        .warm_up(|sandbox| sandbox.call("set_discount", (0u64,)))
        .build()?;

    let order = Order { item: "lamp".to_owned(), pieces: 1 };
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut sandbox = pool.take_timeout(Duration::from_secs(60)).expect("a sandbox");
                let offer: Offer = sandbox.call("offer", (&order,)).expect("an offer");
                assert_eq!(offer, Offer { cents: 250 });
                sandbox.call::<()>("set_discount", (50u64,)).expect("a call");
            });
        }
    });
    assert_eq!(pool.stats().recycled, 8);
    Ok(())
}
