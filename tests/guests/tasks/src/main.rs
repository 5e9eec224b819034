//! A guest whose functions run tasks on a runtime of tokio's, with its timers and what waits for files, signals and processes.

use std::cell::RefCell;
use std::future::Future;
use std::time::Duration;

use ampoule_guest::export;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;
use tokio::task;
use tokio::time::{Instant, sleep, timeout};

thread_local! {
    /// The one runtime, which lives from call to call, and in snapshots.
    static RUNTIME: RefCell<Option<Runtime>> = const { RefCell::new(None) };
}

fn run<T>(future: impl Future<Output = T>) -> T {
    RUNTIME.with_borrow_mut(|runtime| {
        let runtime = runtime.get_or_insert_with(|| {
            Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("the runtime needs `epoll`, `eventfd` and a pair of sockets")
        });
        runtime.block_on(future)
    })
}

/// What several tasks send that sleep for different times, each number as many times ten milliseconds: in the order in which
/// it arrives.
#[export]
fn sleep_sort(numbers: Vec<u32>) -> Vec<u32> {
    run(async {
        let (sender, mut receiver) = mpsc::channel(2);
        for number in numbers {
            let sender = sender.clone();
            task::spawn(async move {
                sleep(Duration::from_millis(u64::from(number) * 10)).await;
                sender.send(number).await.expect("it is received until all have sent");
            });
        }
        drop(sender);
        let mut sorted = Vec::new();
        while let Some(number) = receiver.recv().await {
            sorted.push(number);
        }
        sorted
    })
}

/// Whether a task that sleeps for so many milliseconds is finished in a time.
#[export]
fn finishes_in_time(sleep_ms: u64, timeout_ms: u64) -> bool {
    let [slept, limit] = [sleep_ms, timeout_ms].map(Duration::from_millis);
    run(async { timeout(limit, sleep(slept)).await.is_ok() })
}

/// How many milliseconds go by on the runtime's clock in a sleep of so many.
#[export]
fn time_asleep(milliseconds: u64) -> u64 {
    run(async {
        let start = Instant::now();
        sleep(Duration::from_millis(milliseconds)).await;
        start.elapsed().as_millis() as u64
    })
}

/// Sends bytes from one task to another through a pipe, more than it holds, and returns how many have arrived and their sum.
#[export]
fn send_through_pipe(len: u32) -> (u32, u64) {
    run(async {
        let (mut sender, mut receiver) = pipe::pipe().expect("there are pipes");
        let sending = task::spawn(async move {
            let bytes: Vec<u8> = (0..len).map(|index| index as u8).collect();
            sender.write_all(&bytes).await.expect("the other end is open");
        });
        let mut bytes = Vec::new();
        receiver.read_to_end(&mut bytes).await.expect("a pipe can be read");
        sending.await.expect("it does not panic");
        (bytes.len() as u32, bytes.iter().map(|byte| u64::from(*byte)).sum())
    })
}

/// Sends a text from one socket to another and back, and returns what has arrived.
#[export]
fn send_there_and_back(text: &str) -> String {
    run(async {
        let (mut one, mut other) = UnixStream::pair().expect("there are pairs of sockets");
        let answering = task::spawn(async move {
            let mut bytes = Vec::new();
            other.read_to_end(&mut bytes).await.expect("a socket can be read");
            other.write_all(&bytes).await.expect("the other one is open");
        });
        one.write_all(text.as_bytes()).await.expect("the other one is open");
        one.shutdown().await.expect("the other one is open");
        let mut back = String::new();
        one.read_to_string(&mut back).await.expect("what was sent is text");
        answering.await.expect("it does not panic");
        back
    })
}

/// Waits for what nobody sends.
#[export]
fn wait_for_ever() {
    let (_sender, mut receiver) = mpsc::channel::<()>(1);
    run(receiver.recv());
}

ampoule_guest::main!();
