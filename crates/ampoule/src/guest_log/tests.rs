use std::fmt::{self, Write};
use std::sync::{Arc, Mutex};

use ampoule_abi::layout::{LogField, LogValue};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use super::*;

/// What a log record becomes: its level, target, place and fields.
#[derive(Debug, PartialEq)]
struct Logged {
    level: Level,
    target: &'static str,
    module: Option<&'static str>,
    file: Option<&'static str>,
    line: Option<u32>,
    fields: String,
}

/// The events that an action logs on this thread with targets that begin like this.
fn logged(prefix: &'static str, action: impl FnOnce()) -> Vec<Logged> {
    let events = Arc::default();
    tracing::subscriber::with_default(Recorder { prefix, events: Arc::clone(&events) }, action);
    std::mem::take(&mut *events.lock().unwrap())
}

struct Recorder {
    prefix: &'static str,
    events: Arc<Mutex<Vec<Logged>>>,
}

impl Subscriber for Recorder {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && metadata.target().starts_with(self.prefix)
    }

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields(String::new());
        event.record(&mut fields);
        let metadata = event.metadata();
        self.events.lock().unwrap().push(Logged {
            level: *metadata.level(),
            target: metadata.target(),
            module: metadata.module_path(),
            file: metadata.file(),
            line: metadata.line(),
            fields: fields.0,
        });
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        write!(self.0, "{}={value:?};", field.name()).unwrap();
    }
}

fn record() -> LogRecord<'static> {
    LogRecord {
        level: LogLevel::Info as u32,
        target: "shop",
        module: "shop::orders",
        file: "src/orders.rs",
        line: 7,
        message: "sold out",
        fields: vec![
            LogField { name: "item", value: LogValue::Text("lamp") },
            LogField { name: "left", value: LogValue::Signed(-1) },
        ],
        spans: vec!["order", "check"],
        lost: 0,
    }
}

fn log() -> GuestLog {
    GuestLog::new(LevelFilter::TRACE)
}

/// The fields of the host's that end the fields of each event.
fn host_fields(origin: &Origin) -> String {
    format!("image={};sandbox=tested;", origin.image())
}

#[test]
fn an_event_says_what_the_record_says_and_who_has_made_it() {
    let origin = Origin::of_a_test();
    let events = logged("ampoule::guest", || log().pass_on(&origin, LogLevel::Info, &record()));
    let expected = Logged {
        level: Level::INFO,
        target: "ampoule::guest::shop",
        module: Some("shop::orders"),
        file: Some("src/orders.rs"),
        line: Some(7),
        fields: format!("message=sold out;item=\"lamp\";left=-1;spans=order:check;{}", host_fields(&origin)),
    };
    assert_eq!(events, [expected]);
}

#[test]
fn what_is_not_known_is_left_out() {
    let mut origin = Origin::of_a_test();
    origin.calls("order");
    let events = logged("ampoule::guest", || log().pass_on(&origin, LogLevel::Warn, &LogRecord::default()));
    let Logged { level, target, module, file, line, fields } = &events[0];
    assert_eq!((*level, *target, *module, *file, *line), (Level::WARN, "ampoule::guest", None, None, None));
    assert_eq!(*fields, format!("{}function=\"order\";", host_fields(&origin)));
}

#[test]
fn a_subscriber_is_asked_for_the_target_and_the_level() {
    let origin = Origin::of_a_test();
    let wanted = LogRecord { target: "asked::wanted", ..record() };
    let unwanted = LogRecord { target: "asked::unwanted", ..record() };
    let events = logged("ampoule::guest::asked::wanted", || {
        log().pass_on(&origin, LogLevel::Info, &wanted);
        log().pass_on(&origin, LogLevel::Info, &unwanted);
    });
    assert_eq!(events.iter().map(|event| event.target).collect::<Vec<_>>(), ["ampoule::guest::asked::wanted"]);
}

