//! Uses popular crates, each with something that can be checked. A use that panics is a failure of the test; an error that
//! one returns is what the crate reports where it needs what a sandbox has not.

mod data;
mod formats;
mod system;
mod text;

use std::error::Error;

use ampoule_guest::export;

/// The name of a crate, what is done with it, and the function that does it.
type Use = (&'static str, &'static str, fn() -> Outcome);

/// An error is what the crate reported.
type Outcome = Result<(), Box<dyn Error>>;

/// The names of the crates, and what is done with each.
#[export]
fn uses() -> Vec<(String, String)> {
    all().map(|(name, what, _)| (name.to_string(), what.to_string())).collect()
}

#[export]
fn use_crate(name: &str) -> Result<(), String> {
    let (_, _, run) = all().find(|(known, _, _)| *known == name).ok_or_else(|| format!("no crate `{name}`"))?;
    run().map_err(|error| error.to_string())
}

fn all() -> impl Iterator<Item = &'static Use> {
    [formats::USES, text::USES, data::USES, system::USES].into_iter().flatten()
}

ampoule_guest::main!();
