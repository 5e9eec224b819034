//! Samples of a guest that is profiled: where it is at the moments at which they fall due.

use super::Machine;
use crate::interrupt::{Phase, Unsampled, cpu_time};
use crate::profile::{Frequency, MAX_DEPTH, Profile, Recorder, Whereabouts};

impl Machine {
    /// Samples the guest so often in all calls from now on. What was sampled before is dropped.
    pub(crate) fn profile(&mut self, frequency: Frequency) -> Result<(), Unsampled> {
        self.interruptor.sample_every(frequency.period())?;
        self.recorder = Some(Box::new(Recorder::new(frequency)));
        Ok(())
    }

    /// Samples it no more: what was sampled, if it was.
    pub(crate) fn take_profile(&mut self) -> Option<Profile> {
        let recorder = self.recorder.take()?;
        self.interruptor.stop_samples();
        Some(recorder.finish(self.executable.clone()))
    }

    /// Notes what the guest does where it was interrupted, if a sample is due.
    pub(super) fn interrupted(&mut self) {
        let Some(mut recorder) = self.recorder.take() else { return };
        self.interruptor.take_sample(|phase| {
            let whereabouts = match phase {
                Phase::Guest => Whereabouts::Guest,
                Phase::Host => Whereabouts::HostFunction,
                Phase::Serving => Whereabouts::SystemCall,
                Phase::Asleep => Whereabouts::Sleep,
            };
            recorder.sample(&self.call_stack(MAX_DEPTH), whereabouts, cpu_time());
        });
        self.recorder = Some(recorder);
    }

    #[inline]
    pub(super) fn note_call_begins(&mut self) {
        if let Some(recorder) = &mut self.recorder {
            recorder.call_begins(cpu_time());
        }
    }

    #[inline]
    pub(super) fn note_call_ended(&mut self) {
        if let Some(recorder) = &mut self.recorder {
            recorder.call_ended(cpu_time());
        }
    }
}
