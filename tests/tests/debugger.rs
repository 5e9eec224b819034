//! A debugger at a live guest: gdb itself, as its users run it.
//!
//! These tests need gdb. What they say of the protocol alone is in `debugger_protocol.rs`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use ampoule::{
    Call, CallError, DebuggerAddress, ExceededLimit, Fault, FaultKind, GdbServer, Image, Limits, ListenError, Output,
    Program, ProgramStatus, Sandbox, Termination,
};

fn images() -> [Image; 2] {
    [
        Image::embedded(ampoule::include_guest!("debugger-fixed")).unwrap(),
        Image::embedded(ampoule::include_guest!("debugger-pie")).unwrap(),
    ]
}

fn image() -> Image {
    let [_, image] = images();
    image
}

/// A path for a socket that no other test uses.
fn socket() -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("ampoule-gdb-{}-{number}.sock", std::process::id()))
}

/// The file that [`reach`] makes.
fn reached(socket: &Path) -> PathBuf {
    socket.with_extension("reached")
}

/// The command by which gdb says that it has come so far. What it prints it may hold back.
fn reach(socket: &Path) -> String {
    format!("shell touch {}", reached(socket).display())
}

/// gdb, executing commands at the guest behind a socket.
struct Gdb {
    child: Child,
}

impl Gdb {
    fn start(socket: &Path, commands: &[&str]) -> Self {
        let attach = format!("target remote {}", socket.display());
        let mut gdb = Command::new("gdb");
        // What gdb prints is compared, and colours and pagination have no place in it.
        gdb.args(["-nx", "-batch", "-ex", "set style enabled off", "-ex", "set width 0", "-ex", &attach]);
        for command in commands {
            gdb.args(["-ex", command]);
        }
        let child = gdb.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        Self { child: child.expect("these tests need gdb: install the package `gdb`") }
    }

    /// Waits until it executes the command to [reach](reach) this point.
    fn wait(&mut self, socket: &Path) {
        let reached = reached(socket);
        while !reached.exists() {
            assert!(self.child.try_wait().unwrap().is_none(), "gdb has ended too early");
            thread::sleep(Duration::from_millis(5));
        }
        fs::remove_file(reached).unwrap();
    }

    /// What a user does who presses ^C.
    fn interrupt(&self) {
        // SAFETY: the child has not been waited for, so the number is its own.
        unsafe { libc::kill(self.child.id() as i32, libc::SIGINT) };
    }

    /// Waits until it has ended: all that it has printed, errors last.
    fn finish(self) -> String {
        let output = self.child.wait_with_output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    }
}

/// Does something with a new sandbox of an image while gdb executes commands at its guest. Returns what that gave, and what
/// gdb has printed until the sandbox was gone.
fn debug<R>(image: &Image, commands: &[&str], act: impl FnOnce(&mut Sandbox) -> R) -> (R, String) {
    let socket = socket();
    let server = GdbServer::listen(&DebuggerAddress::Unix(socket.clone())).unwrap();
    let gdb = Gdb::start(&socket, commands);
    let mut sandbox = Sandbox::builder(image).stdout(Output::discard()).gdb(server).build().unwrap();
    let result = act(&mut sandbox);
    drop(sandbox);
    (result, gdb.finish())
}

/// Calls a function of the guest while gdb executes commands at it.
fn debug_call(function: &str, argument: u64, commands: &[&str]) -> (Result<u64, CallError>, String) {
    debug(&image(), commands, |sandbox| sandbox.call(function, (argument,)))
}

/// Where this stands in the guest's source, as gdb names the place.
fn line(text: &str) -> String {
    let source = include_str!("../guests/debugger/guest.c");
    let index = source.lines().position(|line| line.contains(text));
    format!("guest.c:{}", index.unwrap_or_else(|| panic!("`{text}` is missing")) + 1)
}

#[track_caller]
fn assert_in_order(printed: &str, expected: &[&str]) {
    let mut rest = printed;
    for text in expected {
        let Some((_, behind)) = rest.split_once(text) else { panic!("`{text}` is missing in:\n{printed}") };
        rest = behind;
    }
}

