//! A chain of contents against a plain copy of the bytes.

use super::*;

use proptest::prelude::*;

#[test]
fn a_snapshot_shows_what_was_there_and_the_region_goes_on() {
    let region = region();
    region.write(PAGE_SIZE, &[1; 3 * PAGE_SIZE]).unwrap();
    let first = Contents::zero(PAGES).updated(&region, 0..PAGES).unwrap();
    assert_eq!(first.stored_pages(), 3);
    region.write(2 * PAGE_SIZE, &[2]).unwrap();

    let copy = Region::of_contents(&first).unwrap();
    assert_eq!(bytes(&copy)[2 * PAGE_SIZE], 1);
    copy.write(2 * PAGE_SIZE + 1, &[7]).unwrap();
    let sibling = self::region();
    first.show_in(&sibling).unwrap();
    assert_eq!(bytes(&sibling)[2 * PAGE_SIZE..][..2], [1, 1]);
    assert_eq!(bytes(&region)[2 * PAGE_SIZE..][..2], [2, 1]);
}

#[test]
fn zeros_between_data_take_no_memory_and_come_back() {
    let region = region();
    for page in [1, 3, 4] {
        region.write(page * PAGE_SIZE, &[1]).unwrap();
    }
    let data = Contents::zero(PAGES).updated(&region, 0..PAGES).unwrap();
    assert_eq!((data.stored_pages(), data.extents.len()), (3, 1));
    region.write(2 * PAGE_SIZE + 9, &[7]).unwrap();
    assert_eq!(bytes(&Region::of_contents(&data).unwrap())[2 * PAGE_SIZE..3 * PAGE_SIZE], [0; PAGE_SIZE]);
    assert_eq!(data.write_back(&region, [2]), 1);
    assert!((0..PAGES).all(|page| data.is_in(&region, page).unwrap()));

    // A page that was cleared hides what an earlier snapshot holds there.
    region.fill_zero(3 * PAGE_SIZE, PAGE_SIZE).unwrap();
    let cleared = data.updated(&region, [3]).unwrap();
    assert_eq!(cleared.stored_pages(), 2);
    assert_eq!(bytes(&Region::of_contents(&cleared).unwrap())[3 * PAGE_SIZE..4 * PAGE_SIZE], [0; PAGE_SIZE]);
}

#[test]
fn nothing_changed_is_the_same_contents() {
    let region = region();
    let zero = Contents::zero(PAGES);
    assert!(Arc::ptr_eq(&zero, &zero.updated(&region, 0..PAGES).unwrap()));
    region.write(0, &[1]).unwrap();
    let one = zero.updated(&region, 0..1).unwrap();
    region.write(0, &[1]).unwrap();
    assert!(Arc::ptr_eq(&one, &one.updated(&region, 0..PAGES).unwrap()));
}

#[test]
fn discarding_what_a_region_shows_leaves_zeros() {
    let region = region();
    region.write(0, &[9; 8 * PAGE_SIZE]).unwrap();
    let contents = Contents::zero(PAGES).updated(&region, 2..6).unwrap();
    contents.show_in(&region).unwrap();
    region.discard(0, 4 * PAGE_SIZE).unwrap();
    let now = bytes(&region);
    assert!(now[..4 * PAGE_SIZE].iter().all(|byte| *byte == 0));
    assert!(now[4 * PAGE_SIZE..6 * PAGE_SIZE].iter().all(|byte| *byte == 9));
    assert!(now[6 * PAGE_SIZE..].iter().all(|byte| *byte == 0));
}

#[test]
fn released_pages_hold_what_is_shown_again() {
    let region = region();
    region.write(0, &[9; 4 * PAGE_SIZE]).unwrap();
    let contents = Contents::zero(PAGES).updated(&region, 0..4).unwrap();
    contents.show_in(&region).unwrap();
    region.write(0, &[1; 6 * PAGE_SIZE]).unwrap();
    region.release(1..6).unwrap();
    assert!(!contents.is_in(&region, 0).unwrap());
    assert!((1..6).all(|page| contents.is_in(&region, page).unwrap()));
}

#[test]
fn scattered_pages_make_few_extents() {
    let region = Region::anonymous(4096 * PAGE_SIZE).unwrap();
    let mut changed = PageSet::new(4096);
    for page in (0..4096).step_by(13) {
        region.write(page * PAGE_SIZE, &[1]).unwrap();
        changed.insert(page);
    }
    let contents = Contents::zero(4096).updated(&region, changed.iter()).unwrap();
    assert!(contents.extents.len() <= MAX_RUNS);
    let copy = Region::of_contents(&contents).unwrap();
    assert!(changed.iter().all(|page| copy.read_u64(page * PAGE_SIZE) == Ok(1)));
}