#[test]
fn a_record_beyond_the_level_is_dropped() {
    let origin = Origin::of_a_test();
    let mut log = GuestLog::new(LevelFilter::INFO);
    let events = logged("ampoule::guest", || {
        log.pass_on(&origin, LogLevel::Debug, &record());
        log.pass_on(&origin, LogLevel::Info, &record());
        log.set_level(LevelFilter::DEBUG);
        log.pass_on(&origin, LogLevel::Debug, &record());
    });
    assert_eq!(events.iter().map(|event| event.level).collect::<Vec<_>>(), [Level::INFO, Level::DEBUG]);
}

#[test]
fn nobody_wants_a_record_where_there_is_no_subscriber_of_its_level() {
    assert_eq!(GuestLog::new(LevelFilter::OFF).level(), 0);
    assert!(log().level() <= LogLevel::Trace as u32);
    logged("ampoule::guest", || {
        assert_eq!(log().level(), LogLevel::Trace as u32);
        assert_eq!(GuestLog::new(LevelFilter::WARN).level(), LogLevel::Warn as u32);
    });
}

#[test]
fn a_guests_field_is_not_taken_for_the_hosts() {
    let origin = Origin::of_a_test();
    let fields = ["message", "sandbox", "guest.sandbox"].map(|name| LogField { name, value: LogValue::Bool(true) });
    let record = LogRecord { fields: fields.to_vec(), spans: vec![], ..record() };
    let events = logged("ampoule::guest", || log().pass_on(&origin, LogLevel::Info, &record));
    let own = "message=sold out;guest.message=true;guest.sandbox=true;guest.guest.sandbox=true;";
    assert_eq!(events[0].fields, format!("{own}{}", host_fields(&origin)));
}

#[test]
fn what_a_guest_says_is_printable() {
    let origin = Origin::of_a_test();
    let fields = [
        LogField { name: "a\nb", value: LogValue::Text("c\nd") },
        LogField { name: "e", value: LogValue::Formatted("f\u{202e}") },
    ];
    let texts = ["evil\n\u{202e}", "evil\x1b", "evil\r"];
    let [target, module, file] = texts;
    let record = LogRecord {
        target,
        module,
        file,
        message: "one\ntwo",
        fields: fields.to_vec(),
        spans: vec!["g\nh"],
        ..record()
    };
    for record in [&record, &LogRecord { file: LONG, ..record.clone() }] {
        let events = logged("ampoule::guest", || log().pass_on(&origin, LogLevel::Info, record));
        let Logged { target, module, file, fields, .. } = &events[0];
        let shown = [target, module.unwrap_or_default(), file.unwrap_or_default(), fields].concat();
        assert!(shown.chars().all(ampoule_abi::text::is_printable), "{shown}");
        assert!(shown.contains("evil\\n\\u{202e}") && shown.contains("message=one\\ntwo"), "{shown}");
    }
}

/// Too long for a callsite.
const LONG: &str = match std::str::from_utf8(&[b'x'; 2000]) {
    Ok(text) => text,
    Err(_) => "",
};

#[test]
fn a_place_with_long_names_is_in_the_fields() {
    let origin = Origin::of_a_test();
    let long = LogRecord { file: LONG, ..record() };
    let events = logged("ampoule::guest", || log().pass_on(&origin, LogLevel::Info, &long));
    let Logged { level, target, fields, .. } = &events[0];
    assert_eq!((*level, *target), (Level::INFO, "ampoule::guest"));
    let expected = format!(
        "message=sold out;guest.target=shop;guest.module=shop::orders;guest.file={LONG};guest.line=7;\
         guest.fields=item=\"lamp\" left=-1;spans=order:check;{}",
        host_fields(&origin)
    );
    assert_eq!(*fields, expected);
}

