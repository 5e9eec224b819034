//! The clocks of a process as it reads them from its page and by system calls, compared with what they have to show.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ampoule_vmm::address_map::SHARED_BASE;
use ampoule_vmm::vdso::{CLOCKS, TimePage, counter};

use super::*;
use crate::address_space::Window;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 512 } else { 4096 }))]

    /// Whatever else happens, and however it is read.
    #[test]
    fn the_hosts_time_goes_back_for_nobody(steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World::new(Clock::Real);
        let mut seen = 0;
        let mut at_snapshot = None;
        for step in steps {
            match step {
                Step::Read { by_page } => {
                    let Some(now) = world.read(by_page) else { continue };
                    prop_assert!(now >= seen, "{now} after {seen}");
                    prop_assert!(now <= host_time() + TOLERANCE, "{now}");
                    seen = now;
                }
                Step::Sleep { nanos } => {
                    let before = world.read(false).unwrap();
                    world.sleep(nanos);
                    let end = host_time() + nanos;
                    while host_time() < end {}
                    seen = before + nanos;
                }
                // A call that is ended meanwhile, after which the process can only go back.
                Step::SleepForEver if at_snapshot.is_some() => {
                    world.sleep(u64::MAX >> 1);
                    seen = world.restore(&at_snapshot);
                }
                Step::SleepForEver | Step::Advance { .. } => {}
                Step::Call => world.call(),
                Step::Snapshot => at_snapshot = Some((world.guest.process.suspended(), seen)),
                Step::Restore if at_snapshot.is_some() => seen = world.restore(&at_snapshot),
                Step::Spawn if at_snapshot.is_some() => seen = world.spawn(&at_snapshot),
                Step::Restore | Step::Spawn => {}
            }
        }
    }

    /// It passes by what the process sleeps and the host adds, if at all, and is gone back to.
    #[test]
    fn a_time_that_stands_is_always_known_exactly(
        passes in any::<bool>(),
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let moment = SystemTime::UNIX_EPOCH + Duration::from_secs(1_234_567_890);
        let mut world = World::new(if passes { Clock::Virtual(moment) } else { Clock::Frozen(moment) });
        let mut time = world.read(false).unwrap();
        let mut at_snapshot = None;
        for step in steps {
            match step {
                Step::Read { by_page } => prop_assert_eq!(world.read(by_page), Some(time)),
                Step::Sleep { nanos } => {
                    world.sleep(nanos);
                    time += if passes { nanos } else { 0 };
                }
                Step::Advance { nanos } => {
                    prop_assert!(world.guest.process.advance_clock(Duration::from_nanos(nanos)));
                    world.call();
                    time += nanos;
                }
                Step::SleepForEver => {}
                Step::Call => world.call(),
                Step::Snapshot => at_snapshot = Some((world.guest.process.suspended(), time)),
                Step::Restore if at_snapshot.is_some() => time = world.restore(&at_snapshot),
                Step::Spawn if at_snapshot.is_some() => time = world.spawn(&at_snapshot),
                Step::Restore | Step::Spawn => {}
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Read { by_page: bool },
    Sleep { nanos: u64 },
    SleepForEver,
    Advance { nanos: u64 },
    Call,
    Snapshot,
    Restore,
    Spawn,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => any::<bool>().prop_map(|by_page| Step::Read { by_page }),
        2 => (1_u64..50_000).prop_map(|nanos| Step::Sleep { nanos }),
        1 => Just(Step::SleepForEver),
        2 => (0_u64..1 << 40).prop_map(|nanos| Step::Advance { nanos }),
        2 => Just(Step::Call),
        2 => Just(Step::Snapshot),
        3 => Just(Step::Restore),
        2 => Just(Step::Spawn),
    ]
}

/// A process that is suspended, and the latest time that it has read.
type Suspended = Option<(LinuxProcess, u64)>;

/// A guest that sees a time page.
struct World {
    guest: Guest,
    page: Arc<TrackedRegion>,
}

impl World {
    fn new(clock: Clock) -> Self {
        let mut guest = Guest::new();
        let page = TrackedRegion::anonymous(PAGE_SIZE, HostOnly::default()).unwrap();
        let (at, to) = (SHARED_BASE, GuestPhys(0x2_0000_0000));
        let region = Arc::clone(&page);
        guest.space.add_window(Window { at, to, region, offset: 0, len: PAGE_SIZE, writable: false }).unwrap();
        let clock = ClockConfig { clock, page: Some(at), shares_counter: true };
        guest.process = LinuxProcess::new(
            ProcessConfig { stack_size: STACK_SIZE, chance: *b"dice", clock, policy: Policy::all() },
            Files::of_none(),
        );
        let mut world = Self { guest, page };
        world.call();
        world
    }

    /// The monotonic time; `None` where the page does not say it.
    fn read(&mut self, by_page: bool) -> Option<u64> {
        let clock = libc::CLOCK_MONOTONIC as usize;
        if by_page {
            let page = self.time_page();
            let elapsed = page.elapsed_to(counter()).filter(|_| page.clocks >> clock & 1 != 0)?;
            return Some(elapsed.wrapping_add(page.offsets[clock]));
        }
        self.guest.ok(nr::CLOCK_GETTIME, [clock as u64, DATA]);
        Some(self.guest.word(DATA) * 1_000_000_000 + self.guest.word(DATA + 8))
    }

    /// What the guest finds in its page.
    fn time_page(&self) -> TimePage {
        let mut bytes = [0; TimePage::LEN];
        self.page.read(0, &mut bytes).unwrap();
        let mut words = bytes.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap()));
        let [sequence, clocks, counter, ticks, multiplier, base, floor] = [(); 7].map(|()| words.next().unwrap());
        let offsets: [u64; CLOCKS] = words.collect::<Vec<_>>().try_into().unwrap();
        TimePage { sequence, clocks, counter, ticks, multiplier, base, floor, offsets }
    }

    fn sleep(&mut self, nanos: u64) {
        let request = self.guest.put_words(DATA, &[nanos / 1_000_000_000, nanos % 1_000_000_000]);
        self.guest.call(nr::NANOSLEEP, [request]);
    }

    fn call(&mut self) {
        self.guest.process.resume(&self.guest.space);
    }

    fn restore(&mut self, suspended: &Suspended) -> u64 {
        let (process, seen) = suspended.as_ref().unwrap();
        self.guest.process.restore(process);
        self.call();
        *seen
    }

    /// Goes on as another process from the snapshot, with a page that nothing was written to.
    fn spawn(&mut self, suspended: &Suspended) -> u64 {
        let (process, seen) = suspended.as_ref().unwrap();
        self.page.write(0, &[0; TimePage::LEN]).unwrap();
        self.guest.process = process.suspended();
        self.call();
        *seen
    }
}

/// The host's monotonic time, in nanoseconds.
fn host_time() -> u64 {
    host::now(host::HostClock::Monotonic).as_nanos() as u64
}

/// By how much the time that a process finds may be ahead of the host's, in nanoseconds: by far more than the error of the
/// pace, and by far less than what a sleep that never ends adds.
const TOLERANCE: u64 = 10_000_000;
