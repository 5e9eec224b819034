//! What a guest logs arrives in the host's log: complete, in order, as what it is and from whom, however the call ends.
//!
//! The log belongs to the process, and each test looks at its own sandbox's part of it.

use std::fmt::{self, Write as _};
use std::io::Write;
use std::process::Command;
use std::sync::{Arc, LazyLock, Mutex};
use std::thread;

use ampoule::{
    Builder, Call, CallError, ExceededLimit, FaultKind, Limits, Output, ProtocolViolation, Sandbox, Termination,
};
use ampoule_tests::logger_image;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};

/// An event of the log.
#[derive(Clone, Debug)]
struct Logged {
    level: Level,
    target: &'static str,
    module: Option<&'static str>,
    file: Option<&'static str>,
    line: Option<u32>,
    message: String,
    /// All but the message, in order.
    fields: Vec<(&'static str, String)>,
}

impl Logged {
    fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(own, _)| *own == name).map(|(_, value)| value.as_str())
    }

    /// The fields that the host does not add.
    fn own_fields(&self) -> Vec<(&'static str, &str)> {
        let is_own = |name: &str| !["image", "sandbox", "function"].contains(&name);
        self.fields.iter().filter(|(name, _)| is_own(name)).map(|(name, value)| (*name, value.as_str())).collect()
    }
}

/// The part of the process's log that is about one sandbox.
struct Log {
    sandbox: &'static str,
    /// What both streams print and what is logged, in the order in which it arrives.
    everything: Everything,
}

impl Log {
    /// A sandbox with this name, which nobody else has, and what it logs.
    fn of(sandbox: &'static str, configure: impl FnOnce(Builder) -> Builder) -> (Sandbox, Self) {
        let everything = Everything::default();
        let builder = configure(builder(sandbox, &everything));
        let log = Self { sandbox, everything };
        (builder.build().unwrap(), log)
    }

    /// Takes what has arrived since the last time.
    fn take(&self) -> Vec<Logged> {
        let mut events = EVENTS.lock().unwrap();
        let (taken, others) =
            std::mem::take(&mut *events).into_iter().partition(|event| event.field("sandbox") == Some(self.sandbox));
        *events = others;
        taken
    }

    fn messages(&self) -> Vec<String> {
        self.take().into_iter().map(|event| event.message).collect()
    }
}

fn builder(sandbox: &'static str, everything: &Everything) -> Builder {
    LazyLock::force(&SUBSCRIBER);
    Sandbox::builder(&logger_image())
        .name(sandbox)
        .log_level(LevelFilter::TRACE)
        .stdout(Output::writer(everything.clone()))
        .stderr(Output::writer(everything.clone()))
        .host_fn("look", {
            let everything = everything.clone();
            move || everything.clone().write_all(b"looked\n").unwrap()
        })
}

#[derive(Clone, Default)]
struct Everything(Arc<Mutex<String>>);

