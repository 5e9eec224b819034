//! Functions have up to twelve parameters, as the tuples of the standard library do.

/// Expands a macro once for each number of parameters, with that many type names.
macro_rules! for_each_arity {
    ($each:ident) => {
        $each!();
        $each!(A);
        $each!(A B);
        $each!(A B C);
        $each!(A B C D);
        $each!(A B C D E);
        $each!(A B C D E F);
        $each!(A B C D E F G);
        $each!(A B C D E F G H);
        $each!(A B C D E F G H I);
        $each!(A B C D E F G H I J);
        $each!(A B C D E F G H I J K);
        $each!(A B C D E F G H I J K L);
    };
}

pub(crate) use for_each_arity;
