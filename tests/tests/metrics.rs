//! Each metric rises by what it counts, and by nothing else. `docs/metrics.md` has all of them.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use ampoule::{
    Builder, Call, DebuggerAddress, Executable, GdbServer, Image, InterruptHandle, KillOutcome, Limits, Output, Pool,
    PoolError, Program, Sandbox, Snapshot,
};
use ampoule_tests::{calls_image, calls_sandbox, calls_spawn, hostile_sandbox};
use metrics::Unit;
use metrics_util::MetricKind;
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};

#[test]
fn a_call_is_counted_by_how_it_ended_and_its_exits_by_their_reasons() {
    let metrics = Metrics::exclusive();
    let mut sandbox = calls_sandbox();
    let call = |outcome: &str| changes([(&outcome_of(outcome), 1.0), ("ampoule_call_seconds", 1.0), (DOORBELL, 1.0)]);
    assert_eq!(metrics.of(|| sandbox.call::<()>("empty", ()).unwrap()), call("ok"));
    assert_eq!(metrics.of(|| sandbox.call::<u32>("divide", (1u32, 0u32)).unwrap_err()), call("function_error"));
    let as_value = metrics.of(|| sandbox.call::<Result<u32, String>>("divide", (1u32, 0u32)).unwrap().unwrap_err());
    assert_eq!(as_value, call("function_error"));
    let panicked = metrics.of(|| sandbox.call::<()>("panics", ("text",)).unwrap_err());
    assert_eq!(panicked[&outcome_of("panicked")], 1.0);
    assert!(!panicked.contains_key(&outcome_of("ok")), "{panicked:?}");

    let printed = metrics.of(|| sandbox.call::<()>("write_by_system_call", ("text", 3u32)).unwrap());
    assert_eq!(printed["ampoule_exits_total{reason=system_call}"], 3.0);
}

#[test]
fn a_call_that_does_not_reach_the_guest_is_counted_by_what_is_wrong_with_it() {
    let metrics = Metrics::exclusive();
    let (mut sandbox, other) = (calls_sandbox(), hostile_sandbox());
    let refused = |outcome: &str| changes([(&outcome_of(outcome), 1.0)]);
    assert_eq!(metrics.of(|| sandbox.call::<()>("no_such_function", ()).unwrap_err()), refused("unknown_function"));
    assert_eq!(metrics.of(|| sandbox.call::<()>("empty", (1u8,)).unwrap_err()), refused("types"));
    let foreign = other.typed_fn::<(), bool>("alive").unwrap();
    assert_eq!(metrics.of(|| foreign.call(&mut sandbox, ()).unwrap_err()), refused("types"));

    let timed = |outcome: &str| changes([(&outcome_of(outcome), 1.0), ("ampoule_call_seconds", 1.0)]);
    let text = "x".repeat(2 << 20);
    assert_eq!(metrics.of(|| sandbox.call::<String>("echo_text", (&text,)).unwrap_err()), timed("too_large"));
    sandbox.call::<()>("fault", ()).unwrap_err();
    assert_eq!(metrics.of(|| sandbox.call::<()>("empty", ()).unwrap_err()), timed("poisoned"));
}