impl Everything {
    fn take(&self) -> String {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl Write for Everything {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().push_str(std::str::from_utf8(bytes).unwrap());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

static EVENTS: Mutex<Vec<Logged>> = Mutex::new(Vec::new());

static SUBSCRIBER: LazyLock<()> = LazyLock::new(|| tracing::subscriber::set_global_default(Recorder).unwrap());

/// Takes all events of guests, but none about one target.
struct Recorder;

impl Recorder {
    fn wants(metadata: &Metadata<'_>) -> bool {
        metadata.is_event()
            && (metadata.target() == "ampoule::guest" || metadata.target().starts_with("ampoule::guest::"))
            && metadata.target() != "ampoule::guest::target_7"
    }
}

impl Subscriber for Recorder {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if Self::wants(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        Self::wants(metadata)
    }

    fn event(&self, event: &Event<'_>) {
        let metadata = event.metadata();
        let mut logged = Logged {
            level: *metadata.level(),
            target: metadata.target(),
            module: metadata.module_path(),
            file: metadata.file(),
            line: metadata.line(),
            message: String::new(),
            fields: Vec::new(),
        };
        event.record(&mut Fields(&mut logged));
        EVENTS.lock().unwrap().push(logged);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

struct Fields<'logged>(&'logged mut Logged);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => write!(self.0.message, "{value:?}").unwrap(),
            name => self.0.fields.push((name, format!("{value:?}"))),
        }
    }
}

fn termination(error: CallError) -> Termination {
    match error {
        CallError::Terminated { cause, .. } => cause,
        error => panic!("not reported as the guest's end: {error}"),
    }
}

#[test]
fn a_record_has_its_level_target_place_and_function() {
    let (mut sandbox, log) = Log::of("place", |builder| builder);
    for (function, text) in [("log_from_here", "by log"), ("trace_from_here", "by tracing")] {
        let line: u32 = sandbox.call(function, (text,)).unwrap();
        let events = log.take();
        let [event] = &events[..] else { panic!("{events:?}") };
        assert_eq!((event.level, event.target, event.module), (Level::INFO, "ampoule::guest::logger", Some("logger")));
        assert_eq!((event.line, event.message.as_str()), (Some(line), text));
        assert!(event.file.is_some_and(|file| file.ends_with("src/main.rs")), "{event:?}");
        assert_eq!(event.field("function"), Some(format!("{function:?}").as_str()));
        assert_eq!(event.field("image"), Some(logger_image().name()));
        assert_eq!(event.own_fields(), []);
    }
}

#[test]
fn all_levels_of_both_crates_arrive_as_such_and_no_greater_one_than_is_asked_for() {
    let (mut sandbox, log) = Log::of("levels", |builder| builder.log_level(Level::INFO));
    let levels = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE];
    let mut log_in = |sandbox: &mut Sandbox| {
        sandbox.call::<()>("log_at_all_levels", ()).unwrap();
        let events = log.take();
        assert!(events.iter().all(|event| event.message == event.level.as_str().to_lowercase()));
        let of = |target| events.iter().filter(|event| event.target == target).map(|event| event.level).collect();
        let [by_log, by_tracing]: [Vec<Level>; 2] = ["ampoule::guest::by_log", "ampoule::guest::by_tracing"].map(of);
        assert_eq!(by_log, by_tracing);
        assert_eq!(by_log.len() * 2, events.len());
        by_log
    };
    assert_eq!(log_in(&mut sandbox), levels[..3]);
    for (level, expected) in [
        (LevelFilter::TRACE, 5),
        (LevelFilter::ERROR, 1),
        (LevelFilter::OFF, 0),
        (LevelFilter::DEBUG, 4),
        (LevelFilter::WARN, 2),
    ] {
        sandbox.set_log_level(level);
        assert_eq!(log_in(&mut sandbox), levels[..expected], "{level}");
        sandbox.reset().unwrap();
        assert_eq!(log_in(&mut sandbox), levels[..expected], "{level} after a reset");
    }
}

#[test]
fn a_spawned_sandbox_has_a_level_and_a_name_of_its_own() {
    let (mut original, log) = Log::of("original", |builder| builder.log_level(Level::TRACE));
    original.call::<()>("log_text", ("before the snapshot",)).unwrap();
    let snapshot = original.snapshot().unwrap();
    let spawn = || snapshot.builder().host_fn("look", || ());
    let mut spawned = spawn().name("spawned").log_level(Level::WARN).build().unwrap();
    spawned.call::<()>("log_at_all_levels", ()).unwrap();
    // Nothing is said of it, neither here nor in the environment.
    let mut silent = spawn().name("by default").build().unwrap();
    silent.call::<()>("log_at_all_levels", ()).unwrap();
    assert_eq!(log.messages(), ["before the snapshot"]);
    let of = |sandbox| Log { sandbox, everything: Everything::default() }.messages();
    assert_eq!(of("spawned"), ["error", "warn", "error", "warn"]);
    if std::env::var_os("RUST_LOG").is_none() {
        assert_eq!(of("by default"), ["error", "error"]);
    }
}

