//! Sandboxes give everything back: ten thousand of them, or `AMPOULE_LEAK_SANDBOXES` where that takes too long. This is the
//! only test of its process, whose resources it counts.

use std::fs;

use ampoule::Sandbox;
use ampoule_tests::hostile_image;

/// Open file descriptors, memory mappings and threads of this process.
fn resources() -> (usize, usize, usize) {
    let entries = |path: &str| fs::read_dir(path).unwrap().count();
    let mappings = fs::read_to_string("/proc/self/maps").unwrap().lines().count();
    (entries("/proc/self/fd"), mappings, entries("/proc/self/task"))
}

#[test]
fn ten_thousand_sandboxes_leak_nothing() {
    let count = std::env::var("AMPOULE_LEAK_SANDBOXES").map_or(10_000, |count| count.parse().expect("a number"));
    let image = hostile_image();
    let build = || {
        let mut sandbox = Sandbox::builder(&image).build().unwrap();
        assert!(sandbox.call::<bool>("alive", ()).unwrap());
    };
    for _ in 0..10 {
        build();
    }
    let before = resources();
    for _ in 0..count {
        build();
    }
    let after = resources();
    assert_eq!((before.0, before.2), (after.0, after.2), "descriptors and threads");
    assert!(after.1 <= before.1 + 8, "mappings: {} before, {} after", before.1, after.1);
}
