//! What it costs to end a guest, and to have it back.
//!
//! Exits and ioctls of these rows include those of the reset that follows each of them.

use std::error::Error;
use std::hint::black_box;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use ampoule::{Call, Image, InterruptHandle, KillOutcome};

use crate::build;
use crate::measure::Bench;

pub(crate) fn measure(bench: &mut Bench, image: &Image) -> Result<(), Box<dyn Error>> {
    let mut sandbox = build(image)?;
    let mut killer = Killer::start();

    bench.times("kill of a spinning guest, to the error", 4, &mut sandbox, |sandbox| {
        killer.aim(sandbox.interrupt_handle());
        ends(sandbox.call::<()>("spin", ()).is_err())?;
        let latency = killer.since_kill();
        sandbox.reset()?;
        latency
    })?;
    bench.times("deadline of 2 ms: overshoot", 4, &mut sandbox, |sandbox| {
        let start = Instant::now();
        ends(sandbox.call_with::<(), _>(Call::new("spin", ()).deadline(DEADLINE)).is_err())?;
        let overshoot = start.elapsed().saturating_sub(DEADLINE);
        sandbox.reset()?;
        Ok(overshoot)
    })?;
    bench.times("fault, to the error", 4, &mut sandbox, |sandbox| {
        let start = Instant::now();
        ends(sandbox.call::<()>("fault", ()).is_err())?;
        let time = start.elapsed();
        sandbox.reset()?;
        Ok(time)
    })?;
    bench.times_alone("text of a fault, the first of its image", 4, || {
        let mut sandbox = build(&Image::embedded(ampoule::include_guest!("calls"))?)?;
        let error = sandbox.call::<()>("fault", ()).expect_err("the guest faults");
        let start = Instant::now();
        black_box(error.to_string());
        Ok(start.elapsed())
    })?;
    bench.times("text of a fault", 4, &mut sandbox, |sandbox| {
        let error = sandbox.call::<()>("fault", ()).expect_err("the guest faults");
        let start = Instant::now();
        black_box(error.to_string());
        let time = start.elapsed();
        sandbox.reset()?;
        Ok(time)
    })?;
    bench.times("reset after a fault", 4, &mut sandbox, |sandbox| {
        ends(sandbox.call::<()>("fault", ()).is_err())?;
        let start = Instant::now();
        sandbox.reset()?;
        Ok(start.elapsed())
    })?;
    bench.times("first call after a reset", 4, &mut sandbox, |sandbox| {
        sandbox.reset()?;
        let start = Instant::now();
        sandbox.call::<()>("empty", ())?;
        Ok(start.elapsed())
    })
}

fn ends(ended: bool) -> Result<(), Box<dyn Error>> {
    if ended { Ok(()) } else { Err("the guest survived".into()) }
}

/// A thread that kills calls and says when.
struct Killer {
    aims: mpsc::Sender<InterruptHandle>,
    kills: mpsc::Receiver<Instant>,
}

impl Killer {
    fn start() -> Self {
        let (aims, handles) = mpsc::channel::<InterruptHandle>();
        let (times, kills) = mpsc::channel();
        thread::spawn(move || {
            while let Ok(handle) = handles.recv() {
                while !handle.is_running() {
                    thread::yield_now();
                }
                thread::sleep(Duration::from_millis(1));
                let time = Instant::now();
                if handle.kill() == KillOutcome::Killed && times.send(time).is_err() {
                    return;
                }
            }
        });
        Self { aims, kills }
    }

    fn aim(&mut self, handle: InterruptHandle) {
        self.aims.send(handle).expect("the killer lives as long as it is aimed");
    }

    fn since_kill(&self) -> Result<Duration, Box<dyn Error>> {
        let now = Instant::now();
        Ok(now.duration_since(self.kills.recv()?))
    }
}

const DEADLINE: Duration = Duration::from_millis(2);
