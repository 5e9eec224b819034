//! Popular crates do in a guest what `docs/crates.md` says.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use ampoule::{CallError, Image, Output, Sandbox};

#[test]
fn popular_crates_work_or_fail_as_the_documentation_says() {
    let image = Image::embedded(ampoule::include_guest!("popular-crates")).unwrap();
    let settings = Sandbox::builder(&image).stdout(Output::discard()).stderr(Output::discard());
    let mut sandbox = settings.build().unwrap();
    let uses: Vec<(String, String)> = sandbox.call("uses", ()).unwrap();
    assert!(uses.len() >= 40);
    let mut found = HEADER.to_string();
    for (name, what) in &uses {
        let outcome = match sandbox.call::<()>("use_crate", (name,)) {
            Ok(()) => "works".to_string(),
            Err(CallError::Function { message, .. }) => format!("cannot: {message}"),
            Err(CallError::Panicked { panic, .. }) if !panic.message.contains("assertion") => {
                format!("cannot: it panics: {}", panic.message)
            }
            Err(error) => panic!("`{name}`: {error}"),
        };
        writeln!(found, "| `{name}` | {what} | {outcome} |").unwrap();
        sandbox.reset().unwrap();
    }
    let (before, table) = CRATES.split_once(HEADER).expect("docs/crates.md has the table");
    let end = table.lines().take_while(|line| line.starts_with('|')).map(|line| line.len() + 1).sum();
    if table[..end] != found[HEADER.len()..] {
        let document = Path::new(env!("CARGO_TARGET_TMPDIR")).join("crates.md");
        fs::write(&document, format!("{before}{found}{}", &table[end..])).unwrap();
        panic!("docs/crates.md is different from what was found, which is in {}:\n{found}", document.display());
    }
}

const HEADER: &str = "| crate | what is done with it | outcome |\n|---|---|---|\n";

const CRATES: &str = include_str!("../../../docs/crates.md");
