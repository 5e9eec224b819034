//! Profiles of guests of which it is known where their time goes.
//!
//! The machine may be busy, so no test counts on a certain number of samples, only on shares of the CPU time.

mod memory;
mod pprof;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use ampoule::{Call, CallError, Frequency, Profile, Sandbox, Termination};
use ampoule_tests::profiled_image;
use prost::Message;

fn sandbox() -> Sandbox {
    Sandbox::builder(&profiled_image()).host_fn("work", || spend(Duration::from_millis(2))).build().unwrap()
}

/// Spends CPU time on the host.
fn spend(time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {}
}

/// What was sampled while `act` was at it, again and again until there is enough to see.
fn profile<R>(sandbox: &mut Sandbox, mut act: impl FnMut(&mut Sandbox) -> R) -> Profile {
    let mut sampled = || {
        sandbox.profile(Frequency::hz(1000)).unwrap();
        act(sandbox);
        sandbox.take_profile().unwrap()
    };
    let mut profile = sampled();
    while profile.samples() < ENOUGH {
        profile.merge(sampled());
    }
    profile
}

const ENOUGH: u64 = 100;

/// The lines of folded stacks: functions and microseconds.
fn folded(profile: &Profile) -> Vec<(Vec<String>, u64)> {
    let mut text = Vec::new();
    profile.folded(&mut text).unwrap();
    lines(&text)
}

fn lines(text: &[u8]) -> Vec<(Vec<String>, u64)> {
    let line = |line: &str| {
        let (stack, value) = line.rsplit_once(' ').unwrap();
        (stack.split(';').map(str::to_owned).collect(), value.parse().unwrap())
    };
    str::from_utf8(text).unwrap().lines().map(line).collect()
}

/// The share of the time in stacks that this holds for.
fn share(stacks: &[(Vec<String>, u64)], holds: impl Fn(&[String]) -> bool) -> f64 {
    let sum = |stacks: &mut dyn Iterator<Item = &(Vec<String>, u64)>| stacks.map(|(_, time)| *time).sum::<u64>() as f64;
    sum(&mut stacks.iter().filter(|(stack, _)| holds(stack))) / sum(&mut stacks.iter())
}

/// Whether that is the function's name. Debug information of source lines only has no more than that of what was inlined.
fn is(name: &str, function: &str) -> bool {
    name == function || name.strip_prefix("profiled::") == Some(function)
}

fn has(stack: &[String], function: &str) -> bool {
    stack.iter().any(|name| is(name, function))
}

#[test]
fn functions_have_the_shares_of_the_time_that_they_take() {
    let mut sandbox = sandbox();
    let profile = profile(&mut sandbox, |sandbox| sandbox.call::<u64>("three_to_one", (1000u32,)).unwrap());
    let stacks = folded(&profile);
    let [three, one] = ["three", "one"].map(|name| share(&stacks, |stack| has(stack, name)));
    assert!(three + one > 0.9, "{three} {one}: {stacks:?}");
    assert!((0.6..0.9).contains(&three), "{three} {one}");
}

#[test]
fn a_stack_is_the_calls_from_the_programs_start_on_and_inlined_functions_stand_behind_their_callers() {
    let mut sandbox = sandbox();
    let profile = profile(&mut sandbox, |sandbox| sandbox.call::<u64>("recurse", (5u32, 1000u32)).unwrap());
    let stacks = folded(&profile);
    let expected: Vec<&str> = ["recurse"].into_iter().chain(["descend"; 6]).chain(["one", "mix"]).collect();
    let as_expected = |stack: &[String]| {
        let own = stack.iter().filter(|name| expected.iter().any(|function| is(name, function)));
        stack[0] == "_start"
            && own.zip(&expected).filter(|(name, function)| is(name, function)).count() == expected.len()
    };
    let share = share(&stacks, as_expected);
    assert!(share > 0.8, "{share}: {stacks:#?}");
}

#[test]
fn time_on_the_host_stands_behind_the_function_that_has_asked_for_it() {
    let mut sandbox = sandbox();
    let profile = profile(&mut sandbox, |sandbox| sandbox.call::<()>("on_host", (100u32,)).unwrap());
    let stacks = folded(&profile);
    let is_work =
        |stack: &[String]| stack.last().is_some_and(|name| name == "[host function]") && has(stack, "on_host");
    let share = share(&stacks, is_work);
    assert!(share > 0.8, "{share}: {stacks:#?}");
}

#[test]
fn a_guest_that_sleeps_takes_no_cpu_time() {
    let mut sandbox = sandbox();
    sandbox.profile(Frequency::hz(1000)).unwrap();
    sandbox.call::<()>("sleep", (300u64,)).unwrap();
    let profile = sandbox.take_profile().unwrap();
    assert!(profile.samples() >= 1);
    assert!(profile.cpu_time() < Duration::from_millis(150), "{profile:?}");
}

