//! What is decided once for a whole process, and so has a test process of its own.

use std::error::Error;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use ampoule::{Image, InterruptSignal, Sandbox};
use ampoule_vmm::kvm::Kvm;

#[test]
fn a_process_chooses_its_signal_and_opens_the_device_beforehand() -> Result<(), Box<dyn Error>> {
    InterruptSignal::Number(libc::SIGUSR2).install()?;

    let device: OwnedFd = File::options().read(true).write(true).open(Kvm::DEVICE)?.into();
    // From here on the process may give up the right to open files.
    let kvm = Arc::new(Kvm::from_fd(device)?);

    let image = Image::embedded(ampoule::include_guest!("dictionary"))?;
    let mut sandbox = Sandbox::builder(&image).hypervisor(kvm).build()?;
    assert_eq!(sandbox.call::<String>("parse", ("word",))?, "");
    Ok(())
}
