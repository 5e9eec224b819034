//! The Python of this machine, sealed, with its imports done: each request is a piece of Python that finds a clean interpreter.
//!
//! ```sh
//! cargo run --release --example python
//! echo 'print(json.dumps(list(range(3))))' | cargo run --release --example python -
//! ```

use std::error::Error;
use std::io;
use std::time::{Duration, Instant};

use ampoule::{Files, Limits, Pool, Program, ProgramSnapshot};

/// What the interpreter does before its first request, and then with it. In the end it goes without taking itself apart: its
/// machine is put back anyway.
const DRIVER: &str = "
import base64, collections, datetime, functools, hashlib, itertools, json, math, os, re, statistics, sys
exec(compile(sys.stdin.read(), 'request', 'exec'))
sys.stdout.flush()
os._exit(0)
";

fn main() -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    let ready = interpreter()?;
    println!("the interpreter and its imports: {:?}, {} KiB", start.elapsed(), ready.stored_bytes() >> 10);
    let pool = Pool::builder(&ready).size(1).warm_up(|python| python.input("print(1)").run().map(drop)).build()?;

    if std::env::args().nth(1).is_some_and(|argument| argument == "-") {
        let answer = pool.take()?.input(io::read_to_string(io::stdin())?).run()?;
        print!("{}", String::from_utf8_lossy(&answer.stdout));
        eprint!("{}", String::from_utf8_lossy(&answer.stderr));
        return Ok(());
    }
    for request in REQUESTS {
        let start = Instant::now();
        let answer = pool.take()?.input(*request).deadline(Duration::from_secs(1)).run();
        let time = start.elapsed();
        let shown = match &answer {
            Ok(answer) if answer.status.success() => String::from_utf8_lossy(&answer.stdout),
            Ok(answer) => String::from_utf8_lossy(&answer.stderr),
            Err(error) => error.to_string().into(),
        };
        println!("{time:?}: {request} -> {}", shown.lines().last().unwrap_or_default());
    }
    Ok(())
}

/// The interpreter, which waits for a request.
fn interpreter() -> Result<ProgramSnapshot, Box<dyn Error>> {
    let limits = Limits::new().deadline(Duration::from_secs(60)).output(1 << 20);
    let python = Program::new("/usr/bin/python3").files(Files::libraries()).args(["-I", "-c", DRIVER]);
    Ok(python.memory_limit(256 << 20).limits(limits).start()?.run_until_input()?.snapshot()?)
}

/// Pieces of Python, as a model may write them.
const REQUESTS: &[&str] = &[
    "print(6 * 7)",
    "secret = 5; math.pi = 3; print(math.pi)",
    "print(math.pi, 'secret' in globals())",
    "print(json.dumps(collections.Counter('sealed in a micro-VM').most_common(2)))",
    "print(hashlib.sha256(b'abc').hexdigest()[:16])",
    "print(open('/etc/passwd').read())",
    "while True: pass",
];
