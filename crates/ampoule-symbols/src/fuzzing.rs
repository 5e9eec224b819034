//! Entries for the fuzz targets (`fuzz/`). They are there only under `cargo fuzz`.

/// What a backtrace shows for a symbol.
pub fn function_name(symbol: &[u8]) -> String {
    crate::text::function_name(symbol)
}