fn fault(result: Result<u64, CallError>) -> Fault {
    match result {
        Err(CallError::Terminated { cause: Termination::Fault(fault), .. }) => fault,
        other => panic!("{other:?}"),
    }
}

#[test]
fn breakpoints_by_name_and_by_line_stop_with_a_backtrace_of_source_lines() {
    for image in images() {
        let [first, inner, calling] = ["sum = 0;", "sum += number;", "add(number);"].map(line);
        let set = format!("break {inner}");
        let commands = ["hbreak total", "continue", "delete", &set, "continue", "backtrace", "detach"];
        let (result, printed) = debug(&image, &commands, |sandbox| sandbox.call::<u64>("total", (4u64,)));
        assert_eq!(result.unwrap(), 10);
        assert_in_order(
            &printed,
            &[
                "in _start ()",
                &format!("reakpoint 1, total (count=4) at guests/debugger/{first}"),
                &format!("Breakpoint 2, add (number=1) at guests/debugger/{inner}"),
                &format!("#0  add (number=1) at guests/debugger/{inner}"),
                "#1 ",
                &format!("in total (count=4) at guests/debugger/{calling}"),
                "in main () at guests/debugger/guest.c:",
            ],
        );
    }
}

#[test]
fn lines_are_stepped_into_and_over_and_functions_finished() {
    let commands = ["break total", "continue", "next", "next", "step", "next", "next", "finish", "detach"];
    let (result, printed) = debug_call("total", 4, &commands);
    assert_eq!(result.unwrap(), 10);
    assert_in_order(
        &printed,
        &[
            "\t    sum = 0;",
            "\t    for (uint64_t number = 1; number <= count; number++)",
            "\t        add(number);",
            "add (number=1) at guests/debugger/guest.c:",
            "\t    sum += number;",
            "\t    return order.id;",
            "total (count=4) at guests/debugger/guest.c:",
            "Value returned is $1 = 7",
        ],
    );
}

#[test]
fn locals_structures_and_strings_are_printed() {
    let set = format!("break {}", line("return order.id"));
    let commands = [&set, "continue", "print order", "x/s order.name", "print number", "up", "info locals", "detach"];
    let (result, printed) = debug_call("total", 2, &commands);
    assert_eq!(result.unwrap(), 3);
    assert_in_order(
        &printed,
        &["$1 = {id = 7, price = 2.5, name = \"lamp\\000\\000\\000\"}", ":\t\"lamp\"", "$2 = 1", "number = 1"],
    );
}

#[test]
fn a_watched_variable_stops_at_each_change() {
    let commands = ["break add", "continue", "delete", "watch sum", "continue", "continue", "delete", "detach"];
    let (result, printed) = debug_call("total", 2, &commands);
    assert_eq!(result.unwrap(), 3);
    assert_in_order(
        &printed,
        &["atchpoint 2: sum", "Old value = 0", "New value = 1", "Old value = 1", "New value = 3"],
    );
}

#[test]
fn what_is_written_to_memory_and_registers_is_what_the_guest_has() {
    let commands = ["break total", "continue", "set var count = 3", "detach"];
    assert_eq!(debug_call("total", 100, &commands).0.unwrap(), 6);
    let commands = ["break *steps_end", "continue", "set $rax = 99", "detach"];
    assert_eq!(debug_call("steps", 0, &commands).0.unwrap(), 99);
    let commands = ["break *vectors_loaded", "continue", "set $xmm0.v2_int64[0] = 0x1122334455667788", "detach"];
    assert_eq!(debug_call("vectors", 1, &commands).0.unwrap(), 0x1122_3344_5566_7788);
}

#[test]
fn a_function_of_the_guest_is_called_by_the_debugger() {
    let commands = ["break total", "continue", "print add(41)", "print sum", "detach"];
    let (result, printed) = debug_call("total", 4, &commands);
    assert_eq!(result.unwrap(), 10);
    assert_in_order(&printed, &["$1 = 7", "$2 = 41"]);
}

