//! The crate `tracing`: its events become records, and so does what becomes of its spans.

use std::fmt::{self, Debug, Display};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use ampoule_abi::layout::{LogLevel, MAX_LOG_SPANS, SpanParent, SpanStep};
use tracing_core::field::{Field, Visit};
use tracing_core::span::{Attributes, Current, Id, Record};
use tracing_core::subscriber::{Interest, Subscriber};
use tracing_core::{Dispatch, Event, Level, LevelFilter, Metadata, callsite, dispatcher};

use super::record::{Content, FieldValue, Source};
use super::span_record::{MESSAGE, step};
use super::spans::{Spans, id, number};

pub(super) fn install() {
    if dispatcher::set_global_default(Dispatch::new(Records)).is_ok() {
        IS_INSTALLED.store(true, Ordering::Relaxed);
    }
}

pub(super) fn set_level(level: Option<LogLevel>) {
    let level = level.map_or(0, |level| level as u32);
    if IS_INSTALLED.load(Ordering::Relaxed) && LEVEL.swap(level, Ordering::Relaxed) != level {
        // Each place in the program remembers whether it is wanted.
        callsite::rebuild_interest_cache();
    }
}

/// The program's subscriber.
struct Records;

impl Subscriber for Records {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.enabled(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= greatest_level()
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(greatest_level())
    }

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields(Content::default());
        event.record(&mut fields);
        let (parent, names) = Spans::with(|spans| {
            let innermost = if event.is_contextual() { spans.current() } else { event.parent().map(number) };
            let parent = spans.parent(event.is_contextual(), event.parent().map(number));
            Some((parent, spans.names(innermost, MAX_LOG_SPANS)))
        })
        .unwrap_or((SpanParent::Current, Vec::new()));
        source(event.metadata()).log(&fields.0, parent, &names);
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let mut fields = Fields(Content::default());
        attributes.record(&mut fields);
        let metadata = attributes.metadata();
        let opened = Spans::with(|spans| {
            let explicit = attributes.parent().map(number);
            let parent = if attributes.is_contextual() { spans.current() } else { explicit };
            let known_parent = spans.parent(attributes.is_contextual(), explicit);
            let (number, serial) = spans.open(metadata, parent);
            Some((number, serial, known_parent))
        });
        let Some((number, serial, parent)) = opened else { return id(usize::MAX - 1) };
        let names = metadata.fields().iter().map(|field| field.name());
        if source(metadata).open((serial, parent), metadata.name(), names, &fields.0) {
            Spans::with(|spans| spans.mark_known(number));
        }
        id(number)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        if let Some(span) = Spans::with(|spans| spans.known(number(span), greatest_level())) {
            let mut fields = Fields(Content::default());
            values.record(&mut fields);
            step(SpanStep::Record { span, fields: fields.0.shared() });
        }
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, span: &Id) {
        let known = Spans::with(|spans| {
            spans.enter(number(span));
            spans.known(number(span), greatest_level())
        });
        if let Some(span) = known {
            step(SpanStep::Enter(span));
        }
    }

    fn exit(&self, span: &Id) {
        let known = Spans::with(|spans| {
            spans.exit(number(span));
            // Even where the level has changed since it was entered.
            spans.known(number(span), LevelFilter::TRACE)
        });
        if let Some(span) = known {
            step(SpanStep::Exit(span));
        }
    }

    fn clone_span(&self, span: &Id) -> Id {
        Spans::with(|spans| spans.hold(number(span)));
        span.clone()
    }

    fn try_close(&self, span: Id) -> bool {
        let (is_closed, known) = Spans::with(|spans| spans.release(number(&span)));
        known.into_iter().for_each(|span| {
            step(SpanStep::Close(span));
        });
        is_closed
    }

    fn current_span(&self) -> Current {
        let current = Spans::with(|spans| spans.current().and_then(|number| Some((number, spans.metadata(number)?))));
        current.map_or_else(Current::none, |(number, metadata)| Current::new(id(number), metadata))
    }
}

/// What the program's sources say of an event or a span.
fn source(metadata: &Metadata<'static>) -> Source<'static> {
    Source {
        level: level(metadata.level()),
        target: metadata.target(),
        module: metadata.module_path().unwrap_or_default(),
        file: metadata.file().unwrap_or_default(),
        line: metadata.line().unwrap_or_default(),
    }
}

/// The content of a record, field by field.
struct Fields(Content);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        match field.name() {
            MESSAGE => self.0.set_message(&Debugged(value)),
            name => self.0.add_formatted(name, &Debugged(value)),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            MESSAGE => self.0.set_message(&value),
            name => self.0.add_text(name, value),
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.add(field.name(), FieldValue::Bool(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.add(field.name(), FieldValue::Signed(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.add(field.name(), FieldValue::Unsigned(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.0.add(field.name(), FieldValue::Float(value));
    }
}

/// A value as `{:?}` shows it.
struct Debugged<'value>(&'value dyn Debug);

impl Display for Debugged<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn level(level: &Level) -> LogLevel {
    match *level {
        Level::ERROR => LogLevel::Error,
        Level::WARN => LogLevel::Warn,
        Level::INFO => LogLevel::Info,
        Level::DEBUG => LogLevel::Debug,
        Level::TRACE => LogLevel::Trace,
    }
}

fn greatest_level() -> LevelFilter {
    match LogLevel::from_u32(LEVEL.load(Ordering::Relaxed)) {
        None => LevelFilter::OFF,
        Some(LogLevel::Error) => LevelFilter::ERROR,
        Some(LogLevel::Warn) => LevelFilter::WARN,
        Some(LogLevel::Info) => LevelFilter::INFO,
        Some(LogLevel::Debug) => LevelFilter::DEBUG,
        Some(LogLevel::Trace) => LevelFilter::TRACE,
    }
}

static IS_INSTALLED: AtomicBool = AtomicBool::new(false);

/// The number of the greatest level of which records are made.
static LEVEL: AtomicU32 = AtomicU32::new(0);
