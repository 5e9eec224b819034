use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use ampoule_abi::layout::{LogRecord, LogValue, SpanField, SpanRecord, SpanStep};
use proptest::prelude::*;
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Dispatch, Event, Metadata, Subscriber, dispatcher};

use super::super::{GuestLog, Moment};
use super::*;

/// A subscriber that keeps count, and knows what `tracing` may be told of a span.
#[derive(Clone, Default)]
struct Counting(Arc<Mutex<Counted>>);

#[derive(Default)]
struct Counted {
    made: u64,
    /// The handles of each span that lives, and how often it is entered.
    spans: BTreeMap<u64, (usize, usize)>,
    most: usize,
    events: usize,
}

impl Counting {
    fn with(&self, span: &Id, action: impl FnOnce(&mut (usize, usize))) {
        action(self.0.lock().unwrap().spans.get_mut(&span.into_u64()).expect("a span that lives"));
    }
}

impl Subscriber for Counting {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("ampoule::guest")
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let mut counted = self.0.lock().unwrap();
        if let Some(parent) = attributes.parent() {
            assert!(counted.spans.contains_key(&parent.into_u64()), "a parent that lives");
        }
        counted.made += 1;
        let span = counted.made;
        counted.spans.insert(span, (1, 0));
        counted.most = counted.most.max(counted.spans.len());
        Id::from_u64(span)
    }

    fn record(&self, span: &Id, _: &Record<'_>) {
        self.with(span, |_| ());
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut counted = self.0.lock().unwrap();
        if let Some(parent) = event.parent() {
            assert!(counted.spans.contains_key(&parent.into_u64()), "a parent that lives");
        }
        counted.events += 1;
    }

    fn enter(&self, span: &Id) {
        self.with(span, |(_, entered)| *entered += 1);
    }

    fn exit(&self, span: &Id) {
        self.with(span, |(_, entered)| *entered = entered.checked_sub(1).expect("it is entered"));
    }

    fn clone_span(&self, span: &Id) -> Id {
        self.with(span, |(handles, _)| *handles += 1);
        span.clone()
    }

    fn try_close(&self, span: Id) -> bool {
        let mut counted = self.0.lock().unwrap();
        let (handles, entered) = counted.spans.get_mut(&span.into_u64()).expect("a span that lives");
        *handles -= 1;
        let (is_last, entered) = (*handles == 0, *entered);
        if is_last {
            assert_eq!(entered, 0, "nobody is in a span that ends");
            counted.spans.remove(&span.into_u64());
        }
        is_last
    }
}

fn opened(span: u64, parent: SpanParent, len: usize) -> OpenedSpan<'static> {
    OpenedSpan {
        span,
        parent,
        level: LogLevel::Info as u32,
        name: if len > 1000 { LONG } else { "span" },
        target: "target",
        module: "",
        file: "",
        line: 0,
        fields: vec![SpanField { name: "field", value: None }],
        lost: 0,
    }
}

/// Too long for a callsite.
const LONG: &str = match std::str::from_utf8(&[b'x'; 2000]) {
    Ok(text) => text,
    Err(_) => "",
};

fn step(log: &mut GuestLog, step: SpanStep<'_>, len: usize) {
    let level = matches!(step, SpanStep::Open(_) | SpanStep::Log { .. }).then_some(LogLevel::Info);
    log.pass_on_step(&Origin::of_a_test(), level, &SpanRecord { time: 0, step }, (Moment::now(), len));
}