#[test]
fn the_environment_sets_the_level_of_a_sandbox_for_which_nobody_else_does() {
    const TEST: &str = "the_environment_sets_the_level_of_a_sandbox_for_which_nobody_else_does";
    const LEVELS: &str = "LEVELS_BY_DEFAULT";
    if let Ok(levels) = std::env::var(LEVELS) {
        LazyLock::force(&SUBSCRIBER);
        let mut sandbox = Sandbox::builder(&logger_image()).name("child").host_fn("look", || ()).build().unwrap();
        sandbox.call::<()>("log_at_all_levels", ()).unwrap();
        let log = Log { sandbox: "child", everything: Everything::default() };
        assert_eq!(log.messages().len().to_string(), levels);
        let (mut sandbox, log) = Log::of("set", |builder| builder.log_level(Level::WARN));
        sandbox.call::<()>("log_at_all_levels", ()).unwrap();
        assert_eq!(log.messages().len(), 4);
        return;
    }
    for (directives, levels) in [
        ("trace,ampoule::guest=warn,ampoule=info", "4"),
        ("off,ampoule=info", "6"),
        ("debug", "8"),
        ("another=debug", "2"),
        ("off", "0"),
    ] {
        let child = Command::new(std::env::current_exe().unwrap())
            .args([TEST, "--exact"])
            .env(LEVELS, levels)
            .env("RUST_LOG", directives)
            .output()
            .unwrap();
        assert!(child.status.success(), "{directives}: {}", String::from_utf8_lossy(&child.stdout));
    }
}

#[test]
fn fields_arrive_with_their_types_and_forge_none_of_the_hosts() {
    let (mut sandbox, log) = Log::of("fields", |builder| builder);
    sandbox.call::<()>("log_fields", ()).unwrap();
    let events = log.take();
    let fields = [
        ("answer", "42"),
        ("missing", "-1"),
        ("share", "0.5"),
        ("ready", "true"),
        ("name", "\"lamp\""),
        ("size", "Some(3)"),
    ];
    for (event, message) in events.iter().zip(["by log", "by tracing"]) {
        assert_eq!((event.message.as_str(), event.own_fields()), (message, fields.to_vec()));
    }
    assert_eq!((events[2].message.as_str(), events[2].own_fields()), ("", vec![("only", "\"a field\"")]));
    let forged = [("guest.sandbox", "\"another\""), ("guest.image", "\"another\""), ("guest.spans", "\"another\"")];
    assert_eq!(
        (
            events[3].message.as_str(),
            events[3].own_fields()[..]
                .iter()
                .filter(|(name, _)| name.starts_with("guest."))
                .copied()
                .collect::<Vec<_>>()
        ),
        ("forged", forged.to_vec())
    );
    assert_eq!(events[3].fields.iter().filter(|(name, _)| *name == "sandbox").count(), 1);
    assert_eq!(events[4].own_fields(), [("wide", u128::MAX.to_string().as_str())]);
    assert_eq!(events.len(), 5);
}

#[test]
fn an_event_names_the_spans_around_it() {
    let (mut sandbox, log) = Log::of("spans", |builder| builder.log_level(Level::INFO));
    for _ in 0..2 {
        sandbox.call::<()>("log_within_spans", ()).unwrap();
        let events = log.take();
        let spans: Vec<_> = events.iter().map(|event| (event.message.as_str(), event.field("spans"))).collect();
        let expected = [
            ("in both", Some("outer:inner")),
            ("in one", Some("outer")),
            ("in none", None),
            ("in one again", Some("outer")),
        ];
        assert_eq!(spans, expected);
    }
}

#[test]
fn records_and_printed_text_keep_their_order_whatever_leaves_the_guest_meanwhile() {
    let (stdout, text) = (Output::log(), Output::log());
    let (mut sandbox, log) = Log::of("order", |builder| builder.stdout(stdout).stderr(text));
    sandbox.call::<()>("log_between_lines", ()).unwrap();
    assert_eq!(log.messages(), ["line 1", "record 1", "line 2", "record 2", "line 3"]);

    sandbox.call::<()>("log_while_logging", ()).unwrap();
    let expected = ["printed within", "logged within", "busy", "printed within", "logged within", "outer"];
    assert_eq!(log.messages(), expected);
}

