//! What this host's kernel does about split locks, from the model, beside what was measured.

use std::time::Duration;

use anyhow::Result;
use split_lock_host::{Detection, Facts};
use split_lock_model::analysis::Thresholds;
use split_lock_model::explain::kernel_in_words;
use split_lock_model::kernel::{Mode, Profile};
use split_lock_model::sim::{Budget, Program, Scenario, TaskSpec};
use split_lock_model::time::Nanos;
use split_lock_report::figure::{Picture, livelock_timeline};
use split_lock_report::html::Section;
use split_lock_report::modelled::{self, HardwareCosts};
use split_lock_repro::cpu::Cpu;
use split_lock_repro::program;
use split_lock_repro::results::{Sample, Sweep};
use split_lock_repro::sweep::Host;

use super::parts::timeouts;
use crate::measuring;

/// The timer of the original report.
const SHORT_TIMER: Nanos = Nanos::from_millis(1);

/// How much longer than the shortest that always progresses: some of the window is to be seen.
const COMFORT: Nanos = Nanos::from_millis(4);

/// Where a guest can be shown that is punished for its split locks: here, or where they are trapped and treated as
/// this kernel treats them. `None` where this host detects nothing and the model does not know how its kernel would punish.
pub(super) fn punishing_host(facts: &Facts) -> Option<Host> {
    if let Detection::On { .. } = facts.detection() {
        return Some(Host::Native);
    }
    let kernel = crate::kernel_choice::of_this_host(facts).ok()?;
    Thresholds::of(&kernel).map(|_| Host::Emulated(kernel))
}

/// This host's kernel, and what an operation costs on this host.
pub(super) struct Kernel {
    pub(super) profile: Profile,
    costs: HardwareCosts,
    /// Where the costs come from.
    costs_from: &'static str,
}

impl Kernel {
    /// With the costs that a sweep's native runs show, if they do. Others may be undisturbed, too,
    /// because a guard has helped them, and show what that costs.
    ///
    /// # Errors
    /// For a kernel that the model cannot place.
    pub(super) fn of_this_host(facts: &Facts, sweep: Option<&Sweep>) -> Result<Self> {
        let profile = crate::kernel_choice::of_this_host(facts)?;
        let measured = sweep.map(native).as_ref().and_then(HardwareCosts::measured);
        Ok(Kernel {
            profile,
            costs: measured.unwrap_or_default(),
            costs_from: match measured {
                Some(_) => "measured above",
                None => "stated, not measured",
            },
        })
    }

    /// The splitting guest as this host does not show it natively: under `warn` where nothing is
    /// detected, and with detection off where it is.
    pub(super) fn other_side(&self, facts: &Facts, repeats: u32, seed: u64) -> Result<Sweep> {
        let kernel = match facts.detection() {
            Detection::On { .. } => self.profile.with_mode(Mode::Off)?,
            _ => self.profile.clone(),
        };
        let name = kernel.to_string();
        self.sweep(facts, repeats, seed, |host, guest| {
            host == name && guest == "split"
        })
    }

    /// Both sides and the aligned guest, where nothing can be measured.
    pub(super) fn both_sides(&self, facts: &Facts, repeats: u32, seed: u64) -> Result<Sweep> {
        self.sweep(facts, repeats, seed, |_, _| true)
    }

    pub(super) fn programs(&self, facts: &Facts, plan: &program::Plan) -> Result<Sweep> {
        let samples = modelled::programs(&self.profile, plan, self.costs.split)?;
        Ok(measuring::modelled(facts, plan.seed, samples))
    }

    fn sweep(
        &self,
        facts: &Facts,
        repeats: u32,
        seed: u64,
        wanted: impl Fn(&str, &str) -> bool,
    ) -> Result<Sweep> {
        let mut samples = modelled::sweep(&self.profile, &timeouts(), repeats, seed, self.costs)?;
        samples.retain(|sample| wanted(&sample.host, &sample.guest));
        Ok(measuring::modelled(facts, seed, samples))
    }

