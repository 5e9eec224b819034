//! The spans of a guest are in the host's log: as what they are, in the call and around what the guest asks for in them, with
//! the times at which they began and ended there, however the call ends.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime};

use ampoule::{Builder, CallError, Clock, Limits, Sandbox, Termination};
use ampoule_tests::logger_image;
use proptest::prelude::*;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Dispatch, Event, Level, Metadata, Subscriber, dispatcher};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

#[path = "../guests/logger/src/play.rs"]
mod play;

fn builder() -> Builder {
    let look = || tracing::info_span!("looking").in_scope(|| ());
    Sandbox::builder(&logger_image()).name("spans").log_level(LevelFilter::TRACE).host_fn("look", look)
}

fn sandbox() -> Sandbox {
    builder().build().unwrap()
}

#[test]
fn spans_are_nested_in_the_call_with_their_fields_and_around_what_is_logged() {
    let log = Log::default();
    let mut sandbox = sandbox();
    log.of(|| sandbox.call::<()>("nested_spans", ()).unwrap());
    let told = log.take();
    let steps: Vec<_> = told.iter().map(|told| told.step.as_str()).collect();
    let expected = [
        "new call",
        "enter call",
        "new call/order",
        "enter call/order",
        "new call/order/check",
        "enter call/order/check",
        "log call/order/check: checked",
        "exit call/order/check",
        "close call/order/check",
        "record call/order: price",
        "new call/order/pack",
        "enter call/order/pack",
        "new call/order/pack/tape",
        "enter call/order/pack/tape",
        "exit call/order/pack/tape",
        "close call/order/pack/tape",
        "exit call/order/pack",
        "close call/order/pack",
        "exit call/order",
        "log call: between",
        "enter call/order",
        "log call: outside",
        "exit call/order",
        "new call/order/late",
        "enter call/order/late",
        "exit call/order/late",
        "close call/order/late",
        "close call/order",
        "exit call",
        "close call",
    ];
    assert_eq!(steps, expected);

    let order = log.span("call/order");
    let image = logger_image().name().to_owned();
    let of_host = [("image", image.as_str()), ("sandbox", "spans"), ("function", "\"nested_spans\"")];
    let own = [("number", "7"), ("ready", "true"), ("customer", "\"Ada\""), ("price", "2.5")];
    assert_eq!(order.fields_without_times(), own.into_iter().chain(of_host).collect());
    let place = (order.level, order.target, order.module);
    assert_eq!(place, (Level::INFO, "ampoule::guest::shop", Some("logger::spans")));
    assert!(order.file.is_some_and(|file| file.ends_with("src/spans.rs")) && order.line.is_some());
    let check = log.span("call/order/check");
    let place = (check.level, check.target, check.fields_without_times());
    assert_eq!(place, (Level::DEBUG, "ampoule::guest::logger::spans", BTreeMap::new()));
    // The log shows the spans themselves.
    assert!(told.iter().all(|told| !told.fields.contains_key("spans")), "{told:?}");
}

#[test]
fn what_the_guest_asks_of_the_host_is_in_the_span_in_which_it_does() {
    let log = Log::default();
    let mut sandbox = sandbox();
    log.of(|| sandbox.call::<()>("look_within_spans", ()).unwrap());
    let new: Vec<_> = log.steps().into_iter().filter_map(|step| Some(step.strip_prefix("new ")?.to_owned())).collect();
    let expected = [
        "call",
        "call/host_function",
        "call/host_function/looking",
        "call/first",
        "call/first/host_function",
        "call/first/host_function/looking",
        "call/first/second",
        "call/first/second/host_function",
        "call/first/second/host_function/looking",
    ];
    assert_eq!(new, expected);
}

