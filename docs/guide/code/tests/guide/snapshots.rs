//! What `docs/guide/pages/snapshots.md` shows.

use std::error::Error;

use ampoule::Snapshot;
use shop_types::{Offer, Order};

use super::{list_price, shop};

#[test]
fn going_back_undoes_what_a_request_did() -> Result<(), Box<dyn Error>> {
    let mut sandbox = shop().build()?;
    let order = Order { item: "lamp".to_owned(), pieces: 1 };

    sandbox.call::<()>("set_discount", (10u64,))?; // once
    let discounted = sandbox.snapshot()?;

    sandbox.call::<()>("set_discount", (100u64,))?; // whatever a request does …
    sandbox.restore(&discounted)?; // … is gone
    assert_eq!(sandbox.call::<Offer>("offer", (&order,))?, Offer { cents: 225 });

    sandbox.reset()?; // back to the state before the first call
    assert_eq!(sandbox.call::<Offer>("offer", (&order,))?, Offer { cents: 250 });

    let mut another = discounted.builder().host_fn("list_price", list_price).build()?;
    assert_eq!(another.call::<Offer>("offer", (&order,))?, Offer { cents: 225 });
    Ok(())
}

#[test]
fn a_snapshot_is_continued_from_a_file() -> Result<(), Box<dyn Error>> {
    let directory = std::env::temp_dir().join(format!("ampoule-guide-{}", std::process::id()));
    std::fs::create_dir(&directory)?;
    let path = directory.join("shop.snap");
    let order = Order { item: "lamp".to_owned(), pieces: 1 };

    let mut sandbox = shop().build()?;
    sandbox.call::<()>("set_discount", (10u64,))?;
    sandbox.snapshot()?.save(&path)?; // once, wherever the guest is prepared

    let loaded = Snapshot::load(&path)?; // in each process that serves
    let mut another = loaded.builder().host_fn("list_price", list_price).build()?;
    assert_eq!(another.call::<Offer>("offer", (&order,))?, Offer { cents: 225 });

    std::fs::remove_dir_all(&directory)?;
    Ok(())
}
