//! What a sandbox costs in memory when there are many, and how fast they are made.

use std::error::Error;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use ampoule::{Image, Sandbox, Snapshot};
use ampoule_vmm::x86_64::shim::{self, System};
use ampoule_vmm::{GuestPhys, Hypervisor, Region, Vcpu, Vm, WriteTracking};

use crate::snapshots::{settings, spawn, spawn_settings};

pub(crate) fn measure(image: &Image) -> Result<(), Box<dyn Error>> {
    println!();
    println!("| {ALIVE} alive | KiB each, user (PSS) | KiB each, all of the machine's | × bare |");
    println!("|---|---|---|---|");
    let snapshot = settings(Sandbox::builder(image)).build()?.snapshot()?;
    // What the process and the kernel set up once is not part of any row.
    drop(bare()?);
    drop(spawn(&snapshot)?);

    let (floor, _bare) = row("bare VM and vCPU with the same slots", None, bare)?;
    drop(_bare);
    let (_, siblings) = row("fresh siblings of one snapshot", Some(floor), || spawn(&snapshot))?;
    drop(siblings);
    let (_, called) = row("siblings after their first call", Some(floor), || {
        let mut sandbox = spawn(&snapshot)?;
        sandbox.call::<()>("empty", ())?;
        Ok(sandbox)
    })?;
    drop(called);

    println!();
    println!("| creation, {ALIVE} each | per second |");
    println!("|---|---|");
    for threads in [1, 2] {
        println!("| spawned on {threads} threads | {:.0} |", creation_rate(&snapshot, threads)?);
    }
    Ok(())
}

/// Makes [`ALIVE`] of something: bytes for each, and all of them.
fn row<T>(
    name: &str,
    floor: Option<f64>,
    mut make: impl FnMut() -> Result<T, Box<dyn Error>>,
) -> Result<(f64, Vec<T>), Box<dyn Error>> {
    let before = Memory::settled()?;
    let made = (0..ALIVE).map(|_| make()).collect::<Result<Vec<T>, _>>()?;
    let after = Memory::settled()?;
    let [user, all] = after.each_since(&before, ALIVE);
    println!("| {name} | {user:.0} | {all:.0} | {:.2} |", all / floor.unwrap_or(all));
    Ok((all, made))
}

struct BareVm {
    _vcpu: Box<dyn Vcpu>,
    _vm: Box<dyn Vm>,
}

/// A virtual machine with a vCPU and the slots that a sandbox of the default size has, of which nothing was touched.
fn bare() -> Result<BareVm, Box<dyn Error>> {
    let kvm = ampoule_vmm::kvm::Kvm::shared()?;
    let mailbox = (6 << 12) + 2 * (2 << 20);
    let memory = Region::anonymous((64 << 20) + mailbox)?;
    let system = Region::anonymous(SYSTEM_LEN)?;
    let mut vm = kvm.create_vm()?;
    vm.map(0, shim::SYSTEM_BASE, system, WriteTracking::Off)?;
    vm.map(1, GuestPhys(1 << 32), memory, WriteTracking::On)?;
    let entry = System::new(shim::OWN_TABLES)?.0.syscall_entry();
    let vcpu = vm.create_vcpu(&entry)?;
    Ok(BareVm { _vcpu: vcpu, _vm: vm })
}

fn creation_rate(snapshot: &Snapshot, threads: usize) -> Result<f64, Box<dyn Error>> {
    let start = Instant::now();
    let makers: Vec<_> = (0..threads)
        .map(|_| {
            let snapshot = snapshot.clone();
            thread::spawn(move || -> Result<Vec<Sandbox>, ampoule::BuildError> {
                (0..ALIVE / threads).map(|_| spawn_settings(snapshot.builder()).build()).collect()
            })
        })
        .collect();
    let made = makers.into_iter().map(|maker| maker.join().expect("a maker does not panic"));
    let made = made.collect::<Result<Vec<_>, _>>()?;
    let time = start.elapsed();
    let count: usize = made.iter().map(Vec::len).sum();
    Ok(count as f64 / time.as_secs_f64())
}

/// Memory in use, in KiB.
pub(crate) struct Memory {
    user: u64,
    all: u64,
}

impl Memory {
    /// Waits until the kernel has given back what was dropped before, which it does in its own time.
    pub(crate) fn settled() -> Result<Self, Box<dyn Error>> {
        let mut last = Self::now()?;
        for _ in 0..50 {
            thread::sleep(Duration::from_millis(200));
            let now = Self::now()?;
            if now.all.abs_diff(last.all) < 1024 {
                return Ok(now);
            }
            last = now;
        }
        Ok(last)
    }

    /// What each of so many has taken since `before`: of the process, and of the machine.
    pub(crate) fn each_since(&self, before: &Self, count: usize) -> [f64; 2] {
        let each = |before: u64, after: u64| after.saturating_sub(before) as f64 / count as f64;
        [each(before.user, self.user), each(before.all, self.all)]
    }

    fn now() -> Result<Self, Box<dyn Error>> {
        let machine = fs::read_to_string("/proc/meminfo")?;
        let of = |name: &str| field(&machine, name);
        let given_away = of("MemFree:")? + of("Buffers:")? + of("Cached:")? - of("Shmem:")?;
        let process = fs::read_to_string("/proc/self/smaps_rollup")?;
        Ok(Self { user: field(&process, "Pss:")?, all: of("MemTotal:")? - given_away })
    }
}

fn field(text: &str, name: &str) -> Result<u64, Box<dyn Error>> {
    let line = text.lines().find(|line| line.starts_with(name)).ok_or_else(|| format!("no {name}"))?;
    Ok(line.split_whitespace().nth(1).ok_or("no number")?.parse()?)
}

const ALIVE: usize = 1000;

/// About as much as the page tables of a sandbox of 64 MiB take.
const SYSTEM_LEN: usize = 160 << 12;
