//! What `docs/guide/pages/first-call.md` shows.

use std::error::Error;

use ampoule::{Borrowed, Image, Sandbox};

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
