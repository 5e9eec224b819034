//! Programs from their start to their exit, beside `fork` and `exec` of the same natively.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use ampoule::{Files, Program};
use ampoule_vmm::count::{Counting, Method};
use ampoule_vmm::kvm::Kvm;

use crate::beside::{Beside, millis, natively, printed, ratio};

pub(crate) fn measure() -> Result<(), Box<dyn Error>> {
    println!();
    println!(
        "| start to exit | native ms | sealed ms | × native | × native, shortest | exits | page faults of the hypervisor |"
    );
    println!("|---|---|---|---|---|---|---|");
    for (name, program, arguments) in [
        ("C, static: `busybox true`", BUSYBOX, &["true"][..]),
        ("Rust, static: `hello`", env!("HELLO"), &[]),
        ("`python3 -c pass`", PYTHON, &["-c", "pass"]),
        ("`python3 -I -S -c pass`", PYTHON, &["-I", "-S", "-c", "pass"]),
    ] {
        if !Path::new(program).exists() {
            println!("| {name}: **not measured**, there is no `{program}` | | | | | | |");
            continue;
        }
        let hypervisor = Arc::new(Counting::new(Kvm::shared()?));
        let sealed = || {
            let start = Instant::now();
            let program = Program::new(program).args(arguments.iter().copied()).files(Files::libraries());
            let output = program.hypervisor(hypervisor.clone()).run()?;
            let time = start.elapsed();
            printed(output)?;
            Ok(time)
        };
        let times = Beside::measure(ROUNDS, || Ok(natively(program, arguments)?.0), sealed)?;
        let ([native, sealed], runs) = (times.medians(), ROUNDS as u64 + 1);
        let exits = hypervisor.counts().of(Method::Run) / runs;
        let faults = hypervisor.statistics()?.page_faults.map_or("unknown".into(), |all| (all / runs).to_string());
        println!(
            "| {name} | {:.2} | {:.2} | {:.2} | {:.2} | {exits} | {faults} |",
            millis(native),
            millis(sealed),
            ratio([native, sealed]),
            ratio(times.shortest()),
        );
    }
    Ok(())
}

/// Where Debian's `busybox-static` puts it.
const BUSYBOX: &str = "/bin/busybox";

/// The Python of the machine.
pub(crate) const PYTHON: &str = "/usr/bin/python3";

const ROUNDS: usize = 31;
