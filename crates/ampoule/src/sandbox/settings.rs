//! A call with limits and data of its own.

use std::time::Duration;

use crate::host_function::CallData;
use crate::limits::Limits;

/// A call of a guest function by name, with limits and data of its own; made by [`Call::new`], carried out by
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
#[derive(Debug)]
#[must_use = "a call is made by `Sandbox::call_with`"]
pub struct Call<'call, A> {
    pub(super) name: &'call str,
    pub(super) arguments: A,
    pub(super) limits: Limits,
    pub(super) data: Option<CallData<'call>>,
}

impl<'call, A> Call<'call, A> {
    /// A call of this function with these arguments, within the sandbox's limits, without data.
    pub fn new(name: &'call str, arguments: A) -> Self {
        Self { name, arguments, limits: Limits::new(), data: None }
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

    /// What host functions of [`Builder::host_fn_with`](crate::Builder::host_fn_with) work with in this call: who asks, a
    /// budget, a transaction. They borrow it until the call returns; the guest does not see it, and nothing of it stays in the
    /// sandbox.
    ///
    /// A call without the data that the sandbox's host functions work with is refused before the guest runs
    /// ([`CallError::WrongData`](crate::CallError::WrongData)). Data that none of them works with does no harm.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let image = ampoule::Image::from_file("guest")?;
    /// use ampoule::{Call, Sandbox};
    ///
    /// struct Request {
    ///     tenant: String,
    ///     lookups: u32,
    /// }
    ///
    /// let mut sandbox = Sandbox::builder(&image)
    ///     .host_fn_with("price", |request: &mut Request, item: String| {
    ///         request.lookups += 1;
    ///         if request.tenant == "north" { 250u64 } else { 400 }
    ///     })
    ///     .build()?;
    ///
    /// let mut request = Request { tenant: "north".to_owned(), lookups: 0 };
    /// let offer: String = sandbox.call_with(Call::new("offer", ("lamp",)).data(&mut request))?;
    /// println!("{offer}, after {} lookups", request.lookups);
    /// # Ok(()) }
    /// ```
    pub fn data<T: 'static>(mut self, data: &'call mut T) -> Self {
        self.data = Some(CallData::new(data));
        self
    }
}
