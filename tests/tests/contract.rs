//! What operations cost, in counts: the table in `docs/specification.md`, row by row.
//!
//! Three sources must agree: the counters of the backend, a wrapper around the backend, and the kernel's own statistics,
//! where it has any.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ampoule::{
    Borrowed, Builder, Call, Clock, Executable, HostMemory, IdleProgram, Limits, MapAccess, Output, Pool, Program,
    Reader, Sandbox, Snapshot, SnapshotFile, Writer,
};
use ampoule_tests::{calls_builder, calls_spawn, memory_builder, streams_image};
use ampoule_vmm::count::{Counting, Method};
use ampoule_vmm::kvm::Kvm;
use ampoule_vmm::x86_64::capabilities::Paging;
use ampoule_vmm::{Counters, Hypervisor};
use tempfile::TempDir;

#[test]
fn every_operation_costs_what_the_specification_says() {
    let measured = measure_all();
    let specified = specification();
    for (operation, costs) in &measured {
        let row =
            specified.get(operation.as_str()).unwrap_or_else(|| panic!("docs/specification.md lacks `{operation}`"));
        for (index, column) in COLUMNS.iter().enumerate() {
            let found: BTreeSet<u64> = costs.iter().map(|cost| cost.columns()[index]).collect();
            let is_kept = if EITHER_WAY.contains(&operation.as_str()) {
                found.is_subset(&row[index])
            } else {
                row[index] == found
            };
            assert!(is_kept, "{operation}: {column}: {found:?}, and specified is {:?}", row[index]);
        }
    }
    for (operation, row) in &specified {
        let promises = row.iter().any(|cell| !cell.is_empty());
        assert_eq!(promises, measured.contains_key(*operation), "`{operation}` is promised but not measured");
    }
}

/// What each hypervisor does in one of two ways, so that a test on one of them sees only one.
const EITHER_WAY: [&str; 2] = [PLACES_CHANGE, READING];
const PLACES_CHANGE: &str = "call in which page tables change their places";
const READING: &str = "each reading of the clock within a call";

#[test]
fn a_warm_call_leaves_the_guest_once_by_the_kernels_count_too() {
    let mut bench = Bench::new();
    let empty = bench.sandbox.typed_fn::<(), ()>("empty").unwrap();
    let exits = |bench: &mut Bench| {
        let before = bench.hypervisor.statistics().unwrap();
        empty.call(&mut bench.sandbox, ()).unwrap();
        bench.hypervisor.statistics().unwrap().since(&before).exits
    };
    // Interrupts of the host add some exits now and then.
    let least = (0..50).map(|_| exits(&mut bench)).min().unwrap();
    assert!(least.is_none_or(|exits| exits == 1), "{least:?}");
}

#[test]
fn a_restore_calls_the_kernel_only_to_forget_pages_and_seldom() {
    const RESTORES: u64 = 64;
    for (pages, least, most) in [(8u32, 0, 0), (300, 1, RESTORES / 8)] {
        let mut bench = Bench::new();
        bench.sandbox.call::<()>("prepare_pages", (pages, 0u8)).unwrap();
        let snapshot = bench.sandbox.snapshot().unwrap();
        bench.sandbox.call::<u64>("write_pages", (pages, 1u8)).unwrap();
        let cost = bench.measure(|sandbox| {
            for _ in 0..RESTORES {
                sandbox.restore(&snapshot).unwrap();
            }
        });
        assert_eq!((cost.exits, cost.empty_runs, cost.vcpu), (0, 0, 0));
        assert!((least..=most).contains(&cost.vm), "{pages} pages: {cost:?}");
    }
}

#[test]
fn a_restore_writes_back_the_written_pages_and_no_others() {
    let mut bench = Bench::new();
    bench.sandbox.call::<()>("prepare_pages", (64u32, 0u8)).unwrap();
    let snapshot = bench.sandbox.snapshot().unwrap();
    let mut restored = |pages: u32| {
        bench.sandbox.call::<u64>("write_pages", (pages, 1u8)).unwrap();
        let before = bench.sandbox.stats().unwrap().pages_restored;
        bench.sandbox.restore(&snapshot).unwrap();
        bench.sandbox.stats().unwrap().pages_restored - before
    };
    let [few, many] = [restored(4), restored(64)];
    assert_eq!(many - few, 60);
    assert!(few < 24, "the guest's stack, its state and the mailbox, and 4 pages: {few}");
}

