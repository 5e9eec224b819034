use super::*;
use crate::x86_64::capabilities::{Paging, PortAccess, SyscallRing};
use crate::x86_64::probe::{Outcome, Trials};

/// A kernel that has everything, but answers `found` when asked for the capability `number`.
fn detection(number: u32, found: i32) -> Detection {
    let answer = |asked| match asked {
        _ if asked == number => found,
        KVM_CAP_DIRTY_LOG_RING => 1 << 20,
        _ => 3,
    };
    Detection::begin(12, answer)
}

#[test]
fn a_capability_suffices_when_as_much_of_it_is_there_as_is_needed() {
    for (number, found, missing) in [
        (KVM_CAP_XCRS, 1, None),
        (KVM_CAP_XCRS, 0, Some("KVM_CAP_XCRS")),
        (KVM_CAP_XCRS, -22, Some("KVM_CAP_XCRS")),
        (KVM_CAP_XCRS, -1, Some("KVM_CAP_XCRS")),
        (KVM_CAP_SYNC_REGS, 7, None),
        (KVM_CAP_SYNC_REGS, 1, Some("KVM_CAP_SYNC_REGS")),
        (KVM_CAP_DIRTY_LOG_RING, 1 << 14, None),
        (KVM_CAP_DIRTY_LOG_RING, 1 << 13, Some("KVM_CAP_DIRTY_LOG_RING")),
        (KVM_CAP_DIRTY_LOG_RING, 0, Some("KVM_CAP_DIRTY_LOG_RING")),
        (KVM_CAP_DIRTY_LOG_RING, -22, Some("KVM_CAP_DIRTY_LOG_RING")),
        (KVM_CAP_BINARY_STATS_FD, 0, None),
        (KVM_CAP_BINARY_STATS_FD, -22, None),
    ] {
        assert_eq!(detection(number, found).missing(), missing, "{number}: {found}");
    }
}

#[test]
fn statistics_are_there_only_where_the_kernel_says_so() {
    for (found, there) in [(1, true), (0, false), (-22, false)] {
        assert_eq!(detection(KVM_CAP_BINARY_STATS_FD, found).has(STATISTICS), there);
    }
}

#[test]
fn every_capability_is_listed_however_many_are_missing() {
    let detection = Detection::begin(12, |number| match number {
        KVM_CAP_SYNC_REGS => 1,
        KVM_CAP_IMMEDIATE_EXIT | KVM_CAP_BINARY_STATS_FD => 0,
        KVM_CAP_EXT_CPUID => -22,
        KVM_CAP_DIRTY_LOG_RING => 1 << 12,
        KVM_CAP_XCRS => 1,
        _ => 3,
    });
    assert_eq!(detection.missing(), Some("KVM_CAP_EXT_CPUID"));
    assert_eq!(
        detection.to_string(),
        "KVM's API version: 12\n\
         KVM_CAP_USER_MEMORY: present (0x3)\n\
         KVM_CAP_EXT_CPUID: missing\n\
         KVM_CAP_XCRS: present\n\
         KVM_CAP_SYNC_REGS: 0x1, of which 0x3 is needed\n\
         KVM_CAP_IMMEDIATE_EXIT: missing\n\
         KVM_CAP_DIRTY_LOG_RING: 0x1000, and 0x4000 is needed\n\
         KVM_CAP_BINARY_STATS_FD: absent, not needed\n\
         processor: not asked for\n\
         trial guest: not run"
    );
}

#[test]
fn the_processor_and_the_trials_are_listed() {
    let mut detection = detection(KVM_CAP_XCRS, 1);
    detection.processor = Some(Processor { fsgsbase: true, umip: true, xcr0: 7, offered_xcr0: 0xe7 });
    let mut trials = Trials::default();
    trials.begin(PortAccess::Bitmap);
    trials.end(Outcome::Left);
    trials.syscall(Outcome::Left).ring = Some(SyscallRing::Ring3);
    trials.base_instructions = Some(Outcome::Exception(6));
    trials.paging = Some(Paging::Shadowed);
    trials.protection_keys = Some(Outcome::Exception(13));
    detection.trials = Some(trials);
    let text = detection.to_string();
    let end = "XCR0: 0x7 of 0xe7\n\
               FSGSBASE: present\n\
               UMIP: present\n\
               `out` in ring 3: the I/O bitmap: exit; the I/O bitmap of an available task: not tried; \
               I/O privilege level 3: not tried\n\
               `syscall`: stays in ring 3\n\
               `wrfsbase` in ring 3: #UD\n\
               a page table that serves other addresses than before: shadowed page tables\n\
               `rdpkru` in ring 3: #GP";
    assert!(text.ends_with(end), "{text}");
    detection.processor = Some(Processor { fsgsbase: false, umip: false, xcr0: 0, offered_xcr0: 0 });
    assert!(detection.to_string().contains("XSAVE: absent\nFSGSBASE: absent\nUMIP: absent\n"));
}
