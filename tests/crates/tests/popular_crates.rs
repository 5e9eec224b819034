//! Popular crates do in a guest what `docs/crates.md` says.

use std::fmt::Write;
use std::path::Path;

use ampoule::{CallError, Image, Output, Sandbox};

/// With `AMPOULE_BLESS=1`, the table is written to the document instead of compared.
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
    if std::env::var_os("AMPOULE_BLESS").is_some() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/crates.md");
        std::fs::write(path, format!("{before}{found}{}", &table[end..])).unwrap();
    } else {
        assert_eq!(
            format!("{HEADER}{}", &table[..end]),
            found,
            "`AMPOULE_BLESS=1` writes what was found to docs/crates.md"
        );
    }
}

const HEADER: &str = "| crate | what is done with it | outcome |\n|---|---|---|\n";

const CRATES: &str = include_str!("../../../docs/crates.md");
