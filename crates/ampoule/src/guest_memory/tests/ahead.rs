//! Memory that a guest gets before it writes it.

use super::super::ahead::runs;
use super::*;

#[test]
fn a_guest_that_writes_in_a_row_gets_as_much_again_to_the_end_of_a_huge_page() {
    for (written, ahead) in [
        (1..961, HUGE * 2..HUGE * 4),
        (1..HUGE / 2 + 1, HUGE..HUGE * 2),
        (HUGE - 1..HUGE * 2, HUGE * 2..HUGE * 4),
        (1..HUGE * 20, HUGE * 20..HUGE * 24),
    ] {
        assert_eq!(owned_after(written.clone(), PAGES), with(&written, ahead), "{written:?}");
    }
}

#[test]
fn a_guest_that_writes_here_and_there_gets_nothing() {
    let short: Vec<_> = (0..8).map(|run| run * HUGE + 1..run * HUGE + HUGE / 2).collect();
    assert_eq!(owned_after(short.iter().cloned().flatten(), PAGES), short);
}

#[test]
fn a_guest_gets_nothing_behind_the_last_page_that_it_has_asked_for() {
    for (asked, ahead) in
        [(1, 0), (HUGE, 0), (HUGE * 3 - 1, 0), (HUGE * 3, HUGE), (HUGE * 4 - 1, HUGE), (PAGES, HUGE * 2)]
    {
        let expected = with(&(1..961), HUGE * 2..HUGE * 2 + ahead);
        assert_eq!(owned_after(1..961, asked), expected, "{asked} pages asked for");
    }
}

#[test]
fn what_a_guest_writes_for_the_host_gets_it_nothing() {
    let mut trial = Trial::new(PAGES);
    trial.memory.reserved = HUGE + 100;
    (1..HUGE + 1).for_each(|page| trial.guest.written.insert(page));
    trial.populate_ahead(PAGES);
    assert_eq!(trial.memory.owned_pages(), HUGE);
}

#[test]
fn what_a_guest_got_ahead_is_not_written_back() {
    let mut trial = Trial::new(PAGES);
    let target = trial.snapshot();
    (1..961).for_each(|page| trial.guest_writes(page, 1));
    trial.populate_ahead(PAGES);
    assert_eq!(trial.memory.dirty_pages(&mut trial.guest).unwrap(), 960);
    assert_eq!(trial.restore(&target).pages, 960);
    assert!(trial.bytes().iter().all(|byte| *byte == 0));
}

impl Trial {
    /// The guest has asked for the pages before `asked`.
    fn populate_ahead(&mut self, asked: usize) {
        let reserved = self.memory.reserved;
        let next_free = |frame: Frame| frame.max(Frame((asked - reserved) as u64));
        self.memory.populate_ahead(&mut self.guest, next_free).unwrap();
    }
}

/// The pages that a guest owns which has asked for those before `asked` and written these.
fn owned_after(written: impl IntoIterator<Item = usize>, asked: usize) -> Vec<Range<usize>> {
    let mut trial = Trial::new(PAGES);
    written.into_iter().for_each(|page| trial.guest.written.insert(page));
    trial.populate_ahead(asked);
    trial.memory.owned.insert_all(&trial.memory.guest_written);
    runs(&trial.memory.owned).collect()
}

/// The runs of pages that these are.
fn with(written: &Range<usize>, ahead: Range<usize>) -> Vec<Range<usize>> {
    let mut pages = PageSet::new(PAGES);
    written.clone().chain(ahead).for_each(|page| pages.insert(page));
    runs(&pages).collect()
}

const HUGE: usize = TrackedRegion::HUGE_PAGE;
const PAGES: usize = 30 * HUGE;
