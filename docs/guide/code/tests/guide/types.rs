//! What `docs/guide/pages/types.md` shows.

use std::error::Error;

use ampoule::CallError;
use shop_types::{Offer, Order};

use super::shop;

#[test]
fn types_of_a_shared_crate_travel() -> Result<(), Box<dyn Error>> {
    let mut sandbox = shop().build()?;
    let order = Order { item: "lamp".to_owned(), pieces: 3 };
    let offer: Offer = sandbox.call("offer", (&order,))?;
    assert_eq!(offer, Offer { cents: 750 });
    Ok(())
}

#[test]
fn other_types_are_refused_before_the_guest_runs() -> Result<(), Box<dyn Error>> {
    let mut sandbox = shop().build()?;
    let error = sandbox.call::<u64>("sum", (7u32,)).unwrap_err();
    assert!(matches!(error, CallError::WrongArguments { .. }));
    assert_eq!(error.to_string(), "guest function `sum` expects (&[u8]) -> u64, called with (u32)");
    Ok(())
}

#[test]
fn an_image_says_what_it_exports() -> Result<(), Box<dyn Error>> {
    let sandbox = shop().build()?;
    let image = sandbox.image();
    let name = if image.export("offer_v2").is_some() { "offer_v2" } else { "offer" };
    for function in image.exports() {
        println!("{}{}", function.name(), function.signature());
    }
    assert_eq!(name, "offer");
    Ok(())
}

mod changed {
    use serde::Serialize;

    /// An order whose fields have changed places.
    #[derive(Serialize)]
    pub(super) struct Order {
        pub(super) pieces: u32,
        pub(super) item: String,
    }
}

#[test]
fn a_type_that_has_changed_is_refused_before_the_guest_runs() -> Result<(), Box<dyn Error>> {
    let mut sandbox = shop().build()?;
    let order = changed::Order { pieces: 3, item: "lamp".to_owned() };
    let error = sandbox.call::<Offer>("offer", (&order,)).unwrap_err();
    assert!(matches!(error, CallError::DifferentTypes { .. }));
    let text = error.to_string();
    assert!(text.contains("`Order.item` is the field `item` in the guest and the field `pieces` in the host"));
    Ok(())
}
