//! What `docs/guide/pages/errors.md` shows.

use std::error::Error;

use ampoule::{Blame, CallError, FaultKind, Output, Sandbox, Termination};
use shop_types::{Offer, Order};

use super::shop;

/// What a service says about an order.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Cents(u64),
    Refused(String),
    TryLater,
}

fn ask(sandbox: &mut Sandbox, order: &Order) -> Result<Answer, Box<dyn Error>> {
    match sandbox.call::<Offer>("offer", (order,)) {
        Ok(Offer::Cents(cents)) => Ok(Answer::Cents(cents)),
        Ok(Offer::TooMany { most }) => Ok(Answer::Refused(format!("at most {most}"))),
        Err(CallError::Function { message, .. }) => Ok(Answer::Refused(message)),
        Err(error) if error.blame() == Blame::Guest => {
            eprintln!("{error}");
            if error.poisons() {
                sandbox.reset()?;
            }
            Ok(Answer::TryLater)
        }
        Err(error) => Err(error.into()),
    }
}

#[test]
fn errors_of_an_application_are_values_and_those_of_a_guest_are_not_its_own() -> Result<(), Box<dyn Error>> {
    let mut sandbox = shop().build()?;
    let order = |item: &str, pieces| Order { item: item.to_owned(), pieces };
    assert_eq!(ask(&mut sandbox, &order("lamp", 2))?, Answer::Cents(500));
    assert_eq!(ask(&mut sandbox, &order("lamp", 101))?, Answer::Refused("at most 100".to_owned()));
    let refused = ask(&mut sandbox, &order("moon", 1))?;
    assert_eq!(refused, Answer::Refused("host function `list_price`: there is no moon".to_owned()));
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
