//! What `docs/guide/pages/costs.md` shows.

use std::error::Error;

use super::shop;

#[test]
fn a_sandbox_counts_what_it_costs() -> Result<(), Box<dyn Error>> {
    let mut sandbox = shop().build()?;
    let before = sandbox.stats()?;
    sandbox.call::<u64>("sum", (&[1u8, 2, 3][..],))?;
    let after = sandbox.stats()?;
    println!("{} exits, {} KiB of its own", after.exits - before.exits, after.owned_bytes >> 10);
    assert_eq!(after.exits - before.exits, 1);
    Ok(())
}
