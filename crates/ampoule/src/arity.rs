//! Functions have up to 32 parameters, as many as the attributes of guests let them have.

/// Expands a macro once for each number of parameters, with that many type names.
macro_rules! for_each_arity {
    ($each:ident) => {
        $crate::arity::for_each_arity! {
            $each []
            P1 P2 P3 P4 P5 P6 P7 P8 P9 P10 P11 P12 P13 P14 P15 P16 P17 P18 P19 P20 P21 P22 P23 P24 P25 P26
            P27 P28 P29 P30 P31 P32
        }
    };
    ($each:ident [$($name:ident)*] $next:ident $($rest:ident)*) => {
        $each!($($name)*);
        $crate::arity::for_each_arity!($each [$($name)* $next] $($rest)*);
    };
    ($each:ident [$($name:ident)*]) => {
        $each!($($name)*);
    };
}

pub(crate) use for_each_arity;
