//! Programs use a terminal that they are lent as they use it outside.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use ampoule::{Executable, Program, Terminal, TerminalSignal};
use ampoule_tests::native::{Native, with_default_actions};

/// What the host runs natively, and the sandbox.
const PROGRAM: &[u8] = include_bytes!(env!("TERMINAL"));

/// A terminal of a window, and what runs in it.
struct Session {
    window: File,
    terminal: OwnedFd,
    child: Child,
    /// What was printed and not expected yet.
    printed: String,
}

/// What was printed in a session, and how that has ended.
#[derive(Debug, PartialEq, Eq)]
struct Ended {
    printed: String,
    status: ExitStatus,
}

/// Both ends of a new pseudo-terminal, the window first. No child inherits them by chance.
fn pseudo_terminal() -> (File, OwnedFd) {
    let mut options = File::options();
    let window = options.read(true).write(true).custom_flags(libc::O_NOCTTY).open("/dev/ptmx").unwrap();
    let unlocked: libc::c_int = 0;
    // SAFETY: reads a number.
    assert_eq!(unsafe { libc::ioctl(window.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlocked) }, 0);
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: takes a number.
    let terminal = unsafe { libc::ioctl(window.as_raw_fd(), libc::TIOCGPTPEER, flags) };
    assert!(terminal >= 0, "{}", io::Error::last_os_error());
    resize(&window, 33, 101);
    // SAFETY: it was just opened, and nobody else has it.
    (window, unsafe { OwnedFd::from_raw_fd(terminal) })
}

fn resize(window: &File, rows: u16, columns: u16) {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: reads the size.
    assert_eq!(unsafe { libc::ioctl(window.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) }, 0);
}

impl Session {
    fn start(mut command: Command) -> Self {
        let (window, terminal) = pseudo_terminal();
        let stream = || Stdio::from(terminal.try_clone().unwrap());
        command.stdin(stream()).stdout(stream()).stderr(stream()).env("TERM", "dumb");
        with_default_actions(&mut command);
        // SAFETY: only calls of the system, in the child, whose standard input is the terminal by then.
        unsafe {
            command.pre_exec(|| {
                if libc::setsid() < 0 || libc::ioctl(0, libc::TIOCSCTTY, 0) < 0 {
                    return Err(io::Error::last_os_error());
                }
                Ok(())
            });
        }
        Self { child: command.spawn().unwrap(), window, terminal, printed: String::new() }
    }

    /// Waits until this was printed, and gives all up to its end.
    fn expect(&mut self, text: &str) -> String {
        loop {
            if let Some(at) = self.printed.find(text) {
                let rest = self.printed.split_off(at + text.len());
                return std::mem::replace(&mut self.printed, rest);
            }
            assert!(self.read(), "`{text}` was expected behind:\n{}", self.printed);
        }
    }

    /// As [`expect`](Self::expect) of what an interruption leads to. It is made again where nothing comes of it: the program
    /// may have been on its way to where it waits.
    fn interrupt_until(&mut self, text: &str) -> String {
        loop {
            self.enter("\u{3}");
            while self.is_readable() {
                assert!(self.read(), "`{text}` was expected behind:\n{}", self.printed);
                if self.printed.contains(text) {
                    return self.expect(text);
                }
            }
        }
    }

    /// Interrupts the program until it ends.
    fn interrupt_to_the_end(mut self) -> Ended {
        while self.child.try_wait().unwrap().is_none() {
            self.enter("\u{3}");
            thread::sleep(PATIENCE);
        }
        self.end()
    }

