//! What a guest prints goes to the `tracing` log unless the builder says otherwise. The only test of its process, whose
//! subscriber it sets.

use std::fmt::{self, Write};
use std::sync::{Arc, Mutex};

use ampoule::{Output, Sandbox};
use ampoule_tests::{calls_builder, calls_image};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Keeps the events of guests.
struct Log(Arc<Mutex<Vec<(Level, String)>>>);

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "ampoule::guest"
    }

    fn event(&self, event: &Event<'_>) {
        let mut message = Message(String::new());
        event.record(&mut message);
        self.0.lock().unwrap().push((*event.metadata().level(), message.0));
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            write!(self.0, "{value:?}").unwrap();
        }
    }
}

#[test]
fn printed_lines_are_events_of_the_log() {
    let events = Arc::new(Mutex::new(Vec::new()));
    tracing::subscriber::set_global_default(Log(Arc::clone(&events))).unwrap();
    let mut sandbox = Sandbox::builder(&calls_image())
        .host_fn("add", |a: u32, b: u32| a + b)
        .host_fn("notify", || ())
        .try_host_fn("parse", |text: String| text.parse::<u32>())
        .try_host_fn("transform", Ok::<Vec<u8>, String>)
        .build()
        .unwrap();
    sandbox.call::<()>("print", ("one\ntwo \u{1b}[2J\nthree without an end",)).unwrap();
    sandbox.call::<()>("print_error", ("warning\n",)).unwrap();
    let seen = std::mem::take(&mut *events.lock().unwrap());
    assert_eq!(
        seen,
        [
            (Level::INFO, "one".to_string()),
            (Level::INFO, "two \\u{1b}[2J".to_string()),
            (Level::WARN, "warning".to_string()),
        ]
    );

    let mut silent = calls_builder().stdout(Output::discard()).build().unwrap();
    silent.call::<()>("print", ("nobody hears this\n",)).unwrap();
    assert!(events.lock().unwrap().is_empty());
}
