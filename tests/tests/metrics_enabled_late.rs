//! Metrics are off until they are enabled, at whatever time. The only test of its process, whose recorder it sets.

use ampoule::Pool;
use ampoule_tests::{calls_sandbox, calls_spawn};
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};

#[test]
fn nothing_is_counted_before_metrics_are_enabled_and_what_exists_takes_part_then() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    recorder.install().unwrap();

    let mut sandbox = calls_sandbox();
    let snapshot = sandbox.snapshot().unwrap();
    let pool = Pool::builder(&snapshot).size(1).spawn_with(calls_spawn).build().unwrap();
    let taken = pool.take().unwrap();
    sandbox.call::<u32>("count_on_host", (2u32,)).unwrap();
    sandbox.interrupt_handle().kill();
    assert!(snapshotter.snapshot().into_vec().is_empty());

    ampoule::enable_metrics();
    assert!(values(&snapshotter).is_empty(), "what was before is not counted");
    sandbox.call::<u32>("count_on_host", (2u32,)).unwrap();
    let expected = [
        "ampoule_calls_total{ok} 1",
        "ampoule_exits_total{doorbell} 3",
        "ampoule_host_calls_total{add,ok} 2",
        "ampoule_sandboxes 1",
    ];
    let found = values(&snapshotter);
    assert_eq!(found.iter().filter(|value| !value.starts_with("ampoule_memory")).collect::<Vec<_>>(), expected);

    // What was not counted when it came is not counted when it goes.
    drop(taken);
    drop(pool);
    assert_eq!(values(&snapshotter).iter().filter(|value| value.contains('-')).count(), 0);
    // Whoever enables them again changes nothing.
    ampoule::enable_metrics();
    sandbox.call::<()>("empty", ()).unwrap();
    assert!(values(&snapshotter).contains(&"ampoule_calls_total{ok} 1".to_owned()));
}

/// The counters and gauges that are not zero, with the values of their labels, in alphabetical order. Takes what there is.
fn values(snapshotter: &Snapshotter) -> Vec<String> {
    let metrics = snapshotter.snapshot().into_vec().into_iter();
    let mut shown: Vec<_> = metrics
        .filter_map(|(key, _, _, value)| {
            let value = match value {
                DebugValue::Counter(value) => value as f64,
                DebugValue::Gauge(value) => value.0,
                DebugValue::Histogram(_) => return None,
            };
            let labels: Vec<_> = key.key().labels().map(|label| label.value()).collect();
            let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            (value != 0.0).then(|| format!("{}{labels} {value}", key.key().name()))
        })
        .collect();
    shown.sort();
    shown
}