#[test]
fn records_arrive_before_a_host_function_runs() {
    let arrived = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&arrived);
    let look = move || {
        let log = Log { sandbox: "host function", everything: Everything::default() };
        seen.lock().unwrap().push(log.messages());
    };
    LazyLock::force(&SUBSCRIBER);
    let mut sandbox = Sandbox::builder(&logger_image())
        .name("host function")
        .log_level(Level::INFO)
        .host_fn("look", look)
        .build()
        .unwrap();
    sandbox.call::<()>("log_and_look", ()).unwrap();
    assert_eq!(*arrived.lock().unwrap(), [["before"]]);
}

#[test]
fn records_before_the_guests_end_arrive() {
    let (mut sandbox, log) = Log::of("end", |builder| builder);
    for end in ["fault", "panic", "abort", "exit"] {
        sandbox.call::<()>("log_and_end", (end,)).unwrap_err();
        assert_eq!(log.messages(), ["first", "second"], "{end}");
        sandbox.reset().unwrap();
        assert_eq!(log.messages(), [""; 0], "{end}");
    }
    let handle = sandbox.interrupt_handle();
    let killer = thread::spawn(move || {
        while !handle.is_running() {
            thread::yield_now();
        }
        thread::sleep(std::time::Duration::from_millis(50));
        handle.kill()
    });
    let cause = termination(sandbox.call::<()>("log_and_end", ("spin",)).unwrap_err());
    assert!(matches!(cause, Termination::Killed), "{cause}");
    killer.join().unwrap();
    assert_eq!(log.messages(), ["first", "second"]);
}

#[test]
fn ten_thousand_records_arrive_in_order_with_few_exits() {
    const RECORDS: u32 = 10_000;
    let (mut sandbox, log) = Log::of("many", |builder| builder);
    sandbox.call::<()>("log_many", (1u32,)).unwrap();
    let before = sandbox.stats().unwrap().exits;
    sandbox.call::<()>("log_many", (RECORDS,)).unwrap();
    let exits = sandbox.stats().unwrap().exits - before;
    let messages = log.messages();
    assert_eq!(messages[0], "record 0");
    assert_eq!(messages[1..], (0..RECORDS).map(|number| format!("record {number}")).collect::<Vec<_>>());
    // A record takes less than 128 bytes, and 16 KiB wait at a time.
    assert!(exits <= u64::from(RECORDS) * 128 / (16 << 10) + 2, "{exits} exits");
}

#[test]
fn a_record_is_no_exit_and_one_that_is_not_wanted_costs_nothing() {
    let (mut sandbox, log) = Log::of("costs", |builder| builder.log_level(Level::INFO));
    let exits = |sandbox: &mut Sandbox, function: &str| {
        let before = sandbox.stats().unwrap().exits;
        sandbox.call::<()>(function, ()).unwrap();
        sandbox.stats().unwrap().exits - before
    };
    let empty = exits(&mut sandbox, "empty");
    assert_eq!(exits(&mut sandbox, "log_at_all_levels"), empty);
    assert_eq!(log.take().len(), 6);

    let pages = |sandbox: &mut Sandbox, level: LevelFilter, function: &str| {
        let mut restored = 0;
        sandbox.set_log_level(level);
        for _ in 0..3 {
            let before = sandbox.stats().unwrap().pages_restored;
            sandbox.call::<()>(function, ()).unwrap();
            sandbox.reset().unwrap();
            restored = sandbox.stats().unwrap().pages_restored - before;
        }
        restored
    };
    let (mut silent, _log) = Log::of("no pages", |builder| builder.log_level(LevelFilter::OFF));
    let empty = pages(&mut silent, LevelFilter::OFF, "empty");
    assert_eq!(pages(&mut silent, LevelFilter::OFF, "log_at_all_levels"), empty);
    // At the level of its snapshot a guest writes nothing but what it logs.
    let (mut sandbox, _log) = Log::of("pages", |builder| builder.log_level(Level::ERROR));
    assert_eq!(pages(&mut sandbox, LevelFilter::ERROR, "empty"), empty);
    assert!(pages(&mut sandbox, LevelFilter::ERROR, "log_at_all_levels") > empty);
}

