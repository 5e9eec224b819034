use super::*;
use crate::testing::TestDir;

#[test]
fn dep_info_lists_paths_with_spaces() {
    let text = "/out/release/guest: /a/Cargo.toml /b\\ c/d\\ \\ e.rs /f/src/main.rs\n";
    let expected: Vec<PathBuf> = ["/a/Cargo.toml", "/b c/d  e.rs", "/f/src/main.rs"].map(PathBuf::from).into();
    assert_eq!(parse_dep_info(text), expected);
}

#[test]
fn dep_info_without_prerequisites_lists_nothing() {
    assert!(parse_dep_info("/out/release/guest:\n").is_empty());
    assert!(parse_dep_info("").is_empty());
}

#[test]
fn the_tree_of_a_package_is_its_sources() {
    let dir = TestDir::new();
    for file in ["build.rs", "src/main.rs", "target/debug/x", ".git/HEAD", "out/ampoule/x"] {
        dir.write(file, "");
    }
    let mut inputs = Inputs::default();
    inputs.add_tree(dir.path(), &dir.path().join("out/build/host"));
    let expected = ["build.rs", "src"].map(|name| dir.path().join(name));
    assert_eq!(inputs.paths, BTreeSet::from(expected));
}

#[test]
fn a_build_script_that_names_a_variable_only_reads_no_files() {
    let dir = TestDir::new();
    let out_dir = dir.path().join("out");
    dir.write("output", "cargo:rustc-cfg=fast\ncargo::rerun-if-env-changed=CC\n");
    assert!(names_inputs(&out_dir));
    dir.write("output", "cargo:rustc-cfg=fast\n");
    assert!(!names_inputs(&out_dir));
}
