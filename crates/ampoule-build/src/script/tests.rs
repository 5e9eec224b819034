use std::path::Path;

use crate::testing::TestDir;

#[test]
fn guests_are_built_beside_the_directories_of_all_build_scripts() {
    let guests_dir = |out_dir: &str| {
        let mut script = TestDir::new().build_script();
        script.out_dir = out_dir.into();
        script.guests_dir()
    };
    let shared = Path::new("/w/target/debug/ampoule-guests");
    assert_eq!(guests_dir("/w/target/debug/build/host-0123/out"), shared);
    assert_eq!(guests_dir("/w/target/debug/build/host-4567/out"), shared);
    assert_eq!(guests_dir("/w/target/debug/build/host/4567/out"), shared);
    assert_eq!(
        guests_dir("/build/somewhere/quite/else/out"),
        Path::new("/build/somewhere/quite/else/out/ampoule-guests")
    );
}
