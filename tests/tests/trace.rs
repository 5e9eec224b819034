//! A trace has a line for each request of a guest, and for its end.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use ampoule::{Call, HostMemory, MapAccess, Pool, Sandbox, Trace};
use ampoule_tests::{calls_builder, calls_sandbox, calls_spawn, hostile_sandbox, memory_sandbox, shop_image};
use serde::{Deserialize, Serialize};

#[test]
fn each_request_has_a_line_with_its_arguments_its_result_and_the_time() {
    let (mut sandbox, lines) = traced();
    sandbox.call::<()>("open_file", ("/etc/shadow",)).unwrap_err();
    sandbox.call::<()>("write_by_system_call", ("to the host\n", 2u32)).unwrap();
    assert_eq!(
        lines.take(),
        [
            r#"openat(AT_FDCWD, "/etc/shadow", O_RDONLY|O_CLOEXEC) = -1 ENOENT"#,
            r#"write(1, "to the host\n", 12) = 12"#,
            r#"write(1, "to the host\n", 12) = 12"#,
        ]
    );
    sandbox.call::<u32>("count_on_host", (1u32,)).unwrap();
    sandbox.call::<String>("parse_or_reason", ("no number",)).unwrap();
    assert_eq!(
        lines.take(),
        ["host add(0, 1) = 1", r#"host parse("no number") = Err("invalid digit found in string")"#]
    );
    // What is printed is no request.
    sandbox.call::<()>("print", ("waits in the mailbox\n",)).unwrap();
    assert_eq!(lines.take(), [""; 0]);
}

#[test]
fn memory_of_the_hosts_has_lines_when_it_comes_and_goes_and_is_shown_like_the_guests_own() {
    let (mut sandbox, lines) = (memory_sandbox(), Lines::default());
    sandbox.set_trace(lines.trace());
    let memory = HostMemory::copy_of(b"of the host's").unwrap();
    let mapping = sandbox.map_memory(&memory, "text", MapAccess::Read).unwrap();
    let slice = vec![0; 2 << 20];
    let path = "/dev/ampoule/text";
    sandbox.call::<Result<u64, String>>("map_file", (path, 13_u64)).unwrap().unwrap();
    let write = (libc::SYS_write as u64, 1_u64, mapping.bytes(), 7_u64, 4_u64, 0_u64);
    sandbox.call::<i64>("mapped_call", write).unwrap();
    sandbox.call_lending::<u64, _, 1>([&slice], |[lent]| Call::new("mapped_sum", (lent,))).unwrap();
    sandbox.unmap(&mapping).unwrap();
    let lines = lines.take();
    let expected = [
        r#"--- `memory of the application` is mapped at 0x7ff000000000 and as "/dev/ampoule/text": 13 bytes, read-only ---"#,
        r#"openat(AT_FDCWD, "/dev/ampoule/text", O_RDONLY|O_CLOEXEC) = 3"#,
        r#"mmap(NULL, 13, PROT_READ, MAP_SHARED, 3, NULL) = 0x7ff000000000"#,
        r#"write(1, "host", 4) = 4"#,
    ];
    assert_eq!(lines[..4], expected);
    assert!(lines[4].starts_with("--- 2097152 bytes are lent at 0x7ff000"), "{}", lines[4]);
    assert_eq!(lines[5..], ["--- `memory of the application` is unmapped ---"]);
}

#[test]
fn values_of_host_calls_are_shown_by_their_types_and_cut_where_they_are_long() {
    let lines = Lines::default();
    let builder = Sandbox::builder(&shop_image())
        .trace(lines.trace())
        .host_fn("record", |sale: Sale| sale.price * sale.pieces)
        .host_fn("discount", |order: Order| Order { price: order.price / 2, ..order })
        .host_fn("stock", |item: String| if item == "lamp" { Ok(5u32) } else { Err(ShopError::SoldOut { left: 2 }) })
        .host_fn("stock.by_alias", |_: String| Err::<u32, _>(ShopError::SoldOut { left: 2 }));
    // One whose types are known only at run time, and whose arguments the guest only writes.
    let mut sandbox = builder.dynamic_host_fn("stock.or_text", |_| Err("closed".to_owned())).build().unwrap();
    lines.take();
    sandbox.call::<u64>("sell", ("lamp", 2u64, 30u64)).unwrap();
    sandbox.call::<u64>("discounted", (2u64, 30u64)).unwrap();
    assert_eq!(
        lines.take(),
        [
            r#"host record({item="lamp", pieces=2, price=30}) = 60"#,
            "host discount({quantity=2, price=30}) = {quantity=2, price=15}"
        ]
    );
    sandbox.call::<String>("stock_or_reason", ("lamp",)).unwrap();
    sandbox.call::<u32>("stock_or_left", ("x".repeat(100),)).unwrap();
    let text = format!("\"{}\"...", "x".repeat(64));
    assert_eq!(
        lines.take(),
        [
            r#"host stock.or_text("lamp") = Err("closed")"#.to_owned(),
            format!("host stock({text}) = Err(SoldOut {{left=2}})"),
            format!("host stock.by_alias({text}) = Err(SoldOut {{left=2}})")
        ]
    );
}

#[test]
fn page_faults_after_which_a_guest_goes_on_have_lines() {
    let lines = Lines::default();
    let mut hostile = hostile_sandbox();
    hostile.set_trace(lines.trace());
    hostile.call::<u64>("overflow_the_stack", (0u64,)).unwrap_err();
    let shown = lines.take();
    let grown = shown.iter().filter(|line| line.starts_with("page fault: write to 0x"));
    let starts = grown.map(|line| line.split_once(" = the stack begins at 0x").unwrap_or_else(|| panic!("{line}")).1);
    let starts: Vec<u64> = starts.map(|start| u64::from_str_radix(start, 16).unwrap()).collect();
    assert!(starts.len() > 3 && starts.windows(2).all(|pair| pair[0] > pair[1]), "{shown:?}");
    assert!(shown.last().unwrap().starts_with("--- stack overflow"), "{shown:?}");

    let mut sandbox = memory_sandbox();
    sandbox.set_trace(lines.trace());
    sandbox.call::<u64>("fill", (0x10_0000_0000u64, 4096u64, 1u8)).unwrap();
    let shown = lines.take();
    let written = shown.iter().filter(|line| line.starts_with("first writes to many pages = memory for "));
    assert!(written.count() >= 4, "{shown:?}");
}

#[test]
fn the_end_of_a_guest_is_the_last_line() {
    let (mut sandbox, lines) = traced();
    sandbox.call::<()>("exit", (3i32,)).unwrap_err();
    let ended = lines.take();
    assert_eq!(ended[ended.len() - 2], "exit_group(3) = ?");
    assert!(ended[ended.len() - 1].starts_with("--- ") && ended[ended.len() - 1].contains('3'), "{ended:?}");
    sandbox.reset().unwrap();

    sandbox.call::<()>("fault", ()).unwrap_err();
    let ended = lines.take();
    // The standard library looks at the fault first, and lets it happen again.
    let [.., left, last] = &ended[..] else { panic!("{ended:?}") };
    assert!(left.starts_with("rt_sigreturn(") && last.contains("null"), "{ended:?}");
    let raised = ended.iter().find(|line| line.starts_with("--- ")).unwrap();
    assert!(raised.contains("null pointer") && raised.ends_with(", for its handler ---"), "{raised}");

    let mut hostile = hostile_sandbox();
    hostile.set_trace(lines.trace());
    hostile.call::<bool>("privileged", ("hlt",)).unwrap_err();
    // It does without the handler that the standard library has.
    let [handler, last] = &lines.take()[..] else { panic!("two lines are expected") };
    assert!(handler.starts_with("rt_sigaction(SIGSEGV") && last.starts_with("--- "), "{handler}\n{last}");
}

#[test]
fn a_trace_is_switched_on_and_off_between_calls() {
    let (mut sandbox, lines) = (calls_sandbox(), Lines::default());
    let call = |sandbox: &mut Sandbox| sandbox.call::<()>("write_by_system_call", ("text", 1u32)).unwrap();
    call(&mut sandbox);
    sandbox.set_trace(lines.trace());
    call(&mut sandbox);
    sandbox.set_trace(Trace::off());
    call(&mut sandbox);
    assert_eq!(lines.take().len(), 1);
}

#[test]
fn a_trace_shows_the_start_of_a_guest_and_is_whole() {
    let lines = Lines::default();
    let mut sandbox = calls_builder().trace(lines.trace()).build().unwrap();
    let start = lines.take();
    assert!(start.iter().any(|line| line.starts_with("arch_prctl(ARCH_SET_FS, 0x")), "{start:?}");

    sandbox.call::<()>("write_by_system_call", ("x", 5000u32)).unwrap();
    assert_eq!(lines.take(), [r#"write(1, "x", 1) = 1"#; 5000]);
}

#[test]
fn sandboxes_that_share_a_trace_are_told_apart_by_their_names() {
    let lines = Lines::default();
    let trace = lines.trace().with_names();
    for name in ["one", "two"] {
        let mut sandbox = calls_builder().name(name).build().unwrap();
        sandbox.set_trace(trace.clone());
        sandbox.call::<()>("write_by_system_call", ("x", 1u32)).unwrap();
    }
    assert_eq!(
        lines.take(),
        [r#"[one write_by_system_call] write(1, "x", 1) = 1"#, r#"[two write_by_system_call] write(1, "x", 1) = 1"#]
    );
}

#[test]
fn a_trace_that_somebody_has_set_does_not_follow_a_sandbox_to_the_next_one() {
    let snapshot = calls_sandbox().snapshot().unwrap();
    let (of_pool, of_tenant) = (Lines::default(), Lines::default());
    let trace = of_pool.trace();
    let with_trace = move |spawn| calls_spawn(spawn).trace(trace.clone());
    let pool = Pool::builder(&snapshot).size(1).spawn_with(with_trace).build().unwrap();
    let call = |sandbox: &mut Sandbox| sandbox.call::<()>("write_by_system_call", ("text", 1u32)).unwrap();
    let mut tenant = pool.take().unwrap();
    tenant.set_trace(of_tenant.trace());
    call(&mut tenant);
    drop(tenant);
    call(&mut pool.take().unwrap());
    assert_eq!((of_tenant.take().len(), of_pool.take().len()), (1, 1));
}

#[test]
fn a_guest_does_not_notice_a_writer_that_fails() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut sandbox = calls_builder().trace(Trace::writer(Full)).build().unwrap();
    sandbox.call::<()>("write_by_system_call", ("text", 3u32)).unwrap();
}

#[test]
fn a_trace_costs_no_exit() {
    let (mut sandbox, lines) = traced();
    let mut exits = |trace: Trace| {
        sandbox.set_trace(trace);
        let before = sandbox.stats().unwrap();
        sandbox.call::<()>("write_by_system_call", ("text", 3u32)).unwrap();
        sandbox.stats().unwrap().exits - before.exits
    };
    assert_eq!([exits(Trace::off()), exits(lines.trace())], [4, 4]);
}

#[derive(Deserialize)]
struct Sale {
    #[expect(dead_code, reason = "nobody reads it")]
    item: String,
    pieces: u64,
    price: u64,
}

#[derive(Serialize, Deserialize)]
enum ShopError {
    SoldOut { left: u32 },
    Unknown(String),
    Closed,
}

#[derive(Serialize, Deserialize)]
struct Order {
    quantity: u64,
    price: u64,
}

/// A sandbox of the well-behaved guest that is traced from its first call on.
fn traced() -> (Sandbox, Lines) {
    let (mut sandbox, lines) = (calls_sandbox(), Lines::default());
    sandbox.set_trace(lines.trace());
    (sandbox, lines)
}

/// A trace in memory.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    fn trace(&self) -> Trace {
        Trace::writer(self.clone())
    }

    /// Takes the lines, without the times, of which each line of a request has one.
    fn take(&self) -> Vec<String> {
        let text = String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap();
        text.lines().map(without_time).collect()
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn without_time(line: &str) -> String {
    if line.starts_with("--- ") && line.ends_with(" ---") {
        return line.to_owned();
    }
    let (request, time) = line.rsplit_once(" <").unwrap_or_else(|| panic!("{line}"));
    let seconds = time.strip_suffix('>').and_then(|time| time.split_once('.')).unwrap_or_else(|| panic!("{line}"));
    assert!(seconds.0.parse::<u64>().is_ok() && seconds.1.len() == 6, "{line}");
    request.to_owned()
}
