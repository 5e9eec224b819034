//! The spans of `tracing`: their names, which is in which, and which of them the host knows.

use std::cell::RefCell;

use ampoule_abi::layout::SpanParent;
use tracing_core::span::Id;
use tracing_core::{LevelFilter, Metadata};

/// The spans of a thread, which is all that a guest has.
#[derive(Debug, Default)]
pub(super) struct Spans {
    /// By number.
    open: Vec<Option<Span>>,
    /// Those that are entered, from the outermost.
    entered: Vec<usize>,
    /// How many there were so far.
    opened: u64,
}

#[derive(Debug)]
struct Span {
    metadata: &'static Metadata<'static>,
    parent: Option<usize>,
    /// What the host calls it.
    serial: u64,
    /// Whether the host knows it.
    is_known: bool,
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

    /// A new span within another one, and the number by which the host will know it.
    pub(super) fn open(&mut self, metadata: &'static Metadata<'static>, parent: Option<usize>) -> (usize, u64) {
        if let Some(parent) = parent {
            self.hold(parent);
        }
        self.opened += 1;
        let span = Some(Span { metadata, parent, serial: self.opened, is_known: false, handles: 1 });
        let number = match self.open.iter().position(Option::is_none) {
            Some(free) => {
                self.open[free] = span;
                free
            }
            None => {
                self.open.push(span);
                self.open.len() - 1
            }
        };
        (number, self.opened)
    }

    /// The host knows the span from now on.
    pub(super) fn mark_known(&mut self, number: usize) {
        if let Some(span) = self.get_mut(number) {
            span.is_known = true;
        }
    }

    /// What the host calls a span of at most this level, if it knows it.
    pub(super) fn known(&self, number: usize, most: LevelFilter) -> Option<u64> {
        let span = self.open.get(number)?.as_ref()?;
        (span.is_known && *span.metadata.level() <= most).then_some(span.serial)
    }

    /// What the host is told of where something belongs: to the current span, or to another one. Where the host does not know
    /// that, the next one around it counts.
    pub(super) fn parent(&self, is_contextual: bool, explicit: Option<usize>) -> SpanParent {
        if is_contextual {
            return SpanParent::Current;
        }
        let known = self.with_those_around(explicit).find(|span| span.is_known);
        known.map_or(SpanParent::Outside, |span| SpanParent::Span(span.serial))
    }

    /// One more needs the span.
    pub(super) fn hold(&mut self, number: usize) {
        if let Some(span) = self.get_mut(number) {
            span.handles += 1;
        }
    }

    /// One less needs it: whether that was the last, and the spans that the host knows which have ended by it, from the
    /// innermost.
    pub(super) fn release(&mut self, number: usize) -> (bool, Vec<u64>) {
        let mut next = Some(number);
        let (mut is_closed, mut known) = (None, Vec::new());
        while let Some(number) = next {
            let Some(span) = self.get_mut(number) else { break };
            span.handles -= 1;
            let is_last = span.handles == 0;
            let ended = if is_last { self.open[number].take() } else { None };
            known.extend(ended.as_ref().filter(|span| span.is_known).map(|span| span.serial));
            next = ended.and_then(|span| span.parent);
            is_closed = is_closed.or(Some(is_last));
        }
        (is_closed.unwrap_or(false), known)
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
        let mut names: Vec<_> = self.with_those_around(innermost).take(most).map(|span| span.metadata.name()).collect();
        names.reverse();
        names
    }

    /// A span and those around it, from the innermost.
    fn with_those_around(&self, innermost: Option<usize>) -> impl Iterator<Item = &Span> {
        let span = |number: usize| self.open.get(number)?.as_ref();
        std::iter::successors(innermost.and_then(span), move |inner| inner.parent.and_then(span))
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