    /// Where its thresholds lie, in a sentence; `None` if it has none.
    pub(super) fn finding(&self) -> Option<String> {
        let limits = Thresholds::of(&self.profile)?;
        let (never, always) = (limits.never_up_to(), limits.always_from());
        Some(format!(
            "Where the CPU detects split locks, this kernel never lets a guest past one within \
             timeouts of up to {never}; from {always} on it always gets past, if only in the next run \
             (modelled, {}).",
            self.profile
        ))
    }

    /// The kernel's rules, and what they do to a vCPU as time goes by.
    pub(super) fn section(&self, picture: Option<&Picture>) -> Result<Section> {
        let mut section = Section::new("What this kernel does where split locks are detected")
            .paragraph(kernel_in_words(&self.profile))
            .paragraph(format!(
                "The modelled series follow from these rules and from what the operations take on \
                 this host, {}: {}.",
                self.costs_from, self.costs
            ));
        if let Some(picture) = picture {
            section = section.picture(
                picture,
                format!(
                    "To see: a timer that is too short cuts every sleep off; a longer one lets it end, and detection is off for a \
                     moment. Modelled ({}).",
                    self.profile
                ),
            )?;
        }
        Ok(section)
    }

    /// A timer that is too short, and one that is not; `None` if no timer is too short.
    pub(super) fn timeline(&self) -> Result<Option<Picture>> {
        let Some(limits) = Thresholds::of(&self.profile) else {
            return Ok(None);
        };
        let whole_ms = |time: Nanos| Nanos::from_millis(time.0.div_ceil(1_000_000));
        let long = whole_ms(Nanos(limits.always_from().0 + COMFORT.0));
        let program = Program::split_loop(self.costs.split.max(Duration::from_nanos(1)).into())?;
        let scenarios = [SHORT_TIMER, long].map(|timeout| {
            Scenario::single(TaskSpec::vcpu(program, Budget::Relative(timeout)).named("vCPU"))
        });
        Ok(Some(livelock_timeline(&self.profile, &scenarios)?))
    }
}

/// The runs on this host as it is, and without help.
fn native(sweep: &Sweep) -> Sweep {
    let is_as_it_is = |sample: &&Sample| {
        Cpu::of_host(&sample.host).is_some() && !sample.series.contains("; guard ")
    };
    let samples = sweep.samples.iter().filter(is_as_it_is);
    Sweep {
        provenance: None,
        samples: samples.cloned().collect(),
    }
}

#[cfg(test)]
mod tests {

    use super::*;

    /// A busy machine can take a whole run from a guest that nothing else disturbs.
    #[test]
    fn what_a_guard_makes_of_a_split_lock_is_not_taken_for_its_cost() {
        let facts = Facts::live().unwrap();
        let timeouts = [Duration::from_millis(5)];
        let off = "6.6,hz=1000,mode=off".parse().unwrap();
        let costs = HardwareCosts::default();
        let mut samples = modelled::sweep(&off, &timeouts, 1, 1, costs).unwrap();
        samples.iter_mut().for_each(|s| s.host = "native".into());
        let splitting = samples.iter().filter(|s| s.guest == "split");
        let guarded = |host: &str| {
            let guarded = splitting.clone().map(|sample| Sample {
                series: "measured; guard emulate".into(),
                host: host.into(),
                turns: 50,
                ..sample.clone()
            });
            guarded.collect::<Vec<_>>()
        };
        let guarded = [guarded("6.6"), guarded("native")].concat();
        let kernel = |samples: Vec<_>| {
            let sweep = Sweep {
                provenance: None,
                samples,
            };
            Kernel::of_this_host(&facts, Some(&sweep)).unwrap()
        };
        let both: Vec<_> = [samples.clone(), guarded].concat();
        assert_eq!(kernel(both.clone()).costs_from, "measured above");
        let disturbed = both.into_iter().map(|mut sample| {
            let is_guarded = sample.series.contains("guard");
            if sample.host == "native" && sample.guest == "split" && !is_guarded {
                sample.turns = 0;
            }
            sample
        });
        assert_eq!(
            kernel(disturbed.collect()).costs_from,
            "stated, not measured"
        );
    }
}