#[test]
fn general_sse_and_avx_registers_are_shown() {
    let commands = [
        "break *vectors_loaded",
        "continue",
        "info registers rip eflags fs_base mxcsr cs",
        "print/x $ymm0.v32_int8",
        "print/x $xmm0.v16_int8",
        "set $ymm0.v4_int64[3] = 77",
        "print $ymm0.v4_int64[3]",
        "detach",
    ];
    let (result, printed) = debug_call("vectors", 1, &commands);
    assert_eq!(result.unwrap(), 0x0807_0605_0403_0201);
    let bytes = |count: u8| (1..=count).map(|byte| format!("{byte:#x}")).collect::<Vec<_>>().join(", ");
    assert_in_order(
        &printed,
        &[
            "<vectors+",
            "[ ",
            "IF ]",
            "[ IM DM ZM OM UM PM ]",
            "0x33",
            &format!("$1 = {{{}}}", bytes(32)),
            &format!("$2 = {{{}}}", bytes(16)),
            "$3 = 77",
        ],
    );
    assert!(!printed.contains("fs_base        0x0 "), "{printed}");
}

#[test]
fn single_steps_neither_lose_nor_double_an_instruction() {
    let step_through =
        "while $pc != steps_end\nstepi\nprintf \"at %d: %d\\n\", (int)($pc - (unsigned long)steps), $r8\nend";
    let script = socket().with_extension("gdb");
    fs::write(&script, step_through).unwrap();
    let source = format!("source {}", script.display());
    let commands = ["break *steps", "continue", "delete", &source, "detach"];
    let (result, printed) = debug_call("steps", 0, &commands);
    fs::remove_file(script).unwrap();
    assert_eq!(result.unwrap(), 6);
    let steps: Vec<_> = printed.lines().filter_map(|line| line.strip_prefix("at ")).collect();
    let expected = [
        "3: 0", "6: 1", "9: 2", "14: 2", "16: 2", "19: 3", "21: 3", "24: 4", "32: 4", "35: 4", "38: 5", "41: 6",
        "44: 6",
    ];
    assert_eq!(steps, expected, "{printed}");
}

#[test]
fn a_fault_stops_where_it_is_before_it_ends_the_call() {
    let (result, printed) = debug_call("fault", 0x10, &["continue", "backtrace", "print/x address", "continue"]);
    assert!(matches!(fault(result).kind(), FaultKind::PageFault { address: 0x10, .. }));
    assert_in_order(
        &printed,
        &[
            "Program received signal SIGSEGV",
            &line("the line of the fault"),
            "#0 ",
            "fault (address=16)",
            "main ()",
            "$1 = 0x10",
            "Program terminated with signal SIGSEGV",
        ],
    );
    let (result, printed) = debug_call("divide", 0, &["continue", "continue"]);
    assert!(matches!(fault(result).kind(), FaultKind::Exception { vector: 0, .. }));
    assert_in_order(&printed, &["Program received signal SIGFPE", "Program terminated with signal SIGFPE"]);
    let (result, printed) = debug_call("give_up", 0, &["continue", "backtrace", "continue"]);
    assert!(matches!(fault(result).kind(), FaultKind::Aborted { signal: 6 }));
    assert_in_order(&printed, &["Program received signal SIGABRT", "give_up (", "terminated with signal SIGABRT"]);
    let (result, printed) = debug_call("wait_forever", 0, &["continue", "backtrace", "continue"]);
    assert!(matches!(fault(result).kind(), FaultKind::Deadlocked(_)));
    assert_in_order(&printed, &["Program received signal SIGSTOP", "wait_forever (", "Program terminated"]);
}

#[test]
fn a_fault_that_the_debugger_mends_ends_nothing() {
    let (result, _) = debug_call("fault", 0x10, &["continue", "set $rax = &sum", "signal 0"]);
    assert_eq!(result.unwrap(), 0x10);
}

