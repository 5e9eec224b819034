//! The guest's spans as spans of the host's `tracing` log.
//!
//! Each step that the guest reports is done again in the log, on the thread that makes the call: a span is made, entered, left
//! and dropped. So what happens meanwhile is in it, a host function too. When the call ends, the thread leaves all spans. Those
//! that the guest is still in are entered again in the next call, and where the guest has ended, all end with it.
//!
//! A guest may report anything. It has at most [`MOST`] spans, is in at most [`MOST`], and what they hold is bounded by
//! [`MOST_HELD`]; what exceeds that is counted. A step of a span that is not known is passed over: the host does not know it
//! where the log does not want it, where there were too many, and where the guest is back at a snapshot with the span in it.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::SystemTime;

use ampoule_abi::layout::{LogField, LogLevel, OpenedSpan, SpanParent};
use ampoule_abi::text::{printable_line, printable_name};
use tracing::field::display;
use tracing::{Level, Span, Value, dispatcher};

use super::callsite::{Callsites, Place, SPAN_FIELDS, field_name};
use super::event::{Given, Parent, SpanFields, Within, with_subscriber};
use super::level;
use super::times::since_epoch;
use crate::output::Origin;

/// The spans of one guest.
#[derive(Debug, Default)]
pub(super) struct GuestSpans {
    /// By the numbers that the guest has given them.
    open: BTreeMap<u64, Open>,
    /// Those that the guest is in, from the outermost.
    entered: Vec<u64>,
    /// What this thread was in when it entered the first of them; `None` while it is in none, as between two calls.
    around: Option<Span>,
    /// Bytes of what the open spans hold.
    held: usize,
    /// How many spans and values there were too many, since this was last reported.
    refused: u64,
}

#[derive(Debug)]
struct Open {
    span: Span,
    start: SystemTime,
    parent: Option<u64>,
    /// How many spans it is the parent of.
    children: usize,
    held: usize,
}

impl GuestSpans {
    /// A span begins, by a record of this many bytes.
    pub(super) fn open(
        &mut self,
        callsites: &mut Callsites,
        origin: &Origin,
        number: LogLevel,
        opened: &OpenedSpan<'_>,
        (start, len): (SystemTime, usize),
    ) {
        if self.open.contains_key(&opened.span) {
            return;
        }
        let held = len.max(LEAST_HELD);
        if self.open.len() == MOST || self.held + held > MOST_HELD {
            self.refused += 1;
            return;
        }
        let parent = match opened.parent {
            SpanParent::Current => self.entered.last().copied(),
            SpanParent::Span(parent) => Some(parent).filter(|parent| self.open.contains_key(parent)),
            SpanParent::Outside => None,
        };
        let origin = parent.is_none().then_some(origin);
        let Some(span) = made(callsites, origin, number, opened, self.within(opened.parent).parent) else { return };
        if let Some(parent) = parent.and_then(|parent| self.open.get_mut(&parent)) {
            parent.children += 1;
        }
        self.held += held;
        self.open.insert(opened.span, Open { span, start, parent, children: 0, held });
    }

    /// The guest goes on in a span.
    pub(super) fn enter(&mut self, number: u64) {
        let Some(open) = self.open.get(&number) else { return };
        if self.entered.len() == MOST {
            self.refused += 1;
            return;
        }
        self.around.get_or_insert_with(Span::current);
        enter(&open.span);
        self.entered.push(number);
    }

    /// The guest leaves a span.
    pub(super) fn exit(&mut self, number: u64) {
        let Some(at) = self.entered.iter().rposition(|entered| *entered == number) else { return };
        self.entered.remove(at);
        if let Some(open) = self.open.get(&number) {
            exit(&open.span);
        }
        if self.entered.is_empty() {
            self.around = None;
        }
    }

