//! Between this crate's registers and the kernel's.

use kvm_bindings::{kvm_dtable, kvm_regs, kvm_segment, kvm_sregs};

use crate::x86_64::registers::{DescriptorTable, Regs, Segment, SpecialRegs};

/// The value of the local APIC's base register after reset: enabled, bootstrap processor, the usual address (AMD64
/// Architecture Programmer's Manual, volume 2, section 16.3.1). Guests have no local APIC, but the kernel asks for a value.
const APIC_BASE: u64 = 0xfee0_0900;

macro_rules! convert_registers {
    ($($register:ident)*) => {
        impl From<&Regs> for kvm_regs {
            fn from(from: &Regs) -> Self {
                kvm_regs { $($register: from.$register),* }
            }
        }

        impl From<&kvm_regs> for Regs {
            fn from(from: &kvm_regs) -> Self {
                Regs { $($register: from.$register),* }
            }
        }
    };
}

convert_registers!(rax rbx rcx rdx rsi rdi rsp rbp r8 r9 r10 r11 r12 r13 r14 r15 rip rflags);

impl From<&SpecialRegs> for kvm_sregs {
    fn from(from: &SpecialRegs) -> Self {
        kvm_sregs {
            cs: (&from.cs).into(),
            ds: (&from.ds).into(),
            es: (&from.es).into(),
            fs: (&from.fs).into(),
            gs: (&from.gs).into(),
            ss: (&from.ss).into(),
            tr: (&from.tr).into(),
            ldt: (&from.ldt).into(),
            gdt: (&from.gdt).into(),
            idt: (&from.idt).into(),
            cr0: from.cr0,
            cr2: from.cr2,
            cr3: from.cr3,
            cr4: from.cr4,
            cr8: 0,
            efer: from.efer,
            apic_base: APIC_BASE,
            interrupt_bitmap: [0; 4],
        }
    }
}

impl From<&kvm_sregs> for SpecialRegs {
    fn from(from: &kvm_sregs) -> Self {
        SpecialRegs {
            cs: (&from.cs).into(),
            ds: (&from.ds).into(),
            es: (&from.es).into(),
            fs: (&from.fs).into(),
            gs: (&from.gs).into(),
            ss: (&from.ss).into(),
            tr: (&from.tr).into(),
            ldt: (&from.ldt).into(),
            gdt: (&from.gdt).into(),
            idt: (&from.idt).into(),
            cr0: from.cr0,
            cr2: from.cr2,
            cr3: from.cr3,
            cr4: from.cr4,
            efer: from.efer,
        }
    }
}

impl From<&Segment> for kvm_segment {
    fn from(from: &Segment) -> Self {
        kvm_segment {
            base: from.base,
            limit: from.limit,
            selector: from.selector,
            type_: from.kind,
            present: from.present.into(),
            dpl: from.privilege,
            db: from.default_32.into(),
            s: from.code_or_data.into(),
            l: from.long.into(),
            g: from.granular.into(),
            avl: 0,
            unusable: from.unusable.into(),
            padding: 0,
        }
    }
}

impl From<&kvm_segment> for Segment {
    fn from(from: &kvm_segment) -> Self {
        Segment {
            selector: from.selector,
            base: from.base,
            limit: from.limit,
            kind: from.type_,
            code_or_data: from.s != 0,
            privilege: from.dpl,
            present: from.present != 0,
            long: from.l != 0,
            default_32: from.db != 0,
            granular: from.g != 0,
            unusable: from.unusable != 0,
        }
    }
}

impl From<&DescriptorTable> for kvm_dtable {
    fn from(from: &DescriptorTable) -> Self {
        kvm_dtable { base: from.base, limit: from.limit, padding: [0; 3] }
    }
}

impl From<&kvm_dtable> for DescriptorTable {
    fn from(from: &kvm_dtable) -> Self {
        DescriptorTable { base: from.base, limit: from.limit }
    }
}