#[test]
fn a_spawned_sandbox_owns_what_it_has_written() {
    let mut bench = Bench::new();
    let snapshot = bench.sandbox.snapshot().unwrap();
    let mut spawned = bench.spawn(&snapshot).0;
    let mut most = table(["own guest memory, at most"]);
    let mut check = |sandbox: &mut Sandbox, state: &str| {
        let [most] = most.remove(state).unwrap_or_else(|| panic!("docs/specification.md lacks `{state}`"));
        let owned = sandbox.stats().unwrap().owned_bytes;
        assert!(owned <= most.parse::<u64>().unwrap() << 10, "{state}: {owned} bytes");
    };
    check(&mut spawned, "spawned");
    spawned.call::<()>("empty", ()).unwrap();
    check(&mut spawned, "spawned, after its first call");
    spawned.restore(&snapshot).unwrap();
    check(&mut spawned, "spawned, after its first call and a restore");
    assert!(most.is_empty(), "promised but not measured: {most:?}");
}

#[test]
fn a_restore_writes_back_no_more_pages_than_the_specification_says() {
    let mut most = table(["pages that a restore writes back, at most"]);
    let mut check = |what: &str, call: &dyn Fn(&mut Sandbox)| {
        let [most] = most.remove(what).unwrap_or_else(|| panic!("docs/specification.md lacks `{what}`"));
        let mut sandbox = memory_builder().build().unwrap();
        for _ in 0..3 {
            call(&mut sandbox);
            let before = sandbox.stats().unwrap().pages_restored;
            sandbox.reset().unwrap();
            let restored = sandbox.stats().unwrap().pages_restored - before;
            assert!(restored <= most.parse().unwrap(), "{what}: {restored} pages");
        }
    };
    check("call of a function that does nothing", &|sandbox| sandbox.call::<()>("empty", ()).unwrap());
    check("call that maps 32 MiB and unmaps it, untouched", &|sandbox| {
        sandbox.call::<()>("map_and_unmap", (32_u64 << 20,)).unwrap();
    });
    check("call that maps 32 MiB and leaves it untouched", &|sandbox| {
        sandbox.call::<()>("map", (FAR, 32_u64 << 8, READ_WRITE)).unwrap();
    });
    check("call that maps 32 MiB, writes 10 pages of it and unmaps it", &|sandbox| {
        sandbox.call::<()>("map", (FAR, 32_u64 << 8, READ_WRITE)).unwrap();
        (0..10).for_each(|page| sandbox.call::<()>("probe_write", (FAR + page * (3 << 20), 1_u8)).unwrap());
        sandbox.call::<()>("unmap", (FAR, 32_u64 << 8)).unwrap();
    });
    assert!(most.is_empty(), "promised but not measured: {most:?}");
}

#[test]
fn the_backends_and_the_wrappers_counts_include_the_start() {
    let mut bench = Bench::new();
    let (backend, wrapper) = (counters(&mut bench.sandbox), bench.hypervisor.counts());
    assert_eq!(backend.runs, wrapper.of_any([Method::Run, Method::Settle, Method::Abandon]));
    assert!(wrapper.of(Method::Run) > 1, "a guest makes system calls before it is ready");
    assert_eq!(wrapper.of(Method::CreateVcpu), 1);
    assert!(backend.ioctls >= 3);
}

/// All operations of the table with what they cost, in every situation that makes a difference.
fn measure_all() -> BTreeMap<String, Vec<Cost>> {
    let mut measured = BTreeMap::new();
    let mut rows = |rows: Vec<(&str, Cost)>| {
        for (operation, cost) in rows {
            measured.entry(operation.to_owned()).or_insert_with(Vec::new).push(cost);
        }
    };
    rows(calls());
    rows(within_calls());
    rows(restores());
    rows(snapshots());
    rows(snapshot_files());
    rows(pools());
    rows(programs());
    rows(mappings());
    rows(host_memory());
    rows(streams());
    rows(clocks());
    measured
}

