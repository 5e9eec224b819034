//! What takes time has a span in the `tracing` log, with its fields, and within the span of what it is a part of.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use ampoule::{Executable, Limits, Pool, PoolError, Program, Sandbox, Trace};
use ampoule_tests::{calls_builder, calls_image, calls_sandbox, calls_spawn};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

#[test]
fn what_is_done_with_a_sandbox_has_a_span_with_fields() {
    let log = Log::default();
    let image = calls_image().name().to_owned();
    let mut sandbox = log.of(|| calls_builder().name("tested").build().unwrap());
    let [create, start, snapshot] = log.take();
    assert_eq!(create.fields(), [("image", image.as_str()), ("memory_limit", "67108864")]);
    let names = [("image", image.as_str()), ("sandbox", "tested")];
    assert_eq!(start.fields(), names);
    assert_eq!([create.path, start.path, snapshot.path], ["create", "create/start", "create/snapshot"]);

    let snapshot = log.of(|| sandbox.snapshot().unwrap());
    let [taken] = log.take();
    let pages = (snapshot.stored_bytes() / 4096).to_string();
    assert_eq!(taken.fields(), [names[0], names[1], ("stored_pages", &pages)]);

    let before = sandbox.stats().unwrap().pages_restored;
    log.of(|| sandbox.restore(&snapshot).unwrap());
    let [restore] = log.take();
    let pages = (sandbox.stats().unwrap().pages_restored - before).to_string();
    assert_eq!((restore.path.as_str(), restore.fields()), ("restore", vec![names[0], ("pages", &pages), names[1]]));

    log.of(|| calls_spawn(snapshot.builder()).build().unwrap());
    let [spawn] = log.take();
    assert_eq!((spawn.path.as_str(), spawn.fields()), ("spawn", vec![("image", image.as_str())]));
}

#[test]
fn what_is_done_with_a_program_has_a_span_with_fields() {
    let log = Log::default();
    let executable = Executable::from_bytes(include_bytes!(env!("PREPARED")).as_slice()).unwrap();
    let program = |how: &str| Program::of(&executable).name("tested").arg(how);
    let mut idle = log.of(|| program("read").start().unwrap().run_until_input().unwrap());
    let [create, run, snapshot] = log.take();
    assert_eq!(create.fields(), [("image", "in memory"), ("memory_limit", "268435456")]);
    let names = [("image", "in memory"), ("sandbox", "tested")];
    assert_eq!((run.path.as_str(), run.fields()), ("run", names.to_vec()));
    assert_eq!([create.path, snapshot.path], ["create", "snapshot"]);

    log.of(|| idle.input("show\n").run().unwrap());
    assert_eq!(log.take::<1>()[0].fields(), [("code", "0"), names[0], names[1]]);
    log.of(|| idle.reset().unwrap());
    let [restore] = log.take();
    assert_eq!((restore.path.as_str(), restore.get("sandbox")), ("restore", "tested"));

    let cut = Limits::new().system_calls(0);
    let error = log.of(|| idle.input("show\n").limits(cut).run().unwrap_err());
    let [run] = log.take();
    assert!(error.to_string().contains(run.get("error")), "{error}: {}", run.get("error"));
    let missing = log.of(|| Program::new("/nonexistent").start().unwrap_err());
    let [create] = log.take();
    assert_eq!((create.path.as_str(), create.get("error")), ("create", missing.to_string().as_str()));
}

#[test]
fn a_host_function_is_within_its_call_and_what_it_does_within_both() {
    let log = Log::default();
    let mut sandbox = Sandbox::builder(&calls_image())
        .name("tested")
        .host_fn("notify", || tracing::debug_span!("lookup").in_scope(|| ()))
        .host_fn("add", |a: u32, b: u32| a + b)
        .try_host_fn("parse", |text: String| text.parse::<u32>())
        .try_host_fn("transform", Ok::<Vec<u8>, String>)
        .build()
        .unwrap();
    log.of(|| sandbox.call::<()>("notify_host", (1u32,)).unwrap());
    let [call, host_function, lookup] = log.take();
    assert_eq!(call.fields, fields(&[("arguments", "4"), ("function", "notify_host"), ("sandbox", "tested")], &call));
    assert_eq!(host_function.fields(), [("arguments", "0"), ("function", "notify")]);
    assert_eq!([host_function.path, lookup.path], ["call/host_function", "call/host_function/lookup"]);
}

#[test]
fn the_span_of_what_fails_says_why() {
    let log = Log::default();
    let mut sandbox = calls_sandbox();
    let error = log.of(|| sandbox.call::<()>("fault", ()).unwrap_err());
    let [call] = log.take();
    assert_eq!(call.get("error"), error.to_string());
    let error = log.of(|| calls_builder().memory_limit(1 << 20).build().unwrap_err());
    assert_eq!(log.take::<1>()[0].get("error"), error.to_string());
}

