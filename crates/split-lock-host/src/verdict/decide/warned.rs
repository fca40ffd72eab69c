//! What comes of `warn` with #AC: that depends on the kernel.

use split_lock_model::kernel::{Era, Features};

use super::Judge;
use crate::{Basis, Condition, LogOnlyReason};
use crate::{Mode, Observed};

impl Judge<'_> {
    /// `warn`, with #AC: what comes of that depends on the kernel.
    pub(super) fn warned(&mut self) -> Condition {
        match (&self.facts.command_line.value, self.parameter()) {
            (Observed::Is(_), Some(parameter)) => {
                let is_unknown = self.mode() == Mode::Warn && parameter != "split_lock_detect=warn";
                let why = match is_unknown {
                    true => ", which this kernel does not know: it warns",
                    false => "",
                };
                self.says(format!("the command line has {parameter}{why}"));
            }
            (Observed::Is(_), None) => {
                self.says("the command line leaves detection as it is by default: warn");
            }
            _ if self.basis > Basis::BootLine => {
                self.basis = Basis::Release;
                self.doubts(
                    "the command line could not be seen: taken to say nothing about split locks",
                );
            }
            _ => {}
        }
        match self.facts.split_lock_mitigate.known().map(String::as_str) {
            Some("0") => {
                self.says("kernel.split_lock_mitigate is 0");
                self.may_forget_cpus();
                let because = LogOnlyReason::NotMitigated;
                Condition::LogOnly { because }
            }
            Some(value) => {
                self.says(format!("kernel.split_lock_mitigate is {value}"));
                if value != "1" {
                    self.doubts("that is neither 0 nor 1: taken to be 1");
                }
                Condition::Livelock
            }
            None => self.warned_without_sysctl(),
        }
    }

    fn warned_without_sysctl(&mut self) -> Condition {
        let Some(features) = self.features else {
            self.basis = Basis::Nothing;
            self.release_is_unknown();
            return Condition::Unknown;
        };
        self.basis = self.basis.max(Basis::Release);
        self.doubts.extend(self.note.map(str::to_owned));
        let release = self.facts.kernel_release.value.clone().or_default();
        match features.era {
            Era::Misery if features.sysctl => {
                self.doubts(format!(
                    "Linux {release} should have kernel.split_lock_mitigate, which could not be seen: taken to be 1"
                ));
                Condition::Livelock
            }
            Era::Misery => {
                self.says(format!(
                    "Linux {release} makes threads sleep, and has no kernel.split_lock_mitigate to stop that"
                ));
                Condition::Livelock
            }
            _ => {
                self.says(format!("Linux {release} does not make threads sleep yet"));
                let because = LogOnlyReason::Before519;
                Condition::LogOnly { because }
            }
        }
    }

    fn may_forget_cpus(&mut self) {
        let may_forget = |features: Features| !features.per_cpu_reenable;
        if self.features.is_some_and(may_forget) {
            self.doubts(
                "with that, this kernel can forget to switch detection on again: the log may name too few",
            );
        }
    }
}
