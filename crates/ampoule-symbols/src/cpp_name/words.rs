//! The words of the language that have codes of their own.

/// The type that a letter stands for.
pub(super) fn builtin(code: u8) -> Option<&'static str> {
    Some(match code {
        b'v' => "void",
        b'w' => "wchar_t",
        b'b' => "bool",
        b'c' => "char",
        b'a' => "signed char",
        b'h' => "unsigned char",
        b's' => "short",
        b't' => "unsigned short",
        b'i' => "int",
        b'j' => "unsigned int",
        b'l' => "long",
        b'm' => "unsigned long",
        b'x' => "long long",
        b'y' => "unsigned long long",
        b'n' => "__int128",
        b'o' => "unsigned __int128",
        b'f' => "float",
        b'd' => "double",
        b'e' => "long double",
        b'g' => "__float128",
        b'z' => "...",
        _ => return None,
    })
}

/// The type that a letter behind a `D` stands for.
pub(super) fn later_builtin(code: u8) -> Option<&'static str> {
    Some(match code {
        b'd' => "decimal64",
        b'e' => "decimal128",
        b'f' => "decimal32",
        b'h' => "half",
        b'i' => "char32_t",
        b's' => "char16_t",
        b'u' => "char8_t",
        b'a' => "auto",
        b'c' => "decltype(auto)",
        b'n' => "decltype(nullptr)",
        _ => return None,
    })
}

/// What marks a literal of this type, where the literal is not written with its type.
pub(super) fn literal_suffix(code: u8) -> Option<&'static str> {
    Some(match code {
        b'i' => "",
        b'j' => "u",
        b'l' => "l",
        b'm' => "ul",
        b'x' => "ll",
        b'y' => "ull",
        _ => return None,
    })
}

/// The operator of a code of two letters, as it stands behind `operator`.
pub(super) fn operator(code: &str) -> Option<&'static str> {
    OPERATORS.iter().find(|(other, _)| *other == code).map(|(_, operator)| *operator)
}

/// The class in `std` that a letter behind an `S` stands for.
pub(super) fn standard_class(code: u8) -> Option<&'static str> {
    Some(match code {
        b'a' => "allocator",
        b'b' => "basic_string",
        b's' => "string",
        b'i' => "istream",
        b'o' => "ostream",
        b'd' => "iostream",
        _ => return None,
    })
}

const OPERATORS: [(&str, &str); 51] = [
    ("nw", " new"),
    ("na", " new[]"),
    ("dl", " delete"),
    ("da", " delete[]"),
    ("aw", " co_await"),
    ("ps", "+"),
    ("ng", "-"),
    ("ad", "&"),
    ("de", "*"),
    ("co", "~"),
    ("pl", "+"),
    ("mi", "-"),
    ("ml", "*"),
    ("dv", "/"),
    ("rm", "%"),
    ("an", "&"),
    ("or", "|"),
    ("eo", "^"),
    ("aS", "="),
    ("pL", "+="),
    ("mI", "-="),
    ("mL", "*="),
    ("dV", "/="),
    ("rM", "%="),
    ("aN", "&="),
    ("oR", "|="),
    ("eO", "^="),
    ("ls", "<<"),
    ("rs", ">>"),
    ("lS", "<<="),
    ("rS", ">>="),
    ("eq", "=="),
    ("ne", "!="),
    ("lt", "<"),
    ("gt", ">"),
    ("le", "<="),
    ("ge", ">="),
    ("ss", "<=>"),
    ("nt", "!"),
    ("aa", "&&"),
    ("oo", "||"),
    ("pp", "++"),
    ("mm", "--"),
    ("cm", ","),
    ("pm", "->*"),
    ("pt", "->"),
    ("cl", "()"),
    ("ix", "[]"),
    ("qu", "?"),
    ("st", " sizeof"),
    ("sz", " sizeof"),
];