#[test]
fn a_breakpoint_of_the_guest_s_own_is_a_signal_that_is_passed_on_or_not() {
    let (result, printed) = debug_call("trap", 1, &["continue", "continue"]);
    assert_eq!(result.unwrap(), 2);
    assert_in_order(&printed, &["Program received signal SIGTRAP", "exited normally"]);
    let (result, printed) = debug_call("trap", 1, &["continue", "signal SIGTRAP"]);
    assert!(matches!(fault(result).kind(), FaultKind::Exception { vector: 3, .. }));
    assert_in_order(&printed, &["Program received signal SIGTRAP", "Program terminated with signal SIGTRAP"]);
}

#[test]
fn an_exit_is_reported_with_its_status() {
    let (result, printed) = debug_call("end", 3, &["continue"]);
    assert!(matches!(fault(result).kind(), FaultKind::Exited { code: 3 }));
    assert_in_order(&printed, &["[Inferior 1 (process 1) exited with code 03]"]);
}

#[test]
fn a_guest_goes_on_without_its_breakpoints_when_the_debugger_detaches_or_dies() {
    for last in ["detach", "disconnect", "shell kill -9 $PPID"] {
        let (result, _) = debug_call("total", 4, &["break add", "continue", last]);
        assert_eq!(result.unwrap(), 10, "{last}");
    }
}

#[test]
fn a_kill_by_the_debugger_ends_the_call() {
    let (result, printed) = debug_call("total", 4, &["break add", "continue", "kill"]);
    assert!(matches!(result, Err(CallError::Terminated { cause: Termination::Killed, .. })), "{result:?}");
    assert_in_order(&printed, &["killed]"]);
}

#[test]
fn an_endless_loop_is_broken_into_and_left() {
    let socket = socket();
    let server = GdbServer::listen(&DebuggerAddress::Unix(socket.clone())).unwrap();
    let reach = reach(&socket);
    let commands =
        ["tbreak spin", "continue", &reach, "continue", "print spins > 0", "backtrace", "set var go = 7", "detach"];
    let mut gdb = Gdb::start(&socket, &commands);
    let mut sandbox = Sandbox::builder(&image()).gdb(server).build().unwrap();
    let interrupter = thread::spawn(move || {
        gdb.wait(&socket);
        thread::sleep(Duration::from_millis(300));
        gdb.interrupt();
        gdb.finish()
    });
    assert_eq!(sandbox.call::<u64>("spin", (1u64,)).unwrap(), 7);
    let printed = interrupter.join().unwrap();
    assert_in_order(&printed, &["Program received signal SIGINT", "$1 = 1", "spin (forever=1)", "main ()"]);
}

#[test]
fn a_debugger_attaches_to_a_call_that_is_running() {
    let socket = socket();
    let server = GdbServer::listen(&DebuggerAddress::Unix(socket.clone())).unwrap().wait(false);
    let mut sandbox = Sandbox::builder(&image()).gdb(server).build().unwrap();
    assert_eq!(sandbox.call::<u64>("total", (4u64,)).unwrap(), 10);
    let running = sandbox.interrupt_handle();
    let gdb = thread::spawn(move || {
        while !running.is_running() {
            thread::yield_now();
        }
        Gdb::start(&socket, &["backtrace", "set var go = 7", "detach"]).finish()
    });
    assert_eq!(sandbox.call::<u64>("spin", (1u64,)).unwrap(), 7);
    assert_in_order(&gdb.join().unwrap(), &["spin (forever=1)", "main ()"]);
}

