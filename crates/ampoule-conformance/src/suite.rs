//! The table of all cases: what a backend promises, in one place.

use ampoule_vmm::Hypervisor;

use crate::case::Case;
use crate::cases as implementation;

/// Makes the table of cases and, for backends' tests, the macro with the same names.
macro_rules! suite {
    ($dollar:tt $($variant:ident $module:ident $about:literal { $($name:ident: $promise:literal,)+ })+) => {
        /// A group of cases that a backend can lack together.
        #[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug)]
        #[non_exhaustive]
        pub enum Part {
            $(#[doc = $about] $variant,)+
        }

        impl Part {
            /// The part's name, as in the names of the tests that [`tests!`](crate::tests) makes.
            pub fn name(self) -> &'static str {
                match self {
                    $(Part::$variant => stringify!($module),)+
                }
            }

            /// What the part is about, in one sentence.
            pub fn about(self) -> &'static str {
                match self {
                    $(Part::$variant => $about,)+
                }
            }
        }

        /// All cases, part by part.
        pub fn cases() -> &'static [Case] {
            const CASES: &[Case] = &[
                $($(Case {
                    part: Part::$variant,
                    name: stringify!($name),
                    promise: $promise,
                    procedure: implementation::$module::$name as fn(&dyn Hypervisor) -> _,
                },)+)+
            ];
            CASES
        }

        /// Makes each case a test of its own, in a module for each part. The argument is an expression whose
        /// value, with `&` put before it, is a `&dyn Hypervisor`.
        ///
        /// See the [crate's documentation](crate) for an example.
        #[macro_export]
        macro_rules! tests {
            ($dollar hypervisor:expr) => {
                $(mod $module {
                    use super::*;

                    $(#[test]
                    fn $name() {
                        let part = $dollar crate::Part::$variant;
                        $dollar crate::assert_passes(&$dollar hypervisor, part, stringify!($name));
                    })+
                })+
            };
        }
    };
}

