//! Groups of system calls that a process does not have.

use crate::policy::CallGroup;

use super::*;

#[test]
fn a_group_that_is_withheld_is_refused_and_counted() {
    for (group, number, errno) in [
        (CallGroup::Memory, nr::MMAP, Errno::ENOMEM),
        (CallGroup::Files, nr::OPENAT, Errno::EACCES),
        (CallGroup::Time, nr::CLOCK_GETTIME, Errno::EPERM),
        (CallGroup::Random, nr::GETRANDOM, Errno::ENOSYS),
        (CallGroup::Signals, nr::KILL, Errno::EPERM),
        (CallGroup::Pipes, nr::PIPE2, Errno::EMFILE),
    ] {
        let mut guest = Guest::new();
        let state = Arc::make_mut(&mut guest.process.state);
        state.config.policy = Policy::all().without(group);
        for _ in 0..2 {
            assert_eq!(guest.call(number, []), Outcome::Return(errno.result()), "{group:?}");
        }
        guest.ok(nr::GETPID, []);
        let [refused] = guest.process.refused().try_into().unwrap();
        assert_eq!((refused.number, refused.count, refused.needs), (number, 2, Some(group.name())));
        assert_eq!(refused.to_string(), format!("{} ({})", groups::name(number).unwrap(), group.name()));
    }
}