#[test]
fn waiting_for_a_sandbox_of_a_pool_has_a_span_and_finding_one_has_none() {
    let log = Log::default();
    let snapshot = calls_sandbox().snapshot().unwrap();
    let pool = Pool::builder(&snapshot).size(1).spawn_with(calls_spawn).build().unwrap();
    let taken = log.of(|| pool.take().unwrap());
    let [] = log.take();
    let result = log.of(|| pool.take_timeout(Duration::from_millis(1)));
    assert!(matches!(result, Err(PoolError::TimedOut { .. })));
    let [wait] = log.take();
    assert_eq!((wait.path.as_str(), wait.get("size")), ("pool_wait", "1"));

    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let release = thread::spawn({
        let pool = pool.clone();
        move || {
            while pool.stats().waiting == 0 {
                thread::yield_now();
            }
            drop(taken);
        }
    });
    log.of(|| drop(runtime.block_on(pool.take_async()).unwrap()));
    release.join().unwrap();
    assert_eq!(log.take::<2>().map(|span| span.path), ["pool_wait", "restore"]);
}

#[test]
fn at_level_trace_the_log_has_the_lines_of_a_trace_within_their_call() {
    let log = Log::down_to(Level::TRACE);
    let mut sandbox = calls_sandbox();
    let call = |sandbox: &mut Sandbox| sandbox.call::<()>("write_by_system_call", ("text", 1u32)).unwrap();
    // Where several threads come to a line of the log for the first time, `tracing` may miss who begins to listen meanwhile.
    log.of(|| call(&mut sandbox));
    log.0.lock().unwrap().events.clear();
    log.of(|| call(&mut sandbox));
    let events = std::mem::take(&mut log.0.lock().unwrap().events);
    assert_eq!(events.len(), 1, "{events:?}");
    assert!(events[0].starts_with(r#"call: write(1, "text", 4) = 4 <"#), "{events:?}");
    // Unless they go elsewhere.
    sandbox.set_trace(Trace::off());
    log.of(|| call(&mut sandbox));
    assert!(log.0.lock().unwrap().events.is_empty());
}

/// The fields that a span is to have, and the name of its image.
fn fields(expected: &[(&str, &str)], span: &Span) -> BTreeMap<String, String> {
    let image = ("image".to_owned(), span.get("image").to_owned());
    expected.iter().map(|(name, value)| (name.to_string(), value.to_string())).chain([image]).collect()
}

/// The spans of the library in the log of a thread, in the order in which they began.
#[derive(Clone)]
struct Log(Arc<Mutex<Recorded>>, Level);

#[derive(Default)]
struct Recorded {
    spans: Vec<(Id, Span)>,
    /// Events with the target `ampoule::trace`, with the span that they are in.
    events: Vec<String>,
}

#[derive(Debug)]
struct Span {
    /// Its name, behind those of the spans that it is in.
    path: String,
    fields: BTreeMap<String, String>,
}

impl Span {
    fn fields(&self) -> Vec<(&str, &str)> {
        self.fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }

    fn get(&self, field: &str) -> &str {
        &self.fields[field]
    }
}

impl Default for Log {
    fn default() -> Self {
        Self::down_to(Level::DEBUG)
    }
}

impl Log {
    fn down_to(level: Level) -> Self {
        Self(Arc::default(), level)
    }

    /// Logs what is done on this thread.
    fn of<R>(&self, action: impl FnOnce() -> R) -> R {
        tracing::subscriber::with_default(tracing_subscriber::registry().with(self.clone()), action)
    }

    fn take<const N: usize>(&self) -> [Span; N] {
        let spans: Vec<_> =
            std::mem::take(&mut self.0.lock().unwrap().spans).into_iter().map(|(_, span)| span).collect();
        spans.try_into().unwrap_or_else(|spans| panic!("{spans:?}"))
    }
}

impl<S: Subscriber + for<'span> LookupSpan<'span>> Layer<S> for Log {
    fn enabled(&self, metadata: &tracing::Metadata<'_>, _: Context<'_, S>) -> bool {
        *metadata.level() <= self.1
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let scope = context.span_scope(id).unwrap().from_root().map(|span| span.name()).collect::<Vec<_>>();
        let mut span = Span { path: scope.join("/"), fields: BTreeMap::new() };
        attributes.record(&mut Fields(&mut span.fields));
        self.0.lock().unwrap().spans.push((id.clone(), span));
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, _: Context<'_, S>) {
        let mut recorded = self.0.lock().unwrap();
        let (_, span) = recorded.spans.iter_mut().rfind(|(own, _)| own == id).unwrap();
        values.record(&mut Fields(&mut span.fields));
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if event.metadata().target() == "ampoule::trace" {
            let mut fields = BTreeMap::new();
            event.record(&mut Fields(&mut fields));
            let within = context.lookup_current().map_or("", |span| span.name());
            self.0.lock().unwrap().events.push(format!("{within}: {}", fields["message"]));
        }
    }
}

struct Fields<'span>(&'span mut BTreeMap<String, String>);

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }
}
