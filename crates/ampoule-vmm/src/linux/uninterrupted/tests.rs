use super::*;

#[test]
fn a_call_that_is_interrupted_is_made_again_until_it_is_answered() {
    for interruptions in 0..4 {
        let mut attempts = 0;
        let answer = uninterrupted(|| {
            attempts += 1;
            if attempts > interruptions { Ok(attempts) } else { Err(io::Error::from_raw_os_error(libc::EINTR)) }
        });
        assert_eq!(answer.unwrap(), interruptions + 1);
    }
}

#[test]
fn any_other_error_is_the_answer() {
    let mut answers = [libc::EINTR, libc::ENOMEM].into_iter();
    let error = uninterrupted(|| Err::<(), _>(io::Error::from_raw_os_error(answers.next().unwrap()))).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOMEM));
    let mut answers = [libc::EAGAIN, libc::ENOMEM].into_iter();
    let error = uninterrupted(|| Err::<(), _>(kvm_ioctls::Error::new(answers.next().unwrap()))).unwrap_err();
    assert_eq!(error.errno(), libc::EAGAIN);
}

#[test]
fn signals_wait_from_the_second_attempt_on_and_no_longer() {
    let mut blocked = Vec::new();
    let before = blocked_signals();
    let answer = uninterrupted(|| {
        blocked.push(blocked_signals());
        if blocked.len() < 4 { Err(io::Error::from_raw_os_error(libc::EINTR)) } else { Ok(()) }
    });
    answer.unwrap();
    assert_eq!(blocked[0], before);
    for during in &blocked[1..] {
        assert!([libc::SIGINT, libc::SIGALRM, libc::SIGPROF, libc::SIGRTMIN()].iter().all(|it| during.contains(it)));
    }
    assert_eq!(blocked_signals(), before);
}

fn blocked_signals() -> Vec<libc::c_int> {
    let mut set = MaybeUninit::uninit();
    // SAFETY: without a new set the call only fills the old one.
    let set = unsafe {
        assert_eq!(libc::pthread_sigmask(libc::SIG_BLOCK, ptr::null(), set.as_mut_ptr()), 0);
        set.assume_init()
    };
    // SAFETY: the set is initialized.
    (1..=64).filter(|signal| unsafe { libc::sigismember(&raw const set, *signal) } == 1).collect()
}
