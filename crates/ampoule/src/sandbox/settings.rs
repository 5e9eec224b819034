//! A call with limits of its own.

use std::time::Duration;

use crate::limits::Limits;

/// A call of a guest function by name, with limits of its own; made by [`Call::new`], carried out by
/// [`Sandbox::call_with`](crate::Sandbox::call_with).
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let image = ampoule::Image::from_file("guest")?;
/// # let mut sandbox = ampoule::Sandbox::builder(&image).build()?;
/// use std::time::Duration;
///
/// use ampoule::Call;
///
/// let answer: u32 = sandbox.call_with(Call::new("think", (7u32,)).deadline(Duration::from_millis(50)))?;
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use = "a call is made by `Sandbox::call_with`"]
pub struct Call<'name, A> {
    pub(super) name: &'name str,
    pub(super) arguments: A,
    pub(super) limits: Limits,
}

impl<'name, A> Call<'name, A> {
    /// A call of this function with these arguments, within the sandbox's limits.
    pub fn new(name: &'name str, arguments: A) -> Self {
        Self { name, arguments, limits: Limits::new() }
    }

    /// Limits of this call; where these set none, the sandbox's apply.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// How much wall-clock time this call may take; see [`Limits::deadline`].
    pub fn deadline(mut self, time: Duration) -> Self {
        self.limits = self.limits.deadline(time);
        self
    }
}