#[test]
fn breakpoints_outlast_resets_and_restores_and_are_in_no_snapshot() {
    let commands = ["break add", "continue", "continue", "continue", "continue", "continue"];
    let ((), printed) = debug(&image(), &commands, |sandbox| {
        let snapshot = sandbox.snapshot().unwrap();
        assert_eq!(sandbox.call::<u64>("total", (1u64,)).unwrap(), 1);
        sandbox.reset().unwrap();
        assert_eq!(sandbox.call::<u64>("total", (1u64,)).unwrap(), 1);
        sandbox.restore(&snapshot).unwrap();
        assert_eq!(sandbox.call::<u64>("total", (1u64,)).unwrap(), 1);
        // Taken while they are set.
        let later = sandbox.snapshot().unwrap();
        for snapshot in [&snapshot, &later] {
            let mut spawned = snapshot.spawn().unwrap();
            assert_eq!(spawned.call::<u64>("total", (4u64,)).unwrap(), 10);
            assert_eq!(spawned.call::<u64>("own_code", (0u64,)).unwrap(), 0x55);
        }
        assert_eq!(sandbox.call::<u64>("total", (1u64,)).unwrap(), 1);
    });
    assert_eq!(printed.matches("Breakpoint 1, add").count(), 4, "{printed}");
    assert_in_order(&printed, &["exited normally"]);
}

#[test]
fn only_the_guest_s_own_eyes_see_a_breakpoint_in_its_code() {
    let (stdout, printed) = Output::capture(100);
    let commands = ["break add", "break own_code", "continue", "x/1xb add", "continue"];
    let (result, gdb) = debug(&image(), &commands, |sandbox| {
        sandbox.set_stdout(stdout);
        sandbox.call::<u64>("own_code", (0u64,))
    });
    // As on Linux. What a system call reads there, and the debugger, is what the guest has put there.
    assert_eq!(result.unwrap(), 0x55, "the breakpoint is behind the function's prologue");
    assert_in_order(&gdb, &["<add>:\t0x55"]);
    assert_eq!(printed.take_string(), "U");
    let (stdout, printed) = Output::capture(100);
    let (result, _) = debug(&image(), &["break *add", "break own_code", "continue", "continue"], |sandbox| {
        sandbox.set_stdout(stdout);
        sandbox.call::<u64>("own_code", (0u64,))
    });
    assert_eq!(result.unwrap(), 0xcc);
    assert_eq!(printed.take_string(), "U");
}

#[test]
fn another_sandbox_of_the_image_has_no_breakpoints() {
    let image = image();
    let (result, _) = debug(&image, &["break *add", "continue", "detach"], |sandbox| {
        let mut other = Sandbox::builder(&image).build().unwrap();
        assert_eq!(other.call::<u64>("total", (4u64,)).unwrap(), 10);
        let result = sandbox.call::<u64>("total", (4u64,));
        assert_eq!(other.call::<u64>("own_code", (0u64,)).unwrap(), 0x55);
        result
    });
    assert_eq!(result.unwrap(), 10);
}

#[test]
fn a_deadline_stands_still_while_the_guest_is_held_and_no_longer() {
    let limits = Limits::new().deadline(Duration::from_millis(300));
    let commands = ["break total", "break spin", "continue", "shell sleep 1", "continue", "shell sleep 1", "continue"];
    let ((), printed) = debug(&image(), &commands, |sandbox| {
        assert_eq!(sandbox.call_with::<u64, _>(Call::new("total", (4u64,)).limits(limits)).unwrap(), 10);
        let error = sandbox.call_with::<u64, _>(Call::new("spin", (1u64,)).limits(limits)).unwrap_err();
        let CallError::Terminated { cause: Termination::LimitExceeded(exceeded), .. } = error else {
            panic!("{error}")
        };
        assert!(matches!(exceeded, ExceededLimit::Deadline(_)), "{exceeded}");
    });
    assert_in_order(&printed, &["Breakpoint 1", "Breakpoint 2", "Program terminated with signal SIGKILL"]);
}

