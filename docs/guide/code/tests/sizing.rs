//! What a sandbox takes of its process, as the guide's table says. The only test of its process, whose descriptors and
//! threads it counts.

use std::error::Error;
use std::fs;

use ampoule::{Image, Pool, Sandbox};

#[test]
fn a_sandbox_takes_descriptors_and_no_thread_but_the_kernels() -> Result<(), Box<dyn Error>> {
    let image = Image::embedded(ampoule::include_guest!("dictionary"))?;
    let before = threads();
    let mut first = Sandbox::builder(&image).build()?;
    let descriptors = descriptors_beyond(0);

    let mut built = Sandbox::builder(&image).build()?;
    assert_eq!(built.call::<String>("parse", ("word",))?, "");
    assert_eq!(descriptors_beyond(descriptors), 4);
    drop(built);
    assert_eq!(descriptors_beyond(descriptors), 0);

    first.call::<()>("load_dictionary", (vec!["word"],))?;
    let snapshot = first.snapshot()?;
    assert_eq!(descriptors_beyond(descriptors), 2);
    let pool = Pool::new(&snapshot, 10)?;
    assert_eq!(descriptors_beyond(descriptors), 2 + 10 * 2);

    let mut taken: Vec<_> = (0..10).map(|_| pool.take()).collect::<Result<_, _>>()?;
    for sandbox in &mut taken {
        assert_eq!(sandbox.call::<String>("parse", ("a word",))?, "word");
    }
    drop(taken);
    let (of_process, of_kernel) = threads();
    assert_eq!(of_process, before.0);
    assert!(of_kernel <= 1 + 10, "{of_kernel}");
    Ok(())
}

fn descriptors_beyond(known: usize) -> usize {
    fs::read_dir("/proc/self/fd").expect("the descriptors").count() - known
}

/// The threads of the process, and those that the kernel runs in it for its virtual machines.
fn threads() -> (usize, usize) {
    let tasks = fs::read_dir("/proc/self/task").expect("the threads").map(|task| task.expect("a thread").path());
    let names = tasks.map(|task| fs::read_to_string(task.join("comm")).expect("its name"));
    let (of_kernel, of_process): (Vec<_>, Vec<_>) = names.partition(|name| name.starts_with("kvm-"));
    (of_process.len(), of_kernel.len())
}
