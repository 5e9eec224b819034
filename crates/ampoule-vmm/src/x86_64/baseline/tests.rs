use proptest::prelude::*;

use super::*;

#[test]
fn levels_build_on_one_another() {
    let [v1, v2, v3] = ["x86-64-v1", "x86-64-v2", "x86-64-v3"].map(|text| text.parse::<Baseline>().unwrap());
    assert_eq!(v1.features(), Vec::<&str>::new());
    assert!(v2.features().contains(&"sse4_2") && !v2.features().contains(&"avx"));
    assert!(v3.set().contains(v2.set()) && v3.features().contains(&"avx2"));
}

#[test]
fn what_a_feature_needs_comes_with_it() {
    let baseline: Baseline = "x86-64-v2+avx2".parse().unwrap();
    assert_eq!(baseline.to_string(), "x86-64-v2+xsave+avx+avx2");
    let text = "x86-64-v1+vaes".parse::<Baseline>().unwrap().to_string();
    assert_eq!(text, "x86-64-v1+pni+ssse3+sse4_1+sse4_2+aes+xsave+avx+vaes");
    assert_eq!("x86-64-v1+xsavec".parse::<Baseline>().unwrap().to_string(), "x86-64-v1+xsave+xsavec");
}

#[test]
fn nothing_comes_with_a_feature_that_needs_more() {
    for name in FeatureSet::all().names() {
        let baseline: Baseline = format!("x86-64-v1+{name}").parse().unwrap();
        for with in baseline.features() {
            let needed: Baseline = format!("x86-64-v1+{with}").parse().unwrap();
            assert!(baseline.set().contains(needed.set()), "{name} comes with {with}");
        }
    }
}

#[test]
fn what_is_no_baseline_is_refused_with_its_reason() {
    for (text, message) in [
        ("", "`` is no level"),
        ("x86-64-v4", "`x86-64-v4` is no level of a processor that guests can have: use `x86-64-v1`"),
        ("aes", "`aes` is no level"),
        ("x86-64-v2+", "`` is no feature that can be added"),
        ("x86-64-v2+avx512f", "`avx512f` is no feature that can be added to a level; these can: pni, "),
    ] {
        let error = text.parse::<Baseline>().unwrap_err();
        assert!(error.to_string().starts_with(message), "{text}: {error}");
    }
}

proptest! {
    #[test]
    fn it_is_read_as_it_is_written(
        level in 1..=3,
        extra in proptest::sample::subsequence(FeatureSet::all().names(), 0..FeatureSet::all().names().len())
    ) {
        let text = extra.iter().fold(format!("x86-64-v{level}"), |text, name| format!("{text}+{name}"));
        let baseline: Baseline = text.parse().unwrap();
        prop_assert!(baseline.set().contains(FeatureSet::of_names(&extra)));
        prop_assert_eq!(baseline.to_string().parse(), Ok(baseline));
    }
}
