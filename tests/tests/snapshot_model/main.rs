//! Random sequences of calls, snapshots, restores, spawns, faults and drops, on several sandboxes of one lineage, against a
//! model that keeps plain copies. After each step all that can be observed of every sandbox must be what the model says.
//!
//! `AMPOULE_MODEL_CASES` sets how many sequences there are.

mod step;
mod world;

use proptest::prelude::*;

use step::steps;
use world::World;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases()) })]

    #[test]
    fn sandboxes_and_snapshots_are_what_plain_copies_would_be(steps in steps()) {
        let mut world = World::new();
        for step in &steps {
            world.perform(step);
            world.compare();
        }
    }
}

fn cases() -> u32 {
    std::env::var("AMPOULE_MODEL_CASES").map_or(300, |cases| cases.parse().expect("a number of sequences"))
}
