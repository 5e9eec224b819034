use super::*;
use crate::error::BuildError;
use crate::error_tests::position;
use crate::fault::Fault;

fn missing(signature: &str, setting: HostFunctionSetting) -> String {
    let signature = signature.parse().expect("it is a signature");
    let (image, function, similar) = ("guest".to_owned(), "price".to_owned(), None);
    BuildError::MissingHostFunction { image, function, signature, setting, similar }.to_string()
}

#[test]
fn a_host_function_that_is_missing_is_to_be_provided_as_its_error_asks() {
    let text = missing("fn(&str) -> u64", HostFunctionSetting::Builder);
    assert!(text.ends_with("provide it with `Builder::host_fn(\"price\", …)`"), "{text}");
    for error in ["HostError", "String", "&str", "io::Error", "anyhow::Error", "Box<dyn Error>"] {
        let text = missing(&format!("fn(&str) -> Result<u64, {error}>"), HostFunctionSetting::Spawn);
        assert!(text.ends_with("with `Spawn::try_host_fn(\"price\", …)`, which `Snapshot::builder` has"), "{text}");
    }
    let text = missing("fn(&str) -> io::Result<u64>", HostFunctionSetting::Builder);
    assert!(text.ends_with("with `Builder::try_host_fn(\"price\", …)`"), "{text}");

    let text = missing("fn(&str) -> Result<u64, shared::PricingError>", HostFunctionSetting::Pool);
    assert!(
        text.ends_with(
            "provide it with `PoolBuilder::spawn_with(|spawn| spawn.host_fn(\"price\", …))` and a closure that returns \
             `Result<u64, PricingError>`, or, if the guest makes that error from the text of a `HostError`, with `try_host_fn`"
        ),
        "{text}"
    );
}

#[test]
fn whoever_asks_for_a_result_that_cannot_be_had_is_told_for_what_to_ask() {
    let refusal = |expected: &str, given: &str| {
        let expected = expected.parse().expect("it is a signature");
        CallError::WrongResult { function: "read".to_owned(), expected, given: given.to_owned() }.to_string()
    };
    let text = refusal("fn() -> Result<String, io::Error>", "Result<String, String>");
    assert!(text.ends_with("; ask for `String` to have its error as text, in `CallError::Function`"), "{text}");
    let text = refusal("fn() -> Result<u64, shared::Refusal>", "Result<u64, String>");
    assert!(text.contains("; ask for `Result<u64, Refusal>`, or for `u64` to have its error as text, "), "{text}");
    let text = refusal("fn() -> u64", "Result<u64, String>");
    assert!(text.ends_with("; it cannot fail, so ask for `u64`"), "{text}");
    for given in ["u64", "Result<u64, String>"] {
        let text = refusal("fn() -> Result<String, String>", given);
        assert!(text.ends_with(&format!("was asked for as {given}")), "{text}");
    }
}

#[test]
fn the_functions_of_an_image_are_listed_by_name() {
    let exports = ["sum", "greet", "offer"].map(str::to_owned);
    assert_eq!(instead("unknown_function", &exports), "it exports greet, offer, sum");
}

#[test]
fn a_guest_that_exits_before_it_is_ready_may_have_an_ordinary_main() {
    let started = |kind| BuildError::Start(Fault::new(kind, position()).into(), None, None).to_string();
    let text = started(FaultKind::Exited { code: 0 });
    assert!(text.ends_with("; if it has a `fn main` of its own, put `ampoule_guest::main!();` in its place"), "{text}");
    assert!(!started(FaultKind::Aborted { signal: 6 }).contains("main!"));
}
