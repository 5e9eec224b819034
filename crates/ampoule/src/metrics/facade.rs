//! Metrics with the feature: handles of the facade `metrics`, registered once for the process.

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use ampoule_vmm::Event;
use metrics::{Counter, Gauge, Histogram, SharedString, Unit};

use super::labels::{CallOutcome, ExitReason, FaultLabel, KillLabel, Level, Operation, RunOutcome, TakeOutcome};

/// Passes on metrics from now on, to the recorder of the facade [`metrics`](https://docs.rs/metrics/0.24) that is installed.
/// What they are is described in
/// [`docs/metrics.md`](https://github.com/ampoule-rs/ampoule/blob/main/docs/metrics.md).
///
/// To be called once, after the recorder has been installed, at any time: a sandbox and a pool that were made before take
/// part from their next call on. Where no recorder is installed, metrics are lost. Later calls of this function have no
/// effect, even when another recorder is installed by then.
///
/// ```
/// // After `metrics::set_global_recorder`, or what the application's exporter has for it.
/// ampoule::enable_metrics();
/// ```
pub fn enable_metrics() {
    METERS.get_or_init(Meters::register);
}

static METERS: OnceLock<Meters> = OnceLock::new();

/// Where metrics are passed on to, once they are enabled.
#[inline]
pub(super) fn meters() -> Option<&'static Meters> {
    METERS.get()
}

/// All handles. Arrays are in the order of the label's variants.
pub(super) struct Meters {
    calls: Vec<Counter>,
    call_time: Histogram,
    runs: Vec<Counter>,
    run_time: Histogram,
    faults: Vec<Counter>,
    exits: Vec<Counter>,
    kills: Vec<Counter>,
    operations: Vec<[Counter; 2]>,
    operation_times: Vec<Histogram>,
    pages_restored: Counter,
    takes: Vec<Counter>,
    pool_wait: Histogram,
    recycled: Counter,
    replaced: Counter,
    levels: Vec<Gauge>,
    host_functions: Mutex<HashMap<String, HostFunctionHandles>>,
}

impl Meters {
    /// Describes all metrics to the recorder, and makes all handles, so that what has never happened is a zero from the
    /// start.
    fn register() -> Self {
        for (name, unit, text) in COUNTERS {
            metrics::describe_counter!(*name, *unit, *text);
        }
        for (name, unit, text) in GAUGES {
            metrics::describe_gauge!(*name, *unit, *text);
        }
        for (name, unit, text) in HISTOGRAMS {
            metrics::describe_histogram!(*name, *unit, *text);
        }
        let counters = |name: &'static str, key: &'static str, texts: &[&'static str]| {
            texts.iter().map(|text| metrics::counter!(name, key => *text)).collect()
        };
        let operation = |text: &&'static str| {
            OUTCOMES.map(|outcome| metrics::counter!(OPERATIONS, "operation" => *text, "outcome" => outcome))
        };
        let time = |text: &&'static str| metrics::histogram!(OPERATION_TIME, "operation" => *text);
        Self {
            calls: counters(CALLS, "outcome", CallOutcome::TEXTS),
            call_time: metrics::histogram!(CALL_TIME),
            runs: counters(RUNS, "outcome", RunOutcome::TEXTS),
            run_time: metrics::histogram!(RUN_TIME),
            faults: counters(FAULTS, "kind", FaultLabel::TEXTS),
            exits: counters(EXITS, "reason", ExitReason::TEXTS),
            kills: counters(KILLS, "outcome", KillLabel::TEXTS),
            operations: Operation::TEXTS.iter().map(operation).collect(),
            operation_times: Operation::TEXTS.iter().map(time).collect(),
            pages_restored: metrics::counter!(PAGES_RESTORED),
            takes: counters(POOL_TAKES, "outcome", TakeOutcome::TEXTS),
            pool_wait: metrics::histogram!(POOL_WAIT),
            recycled: metrics::counter!(POOL_RECYCLED),
            replaced: metrics::counter!(POOL_REPLACED),
            levels: Level::TEXTS.iter().map(|name| metrics::gauge!(*name)).collect(),
            host_functions: Mutex::default(),
        }
    }

    pub(super) fn call(&self, outcome: CallOutcome, time: Duration) {
        self.calls[outcome as usize].increment(1);
        self.call_time.record(time);
    }

    pub(super) fn refused(&self, outcome: CallOutcome) {
        self.calls[outcome as usize].increment(1);
    }

    pub(super) fn run(&self, outcome: RunOutcome, time: Duration) {
        self.runs[outcome as usize].increment(1);
        self.run_time.record(time);
    }

    pub(super) fn fault(&self, kind: FaultLabel) {
        self.faults[kind as usize].increment(1);
    }

    /// `label` is the index of a [`KillLabel`].
    pub(super) fn kills(&self, label: usize, kills: u64) {
        self.kills[label].increment(kills);
    }

    pub(super) fn operation(&self, operation: Operation, succeeded: bool, time: Duration) {
        self.operations[operation as usize][usize::from(!succeeded)].increment(1);
        self.operation_times[operation as usize].record(time);
    }

    pub(super) fn pages_restored(&self, pages: u64) {
        self.pages_restored.increment(pages);
    }

    pub(super) fn taken(&self, outcome: TakeOutcome) {
        self.takes[outcome as usize].increment(1);
    }

    pub(super) fn pool_wait(&self, time: Duration) {
        self.pool_wait.record(time);
    }

    pub(super) fn recycled(&self) {
        self.recycled.increment(1);
    }

    pub(super) fn replaced(&self) {
        self.replaced.increment(1);
    }

    pub(super) fn shift(&self, level: Level, by: f64) {
        self.levels[level as usize].increment(by);
    }

    /// The handles for a host function of this name, or for all others where there are many names already.
    fn host_function(&self, name: &str) -> HostFunctionHandles {
        let mut known = self.host_functions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(handles) = known.get(name) {
            return handles.clone();
        }
        let name = if known.len() < MOST_HOST_FUNCTIONS { name } else { OTHER_HOST_FUNCTIONS };
        known.entry(name.to_owned()).or_insert_with(|| HostFunctionHandles::register(name)).clone()
    }
}

