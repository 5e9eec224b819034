//! The probe on hypervisors that follow a script.

use std::cell::RefCell;
use std::sync::Arc;

use super::*;
use crate::address::GuestPhys;
use crate::hypervisor::{Counters, Exit, Interrupt, Operation};
use crate::page_set::PageSet;
use crate::x86_64::capabilities::PortAccess;
use crate::x86_64::registers::{FpuState, SpecialRegs, SyscallEntry};

/// How runs end, each with what is in RAX then.
type Script = Vec<(Result<Exit<'static>, HypervisorError>, u64)>;

/// Probes a hypervisor whose machines' runs end as one script after another says; `ring` is that in which the guest is found.
fn probed(scripts: Vec<Script>, ring: u16) -> (Result<Capabilities, ProbeError>, Trials) {
    let scripts = RefCell::new(scripts.into_iter());
    let mut trials = Trials::default();
    let result = probe(Features { fsgsbase: true, umip: true, xcr0: 7 }, &mut trials, |_| {
        let runs = scripts.borrow_mut().next().expect("no more machines than scripts");
        Ok(Box::new(Fake { runs, ring, rax: 0 }))
    });
    assert!(scripts.into_inner().next().is_none(), "no fewer machines than scripts");
    (result, trials)
}

#[test]
fn the_first_way_that_works_is_taken() {
    let (result, trials) = probed(vec![ready([read(1), read(2), read(1), out(0x26)])], 3);
    let capabilities = result.unwrap();
    assert_eq!((capabilities.ports, capabilities.syscall), (PortAccess::Bitmap, SyscallRing::Ring3));
    assert!(capabilities.base_instructions);
    assert_eq!(
        trials.to_string(),
        "`out` in ring 3: the I/O bitmap: exit; the I/O bitmap of an available task: not tried; \
         I/O privilege level 3: not tried\n\
         `syscall`: stays in ring 3 and returns\n\
         `wrfsbase` in ring 3: exit\n\
         a page table that serves other addresses than before: nested paging\n\
         `rdpkru` in ring 3: #UD"
    );
}

#[test]
fn tables_that_are_seen_at_once_are_walked_by_the_processor_itself() {
    let (result, trials) = probed(vec![ready([read(1), read(2), read(1), out(0x26)])], 0);
    assert_eq!(result.unwrap().paging, Paging::Nested);
    assert!(trials.to_string().contains("than before: nested paging\n"), "{trials}");
}

#[test]
fn tables_that_are_seen_only_after_a_flush_are_shadowed() {
    for stale in [[read(2), read(2)], [read(1), read(1)]] {
        let script = ready([read(1)].into_iter().chain(stale).chain([read(2), read(1), out(0x26)]));
        let (result, trials) = probed(vec![script], 0);
        assert_eq!(result.unwrap().paging, Paging::Shadowed);
        assert!(trials.to_string().contains("than before: shadowed page tables\n"), "{trials}");
    }
}

#[test]
fn tables_that_are_not_seen_after_a_flush_either_make_a_hypervisor_unusable() {
    let (result, trials) = probed(vec![ready([read(1), read(2), read(2), read(2), read(2)])], 0);
    assert!(matches!(result, Err(ProbeError::PageTables)), "{result:?}");
    assert!(trials.to_string().contains("than before: not tried\n"), "{trials}");
}

#[test]
fn protection_keys_are_there_where_a_guest_can_read_them() {
    for (last, there) in [(out(0x26), false), (out(0x2d), false), (out(0x11), true)] {
        let (result, trials) = probed(vec![ready([read(1), read(2), read(1), last])], 0);
        assert_eq!(result.unwrap().protection_keys, there, "{trials}");
    }
}

#[test]
fn a_guest_that_cannot_read_its_memory_is_told() {
    let (result, _) = probed(vec![ready([out(0x2e)])], 0);
    assert!(matches!(result, Err(ProbeError::Read { outcome: Outcome::Exception(14) })), "{result:?}");
}

#[test]
fn a_refused_way_is_told_beside_the_one_that_works() {
    let mut second = ready([read(1), read(2), read(1), out(0x26)]);
    second[3] = out(0x26);
    let (result, trials) = probed(vec![vec![out(0x2d)], second], 0);
    let capabilities = result.unwrap();
    assert_eq!(capabilities.ports, PortAccess::BitmapOfAvailableTask);
    assert!(!capabilities.base_instructions);
    assert_eq!(
        trials.to_string(),
        "`out` in ring 3: the I/O bitmap: #GP; the I/O bitmap of an available task: exit; \
         I/O privilege level 3: not tried\n\
         `syscall`: enters ring 0 and returns\n\
         `wrfsbase` in ring 3: #UD\n\
         a page table that serves other addresses than before: nested paging\n\
         `rdpkru` in ring 3: #UD"
    );
}

#[test]
fn where_no_way_works_all_are_told() {
    let scripts =
        vec![vec![out(0x2d)], vec![(Ok(Exit::Shutdown), 0)], vec![(Ok(Exit::InternalError { suberror: 1 }), 0)]];
    let (result, trials) = probed(scripts, 3);
    assert!(matches!(result, Err(ProbeError::NoPort)));
    assert_eq!(
        trials.to_string(),
        "`out` in ring 3: the I/O bitmap: #GP; the I/O bitmap of an available task: triple fault; \
         I/O privilege level 3: the hypervisor could not emulate the instruction (suberror 1)\n\
         `syscall`: not tried\n\
         `wrfsbase` in ring 3: not tried\n\
         a page table that serves other addresses than before: not tried\n\
         `rdpkru` in ring 3: not tried"
    );
}

#[test]
fn a_guest_that_cannot_be_run_is_told_as_such() {
    let refused = HypervisorError::Refused { operation: Operation::Run, reason: io::Error::other("broken") };
    let (result, trials) = probed(vec![vec![out(0x2d)], vec![(Err(refused), 0)]], 3);
    assert!(matches!(result, Err(ProbeError::Hypervisor(_))));
    let text = trials.to_string();
    assert!(text.contains("available task: the guest could not be run; I/O privilege level 3: not tried"), "{text}");
}

#[test]
fn a_system_call_that_goes_astray_is_told() {
    let (result, trials) = probed(vec![vec![out(0x11), out(0x26)]], 3);
    let Err(ProbeError::SystemCall { outcome }) = result else { panic!("{result:?}") };
    assert_eq!(outcome, Outcome::Exception(6));
    assert!(trials.to_string().contains("\n`syscall`: #UD\n"), "{trials}");
}

#[test]
fn a_system_call_that_does_not_return_is_told() {
    let (result, trials) = probed(vec![vec![out(0x11), out(0x10), out(0x2e)]], 0);
    let Err(error @ ProbeError::SystemCallReturn { .. }) = result else { panic!("{result:?}") };
    assert_eq!(error.to_string(), "a guest's system call does not return: #PF");
    assert!(trials.to_string().contains("\n`syscall`: enters ring 0; its return: #PF\n"), "{trials}");
}

#[test]
fn every_outcome_has_words_of_its_own() {
    let exits = [
        Exit::IoOut { port: 0x11, data: &[0] },
        Exit::IoOut { port: 0x12, data: &[0] },
        Exit::IoOut { port: 0x28, data: &[0] },
        Exit::IoOut { port: 0x2c, data: &[0] },
        Exit::Shutdown,
        Exit::FailEntry { reason: 7 },
        Exit::InternalError { suberror: 1 },
        Exit::Interrupted,
        Exit::Halt,
    ];
    let mut texts: Vec<String> = exits.iter().map(|exit| Outcome::of(exit, 0x11).to_string()).collect();
    texts.sort();
    texts.dedup();
    assert_eq!(texts.len(), exits.len(), "{texts:?}");
    assert!(texts.iter().any(|text| text.ends_with("(reason 0x7)")));
}

fn out(port: u16) -> (Result<Exit<'static>, HypervisorError>, u64) {
    (Ok(Exit::IoOut { port, data: &[0] }), BASE.into())
}

/// The guest has read a value.
fn read(value: u64) -> (Result<Exit<'static>, HypervisorError>, u64) {
    (out(0x11).0, value)
}

/// Everything works up to the trial of page tables, which goes on like this.
fn ready(rest: impl IntoIterator<Item = (Result<Exit<'static>, HypervisorError>, u64)>) -> Script {
    [out(0x11), out(0x10), out(0x11), out(0x11)].into_iter().chain(rest).collect()
}

/// Virtual machine and vCPU in one.
struct Fake {
    runs: Script,
    ring: u16,
    rax: u64,
}

impl Vm for Fake {
    fn map(&mut self, _: u32, _: GuestPhys, _: Arc<Region>, _: WriteTracking) -> Result<(), HypervisorError> {
        Ok(())
    }

    fn unmap(&mut self, _: u32) -> Result<(), HypervisorError> {
        unreachable!("the probe leaves its memory mapped")
    }

    fn collect_written(&mut self, _: u32, _: &mut PageSet) -> Result<(), HypervisorError> {
        unreachable!("the probe does not track writes")
    }

    fn forget_written(&mut self, _: u32, _: &PageSet) -> Result<(), HypervisorError> {
        unreachable!("the probe does not track writes")
    }

    fn flush_translations(&mut self, _: u32) -> Result<(), HypervisorError> {
        Ok(())
    }

    fn create_vcpu(&mut self, _: &SyscallEntry) -> Result<Box<dyn Vcpu>, HypervisorError> {
        Ok(Box::new(Fake { runs: std::mem::take(&mut self.runs), ..*self }))
    }
}

impl Vcpu for Fake {
    fn run(&mut self) -> Result<Exit<'_>, HypervisorError> {
        let (exit, rax) = self.runs.remove(0);
        self.rax = rax;
        exit
    }

    fn regs(&self) -> Regs {
        Regs { rax: self.rax, rcx: START.0 + 4, ..Regs::default() }
    }

    fn set_regs(&mut self, _: &Regs) {}

    fn special_regs(&mut self) -> Result<SpecialRegs, HypervisorError> {
        let mut regs = SpecialRegs::default();
        regs.cs.selector = 0x30 | self.ring;
        Ok(regs)
    }

    fn set_special_regs(&mut self, _: &SpecialRegs) -> Result<(), HypervisorError> {
        Ok(())
    }

    fn settle(&mut self) -> Result<(), HypervisorError> {
        unreachable!("the probe does not settle")
    }

    fn abandon(&mut self) -> Result<(), HypervisorError> {
        unreachable!("the probe does not abandon")
    }

    fn fpu(&mut self) -> Result<FpuState, HypervisorError> {
        unreachable!("the probe leaves the floating-point state alone")
    }

    fn set_fpu(&mut self, _: &FpuState) -> Result<(), HypervisorError> {
        unreachable!("the probe leaves the floating-point state alone")
    }

    fn interrupter(&self) -> Arc<dyn Interrupt> {
        unreachable!("the probe is not interrupted")
    }

    fn counters(&self) -> Counters {
        Counters::default()
    }
}