#[test]
fn everything_is_told_with_its_time_on_the_hosts_clock_whatever_the_guests_clocks_show() {
    for clock in [Clock::Real, Clock::Frozen(SystemTime::UNIX_EPOCH), Clock::Virtual(SystemTime::UNIX_EPOCH)] {
        let log = Log::default();
        let mut sandbox = builder().clock(clock).build().unwrap();
        log.of(|| {
            sandbox.call::<()>("look_within_spans", ()).unwrap();
            sandbox.call::<()>("many_spans", (500u32, false)).unwrap();
        });
        let told = log.take();
        // So a span is within the one around it, and a host function within the span that asks for it.
        let back = told.windows(2).find(|told| told[0].time > told[1].time);
        assert!(back.is_none(), "{clock:?}: {back:?}");
        let is_guests = |told: &&Told| told.is_guests;
        assert!(told.iter().filter(is_guests).count() > 2000);
        // They are not those of the exits at which the host learns of them.
        let times: std::collections::BTreeSet<_> = told.iter().filter(is_guests).map(|told| told.time).collect();
        assert!(times.len() > 1000, "{} times", times.len());
        for span in log.spans().iter().filter(|span| span.target.starts_with("ampoule::guest::")) {
            let at =
                |field: &str| SystemTime::UNIX_EPOCH + Duration::from_nanos(span.fields[field].parse::<u64>().unwrap());
            assert_eq!((at("guest.start_ns"), at("guest.end_ns")), (span.start, span.end.unwrap()), "{span:?}");
        }
        assert!(log.spans().iter().all(|span| span.is_balanced()));
    }
}

#[test]
fn spans_in_which_the_guest_ends_end_with_it_and_say_so() {
    let mut sandbox = sandbox();
    for how in ["fault", "panic", "abort", "exit", "spin"] {
        let log = Log::default();
        let error = log.of(|| match how {
            "spin" => {
                let limits = Limits::new().deadline(Duration::from_millis(50));
                let call = ampoule::Call::new("end_within_spans", (how,)).limits(limits);
                sandbox.call_with::<(), _>(call).unwrap_err()
            }
            _ => sandbox.call::<()>("end_within_spans", (how,)).unwrap_err(),
        });
        let steps = log.steps();
        let ends = ["exit call/outer/inner", "exit call/outer", "close call/outer/inner", "close call/outer"];
        let positions: Vec<_> = ends.iter().map(|end| steps.iter().position(|step| step == end).expect(end)).collect();
        let call_ends = steps.iter().position(|step| step == "exit call").unwrap();
        assert!(positions.iter().all(|position| *position < call_ends), "{how}: {steps:?}");
        assert!(steps.contains(&"log call/outer/inner: about to end".to_owned()), "{how}: {steps:?}");
        let paths = ["call/kept", "call/outer", "call/outer/inner"];
        let are_unfinished = matches!(error, CallError::Terminated { .. });
        // A panic unwinds.
        assert_eq!(are_unfinished, how != "panic", "{error}");
        for span in paths.map(|path| log.span(path)) {
            assert_eq!(
                span.fields.get("guest.unfinished").map(String::as_str),
                are_unfinished.then_some("true"),
                "{how}"
            );
            assert!(span.end.is_some() && span.is_balanced(), "{how}: {span:?}");
        }
        assert!(log.take().is_sorted_by_key(|told| told.time), "{how}");
        sandbox.reset().unwrap();
        // And nothing is left of them.
        log.of(|| sandbox.call::<()>("nested_spans", ()).unwrap());
        assert_eq!(log.steps()[2], "new call/order");
    }
}

#[test]
fn a_kill_in_a_span_ends_it() {
    let log = Log::default();
    let mut sandbox = sandbox();
    let handle = sandbox.interrupt_handle();
    let killer = thread::spawn(move || {
        while !handle.is_running() {
            thread::yield_now();
        }
        thread::sleep(Duration::from_millis(50));
        handle.kill()
    });
    let error = log.of(|| sandbox.call::<()>("end_within_spans", ("spin",)).unwrap_err());
    killer.join().unwrap();
    assert!(matches!(error, CallError::Terminated { cause: Termination::Killed, .. }), "{error}");
    let inner = log.span("call/outer/inner");
    assert_eq!((inner.fields["guest.unfinished"].as_str(), inner.is_balanced()), ("true", true));
}

#[test]
fn a_span_may_live_for_several_calls() {
    let log = Log::default();
    let mut sandbox = sandbox();
    log.of(|| sandbox.call::<()>("keep_span", ()).unwrap());
    assert_eq!(log.steps(), ["new call", "enter call", "new call/kept", "exit call"]);
    log.of(|| sandbox.call::<()>("work_in_kept_span", ()).unwrap());
    let expected = [
        "new call",
        "enter call",
        "enter call/kept",
        "new call/kept/work",
        "enter call/kept/work",
        "log call/kept/work: working",
        "exit call/kept/work",
        "close call/kept/work",
        "exit call/kept",
        "exit call",
        "close call",
    ];
    assert_eq!(log.steps(), expected);
    log.of(|| sandbox.call::<()>("drop_span", ()).unwrap());
    // The call in which it began ends with it.
    assert_eq!(log.steps(), ["new call", "enter call", "close call/kept", "close call", "exit call", "close call"]);
}