    /// Fields of a span get values, by a record of this many bytes.
    pub(super) fn record(&mut self, number: u64, fields: &[LogField<'_>], len: usize) {
        let Some(open) = self.open.get_mut(&number) else { return };
        // Whoever listens may keep all values of a field.
        let held = len.max(LEAST_HELD);
        if self.held + held > MOST_HELD {
            self.refused += 1;
            return;
        }
        self.held += held;
        open.held += held;
        for field in fields {
            open.span.record(field_name(field.name).as_str(), Given::new(&field.value).value());
        }
    }

    /// A span ends. One with spans in it does not, whatever the guest says: the log would keep it.
    pub(super) fn close(&mut self, number: u64, end: SystemTime) {
        if self.open.get(&number).is_some_and(|open| open.children == 0) {
            while self.entered.contains(&number) {
                self.exit(number);
            }
            self.remove(number, end, true);
        }
    }

    /// Where in the log something belongs that the guest logs.
    pub(super) fn within(&self, parent: SpanParent) -> Within {
        let known = match parent {
            SpanParent::Current => {
                return Within { parent: Parent::Current, has_span: !self.entered.is_empty() };
            }
            SpanParent::Span(number) => self.open.get(&number),
            SpanParent::Outside => None,
        };
        match (known, &self.around) {
            (Some(open), _) => Within { parent: Parent::Span(open.span.clone()), has_span: true },
            (None, Some(around)) => Within { parent: Parent::Span(around.clone()), has_span: false },
            (None, None) => Within::host(),
        }
    }

    /// A call begins, on this thread.
    pub(super) fn resume(&mut self) {
        if !self.entered.is_empty() && self.around.is_none() {
            self.around = Some(Span::current());
            self.entered.iter().filter_map(|number| self.open.get(number)).for_each(|open| enter(&open.span));
        }
    }

    /// A call ends, on this thread, or is unwound from.
    pub(super) fn suspend(&mut self) {
        if self.around.take().is_some() {
            self.entered.iter().rev().filter_map(|number| self.open.get(number)).for_each(|open| exit(&open.span));
        }
    }

    /// The guest has ended, or goes back to an earlier state, and all spans end with it.
    pub(super) fn end(&mut self, end: SystemTime) {
        self.suspend();
        self.entered.clear();
        while let Some((&number, _)) = self.open.last_key_value() {
            self.remove(number, end, false);
        }
    }

    /// How many spans and values there were too many, once.
    pub(super) fn take_refused(&mut self) -> u64 {
        std::mem::take(&mut self.refused)
    }

    fn remove(&mut self, number: u64, end: SystemTime, is_finished: bool) {
        let Some(Open { span, start, parent, held, .. }) = self.open.remove(&number) else { return };
        self.held -= held;
        if let Some(parent) = parent.and_then(|parent| self.open.get_mut(&parent)) {
            parent.children -= 1;
        }
        let [start_ns, end_ns, unfinished, ..] = SPAN_FIELDS;
        span.record(start_ns, since_epoch(start));
        span.record(end_ns, since_epoch(end));
        if !is_finished {
            span.record(unfinished, true);
        }
        // With it, spans around it may end.
        if let Some(subscriber) = span.with_subscriber(|(_, subscriber)| subscriber.clone()) {
            dispatcher::with_default(&subscriber, || drop(span));
        }
    }
}

impl Drop for GuestSpans {
    fn drop(&mut self) {
        self.end(SystemTime::now());
    }
}

/// Makes a span in the log, if that wants it, as part of another one or of what this thread is in.
fn made(
    callsites: &mut Callsites,
    origin: Option<&Origin>,
    number: LogLevel,
    opened: &OpenedSpan<'_>,
    parent: Parent,
) -> Option<Span> {
    let Some(callsite) = callsites.of(&Place::of_span(number, opened)) else {
        return Some(made_without_callsite(origin, number, opened, parent)).filter(|span| !span.is_disabled());
    };
    if !callsite.is_wanted() {
        return None;
    }
    let given: Vec<_> = opened.fields.iter().map(|field| field.value.as_ref().map(Given::new)).collect();
    let image = origin.map(|origin| display(origin.image()));
    let sandbox = origin.map(|origin| display(origin.sandbox()));
    let function = origin.and_then(Origin::function);
    // In the order of `SPAN_FIELDS`. The first three come when the span ends.
    let hosts: [Option<&dyn Value>; SPAN_FIELDS.len()] = [
        None,
        None,
        None,
        image.as_ref().map(|image| image as &dyn Value),
        sandbox.as_ref().map(|sandbox| sandbox as &dyn Value),
        function.as_ref().map(|function| function as &dyn Value),
    ];
    let values = given.iter().map(|given| given.as_ref().map(Given::value)).chain(hosts);
    let metadata = callsite.described();
    let span = callsite.with_values(values, |values| match parent {
        Parent::Current => Span::new(metadata, values),
        parent => parent.with(|id| Span::child_of(id, metadata, values)),
    });
    Some(span).filter(|span| !span.is_none())
}

/// Makes a span whose place has no callsite of its own.
fn made_without_callsite(origin: Option<&Origin>, number: LogLevel, opened: &OpenedSpan<'_>, parent: Parent) -> Span {
    parent.with(|parent| {
        macro_rules! span {
            ($level:expr) => {
                tracing::span!(
                    target: "ampoule::guest",
                    parent: parent.clone(),
                    $level,
                    "span",
                    guest.name = %printable_line(opened.name),
                    guest.target = %printable_name(opened.target),
                    guest.module = %printable_name(opened.module),
                    guest.file = %printable_name(opened.file),
                    guest.line = opened.line,
                    guest.fields = %SpanFields(&opened.fields),
                    guest.start_ns = tracing::field::Empty,
                    guest.end_ns = tracing::field::Empty,
                    guest.unfinished = tracing::field::Empty,
                    image = origin.map(|origin| display(origin.image())),
                    sandbox = origin.map(|origin| display(origin.sandbox())),
                    function = origin.and_then(Origin::function),
                )
            };
        }
        match level(number) {
            Level::ERROR => span!(Level::ERROR),
            Level::WARN => span!(Level::WARN),
            Level::INFO => span!(Level::INFO),
            Level::DEBUG => span!(Level::DEBUG),
            Level::TRACE => span!(Level::TRACE),
        }
    })
}

fn enter(span: &Span) {
    with_subscriber(span, |known| known.map(|(id, subscriber)| subscriber.enter(id)));
}

fn exit(span: &Span) {
    with_subscriber(span, |known| known.map(|(id, subscriber)| subscriber.exit(id)));
}

/// How many spans of a guest can be open, and how many of them entered, one in another.
pub(super) const MOST: usize = 1024;

/// How many bytes the records may have that made the open spans and their values.
pub(super) const MOST_HELD: usize = 1 << 20;

/// What such a record counts at least.
const LEAST_HELD: usize = 64;
