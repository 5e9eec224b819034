use super::*;
use crate::testing::TestDir;

#[test]
fn an_image_that_exists_is_embedded_under_the_name_it_is_given() {
    let dir = TestDir::new();
    dir.write("host/images/filter.elf", "image");
    let mut inputs = Inputs::default();
    let artifact = prebuilt("filter", "images/filter.elf").build_in(&dir.build_script(), &mut inputs).unwrap();
    assert_eq!((artifact.name(), fs::read(artifact.path()).unwrap().as_slice()), ("filter", b"image".as_slice()));
    let input = format!("cargo:rerun-if-changed={}", dir.path().join("host/images/filter.elf").display());
    assert_eq!(inputs.directives().collect::<Vec<_>>(), [input]);
}

#[test]
fn an_image_that_the_build_script_has_made_is_no_reason_to_run_it_again() {
    let dir = TestDir::new();
    let (script, mut inputs) = (dir.build_script(), Inputs::default());
    prebuilt("filter", dir.write("out/filter", "image")).build_in(&script, &mut inputs).unwrap();
    assert_eq!(inputs.directives().count(), 0);
}

#[test]
fn a_missing_image_is_named_with_its_path_and_cause() {
    let dir = TestDir::new();
    let result = prebuilt("filter", "images/filter.elf").build_in(&dir.build_script(), &mut Inputs::default());
    let message = result.unwrap_err().to_string();
    assert!(message.contains("host/images/filter.elf` (No such file"), "{message}");
}

#[test]
fn a_name_that_would_lead_elsewhere_is_refused() {
    let dir = TestDir::new();
    let image = dir.write("image", "");
    for name in ["", "..", "../image", "a=b", "a\nb", "a\0b", "`"] {
        let result = prebuilt(name, &image).build_in(&dir.build_script(), &mut Inputs::default());
        assert!(matches!(result, Err(BuildError::InvalidName { .. })), "{name:?}: {result:?}");
    }
}

#[test]
fn a_directory_of_images_is_listed_without_what_cannot_be_one() {
    let dir = TestDir::new();
    for file in ["guests/two", "guests/one", "guests/.gitignore", "guests/sources/main.rs"] {
        dir.write(file, "");
    }
    assert_eq!(names_in(&dir.path().join("guests")), ["one", "two"]);
    assert!(names_in(&dir.path().join("none")).is_empty());
}
