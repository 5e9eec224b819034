//! Any text is refused with a reason, or is a type or a signature that is the same after it was shown and read again.

#![no_main]

use ampoule::signature::{Signature, Type};
use ampoule_abi::layout::MAX_SIGNATURE_LEN as MAX_LEN;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match text.parse::<Signature>() {
        Ok(signature) => {
            let shown = format!("fn{signature}");
            if shown.len() > MAX_LEN {
                return; // the spaces made it longer than what is read
            }
            let again: Signature = shown.parse().unwrap_or_else(|error| panic!("{shown}: {error}"));
            assert_eq!(signature, again, "{shown}");
            assert_eq!(again.to_string(), signature.to_string());
            assert!(signature.accepts_parameters(again.parameters()) && signature.same_types(&again));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    match text.parse::<Type>() {
        Ok(type_) => {
            let shown = type_.to_string();
            if shown.len() > MAX_LEN {
                return; // the spaces made it longer than what is read
            }
            let again: Type = shown.parse().unwrap_or_else(|error| panic!("{shown}: {error}"));
            assert_eq!(type_, again, "{shown}");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