fn calls() -> Vec<(&'static str, Cost)> {
    let mut bench = Bench::new();
    let empty = bench.sandbox.typed_fn::<(), ()>("empty").unwrap();
    let sum = bench.sandbox.typed_fn::<(Borrowed<[u8]>,), u64>("sum_of_bytes").unwrap();
    let echo = bench.sandbox.typed_fn::<(Borrowed<[u8]>,), Vec<u8>>("echo_bytes").unwrap();
    let deadline = Limits::new().deadline(Duration::from_secs(3600));
    let large = vec![7; 1 << 20];
    for _ in 0..4 {
        echo.call(&mut bench.sandbox, (&large,)).unwrap();
    }
    let mut rows = vec![
        ("call, by a typed function", bench.measure(|sandbox| empty.call(sandbox, ()).unwrap())),
        ("call, by name", bench.measure(|sandbox| sandbox.call::<()>("empty", ()).unwrap())),
        ("call with a deadline", bench.measure(|sandbox| empty.call_with(sandbox, (), deadline).unwrap())),
        (
            "call with a deadline",
            bench.measure(|sandbox| sandbox.call_with::<(), _>(Call::new("empty", ()).limits(deadline)).unwrap()),
        ),
        (
            "call with 1 MiB of arguments",
            bench.measure(|sandbox| assert_eq!(sum.call(sandbox, (&large,)).unwrap(), 7 << 20)),
        ),
        (
            "call with 1 MiB of arguments and of result",
            bench.measure(|sandbox| assert!(echo.call(sandbox, (&large,)).unwrap() == large)),
        ),
        (
            "call whose function returns an error",
            bench.measure(|sandbox| drop(sandbox.call::<u32>("divide", (1u32, 0u32)).unwrap_err())),
        ),
    ];
    let refused = "call that is refused for its name or its types";
    rows.push((refused, bench.measure(|sandbox| drop(sandbox.call::<()>("no such function", ()).unwrap_err()))));
    rows.push((refused, bench.measure(|sandbox| drop(sandbox.call::<u32>("empty", (1u8,)).unwrap_err()))));
    rows
}

fn within_calls() -> Vec<(&'static str, Cost)> {
    let mut bench = Bench::new();
    // Makes the buffers of the guest's standard streams.
    for function in ["print", "print_error", "print_by_printf"] {
        bench.sandbox.call::<()>(function, ("warm\n",)).unwrap();
    }
    let mut host_calls = |times: u32| bench.measure(|sandbox| sandbox.call::<()>("notify_host", (times,)).unwrap());
    let host_call = host_calls(11).less(host_calls(1)).divided_by(10);
    let mut writes =
        |times: u32| bench.measure(|sandbox| sandbox.call::<()>("write_by_system_call", ("text\n", times)).unwrap());
    let write = writes(11).less(writes(1)).divided_by(10);
    let mut rows = vec![
        ("each host call within a call", host_call),
        ("each system call within a call", write),
        ("each `write` system call that the guest makes itself", write),
    ];
    for output in [Output::discard, Output::log, || Output::capture(usize::MAX).0] {
        bench.sandbox.set_stdout(output());
        bench.sandbox.set_stderr(output());
        rows.extend(prints(&mut bench));
    }
    bench.sandbox.profile_memory();
    let mut allocates = || bench.measure(|sandbox| sandbox.call::<()>("allocate_and_free", (10u32,)).unwrap());
    // The guest's stack may grow.
    allocates();
    rows.push(("call that allocates 10 blocks, with the guest's memory profiled", allocates()));
    rows
}

fn prints(bench: &mut Bench) -> Vec<(&'static str, Cost)> {
    let mut prints = |function, text: &str| bench.measure(|sandbox| sandbox.call::<()>(function, (text,)).unwrap());
    let (line, error) = ("call that prints to standard output", "call that prints to standard error");
    let at_once = "call that prints one text of more than 16,380 bytes";
    let mut rows: Vec<_> =
        ["a part", " of a line\n", "three\nlines at\nonce\n"].map(|text| (line, prints("print", text))).into();
    rows.extend(["a line\n", "a part"].map(|text| (error, prints("print_error", text))));
    rows.push((error, prints("print_error", &"x".repeat(16_380))));
    rows.push(("call that prints with C's `printf`", prints("print_by_printf", "two\nlines\n")));
    for length in [16_381, 65_536] {
        rows.push((at_once, prints("print_error", &"x".repeat(length))));
    }
    let lines = bench.measure(|sandbox| sandbox.call::<()>("print_lines", (100u32,)).unwrap());
    rows.push(("call that prints 100 lines to each of both", lines));
    rows
}

