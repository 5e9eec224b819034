//! What a request costs that takes a sandbox from a pool, calls it, and gives it back.

use std::error::Error;
use std::thread;
use std::time::{Duration, Instant};

use ampoule::{Image, Pool, Sandbox, TypedFn};

use crate::measure::Bench;
use crate::snapshots::{settings, spawn_settings};

pub(crate) fn measure(bench: &mut Bench, image: &Image) -> Result<(), Box<dyn Error>> {
    let mut sandbox = settings(Sandbox::builder(image)).build()?;
    let empty = sandbox.typed_fn::<(), ()>("empty")?;
    empty.call(&mut sandbox, ())?;
    let snapshot = sandbox.snapshot()?;
    let pool = || {
        let warm_up = |sandbox: &mut Sandbox| sandbox.call("empty", ());
        Pool::builder(&snapshot).size(4).spawn_with(spawn_settings).warm_up(warm_up).build()
    };

    let kept = pool()?;
    bench.times_alone("request to a pool: take, call, reset", 40, || request(&kept, &empty))?;
    bench.times_alone("first result of a new sandbox in a pool", 1, || {
        // The pool is made, and its sandboxes have warmed up, before the request comes.
        let pool = pool()?;
        let start = Instant::now();
        let mut sandbox = pool.take()?;
        empty.call(&mut sandbox, ())?;
        Ok(start.elapsed())
    })?;

    println!();
    println!("| requests to a pool of 4 | per second |");
    println!("|---|---|");
    for threads in [1, 2] {
        println!("| from {threads} threads | {:.0} |", throughput(&kept, &empty, threads)?);
    }
    Ok(())
}

fn request(pool: &Pool, function: &TypedFn<(), ()>) -> Result<Duration, Box<dyn Error>> {
    let start = Instant::now();
    let mut sandbox = pool.take()?;
    function.call(&mut sandbox, ())?;
    drop(sandbox);
    Ok(start.elapsed())
}

fn throughput(pool: &Pool, function: &TypedFn<(), ()>, threads: usize) -> Result<f64, Box<dyn Error>> {
    let callers: Vec<_> = (0..threads)
        .map(|_| {
            let (pool, function) = (pool.clone(), function.clone());
            thread::spawn(move || {
                let (start, mut requests) = (Instant::now(), 0_u32);
                while start.elapsed() < THROUGHPUT_TIME {
                    request(&pool, &function).map_err(|error| error.to_string())?;
                    requests += 1;
                }
                Ok::<_, String>(f64::from(requests) / start.elapsed().as_secs_f64())
            })
        })
        .collect();
    let rates = callers.into_iter().map(|caller| caller.join().expect("a caller does not panic"));
    Ok(rates.collect::<Result<Vec<_>, _>>()?.iter().sum())
}

const THROUGHPUT_TIME: Duration = Duration::from_secs(2);
