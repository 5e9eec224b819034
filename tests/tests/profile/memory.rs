//! Memory profiles of guests of which it is known what they allocate.

use std::collections::HashMap;
use std::time::Duration;

use ampoule::MemoryMeasure::{Live, Peak, Total};
use ampoule::{Call, CallError, MemoryMeasure, MemoryProfile, Pool, Sandbox, Termination};
use ampoule_tests::{hostile_image, profiled_image};
use prost::Message;

use super::{has, is, pprof};

fn profiled() -> Sandbox {
    let mut sandbox = super::sandbox();
    sandbox.profile_memory();
    sandbox
}

fn allocate(sandbox: &mut Sandbox, function: &str, size: usize) -> u64 {
    sandbox.call(function, (size,)).unwrap()
}

fn release(sandbox: &mut Sandbox, address: u64, size: usize) {
    sandbox.call::<()>("release", (address, size)).unwrap();
}

/// Live, peak and total, each as blocks and bytes.
fn amounts(profile: &MemoryProfile) -> [(u64, u64); 3] {
    [Live, Peak, Total].map(|measure| (profile.blocks(measure), profile.bytes(measure)))
}

fn folded(profile: &MemoryProfile, measure: MemoryMeasure) -> Vec<(Vec<String>, u64)> {
    let mut text = Vec::new();
    profile.folded(measure, &mut text).unwrap();
    super::lines(&text)
}

/// The bytes of stacks in which the function stands.
fn bytes_of(profile: &MemoryProfile, measure: MemoryMeasure, function: &str) -> u64 {
    folded(profile, measure).iter().filter(|(stack, _)| has(stack, function)).map(|(_, bytes)| bytes).sum()
}

#[test]
fn every_block_is_in_it_with_the_calls_that_have_allocated_it() {
    let mut sandbox = profiled();
    let first = allocate(&mut sandbox, "take_block", 1000);
    allocate(&mut sandbox, "take_zeros", 500);
    release(&mut sandbox, first, 1000);
    allocate(&mut sandbox, "take_block", 300);
    sandbox.call::<()>("churn", (10u32, 40usize)).unwrap();
    let profile = sandbox.take_memory_profile().unwrap();

    assert_eq!(amounts(&profile), [(2, 800), (2, 1500), (13, 2200)]);
    let by_function = |measure| ["take_block", "take_zeros", "churn"].map(|name| bytes_of(&profile, measure, name));
    assert_eq!([Live, Peak, Total].map(by_function), [[300, 500, 0], [1000, 500, 0], [1300, 500, 400]]);
    for (stack, _) in folded(&profile, Total) {
        assert_eq!(stack[0], "_start");
        // Of the allocator there is nothing but the standard library's function.
        let [.., function, innermost] = stack.as_slice() else { panic!("{stack:?}") };
        assert!(is(function, "block") || is(function, "take_zeros"), "{stack:?}");
        assert!(["alloc", "alloc_zeroed"].contains(&innermost.as_str()), "{stack:?}");
    }
    assert_eq!((profile.unknown_frees(), profile.untracked_blocks(), profile.truncated_blocks()), (0, 0, 0));
}

#[test]
fn a_block_of_another_size_is_another_block() {
    let mut sandbox = profiled();
    let address = allocate(&mut sandbox, "take_block", 100);
    let grown: u64 = sandbox.call("resize", (address, 100usize, 5000usize)).unwrap();
    let shrunk: u64 = sandbox.call("resize", (grown, 5000usize, 60usize)).unwrap();
    let profile = sandbox.memory_profile().unwrap();
    assert_eq!(amounts(&profile), [(1, 60), (1, 5000), (3, 5160)]);
    assert_eq!([Live, Peak, Total].map(|measure| bytes_of(&profile, measure, "resize")), [60, 5000, 5060]);
    release(&mut sandbox, shrunk, 60);
    assert_eq!(amounts(&sandbox.take_memory_profile().unwrap())[0], (0, 0));
}