fn restores() -> Vec<(&'static str, Cost)> {
    let at_rest = "restore or reset";
    let ended = "restore or reset, after a fault";
    let aborted = "restore or reset, after an abort or an exit";
    let fault = "call that ends in a page fault";
    let mut bench = Bench::new();
    let snapshot = bench.sandbox.snapshot().unwrap();
    let mut rows = Vec::new();
    for _ in 0..2 {
        rows.push((at_rest, bench.measure(|sandbox| sandbox.restore(&snapshot).unwrap())));
        rows.push((at_rest, bench.measure(|sandbox| sandbox.reset().unwrap())));
        bench.sandbox.call::<u32>("increment", ()).unwrap();
        rows.push((at_rest, bench.measure(|sandbox| sandbox.restore(&snapshot).unwrap())));
        bench.sandbox.call::<()>("notify_host", (15u32,)).unwrap();
        rows.push((at_rest, bench.measure(|sandbox| sandbox.reset().unwrap())));
        bench.sandbox.call::<()>("notify_host", (16u32,)).unwrap();
        rows.push((at_rest, bench.measure(|sandbox| sandbox.restore(&snapshot).unwrap())));
        for exits_before in [0u32, 20] {
            bench.sandbox.call::<()>("notify_host", (exits_before,)).unwrap();
            rows.push((fault, bench.measure(|sandbox| drop(sandbox.call::<()>("fault", ()).unwrap_err()))));
            rows.push((ended, bench.measure(|sandbox| sandbox.restore(&snapshot).unwrap())));
        }
        bench.sandbox.call::<()>("notify_host", (20u32,)).unwrap();
        bench.sandbox.call::<()>("abort", ()).unwrap_err();
        rows.push((aborted, bench.measure(|sandbox| sandbox.reset().unwrap())));
    }
    rows
}

fn snapshots() -> Vec<(&'static str, Cost)> {
    let called = "snapshot, after a call";
    let restored = "snapshot, after a restore";
    let mut bench = Bench::new();
    let mut rows = Vec::new();
    bench.sandbox.call::<()>("notify_host", (20u32,)).unwrap();
    rows.push((called, bench.measure(|sandbox| drop(sandbox.snapshot().unwrap()))));
    let mut snapshot = None;
    rows.push((called, bench.measure(|sandbox| snapshot = Some(sandbox.snapshot().unwrap()))));
    let snapshot = snapshot.expect("it was just taken");
    bench.sandbox.restore(&snapshot).unwrap();
    rows.push((restored, bench.measure(|sandbox| drop(sandbox.snapshot().unwrap()))));

    let (spawned, cost) = bench.spawn(&snapshot);
    rows.push(("spawn", cost));
    bench.sandbox = spawned;
    rows.push((
        "first call of a spawned sandbox",
        bench.measure(|sandbox| assert_eq!(sandbox.call::<u32>("increment", ()).unwrap(), 101)),
    ));
    rows.push(("statistics", bench.measure(|sandbox| assert_eq!(sandbox.stats().unwrap().restores, 0))));
    rows
}

fn snapshot_files() -> Vec<(&'static str, Cost)> {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("calls.snap");
    let mut bench = Bench::new();
    let snapshot = bench.sandbox.snapshot().unwrap();
    let mut rows = Vec::new();
    rows.push(("save a snapshot to a file", bench.measure(|_| _ = snapshot.save(&path).unwrap())));
    drop(snapshot);
    let hypervisor = bench.hypervisor.clone();
    let file = || SnapshotFile::new(&path).hypervisor(hypervisor.clone());
    for file in [file(), file().mapped()] {
        let before = Sample::new(&bench.hypervisor, Counters::default());
        let loaded = file.snapshot().unwrap();
        let after = Sample::new(&bench.hypervisor, Counters::default());
        rows.push(("load a snapshot from a file", after.cost_since(&before, bench.kernel_counts_ports)));
        let (spawned, cost) = bench.spawn(&loaded);
        rows.push(("spawn from a loaded snapshot", cost));
        bench.sandbox = spawned;
        rows.push((
            "first call of a spawned sandbox",
            bench.measure(|sandbox| assert_eq!(sandbox.call::<u32>("increment", ()).unwrap(), 101)),
        ));
        rows.push(("restore or reset", bench.measure(|sandbox| sandbox.reset().unwrap())));
    }
    rows
}

