//! Metrics without the feature: there are no meters, and never will be.

use std::time::{Duration, Instant};

use ampoule_vmm::Event;

use super::labels::{CallOutcome, FaultLabel, Level, Operation, RunOutcome, TakeOutcome};

/// What metrics are passed on to, if there were any.
#[derive(Clone, Copy)]
pub(super) enum Meters {}

/// There are none.
#[inline]
pub(super) fn meters() -> Option<&'static Meters> {
    None
}

impl Meters {
    pub(super) fn call(&self, _: CallOutcome, _: Duration) {
        match *self {}
    }

    pub(super) fn refused(&self, _: CallOutcome) {
        match *self {}
    }

    pub(super) fn run(&self, _: RunOutcome, _: Duration) {
        match *self {}
    }

    pub(super) fn fault(&self, _: FaultLabel) {
        match *self {}
    }

    pub(super) fn kills(&self, _: usize, _: u64) {
        match *self {}
    }

    pub(super) fn operation(&self, _: Operation, _: bool, _: Duration) {
        match *self {}
    }

    pub(super) fn pages_restored(&self, _: u64) {
        match *self {}
    }

    pub(super) fn taken(&self, _: TakeOutcome) {
        match *self {}
    }

    pub(super) fn pool_wait(&self, _: Duration) {
        match *self {}
    }

    pub(super) fn recycled(&self) {
        match *self {}
    }

    pub(super) fn replaced(&self) {
        match *self {}
    }

    pub(super) fn shift(&self, _: Level, _: f64) {
        match *self {}
    }
}

/// Counts exits, if anybody wanted to know.
#[derive(Default)]
pub(crate) struct Exits {}

impl Exits {
    #[inline]
    pub(crate) fn count(&mut self, _: &Event) {}

    #[inline]
    pub(crate) fn publish(&mut self) {}
}

/// Counts calls of a host function, if anybody wanted to know.
#[derive(Default)]
pub(crate) struct HostFunctionMeter {}

impl HostFunctionMeter {
    #[inline]
    pub(crate) fn start(&self) -> Option<Instant> {
        None
    }

    #[inline]
    pub(crate) fn ended(&mut self, _: &str, _: Option<Instant>, _: bool) {}
}
