//! Random sequences of operations on memory within guests, and of snapshots, files of these, restores, spawns and kills around them,
//! against a model that guest and host follow independently. What the guest finds in memory, what it is refused, and
//! what the host reads on its behalf must at every moment be what the model says.
//!
//! Some sequences are run, always the same, or as many short ones as `AMPOULE_MODEL_CASES` says; with
//! `AMPOULE_MODEL_SECONDS`, new ones for that long, as `just soak-memory` does. A failure names the seed of its sequence,
//! which `AMPOULE_MODEL_SEED` repeats (except the moments at which calls are killed).

mod once;
mod step;
mod tenant;
mod world;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ampoule::{Call, CallError, Pool, Termination};
use ampoule_memory_model::{Model, Random};
use ampoule_tests::memory_builder;

use step::Step;
use world::World;

#[test]
fn memory_is_what_the_model_says() {
    if let Some(seed) = variable("AMPOULE_MODEL_SEED") {
        return run_sequence(seed, STEPS);
    }
    let Some(seconds) = variable("AMPOULE_MODEL_SECONDS") else {
        return match variable("AMPOULE_MODEL_CASES") {
            Some(cases) => (0..cases).for_each(|seed| run_sequence(seed, FEW_STEPS)),
            None => (0..SEQUENCES).for_each(|seed| run_sequence(seed, STEPS)),
        };
    };
    let first = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis() as u64) << 20;
    let (started, mut sequences) = (Instant::now(), 0);
    while started.elapsed() < Duration::from_secs(seconds) {
        run_sequence(first + sequences, STEPS);
        sequences += 1;
    }
    println!("{sequences} sequences, from seed {first} on");
}

#[test]
fn tenants_of_a_pool_find_the_memory_of_the_snapshot() {
    let mut random = Random::new(0);
    let mut origin = memory_builder().memory_limit(world::MEMORY).build().unwrap();
    let mut model = Model::new();
    tenant::replay(&mut model, 1, 50, |_| ());
    assert_eq!(origin.call::<u64>("run", (1_u64, 50_u32)).unwrap(), model.digest());
    let pool = Pool::new(&origin.snapshot().unwrap(), 2).unwrap();
    drop(origin);
    for _ in 0..variable("AMPOULE_MODEL_CASES").map_or(40, |cases| cases / 2) {
        let mut taken = [pool.take().unwrap(), pool.take().unwrap()];
        for tenant in &mut taken {
            assert_eq!(tenant.call::<u64>("verify", ()).unwrap(), model.digest());
            let (seed, steps) = (random.next(), random.within(1..30) as u32);
            let mut own = model.clone();
            tenant::replay(&mut own, seed, steps, |_| ());
            let deadline =
                Duration::from_micros(if random.percent(25) { random.below(3000) as u64 } else { 60_000_000 });
            match tenant.call_with::<u64, _>(Call::new("run", (seed, steps)).deadline(deadline)) {
                Ok(digest) => assert_eq!(digest, own.digest()),
                Err(CallError::Terminated { cause: Termination::LimitExceeded(_), .. }) => {}
                Err(error) => panic!("in the guest: {error}"),
            }
        }
    }
    assert_eq!(pool.stats().replaced, 0, "they are always the same virtual machines");
}

/// # Panics
/// When something is not as the model says, with everything that led there.
fn run_sequence(seed: u64, steps: usize) {
    let mut random = Random::new(seed);
    let mut world = World::new();
    let mut history = Vec::new();
    for _ in 0..steps {
        let step = Step::draw(&mut random);
        history.push(step);
        if let Err(difference) = world.perform(step) {
            let history: String = history.iter().map(|step| format!("\n    {step:?}")).collect();
            panic!("AMPOULE_MODEL_SEED={seed}: {difference}\nafter these steps:{history}");
        }
    }
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().expect("a number"))
}

/// How many sequences there are by default.
const SEQUENCES: u64 = 24;

/// Of a sequence.
const STEPS: usize = 40;

/// Of a sequence where all is slow.
const FEW_STEPS: usize = 10;