fn pools() -> Vec<(&'static str, Cost)> {
    let mut bench = Bench::new();
    let snapshot = bench.sandbox.snapshot().unwrap();
    let pool = Pool::builder(&snapshot).size(1).spawn_with(calls_spawn).build().unwrap();
    let mut rows = Vec::new();
    for _ in 0..3 {
        let mut taken = pool.take().unwrap();
        assert_eq!(taken.call::<u32>("increment", ()).unwrap(), 101);
        let before = Sample::new(&bench.hypervisor, counters(&mut taken));
        drop(taken);
        let between = Sample::new(&bench.hypervisor, Counters::default());
        let returned = counters(&mut pool.take().unwrap());
        let after = Sample { backend: returned, ..between };
        rows.push(("return to a pool", after.cost_since(&before, bench.kernel_counts_ports)));

        let before = Sample::new(&bench.hypervisor, returned);
        let mut taken = pool.take().unwrap();
        let after = Sample::new(&bench.hypervisor, counters(&mut taken));
        rows.push(("take from a pool", after.cost_since(&before, bench.kernel_counts_ports)));
    }
    rows
}

fn programs() -> Vec<(&'static str, Cost)> {
    let executable = Executable::from_bytes(include_bytes!(env!("PREPARED")).as_slice()).unwrap();
    let hypervisor = Arc::new(Counting::new(Kvm::shared().expect("these tests need KVM")));
    let program = Program::of(&executable).arg("read").hypervisor(hypervisor.clone());
    let mut idle = program.start().unwrap().run_until_input().unwrap();
    let kernel_counts_ports = hypervisor.statistics().unwrap().io_exits.is_some_and(|exits| exits > 0);
    let counters = |idle: &mut IdleProgram| {
        let stats = idle.stats().expect("the hypervisor reports the written pages");
        Counters { runs: stats.exits, ioctls: stats.ioctls }
    };
    let measure = |idle: &mut IdleProgram, operation: &mut dyn FnMut(&mut IdleProgram)| {
        let before = Sample::new(&hypervisor, counters(idle));
        operation(idle);
        Sample::new(&hypervisor, counters(idle)).cost_since(&before, kernel_counts_ports)
    };
    let answer = |idle: &mut IdleProgram| {
        let output = idle.input("add 5\n").run().unwrap();
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), b"5\n".as_slice()));
    };
    let mut rows = Vec::new();
    for _ in 0..3 {
        rows.push(("request to a waiting program, until it has exited", measure(&mut idle, &mut |idle| answer(idle))));
        let reset = measure(&mut idle, &mut |idle| idle.reset().unwrap());
        rows.push(("restore or reset, after an abort or an exit", reset));
    }
    let snapshot = idle.snapshot().unwrap();
    let before = Sample::new(&hypervisor, Counters::default());
    let mut spawned = snapshot.spawn().unwrap();
    let after = Sample::new(&hypervisor, counters(&mut spawned));
    rows.push(("spawn", after.cost_since(&before, kernel_counts_ports)));
    rows.push(("request to a waiting program, until it has exited", measure(&mut spawned, &mut |idle| answer(idle))));
    rows
}

fn mappings() -> Vec<(&'static str, Cost)> {
    let mut bench = Bench::of(memory_builder());
    let mut often = |times: u64| bench.measure(|sandbox| sandbox.call::<()>("map_two_pages_often", (times,)).unwrap());
    let mut rows =
        vec![("each `mmap` and `munmap` of the same memory within a call", often(11).less(often(1)).divided_by(10))];
    // Each place takes a page table of its own, and gives it back.
    let flushes = |bench: &Bench| bench.hypervisor.counts().of(Method::FlushTranslations);
    for at in (0..).map(|place| FAR + place * (2 << 20)) {
        let before = flushes(&bench);
        let cost = bench.measure(|sandbox| sandbox.call::<()>("map", (at, 1_u64, READ_WRITE)).unwrap());
        if flushes(&bench) > before {
            rows.push((PLACES_CHANGE, cost));
            return rows;
        }
        bench.sandbox.call::<()>("unmap", (at, 1_u64)).unwrap();
        assert!(at < FAR + (1 << 40), "page tables never change their places");
    }
    rows
}