#[test]
fn arguments_of_a_record_that_is_not_wanted_are_not_evaluated() {
    let (mut sandbox, _log) = Log::of("evaluations", |builder| builder.log_level(Level::DEBUG));
    for (level, evaluations) in [
        (LevelFilter::DEBUG, [2, 2, 0]),
        (LevelFilter::ERROR, [2, 0, 0]),
        (LevelFilter::OFF, [0; 3]),
        (LevelFilter::TRACE, [2; 3]),
    ] {
        sandbox.set_log_level(level);
        let of = |of: &str| sandbox.call::<u32>("evaluations", (of,)).unwrap();
        assert_eq!(["error", "debug", "trace"].map(of), evaluations, "{level}");
    }
}

#[test]
fn long_texts_are_cut_and_marked() {
    let (mut sandbox, log) = Log::of("long", |builder| builder);
    for (len, cut) in [(0, 0), (4096, 4096), (4097, 4093), (100_000, 4093)] {
        sandbox.call::<()>("log_text", ("x".repeat(len),)).unwrap();
        let mark = if cut < len { "…" } else { "" };
        assert_eq!(log.messages(), ["x".repeat(cut) + mark], "{len}");
    }
    // Between two characters.
    sandbox.call::<()>("log_text", ("ä".repeat(2049),)).unwrap();
    assert_eq!(log.messages(), ["ä".repeat(2046) + "…"]);
}

#[test]
fn a_record_has_an_end_and_a_bounded_number_of_fields_whatever_the_program_logs() {
    let (mut sandbox, log) = Log::of("without an end", |builder| builder);
    sandbox.call::<()>("log_without_an_end", ()).unwrap();
    let events = log.take();
    let [message, field] = &events[..] else { panic!("{events:?}") };
    let is_cut = |text: &str| text.len() <= 4096 && text.starts_with("again again ") && text.ends_with('…');
    assert!(is_cut(&message.message), "{message:?}");
    assert_eq!(message.own_fields(), [("answer", "42")]);
    // There is no room for another one.
    assert_eq!((field.message.as_str(), field.own_fields().len()), ("short", 1));
    assert!(field.field("endless").is_some_and(is_cut), "{field:?}");

    for (fields, arrive) in [(0u32, 0), (24, 24), (25, 24), (1000, 24)] {
        sandbox.call::<()>("log_fields_of_number", (fields,)).unwrap();
        let events = log.take();
        let expected: Vec<_> = (0..arrive).map(|number| (format!("field_{number}"), number.to_string())).collect();
        let arrived: Vec<_> =
            events[0].own_fields().iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        assert_eq!((events.len(), arrived), (1, expected), "{fields}");
    }
}

#[test]
fn records_count_as_printed_text() {
    let (mut sandbox, log) = Log::of("limit", |builder| builder);
    let call = Call::new("log_for_ever", ()).limits(Limits::new().output(100_000));
    let cause = termination(sandbox.call_with::<(), _>(call).unwrap_err());
    assert!(matches!(cause, Termination::LimitExceeded(ExceededLimit::Output(100_000))), "{cause}");
    let records = log.take().len();
    assert!((500..=100_000 / 64).contains(&records), "{records}");
}

#[test]
fn records_about_many_targets_arrive_and_the_log_is_asked_for_each_of_the_first() {
    let (mut sandbox, log) = Log::of("targets", |builder| builder);
    sandbox.call::<()>("log_about", (300u32,)).unwrap();
    let events = log.take();
    let wanted: Vec<u32> = (0..300).filter(|number| *number != 7).collect();
    assert_eq!(
        events.iter().map(|event| event.message.clone()).collect::<Vec<_>>(),
        wanted.iter().map(|number| format!("about {number}")).collect::<Vec<_>>()
    );
    for (event, number) in events.iter().zip(wanted) {
        let target = format!("target_{number}");
        if number < 256 {
            assert_eq!(event.target, format!("ampoule::guest::{target}"));
        } else {
            assert_eq!((event.target, event.field("guest.target")), ("ampoule::guest", Some(target.as_str())));
        }
    }
}