#[test]
fn a_guest_that_ends_itself_is_counted_by_what_it_did() {
    let metrics = Metrics::exclusive();
    let mut sandbox = calls_sandbox();
    for (function, fault, exit) in [
        ("fault", "page_fault", "page_fault"),
        ("abort", "aborted", "system_call"),
        ("panics_twice", "panicked", "system_call"),
    ] {
        let found = metrics.of(|| sandbox.call::<()>(function, ()).unwrap_err());
        assert_eq!(found[&outcome_of("fault")], 1.0, "{function}");
        assert_eq!(found[&format!("ampoule_faults_total{{kind={fault}}}")], 1.0, "{function}: {found:?}");
        assert!(found[&format!("ampoule_exits_total{{reason={exit}}}")] >= 1.0, "{function}: {found:?}");
        sandbox.reset().unwrap();
    }
    let found = metrics.of(|| sandbox.call::<()>("exit", (3i32,)).unwrap_err());
    assert_eq!(found["ampoule_faults_total{kind=exited}"], 1.0);
    let mut hostile = hostile_sandbox();
    let found = metrics.of(|| hostile.call::<bool>("privileged", ("hlt",)).unwrap_err());
    assert_eq!(found["ampoule_faults_total{kind=exception}"], 1.0);
    assert_eq!(found["ampoule_exits_total{reason=exception}"], 1.0);
    hostile.reset().unwrap();
    let found = metrics.of(|| hostile.call::<bool>("forge", (1u64, 9u32, 0u32, 0u32, 0u32)).unwrap_err());
    assert_eq!(found[&outcome_of("protocol")], 1.0);
    assert!(!found.keys().any(|name| name.starts_with("ampoule_faults_total")), "{found:?}");
}

#[test]
fn a_call_that_exceeds_a_limit_is_counted_by_the_limit() {
    let metrics = Metrics::exclusive();
    let mut sandbox = calls_sandbox();
    let short = Duration::from_millis(5);
    for (function, limits, outcome) in [
        ("spin", Limits::new().deadline(short), "deadline"),
        ("spin", Limits::new().cpu_time(short), "cpu_time"),
        ("notify_for_ever", Limits::new().host_calls(5), "host_call_limit"),
        ("read_the_clock_for_ever", Limits::new().system_calls(5), "system_call_limit"),
    ] {
        let found = metrics.of(|| sandbox.call_with::<(), _>(Call::new(function, ()).limits(limits)).unwrap_err());
        assert_eq!(found[&outcome_of(outcome)], 1.0, "{function}: {found:?}");
        sandbox.reset().unwrap();
    }
    let print = Call::new("print", ("more than five bytes",)).limits(Limits::new().output(5));
    let found = metrics.of(|| sandbox.call_with::<(), _>(print).unwrap_err());
    assert_eq!(found[&outcome_of("output_limit")], 1.0);
}

#[test]
fn exits_are_counted_while_a_debugger_follows_the_guest_and_no_others_are() {
    let metrics = Metrics::exclusive();
    let image = Image::embedded(ampoule::include_guest!("debugger-fixed")).unwrap();
    let socket = std::env::temp_dir().join(format!("ampoule-metrics-{}.sock", std::process::id()));
    let server = GdbServer::listen(&DebuggerAddress::Unix(socket.clone())).unwrap();
    let mut gdb = Command::new("gdb");
    gdb.args(["-nx", "-batch", "-ex", &format!("target remote {}", socket.display()), "-ex", "break total"]);
    gdb.args(["-ex", "continue", "-ex", "stepi 20", "-ex", "continue"]).stdout(Stdio::null()).stderr(Stdio::null());
    let mut gdb = gdb.spawn().expect("these tests need gdb: install the package `gdb`");
    let total = |builder: Builder| {
        let mut found = metrics.of(|| {
            let mut sandbox = builder.build().unwrap();
            assert_eq!(sandbox.call::<u64>("total", (4u64,)).unwrap(), 10);
        });
        found.retain(|name, _| !name.contains("seconds"));
        found
    };
    let mut found = total(Sandbox::builder(&image).gdb(server));
    gdb.wait().unwrap();
    assert_eq!(found.remove("ampoule_exits_total{reason=step}"), Some(20.0));
    assert_eq!(found.remove("ampoule_exits_total{reason=exception}"), Some(1.0), "the breakpoint");
    // To hold a guest is none.
    assert_eq!(found, total(Sandbox::builder(&image)));
}

