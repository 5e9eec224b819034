//! How often something happened, by system call.

/// Counts by number. All numbers beyond the table share its last entry.
#[derive(Clone, Debug)]
pub(super) struct Counts([u32; PLACES]);

impl Counts {
    pub(super) fn new() -> Self {
        Self([0; PLACES])
    }

    /// Counts once more, and returns the count.
    pub(super) fn record(&mut self, number: u64) -> u32 {
        let count = &mut self.0[number.min(PLACES as u64 - 1) as usize];
        *count = count.saturating_add(1);
        *count
    }

    /// These counts.
    pub(super) fn of(counts: impl IntoIterator<Item = (u64, u32)>) -> Self {
        let mut all = Self::new();
        for (number, count) in counts {
            all.0[number.min(PLACES as u64 - 1) as usize] = count;
        }
        all
    }

    /// The numbers that were counted, and how often.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, u32)> {
        (0..).zip(self.0).filter(|(_, count)| *count > 0)
    }
}

/// Linux's numbers end below 512.
const PLACES: usize = 513;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_has_a_count_and_wild_ones_share_one() {
        let mut counts = Counts::new();
        assert_eq!(counts.record(7), 1);
        assert_eq!(counts.record(7), 2);
        assert_eq!(counts.record(511), 1);
        assert_eq!(counts.record(512), 1);
        assert_eq!(counts.record(u64::MAX), 2);
        assert_eq!(counts.iter().collect::<Vec<_>>(), [(7, 2), (511, 1), (512, 2)]);
    }
}
