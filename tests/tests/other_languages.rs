//! The ABI is not Rust's: a guest written in C, from `docs/abi.md` alone.

use ampoule::{CallError, Image, Sandbox};

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
