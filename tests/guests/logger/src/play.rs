//! What a program does with spans, step by step: the same code for a guest and for a host, whose logs are compared.

use tracing::Span;

/// Does steps: a number for what is done, and two for what it is done with, of those that there are by then.
///
/// Only spans that are not entered are dropped, and only spans that are entered are left, as is so with `tracing`'s guards.
pub(crate) fn play(steps: &[(u8, u32, u32)]) {
    let mut spans: Vec<Option<Span>> = Vec::new();
    let mut entered: Vec<usize> = Vec::new();
    for &(step, first, second) in steps {
        let number = spans.len();
        let one = |spans: &[Option<Span>], of: u32| (!spans.is_empty()).then(|| of as usize % spans.len());
        let parent = one(&spans, second).and_then(|at| spans[at].clone());
        let at = one(&spans, first);
        let span = at.and_then(|at| spans[at].clone());
        match step % 9 {
            0 => spans.push(Some(tracing::info_span!("node", number, late = tracing::field::Empty))),
            1 => spans.push(parent.map(|parent| tracing::info_span!(parent: &parent, "leaf", number))),
            2 => spans.push(Some(tracing::warn_span!(parent: None, "root", number))),
            3 => {
                if let (Some(at), Some(span)) = (at, &span) {
                    span.with_subscriber(|(id, subscriber)| subscriber.enter(id));
                    entered.push(at);
                }
            }
            4 if !entered.is_empty() => {
                let at = entered.remove(first as usize % entered.len());
                leave(&spans, at);
            }
            5 => drop(span.map(|span| span.record("late", second).id())),
            6 => {
                if let Some(at) = at.filter(|at| !entered.contains(at)) {
                    spans[at] = None;
                }
            }
            7 => tracing::info!(number, "here"),
            8 => drop(parent.map(|parent| tracing::info!(parent: &parent, number, "there"))),
            _ => {}
        }
    }
    while let Some(at) = entered.pop() {
        leave(&spans, at);
    }
    while let Some(span) = spans.pop() {
        drop(span);
    }
}

fn leave(spans: &[Option<Span>], at: usize) {
    if let Some(span) = &spans[at] {
        span.with_subscriber(|(id, subscriber)| subscriber.exit(id));
    }
}
