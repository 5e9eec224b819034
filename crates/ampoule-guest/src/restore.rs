//! How a guest finds out that its host has restored it to an earlier state.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::{rt, testing};

/// The guest's generation: another one whenever the host has restored the guest.
///
/// The host restores a guest when it resets or restores its sandbox, and when it makes a sandbox from a snapshot. Guests
/// that come from the same snapshot have different generations. Whoever keeps something that no two of them may share
/// keeps the generation beside it, and renews it when the two differ; [`on_restore`] does so without a comparison at
/// each use.
///
/// The generation says only whether two moments belong to the same run of the guest. It is neither secret nor random, and
/// generations have no order. It does not change while a function of the guest runs. Reading it is a load from memory. It
/// is 0 where the host's version of the ABI is 1.0, which has none.
///
/// Without a sandbox it is 1, and [`testing::restore`] changes it.
///
/// ```
/// use std::cell::Cell;
///
/// #[derive(Clone, Copy)]
/// struct Session {
///     id: u64,
///     generation: u64,
/// }
///
/// #[ampoule_guest::import]
/// fn new_session() -> u64;
///
/// fn session() -> u64 {
///     thread_local! {
///         static CURRENT: Cell<Option<Session>> = const { Cell::new(None) };
///     }
///     let generation = ampoule_guest::generation();
///     let current = CURRENT.get().filter(|session| session.generation == generation);
///     let session = current.unwrap_or_else(|| Session { id: new_session(), generation });
///     CURRENT.set(Some(session));
///     session.id
/// }
///
/// # let mut sessions = 0u64;
/// # let _new_session = ampoule_guest::testing::provide("new_session", move || {
/// #     sessions += 1;
/// #     sessions
/// # });
/// assert_eq!((session(), session()), (1, 1));
/// ampoule_guest::testing::restore();
/// assert_eq!(session(), 2);
/// ```
pub fn generation() -> u64 {
    rt::generation().unwrap_or_else(testing::generation)
}

/// Has a function called once after the host has restored the guest, before the next exported function runs.
///
/// A hook renews what must not be the same in two guests that come from one state, such as the seed of a random
/// number generator:
///
/// ```
/// # mod getrandom {
/// #     pub fn u64() -> std::io::Result<u64> {
/// #         let mut bytes = [0; 8];
/// #         // SAFETY: writes to the array, at most its length.
/// #         let read = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
/// #         if read == 8 { Ok(u64::from_ne_bytes(bytes)) } else { Err(std::io::Error::last_os_error()) }
/// #     }
/// # }
/// use std::cell::Cell;
///
/// thread_local! {
///     static STATE: Cell<u64> = const { Cell::new(1) };
/// }
///
/// /// A throw of a die, by a generator that nobody should bet money on.
/// #[ampoule_guest::export]
/// fn throw() -> u64 {
///     let mut state = STATE.get();
///     state ^= state << 13;
///     state ^= state >> 7;
///     state ^= state << 17;
///     STATE.set(state);
///     state % 6 + 1
/// }
///
/// /// The host is asked for every random number, so this one is never the same twice.
/// fn seed() {
///     STATE.set(getrandom::u64().expect("random numbers from the host") | 1);
/// }
///
/// ampoule_guest::main!(|| {
///     seed();
///     ampoule_guest::on_restore(seed);
/// });
/// # ampoule_guest::on_restore(seed);
/// # ampoule_guest::testing::restore();
/// # assert_ne!(STATE.get(), 1);
/// # assert!((1..=6).contains(&throw()));
/// ```
///
/// # When hooks run
///
/// Not before the first call of a guest that was started and not restored. Otherwise before the next call that reaches an
/// exported function, in the order in which they were registered; once, however often the guest was restored in between.
/// With no hook to run, a call pays for the comparison of two numbers. A host whose version of the ABI is 1.0 does not
/// announce that it restores a guest, and no hook runs there ([`generation`] is 0).
///
/// A hook is part of the call before whose function it runs: it may call the host, the call's limits count what it uses,
/// and where it panics, the call ends as if the function had, without running the hooks after it and the function. The
/// guest is not used half-prepared: the next call begins with the hooks again, from the first. So a hook that has run
/// already may run once more, and must not mind.
///
/// # Which hooks run
///
/// Hooks lie in the guest's memory like all of its state: a guest that is restored has the hooks that it had in the state
/// it goes back to, and no later one. Those that [`main!`](crate::main) registers while it prepares the guest are in
/// every state to which a host can go back. One that is registered later, for example by a library when it is used for
/// the first time, is in the states since then, in which what it cares for exists. Registering does not call the hook,
/// not even in a guest that was restored before; a hook that a hook registers waits for the next time. There is no way to
/// take a hook back.
///
/// Hooks belong to the thread that registers them, which matters only in tests: a guest has one thread.
pub fn on_restore(hook: impl Fn() + 'static) {
    HOOKS.with_borrow_mut(|hooks| hooks.push(Rc::new(hook)));
    REGISTERED.set(REGISTERED.get() + 1);
}

/// Compares the generation with the one for which the hooks have run.
#[derive(Debug)]
pub(crate) struct Watch {
    settled: u64,
}

impl Watch {
    /// For a guest that is being started, and needs no hook.
    pub(crate) fn start() -> Self {
        Self { settled: generation() }
    }

    /// Runs the hooks if the guest was restored since they did.
    ///
    /// # Panics
    ///
    /// Where a hook does. The hooks are due again then.
    pub(crate) fn settle(&mut self) {
        let current = generation();
        if current != self.settled {
            run_hooks();
            self.settled = current;
        }
    }
}

/// Runs the hooks that are registered when it begins.
pub(crate) fn run_hooks() {
    // Each is taken out by itself, so that it may register others while it runs.
    for index in 0..REGISTERED.get() {
        let hook = HOOKS.with_borrow(|hooks| Rc::clone(&hooks[index]));
        hook();
    }
}

thread_local! {
    static HOOKS: RefCell<Vec<Rc<dyn Fn()>>> = const { RefCell::new(Vec::new()) };
    /// How many hooks there are. To look here first keeps a guest without any from writing memory.
    static REGISTERED: Cell<usize> = const { Cell::new(0) };
}