    /// Whether there is something to read within a while.
    fn is_readable(&self) -> bool {
        let mut entry = libc::pollfd { fd: self.window.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: the entry is this function's.
        unsafe { libc::poll(&raw mut entry, 1, PATIENCE.as_millis() as i32) > 0 }
    }

    /// Whether there was more.
    fn read(&mut self) -> bool {
        let mut bytes = [0; 1000];
        // The last one closes the terminal, which the window learns by an error.
        let count = self.window.read(&mut bytes).unwrap_or(0);
        self.printed.push_str(&String::from_utf8_lossy(&bytes[..count]));
        count > 0
    }

    fn enter(&mut self, text: &str) {
        self.window.write_all(text.as_bytes()).unwrap();
    }

    /// Whether lines are put together and what is typed is shown.
    fn is_as_before(&self) -> bool {
        settings(&self.terminal).c_lflag & (libc::ICANON | libc::ECHO) == libc::ICANON | libc::ECHO
    }

    /// All that is left, and the end.
    fn end(mut self) -> Ended {
        let status = self.child.wait().unwrap();
        drop(self.terminal);
        let mut rest = Vec::new();
        let _ = self.window.read_to_end(&mut rest);
        self.printed.push_str(&String::from_utf8_lossy(&rest));
        Ended { printed: self.printed, status }
    }
}

/// The lines without those that were there before. A key that comes too late is shown, and nothing comes of it.
fn once(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = Vec::new();
    for line in text.lines().filter(|line| *line != "^C") {
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines
}

/// How long a program is given to do something of which one cannot see that it has begun.
const PATIENCE: Duration = Duration::from_millis(300);

fn settings(terminal: &OwnedFd) -> libc::termios {
    // SAFETY: all of its bytes may be zero, and the call fills it.
    unsafe {
        let mut settings = std::mem::zeroed();
        assert_eq!(libc::tcgetattr(terminal.as_raw_fd(), &raw mut settings), 0);
        settings
    }
}

/// The program natively, and sealed.
fn sessions(program: &Native, case: &str) -> [Session; 2] {
    let mut native = program.command();
    native.arg(case);
    let mut sealed = run(&[]);
    sealed.arg(program.path()).arg(case);
    [native, sealed].map(Session::start)
}

fn run(options: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ampoule-command-line"));
    command.args(["run", "-t"]).args(options);
    command
}

#[test]
fn a_program_finds_its_terminal_as_it_does_natively() {
    let [native, sealed] = sessions(&Native::new(PROGRAM), "look").map(Session::end);
    assert!(native.printed.contains("window 0: 33 101"), "{native:?}");
    assert_eq!(sealed, native);
}

#[test]
fn keys_and_lines_arrive_as_the_program_has_set_its_terminal() {
    let program = Native::new(PROGRAM);
    let [native, sealed] = sessions(&program, "keys").map(|mut session| {
        session.expect("ready\r\n");
        assert!(!session.is_as_before());
        // Ctrl+C is a key by now, and nothing is shown of it.
        session.enter("a\u{3}\r");
        let shown = session.expect("line\r\n");
        assert!(session.is_as_before());
        session.enter("some text\n");
        session.expect("some text\r\nsome text\r\n");
        session.enter("\u{4}");
        session.expect("end 0\r\n");
        session.enter("more\n");
        (shown, session.end())
    });
    assert!(native.0.contains("key 3\r\n"), "{native:?}");
    assert_eq!(sealed, native);
}

/// A host that waited for the bytes that are missing could not be ended meanwhile.
#[test]
fn a_program_that_waits_for_more_bytes_has_those_that_there_are() {
    let file = Native::new(PROGRAM);
    let mut command = run(&[]);
    command.arg(file.path()).arg("patient");
    let mut session = Session::start(command);
    session.expect("ready\r\n");
    for key in ["a", "b"] {
        session.enter(key);
        session.expect(&format!("1 {key}\r\n"));
    }
    session.enter("c");
    // SAFETY: the child has not been waited for, so the number is its own.
    unsafe { libc::kill(session.child.id() as i32, libc::SIGTERM) };
    session.child.wait().unwrap();
    assert!(session.is_as_before());
}

#[test]
fn the_terminals_signals_reach_a_program_that_waits_and_one_that_computes() {
    let program = Native::new(PROGRAM);
    for case in ["signals", "computes"] {
        let [native, sealed] = sessions(&program, case).map(|mut session| {
            session.expect("ready\r\n");
            let mut shown = session.interrupt_until(if case == "signals" { "1\r\n" } else { "interrupted\r\n" });
            resize(&session.window, 5, 6);
            shown += &session.expect("resized 0: 5 6\r\n");
            session.enter("\u{1c}");
            (shown, session.end())
        });
        assert_eq!(once(&sealed.0), once(&native.0), "{case}");
        assert_eq!(sealed.1.status.code(), Some(128 + libc::SIGQUIT), "{case}");
    }
}

#[test]
fn the_terminals_signals_end_a_sleep_and_a_wait_for_signals() {
    let program = Native::new(PROGRAM);
    for case in ["sleeps", "pauses"] {
        let [native, sealed] = sessions(&program, case).map(|mut session| {
            session.expect("ready\r\n");
            session.interrupt_to_the_end()
        });
        assert_eq!((once(&sealed.printed), sealed.status), (once(&native.printed), native.status), "{case}");
    }
}

#[test]
fn a_terminal_has_its_settings_back_however_the_program_ends() {
    let program = Native::new(PROGRAM);
    for ends_by_deadline in [true, false] {
        let mut command = run(if ends_by_deadline { &["--deadline", "500ms"] } else { &[] });
        command.arg(program.path()).arg("keys");
        let mut session = Session::start(command);
        session.expect("ready\r\n");
        if !ends_by_deadline {
            // SAFETY: the child has not been waited for, so the number is its own.
            unsafe { libc::kill(session.child.id() as i32, libc::SIGTERM) };
        }
        session.child.wait().unwrap();
        assert!(session.is_as_before());
    }
}

#[test]
fn interpreters_have_their_prompts() {
    let mut session = Session::start({
        let mut command = run(&["--libs", "--memory", "512M", "--tmp", "1M", "--cwd", "/tmp"]);
        command.args(["/usr/bin/python3", "-I", "-q"]);
        command
    });
    session.expect(">>> ");
    session.enter("6 * 7\n");
    session.expect("42\r\n>>> ");
    session.enter("while True: pass\n\n");
    session.expect("... ");
    session.enter("\u{3}");
    session.expect("KeyboardInterrupt");
    session.expect(">>> ");
    session.enter("exit(3)\n");
    assert_eq!(session.end().status.code(), Some(3));

    let mut session = Session::start({
        let mut command = run(&["--libs"]);
        command.args(["/bin/bash", "--norc", "--noprofile", "-i"]);
        command
    });
    session.expect("$ ");
    session.enter("echo $((6 * 7)) $COLUMNS\n");
    session.expect("42 101\r\n");
    session.enter("exit 4\n");
    assert_eq!(session.end().status.code(), Some(4));
}

#[test]
fn without_a_terminal_it_has_pipes_and_none_is_lent_that_is_none() {
    let file = Native::new(PROGRAM);
    let program = || Program::of(&Executable::from_bytes(PROGRAM).unwrap());
    let output = program().arg("look").run().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.starts_with("0 0 0\n0 0 0\n0 0 0\nwindow -1: 0 0\ntty 0 0\n"), "{text}");
    let error = Terminal::new(File::open("/dev/null").unwrap()).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOTTY));
    let mut command = run(&[]);
    let output = command.arg(file.path()).stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("`--terminal`"), "{output:?}");
}

#[test]
fn an_application_lends_a_terminal_and_sends_its_signals() {
    let (mut window, terminal) = pseudo_terminal();
    let terminal = Terminal::new(terminal).unwrap();
    let handle = terminal.handle();
    let process =
        Program::of(&Executable::from_bytes(PROGRAM).unwrap()).arg("computes").terminal(terminal).start().unwrap();
    let running = thread::spawn(move || process.run().unwrap());
    let mut expect = |text: &str| {
        let mut printed = String::new();
        while !printed.contains(text) {
            let mut bytes = [0; 1000];
            let count = window.read(&mut bytes).unwrap();
            printed.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
    };
    expect("ready");
    handle.send(TerminalSignal::Interrupt);
    expect("interrupted");
    handle.send(TerminalSignal::Quit);
    assert_eq!(running.join().unwrap().status.signal(), Some(libc::SIGQUIT));
    // Nobody is there any more.
    handle.send(TerminalSignal::Resized);
}
