//! The examples are in `hosts/`, one program each, and their guests in `guests/`.

/// What the READMEs show compiles, and runs where it does not say otherwise.
#[cfg(doctest)]
mod readmes {
    #[doc = include_str!("../../README.md")]
    mod ampoule_project {}
    #[doc = include_str!("../../crates/ampoule/README.md")]
    mod ampoule {}
    #[doc = include_str!("../../crates/ampoule-build/README.md")]
    mod ampoule_build {}
    #[doc = include_str!("../../crates/ampoule-guest/README.md")]
    mod ampoule_guest {}
}