fn host_memory() -> Vec<(&'static str, Cost)> {
    let mut bench = Bench::of(memory_builder());
    let memory = HostMemory::new(4 << 20).unwrap();
    let mut rows = Vec::new();
    for access in [MapAccess::Read, MapAccess::ReadExecute, MapAccess::CopyOnWrite] {
        let mut mapped = None;
        let map = |sandbox: &mut Sandbox| mapped = Some(sandbox.map_memory(&memory, None, access).unwrap());
        rows.push(("map a file or memory of the host's", bench.measure(map)));
        let mapped = mapped.expect("it was mapped");
        let sum = |sandbox: &mut Sandbox| _ = sandbox.call::<u64>("mapped_sum", (mapped.bytes(),)).unwrap();
        rows.push(("call that reads 4 MiB of mapped memory", bench.measure(sum)));
        rows.push(("call that reads 4 MiB of mapped memory", bench.measure(sum)));
        let snapshot = bench.sandbox.snapshot().unwrap();
        let restored = "restore or reset, with memory of the host's that is mapped";
        rows.push((restored, bench.measure(|sandbox| sandbox.restore(&snapshot).unwrap())));
        sum(&mut bench.sandbox);
        rows.push((restored, bench.measure(|sandbox| sandbox.restore(&snapshot).unwrap())));
        rows.push(("unmap it", bench.measure(|sandbox| sandbox.unmap(&mapped).unwrap())));
    }
    // Some pages of the sandbox's are attached for what begins or ends within a page.
    lend(&mut bench.sandbox, &memory[1..3 << 20]);
    let small = bench.measure(|sandbox| lend(sandbox, &memory[1..1000]));
    rows.push(("call that is lent a slice of at most half of the mailbox", small));
    for slice in [&memory[..2 << 20], &memory[1..3 << 20]] {
        rows.push(("call that is lent a larger slice", bench.measure(|sandbox| lend(sandbox, slice))));
    }
    rows
}

fn lend(sandbox: &mut Sandbox, slice: &[u8]) {
    let sum: u64 = sandbox.call_lending([slice], |[lent]| Call::new("mapped_sum", (lent,))).unwrap();
    assert_eq!(sum, 0);
}

fn streams() -> Vec<(&'static str, Cost)> {
    let mut bench = Bench::of(Sandbox::builder(&streams_image()).host_fn("note", |_: String| ()));
    let mut reads = |pieces: u64| {
        let read = |sandbox: &mut Sandbox| {
            let bytes = io::repeat(1).take(pieces << 16);
            _ = sandbox.call::<(u64, u64)>("digest", (Reader::new(bytes), 1_u32 << 16)).unwrap();
        };
        read(&mut bench.sandbox);
        bench.measure(read)
    };
    let read = reads(6).less(reads(1)).divided_by(5);
    let mut writes = |pieces: u64| {
        let write = |sandbox: &mut Sandbox| {
            let arguments = (pieces << 16, 1_u32 << 16, Writer::new(io::sink()));
            _ = sandbox.call::<u64>("produce", arguments).unwrap();
        };
        write(&mut bench.sandbox);
        bench.measure(write)
    };
    let write = writes(6).less(writes(1)).divided_by(5);
    let unused = bench.measure(|sandbox| {
        sandbox.call::<()>("ignore", (Reader::new(io::empty()), Writer::new(io::sink()))).unwrap();
    });
    vec![
        ("each piece of a stream that a guest reads within a call", read),
        ("each piece of a stream that a guest writes within a call", write),
        ("call with streams that the guest does not use", unused),
    ]
}