/// Exits since they were last passed on, by [`ExitReason`]. Nothing that threads share is written where one is counted.
#[derive(Default)]
pub(crate) struct Exits([u64; ExitReason::TEXTS.len()]);

impl Exits {
    #[inline]
    pub(crate) fn count(&mut self, event: &Event) {
        self.0[ExitReason::from(event) as usize] += 1;
    }

    /// Passes on what was counted, or forgets it where metrics are not enabled.
    #[inline]
    pub(crate) fn publish(&mut self) {
        let Self(counts) = std::mem::take(self);
        if let Some(meters) = meters() {
            for (counter, count) in meters.exits.iter().zip(counts).filter(|(_, count)| *count > 0) {
                counter.increment(count);
            }
        }
    }
}

/// Counts calls of one host function of one sandbox.
#[derive(Default)]
pub(crate) struct HostFunctionMeter(Option<HostFunctionHandles>);

impl HostFunctionMeter {
    /// The time, where metrics are enabled.
    #[inline]
    pub(crate) fn start(&self) -> Option<Instant> {
        meters().map(|_| Instant::now())
    }

    /// The function of this name has returned, and was called then.
    #[inline]
    pub(crate) fn ended(&mut self, name: &str, start: Option<Instant>, succeeded: bool) {
        if let (Some(meters), Some(start)) = (meters(), start) {
            let handles = self.0.get_or_insert_with(|| meters.host_function(name));
            handles.calls[usize::from(!succeeded)].increment(1);
            handles.time.record(start.elapsed());
        }
    }
}

#[derive(Clone)]
struct HostFunctionHandles {
    /// By [`OUTCOMES`].
    calls: [Counter; 2],
    time: Histogram,
}

impl HostFunctionHandles {
    fn register(name: &str) -> Self {
        let name: SharedString = name.to_owned().into();
        let counter = |outcome| metrics::counter!(HOST_CALLS, "function" => name.clone(), "outcome" => outcome);
        Self { calls: OUTCOMES.map(counter), time: metrics::histogram!(HOST_CALL_TIME, "function" => name.clone()) }
    }
}