#[test]
fn a_span_in_which_the_guest_stays_is_left_between_calls_and_entered_again() {
    let log = Log::default();
    let mut sandbox = sandbox();
    log.of(|| {
        sandbox.call::<()>("stay_in_span", ()).unwrap();
        assert!(tracing::Span::current().is_none());
        sandbox.call::<()>("look_within_spans", ()).unwrap();
        assert!(tracing::Span::current().is_none());
        tracing::info!("after the calls");
    });
    let steps = log.steps();
    assert_eq!(steps[..5], ["new call", "enter call", "new call/whole", "enter call/whole", "exit call/whole"]);
    assert!(steps.contains(&"new call/whole/host_function".to_owned()), "{steps:?}");
    assert!(steps.contains(&"log : after the calls".to_owned()), "{steps:?}");
    log.of(|| drop(sandbox));
    assert_eq!(log.span("call/whole").fields["guest.unfinished"], "true");
}

#[test]
fn a_span_of_the_time_before_a_snapshot_is_not_known_after_it() {
    let log = Log::default();
    let mut original = sandbox();
    log.of(|| original.call::<()>("keep_span", ()).unwrap());
    let snapshot = log.of(|| original.snapshot().unwrap());
    log.take();
    let mut spawned = snapshot.builder().host_fn("look", || ()).log_level(Level::TRACE).build().unwrap();
    let expected = ["new call/work", "enter call/work", "log call/work: working", "exit call/work", "close call/work"];
    let work = |sandbox: &mut Sandbox| {
        log.of(|| sandbox.call::<()>("work_in_kept_span", ()).unwrap());
        let steps = log.steps();
        steps[2..steps.len() - 2].to_vec()
    };
    assert_eq!(work(&mut spawned), expected);
    log.of(|| spawned.call::<()>("drop_span", ()).unwrap());
    log.take();
    // The original knows it, until it goes back.
    assert_eq!(work(&mut original)[0], "enter call/kept");
    log.of(|| original.restore(&snapshot).unwrap());
    assert_eq!(log.span("call/kept").fields["guest.unfinished"], "true");
    log.take();
    assert_eq!(work(&mut original), expected);
}

#[test]
fn a_host_function_that_panics_leaves_no_span_entered() {
    let log = Log::default();
    let mut sandbox = Sandbox::builder(&logger_image())
        .log_level(LevelFilter::TRACE)
        .host_fn("look", || {
            if tracing::Span::current().metadata().is_some_and(|span| span.name() == "host_function") {
                panic!("as it may")
            }
        })
        .build()
        .unwrap();
    log.of(|| {
        let call = || sandbox.call::<()>("look_within_spans", ());
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(call)).is_err());
        assert!(tracing::Span::current().is_none());
    });
    drop(sandbox);
    assert!(log.spans().iter().all(|span| span.is_balanced()));
}

#[test]
fn a_span_that_is_not_wanted_is_not_made_and_others_are_no_exit() {
    let log = Log::default();
    let mut sandbox = sandbox();
    for (level, expected) in [
        (LevelFilter::TRACE, [1, 1, 1]),
        (LevelFilter::INFO, [1, 1, 0]),
        (LevelFilter::ERROR, [1, 0, 0]),
        (LevelFilter::OFF, [0; 3]),
    ] {
        sandbox.set_log_level(level);
        let before = sandbox.stats().unwrap().exits;
        let evaluated = log.of(|| sandbox.call::<Vec<u32>>("evaluations_of_spans", ()).unwrap());
        assert_eq!(evaluated, expected, "{level}");
        assert_eq!(log.spans().len(), 1 + expected.iter().sum::<u32>() as usize, "{level}");
        let exits = sandbox.stats().unwrap().exits - before;
        let before = sandbox.stats().unwrap().exits;
        log.of(|| sandbox.call::<()>("drop_span", ()).unwrap());
        assert_eq!(sandbox.stats().unwrap().exits - before, exits, "{level}");
        log.recorded.lock().unwrap().spans.clear();
    }
}

