//! What a hypervisor counts on its own.

use super::HypervisorError;

/// Reads a vCPU's [`Statistics`]. It may outlive the vCPU, whose statistics stay as they were.
pub trait StatisticsReader: Send {
    /// What was counted since the vCPU was created.
    ///
    /// # Errors
    ///
    /// [`HypervisorError`] when the hypervisor cannot report it.
    fn read(&self) -> Result<Statistics, HypervisorError>;
}

/// What a hypervisor has counted for a vCPU ([`Vcpu::statistics`](super::Vcpu::statistics)).
///
/// A field is `None` where there is no such count. Whether a count takes in all that the field's name says is the
/// hypervisor's own affair: there are some that have a count and leave it at 0.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
#[non_exhaustive]
pub struct Statistics {
    /// Times that the processor left the guest for any reason. Most of these the hypervisor handles alone, and the run goes
    /// on: the processor's own interrupts, first accesses to memory, `cpuid`.
    pub exits: Option<u64>,
    /// Of these, accesses to I/O ports.
    pub io_exits: Option<u64>,
    /// Runs that ended with an access to memory that is not mapped.
    pub mmio_exits: Option<u64>,
    /// Runs that ended because a signal was pending.
    pub signal_exits: Option<u64>,
    /// Times that an interrupt for the host took the processor from the guest.
    pub interrupt_exits: Option<u64>,
    /// Guest accesses that the hypervisor's own page tables did not allow.
    pub page_faults: Option<u64>,
}

impl Statistics {
    /// What was added since `earlier`, in the fields that both have.
    pub fn since(&self, earlier: &Statistics) -> Statistics {
        self.combine(earlier, |(now, earlier)| now?.checked_sub(earlier?))
    }

    /// The sum, where a field that only one of the two has is as in that one.
    pub(crate) fn plus(&self, other: &Statistics) -> Statistics {
        self.combine(other, |fields| match fields {
            (Some(one), Some(other)) => Some(one + other),
            (one, other) => one.or(other),
        })
    }

    fn combine(&self, other: &Statistics, with: impl Fn((Option<u64>, Option<u64>)) -> Option<u64>) -> Statistics {
        Statistics {
            exits: with((self.exits, other.exits)),
            io_exits: with((self.io_exits, other.io_exits)),
            mmio_exits: with((self.mmio_exits, other.mmio_exits)),
            signal_exits: with((self.signal_exits, other.signal_exits)),
            interrupt_exits: with((self.interrupt_exits, other.interrupt_exits)),
            page_faults: with((self.page_faults, other.page_faults)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_has_the_fields_that_both_have_and_a_sum_those_that_one_has() {
        let earlier = Statistics { exits: Some(2), io_exits: Some(1), ..Statistics::default() };
        let later = Statistics { exits: Some(7), signal_exits: Some(3), ..Statistics::default() };
        assert_eq!(later.since(&earlier), Statistics { exits: Some(5), ..Statistics::default() });
        assert_eq!(earlier.since(&later).exits, None, "not earlier");
        let sum = Statistics { exits: Some(9), io_exits: Some(1), signal_exits: Some(3), ..Statistics::default() };
        assert_eq!(later.plus(&earlier), sum);
    }
}