/// Names of host functions are the application's, which may make up many. From this many on they share a label.
const MOST_HOST_FUNCTIONS: usize = 256;
const OTHER_HOST_FUNCTIONS: &str = "(other)";

const OUTCOMES: [&str; 2] = ["ok", "error"];

const CALLS: &str = "ampoule_calls_total";
const CALL_TIME: &str = "ampoule_call_seconds";
const RUNS: &str = "ampoule_runs_total";
const RUN_TIME: &str = "ampoule_run_seconds";
const FAULTS: &str = "ampoule_faults_total";
const EXITS: &str = "ampoule_exits_total";
const KILLS: &str = "ampoule_kills_total";
const HOST_CALLS: &str = "ampoule_host_calls_total";
const HOST_CALL_TIME: &str = "ampoule_host_call_seconds";
const OPERATIONS: &str = "ampoule_operations_total";
const OPERATION_TIME: &str = "ampoule_operation_seconds";
const PAGES_RESTORED: &str = "ampoule_pages_restored_total";
const POOL_TAKES: &str = "ampoule_pool_takes_total";
const POOL_WAIT: &str = "ampoule_pool_wait_seconds";
const POOL_RECYCLED: &str = "ampoule_pool_recycled_total";
const POOL_REPLACED: &str = "ampoule_pool_replaced_total";

type Description = (&'static str, Unit, &'static str);

const COUNTERS: &[Description] = &[
    (CALLS, Unit::Count, "Calls of guests, by how they ended"),
    (RUNS, Unit::Count, "Runs of programs, by how they ended"),
    (FAULTS, Unit::Count, "Guests that have ended themselves in a call or a run, by how"),
    (EXITS, Unit::Count, "Times that a guest was left, by why"),
    (KILLS, Unit::Count, "Attempts to kill a call, by what became of them"),
    (HOST_CALLS, Unit::Count, "Calls of host functions, by function"),
    (OPERATIONS, Unit::Count, "Sandboxes and programs that were made and restored, and snapshots that were taken"),
    (PAGES_RESTORED, Unit::Count, "Pages of 4 KiB that restores have written back"),
    (POOL_TAKES, Unit::Count, "Attempts to take a sandbox of a pool, by what became of them"),
    (POOL_RECYCLED, Unit::Count, "Sandboxes of pools that were made ready for somebody else"),
    (POOL_REPLACED, Unit::Count, "Sandboxes of pools that were given up, and others made in their place"),
];

const GAUGES: &[Description] = &[
    (Level::TEXTS[Level::Sandboxes as usize], Unit::Count, "Sandboxes and programs that exist"),
    (Level::TEXTS[Level::Owned as usize], Unit::Bytes, "Guest memory that belongs to one sandbox alone"),
    (Level::TEXTS[Level::Shared as usize], Unit::Bytes, "Guest memory that sandboxes share with snapshots and images"),
    (Level::TEXTS[Level::PoolSize as usize], Unit::Count, "Sandboxes that pools may have"),
    (
        Level::TEXTS[Level::PoolTaken as usize],
        Unit::Count,
        "Sandboxes of pools that somebody has, or that are being made",
    ),
    (Level::TEXTS[Level::PoolWaiting as usize], Unit::Count, "Threads and tasks that wait for a sandbox of a pool"),
];

const HISTOGRAMS: &[Description] = &[
    (CALL_TIME, Unit::Seconds, "How long calls of guests took, host functions included"),
    (RUN_TIME, Unit::Seconds, "How long runs of programs took"),
    (HOST_CALL_TIME, Unit::Seconds, "How long host functions took"),
    (
        OPERATION_TIME,
        Unit::Seconds,
        "How long it took to make and restore sandboxes and programs, and to take snapshots",
    ),
    (POOL_WAIT, Unit::Seconds, "How long was waited for a sandbox where all were taken"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_host_functions_become_a_bounded_number_of_labels() {
        let meters = Meters::register();
        (0..10_000).for_each(|number| drop(meters.host_function(&format!("function_{number}"))));
        let known = meters.host_functions.lock().unwrap();
        assert_eq!(known.len(), MOST_HOST_FUNCTIONS + 1);
        assert!(known.contains_key("function_255") && known.contains_key(OTHER_HOST_FUNCTIONS));
    }
}