#[test]
fn a_kill_is_counted_by_what_became_of_it_and_one_that_comes_too_late_too() {
    let metrics = Metrics::exclusive();
    let mut sandbox = calls_sandbox();
    let handle = sandbox.interrupt_handle();
    let found = metrics.of(|| {
        let killer = kill_soon(handle.clone());
        sandbox.call::<()>("spin", ()).unwrap_err();
        assert_eq!(killer.join().unwrap(), KillOutcome::Killed);
        sandbox.reset().unwrap();
        // A kill is passed on by the next call.
        sandbox.call::<()>("empty", ()).unwrap();
    });
    assert_eq!(found[&outcome_of("killed")], 1.0);
    assert_eq!(found["ampoule_kills_total{outcome=killed}"], 1.0);

    let found = metrics.of(|| {
        assert_eq!([handle.kill(), handle.kill()], [KillOutcome::NotRunning; 2]);
        sandbox.call::<()>("empty", ()).unwrap();
    });
    assert_eq!(found["ampoule_kills_total{outcome=not_running}"], 2.0);
    assert_eq!(found[&outcome_of("ok")], 1.0);

    // Or by a sandbox that is dropped.
    let found = metrics.of(|| {
        handle.kill();
        drop(calls_sandbox());
    });
    assert_eq!(found["ampoule_kills_total{outcome=not_running}"], 1.0);
}

#[test]
fn host_calls_are_counted_by_the_name_of_the_function() {
    let metrics = Metrics::exclusive();
    let mut sandbox = calls_sandbox();
    let found = metrics.of(|| sandbox.call::<u32>("count_on_host", (3u32,)).unwrap());
    assert_eq!(found["ampoule_host_calls_total{function=add,outcome=ok}"], 3.0);
    assert_eq!(found["ampoule_host_call_seconds{function=add}"], 3.0);
    assert_eq!(found[DOORBELL], 4.0);
    let found = metrics.of(|| sandbox.call::<String>("parse_or_reason", ("no number",)).unwrap());
    assert_eq!(found["ampoule_host_calls_total{function=parse,outcome=error}"], 1.0);

    let panics = calls_builder_with_notify(|| panic!("the host function panics"));
    let mut sandbox = panics.build().unwrap();
    let found = metrics.of(|| {
        let call = std::panic::AssertUnwindSafe(|| sandbox.call::<()>("notify_host", (1u32,)));
        std::panic::catch_unwind(call).unwrap_err()
    });
    assert_eq!(found[&outcome_of("host_panicked")], 1.0);
}

#[test]
fn what_is_done_with_sandboxes_is_counted_and_so_are_the_sandboxes() {
    let metrics = Metrics::exclusive();
    let operation = |operation: &str| format!("ampoule_operations_total{{operation={operation},outcome=ok}}");
    let mut sandboxes = Vec::new();
    let found = metrics.of(|| sandboxes.push(calls_sandbox()));
    assert_eq!(found[&operation("create")], 1.0);
    assert_eq!(found[&operation("snapshot")], 1.0, "the initial one");
    assert_eq!(found["ampoule_sandboxes"], 1.0);
    assert_eq!(found["ampoule_operation_seconds{operation=create}"], 1.0);
    let [sandbox] = &mut sandboxes[..] else { unreachable!() };

    let mut snapshots: Vec<Snapshot> = Vec::new();
    let found = metrics.of(|| snapshots.push(sandbox.snapshot().unwrap()));
    assert_eq!(found[&operation("snapshot")], 1.0);
    sandbox.call::<u32>("increment", ()).unwrap();
    let before = sandbox.stats().unwrap();
    let found = metrics.of(|| sandbox.restore(&snapshots[0]).unwrap());
    assert_eq!(found[&operation("restore")], 1.0);
    let pages = sandbox.stats().unwrap().pages_restored - before.pages_restored;
    assert_eq!(found["ampoule_pages_restored_total"], pages as f64);
    assert!(pages > 0);

    let found = metrics.of(|| sandboxes.push(calls_spawn(snapshots[0].builder()).build().unwrap()));
    assert_eq!(found[&operation("spawn")], 1.0);
    assert_eq!(found["ampoule_sandboxes"], 1.0);
    assert_eq!(metrics.of(|| sandboxes.clear())["ampoule_sandboxes"], -2.0);

    let found = metrics.of(|| Sandbox::builder(&calls_image()).build().unwrap_err());
    assert_eq!(found["ampoule_operations_total{operation=create,outcome=error}"], 1.0);
    assert!(!found.contains_key("ampoule_sandboxes"));
}