#[test]
fn a_real_guest_and_a_model_agree_after_any_sequence_of_calls() {
    let mut sandbox = profiled();
    let mut live: HashMap<u64, usize> = HashMap::new();
    let (mut peak, mut total) = (0, (0, 0));
    // A linear congruential generator (Knuth), so that the sequence is the same each time.
    let mut state = 1u64;
    let mut next = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for _ in 0..300 {
        let size = 1 + next(3000);
        let of = |live: &HashMap<u64, usize>, index: usize| {
            let mut blocks: Vec<(u64, usize)> = live.iter().map(|(address, size)| (*address, *size)).collect();
            blocks.sort_unstable();
            blocks[index % blocks.len()]
        };
        match next(5) {
            0 if !live.is_empty() => {
                let (address, size) = of(&live, next(100));
                release(&mut sandbox, address, size);
                live.remove(&address);
            }
            1 if !live.is_empty() => {
                let (address, before) = of(&live, next(100));
                let resized: u64 = sandbox.call("resize", (address, before, size)).unwrap();
                live.remove(&address);
                live.insert(resized, size);
                total = (total.0 + 1, total.1 + size as u64);
            }
            _ => {
                live.insert(allocate(&mut sandbox, "take_block", size), size);
                total = (total.0 + 1, total.1 + size as u64);
            }
        }
        let bytes = live.values().map(|size| *size as u64).sum::<u64>();
        peak = peak.max(bytes);
        let profile = sandbox.memory_profile().unwrap();
        let [now, at_peak, all] = amounts(&profile);
        assert_eq!((now, at_peak.1, all), ((live.len() as u64, bytes), peak, total));
    }
}

#[test]
fn no_allocation_is_lost_where_there_are_more_than_have_room_and_text_among_them() {
    let mut sandbox = profiled();
    sandbox.call::<()>("churn", (5000u32, 24usize)).unwrap();
    let profile = sandbox.take_memory_profile().unwrap();
    assert_eq!(amounts(&profile), [(0, 0), (1, 24), (5000, 120_000)]);

    sandbox.profile_memory();
    sandbox.call::<()>("churn_and_print", (2000u32, 24usize)).unwrap();
    let profile = sandbox.take_memory_profile().unwrap();
    assert_eq!(bytes_of(&profile, Total, "block"), 48_000);
}

#[test]
fn records_cost_no_exit_before_there_is_no_more_room() {
    let exits = |sandbox: &mut Sandbox, rounds: u32| {
        let before = sandbox.stats().unwrap().exits;
        sandbox.call::<()>("churn", (rounds, 24usize)).unwrap();
        sandbox.stats().unwrap().exits - before
    };
    let mut sandbox = super::sandbox();
    assert_eq!(exits(&mut sandbox, 10_000), 1);
    sandbox.profile_memory();
    // The stack may have to grow for the walk up it.
    assert!(exits(&mut sandbox, 20) <= 2);
    assert_eq!(exits(&mut sandbox, 20), 1);
    let many = exits(&mut sandbox, 1000);
    assert!((2..50).contains(&many), "{many}");
    sandbox.take_memory_profile().unwrap();
    assert_eq!(exits(&mut sandbox, 10_000), 1);
}

#[test]
fn what_a_guest_prepares_is_in_a_profile_from_its_start() {
    let builder = Sandbox::builder(&profiled_image()).host_fn("work", || ());
    let mut sandbox = builder.profile_memory().build().unwrap();
    let live = |sandbox: &Sandbox| bytes_of(&sandbox.memory_profile().unwrap(), Live, "prepared_block");
    assert_eq!(live(&sandbox), 12_345);
    allocate(&mut sandbox, "take_block", 1000);
    sandbox.reset().unwrap();
    assert_eq!(live(&sandbox), 12_345, "it is live after each reset");
    let profile = sandbox.take_memory_profile().unwrap();
    assert_eq!([Live, Peak, Total].map(|measure| bytes_of(&profile, measure, "take_block")), [0, 1000, 1000]);
}

#[test]
fn a_restored_guest_has_the_live_blocks_of_its_snapshot() {
    let mut sandbox = profiled();
    let early = allocate(&mut sandbox, "take_block", 100);
    let snapshot = sandbox.snapshot().unwrap();
    allocate(&mut sandbox, "take_block", 30);
    release(&mut sandbox, early, 100);
    assert_eq!(amounts(&sandbox.memory_profile().unwrap()), [(1, 30), (2, 130), (2, 130)]);
    sandbox.restore(&snapshot).unwrap();
    assert_eq!(amounts(&sandbox.memory_profile().unwrap()), [(1, 100), (2, 130), (2, 130)]);
    release(&mut sandbox, early, 100);
    assert_eq!(amounts(&sandbox.memory_profile().unwrap())[0], (0, 0));

    // Its blocks are none of a profile that was begun later.
    sandbox.profile_memory();
    sandbox.restore(&snapshot).unwrap();
    release(&mut sandbox, early, 100);
    let profile = sandbox.take_memory_profile().unwrap();
    assert_eq!((amounts(&profile), profile.unknown_frees()), ([(0, 0); 3], 1));

    let mut spawned = snapshot.builder().host_fn("work", || ()).build().unwrap();
    assert!(spawned.memory_profile().is_none());
    spawned.profile_memory();
    allocate(&mut spawned, "take_block", 70);
    assert_eq!(amounts(&spawned.take_memory_profile().unwrap()), [(1, 70); 3]);
}