fn clocks() -> Vec<(&'static str, Cost)> {
    let mut rows = Vec::new();
    let standing = "each reading of a clock that is frozen or virtual";
    let day = SystemTime::UNIX_EPOCH + Duration::from_secs(86_400);
    for (operation, clock) in [
        (READING, Clock::Real),
        (standing, Clock::Frozen(day)),
        (standing, Clock::Virtual(day)),
        (standing, Clock::FrozenInCalls),
    ] {
        let mut bench = Bench::of(calls_builder().clock(clock));
        let mut read = |bench: &mut Bench| {
            let mut often =
                |times: u32| bench.measure(|sandbox| _ = sandbox.call::<(u32, u64)>("read_clock", (times,)).unwrap());
            rows.push((operation, often(11).less(often(1)).divided_by(10)));
        };
        read(&mut bench);
        let snapshot = bench.sandbox.snapshot().unwrap();
        bench.sandbox.restore(&snapshot).unwrap();
        read(&mut bench);
        bench.sandbox = bench.spawn(&snapshot).0;
        read(&mut bench);
    }
    rows
}

/// Far from everything else that is mapped.
const FAR: u64 = 0x10_0000_0000;

/// For `mmap`.
const READ_WRITE: i32 = 3;

/// The columns of the table, in order.
const COLUMNS: [&str; 4] = ["exits", "runs without the guest", "vCPU ioctls", "VM ioctls"];

#[derive(Clone, Copy, Debug)]
struct Cost {
    exits: u64,
    empty_runs: u64,
    vcpu: u64,
    vm: u64,
}

impl Cost {
    fn columns(self) -> [u64; 4] {
        [self.exits, self.empty_runs, self.vcpu, self.vm]
    }

    fn less(self, other: Cost) -> Cost {
        Cost {
            exits: self.exits - other.exits,
            empty_runs: self.empty_runs - other.empty_runs,
            vcpu: self.vcpu - other.vcpu,
            vm: self.vm - other.vm,
        }
    }

    fn divided_by(self, times: u64) -> Cost {
        let columns = self.columns().map(|count| {
            assert_eq!(count % times, 0, "{self:?} is not {times} times the same");
            count / times
        });
        let [exits, empty_runs, vcpu, vm] = columns;
        Cost { exits, empty_runs, vcpu, vm }
    }
}

/// A sandbox whose costs are counted.
struct Bench {
    hypervisor: Arc<Counting<Arc<Kvm>>>,
    sandbox: Sandbox,
    /// Whether the kernel's statistics report accesses to I/O ports.
    kernel_counts_ports: bool,
}

impl Bench {
    fn new() -> Bench {
        Bench::of(calls_builder().mailbox_size(2 << 20))
    }

    fn of(builder: Builder) -> Bench {
        let kvm = Kvm::shared().expect("these tests need KVM");
        let hypervisor = Arc::new(Counting::new(kvm));
        let sandbox = builder.hypervisor(hypervisor.clone()).build().expect("these tests need KVM");
        let kernel_counts_ports = hypervisor.statistics().unwrap().io_exits.is_some_and(|exits| exits > 0);
        Bench { hypervisor, sandbox, kernel_counts_ports }
    }

    /// What an operation of the sandbox costs.
    #[track_caller]
    fn measure(&mut self, operation: impl FnOnce(&mut Sandbox)) -> Cost {
        let before = Sample::new(&self.hypervisor, counters(&mut self.sandbox));
        operation(&mut self.sandbox);
        let after = Sample::new(&self.hypervisor, counters(&mut self.sandbox));
        after.cost_since(&before, self.kernel_counts_ports)
    }

    fn spawn(&self, snapshot: &Snapshot) -> (Sandbox, Cost) {
        let before = Sample::new(&self.hypervisor, Counters::default());
        let mut spawned = calls_spawn(snapshot.builder()).build().unwrap();
        let after = Sample::new(&self.hypervisor, counters(&mut spawned));
        (spawned, after.cost_since(&before, self.kernel_counts_ports))
    }
}

/// The counters of the backend, as a sandbox reports them.
fn counters(sandbox: &mut Sandbox) -> Counters {
    let stats = sandbox.stats().expect("the hypervisor reports the written pages");
    Counters { runs: stats.exits, ioctls: stats.ioctls }
}