#[test]
fn a_run_of_a_program_is_counted_by_how_it_ended_and_the_program_exists() {
    let metrics = Metrics::exclusive();
    let executable = Executable::from_bytes(include_bytes!(env!("PREPARED")).as_slice()).unwrap();
    let run = |outcome: &str| format!("ampoule_runs_total{{outcome={outcome}}}");
    let operation = |operation: &str| format!("ampoule_operations_total{{operation={operation},outcome=ok}}");
    let mut idle = None;
    let found = metrics.of(|| {
        let program = Program::of(&executable).arg("read").start().unwrap();
        idle = Some(program.run_until_input().unwrap());
    });
    for (name, count) in [
        (run("awaits_input"), 1.0),
        ("ampoule_run_seconds".to_owned(), 1.0),
        (operation("create"), 1.0),
        (operation("snapshot"), 1.0),
        ("ampoule_sandboxes".to_owned(), 1.0),
    ] {
        assert_eq!(found[&name], count, "{name}");
    }
    let program = idle.as_mut().unwrap();
    for (request, limits, outcome) in [
        ("show\n", Limits::new(), "exited"),
        ("exit 3\n", Limits::new(), "failed"),
        ("abort\n", Limits::new(), "fault"),
        ("show\n", Limits::new().system_calls(1), "system_call_limit"),
        ("show\n", Limits::new().output(0), "output_limit"),
    ] {
        let found = metrics.of(|| drop(program.input(request).limits(limits).run()));
        assert_eq!(found[&run(outcome)], 1.0, "{request}: {found:?}");
        assert_eq!(found.keys().any(|name| name.starts_with("ampoule_faults_total")), outcome == "fault");
        assert!(found.keys().any(|name| name.starts_with("ampoule_exits_total")), "{found:?}");
        assert_eq!(metrics.of(|| program.reset().unwrap())[&operation("restore")], 1.0);
    }
    assert_eq!(metrics.of(|| drop(idle.take()))["ampoule_sandboxes"], -1.0);
}

#[test]
fn memory_is_that_of_all_sandboxes_together_and_goes_with_them() {
    let metrics = Metrics::exclusive();
    let mut sandbox = calls_sandbox();
    sandbox.call::<()>("prepare_pages", (300u32, 1u8)).unwrap();
    let snapshot = sandbox.snapshot().unwrap();
    let mut spawned = Vec::new();
    let found =
        metrics.with_memory(|| spawned.extend((0..2).map(|_| calls_spawn(snapshot.builder()).build().unwrap())));
    let [first, _] = &mut spawned[..] else { unreachable!() };
    let shared = first.stats().unwrap().shared_bytes;
    assert!(shared >= 300 * 4096);
    assert_eq!(found["ampoule_memory_shared_bytes"], 2.0 * shared as f64);

    // It is looked at once in a second at most.
    thread::sleep(Duration::from_millis(1100));
    let found = metrics.with_memory(|| first.call::<u64>("write_pages", (300u32, 2u8)).unwrap());
    assert!(found["ampoule_memory_owned_bytes"] >= 300.0 * 4096.0, "{found:?}");
    let found = metrics.with_memory(|| spawned.clear());
    assert_eq!(found["ampoule_memory_shared_bytes"], -2.0 * shared as f64);
    assert!(found["ampoule_memory_owned_bytes"] <= -300.0 * 4096.0, "{found:?}");
}

