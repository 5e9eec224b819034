use super::*;

const HUGE: u64 = ALIGNMENT;
const BASE: u64 = MAPPED_BASE.0;

#[test]
fn a_mapping_begins_in_the_first_gap_that_has_a_page_to_spare() {
    let found = |ranges: &[(u64, u64)], len| {
        let taken: Vec<_> = ranges.iter().map(|(start, end)| (BASE + start..BASE + end, "")).collect();
        gap(&taken, len, 0).map(|at| at - BASE)
    };
    assert_eq!(found(&[], PAGE), Some(0));
    assert_eq!(found(&[(0, PAGE)], PAGE), Some(HUGE));
    assert_eq!(found(&[(0, HUGE)], PAGE), Some(2 * HUGE));
    assert_eq!(found(&[(HUGE, 2 * HUGE)], HUGE - PAGE), Some(0));
    assert_eq!(found(&[(HUGE, 2 * HUGE)], HUGE), Some(3 * HUGE));
    assert_eq!(found(&[(PAGE, 2 * PAGE), (5 * HUGE, 6 * HUGE)], 3 * HUGE), Some(HUGE));
    assert_eq!(gap(&[(BASE..BASE + PAGE, "")], HUGE, 3 * PAGE), Some(BASE + HUGE + 3 * PAGE));
    let all = MAPPED_END.0 - BASE;
    assert_eq!(found(&[], all), Some(0));
    assert_eq!(found(&[], all + PAGE), None);
    assert_eq!(found(&[(0, all - HUGE)], PAGE), None);
    assert_eq!(found(&[], u64::MAX - PAGE + 1), None);
}