#[test]
fn a_spawned_sandbox_can_be_profiled_from_its_first_call_on() {
    let mut sandbox = profiled();
    allocate(&mut sandbox, "take_block", 50);
    let snapshot = sandbox.snapshot().unwrap();
    let mut spawned = snapshot.builder().host_fn("work", || ()).profile_memory().build().unwrap();
    // The blocks of the snapshot are those of another profile.
    assert_eq!(amounts(&spawned.memory_profile().unwrap()), [(0, 0); 3]);
    allocate(&mut spawned, "take_block", 70);
    assert_eq!(amounts(&spawned.memory_profile().unwrap()), [(1, 70); 3]);
    spawned.reset().unwrap();
    assert_eq!(amounts(&spawned.take_memory_profile().unwrap()), [(0, 0), (1, 70), (1, 70)]);

    let pool = Pool::builder(&snapshot).size(1).spawn_with(|it| it.host_fn("work", || ()).profile_memory());
    let pool = pool.build().unwrap();
    let mut tenant = pool.take().unwrap();
    allocate(&mut tenant, "take_block", 70);
    assert_eq!(amounts(&tenant.memory_profile().unwrap()), [(1, 70); 3]);
    drop(tenant);
    assert!(pool.take().unwrap().memory_profile().is_none());
}

#[test]
fn a_guest_that_has_used_up_its_memory_shows_what_has_taken_it() {
    let mut sandbox = profiled();
    let error = sandbox.call::<()>("take_all_memory", (1usize << 20,)).unwrap_err();
    assert!(matches!(error, CallError::Panicked { .. } | CallError::Terminated { .. }), "{error}");
    let profile = sandbox.take_memory_profile().unwrap();
    assert!(bytes_of(&profile, Live, "take_all_memory") > 32 << 20, "{profile:?}");
}

#[test]
fn a_call_that_is_ended_has_recorded_what_it_did() {
    let mut sandbox = profiled();
    let call = Call::new("churn", (u32::MAX, 16usize)).deadline(Duration::from_millis(300));
    let error = sandbox.call_with::<(), _>(call).unwrap_err();
    assert!(matches!(&error, CallError::Terminated { cause: Termination::LimitExceeded(_), .. }), "{error}");
    let profile = sandbox.memory_profile().unwrap();
    assert!(profile.blocks(Total) > 10, "{profile:?}");
    assert!(profile.blocks(Live) <= 1);
    sandbox.reset().unwrap();
    allocate(&mut sandbox, "take_block", 10);
    assert_eq!(amounts(&sandbox.take_memory_profile().unwrap())[0], (1, 10));
}

#[test]
fn a_deep_stack_keeps_its_innermost_calls() {
    let mut sandbox = profiled();
    for (depth, truncated) in [(50u32, 0), (500, 1)] {
        sandbox.call::<u64>("take_block_below", (depth, 10usize)).unwrap();
        let profile = sandbox.memory_profile().unwrap();
        assert_eq!(profile.truncated_blocks(), truncated);
    }
    let profile = sandbox.take_memory_profile().unwrap();
    let stacks = folded(&profile, Live);
    assert_eq!(stacks.iter().map(|(_, bytes)| bytes).sum::<u64>(), 20);
    let cut = stacks.iter().find(|(stack, _)| stack[0] == "[truncated]").unwrap();
    assert!(has(&cut.0, "block") && has(&cut.0, "take_block_below"), "{cut:?}");
}

