//! What `docs/guide/pages/errors.md` shows.

use std::error::Error;

use ampoule::{Blame, CallError, FaultKind, Output, Sandbox, Termination};
use shop_types::{Offer, Order, Refusal};

use super::shop;

/// What a service says about an order.
fn ask(sandbox: &mut Sandbox, order: &Order) -> Result<String, Box<dyn Error>> {
    match sandbox.call::<Result<Offer, Refusal>>("offer", (order,)) {
        Ok(Ok(offer)) => Ok(format!("{} cents", offer.cents)),
        Ok(Err(Refusal::TooMany { most })) => Ok(format!("no more than {most}, please")),
        Ok(Err(refusal)) => Ok(format!("no: {refusal:?}")),
        Err(error) if error.blame() == Blame::Guest => {
            eprintln!("{error}");
            if error.poisons() {
                sandbox.reset()?;
            }
            Ok("our rules are broken".to_owned())
        }
        Err(error) => Err(error.into()),
    }
}

#[test]
fn errors_of_an_application_keep_their_type() -> Result<(), Box<dyn Error>> {
    let mut sandbox = shop().build()?;
    let order = |item: &str, pieces| Order { item: item.to_owned(), pieces };
    assert_eq!(ask(&mut sandbox, &order("lamp", 2))?, "500 cents");
    assert_eq!(ask(&mut sandbox, &order("lamp", 101))?, "no more than 100, please");
    assert_eq!(ask(&mut sandbox, &order("moon", 1))?, "no: Unknown(\"moon\")");
    Ok(())
}

#[test]
fn whoever_asks_for_the_value_gets_the_error_as_text() -> Result<(), Box<dyn Error>> {
    let mut sandbox = shop().build()?;
    let order = Order { item: "moon".to_owned(), pieces: 1 };
    let error = sandbox.call::<Offer>("offer", (&order,)).unwrap_err();
    assert!(matches!(error, CallError::Function { .. }));
    Ok(())
}

#[test]
fn a_panic_leaves_the_sandbox_usable() -> Result<(), Box<dyn Error>> {
    let mut sandbox = shop().build()?;
    let error = sandbox.call::<u64>("panics", (9usize,)).unwrap_err();
    assert!(matches!(error, CallError::Panicked { .. }));
    assert!(!error.poisons());
    let seven: u64 = sandbox.call("panics", (1usize,))?;
    assert_eq!(seven, 7);
    Ok(())
}

#[test]
fn a_guest_that_has_ended_is_reset() -> Result<(), Box<dyn Error>> {
    let mut sandbox = shop().stderr(Output::discard()).build()?;
    let error = sandbox.call::<()>("aborts", ()).unwrap_err();
    let CallError::Terminated { cause: Termination::Fault(fault), .. } = &error else {
        return Err(error.into());
    };
    assert!(matches!(fault.kind(), FaultKind::Aborted { .. }));
    assert_eq!(fault.stderr(), "the rules make no sense\n");

    assert!(sandbox.poisoned().is_some());
    sandbox.reset()?;
    assert_eq!(sandbox.call::<String>("greet", ("again",))?, "Hello, again!");
    Ok(())
}
