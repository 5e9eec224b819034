//! A word of memory that threads change and wait for, as a trait: a model checker has its own.

use super::linux::clock::Moment;

#[cfg(test)]
pub(super) mod model;

/// An atomic word. Loads acquire, changes release.
pub(super) trait Word {
    fn load(&self) -> u64;

    fn store(&self, value: u64);

    fn compare_exchange(&self, current: u64, new: u64) -> Result<u64, u64>;

    /// Blocks while the low half of the word is that of `seen`, at most until then. May return early.
    fn wait(&self, seen: u64, until: Moment);

    /// Ends all `wait`s.
    fn wake(&self);

    /// Of two threads that store, come here, and load what the other one has stored, at least one sees the other's
    /// store.
    fn fence();

    /// Replaces the word by `change` of it: the word before.
    fn update(&self, change: impl Fn(u64) -> u64) -> u64 {
        self.try_update(|word| Some(change(word))).unwrap_or_else(|word| word)
    }

    /// Replaces the word by `change` of it, unless that refuses: the word before, in either case.
    fn try_update(&self, change: impl Fn(u64) -> Option<u64>) -> Result<u64, u64> {
        let mut word = self.load();
        loop {
            let Some(new) = change(word) else {
                return Err(word);
            };
            match self.compare_exchange(word, new) {
                Ok(_) => return Ok(word),
                Err(changed) => word = changed,
            }
        }
    }
}