#[test]
fn what_a_guest_prints_counts_as_ever_while_it_is_held_at_its_system_call() {
    let commands = ["break own_code", "continue", "catch syscall write", "next 6", "continue", "continue"];
    let call = |bytes| {
        move |sandbox: &mut Sandbox| {
            let limits = Limits::new().output(bytes);
            sandbox.call_with::<u64, _>(Call::new("own_code", (0u64,)).limits(limits))
        }
    };
    let (result, _) = debug(&image(), &commands, call(1));
    result.unwrap();
    let (result, printed) = debug(&image(), &commands, call(0));
    let Err(CallError::Terminated { cause: Termination::LimitExceeded(exceeded), .. }) = result else {
        panic!("{result:?}\n{printed}")
    };
    assert!(matches!(exceeded, ExceededLimit::Output(0)), "{exceeded}");
    assert_in_order(&printed, &["Breakpoint 1", "Program terminated with signal SIGKILL"]);
}

#[test]
fn a_call_is_killed_while_the_guest_is_held() {
    let socket = socket();
    let server = GdbServer::listen(&DebuggerAddress::Unix(socket.clone())).unwrap();
    let mut gdb = Gdb::start(&socket, &["break total", "continue", &reach(&socket), "shell sleep 1", "continue"]);
    let mut sandbox = Sandbox::builder(&image()).gdb(server).build().unwrap();
    let handle = sandbox.interrupt_handle();
    let killer = thread::spawn(move || {
        gdb.wait(&socket);
        handle.kill();
        gdb.finish()
    });
    let error = sandbox.call::<u64>("total", (4u64,)).unwrap_err();
    assert!(matches!(error, CallError::Terminated { cause: Termination::Killed, .. }), "{error}");
    assert_in_order(&killer.join().unwrap(), &["Program terminated with signal SIGKILL"]);
    sandbox.reset().unwrap();
    assert_eq!(sandbox.call::<u64>("total", (4u64,)).unwrap(), 10);
}

#[test]
fn a_spawned_sandbox_waits_at_the_beginning_of_its_first_call() {
    let snapshot = Sandbox::builder(&image()).build().unwrap().snapshot().unwrap();
    let socket = socket();
    let server = GdbServer::listen(&DebuggerAddress::Unix(socket.clone())).unwrap();
    let mut sandbox = snapshot.builder().gdb(server).build().unwrap();
    let gdb = thread::spawn(move || Gdb::start(&socket, &["backtrace", "break add", "continue", "detach"]).finish());
    assert_eq!(sandbox.call::<u64>("total", (4u64,)).unwrap(), 10);
    assert_in_order(&gdb.join().unwrap(), &["main ()", "Breakpoint 1, add (number=1)"]);
}

#[test]
fn a_program_that_knows_nothing_of_ampoule_is_debugged_from_its_first_instruction() {
    let socket = socket();
    let server = GdbServer::listen(&DebuggerAddress::Unix(socket.clone())).unwrap();
    let gdb = Gdb::start(&socket, &["break main", "continue", "print $rdi", "continue"]);
    let output = Program::new(env!("PROGRAM")).args(["one", "two"]).gdb(server).run().unwrap();
    let printed = gdb.finish();
    assert_in_order(&printed, &["in _start ()", "Breakpoint 1, ", "$1 = 3", "[Inferior 1 (process 1) exited"]);
    assert!(matches!(output.status, ProgramStatus::Exited(_)), "{:?}", output.status);
}

#[test]
fn a_socket_is_its_user_s_alone_and_goes_with_the_sandbox() {
    let socket = socket();
    let address = DebuggerAddress::Unix(socket.clone());
    let server = GdbServer::listen(&address).unwrap().wait(false);
    assert_eq!(server.address(), &address);
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    let error = GdbServer::listen(&address).unwrap_err();
    assert!(matches!(error, ListenError::Address { .. }), "{error}");
    let sandbox = Sandbox::builder(&image()).gdb(server).build().unwrap();
    assert!(socket.exists());
    drop(sandbox);
    assert!(!socket.exists());
    drop(GdbServer::listen(&address).unwrap());
    assert!(!socket.exists());
    let server = GdbServer::listen(&DebuggerAddress::local_port(0)).unwrap();
    let DebuggerAddress::Tcp(address) = server.address() else { panic!("{}", server.address()) };
    assert!(address.ip().is_loopback() && address.port() != 0);
}