#[test]
fn a_sandbox_makes_so_many_callsites_and_its_further_records_arrive_all_the_same() {
    let origin = Origin::of_a_test();
    let targets: Vec<String> = (0..callsite::MOST_OF_SANDBOX + 10).map(|number| format!("many_{number}")).collect();
    let mut log = log();
    for _ in 0..2 {
        let events = logged("ampoule::guest", || {
            for target in &targets {
                log.pass_on(&origin, LogLevel::Info, &LogRecord { target, ..record() });
            }
        });
        let (own, shared) = events.split_at(callsite::MOST_OF_SANDBOX);
        assert!(own.iter().zip(&targets).all(|(event, target)| event.target == format!("ampoule::guest::{target}")));
        let rest = &targets[callsite::MOST_OF_SANDBOX..];
        assert_eq!(shared.len(), rest.len());
        for (event, target) in shared.iter().zip(rest) {
            assert_eq!(event.target, "ampoule::guest");
            assert!(event.fields.contains(&format!("guest.target={target};")), "{event:?}");
        }
    }
}

#[test]
fn lost_records_are_reported_before_the_one_that_says_so() {
    let origin = Origin::of_a_test();
    let record = LogRecord { lost: 12, ..record() };
    let events = logged("ampoule::guest", || log().pass_on(&origin, LogLevel::Info, &record));
    let [lost, logged] = &events[..] else { panic!("{events:?}") };
    assert_eq!((lost.level, lost.target), (Level::WARN, "ampoule::guest"));
    assert!(lost.fields.contains("lost=12;"), "{lost:?}");
    assert_eq!(logged.target, "ampoule::guest::shop");
}

#[test]
fn the_environment_names_guests_or_the_library_or_all() {
    const OFF: LevelFilter = LevelFilter::OFF;
    const ERROR: LevelFilter = LevelFilter::ERROR;
    const WARN: LevelFilter = LevelFilter::WARN;
    const INFO: LevelFilter = LevelFilter::INFO;
    const DEBUG: LevelFilter = LevelFilter::DEBUG;
    const TRACE: LevelFilter = LevelFilter::TRACE;
    for (directives, level) in [
        // Nothing is said.
        ("", ERROR),
        (",,", ERROR),
        ("another=trace", ERROR),
        ("another", ERROR),
        ("ampoule_vmm=trace", ERROR),
        // One kind.
        ("info", INFO),
        ("INFO", INFO),
        ("Warn", WARN),
        ("off", OFF),
        ("4", DEBUG),
        ("ampoule=debug", DEBUG),
        ("ampoule", TRACE),
        ("ampoule::guest=info", INFO),
        ("ampoule::guest", TRACE),
        (" warn , ampoule::guest = debug ", DEBUG),
        // The order of preference, whatever the order of the directives is.
        ("trace,ampoule=info", INFO),
        ("ampoule=info,trace", INFO),
        ("trace,ampoule::guest=warn,ampoule=info", WARN),
        ("ampoule::guest=off,debug", OFF),
        ("info,another=trace", INFO),
        // The last of a kind.
        ("info,debug", DEBUG),
        ("ampoule::guest=trace,ampoule::guest=warn", WARN),
        // A target of a guest raises the level only.
        ("ampoule::guest::parser=debug", DEBUG),
        ("info,ampoule::guest::parser=debug", DEBUG),
        ("debug,ampoule::guest::parser=error", DEBUG),
        ("ampoule::guest::parser", TRACE),
        ("ampoule::guests=trace", ERROR),
        // Other parts of the library.
        ("ampoule::pool=trace", ERROR),
        // Spans do not count.
        ("ampoule::guest[call{function=\"a,b\"}]=debug", DEBUG),
        ("ampoule::guest[call]", TRACE),
        ("[call]=trace", ERROR),
        ("[call{a=\"]\",b=2}]=trace,info", INFO),
        ("warn,ampoule[call{x=1}]=trace,another=debug", TRACE),
        // The filter of messages.
        ("info/sold out", INFO),
        ("ampoule=debug/a,trace", DEBUG),
        // What cannot be understood.
        ("loud", ERROR),
        ("info,ampoule=loud", INFO),
        ("ampoule=", ERROR),
        ("=debug", ERROR),
        ("ampoule::guest[call=debug", ERROR),
        ("ampoule::guest[call]x=debug", ERROR),
        ("ampoule::guest=debug=info", ERROR),
        ("\u{202e}\0,[,],{,},\",/", ERROR),
    ] {
        assert_eq!(environment::level_of(directives), level, "{directives:?}");
    }
}
