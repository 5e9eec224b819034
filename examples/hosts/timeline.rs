//! Writes what a program and its guests do as a timeline, for `chrome://tracing` and <https://ui.perfetto.dev>.
//!
//! ```text
//! cargo run --release --example timeline > timeline.json
//! ```

use std::error::Error;
use std::fmt;
use std::io::Write;
use std::sync::Mutex;
use std::thread::{self, Thread};
use std::time::{Duration, SystemTime};

use ampoule::{Image, Sandbox};
use serde_json::{Map, Value, json};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

fn main() -> Result<(), Box<dyn Error>> {
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(Timeline::new(std::io::stdout())))?;
    work()
}

/// What the timeline shows: a sandbox is built, called, and goes back.
fn work() -> Result<(), Box<dyn Error>> {
    let image = Image::embedded(ampoule::include_guest!("checkout"))?;
    let mut sandbox = Sandbox::builder(&image).name("shop").log_level(Level::INFO).host_fn("price", price).build()?;
    for basket in [vec!["lamp", "shade"], vec!["lamp"]] {
        sandbox.call::<u32>("checkout", (basket,))?;
        sandbox.reset()?;
    }
    Ok(())
}

/// Something slow that a guest asks for.
fn price(article: String) -> u32 {
    tracing::info_span!("ask the database").in_scope(|| thread::sleep(Duration::from_millis(2)));
    if article == "lamp" { 4990 } else { 1250 }
}

/// Writes spans and events in the format of Chrome's trace viewer, each on a line: an array without its end, which the format
/// allows.
struct Timeline<W> {
    start: SystemTime,
    to: Mutex<W>,
}

/// The fields of a span.
struct Fields(Map<String, Value>);

impl<W: Write> Timeline<W> {
    fn new(mut to: W) -> Self {
        // An error shows when the first entry is written.
        let _ = to.write_all(b"[\n");
        Self { start: SystemTime::now(), to: Mutex::new(to) }
    }

    /// Writes an entry: `B` and `E` are the beginning and the end of a span, `i` is an event.
    fn entry(&self, phase: &str, name: &str, arguments: &Map<String, Value>) {
        // What a guest has done is reported at its next exit. It was before.
        let time = ampoule::guest_time().unwrap_or_else(SystemTime::now).duration_since(self.start).unwrap_or_default();
        let (time, thread) = (time.as_nanos() as f64 / 1000.0, number(&thread::current()));
        let entry =
            json!({ "ph": phase, "name": name, "ts": time, "pid": 1, "tid": thread, "s": "t", "args": arguments });
        let mut to = self.to.lock().expect("no entry panics");
        if let Err(error) = writeln!(to, "{entry},").and_then(|()| to.flush()) {
            eprintln!("the timeline cannot be written: {error}");
        }
    }
}

impl<W, S> Layer<S> for Timeline<W>
where
    W: Write + Send + 'static,
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields(Map::new());
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            self.entry("B", span.name(), &Map::new());
        }
    }

    fn on_exit(&self, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions().get::<Fields>()
        {
            self.entry("E", span.name(), &fields.0);
        }
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields(Map::new());
        event.record(&mut fields);
        let message = fields.0.remove("message");
        let name = message.as_ref().and_then(Value::as_str).unwrap_or(event.metadata().name());
        self.entry("i", name, &fields.0);
    }
}

impl Visit for Fields {
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}").into());
    }
}

/// The viewer wants threads to be numbers.
fn number(thread: &Thread) -> u64 {
    let shown = format!("{:?}", thread.id());
    shown.trim_matches(|character: char| !character.is_ascii_digit()).parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_viewer_finds_host_and_guest_in_one_picture() {
        let memory = Memory::default();
        let log = tracing_subscriber::registry().with(Timeline::new(memory.clone()));
        tracing::subscriber::with_default(log, || work().unwrap());
        let text = String::from_utf8(memory.0.lock().unwrap().clone()).unwrap();
        let whole = format!("{}\n]", text.trim_end().trim_end_matches(','));
        let entries: Vec<Value> = serde_json::from_str(&whole).unwrap();

        // Begins and ends are nested, and time does not go back.
        let (mut open, mut last, mut paths) = (Vec::new(), 0.0, Vec::new());
        for entry in &entries {
            let (name, time) = (entry["name"].as_str().unwrap(), entry["ts"].as_f64().unwrap());
            assert!(time >= last, "{entry}");
            last = time;
            match entry["ph"].as_str().unwrap() {
                "B" => {
                    open.push(name);
                    paths.push(open.join("/"));
                }
                "E" => assert_eq!(open.pop(), Some(name)),
                _ => paths.push(format!("{}: {name}", open.join("/"))),
            }
        }
        assert!(open.is_empty());
        for path in [
            "create/start",
            "call/checkout/look up/article/host_function/ask the database",
            "call/checkout/add up: discount",
            "restore",
        ] {
            assert!(paths.iter().any(|found| found == path), "{path}: {paths:?}");
        }
        assert!(paths.iter().any(|found| found.starts_with("create/start: arch_prctl(ARCH_SET_FS, ")), "{paths:?}");
        let call = entries.iter().find(|entry| entry["ph"] == "E" && entry["name"] == "call").unwrap();
        assert_eq!((&call["args"]["sandbox"], &call["args"]["function"]), (&json!("shop"), &json!("checkout")));
        let ended = |name: &str| entries.iter().find(|entry| entry["ph"] == "E" && entry["name"] == name).unwrap();
        assert_eq!(ended("checkout")["args"]["total"], 5616);

        // Where the guest takes its time is seen, though it leaves the processor only for the prices.
        let lasts: Vec<f64> = ["look up", "add up"]
            .map(|name| {
                let begin = entries.iter().find(|entry| entry["ph"] == "B" && entry["name"] == name).unwrap();
                ended(name)["ts"].as_f64().unwrap() - begin["ts"].as_f64().unwrap()
            })
            .into();
        assert!(lasts[0] >= 4000.0 && 0.0 < lasts[1], "{lasts:?}");
    }
}
