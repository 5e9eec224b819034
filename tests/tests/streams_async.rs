//! Asynchronous streams: no task waits for a guest, and no guest for a task when its call is to end.

use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::{Arc, LazyLock, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use ampoule::{Call, CallError, ExceededLimit, KillOutcome, Pool, Reader, Sandbox, Snapshot, Termination, Writer};
use ampoule_tests::streams_image;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::Builder;

fn sandbox() -> Sandbox {
    Sandbox::builder(&streams_image()).host_fn("note", |_: String| ()).build().unwrap()
}

fn pool() -> Pool {
    static SNAPSHOT: LazyLock<Snapshot> = LazyLock::new(|| sandbox().snapshot().unwrap());
    Pool::builder(&*SNAPSHOT).size(1).spawn_with(|spawn| spawn.host_fn("note", |_: String| ())).build().unwrap()
}

#[test]
fn a_guest_and_a_task_on_one_thread_pass_each_other_pieces() {
    let pool = pool();
    for round in 0..3 {
        Builder::new_current_thread().build().unwrap().block_on(async {
            let (input, output) = (Pipe::default(), Pipe::default());
            let (pool, ends) = (pool.clone(), (input.clone(), output.clone()));
            let copied = tokio::spawn(async move {
                let copied = pool.run(move |sandbox| {
                    let streams = (Reader::asynchronous(ends.0), Writer::asynchronous(ends.1));
                    sandbox.call::<u64>("copy", streams).unwrap()
                });
                copied.await.unwrap()
            });
            let mut expected = Vec::new();
            for piece in 0..10_u8 {
                // Between two pieces the guest waits, and other tasks go on.
                while round == 0 && !input.is_awaited() {
                    tokio::task::yield_now().await;
                }
                let bytes = vec![piece; 1000 * usize::from(piece) + 1];
                expected.extend(&bytes);
                input.push(&bytes);
            }
            input.close();
            assert_eq!(copied.await.unwrap(), expected.len() as u64);
            assert!(output.take() == expected);
        });
    }
}

#[test]
fn a_guest_that_waits_for_a_reader_is_given_up_with_its_future() {
    let pool = pool();
    let runtime = Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        for _ in 0..5 {
            let input = Pipe::default();
            let end = input.clone();
            let mut line =
                Box::pin(pool.run(move |sandbox| sandbox.call::<String>("first_line", (Reader::asynchronous(end),))));
            while !input.is_awaited() {
                let polled = line.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                assert!(polled.is_pending());
                tokio::task::yield_now().await;
            }
            drop(line);
            // The only sandbox comes back, though nobody ever writes.
            let answer = pool.run(|sandbox| sandbox.call::<String>("first_line", (Reader::new(&b"next\n"[..]),)));
            assert_eq!(answer.await.unwrap().unwrap(), "next\n");
            assert!(!input.is_held_by_others());
        }
    });
}

#[test]
fn a_kill_or_a_deadline_does_not_wait_for_a_reader_or_a_writer() {
    let mut sandbox = sandbox();
    let stuck = Pipe::stuck();
    let (handle, awaited) = (sandbox.interrupt_handle(), stuck.clone());
    let killer = thread::spawn(move || {
        while !awaited.is_awaited() {
            thread::yield_now();
        }
        handle.kill()
    });
    let error = sandbox.call::<u64>("produce", (100_u64, 100_u32, Writer::asynchronous(stuck))).unwrap_err();
    assert!(matches!(error, CallError::Terminated { cause: Termination::Killed, .. }), "{error}");
    assert_eq!(killer.join().unwrap(), KillOutcome::Killed);
    sandbox.reset().unwrap();

    let call = Call::new("first_line", (Reader::asynchronous(Pipe::default()),)).deadline(Duration::from_millis(10));
    let error = sandbox.call_with::<String, _>(call).unwrap_err();
    let CallError::Terminated { cause: Termination::LimitExceeded(ExceededLimit::Deadline(_)), .. } = error else {
        panic!("{error}")
    };
    sandbox.reset().unwrap();
    let text = Pipe::default();
    text.push(b"at once\n");
    assert_eq!(sandbox.call::<String>("first_line", (Reader::asynchronous(text),)).unwrap(), "at once\n");
}

#[test]
fn errors_of_asynchronous_ends_are_the_guests() {
    let mut sandbox = sandbox();
    let failed = Pipe::default();
    failed.fail(ErrorKind::ConnectionReset);
    let failure: (String, String) =
        sandbox.call("failure_of_writing", (Writer::asynchronous(failed.clone()),)).unwrap();
    assert_eq!(failure.0, "ConnectionReset");
    let error = sandbox.call::<String>("first_line", (Reader::asynchronous(failed),)).unwrap_err();
    assert!(matches!(&error, CallError::Function { message, .. } if message.contains("reset")), "{error}");
}

/// A queue of bytes with an end for reading and one for writing.
#[derive(Clone, Default)]
struct Pipe(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    bytes: VecDeque<u8>,
    is_closed: bool,
    is_stuck: bool,
    error: Option<ErrorKind>,
    waker: Option<Waker>,
}

impl Pipe {
    /// One that nothing can be written to.
    fn stuck() -> Self {
        let pipe = Self::default();
        pipe.0.lock().unwrap().is_stuck = true;
        pipe
    }

    fn push(&self, bytes: &[u8]) {
        self.change(|state| state.bytes.extend(bytes));
    }

    fn close(&self) {
        self.change(|state| state.is_closed = true);
    }

    fn fail(&self, error: ErrorKind) {
        self.change(|state| state.error = Some(error));
    }

    fn take(&self) -> Vec<u8> {
        self.0.lock().unwrap().bytes.drain(..).collect()
    }

    /// Whether somebody waits for it.
    fn is_awaited(&self) -> bool {
        self.0.lock().unwrap().waker.is_some()
    }

    fn is_held_by_others(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let waker = {
            let mut state = self.0.lock().unwrap();
            change(&mut state);
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl AsyncRead for Pipe {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut state = self.0.lock().unwrap();
        if let Some(error) = state.error {
            return Poll::Ready(Err(error.into()));
        }
        if state.bytes.is_empty() && !state.is_closed {
            state.waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        while buffer.remaining() > 0
            && let Some(byte) = state.bytes.pop_front()
        {
            buffer.put_slice(&[byte]);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut state = self.0.lock().unwrap();
        if let Some(error) = state.error {
            return Poll::Ready(Err(error.into()));
        }
        if state.is_stuck {
            state.waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        // A few bytes at a time, so that there are several pieces.
        let most = bytes.len().min(777);
        state.bytes.extend(&bytes[..most]);
        Poll::Ready(Ok(most))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
