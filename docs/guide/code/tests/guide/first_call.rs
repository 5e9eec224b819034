//! What `docs/guide/pages/first-call.md` shows.

use std::error::Error;

use ampoule::{Borrowed, Image, Output, Sandbox};

use super::shop;

#[test]
fn a_function_is_called_by_name() -> Result<(), Box<dyn Error>> {
    let image = Image::embedded(ampoule::include_guest!("rules"))?;
    let mut sandbox = Sandbox::builder(&image).host_fn("list_price", |_item: String| 250u64).build()?;

    let greeting: String = sandbox.call("greet", ("World",))?;
    println!("{greeting}");
    assert_eq!(greeting, "Hello, World!");
    Ok(())
}

#[test]
fn a_function_is_resolved_once() -> Result<(), Box<dyn Error>> {
    let mut sandbox = shop().build()?;
    let sum = sandbox.typed_fn::<(Borrowed<[u8]>,), u64>("sum")?;
    for bytes in [vec![1, 2, 3], vec![4, 5]] {
        println!("{}", sum.call(&mut sandbox, (&bytes,))?);
    }
    assert_eq!(sum.call(&mut sandbox, (&[200, 100],))?, 300);
    Ok(())
}

#[test]
fn what_is_printed_goes_where_it_can_be_seen() -> Result<(), Box<dyn Error>> {
    let mut sandbox = shop().stdout(Output::writer(std::io::stdout())).build()?;
    sandbox.call::<()>("says", ("this can be seen\n",))?;
    Ok(())
}

#[test]
fn what_is_printed_can_be_taken() -> Result<(), Box<dyn Error>> {
    let (output, printed) = Output::capture(64 << 10);
    let mut sandbox = shop().stdout(output).build()?;
    sandbox.call::<()>("says", ("a line\n",))?;
    assert_eq!(printed.take_string(), "a line\n");
    Ok(())
}

#[test]
fn the_manifests_are_those_of_a_guest_and_a_host() {
    let page =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../pages/first-call.md")).expect("the page");
    let version = env!("CARGO_PKG_VERSION").rsplit_once('.').map_or("", |(version, _)| version);
    for dependency in ["ampoule-guest", "ampoule", "ampoule-build"] {
        assert!(page.contains(&format!("\n{dependency} = \"{version}\"\n")), "{dependency}");
    }
}
