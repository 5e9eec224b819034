//! What `docs/guide/pages/guests.md` shows.

use std::error::Error;
use std::time::{Duration, SystemTime};

use ampoule::Clock;

use super::{list_price, ready, shop};

#[test]
fn a_guest_has_clocks_and_neither_threads_nor_files() {
    let mut sandbox = shop().build().unwrap();
    let (thread, file, clock): (bool, bool, bool) = sandbox.call("finds", ()).unwrap();
    assert!(!thread && !file && clock);
}

#[test]
fn guests_from_one_snapshot_can_renew_what_must_differ() {
    let snapshot = ready();
    let ticket = || {
        let mut sandbox = snapshot.builder().host_fn("list_price", list_price).build().unwrap();
        sandbox.call::<u64>("ticket", ()).unwrap()
    };
    assert_ne!(ticket(), ticket());
}

#[test]
fn a_guest_finds_the_time_that_it_is_given() -> Result<(), Box<dyn Error>> {
    let day = SystemTime::UNIX_EPOCH + Duration::from_secs(20_000 * 86_400);
    let mut sandbox = shop().clock(Clock::Frozen(day)).build()?;
    assert_eq!(sandbox.call::<u64>("today", ())?, 20_000);
    sandbox.advance_clock(Duration::from_secs(86_400))?;
    assert_eq!(sandbox.call::<u64>("today", ())?, 20_001);
    Ok(())
}