#[test]
fn the_samples_together_stand_for_the_cpu_time_of_the_calls() {
    let mut sandbox = sandbox();
    // Most of these calls are shorter than the time between two samples.
    sandbox.profile(Frequency::hz(200)).unwrap();
    let before = cpu_time();
    while cpu_time() - before < Duration::from_millis(400) {
        sandbox.call::<u64>("three_to_one", (5u32,)).unwrap();
    }
    let used = cpu_time() - before;
    let profile = sandbox.take_profile().unwrap();
    assert!(profile.cpu_time() <= used, "{profile:?} {used:?}");
    assert!(profile.cpu_time() >= used / 2, "{profile:?} {used:?}");
    assert!(profile.samples() >= 5, "{profile:?}");
}

fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the clock exists, and the time is writable.
    assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) }, 0);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[test]
fn another_reader_finds_the_same_stacks_in_the_pprof_form() {
    let mut sandbox = sandbox();
    let profile = profile(&mut sandbox, |sandbox| {
        sandbox.call::<u64>("recurse", (2u32, 500u32)).unwrap();
        sandbox.call::<()>("on_host", (20u32,)).unwrap();
    });
    let mut bytes = Vec::new();
    profile.pprof(&mut bytes).unwrap();
    let read = pprof::Profile::decode(&*bytes).unwrap();

    let types: Vec<_> = read.sample_type.iter().map(|it| (read.text(it.r#type), read.text(it.unit))).collect();
    assert_eq!(types, [("samples", "count"), ("cpu", "nanoseconds")]);
    assert_eq!(read.string_table[0], "");
    assert_eq!(read.period, 1_000_000);
    assert!(read.time_nanos > 0 && read.duration_nanos > 0);
    assert_eq!(read.mapping.len(), 1);
    assert_eq!(read.text(read.mapping[0].filename), "profiled");

    let sum = |value: usize| read.sample.iter().map(|sample| sample.value[value]).sum::<i64>() as u128;
    assert_eq!((sum(0), sum(1)), (u128::from(profile.samples()), profile.cpu_time().as_nanos()));
    let names =
        |stack: Vec<(&str, &str, i64)>| stack.iter().map(|(name, ..)| name.replace(';', ":")).collect::<Vec<_>>();
    let theirs: HashSet<Vec<String>> = read.sample.iter().map(|sample| names(read.stack(sample))).collect();
    assert!(folded(&profile).iter().all(|(stack, _)| theirs.contains(stack)));

    // Lines are those of the calls, not of what comes after them.
    let source = include_str!("../../guests/profiled/src/main.rs");
    let line_of = |text: &str| source.lines().position(|line| line.contains(text)).unwrap() as i64 + 1;
    let recursion = line_of("black_box(descend(black_box(depth - 1), rounds))");
    let calls: Vec<_> = read.sample.iter().flat_map(|sample| read.stack(sample)).collect();
    let descends: HashSet<_> = calls.iter().filter(|(name, ..)| *name == "profiled::descend").map(|it| it.2).collect();
    assert!(descends.contains(&recursion), "{descends:?} {recursion}");
    let file = calls.iter().find(|(name, ..)| *name == "profiled::descend").unwrap().1;
    assert!(file.ends_with("profiled/src/main.rs"), "{file}");
    for location in read.location.iter().filter(|location| location.mapping_id != 0) {
        let within = read.mapping[0].memory_start..read.mapping[0].memory_limit;
        let is_own = location.line.iter().any(|line| {
            let function = read.function.iter().find(|it| it.id == line.function_id).unwrap();
            read.text(function.name).starts_with("profiled::")
        });
        assert!(!is_own || within.contains(&location.address), "{location:?}");
    }
}

#[test]
fn a_flame_graph_is_an_image_with_the_functions_in_it() {
    let mut sandbox = sandbox();
    let profile = profile(&mut sandbox, |sandbox| sandbox.call::<u64>("three_to_one", (1000u32,)).unwrap());
    let mut image = Vec::new();
    profile.flame_graph(&mut image).unwrap();
    let titles = titles(&String::from_utf8(image).unwrap());
    for function in ["three_to_one", "three", "one", "mix"] {
        let is_here = |title: &String| title.split_once(" (").is_some_and(|(name, _)| is(name, function));
        assert!(titles.iter().any(is_here), "{function}: {titles:?}");
    }
}

/// The titles of an image's parts.
fn titles(image: &str) -> Vec<String> {
    let options = roxmltree::ParsingOptions { allow_dtd: true, ..Default::default() };
    let image = roxmltree::Document::parse_with_options(image, options).unwrap();
    assert_eq!(image.root_element().tag_name().name(), "svg");
    let titles = image.descendants().filter(|node| node.has_tag_name(("http://www.w3.org/2000/svg", "title")));
    titles.filter_map(|node| node.text()).map(str::to_owned).collect()
}

#[test]
fn an_empty_profile_can_be_written_in_all_forms() {
    let mut sandbox = sandbox();
    assert!(sandbox.take_profile().is_none());
    sandbox.profile(Frequency::default()).unwrap();
    let profile = sandbox.take_profile().unwrap();
    assert!(sandbox.take_profile().is_none());
    assert_eq!((profile.samples(), profile.cpu_time()), (0, Duration::ZERO));
    assert_eq!(folded(&profile), []);
    let mut bytes = Vec::new();
    profile.pprof(&mut bytes).unwrap();
    assert_eq!(pprof::Profile::decode(&*bytes).unwrap().sample, []);
    profile.flame_graph(&mut Vec::new()).unwrap();
}

#[test]
fn wild_stacks_end_somewhere() {
    let mut sandbox = sandbox();
    let wild = [0, 1, 0x1_0000, 0x7f80_0000_0000, 0x7fff_ffff_fff8, u64::MAX];
    sandbox.profile(Frequency::hz(1000)).unwrap();
    for frame_pointer in wild {
        for stack_pointer in wild {
            sandbox.call::<()>("wild_stack", (frame_pointer, stack_pointer, 10_000_000u64)).unwrap();
        }
    }
    let profile = sandbox.take_profile().unwrap();
    assert!(profile.samples() >= 10);
    let stacks = folded(&profile);
    assert!(share(&stacks, |stack| has(stack, "wild_stack")) > 0.8, "{stacks:?}");
    assert!(stacks.iter().all(|(stack, _)| stack.len() < 1000));
}

#[test]
fn a_guest_with_more_stacks_than_are_kept_loses_no_sample() {
    let mut sandbox = sandbox();
    let profile = profile(&mut sandbox, |sandbox| sandbox.call::<u64>("many_stacks", (17u32, 100_000u32)).unwrap());
    let stacks = folded(&profile);
    assert!(stacks.len() > 20, "{}", stacks.len());
    let mut bytes = Vec::new();
    profile.pprof(&mut bytes).unwrap();
    let read = pprof::Profile::decode(&*bytes).unwrap();
    assert_eq!(read.sample.iter().map(|sample| sample.value[0] as u64).sum::<u64>(), profile.samples());
}

#[test]
fn a_deep_stack_is_cut_and_says_so() {
    let mut sandbox = sandbox();
    let profile = profile(&mut sandbox, |sandbox| sandbox.call::<u64>("recurse", (1000u32, 500u32)).unwrap());
    assert!(profile.truncated_samples() > 0);
    let stacks = folded(&profile);
    assert!(share(&stacks, |stack| stack[0] == "[truncated]" && has(stack, "one")) > 0.8, "{stacks:?}");
}

#[test]
fn calls_end_as_they_do_without_a_profile() {
    let mut sandbox = sandbox();
    sandbox.profile(Frequency::MAX).unwrap();
    let call = Call::new("spin", ()).deadline(Duration::from_millis(50));
    let error = sandbox.call_with::<(), _>(call).unwrap_err();
    assert!(matches!(&error, CallError::Terminated { cause: Termination::LimitExceeded(_), .. }), "{error}");

    sandbox.reset().unwrap();
    let handle = sandbox.interrupt_handle();
    let killer = std::thread::spawn(move || {
        while !handle.is_running() {
            std::thread::yield_now();
        }
        handle.kill()
    });
    let error = sandbox.call::<()>("spin", ()).unwrap_err();
    assert!(matches!(&error, CallError::Terminated { cause: Termination::Killed, .. }), "{error}");
    killer.join().unwrap();

    sandbox.reset().unwrap();
    let error = sandbox.call::<()>("work_and_abort", (500u32,)).unwrap_err();
    assert!(matches!(&error, CallError::Terminated { cause: Termination::Fault(_), .. }), "{error}");
    let samples = sandbox.take_profile().unwrap().samples();
    assert!(samples > 0);

    sandbox.reset().unwrap();
    let before = sandbox.stats().unwrap();
    sandbox.call::<u64>("three_to_one", (100u32,)).unwrap();
    let without = sandbox.stats().unwrap().exits - before.exits;
    assert_eq!(without, 1, "no sample is taken any more");
}

#[test]
fn a_reset_and_a_spawn_leave_the_profile_with_the_sandbox_that_has_it() {
    let mut sandbox = sandbox();
    let snapshot = sandbox.snapshot().unwrap();
    let profile = profile(&mut sandbox, |sandbox| {
        sandbox.restore(&snapshot).unwrap();
        sandbox.call::<u64>("three_to_one", (200u32,)).unwrap();
        sandbox.reset().unwrap();
    });
    assert!(profile.samples() >= ENOUGH);
    let mut spawned = sandbox.snapshot().unwrap().builder().host_fn("work", || ()).build().unwrap();
    assert!(spawned.take_profile().is_none());
}

#[test]
fn profiles_of_several_sandboxes_add_up() {
    let mut sandboxes = [sandbox(), sandbox()];
    let [mut first, second] = sandboxes
        .each_mut()
        .map(|sandbox| profile(sandbox, |sandbox| sandbox.call::<u64>("three_to_one", (500u32,)).unwrap()));
    let samples = first.samples() + second.samples();
    let time = first.cpu_time() + second.cpu_time();
    first.merge(second);
    assert_eq!((first.samples(), first.cpu_time()), (samples, time));
    let mut bytes = Vec::new();
    first.pprof(&mut bytes).unwrap();
    assert_eq!(pprof::Profile::decode(&*bytes).unwrap().mapping.len(), 1, "both are of one image");
}