#[test]
fn a_log_that_wants_no_spans_has_their_names_at_what_is_logged() {
    let log = Log::of_events();
    let mut sandbox = sandbox();
    log.of(|| sandbox.call::<()>("nested_spans", ()).unwrap());
    let told = log.take();
    let spans: Vec<_> =
        told.iter().map(|told| (told.step.as_str(), told.fields.get("spans").map(String::as_str))).collect();
    let expected = [("log : checked", Some("order:check")), ("log : between", None), ("log : outside", None)];
    assert_eq!(spans, expected);
}

#[test]
fn ten_thousand_spans_arrive_in_order_with_few_exits() {
    const SPANS: u32 = 10_000;
    let log = Log::default();
    let mut sandbox = sandbox();
    let before = sandbox.stats().unwrap().exits;
    log.of(|| sandbox.call::<()>("many_spans", (SPANS, false)).unwrap());
    let exits = sandbox.stats().unwrap().exits - before;
    let flat: Vec<_> = log.spans().into_iter().filter(|span| span.path == "call/flat").collect();
    let numbers: Vec<u32> = flat.iter().map(|span| span.fields["number"].parse().unwrap()).collect();
    assert_eq!(numbers, (0..SPANS).collect::<Vec<_>>());
    // A span takes less than 320 bytes in four records, and 16 KiB wait at a time.
    assert!(exits <= u64::from(SPANS) * 320 / (16 << 10) + 3, "{exits} exits");
}

#[test]
fn spans_beyond_a_thousand_are_counted_and_what_is_in_them_is_in_those_around() {
    let log = Log::default();
    let mut sandbox = sandbox();
    for _ in 0..2 {
        log.of(|| sandbox.call::<()>("many_spans", (1100u32, true)).unwrap());
        let told = log.take();
        let refused: Vec<_> = told.iter().filter_map(|told| told.fields.get("refused")).collect();
        assert_eq!(refused, ["76"]);
        assert_eq!(told.iter().filter(|told| told.step.starts_with("new call/deep")).count(), 1024);
        assert!(log.spans().iter().all(|span| span.is_balanced() && span.end.is_some()));
    }
    // All values of a span together have a bound, too.
    log.of(|| sandbox.call::<()>("long_values", (1000u32,)).unwrap());
    let told = log.take();
    let recorded = told.iter().filter(|told| told.step == "record call/long: text").count();
    let refused: usize = told.iter().find_map(|told| told.fields.get("refused")).unwrap().parse().unwrap();
    assert!(recorded * 4000 < 1 << 20 && recorded + refused == 1000, "{recorded} and {refused}");
    log.of(|| sandbox.call::<()>("nested_spans", ()).unwrap());
    assert!(log.take().iter().all(|told| !told.fields.contains_key("refused")));
}

