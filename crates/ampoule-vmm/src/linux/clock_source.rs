//! What the kernel's clocks go by.

use std::fs;

/// Whether the kernel's clocks go by the source of this name. A kernel that does not say so is taken not to.
///
/// The kernel watches its sources, and gives up one that has proved unsteady: so it knows better than the processor does.
pub(crate) fn is_named(name: &str) -> bool {
    fs::read_to_string(CURRENT).is_ok_and(|current| current.trim_end() == name)
}

/// `kernel/time/clocksource.c` in Linux.
const CURRENT: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
