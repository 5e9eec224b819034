//! What `README.md` shows, and `docs/guide/pages/snapshots.md` with it.

use ampoule::{Pool, Sandbox};

fn answer(mut sandbox: Sandbox, words: &[String], untrusted: &str) -> Result<String, Box<dyn std::error::Error>> {
    sandbox.call::<()>("load_dictionary", (words,))?; // once
    let loaded = sandbox.snapshot()?;

    sandbox.call::<String>("parse", (untrusted,))?; // whatever this did …
    sandbox.restore(&loaded)?; // … is gone

    let pool = Pool::new(&loaded, 8)?; // sandboxes of one snapshot, kept ready
    let answer = pool.take()?.call("parse", (untrusted,))?;
    Ok(answer) // the sandbox was reset when it was given back
}

#[test]
fn a_snapshot_makes_a_pool() -> Result<(), Box<dyn std::error::Error>> {
    let image = ampoule::Image::embedded(ampoule::include_guest!("dictionary"))?;
    let sandbox = Sandbox::builder(&image).build()?;
    assert_eq!(answer(sandbox, &["known".to_owned()], "a known word")?, "known");
    Ok(())
}
