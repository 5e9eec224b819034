//! What `docs/guide/pages/async.md` shows.

use std::error::Error;
use std::time::Duration;

use ampoule::Pool;
use shop_types::{Offer, Order, Refusal};
use tokio::runtime::{Builder, Runtime};

use super::{list_price, ready};

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_time().build().expect("a runtime")
}

#[test]
fn a_task_waits_for_a_sandbox_and_can_give_up() -> Result<(), Box<dyn Error>> {
    let snapshot = ready();
    let pool = Pool::builder(&snapshot).size(2).spawn_with(|spawn| spawn.host_fn("list_price", list_price)).build()?;
    runtime().block_on(async {
        let order = Order { item: "lamp".to_owned(), pieces: 1 };
        let offer: Offer = pool.run(move |sandbox| sandbox.call("offer", (&order,))).await??;
        assert_eq!(offer, Offer { cents: 250 });

        let endless = pool.run(|sandbox| sandbox.call::<()>("spins", ()));
        let given_up = tokio::time::timeout(Duration::from_millis(50), endless).await;
        assert!(given_up.is_err());
        Ok(())
    })
}

/// Where the shop keeps its prices; stands for a database.
async fn look_up(item: String) -> Result<u64, Refusal> {
    tokio::time::sleep(Duration::from_millis(1)).await;
    list_price(item)
}

#[test]
fn a_host_function_waits_for_a_future() -> Result<(), Box<dyn Error>> {
    let snapshot = ready();
    let runtime = runtime();
    let handle = runtime.handle().clone();
    let pool = Pool::builder(&snapshot)
        .size(2)
        .spawn_with(move |spawn| {
            let runtime = handle.clone();
            spawn.host_fn("list_price", move |item: String| {
                runtime.block_on(async {
                    let answer = tokio::time::timeout(Duration::from_secs(60), look_up(item)).await;
                    answer.unwrap_or(Err(Refusal::TryLater))
                })
            })
        })
        .build()?;
    let order = Order { item: "lamp".to_owned(), pieces: 2 };
    let offer: Offer = runtime.block_on(pool.run(move |sandbox| sandbox.call("offer", (&order,))))??;
    assert_eq!(offer, Offer { cents: 500 });
    Ok(())
}
