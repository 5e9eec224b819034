//! What a guest's memory should hold: operations that are drawn from a seed, and a model of what they lead to.
//!
//! A guest and its host have a [`Model`] each. The guest performs the operations by system calls and accesses, compares the
//! results with its model, and keeps the model in its own memory, so that a snapshot includes both. The host's copy is
//! replayed from the same seeds. So each can be checked against the other.
//!
//! The memory that is used lies in *windows* of a few dozen pages ([`Window`]).

mod action;
mod contents;
mod draw;
mod random;
mod window;

pub use action::{Action, Errno, Place, Span};
pub use contents::Contents;
pub use random::Random;
pub use window::{CODE, CONSTANTS, FIXED, FLOATING, LARGE_AREAS, WINDOWS, Window};

/// What is mapped, and what it holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    random: Random,
    windows: Vec<Vec<Option<Page>>>,
    /// Stamps of the pages of the heap that stay.
    heap: Vec<u64>,
}

/// A page that is mapped.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Page {
    /// What may be done with it.
    pub protection: Protection,
    /// What it holds, whether or not it can be read.
    pub contents: Contents,
}

/// What may be done with a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// Nothing.
    None,
    /// Load.
    Read,
    /// Load and store.
    ReadWrite,
    /// Load and execute. Only the image's code has this, until it is changed.
    ReadExecute,
}

impl Model {
    /// A guest's memory after its start: only the pages of the image are mapped.
    pub fn new() -> Self {
        let windows = (0..WINDOWS).map(|window| Window(window).at_start()).collect();
        Self { random: Random::new(0), windows, heap: Vec::new() }
    }

    /// Begins another sequence of operations.
    pub fn reseed(&mut self, seed: u64) {
        self.random = Random::new(seed);
    }

    /// Draws the next operations. They are to be applied before more are drawn.
    pub fn draw(&mut self) -> Vec<Action> {
        draw::actions(&mut self.random, &self.windows)
    }

    /// Does what the guest does, and returns what the guest's system call returns.
    ///
    /// # Errors
    /// The number of the error with which the system call fails. Nothing has changed then, except by a `Discard` that passes
    /// over a hole.
    pub fn apply(&mut self, action: &Action) -> Result<(), Errno> {
        match *action {
            Action::Map { span, protection, replace } => {
                if !replace && self.pages(span).iter().any(Option::is_some) {
                    return Err(Errno::Exists);
                }
                self.pages_mut(span).fill(Some(Page::fresh(protection)));
            }
            Action::Unmap { span } => self.pages_mut(span).fill(None),
            Action::Protect { span, protection } => {
                if self.pages(span).iter().any(Option::is_none) {
                    return Err(Errno::NoMemory);
                }
                self.pages_mut(span).iter_mut().flatten().for_each(|page| page.protection = protection);
            }
            Action::Discard { span } => {
                if span.window.is_of_image() {
                    return Err(Errno::Invalid);
                }
                self.pages_mut(span).iter_mut().flatten().for_each(|page| page.contents = Contents::ZERO);
                if self.pages(span).iter().any(Option::is_none) {
                    return Err(Errno::NoMemory);
                }
            }
            Action::Move { from, to } => self.move_pages(from, to)?,
            Action::Resize { span, pages } => self.resize(span, pages)?,
            Action::Float { window, pages, protection } => {
                self.pages_mut(window.first(pages)).fill(Some(Page::fresh(protection)));
            }
            Action::Sink { window } => self.pages_mut(window.whole()).fill(None),
            Action::Stretch { window, pages } => self.resize(window.first(self.float_len(window)), pages)?,
            Action::Write { place, stamp } => {
                let page = self.windows[place.window.0][place.page].as_mut();
                page.expect("only what is mapped is written").contents.stamp = stamp;
            }
            Action::GrowHeap { stamp } => self.heap.push(stamp),
            Action::Check { .. } | Action::Large { .. } | Action::SwellHeap { .. } => {}
        }
        Ok(())
    }

    /// The page at a place, if one is mapped there.
    pub fn page(&self, place: Place) -> Option<Page> {
        self.windows[place.window.0][place.page]
    }

    /// Every place, and the page that is mapped there.
    pub fn places(&self) -> impl Iterator<Item = (Place, Option<Page>)> + '_ {
        let windows = self.windows.iter().enumerate();
        windows.flat_map(|(window, pages)| {
            let pages = pages.iter().enumerate();
            pages.map(move |(page, mapped)| (Place { window: Window(window), page }, *mapped))
        })
    }

    /// The stamps of the heap's pages, in the order in which they were made.
    pub fn heap(&self) -> &[u64] {
        &self.heap
    }

    /// How many pages a floating window has at present.
    pub fn float_len(&self, window: Window) -> usize {
        self.windows[window.0].iter().flatten().count()
    }

    /// A number that differs when models do.
    pub fn digest(&self) -> u64 {
        let pages = self.places().map(|(_, page)| match page {
            None => 0,
            Some(Page { protection, contents }) => {
                (protection as u64 + 1) ^ contents.stamp.rotate_left(8) ^ contents.filler.rotate_left(32)
            }
        });
        let rest = self.heap.iter().copied().chain([self.random.peek()]);
        pages.chain(rest).fold(0, |digest, number| Random::new(digest ^ number).next())
    }

    /// Pages move with what they hold; what is in their way is unmapped, and so is what is left over. Additional pages are
    /// fresh.
    fn move_pages(&mut self, from: Span, to: Span) -> Result<(), Errno> {
        let protection = self.one_mapping(from)?;
        let mut moved = self.pages(from).to_vec();
        self.pages_mut(from).fill(None);
        moved.resize(to.len(), Some(Page::fresh(protection)));
        self.pages_mut(to).copy_from_slice(&moved);
        Ok(())
    }

    fn resize(&mut self, span: Span, pages: usize) -> Result<(), Errno> {
        let protection = self.one_mapping(span)?;
        let end = span.start + pages;
        if pages <= span.len() {
            self.pages_mut(Span { start: end, ..span }).fill(None);
            return Ok(());
        }
        let growth = Span { start: span.end, end, ..span };
        if self.pages(growth).iter().any(Option::is_some) {
            return Err(Errno::NoMemory);
        }
        self.pages_mut(growth).fill(Some(Page::fresh(protection)));
        Ok(())
    }

    /// What may be done with pages that are one mapping, because their protection is the same.
    fn one_mapping(&self, span: Span) -> Result<Protection, Errno> {
        let protection = self.pages(span).first().copied().flatten().ok_or(Errno::Fault)?.protection;
        let same = |page: &Option<Page>| page.is_some_and(|page| page.protection == protection);
        self.pages(span).iter().all(same).then_some(protection).ok_or(Errno::Fault)
    }

    fn pages(&self, span: Span) -> &[Option<Page>] {
        &self.windows[span.window.0][span.start..span.end]
    }

    fn pages_mut(&mut self, span: Span) -> &mut [Option<Page>] {
        &mut self.windows[span.window.0][span.start..span.end]
    }
}

impl Default for Model {
    fn default() -> Self {
        Self::new()
    }
}

impl Page {
    fn fresh(protection: Protection) -> Self {
        Self { protection, contents: Contents::ZERO }
    }
}

impl Protection {
    /// Loads are allowed.
    pub fn is_readable(self) -> bool {
        self != Self::None
    }

    /// Stores are allowed.
    pub fn is_writable(self) -> bool {
        self == Self::ReadWrite
    }

    /// Instruction fetches are allowed.
    pub fn is_executable(self) -> bool {
        self == Self::ReadExecute
    }
}
