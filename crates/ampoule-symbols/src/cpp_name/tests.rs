use proptest::prelude::*;

use super::*;

#[track_caller]
fn check(names: &[(&str, &str)]) {
    for (symbol, name) in names {
        assert_eq!(demangle(symbol, LIMIT).as_deref(), Some(*name), "{symbol}");
    }
}

#[test]
fn scopes_and_special_members_are_named() {
    check(&[
        ("_Z3usev", "use"),
        ("_ZN5space3useEv", "space::use"),
        ("_ZN5space12_GLOBAL__N_16hiddenEv", "space::(anonymous namespace)::hidden"),
        ("_ZNKR5space1A1mEv", "space::A::m"),
        ("_ZN5space1AC2Ev", "space::A::A"),
        ("_ZN5space1AD0Ev", "space::A::~A"),
        ("_ZN5space1A1sE", "space::A::s"),
        ("_ZNSt6thread6_StateD2Ev", "std::thread::_State::~_State"),
        ("_ZNSsC1EPKc", "std::string::string"),
        ("_ZN3fooB5cxx11Ev", "foo[abi:cxx11]"),
        ("_ZN1AIiEC2Ev", "A<int>::A"),
        ("_Z7größev", "größe"),
    ]);
}

#[test]
fn operators_are_named() {
    check(&[
        ("_ZN5space1AaSEOS0_", "space::A::operator="),
        ("_ZNK5space1AclEi", "space::A::operator()"),
        ("_ZNK5space1AltERKS0_", "space::A::operator<"),
        ("_ZN5space1AnwEm", "space::A::operator new"),
        ("_ZN5spaceli3_kmEy", "space::operator\"\" _km"),
        ("_ZNK1AcvbEv", "A::operator bool"),
        ("_ZStlsISt11char_traitsIcEERSt13basic_ostreamIcT_ES5_PKc", "std::operator<< <std::char_traits<char>>"),
    ]);
}

#[test]
fn template_arguments_are_shown() {
    check(&[
        ("_ZNSt6vectorIiSaIiEE9push_backEOi", "std::vector<int, std::allocator<int>>::push_back"),
        ("_ZN5space7numbersILin3ELb1ELc120ELm7EEEvv", "space::numbers<-3, true, (char)120, 7ul>"),
        ("_ZN5space8callbackIXadL_ZNS_6targetEiEEEEvv", "space::callback<&space::target>"),
        ("_ZN5space2ttISt6vectorEEvv", "space::tt<std::vector>"),
        ("_ZN4packIJiPcRKSsEEEvDpT_", "pack<int, char*, std::string const&>"),
        ("_ZN1fILDn0EEEvv", "f<nullptr>"),
    ]);
}

#[test]
fn types_are_written_as_in_a_declaration() {
    check(&[
        ("_ZN2tyIPVKiEEvv", "ty<int const volatile*>"),
        ("_ZN2tyIPFicEEEvv", "ty<int (*)(char)>"),
        ("_ZN2tyIPFPFvvEiEEEvv", "ty<void (*(*)(int))()>"),
        ("_ZN2tyIRA3_iEEvv", "ty<int (&) [3]>"),
        ("_ZN2tyIA2_A3_iEEvv", "ty<int [2][3]>"),
        ("_ZN2tyIM1AiEEvv", "ty<int A::*>"),
        ("_ZN2tyIM1AKFviEEEvv", "ty<void (A::*)(int) const>"),
        ("_ZN2tyIDoFivEEEvv", "ty<int () noexcept>"),
        ("_ZN2tyIDv4_fEEvv", "ty<float __vector(4)>"),
        ("_ZN2tyISt8functionIFviEEEEvv", "ty<std::function<void (int)>>"),
    ]);
}

#[test]
fn what_is_declared_in_a_function_is_named_after_it() {
    check(&[
        ("_ZZ3usevE1s", "use::s"),
        ("_ZZ3useiENKUlT_E_clIcEEDaS0_", "use::{lambda(auto)#1}::operator()<char>"),
        ("_ZZN1A1fEvENKUlvE0_clEv", "A::f::{lambda()#2}::operator()"),
        ("_ZZ4lastIiEvT_EN1LC1Ev", "last<int>::L::L"),
        ("_ZNUt_1fEv", "{unnamed type#1}::f"),
    ]);
}

