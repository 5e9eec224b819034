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

    /// Takes what is due: notes what the guest does, if that is a sample.
    pub(super) fn take_due(&mut self) {
        let mut recorder = self.recorder.take();
        self.interruptor.take_due(|phase| {
            let Some(recorder) = &mut recorder else { return };
            let whereabouts = match phase {
                Phase::Guest => Whereabouts::Guest,
                Phase::Host => Whereabouts::HostFunction,
                Phase::Serving => Whereabouts::SystemCall,
                Phase::Asleep => Whereabouts::Sleep,
            };
            let stack = self.call_stack(MAX_DEPTH);
            recorder.libraries().note(&self.space, stack.instructions());
            recorder.sample(&stack, whereabouts, cpu_time());
        });
        self.recorder = recorder;
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