#[test]
fn a_pool_shows_its_size_who_has_a_sandbox_and_who_waits() {
    let metrics = Metrics::exclusive();
    let snapshot = calls_sandbox().snapshot().unwrap();
    let mut pools = Vec::new();
    let found = metrics.of(|| pools.push(Pool::builder(&snapshot).size(1).spawn_with(calls_spawn).build().unwrap()));
    assert_eq!(found["ampoule_pool_size"], 1.0);
    let mut taken = Vec::new();
    let found = metrics.of(|| taken.push(pools[0].take().unwrap()));
    assert_eq!(found, changes([("ampoule_pool_taken", 1.0), (&take("at_once"), 1.0)]));
    let found = metrics.of(|| assert!(matches!(pools[0].try_take(), Err(PoolError::Exhausted { .. }))));
    assert_eq!(found, changes([(&take("exhausted"), 1.0)]));
    let timeout = Duration::from_millis(1);
    let found = metrics.of(|| assert!(matches!(pools[0].take_timeout(timeout), Err(PoolError::TimedOut { .. }))));
    assert_eq!(found, changes([(&take("timed_out"), 1.0), ("ampoule_pool_wait_seconds", 1.0)]));

    let (pool, mut waiter) = (pools[0].clone(), None);
    let found = metrics.of(|| {
        waiter = Some(thread::spawn(move || drop(pool.take().unwrap())));
        until_waiting(&pools[0], 1);
    });
    assert_eq!(found, changes([("ampoule_pool_waiting", 1.0)]));
    let found = metrics.of(|| {
        taken.clear();
        waiter.take().unwrap().join().unwrap();
    });
    for (name, change) in
        [("ampoule_pool_waiting", -1.0), (&take("waited"), 1.0), ("ampoule_pool_wait_seconds", 1.0), (RECYCLED, 2.0)]
    {
        assert_eq!(found[name], change, "{name}");
    }
    assert_eq!(metrics.of(|| pools.clear())["ampoule_pool_size"], -1.0);
}

#[test]
fn whoever_gives_up_waiting_for_a_sandbox_no_longer_waits() {
    let metrics = Metrics::exclusive();
    let snapshot = calls_sandbox().snapshot().unwrap();
    let pool = Pool::builder(&snapshot).size(1).spawn_with(calls_spawn).build().unwrap();
    let taken = pool.take().unwrap();
    let found = metrics.of(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let waiting = runtime.spawn({
            let pool = pool.clone();
            async move { pool.take_async().await.map(drop) }
        });
        until_waiting(&pool, 1);
        waiting.abort();
        drop(runtime);
    });
    assert_eq!(found, changes([(&take("given_up"), 1.0), ("ampoule_pool_wait_seconds", 1.0)]));
    drop(taken);
}

#[test]
fn no_text_of_a_guest_becomes_a_label() {
    let metrics = Metrics::exclusive();
    let before = metrics.names().len();
    let mut hostile = hostile_sandbox();
    for payload in [b"\xff\xff".as_slice(), b"label"] {
        hostile.call::<Vec<String>>("answer_with", (1u64, 4u32, payload, payload.len() as u32)).unwrap_err();
        hostile.reset().unwrap();
    }
    assert_eq!(metrics.names().len(), before);
}

#[test]
fn the_documentation_has_every_metric_with_its_labels_and_its_unit() {
    let metrics = Metrics::exclusive();
    calls_sandbox().call::<u32>("count_on_host", (1u32,)).unwrap();
    let documented = include_str!("../../docs/metrics.md");
    let rows: BTreeMap<&str, Vec<&str>> = documented
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter(|line| line.starts_with("ampoule_"))
        .map(|line| {
            let mut cells = line.split('|').map(|cell| cell.trim().trim_matches('`'));
            (cells.next().unwrap(), cells.collect())
        })
        .collect();
    let mut seen = BTreeMap::new();
    for (key, unit, description, _) in metrics.snapshotter().snapshot().into_vec() {
        let kind = match key.kind() {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        };
        let unit = match unit.expect("each has a unit") {
            Unit::Count => "",
            Unit::Bytes => "bytes",
            Unit::Seconds => "seconds",
            other => panic!("{other:?}"),
        };
        assert!(description.is_some_and(|text| !text.is_empty()), "{key:?}");
        let labels: Vec<_> = key.key().labels().map(|label| label.key().to_owned()).collect();
        for label in key.key().labels().filter(|label| label.key() != "function") {
            assert!(documented.contains(&format!("`{}`", label.value())), "docs/metrics.md lacks {label:?}");
        }
        seen.insert(key.key().name().to_owned(), [kind.to_owned(), unit.to_owned(), labels.join(", ")]);
    }
    assert_eq!(seen.keys().map(String::as_str).collect::<Vec<_>>(), rows.keys().copied().collect::<Vec<_>>());
    for (name, found) in seen {
        assert_eq!(rows[name.as_str()][..3], found, "{name}");
    }
}