#[test]
fn forged_steps_change_nothing_but_the_guests_own_spans_and_malformed_ones_end_it() {
    let log = Log::default();
    let mut sandbox = builder().log_level(Level::INFO).build().unwrap();
    let mut forge = |kind: &str| {
        let ended = log.of(|| sandbox.call::<()>("forge_steps", (kind,))).err();
        let told = log.take();
        assert!(told.is_sorted_by_key(|told| told.time), "{kind}: {told:?}");
        let is_calls = |step: &String| step.ends_with(" call") || step == "record call: error";
        let steps: Vec<_> = told.into_iter().map(|told| told.step).filter(|step| !is_calls(step)).collect();
        sandbox.reset().unwrap();
        assert!(log.spans().iter().all(|span| span.is_balanced()), "{kind}");
        log.take();
        (ended, steps)
    };
    let (ended, steps) = forge("unknown spans");
    assert!(ended.is_none() && steps == ["log call: unknown"], "{ended:?}, {steps:?}");
    let (_, steps) = forge("its own parent");
    assert_eq!(steps, ["new call/forged"]);
    let (_, steps) = forge("twice the same");
    assert_eq!(steps, ["new call/forged"]);
    // What it is in stays open.
    let (_, steps) = forge("closed around another");
    assert_eq!(steps, ["new call/forged", "new call/forged/forged", "enter call/forged", "exit call/forged"]);
    let (_, steps) = forge("closed inside");
    assert_eq!(
        steps,
        [
            "new call/forged",
            "enter call/forged",
            "enter call/forged",
            "exit call/forged",
            "exit call/forged",
            "close call/forged"
        ]
    );
    let (_, steps) = forge("long names");
    assert_eq!(steps, ["new call/span"]);
    let (_, steps) = forge("not asked for");
    assert!(steps.is_empty(), "{steps:?}");
    let (_, steps) = forge("unknown fields");
    assert_eq!(steps, ["new call/forged", "record call/forged: field"]);
    let (_, steps) = forge("lost");
    assert_eq!(steps[0], "log call: the guest has lost log records, for which there was no room");
    let (_, steps) = forge("any times");
    assert_eq!(steps[2], "log call/forged: any");
    for kind in ["fields", "later fields", "level 0", "level of what is logged", "unknown step", "cut"] {
        let (ended, steps) = forge(kind);
        let error = ended.expect(kind).to_string();
        assert!(error.contains("a span record at 0 that is malformed"), "{kind}: {error}");
        assert!(steps.is_empty(), "{kind}: {steps:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_spans_are_in_the_log_as_if_the_host_had_made_them(
        steps in prop::collection::vec((0u8..9, any::<u32>(), any::<u32>()), 0..200)
    ) {
        let (hosts, guests) = (Log::default(), Log::default());
        hosts.of(|| tracing::debug_span!(target: "ampoule", "call").in_scope(|| play::play(&steps)));
        SANDBOX.with_borrow_mut(|sandbox| guests.of(|| sandbox.call::<()>("play_spans", (&steps,)).unwrap()));
        // What is in no span of the guest's is in the call.
        let within_call = |path: &str| path.strip_prefix("root").map_or(path.to_owned(), |rest| format!("call/root{rest}"));
        let within_call_of = |step: String| {
            let (what, path) = step.split_once(' ').unwrap();
            format!("{what} {}", within_call(path))
        };
        prop_assert_eq!(hosts.steps().into_iter().map(within_call_of).collect::<Vec<_>>(), guests.steps());
        let nodes: Vec<_> = hosts.of_nodes().into_iter().map(|(path, fields)| (within_call(&path), fields)).collect();
        prop_assert_eq!(nodes, guests.of_nodes());
        prop_assert!(guests.spans().iter().all(|span| span.is_balanced() && span.end.is_some()));
    }
}

thread_local! {
    static SANDBOX: std::cell::RefCell<Sandbox> = std::cell::RefCell::new(sandbox());
}

/// What the log of a thread is told, in order.
struct Log {
    recorded: Arc<Mutex<Recorded>>,
    subscriber: Dispatch,
}

/// What is told it.
struct Recorder {
    recorded: Arc<Mutex<Recorded>>,
    has_spans: bool,
}

#[derive(Default)]
struct Recorded {
    told: Vec<Told>,
    spans: Vec<Span>,
    /// The places of those that are open.
    open: HashMap<Id, usize>,
}

#[derive(Clone, Debug)]
struct Told {
    /// What has happened, and the names of the spans in which it did.
    step: String,
    time: SystemTime,
    is_guests: bool,
    fields: BTreeMap<String, String>,
}

#[derive(Clone, Debug)]
struct Span {
    path: String,
    level: Level,
    target: &'static str,
    module: Option<&'static str>,
    file: Option<&'static str>,
    line: Option<u32>,
    fields: BTreeMap<String, String>,
    start: SystemTime,
    end: Option<SystemTime>,
    enters: usize,
    exits: usize,
}

impl Span {
    fn is_balanced(&self) -> bool {
        self.enters == self.exits
    }

    fn fields_without_times(&self) -> BTreeMap<&str, &str> {
        let all = self.fields.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        all.filter(|(name, _)| !name.starts_with("guest.")).collect()
    }
}

impl Default for Log {
    fn default() -> Self {
        Self::new(true)
    }
}

impl Log {
    fn new(has_spans: bool) -> Self {
        let recorded = Arc::default();
        let recorder = Recorder { recorded: Arc::clone(&recorded), has_spans };
        Self { recorded, subscriber: Dispatch::new(tracing_subscriber::registry().with(recorder)) }
    }

    /// A log without spans.
    fn of_events() -> Self {
        Self::new(false)
    }

    /// Logs what is done on this thread.
    fn of<R>(&self, action: impl FnOnce() -> R) -> R {
        dispatcher::with_default(&self.subscriber, action)
    }

    /// Takes what was told since the last time; the spans stay.
    fn take(&self) -> Vec<Told> {
        std::mem::take(&mut self.recorded.lock().unwrap().told)
    }

    fn steps(&self) -> Vec<String> {
        self.take().into_iter().map(|told| told.step).collect()
    }

    fn spans(&self) -> Vec<Span> {
        self.recorded.lock().unwrap().spans.clone()
    }

    /// The last span of this path.
    fn span(&self, path: &str) -> Span {
        self.spans().into_iter().rfind(|span| span.path == path).unwrap_or_else(|| panic!("no {path}"))
    }

    /// Names and fields of all spans, but for what the host says of a guest's.
    fn of_nodes(&self) -> Vec<(String, Vec<(String, String)>)> {
        let is_own = |name: &String| ["number", "late"].contains(&name.as_str());
        let fields = |span: &Span| span.fields.clone().into_iter().filter(|(name, _)| is_own(name)).collect();
        self.spans().iter().map(|span| (span.path.clone(), fields(span))).collect()
    }
}

impl Recorder {
    fn tell(&self, what: &str, path: &str, fields: BTreeMap<String, String>) -> SystemTime {
        let guest_time = ampoule::guest_time();
        let time = guest_time.unwrap_or_else(SystemTime::now);
        let step = format!("{what} {path}");
        self.recorded.lock().unwrap().told.push(Told { step, time, is_guests: guest_time.is_some(), fields });
        time
    }

    fn with(&self, id: &Id, action: impl FnOnce(&mut Span)) {
        let mut recorded = self.recorded.lock().unwrap();
        let at = recorded.open[id];
        action(&mut recorded.spans[at]);
    }

    fn path(&self, id: &Id) -> String {
        let recorded = self.recorded.lock().unwrap();
        recorded.spans[recorded.open[id]].path.clone()
    }
}

impl<S: Subscriber + for<'span> LookupSpan<'span>> Layer<S> for Recorder {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        // Not the lines of traces.
        metadata.target() != "ampoule::trace" && (self.has_spans || metadata.is_event())
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let scope = context.span_scope(id).unwrap().from_root().map(|span| span.name()).collect::<Vec<_>>();
        let path = scope.join("/");
        let mut fields = BTreeMap::new();
        attributes.record(&mut Fields(&mut fields));
        let start = self.tell("new", &path, BTreeMap::new());
        let metadata = attributes.metadata();
        let span = Span {
            path,
            level: *metadata.level(),
            target: metadata.target(),
            module: metadata.module_path(),
            file: metadata.file(),
            line: metadata.line(),
            fields,
            start,
            end: None,
            enters: 0,
            exits: 0,
        };
        let mut recorded = self.recorded.lock().unwrap();
        let at = recorded.spans.len();
        recorded.spans.push(span);
        recorded.open.insert(id.clone(), at);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, _: Context<'_, S>) {
        let mut fields = BTreeMap::new();
        values.record(&mut Fields(&mut fields));
        // When a span has begun and ended is no step of the guest's.
        let names: Vec<_> = fields.keys().filter(|name| !name.starts_with("guest.")).cloned().collect();
        if !names.is_empty() {
            self.tell("record", &format!("{}: {}", self.path(id), names.join(", ")), BTreeMap::new());
        }
        self.with(id, |span| span.fields.append(&mut fields));
    }

    fn on_enter(&self, id: &Id, _: Context<'_, S>) {
        self.tell("enter", &self.path(id), BTreeMap::new());
        self.with(id, |span| span.enters += 1);
    }

    fn on_exit(&self, id: &Id, _: Context<'_, S>) {
        self.tell("exit", &self.path(id), BTreeMap::new());
        self.with(id, |span| span.exits += 1);
    }

    fn on_close(&self, id: Id, _: Context<'_, S>) {
        let end = self.tell("close", &self.path(&id), BTreeMap::new());
        self.with(&id, |span| span.end = Some(end));
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = BTreeMap::new();
        event.record(&mut Fields(&mut fields));
        let scope = context.event_scope(event).into_iter().flat_map(|scope| scope.from_root());
        let path = scope.map(|span| span.name()).collect::<Vec<_>>().join("/");
        let message = fields.remove("message").unwrap_or_default();
        self.tell("log", &format!("{path}: {message}"), fields);
    }
}

struct Fields<'span>(&'span mut BTreeMap<String, String>);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }
}
