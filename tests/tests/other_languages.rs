//! The ABI is not Rust's: a guest written in C, from `docs/abi.md` alone.

use std::io;

use ampoule::{CallError, Image, Output, Reader, Sandbox, Writer};

fn images() -> [Image; 2] {
    [
        Image::embedded(ampoule::include_guest!("c-fixed")).unwrap(),
        Image::embedded(ampoule::include_guest!("c-pie")).unwrap(),
    ]
}

fn sandbox(image: &Image, day: impl Fn(u32) -> Result<String, String> + Send + 'static) -> Sandbox {
    Sandbox::builder(image).try_host_fn("weekday", move |number: u32| day(number)).build().unwrap()
}

#[test]
fn a_guest_in_c_is_called_and_calls() {
    for image in images() {
        let mut sandbox = sandbox(&image, |number| Ok(["Sunday", "Monday"][number as usize].to_string()));
        assert_eq!(sandbox.call::<u32>("add", (40u32, 2u32)).unwrap(), 42);
        for _ in 0..3 {
            assert_eq!(sandbox.call::<String>("greet", ("World",)).unwrap(), "Hello, World on Monday");
        }
    }
}

#[test]
fn it_reads_and_writes_streams() {
    for image in images() {
        let mut sandbox = sandbox(&image, |_| Ok("Monday".to_string()));
        for length in [0, 1, 1000, 12_345] {
            let (input, mut output) = ("whispered ".repeat(length / 10 + 1), Vec::new());
            let streams = (Reader::new(&input.as_bytes()[..length]), Writer::new(&mut output));
            assert_eq!(sandbox.call::<u64>("shout", streams).unwrap(), length as u64);
            assert_eq!(output, input.to_uppercase().as_bytes()[..length]);
        }
        let mut small = [0; 1500];
        let streams = (Reader::new(io::repeat(b'a')), Writer::new(&mut small[..]));
        let error = sandbox.call::<u64>("shout", streams).unwrap_err();
        assert!(matches!(&error, CallError::Function { message, .. } if message == "a stream failed"), "{error}");
    }
}

#[test]
fn what_it_prints_arrives_by_system_calls_and_without() {
    for image in images() {
        let (stdout, out) = Output::capture(1 << 20);
        let (stderr, err) = Output::capture(1 << 20);
        let mut sandbox = sandbox(&image, |_| Ok("Monday".to_string()));
        sandbox.set_stdout(stdout);
        sandbox.set_stderr(stderr);
        let exits = |sandbox: &mut Sandbox| sandbox.stats().unwrap().exits;
        let before = exits(&mut sandbox);
        sandbox.call::<u32>("add", (40u32, 2u32)).unwrap();
        assert_eq!((exits(&mut sandbox) - before, err.take_string()), (2, "adding\n".into()));
        let before = exits(&mut sandbox);
        sandbox.call::<String>("greet", ("World",)).unwrap();
        assert_eq!(exits(&mut sandbox) - before, 2, "the host call and the return");
        assert_eq!(
            (out.take_string(), err.take_string()),
            ("asking for the day\ngreeting\n".into(), "there is one\n".into())
        );
    }
}

#[test]
fn its_errors_are_errors() {
    for image in images() {
        let mut sandbox = sandbox(&image, |_| Err("the calendar is lost".to_string()));
        let error = sandbox.call::<String>("greet", ("World",)).unwrap_err();
        assert!(matches!(&error, CallError::Function { message, .. } if message.starts_with("no day")), "{error}");
        let error = sandbox.call::<u32>("add", (1u32,)).unwrap_err();
        assert!(matches!(error, CallError::WrongArguments { .. }), "{error}");
        assert_eq!(sandbox.call::<u32>("add", (1u32, 1u32)).unwrap(), 2);
    }
}
