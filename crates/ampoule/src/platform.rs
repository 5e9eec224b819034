//! What guests run on, as it can be chosen for each: a hypervisor, and what they find of the processor.

use std::sync::Arc;

use ampoule_vmm::{Backend, Baseline, BaselineError, Hypervisor, OpenError, VirtualMachines};

/// See the [module](self).
#[derive(Clone, Default)]
pub(crate) struct Platform {
    /// Default: the platform's own.
    pub(crate) hypervisor: Option<Arc<dyn Hypervisor>>,
    /// Default: all that guests can use.
    pub(crate) baseline: Option<Baseline>,
}

impl Platform {
    /// What makes the virtual machines.
    pub(crate) fn backend<E>(&self) -> Result<Arc<dyn Backend>, E>
    where
        E: From<OpenError> + From<BaselineError>,
    {
        let hypervisor = match &self.hypervisor {
            Some(hypervisor) => Arc::clone(hypervisor),
            None => ampoule_vmm::default_hypervisor()?,
        };
        let hypervisor = match self.baseline {
            Some(baseline) => hypervisor.with_baseline(baseline)?,
            None => hypervisor,
        };
        Ok(Arc::new(VirtualMachines::new(hypervisor)))
    }
}