#[test]
fn records_of_a_guests_preparation_arrive_once_it_has_asked_for_it() {
    let (_sandbox, log) = Log::of("unasked", |builder| builder);
    assert_eq!(log.messages(), [""; 0]);
    let (mut sandbox, log) = Log::of("asked", |builder| builder.env("LOG_AT_START", "sent").log_level(Level::INFO));
    assert_eq!(log.messages(), ["preparing", "preparing"]);
    sandbox.call::<()>("log_text", ("once",)).unwrap();
    assert_eq!(log.messages(), ["once"]);
}

#[test]
fn a_program_with_a_logger_of_its_own_keeps_it_and_its_level() {
    let (mut sandbox, log) = Log::of("elsewhere", |builder| builder.env("LOG_AT_START", "elsewhere"));
    sandbox.set_log_level(Level::ERROR);
    sandbox.call::<()>("log_text", ("kept",)).unwrap();
    assert_eq!(log.everything.take(), "INFO kept\n");
    assert_eq!(log.messages(), [""; 0]);
}

#[test]
fn a_forged_record_speaks_for_nobody_else_and_a_malformed_one_ends_the_guest() {
    let (mut sandbox, log) = Log::of("forged", |builder| builder.log_level(Level::INFO));
    let mut forge = |kind: &str| {
        let ended = sandbox.call::<()>("forge", (kind,)).err().map(termination);
        if ended.is_some() {
            sandbox.reset().unwrap();
        }
        (ended, log.take())
    };
    for kind in ["sound", "most fields"] {
        let (ended, events) = forge(kind);
        assert!(ended.is_none(), "{kind}: {ended:?}");
        assert_eq!((events.len(), events[0].target), (1, "ampoule::guest::forged"), "{kind}");
    }
    // Nobody has asked for it.
    assert!(matches!(forge("trace"), (None, events) if events.is_empty()));

    let (_, events) = forge("lost");
    assert_eq!((events[0].target, events[0].field("lost")), ("ampoule::guest", Some(u64::MAX.to_string().as_str())));

    let (_, events) = forge("long target");
    assert_eq!((events[0].target, events[0].field("guest.target").map(str::len)), ("ampoule::guest", Some(2000)));

    let (_, events) = forge("control characters");
    let Logged { target, file, message, .. } = &events[0];
    assert_eq!((*target, *file), ("ampoule::guest::evil\\n\\u{202e}", Some("\\u{1b}[2J")));
    assert_eq!(message, "one\\ntwo\\u{1b}");
    assert_eq!(events[0].own_fields(), [("name\\n", "\"a\\\\nb\""), ("guest.message", "c\\u{7}")]);

    for kind in ["level 0", "level 6", "fields", "spans", "empty", "cut", "trailing", "no UTF-8", "huge length"] {
        let (ended, events) = forge(kind);
        let malformed = ProtocolViolation::LogRecord { offset: 0 };
        assert!(
            matches!(&ended, Some(Termination::Protocol(violation)) if *violation == malformed),
            "{kind}: {ended:?}"
        );
        assert!(events.is_empty(), "{kind}: {events:?}");
    }
}

#[test]
fn a_fault_after_a_malformed_record_is_reported_as_a_fault() {
    let (mut sandbox, log) = Log::of("fault", |builder| builder);
    let error = sandbox.call::<()>("forge_and_fault", ()).unwrap_err();
    let cause = termination(error);
    assert!(
        matches!(&cause, Termination::Fault(fault) if matches!(fault.kind(), FaultKind::PageFault { address: 0, .. })),
        "{cause}"
    );
    assert_eq!(log.messages(), [""; 0]);
}