#[test]
fn close_pages_are_joined_and_distant_ones_are_not() {
    assert_eq!(joined(&[0, 2, 3, 400, 440]), [0..4, 400..441]);
    assert_eq!(joined(&[5, 6, 500]), [5..7, 500..501]);
    let far_apart: Vec<usize> = (0..100).map(|index| index * 1000).collect();
    assert!(joined(&far_apart).len() <= MAX_RUNS);
}

#[test]
fn contents_are_put_together_from_bytes() {
    let pieces = Contents::of_bytes(&[(10, &[1; PAGE_SIZE]), (0, &[]), (0, &[2; 5])]).unwrap();
    let [code, nothing, data] = &*pieces else { panic!("three pieces were given") };
    assert_eq!((code.pages(), nothing.pages(), data.pages()), (2, 0, 1));
    let whole = Contents::of_parts(PAGES, [(40, data), (3, code), (7, nothing)]);
    assert_eq!(Contents::of_parts(PAGES, [(3, code), (5, data)]).extents.len(), 1);
    let region = Region::of_contents(&whole).unwrap();
    let mut expected = vec![0; PAGES * PAGE_SIZE];
    expected[3 * PAGE_SIZE + 10..][..PAGE_SIZE].fill(1);
    expected[40 * PAGE_SIZE..][..5].fill(2);
    assert!(bytes(&region) == expected);
}

#[test]
fn a_chain_holds_little_more_memory_than_its_end_shows() {
    const PAGES: usize = 1024;
    let region = Region::anonymous(PAGES * PAGE_SIZE).unwrap();
    let mut last = Contents::zero(PAGES);
    for round in 0..40 {
        // One page more stays as it was, so that something of each file is still in use.
        for page in round..PAGES {
            region.write(page * PAGE_SIZE, &[round as u8 + 1]).unwrap();
        }
        last = last.updated(&region, round..PAGES).unwrap();
        let mut files: Vec<_> = last.extents.iter().map(|extent| &extent.frozen).collect();
        files.sort_unstable_by_key(|file| Arc::as_ptr(file));
        files.dedup_by(|one, other| Arc::ptr_eq(one, other));
        let held: usize = files.iter().map(|file| file.stored_pages()).sum();
        assert!(held <= 2 * last.stored_pages() + FEW_PAGES, "round {round}: {held} of {} pages", last.stored_pages());
        assert!((0..PAGES).all(|page| last.is_in(&region, page).unwrap()));
    }
}

#[derive(Clone, Debug)]
enum Step {
    Write { page: usize, pages: usize, byte: u8 },
    Snapshot,
    WriteBack { to: usize },
    Show { what: usize },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..PAGES, 1..5usize, 0..4u8).prop_map(|(page, pages, byte)| Step::Write { page, pages, byte }),
        2 => Just(Step::Snapshot),
        2 => any::<usize>().prop_map(|to| Step::WriteBack { to }),
        1 => any::<usize>().prop_map(|what| Step::Show { what }),
    ]
}

proptest! {
    #[test]
    fn a_chain_is_like_copies_of_the_bytes(steps in prop::collection::vec(step(), 1..60)) {
        let region = region();
        let mut model = bytes(&region);
        let mut taken = vec![(Contents::zero(PAGES), model.clone())];
        let (mut current, mut changed) = (Arc::clone(&taken[0].0), PageSet::new(PAGES));
        for step in steps {
            match step {
                Step::Write { page, pages, byte } => {
                    let pages = page..(page + pages).min(PAGES);
                    let range = pages.start * PAGE_SIZE..pages.end * PAGE_SIZE;
                    region.write(range.start, &vec![byte; range.len()]).unwrap();
                    model[range].fill(byte);
                    pages.for_each(|page| changed.insert(page));
                }
                Step::Snapshot => {
                    current = current.updated(&region, changed.iter()).unwrap();
                    changed.clear();
                    taken.push((Arc::clone(&current), model.clone()));
                }
                Step::WriteBack { to } => {
                    let (contents, then) = &taken[to % taken.len()];
                    current.differences(contents, &mut changed);
                    contents.write_back(&region, changed.iter());
                    (current, model) = (Arc::clone(contents), then.clone());
                    changed.clear();
                }
                Step::Show { what } => {
                    let (contents, then) = &taken[what % taken.len()];
                    contents.show_in(&region).unwrap();
                    (current, model) = (Arc::clone(contents), then.clone());
                    changed.clear();
                }
            }
            prop_assert!(bytes(&region) == model);
        }
        prop_assert!(taken.iter().all(|(contents, _)| contents.extents.len() <= MAX_EXTENTS));
    }
}

fn region() -> Arc<Region> {
    Region::anonymous(PAGES * PAGE_SIZE).unwrap()
}

fn bytes(region: &Region) -> Vec<u8> {
    let mut bytes = vec![0; region.len()];
    region.read(0, &mut bytes).unwrap();
    bytes
}

const PAGES: usize = 48;