#[test]
fn another_reader_finds_the_same_in_the_pprof_form() {
    let mut sandbox = profiled();
    let first = allocate(&mut sandbox, "take_block", 1000);
    release(&mut sandbox, first, 1000);
    allocate(&mut sandbox, "take_zeros", 200);
    let profile = sandbox.take_memory_profile().unwrap();
    let mut bytes = Vec::new();
    profile.pprof(&mut bytes).unwrap();
    let read = pprof::Profile::decode(&*bytes).unwrap();

    let types: Vec<_> = read.sample_type.iter().map(|it| (read.text(it.r#type), read.text(it.unit))).collect();
    let expected = ["alloc", "peak", "inuse"].map(|kind| [(kind, "objects", "count"), (kind, "space", "bytes")]);
    let expected: Vec<_> =
        expected.concat().iter().map(|(kind, what, unit)| (format!("{kind}_{what}"), *unit)).collect();
    assert_eq!(types, expected.iter().map(|(kind, unit)| (kind.as_str(), *unit)).collect::<Vec<_>>());
    assert_eq!(read.text(read.default_sample_type), "inuse_space");
    let sum = |value: usize| read.sample.iter().map(|sample| sample.value[value] as u64).sum::<u64>();
    let sums: Vec<(u64, u64)> = (0..3).map(|pair| (sum(2 * pair), sum(2 * pair + 1))).collect();
    let [live, peak, total] = amounts(&profile);
    assert_eq!(sums, [total, peak, live]);

    let source = include_str!("../../guests/profiled/src/main.rs");
    let line = source.lines().position(|line| line.contains("alloc_zeroed(layout(size))")).unwrap() as i64 + 1;
    let zeros = read.sample.iter().find(|sample| sample.value[5] == 200).unwrap();
    let calls = read.stack(zeros);
    assert!(calls.iter().any(|call| call.1.ends_with("profiled/src/main.rs") && call.2 == line), "{calls:?} {line}");
}

#[test]
fn flame_graphs_are_images_with_the_functions_in_them() {
    let mut sandbox = profiled();
    let address = allocate(&mut sandbox, "take_block", 1000);
    release(&mut sandbox, address, 1000);
    allocate(&mut sandbox, "take_zeros", 10);
    let profile = sandbox.take_memory_profile().unwrap();
    for (measure, shown) in
        [(Live, ["take_zeros"].as_slice()), (Peak, &["take_block"]), (Total, &["take_block", "take_zeros"])]
    {
        let mut image = Vec::new();
        profile.flame_graph(measure, &mut image).unwrap();
        let titles = super::titles(&String::from_utf8(image).unwrap());
        for function in ["take_block", "take_zeros"] {
            let is_here = |title: &String| title.split_once(" (").is_some_and(|(name, _)| is(name, function));
            assert_eq!(titles.iter().any(is_here), shown.contains(&function), "{measure:?} {function}: {titles:?}");
        }
    }
}

#[test]
fn a_profile_of_nothing_can_be_written_in_all_forms() {
    let mut sandbox = super::sandbox();
    assert!(sandbox.memory_profile().is_none() && sandbox.take_memory_profile().is_none());
    sandbox.profile_memory();
    let profile = sandbox.take_memory_profile().unwrap();
    assert!(sandbox.memory_profile().is_none());
    assert_eq!(amounts(&profile), [(0, 0); 3]);
    for measure in [Live, Peak, Total] {
        assert_eq!(folded(&profile, measure), []);
        profile.flame_graph(measure, &mut Vec::new()).unwrap();
    }
    let mut bytes = Vec::new();
    profile.pprof(&mut bytes).unwrap();
    assert_eq!(pprof::Profile::decode(&*bytes).unwrap().sample, []);
}

#[test]
fn both_profiles_can_be_taken_at_once() {
    let mut sandbox = profiled();
    sandbox.profile(ampoule::Frequency::hz(1000)).unwrap();
    sandbox.call::<()>("churn", (3000u32, 24usize)).unwrap();
    assert!(sandbox.take_profile().is_some());
    assert_eq!(sandbox.take_memory_profile().unwrap().blocks(Total), 3000);
}

#[test]
fn forged_records_make_no_more_than_a_wrong_profile() {
    let record = |kind: u32, flags: u32, address: u64, size: u64, callers: &[u64]| {
        let words = [u64::from(flags) << 32 | u64::from(kind), address, size];
        let content: Vec<u8> = words.iter().chain(callers).flat_map(|word| word.to_le_bytes()).collect();
        [&5u16.to_le_bytes()[..], &(content.len() as u16).to_le_bytes(), &content].concat()
    };
    let wild = [0, 1, 0x1_0000, 0x7f80_0000_0000, 0x7fff_ffff_fff8, u64::MAX];
    let mut records = Vec::new();
    for address in wild {
        records.extend(record(1, 1, address, u64::MAX, &wild));
        records.extend(record(2, 0, address ^ 8, 0, &[]));
    }
    let image = hostile_image();
    let mut sandbox = Sandbox::builder(&image).build().unwrap();
    let forge = |sandbox: &mut Sandbox, records: &[u8]| {
        sandbox.call::<()>("forge_output", (records, records.len() as u32, "return"))
    };
    forge(&mut sandbox, &records).unwrap();
    assert!(sandbox.memory_profile().is_none(), "nobody has asked for them");

    sandbox.profile_memory();
    forge(&mut sandbox, &records).unwrap();
    let profile = sandbox.memory_profile().unwrap();
    assert!(profile.blocks(Live) >= wild.len() as u64);
    for measure in [Live, Peak, Total] {
        assert!(!folded(&profile, measure).is_empty());
    }
    profile.pprof(&mut Vec::new()).unwrap();
    profile.flame_graph(Total, &mut Vec::new()).unwrap();

    let error = forge(&mut sandbox, &record(1, 2, 0, 0, &[])).unwrap_err();
    assert!(matches!(&error, CallError::Terminated { cause: Termination::Protocol(_), .. }), "{error}");
}
