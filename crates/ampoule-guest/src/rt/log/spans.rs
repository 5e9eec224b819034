//! The spans of `tracing`: their names, and which is in which.

use std::cell::RefCell;

use tracing_core::Metadata;
use tracing_core::span::Id;

/// The spans of a thread, which is all that a guest has.
#[derive(Debug, Default)]
pub(super) struct Spans {
    /// By number.
    open: Vec<Option<Span>>,
    /// Those that are entered, from the outermost.
    entered: Vec<usize>,
}

#[derive(Debug)]
struct Span {
    metadata: &'static Metadata<'static>,
    parent: Option<usize>,
    /// Who needs it: the program's handles, and spans in it.
    handles: usize,
}

impl Spans {
    /// Does something with the spans of this thread, unless it is about to end.
    pub(super) fn with<R: Default>(action: impl FnOnce(&mut Self) -> R) -> R {
        thread_local! {
            static SPANS: RefCell<Spans> = RefCell::default();
        }
        SPANS
            .try_with(|spans| spans.try_borrow_mut().ok().map(|mut spans| action(&mut spans)).unwrap_or_default())
            .unwrap_or_default()
    }

    /// A new span within another one.
    pub(super) fn open(&mut self, metadata: &'static Metadata<'static>, parent: Option<usize>) -> usize {
        if let Some(parent) = parent {
            self.hold(parent);
        }
        let span = Some(Span { metadata, parent, handles: 1 });
        match self.open.iter().position(Option::is_none) {
            Some(free) => {
                self.open[free] = span;
                free
            }
            None => {
                self.open.push(span);
                self.open.len() - 1
            }
        }
    }

    /// One more needs the span.
    pub(super) fn hold(&mut self, number: usize) {
        if let Some(span) = self.get_mut(number) {
            span.handles += 1;
        }
    }

    /// One less needs it: whether that was the last.
    pub(super) fn release(&mut self, number: usize) -> bool {
        let mut next = Some(number);
        let mut is_closed = None;
        while let Some(number) = next {
            let Some(span) = self.get_mut(number) else { break };
            span.handles -= 1;
            let is_last = span.handles == 0;
            next = if is_last { self.open[number].take().and_then(|span| span.parent) } else { None };
            is_closed = is_closed.or(Some(is_last));
        }
        is_closed.unwrap_or(false)
    }

    pub(super) fn enter(&mut self, number: usize) {
        self.entered.push(number);
    }

    /// Leaves a span, which need not be the one that was entered last.
    pub(super) fn exit(&mut self, number: usize) {
        if let Some(index) = self.entered.iter().rposition(|entered| *entered == number) {
            self.entered.remove(index);
        }
    }

    /// The span in which the program is.
    pub(super) fn current(&self) -> Option<usize> {
        self.entered.last().copied()
    }

    pub(super) fn metadata(&self, number: usize) -> Option<&'static Metadata<'static>> {
        self.open.get(number)?.as_ref().map(|span| span.metadata)
    }

    /// The names of a span and of those around it, from the outermost; at most so many, the innermost.
    pub(super) fn names(&self, innermost: Option<usize>, most: usize) -> Vec<&'static str> {
        let span = |number: usize| self.open.get(number)?.as_ref();
        let around = std::iter::successors(innermost.and_then(span), |inner| inner.parent.and_then(span));
        let mut names: Vec<_> = around.take(most).map(|span| span.metadata.name()).collect();
        names.reverse();
        names
    }

    fn get_mut(&mut self, number: usize) -> Option<&mut Span> {
        self.open.get_mut(number)?.as_mut()
    }
}

/// What `tracing` calls a span.
pub(super) fn id(number: usize) -> Id {
    Id::from_u64(number as u64 + 1)
}

/// The number of a span.
pub(super) fn number(id: &Id) -> usize {
    (id.into_u64() - 1) as usize
}
