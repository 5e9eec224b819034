use super::*;

#[test]
fn each_limit_is_told_by_its_own_name() {
    for (errno, name) in [
        (libc::EMFILE, "`ulimit -n`"),
        (libc::ENFILE, "`fs.file-max`"),
        (libc::ENOMEM, "`vm.max_map_count`"),
        (libc::ENOMEM, "`ulimit -v`"),
        (libc::EAGAIN, "`ulimit -l`"),
        (libc::EFBIG, "`ulimit -f`"),
        (libc::EPERM, "seccomp"),
        (libc::ENOSYS, "seccomp"),
    ] {
        let error = io::Error::from_raw_os_error(errno);
        let text = WithAdvice(&error).to_string();
        assert!(text.starts_with(&error.to_string()) && text.contains(name), "{text}");
    }
}

#[test]
fn the_name_of_a_call_does_not_hide_the_reason() {
    let error = named::<()>("memfd_create", Err(io::Error::from_raw_os_error(libc::EMFILE))).unwrap_err();
    let text = WithAdvice(&error).to_string();
    assert!(text.starts_with("`memfd_create`: Too many open files"), "{text}");
    assert!(text.contains("`ulimit -n`") && is_shortage(&error), "{text}");
}

#[test]
fn where_nothing_is_known_nothing_is_advised() {
    for error in [io::Error::from_raw_os_error(libc::EINVAL), io::Error::other("injected")] {
        assert_eq!(WithAdvice(&error).to_string(), error.to_string());
        assert!(!is_shortage(&error));
    }
}
