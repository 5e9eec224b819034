//! What was found out about an image's code, kept for the next who asks.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::Omission;
use super::debug_info::UnitIndex;

/// What was found out about the code of one image: the names and lines of addresses, and where its debug information has
/// what. It has a bound of some megabytes, most of which is not used for an image that was not made to use it.
#[derive(Debug, Default)]
pub struct NameCache(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    /// By image address.
    calls: HashMap<u64, Arc<[Call]>>,
    /// How many calls these are in all.
    count: usize,
    units: Option<Arc<UnitIndex>>,
    omission: Option<Omission>,
}

/// A call at an address. Where functions were inlined there, an address has several, innermost first.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) function: Option<String>,
    pub(super) file: Option<String>,
    pub(super) line: Option<u32>,
}

/// What was found out about some addresses.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) calls: HashMap<u64, Arc<[Call]>>,
    pub(super) omission: Option<Omission>,
}

impl NameCache {
    /// What is known about these image addresses, if that is everything.
    pub(super) fn all(&self, addresses: &[u64]) -> Option<Found> {
        self.with(|kept| {
            let known = |address: &u64| Some((*address, Arc::clone(kept.calls.get(address)?)));
            let calls = addresses.iter().map(known).collect::<Option<_>>()?;
            Some(Found { calls, omission: kept.omission })
        })?
    }

    /// Keeps what was found.
    pub(super) fn keep(&self, found: &Found) {
        self.with(|kept| {
            let count = |calls: &HashMap<u64, Arc<[Call]>>| calls.values().map(|calls| calls.len()).sum::<usize>();
            let more = count(&found.calls);
            if kept.count + more > MAX_CALLS {
                kept.calls.clear();
            }
            if more <= MAX_CALLS {
                kept.calls.extend(found.calls.iter().map(|(address, calls)| (*address, Arc::clone(calls))));
            }
            kept.count = count(&kept.calls);
            kept.omission = found.omission;
        });
    }

    /// Which unit of the debug information is about which addresses, if that was kept.
    pub(super) fn units(&self) -> Option<Arc<UnitIndex>> {
        self.with(|kept| kept.units.clone())?
    }

    /// Keeps the index of units.
    pub(super) fn keep_units(&self, units: &Arc<UnitIndex>) {
        self.with(|kept| kept.units = Some(Arc::clone(units)));
    }

    /// Nobody waits here: a thread that held the cache when the process was forked does not exist in the child. Who finds it
    /// in use goes without it.
    fn with<R>(&self, action: impl FnOnce(&mut Kept) -> R) -> Option<R> {
        self.0.try_lock().ok().map(|mut kept| action(&mut kept))
    }
}

/// The most calls that are kept. Each has two texts of some hundred bytes, and 1.5 KiB at most.
const MAX_CALLS: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    fn found(addresses: impl Iterator<Item = u64>) -> Found {
        let calls: Arc<[Call]> = vec![Call { function: Some("f".into()), file: None, line: Some(1) }; 4].into();
        Found { calls: addresses.map(|address| (address, Arc::clone(&calls))).collect(), omission: None }
    }

    #[test]
    fn what_is_known_is_told_only_where_that_is_everything() {
        let cache = NameCache::default();
        assert!(cache.all(&[1]).is_none());
        cache.keep(&found([1, 2].into_iter()));
        assert_eq!(cache.all(&[1, 2]).unwrap().calls.len(), 2);
        assert!(cache.all(&[2, 3]).is_none());
    }

    #[test]
    fn a_cache_never_holds_more_than_its_bound_and_keeps_the_latest() {
        let cache = NameCache::default();
        for start in (0..100_000).step_by(100) {
            cache.keep(&found(start..start + 100));
            assert!(cache.all(&[start, start + 99]).is_some());
            let kept = cache.0.lock().unwrap();
            assert!(kept.count <= MAX_CALLS && kept.count == kept.calls.len() * 4);
        }
        cache.keep(&found(0..MAX_CALLS as u64));
        assert!(cache.all(&[0]).is_none(), "more at once than there is room for");
    }
}
