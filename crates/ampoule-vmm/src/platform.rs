//! The one place that chooses a hypervisor for the platform.

use std::sync::Arc;

use crate::hypervisor::{Hypervisor, OpenError};
use crate::kvm::Kvm;

/// The platform's hypervisor, opened at the first call and kept for the process.
///
/// # Errors
///
/// [`OpenError`] says what is wrong and what to do about it. The next call tries again.
pub fn default_hypervisor() -> Result<Arc<dyn Hypervisor>, OpenError> {
    let kvm: Arc<dyn Hypervisor> = Kvm::shared()?;
    Ok(kvm)
}