proptest! {
    /// Whatever a guest reports, in whatever call: the log is told nothing of a span that it does not have, nothing is left in
    /// it between two calls and once the guest has ended.
    #[test]
    fn any_steps_leave_the_log_in_order(
        steps in prop::collection::vec((0u8..10, 0u64..6, 0u64..6, 0usize..20_000), 0..400),
    ) {
        let counting = Counting::default();
        dispatcher::with_default(&Dispatch::new(counting.clone()), || {
            let mut log = GuestLog::new(LevelFilter::TRACE);
            log.call_begins();
            for (kind, span, other, len) in steps {
                let parent = [SpanParent::Current, SpanParent::Outside, SpanParent::Span(other)][span as usize % 3];
                match kind {
                    0..3 => step(&mut log, SpanStep::Open(opened(span, parent, len)), len),
                    3..5 => step(&mut log, SpanStep::Enter(span), len),
                    5 => step(&mut log, SpanStep::Exit(span), len),
                    6 => {
                        let fields = vec![LogField { name: "field", value: LogValue::Unsigned(other) }];
                        step(&mut log, SpanStep::Record { span, fields }, len);
                    }
                    7 => step(&mut log, SpanStep::Close(span), len),
                    8 => {
                        let record = LogRecord { level: 3, ..LogRecord::default() };
                        step(&mut log, SpanStep::Log { parent, record }, len);
                    }
                    _ => {
                        log.call_ended(&Origin::of_a_test(), other == 0);
                        assert!(counting.0.lock().unwrap().spans.values().all(|(_, entered)| *entered == 0));
                        log.call_begins();
                    }
                }
            }
            log.leave();
        });
        let counted = counting.0.lock().unwrap();
        prop_assert!(counted.spans.is_empty(), "{:?}", counted.spans);
    }
}

#[test]
fn a_flood_of_spans_is_bounded_in_number_and_in_bytes() {
    let counting = Counting::default();
    let subscriber = Dispatch::new(counting.clone());
    let most_of = |len| {
        dispatcher::with_default(&subscriber, || {
            let mut log = GuestLog::new(LevelFilter::TRACE);
            log.call_begins();
            *counting.0.lock().unwrap() = Counted::default();
            for span in 0..3000 {
                step(&mut log, SpanStep::Open(opened(span, SpanParent::Span(span.wrapping_sub(1)), 0)), len);
                // Whoever closes what others are in would have the log keep it.
                step(&mut log, SpanStep::Close(span.wrapping_sub(1)), 12);
                step(&mut log, SpanStep::Enter(span), 12);
                step(&mut log, SpanStep::Enter(0), 12);
            }
            log.call_ended(&Origin::of_a_test(), true);
        });
        let counted = counting.0.lock().unwrap();
        assert_eq!((counted.spans.len(), counted.events), (0, 1), "what was too much is counted in one event");
        counted.most
    };
    assert_eq!(most_of(0), MOST);
    assert_eq!(most_of(16 << 10), MOST_HELD / (16 << 10));
}

#[test]
fn spans_stay_with_the_subscriber_that_has_them() {
    let [first, second] = [Counting::default(), Counting::default()];
    let mut log = GuestLog::new(LevelFilter::TRACE);
    dispatcher::with_default(&Dispatch::new(first.clone()), || {
        log.call_begins();
        step(&mut log, SpanStep::Open(opened(1, SpanParent::Current, 0)), 0);
        step(&mut log, SpanStep::Enter(1), 0);
        log.call_ended(&Origin::of_a_test(), false);
    });
    dispatcher::with_default(&Dispatch::new(second.clone()), || {
        log.call_begins();
        step(&mut log, SpanStep::Open(opened(2, SpanParent::Span(1), 0)), 0);
        let record = LogRecord { level: 3, ..LogRecord::default() };
        step(&mut log, SpanStep::Log { parent: SpanParent::Span(2), record }, 0);
        step(&mut log, SpanStep::Open(opened(3, SpanParent::Outside, 0)), 0);
        log.call_ended(&Origin::of_a_test(), false);
        drop(log);
    });
    let made = |log: &Counting| {
        let counted = log.0.lock().unwrap();
        (counted.made, counted.events)
    };
    assert_eq!((made(&first), made(&second)), ((2, 1), (1, 0)));
    assert!([first, second].iter().all(|log| log.0.lock().unwrap().spans.is_empty()));
}
