//! Which operations come next.

use crate::{Action, CODE, CONSTANTS, FIXED, FLOATING, LARGE_AREAS, Page, Place, Protection, Random, Span, Window};

/// Draws what comes next from what is mapped: one action, or several that belong together.
pub(crate) fn actions(random: &mut Random, windows: &[Vec<Option<Page>>]) -> Vec<Action> {
    Draw { random, windows, actions: Vec::new() }.draw()
}

struct Draw<'model> {
    random: &'model mut Random,
    windows: &'model [Vec<Option<Page>>],
    actions: Vec<Action>,
}

impl Draw<'_> {
    /// How likely each kind is, beside the others.
    #[allow(clippy::type_complexity, reason = "it is a table of pairs")]
    const WEIGHTS: [(usize, fn(&mut Self)); 14] = [
        (16, Self::map),
        (14, Self::unmap),
        (14, Self::map_elsewhere),
        (12, Self::protect),
        (6, Self::discard),
        (10, Self::move_pages),
        (4, Self::resize),
        (8, Self::write),
        (6, Self::check),
        (6, Self::float),
        (3, Self::change_often),
        (1, Self::interleave),
        (1, Self::large),
        (3, Self::heap),
    ];

    fn draw(mut self) -> Vec<Action> {
        let mut number = self.random.below(Self::WEIGHTS.iter().map(|(weight, _)| weight).sum());
        for (weight, draw) in Self::WEIGHTS {
            if number < weight {
                draw(&mut self);
                break;
            }
            number -= weight;
        }
        self.actions
    }

    fn map(&mut self) {
        let window = self.fixed_window();
        let span = self.much_of(window);
        let protection = self.protection();
        let replace = self.random.percent(90);
        self.actions.push(Action::Map { span, protection, replace });
        if replace && protection.is_writable() {
            self.write_in(span);
        }
    }

    fn unmap(&mut self) {
        let window = self.fixed_window();
        let span = self.much_of(window);
        self.actions.push(Action::Unmap { span });
    }

    /// The tables of one window are needed at once for another.
    fn map_elsewhere(&mut self) {
        let used: Vec<_> = (0..FIXED).map(Window).filter(|window| !self.mapped(*window).is_empty()).collect();
        if let Some(window) = self.random.pick(&used) {
            self.actions.push(Action::Unmap { span: window.whole() });
        }
        let span = self.fixed_window().whole();
        self.actions.push(Action::Map { span, protection: Protection::ReadWrite, replace: true });
        self.write_in(span);
        let place = Place { window: span.window, page: self.random.below(span.end) };
        self.actions.push(Action::Check { place });
    }

    fn protect(&mut self) {
        let window = self.any_window();
        let run = self.mapped_run(window, |_, _| true);
        // Of a window in which nothing is mapped: the call fails.
        let span = run.map_or_else(|| window.whole(), |run| self.part_of(run));
        let protection = self.protection();
        self.actions.push(Action::Protect { span, protection });
        if run.is_some() && protection.is_writable() && self.random.percent(50) {
            self.write_in(span);
        }
    }

    fn discard(&mut self) {
        let window = self.any_window();
        if window.floats() && self.mapped(window).is_empty() {
            return;
        }
        let span = if window.floats() { window.first(self.mapped(window).len()) } else { window.whole() };
        let span = self.part_of(span);
        self.actions.push(Action::Discard { span });
    }

    fn move_pages(&mut self) {
        let (window, target) = (self.fixed_window(), self.fixed_window());
        if window == target {
            return;
        }
        // Of a window in which nothing is mapped: the call fails.
        let run = self.mapped_run(window, |one, next| one.protection == next.protection);
        let run = run.unwrap_or_else(|| window.whole());
        let from = if self.random.percent(50) { run } else { self.part_of(run) };
        let pages = match self.random.below(3) {
            0 => from.len(),
            1 => self.random.within(1..from.len() + 1),
            _ => self.random.within(from.len()..target.pages() + 1),
        };
        let start = self.random.below(target.pages() - pages + 1);
        self.actions.push(Action::Move { from, to: Span { window: target, start, end: start + pages } });
    }

    fn resize(&mut self) {
        let window = self.fixed_window();
        if let Some(run) = self.mapped_run(window, |one, next| one.protection == next.protection) {
            let span = if self.random.percent(50) { run } else { self.part_of(run) };
            let pages = self.random.within(1..window.pages() - span.start + 1);
            self.actions.push(Action::Resize { span, pages });
        }
    }

    fn write(&mut self) {
        let window = self.any_window();
        let writable: Vec<_> = self.places(window, Protection::is_writable);
        for _ in 0..self.random.within(1..9) {
            if let Some(place) = self.random.pick(&writable) {
                self.push_write(place);
            }
        }
    }

    fn check(&mut self) {
        let window = self.any_window();
        let readable: Vec<_> = self.places(window, Protection::is_readable);
        for _ in 0..self.random.within(1..9) {
            let place = self.random.pick(&readable);
            self.actions.extend(place.map(|place| Action::Check { place }));
        }
    }

    fn float(&mut self) {
        let window = Window(FIXED + self.random.below(FLOATING));
        let pages = self.random.within(1..window.pages() + 1);
        if self.mapped(window).is_empty() {
            let protection = self.protection();
            self.actions.push(Action::Float { window, pages, protection });
            if protection.is_writable() {
                self.write_in(window.first(pages));
            }
        } else if self.random.percent(50) {
            self.actions.push(Action::Sink { window });
        } else {
            self.actions.push(Action::Stretch { window, pages });
        }
    }

    /// Changes one page of several so often that the host may well stop remembering each change.
    fn change_often(&mut self) {
        let window = self.any_window();
        let Some(run) = self.mapped_run(window, |_, _| true) else {
            return;
        };
        if self.random.percent(80) {
            self.actions.push(Action::Protect { span: run, protection: Protection::ReadWrite });
            run.places().for_each(|place| self.push_write(place));
        }
        let page = self.random.within(run.start..run.end);
        let place = Place { window, page };
        for _ in 0..self.random.within(70..200) {
            let protection = self.protection();
            self.actions.push(Action::Protect { span: place.span(), protection });
            if protection.is_writable() && self.random.percent(20) {
                self.push_write(place);
            }
        }
    }

    /// Gives two windows their memory page by page in turn.
    fn interleave(&mut self) {
        let (one, other) = (self.fixed_window(), self.fixed_window());
        for window in [one, other] {
            self.actions.push(Action::Map { span: window.whole(), protection: Protection::None, replace: true });
        }
        for page in 0..one.pages() {
            for window in [one, other] {
                let place = Place { window, page };
                self.actions.push(Action::Protect { span: place.span(), protection: Protection::ReadWrite });
                if self.random.percent(50) {
                    self.push_write(place);
                }
            }
        }
    }

    fn large(&mut self) {
        let area = self.random.below(LARGE_AREAS.len());
        let pages = self.random.within(64..257) << 8;
        let protection = if self.random.percent(50) { Protection::None } else { Protection::ReadWrite };
        let stamp = (protection.is_writable() && self.random.percent(50)).then(|| self.stamp());
        self.actions.push(Action::Large { area, pages, protection, stamp });
    }

    fn heap(&mut self) {
        let stamp = self.stamp();
        let pages = self.random.within(1..600);
        let swells = self.random.percent(80);
        self.actions.push(if swells { Action::SwellHeap { pages, stamp } } else { Action::GrowHeap { stamp } });
    }

    /// Writes all or some pages of a span that is writable by now.
    fn write_in(&mut self, span: Span) {
        if self.random.percent(30) {
            span.places().for_each(|place| self.push_write(place));
        } else {
            for _ in 0..self.random.below(9) {
                let page = self.random.within(span.start..span.end);
                self.push_write(Place { window: span.window, page });
            }
        }
    }

    fn push_write(&mut self, place: Place) {
        let stamp = self.stamp();
        self.actions.push(Action::Write { place, stamp });
    }

    fn stamp(&mut self) -> u64 {
        self.random.next() | 1
    }

    fn fixed_window(&mut self) -> Window {
        Window(self.random.below(FIXED))
    }

    fn any_window(&mut self) -> Window {
        match self.random.below(10) {
            0 => CONSTANTS,
            1 => CODE,
            2 => Window(FIXED + self.random.below(FLOATING)),
            _ => self.fixed_window(),
        }
    }

    fn protection(&mut self) -> Protection {
        match self.random.below(10) {
            0 | 1 => Protection::None,
            2 | 3 => Protection::Read,
            _ => Protection::ReadWrite,
        }
    }

    /// Usually all of a window, so that its tables come and go with it.
    fn much_of(&mut self, window: Window) -> Span {
        if self.random.percent(65) { window.whole() } else { self.part_of(window.whole()) }
    }

    fn part_of(&mut self, span: Span) -> Span {
        let start = self.random.within(span.start..span.end);
        let end = self.random.within(start + 1..span.end + 1);
        Span { start, end, ..span }
    }

    /// Contiguous mapped pages, from a random one on in both directions while each page and the next are `alike`.
    fn mapped_run(&mut self, window: Window, alike: fn(&Page, &Page) -> bool) -> Option<Span> {
        let page = self.random.pick(&self.mapped(window))?;
        let pages = &self.windows[window.0];
        let continues = |one: usize, next: usize| match (pages.get(one), pages.get(next)) {
            (Some(Some(one)), Some(Some(next))) => alike(one, next),
            _ => false,
        };
        let (mut start, mut end) = (page, page + 1);
        while start > 0 && continues(start - 1, start) {
            start -= 1;
        }
        while continues(end - 1, end) {
            end += 1;
        }
        Some(Span { window, start, end })
    }

    /// The pages of a window that are mapped.
    fn mapped(&self, window: Window) -> Vec<usize> {
        let pages = self.windows[window.0].iter().enumerate();
        pages.filter(|(_, page)| page.is_some()).map(|(index, _)| index).collect()
    }

    fn places(&self, window: Window, suitable: fn(Protection) -> bool) -> Vec<Place> {
        let pages = self.windows[window.0].iter().enumerate();
        let suitable = pages.filter(|(_, page)| page.is_some_and(|page| suitable(page.protection)));
        suitable.map(|(page, _)| Place { window, page }).collect()
    }
}