suite! {
    $
    Memory memory "What a guest finds at its addresses." {
        a_page_fault_tells_address_and_cause:
            "A page fault arrives with the exact address, and the error code tells a load, a store or a fetch, and \
             whether the page is there.",
        a_fault_that_the_host_mends_is_retried:
            "After the host has mapped the page, the faulting instruction is executed again.",
        a_fault_that_nobody_mends_comes_again: "A fault comes as often as the guest is resumed without a mapping.",
        a_page_that_was_unmapped_and_discarded_is_gone:
            "Discarding memory takes away what the processor remembers of its mapping.",
        discarded_memory_reads_as_zero: "The guest reads zeros from memory that the host has discarded.",
        host_and_guest_see_each_others_writes: "What the host or the guest stores is what the other loads next.",
        physical_memory_that_is_not_there_is_reported:
            "An access to guest-physical memory without a slot exits with its address, size and data.",
        a_slot_that_was_unmapped_is_not_there: "After a slot was unmapped the guest no longer reaches its memory.",
        slots_are_found_side_by_side: "Slots that adjoin look like one piece of memory.",
        memory_lives_as_long_as_the_guest: "Machine, vCPU and memory can be dropped in any order.",
        memory_that_no_guest_can_reach_is_given_back:
            "Nobody holds a region after its slot is unmapped or its machine dropped.",
        machines_do_not_see_each_others_memory: "Two machines with the same addresses have their own memory.",
    }
    MappedMemory mapped_memory "Files of the host's in a slot." {
        a_file_is_seen_as_it_is_now: "Guests that map a file see what the host writes to it, and share its pages.",
        what_a_guest_writes_to_a_copy_can_be_forgotten:
            "Writes to a private mapping are tracked, do not reach the file, and are gone once the host has dropped them.",
        a_page_that_its_file_has_lost_is_an_error:
            "A run that touches a page behind the end of a file fails with lost memory; the machine can go on.",
        a_slot_that_is_used_again_shows_the_other_memory: "A slot number and its addresses can be used again.",
    }
    PageTables page_tables "That a guest's memory is what its page tables say, however they were edited." {
        a_table_that_keeps_its_place_needs_no_flush:
            "A page table that was unlinked and linked again in its place shows what it says now, and nothing from before.",
        a_table_that_serves_other_addresses_is_seen_after_a_flush:
            "A page table of the lowest level that serves other addresses shows only at its new place.",
        upper_tables_that_serve_other_addresses_are_seen_after_a_flush:
            "So do page tables of all other levels.",
        tables_that_are_put_back_are_seen:
            "Page tables that are restored show what they said then, whatever was mapped in between.",
        a_permission_that_was_narrowed_is_gone_after_a_flush:
            "After narrowing a permission, a flush makes the next use fault, without a revocation.",
        a_flush_loses_neither_contents_nor_writes:
            "A flush changes no byte, and every page that was written before it or is written after it is reported.",
        a_flush_of_an_empty_slot_is_refused: "A flush that names a slot without memory is an error.",
    }
    Permissions permissions "What the page tables allow, and no more." {
        each_permission_holds:
            "Each combination of the write, execute and user permissions allows exactly what it says.",
        protection_keys_are_out_of_reach_unless_promised:
            "Ring 3 can neither read nor set protection keys, unless the capabilities say that it can.",
        what_belongs_to_ring_0_is_out_of_reach: "Ring 3 can neither read, write nor execute the pages of ring 0.",
        the_stubs_cannot_be_overwritten: "Ring 3 cannot write the stubs that it may execute.",
        a_permission_that_was_narrowed_and_revoked_is_gone:
            "After narrowing a permission and revoking the memory, the next use faults.",
        widening_needs_no_revocation: "A permission that was widened holds at once.",
        a_revocation_reaches_every_page_and_keeps_the_contents:
            "Revoking a range works on each of its pages and changes no byte.",
    }
    Ports ports "What leaves a guest, and that nothing else does." {
        the_doorbell_reaches_the_host_and_returns:
            "A call of the doorbell exits, and returns when the guest is run again.",
        the_doorbell_changes_no_register: "At the exit and after it, all registers are those of the caller.",
        a_run_goes_on_behind_the_doorbells_out:
            "An `out` that has left is not executed again, and its exit reports where it is.",
        an_out_of_the_guests_own_is_seen_as_a_forgery:
            "An `out` outside the stubs exits with the address of the guest's own code.",
        a_string_of_outs_does_not_pass_for_a_stub: "A string `out` does not look like the doorbell.",
        input_leaves_as_input_or_not_at_all: "An `in` from an allowed port exits as input, or is refused.",
        every_other_port_is_denied:
            "Every port but two is a general-protection fault, for output and for input, unless the capabilities say \
             that ports are open.",
        a_wide_out_needs_all_its_ports: "An `out` of several bytes is refused when one of its ports is.",
    }
    Faults faults "How exceptions arrive, and how the guest continues." {
        exceptions_arrive_by_their_vectors:
            "Each exception that ring 3 can raise arrives by its vector, with its instruction and its error code.",
        a_stray_stack_pointer_is_a_fault:
            "A stack access to a non-canonical address is a fault of its instruction, and delivered.",
        alignment_and_simd_exceptions_have_theirs:
            "The alignment check and the SIMD exception arrive by their vectors.",
        a_frame_holds_what_was_interrupted:
            "The exception's frame and the registers are those of the interrupted code.",
        a_retried_instruction_finds_all_registers:
            "After an exception was answered, the guest has all its registers again.",
        an_exception_needs_none_of_the_guests_stack: "An exception arrives even when the stack pointer leads nowhere.",
        an_exception_leaves_the_red_zone_alone: "No exception writes to the guest's stack.",
        software_interrupts_reach_no_gate_but_that_of_breakpoints:
            "A software interrupt does not raise the exception of its number, except a breakpoint.",
        privileged_instructions_are_refused: "Each privileged instruction is a general-protection fault in ring 3.",
        single_steps_arrive_and_can_be_resumed: "With the trap flag, each instruction ends in a debug exception.",
        a_guest_goes_on_where_the_host_puts_it:
            "After an exception the host can put the guest anywhere, back in ring 3.",
        a_fault_within_a_string_instruction_can_be_resumed: "A string instruction continues in its middle after a fault.",
    }
    SystemCalls system_calls "The `syscall` instruction, there and back." {
        a_system_call_arrives_with_its_arguments:
            "At the exit all registers are the caller's, with its address in RCX and its flags in R11.",
        a_system_call_returns_with_its_result_and_all_other_registers:
            "After the answer the caller goes on behind its call with all registers but RAX, RCX and R11 as they \
             were.",
        the_stub_runs_with_the_flags_that_it_needs: "The flags that the entry has to clear are clear at the exit.",
        the_guest_keeps_its_flags_over_a_system_call: "The caller's flags come back.",
        a_single_stepped_guest_makes_its_system_call:
            "The trap flag neither keeps a system call from arriving nor is lost in it.",
        a_jump_into_the_stub_gains_nothing:
            "A guest that jumps to the stub is seen with the return address that it made up.",
        many_system_calls_are_each_seen_once: "Calls in a row arrive one by one.",
    }
    Registers registers "Registers, in and out." {
        what_is_set_reads_back: "Registers that were set are reported as set, without a run.",
        every_general_register_travels_both_ways:
            "The guest starts with exactly the registers that were set, and the host sees what it makes of them.",
        registers_can_be_changed_at_every_exit: "Registers that are changed at an exit by the doorbell take effect.",
        segment_bases_reach_the_guest: "The bases of FS and GS are those that the host sets.",
        segment_bases_are_the_guests_to_set_if_promised:
            "If the capabilities say so, the guest can set the bases itself, and the host sees them; otherwise it \
             cannot.",
        the_host_sees_the_bases_of_segments_that_the_guest_loads:
            "Segments that the guest loads into FS and GS are reported by their bases.",
        the_hosts_segments_replace_the_guests:
            "Segments that the host sets replace those that the guest has loaded, in everything that they lead to.",
        other_page_tables_take_effect:
            "Other page tables in the place of the old ones take effect with the next special registers.",
        special_registers_are_right_whether_expected_or_not:
            "Special registers are those of the last exit, whether or not they were asked for before it.",
        user_code_runs_in_user_segments:
            "User code runs in the code and stack segments of ring 3, as guest and host see it.",
        the_guest_has_the_register_state_that_is_promised:
            "CPUID and XCR0 show the register state of the capabilities.",
        vcpus_of_different_machines_have_their_own_registers:
            "Machines that run in turn do not disturb each other's registers.",
        the_time_stamp_counter_goes_on_in_a_later_machine:
            "A guest that is moved to a machine that was made later finds that the time-stamp counter has not gone back.",
    }
    Fpu fpu "Floating-point and vector registers." {
        a_new_vcpu_has_clean_registers:
            "A new vCPU holds nothing of what others have left, and the initial control words.",
        registers_stay_over_exits: "Vector registers survive exits, whatever host and other guests do meanwhile.",
        state_can_be_taken_and_put_back: "State that was read and set again is what the guest finds.",
        state_reads_back_as_it_was_set: "State that was set is reported as set.",
        a_state_can_move_to_another_machine:
            "State can be set in a machine other than the one it was read from, before and after that has run.",
    }
    Resumption resumption "How a guest continues after an exit." {
        settling_finishes_the_out_and_nothing_else:
            "Settling takes the guest behind the `out` of its exit, and no instruction further.",
        settling_leaves_no_request_behind: "A run after settling runs.",
        a_settled_guest_goes_on_in_another_machine:
            "With the memory and registers of a settled guest, another machine continues as that guest would have.",
        an_out_is_over_when_the_guest_is_put_elsewhere:
            "After an exit by `out`, a guest that is put elsewhere continues there with the registers that were set.",
        an_abandoned_exit_touches_nothing:
            "After any exit was abandoned, the registers that are set are the guest's whole state.",
        an_abandoned_instruction_can_be_executed_again:
            "An instruction that has exited can be executed once more from its beginning.",
        a_vcpu_can_be_abandoned_before_it_has_run: "Abandoning does no harm to a vCPU that has not run.",
        exceptions_in_delivery_are_abandoned: "An exception that could not be delivered does not come later.",
    }
    Cancellation cancellation "Ending a run from outside, at every moment." {
        a_request_before_a_run_ends_it_until_it_is_cleared: "While a request stands, a run executes nothing.",
        a_cleared_request_ends_no_run: "After a request was cleared, the next run runs.",
        an_interrupter_outlives_its_vcpu: "An interrupter without its vCPU does nothing.",
        a_request_concerns_one_vcpu: "A request for one vCPU does not end the runs of another.",
        a_spinning_guest_is_ended_at_any_moment:
            "A request and a signal end a run at whatever moment they come: before, at the entry, or within.",
        a_guest_between_exits_is_ended_at_any_moment:
            "No run that begins after a request reaches the guest, and no exit is lost or seen twice because of it.",
        a_guest_that_touches_memory_is_ended_at_any_moment:
            "A request during the first access to memory loses no store.",
        signals_without_a_request_harm_nothing: "A guest continues after any number of signals.",
        a_signal_reaches_a_vcpu_on_whatever_thread_it_runs:
            "The signal goes to the thread that runs the vCPU, whichever that is.",
    }
    WriteTracking write_tracking "Which pages a guest has written." {
        a_written_page_shows_until_it_is_forgotten:
            "A page that was reported stays reported until it is forgotten; the next write shows again.",
        exactly_the_written_pages_show: "The pages that were written show, and no others.",
        forgetting_some_pages_keeps_the_others: "Pages can be forgotten one by one.",
        a_page_is_told_once_and_added_to_the_set:
            "Pages are added to the set that is passed in, and one that was reported is not reported again.",
        however_many_pages_are_written_each_is_told:
            "A guest that writes thousands of pages in one run loses none, and those not forgotten stay reported.",
        signals_while_pages_are_forgotten_lose_no_write:
            "What is written to a page after it was forgotten shows, whatever signals came while it was forgotten.",
        loads_from_fresh_memory_do_not_show: "Loads from memory that nobody has written leave no trace.",
        refused_writes_do_not_show: "A store that faults leaves no trace.",
        writes_of_the_host_do_not_show:
            "The host's own writes leave no trace, as long as the guest does not touch the page.",
        every_kind_of_write_shows:
            "Strings, pushes, calls, atomic and vector instructions show on every page that they touch.",
        the_stack_of_exceptions_shows: "What the processor writes for an exception shows.",
        discarding_and_revoking_forget_nothing:
            "Discarding or revoking memory neither forgets its pages nor stops tracking them.",
        each_slot_has_its_own_set: "Slots are tracked separately, and begin unwritten with each new region.",
        what_cannot_be_told_is_an_error:
            "An empty slot, one without tracking, and a set of the wrong size are told apart.",
    }
    Reuse reuse "Machines that continue after the worst, and in other places." {
        a_machine_works_after_a_triple_fault:
            "After a triple fault, abandoning and new registers make the machine as good as new.",
        a_machine_works_after_what_the_hypervisor_cannot_handle:
            "So they do after an exit that the hypervisor could not handle.",
        a_machine_works_after_registers_that_were_refused:
            "So do valid registers after invalid ones, which are refused.",
        a_slot_can_hold_other_memory: "A slot number can be used again, for memory of another size at another address.",
        a_vcpu_moves_between_threads: "A vCPU runs on whatever thread calls it.",
        machines_can_be_made_and_dropped_on_any_thread: "A machine works on a thread other than the one that made it.",
    }
    Limits limits "How much, how many, and what is refused." {
        sixty_four_slots_can_be_in_use: "A machine has room for 64 slots.",
        a_slot_can_be_gigabytes:
            "A slot of 4 GiB costs no memory until it is touched, and can be reached at both ends.",
        a_slot_holds_one_region_until_it_is_unmapped: "A slot in use and an empty one are told apart.",
        a_mapping_that_cannot_be_is_refused_without_a_trace:
            "Overlapping and misaligned mappings are refused and leave everything as it was.",
        many_machines_live_side_by_side: "Many machines can live at the same time.",
    }
    Costs costs "What a call costs." {
        a_warm_run_costs_one_call_into_the_kernel: "A run with new registers is one call into the kernel.",
        special_registers_that_are_asked_for_every_time_are_free:
            "Special registers that are read and set at every exit add none.",
        a_system_call_costs_one_run: "A system call costs one call into the kernel.",
        a_mended_page_fault_costs_one_run: "So does a page fault whose address is asked for.",
    }
}
