//! Interruptions by another thread, at any moment.

use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use ampoule_vmm::{Context, Event};

use crate::code::*;
use crate::guest::{DATA, Guest, entry};

const CONTEXTS: usize = 2;
const CODE_SIZE: usize = 64;
const DATA_SIZE: usize = 64;
const INTERRUPTIONS: usize = 200;

/// Counts in a register and in memory, and makes a system call each time.
fn program(number: usize) -> Vec<u8> {
    let code = mov_rdi(DATA.0 + (number * DATA_SIZE) as u64);
    let (at, start) = (number * CODE_SIZE, code.len());
    let code = [&code[..], &INC_R12, &INC_MEMORY, &SYSCALL].concat();
    [&code[..], &jump(at + code.len(), at + start)].concat()
}

#[test]
fn an_interrupted_context_loses_and_repeats_nothing() {
    let code: Vec<u8> = (0..CONTEXTS)
        .flat_map(|number| {
            let mut code = program(number);
            code.resize(CODE_SIZE, 0xf4);
            code
        })
        .collect();
    let mut guest = Guest::new(&code);
    let mut contexts = [0, 1].map(|number| Context::new(entry(number * CODE_SIZE)));
    let mut calls = [0_u64; CONTEXTS];
    let (armed, requested, done) = (AtomicU32::new(0), AtomicU32::new(0), AtomicBool::new(false));
    let interrupter = guest.processor.interrupter();
    handle_signal();
    // SAFETY: takes no arguments, and the thread lives longer than the one that uses its name.
    let runner = unsafe { libc::pthread_self() };

    thread::scope(|scope| {
        scope.spawn(|| {
            let mut pause = 1_u32;
            while !done.load(Ordering::Acquire) {
                let turn = armed.load(Ordering::Acquire);
                if turn == requested.load(Ordering::Relaxed) {
                    thread::yield_now();
                    continue;
                }
                pause = pause.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                for _ in 0..pause >> 16 {
                    std::hint::spin_loop();
                }
                interrupter.request();
                // SAFETY: the thread runs until this scope ends.
                unsafe { libc::pthread_kill(runner, libc::SIGUSR1) };
                requested.store(turn, Ordering::Release);
            }
        });
        for turn in 1..=INTERRUPTIONS {
            let current = turn % CONTEXTS;
            guest.processor.load(&contexts[current]).unwrap();
            armed.store(turn as u32, Ordering::Release);
            loop {
                match guest.run() {
                    Event::SystemCall(_) => {
                        calls[current] += 1;
                        assert_eq!(guest.register("r12"), calls[current]);
                        assert_eq!(guest.data(current * DATA_SIZE), calls[current]);
                        guest.processor.finish_system_call(0).unwrap();
                    }
                    // The signal of the turn before may come late.
                    Event::Interrupted if requested.load(Ordering::Acquire) == turn as u32 => break,
                    Event::Interrupted => (),
                    other => panic!("{other:?}"),
                }
            }
            guest.processor.interrupter().clear();
            contexts[current] = guest.processor.save().unwrap();
        }
        done.store(true, Ordering::Release);
    });

    for (number, context) in contexts.iter().enumerate() {
        guest.processor.load(context).unwrap();
        assert!(matches!(guest.run(), Event::SystemCall(_)));
        assert_eq!(guest.register("r12"), calls[number] + 1);
        assert_eq!(guest.data(number * DATA_SIZE), calls[number] + 1);
    }
}

/// Lets the signal end a run, and nothing else.
fn handle_signal() {
    extern "C" fn on_signal(_: libc::c_int) {}
    let handler: extern "C" fn(libc::c_int) = on_signal;
    // SAFETY: a `sigaction` of zeros is valid: an empty mask, no flags, the default disposition.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction = handler as libc::sighandler_t;
    // SAFETY: the handler does nothing.
    assert_eq!(unsafe { libc::sigaction(libc::SIGUSR1, &action, ptr::null_mut()) }, 0);
}