/// All three sources at one moment.
struct Sample {
    backend: Counters,
    wrapper: ampoule_vmm::count::Counts,
    kernel: ampoule_vmm::Statistics,
    /// VM ioctls for each flush.
    flush: u64,
}

impl Sample {
    fn new(hypervisor: &Counting<Arc<Kvm>>, backend: Counters) -> Sample {
        let kernel = hypervisor.statistics().expect("the kernel has no statistics or reports them");
        // A flush takes a memory slot away and gives it back, or takes no call that concerns the virtual machine.
        let flush = if hypervisor.capabilities().paging == Paging::Shadowed { 2 } else { 0 };
        Sample { backend, wrapper: hypervisor.counts(), kernel, flush }
    }

    #[track_caller]
    fn cost_since(&self, before: &Sample, kernel_counts_ports: bool) -> Cost {
        let wrapper = self.wrapper.since(&before.wrapper);
        let kernel = self.kernel.since(&before.kernel);
        let cost = Cost {
            exits: wrapper.of(Method::Run),
            empty_runs: wrapper.of_any([Method::Settle, Method::Abandon]),
            vcpu: self.backend.ioctls - before.backend.ioctls,
            // The creation of a virtual machine is two.
            vm: 2 * wrapper.of(Method::CreateVm)
                + wrapper.of_any([Method::Map, Method::Unmap, Method::ForgetWritten])
                + self.flush * wrapper.of(Method::FlushTranslations),
        };
        assert_eq!(self.backend.runs - before.backend.runs, cost.exits + cost.empty_runs, "{wrapper:?}");

        let certain = wrapper.of_any([Method::Fpu, Method::SetFpu, Method::Abandon]);
        let created = wrapper.of(Method::CreateVcpu);
        let possible = certain + 4 * created + wrapper.of(Method::SpecialRegs);
        assert!((certain + 3 * created..=possible).contains(&cost.vcpu), "{} ioctls: {wrapper:?}", cost.vcpu);

        // All exits of these tests are by `out`.
        if kernel_counts_ports {
            assert_eq!(kernel.io_exits, Some(cost.exits), "{kernel:?}");
        }
        let bounded = |exits: u64| if cost.exits == 0 { exits == 0 } else { exits >= cost.exits };
        assert!(kernel.exits.is_none_or(bounded), "{} exits: {kernel:?}", cost.exits);
        assert!([kernel.mmio_exits, kernel.signal_exits].iter().all(|exits| exits.unwrap_or(0) == 0), "{kernel:?}");
        cost
    }
}

type Row = [BTreeSet<u64>; COLUMNS.len()];

/// The table of counts. A cell without a promise is empty.
fn specification() -> BTreeMap<&'static str, Row> {
    let rows = table(COLUMNS).into_iter();
    rows.map(|(operation, cells)| (operation, cells.map(|cell| alternatives(cell, operation)))).collect()
}

/// The table with these columns behind its first, by the first cell of each row.
fn table<const N: usize>(columns: [&str; N]) -> BTreeMap<&'static str, [&'static str; N]> {
    let cells = |line: &'static str| -> Option<(&'static str, [&'static str; N])> {
        let (first, rest) = line.strip_prefix("| ")?.strip_suffix(" |")?.split_once(" | ")?;
        Some((first, rest.split(" | ").collect::<Vec<_>>().try_into().ok()?))
    };
    let mut lines = SPECIFICATION.lines().skip_while(|line| cells(line).is_none_or(|(_, rest)| rest != columns));
    assert!(lines.next().is_some(), "docs/specification.md has a table with the columns {columns:?}");
    let mut rows = BTreeMap::new();
    // After the header, the line that ends it.
    for (first, rest) in lines.skip(1).take_while(|line| line.starts_with('|')).map(|line| cells(line).expect(line)) {
        assert!(rows.insert(first, rest).is_none(), "`{first}` is there twice");
    }
    rows
}

fn alternatives(cell: &str, operation: &str) -> BTreeSet<u64> {
    if cell == NO_PROMISE {
        return BTreeSet::new();
    }
    let number = |text: &str| text.parse().unwrap_or_else(|_| panic!("{operation}: `{text}` is no number"));
    cell.split(" or ").map(number).collect()
}

const NO_PROMISE: &str = "–";

const SPECIFICATION: &str = include_str!("../../docs/specification.md");
