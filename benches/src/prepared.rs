//! What a request costs to a program that waits for it, against a run of the program from its start.

use std::error::Error;
use std::time::{Duration, Instant};

use ampoule::{Executable, Input, Pool, Program, ProgramOutput};

use crate::measure::Bench;

pub(crate) fn measure(bench: &mut Bench) -> Result<(), Box<dyn Error>> {
    let echo = Executable::from_bytes(include_bytes!(env!("ECHO")).as_slice())?;
    let ready = Program::of(&echo).start()?.run_until_input()?.snapshot()?;
    let pool = Pool::builder(&ready).size(1).warm_up(|idle| idle.input(REQUEST).run().map(drop)).build()?;
    bench.times_alone("request to a waiting program: take, run, reset", 40, || {
        let start = Instant::now();
        let answer = pool.take()?.input(REQUEST).run()?;
        checked(&answer, start.elapsed())
    })?;
    bench.times_alone("a new copy of a waiting program, and its first request", 4, || {
        let start = Instant::now();
        let answer = ready.spawn()?.input(REQUEST).run()?;
        checked(&answer, start.elapsed())
    })?;
    bench.times_alone("the same program from its start to its end", 4, || {
        let start = Instant::now();
        let answer = Program::of(&echo).stdin(Input::bytes(REQUEST)).run()?;
        checked(&answer, start.elapsed())
    })
}

/// The time, if the answer is right.
fn checked(answer: &ProgramOutput, time: Duration) -> Result<Duration, Box<dyn Error>> {
    let is_right = answer.status.success() && answer.stdout == REQUEST.as_bytes();
    if is_right { Ok(time) } else { Err(format!("{answer:?}").into()) }
}

const REQUEST: &str = "a request of some forty bytes, or fewer\n";
