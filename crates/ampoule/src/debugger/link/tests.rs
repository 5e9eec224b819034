use super::*;

const BROKEN_INTO: StopReason = StopReason::Signal(Signal::SIGINT);

fn link() -> (Link, UnixStream) {
    let (wake, woken) = UnixStream::pair().unwrap();
    (Link::new(wake).unwrap(), woken)
}

#[test]
fn a_guest_that_is_let_go_before_it_is_held_has_nothing_to_report() {
    let (link, _woken) = link();
    link.attach();
    let wishes = link.before_run();
    assert_eq!(wishes.client, Client::Stopped);

    link.resume(Resumption::default());
    link.hold(wishes.session, None);
    assert!(matches!(link.next_turn(false), (1, Turn::Resume(_))));
    assert_eq!(link.take_report(), None);
}

#[test]
fn a_break_in_that_comes_before_the_guest_is_held_is_not_lost() {
    let (link, _woken) = link();
    link.attach();
    let wishes = link.before_run();

    link.resume(Resumption::default());
    link.break_in();
    link.hold(wishes.session, None);
    assert!(matches!(link.next_turn(false), (1, Turn::Resume(_))));
    let wishes = link.before_run();
    assert!(wishes.break_in);
    link.hold(wishes.session, Some(BROKEN_INTO));
    assert_eq!(link.take_report(), Some(BROKEN_INTO));
    assert!(!link.before_run().break_in);
}

#[test]
fn what_was_to_be_told_to_one_debugger_is_not_told_to_the_next() {
    let (link, _woken) = link();
    link.attach();
    link.resume(Resumption::default());
    link.break_in();
    let wishes = link.before_run();

    link.detach();
    link.attach();
    link.resume(Resumption::default());
    link.hold(wishes.session, Some(BROKEN_INTO));
    assert_eq!(link.take_report(), None);
    assert!(matches!(link.next_turn(false), (2, Turn::Resume(_))));
}
