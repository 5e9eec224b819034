//! The crate `log`.

use std::sync::atomic::{AtomicBool, Ordering};

use ampoule_abi::layout::{LogLevel, SpanParent};
use log::kv::{self, Key, Value, VisitSource, VisitValue};
use log::{Level, LevelFilter, Log, Metadata, Record};

use super::record::{Content, FieldValue, Source};

pub(super) fn install() {
    if log::set_logger(&Logger).is_ok() {
        IS_INSTALLED.store(true, Ordering::Relaxed);
    }
}

pub(super) fn set_level(level: Option<LogLevel>) {
    if IS_INSTALLED.load(Ordering::Relaxed) {
        log::set_max_level(match level {
            None => LevelFilter::Off,
            Some(LogLevel::Error) => LevelFilter::Error,
            Some(LogLevel::Warn) => LevelFilter::Warn,
            Some(LogLevel::Info) => LevelFilter::Info,
            Some(LogLevel::Debug) => LevelFilter::Debug,
            Some(LogLevel::Trace) => LevelFilter::Trace,
        });
    }
}

struct Logger;

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let mut content = Content::default();
        content.set_message(record.args());
        // An error of a value's own leaves the fields before it.
        let _ = record.key_values().visit(&mut Fields(&mut content));
        let source = Source {
            level: level(record.level()),
            target: record.target(),
            module: record.module_path().unwrap_or_default(),
            file: record.file().unwrap_or_default(),
            line: record.line().unwrap_or_default(),
        };
        source.log(&content, SpanParent::Current, &[]);
    }

    fn flush(&self) {}
}

fn level(level: Level) -> LogLevel {
    match level {
        Level::Error => LogLevel::Error,
        Level::Warn => LogLevel::Warn,
        Level::Info => LogLevel::Info,
        Level::Debug => LogLevel::Debug,
        Level::Trace => LogLevel::Trace,
    }
}

/// Adds key-values to a record.
struct Fields<'content>(&'content mut Content);

impl<'kvs> VisitSource<'kvs> for Fields<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        value.visit(Field { content: self.0, name: key.as_str() })
    }
}

/// Adds one of them.
struct Field<'content, 'kvs> {
    content: &'content mut Content,
    name: &'kvs str,
}

impl<'kvs> VisitValue<'kvs> for Field<'_, '_> {
    fn visit_any(&mut self, value: Value<'_>) -> Result<(), kv::Error> {
        self.content.add_formatted(self.name, &value);
        Ok(())
    }

    fn visit_bool(&mut self, value: bool) -> Result<(), kv::Error> {
        self.content.add(self.name, FieldValue::Bool(value));
        Ok(())
    }

    fn visit_i64(&mut self, value: i64) -> Result<(), kv::Error> {
        self.content.add(self.name, FieldValue::Signed(value));
        Ok(())
    }

    fn visit_u64(&mut self, value: u64) -> Result<(), kv::Error> {
        self.content.add(self.name, FieldValue::Unsigned(value));
        Ok(())
    }

    fn visit_f64(&mut self, value: f64) -> Result<(), kv::Error> {
        self.content.add(self.name, FieldValue::Float(value));
        Ok(())
    }

    fn visit_str(&mut self, value: &str) -> Result<(), kv::Error> {
        self.content.add_text(self.name, value);
        Ok(())
    }
}

static IS_INSTALLED: AtomicBool = AtomicBool::new(false);