#[test]
fn what_the_compiler_makes_says_what_for() {
    check(&[
        ("_ZThn16_N1A1fEv", "non-virtual thunk to A::f"),
        ("_ZTv0_n24_N1A1fEv", "virtual thunk to A::f"),
        ("_ZTch0_v0_n24_N1A1fEv", "covariant return thunk to A::f"),
        ("_ZTV1A", "vtable for A"),
        ("_ZGVZ3usevE1s", "guard variable for use::s"),
        ("_ZTW1x", "TLS wrapper function for x"),
        ("_ZN1A1fEv.cold", "A::f [clone .cold]"),
        ("_ZN1A1fEv.part.0.isra.1", "A::f [clone .part.0.isra.1]"),
    ]);
}

#[test]
fn what_is_no_name_of_cpp_is_refused() {
    for symbol in [
        "",
        "_Z",
        "memcpy",
        "_Z0v",
        "_Z9shortv",
        "_ZN1A",
        "_ZNE",
        "_ZS_",
        "_ZN1AIT_EE",
        "_Z1fIXplLi1ELi2EEEvv",
        "_Z1fIS99999999999999999999_E",
        "_Z1fIS+1_E",
        "_Z1fITzzzzz_E",
        "_Z18446744073709551617f",
        "_Z1äv",
        "_ZC1v",
        "_ZZ1fvE",
    ] {
        assert_eq!(demangle(symbol, LIMIT), None, "{symbol}");
    }
}

#[test]
fn a_short_symbol_cannot_grow_into_a_long_name() {
    // Each argument holds the one before it twice.
    let mut doubling = String::from("_Z1fI1aIiiE");
    for before in 1..40 {
        // A template's name and the type that is made from it are referred to by numbers in base 36.
        let number = base_36(2 * before - 1);
        doubling += &format!("1bIS{number}_S{number}_E");
    }
    let name = demangle(&(doubling + "E"), LIMIT).unwrap();
    assert!(name.starts_with("f<a<int, int>, b<a<int, int>, a<int, int>>, ") && name.len() <= LIMIT + 4, "{name}");
}

#[test]
fn names_that_are_nested_without_end_are_refused() {
    for (open, within, close) in [
        ("P", "i", ""),
        ("KP", "i", ""),
        ("F", "v", "vE"),
        ("A1_", "i", ""),
        ("M1a", "i", ""),
        ("1aI", "i", "E"),
        ("N1aI", "i", "EE"),
        ("J", "i", "E"),
        ("Xad", "L1fE", "E"),
        ("L_Z1fI", "i", "EvvE"),
        ("Z1fI", "i", "EvvE1x"),
        ("Dp", "i", ""),
    ] {
        for depth in [200, 1000] {
            let symbol = format!("_Z1fI{}{within}{}Evv", open.repeat(depth), close.repeat(depth));
            assert_eq!(demangle(&symbol, LIMIT), None, "{open}");
        }
    }
}

#[test]
fn names_of_parts_without_end_are_refused() {
    for parts in ["1a".repeat(2000), "1aIiE".repeat(800), format!("1aI{}E", "PFvvE".repeat(800))] {
        assert_eq!(demangle(&format!("_ZN{parts}E"), LIMIT), None);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_a_symbol_says_its_name_is_bounded(
        codes in prop::collection::vec(prop::sample::select(CODES), 0..64),
        times in 1..20_usize,
    ) {
        let symbol = format!("_Z{}", codes.concat().repeat(times));
        if let Some(name) = demangle(&symbol, LIMIT) {
            prop_assert!(name.len() <= LIMIT + 4, "{symbol}: {name}");
        }
    }
}

fn base_36(number: usize) -> String {
    let digit = |digit: usize| char::from_digit(digit as u32, 36).unwrap().to_ascii_uppercase();
    if number < 36 { digit(number).into() } else { base_36(number / 36) + &digit(number % 36).to_string() }
}

const CODES: &[&str] = &[
    "N", "E", "I", "J", "S_", "S0_", "S1_", "St", "Sa", "T_", "T0_", "1a", "2bc", "i", "v", "P", "R", "O", "K", "F",
    "A3_", "M", "L", "Li1E", "L_Z", "Z", "Ul", "Ut_", "_", "C1", "D1", "cv", "pl", "Dp", "Do", "Dv4_", "X", "Xad",
    "Tv0_n1_", "TV", "GV", "B1t", "ä", ".", "9", "0", "s",
];

const LIMIT: usize = 512;
