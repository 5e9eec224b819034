//! Functions that make spans.

use std::cell::{Cell, RefCell};

use ampoule_guest::export;
use tracing::Span;
use tracing::field::Empty;

use crate::play::play;
use crate::{end, look};

thread_local! {
    /// A span that lives longer than a call.
    static KEPT: RefCell<Option<Span>> = const { RefCell::new(None) };
}

#[export]
fn nested_spans() {
    let order = tracing::info_span!(target: "shop", "order", number = 7, ready = true, customer = "Ada", price = Empty);
    order.in_scope(|| {
        tracing::debug_span!("check").in_scope(|| tracing::info!("checked"));
        order.record("price", 2.5);
        tracing::debug_span!("pack").in_scope(|| tracing::trace_span!("tape").in_scope(|| ()));
    });
    tracing::info!("between");
    order.in_scope(|| tracing::info!(parent: None, "outside"));
    tracing::info_span!(parent: &order, "late").in_scope(|| ());
}

/// Calls the host within spans and outside of any.
#[export]
fn look_within_spans() {
    look();
    tracing::info_span!("first").in_scope(|| {
        look();
        tracing::info_span!("second").in_scope(look);
    });
}

#[export]
fn end_within_spans(how: &str) {
    let _kept = tracing::info_span!("kept");
    tracing::info_span!("outer").in_scope(|| {
        tracing::info_span!("inner", how).in_scope(|| {
            tracing::info!("about to end");
            end(how);
        });
    });
}

/// A span that lives until [`drop_span`], or until nobody knows of it any more.
#[export]
fn keep_span() {
    KEPT.set(Some(tracing::info_span!("kept")));
}

#[export]
fn work_in_kept_span() {
    if let Some(span) = KEPT.with_borrow(Clone::clone) {
        span.in_scope(|| tracing::info_span!("work").in_scope(|| tracing::info!("working")));
    }
}

#[export]
fn drop_span() {
    KEPT.set(None);
}

/// From now on everything is in this span.
#[export]
fn stay_in_span() {
    std::mem::forget(tracing::info_span!("whole").entered());
}

/// How often the fields of spans of each level are evaluated.
#[export]
fn evaluations_of_spans() -> Vec<u32> {
    let evaluated = Cell::new(0);
    let count = || {
        evaluated.set(evaluated.get() + 1);
        evaluated.get()
    };
    let mut counts = Vec::new();
    tracing::error_span!("error", count = count()).in_scope(|| counts.push(evaluated.replace(0)));
    tracing::info_span!("info", count = count()).in_scope(|| counts.push(evaluated.replace(0)));
    tracing::trace_span!("trace", count = count()).in_scope(|| counts.push(evaluated.replace(0)));
    counts
}

/// Makes so many spans, one in another or one after another.
#[export]
fn many_spans(spans: u32, are_nested: bool) {
    if are_nested {
        let mut guards: Vec<_> = (0..spans).map(|number| tracing::info_span!("deep", number).entered()).collect();
        while guards.pop().is_some() {}
    } else {
        (0..spans).for_each(|number| tracing::info_span!("flat", number).in_scope(|| ()));
    }
}

/// A span with a long text in each of so many values.
#[export]
fn long_values(values: u32) {
    let span = tracing::info_span!("long", text = Empty);
    for _ in 0..values {
        span.record("text", "x".repeat(4000));
    }
}

#[export]
fn play_spans(steps: Vec<(u8, u32, u32)>) {
    play(&steps);
}