const DOORBELL: &str = "ampoule_exits_total{reason=doorbell}";
const RECYCLED: &str = "ampoule_pool_recycled_total";

fn outcome_of(call: &str) -> String {
    format!("ampoule_calls_total{{outcome={call}}}")
}

fn take(outcome: &str) -> String {
    format!("ampoule_pool_takes_total{{outcome={outcome}}}")
}

fn changes<const N: usize>(changes: [(&str, f64); N]) -> BTreeMap<String, f64> {
    changes.into_iter().map(|(name, change)| (name.to_owned(), change)).collect()
}

fn calls_builder_with_notify(notify: impl FnMut() + Send + 'static) -> ampoule::Builder {
    Sandbox::builder(&calls_image())
        .stdout(Output::discard())
        .stderr(Output::discard())
        .host_fn("notify", notify)
        .host_fn("add", |a: u32, b: u32| a + b)
        .try_host_fn("parse", |text: String| text.parse::<u32>())
        .try_host_fn("transform", Ok::<Vec<u8>, String>)
}

fn kill_soon(handle: InterruptHandle) -> thread::JoinHandle<KillOutcome> {
    thread::spawn(move || {
        while !handle.is_running() {
            thread::yield_now();
        }
        handle.kill()
    })
}

fn until_waiting(pool: &Pool, waiting: usize) {
    while pool.stats().waiting != waiting {
        thread::yield_now();
    }
}

/// What the library reports to the recorder of this process. One test at a time has it.
struct Metrics(MutexGuard<'static, Snapshotter>);

impl Metrics {
    fn exclusive() -> Self {
        static RECORDER: LazyLock<Mutex<Snapshotter>> = LazyLock::new(|| {
            let recorder = DebuggingRecorder::new();
            let snapshotter = recorder.snapshotter();
            recorder.install().unwrap();
            ampoule::enable_metrics();
            Mutex::new(snapshotter)
        });
        Self(RECORDER.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn snapshotter(&self) -> &Snapshotter {
        &self.0
    }

    /// By how much each metric changes while this is done, those of memory left aside; for histograms, how many values there
    /// are more.
    fn of<R>(&self, action: impl FnOnce() -> R) -> BTreeMap<String, f64> {
        let mut changes = self.with_memory(action);
        changes.retain(|name, _| !name.starts_with("ampoule_memory"));
        changes
    }

    fn with_memory<R>(&self, action: impl FnOnce() -> R) -> BTreeMap<String, f64> {
        // A snapshot of this recorder takes what there is.
        self.0.snapshot();
        action();
        self.take().into_iter().filter(|(_, change)| *change != 0.0).collect()
    }

    fn names(&self) -> Vec<String> {
        self.take().into_iter().map(|(name, _)| name).collect()
    }

    fn take(&self) -> Vec<(String, f64)> {
        let metrics = self.0.snapshot().into_vec();
        let shown = metrics.into_iter().map(|(key, _, _, value)| {
            let labels: Vec<_> = key.key().labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
            let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            let value = match value {
                DebugValue::Counter(value) => value as f64,
                DebugValue::Gauge(value) => value.0,
                DebugValue::Histogram(values) => values.len() as f64,
            };
            (format!("{}{labels}", key.key().name()), value)
        });
        shown.collect()
    }
}
