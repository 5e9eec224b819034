//! What asks the operating system for something: time, threads, memory, files, sockets.

use std::alloc::{GlobalAlloc, Layout};
use std::time::Duration;

use crate::Use;

pub(crate) const USES: &[Use] = &[
    ("chrono", "reads the clock; the local time is UTC", || {
        assert_eq!(chrono::Local::now().offset().local_minus_utc(), 0);
        Ok(())
    }),
    ("time", "reads the clock", || {
        assert!(time::OffsetDateTime::now_utc().year() > 2000);
        Ok(())
    }),
    ("jiff", "converts to a time zone, with the feature `tzdb-bundle-always`", || {
        let time = "2026-01-01T00:00:00Z".parse::<jiff::Timestamp>()?.in_tz("Europe/Berlin")?;
        assert_eq!(time.hour(), 1);
        Ok(())
    }),
    ("futures", "joins two tasks with `block_on`", || {
        let both = futures::future::join(async { 1 }, async { 2 });
        assert_eq!(futures::executor::block_on(both), (1, 2));
        Ok(())
    }),
    ("tokio (one thread)", "sleeps, with `new_current_thread` and `enable_time`", || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        runtime.block_on(async { tokio::time::sleep(Duration::from_millis(1)).await });
        Ok(())
    }),
    ("tokio (all)", "waits for a socket of a pair, with `new_current_thread` and `enable_all`", || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let (here, there) = tokio::net::UnixStream::pair()?;
            there.try_write(b"hello")?;
            here.readable().await?;
            let mut text = [0; 5];
            assert_eq!((here.try_read(&mut text)?, &text), (5, b"hello"));
            Ok(())
        })
    }),
    ("crossbeam", "sends through a channel", || {
        let (sender, receiver) = crossbeam::channel::bounded(1);
        sender.send(7)?;
        assert_eq!(receiver.recv()?, 7);
        Ok(())
    }),
    ("dashmap", "fills a map", || {
        let map: dashmap::DashMap<u32, u32> = (0..100).map(|n| (n, n * n)).collect();
        assert_eq!(*map.get(&9).ok_or("no entry")?, 81);
        Ok(())
    }),
    ("parking_lot", "locks", || {
        assert_eq!(*parking_lot::Mutex::new(7).lock(), 7);
        Ok(())
    }),
    ("rayon", "sums in parallel; falls back to one thread", || {
        use rayon::prelude::*;
        assert_eq!((0..1000_u32).into_par_iter().sum::<u32>(), 499_500);
        Ok(())
    }),
    ("num_cpus", "counts one processor", || {
        assert_eq!(num_cpus::get(), 1);
        Ok(())
    }),
    ("clap", "parses arguments", || {
        let command = clap::Command::new("a").arg(clap::Arg::new("level").long("level"));
        let found = command.try_get_matches_from(["a", "--level", "3"])?;
        assert_eq!(found.get_one::<String>("level").map(String::as_str), Some("3"));
        Ok(())
    }),
    ("tracing-subscriber", "writes an event to standard output", || {
        tracing::subscriber::with_default(tracing_subscriber::fmt().finish(), || tracing::info!("event"));
        Ok(())
    }),
    ("mimalloc", "allocates, with an allocator written in C", || {
        let layout = Layout::new::<[u64; 100]>();
        // SAFETY: the size is not zero, and what is written is within it.
        unsafe {
            let memory = mimalloc::MiMalloc.alloc_zeroed(layout).cast::<u64>();
            memory.add(99).write(7);
            assert_eq!((memory.read(), memory.add(99).read()), (0, 7));
            mimalloc::MiMalloc.dealloc(memory.cast(), layout);
        }
        Ok(())
    }),
    ("memmap2", "maps anonymous memory", || {
        let mut map = memmap2::MmapMut::map_anon(4096)?;
        map[4095] = 7;
        Ok(())
    }),
    ("tempfile", "makes a file", || {
        tempfile::tempfile()?;
        Ok(())
    }),
    ("walkdir", "lists `/`", || {
        for entry in walkdir::WalkDir::new("/") {
            entry?;
        }
        Ok(())
    }),
    ("socket2", "makes a socket", || {
        socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
        Ok(())
    }),
    ("tokio (several threads)", "starts a runtime", || {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build()?;
        Ok(())
    }),
];
