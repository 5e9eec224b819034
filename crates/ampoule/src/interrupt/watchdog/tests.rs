//! Sandboxes that come and go between two looks of the watchdog.

use ampoule_vmm::Interrupt;

use super::*;

#[test]
fn sandboxes_that_are_gone_are_not_kept_until_the_next_look() {
    let mut watched = Watched::default();
    let alive: Vec<_> = (0..10).map(|_| sandbox()).collect();
    alive.iter().for_each(|sandbox| watched.add(sandbox));
    for _ in 0..100_000 {
        watched.add(&sandbox());
    }
    assert!(watched.sandboxes.len() < 100, "{} are kept", watched.sandboxes.len());
    let kept = |sandbox| watched.sandboxes.iter().any(|kept| kept.as_ptr() == Arc::as_ptr(sandbox));
    assert!(alive.iter().all(kept));
}

fn sandbox() -> Arc<Shared> {
    struct NeverRuns;
    impl Interrupt for NeverRuns {
        fn request(&self) {}
        fn clear(&self) {}
        fn is_inherited(&self) -> bool {
            false
        }
    }
    Arc::new(Shared::new(Arc::new(NeverRuns), None))
}
