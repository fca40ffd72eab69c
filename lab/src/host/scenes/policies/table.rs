//! What was found, as tables for a page.

use std::fmt::Write;

use split_lock_model::handler::TrapOrigin;

use super::case::{Case, NEIGHBOURS};
use super::measure::Measured;
use super::{KernelResult, Tried};

const TIMERS: &str = "\n\
    | kernel | with a timer | periods without progress, alone | beside four | progress at 1 ms, alone | at 20 ms | at 1 ms, beside four | at 20 ms | longest signal delay at 1 ms, alone (ms) | beside four |\n\
    |---|---|---|---|---|---|---|---|---|---|\n";

const ATTACKS: &str = "\n\
    | kernel | without a timer | with the best | of five, without | with the best | traps held against the model | disagreements |\n\
    |---|---|---|---|---|---|---|\n";

pub(super) fn tables(results: &[KernelResult]) -> String {
    let mut text = String::from(TIMERS);
    for result in results {
        for (origin, name) in [(TrapOrigin::Guest, "vCPU"), (TrapOrigin::User, "program")] {
            let [alone, beside] =
                [0, NEIGHBOURS].map(|neighbours| Timers::of(result, origin, neighbours));
            if alone.0.is_empty() && beside.0.is_empty() {
                continue;
            }
            let _ = writeln!(
                text,
                "| {} | {name} | {} | {} | {} | {} | {} | {} | {} | {} |",
                result.release,
                alone.stuck(),
                beside.stuck(),
                alone.progress_at(1),
                alone.progress_at(20),
                beside.progress_at(1),
                beside.progress_at(20),
                alone.delay_at_1_ms(),
                beside.delay_at_1_ms(),
            );
        }
    }
    text += ATTACKS;
    for result in results {
        let attack = Attack::of(result).unwrap_or_default();
        let off = |gain: Gain| percent(gain.off);
        let [honest, best] = attack.alone.map(off);
        let [honest_of_five, best_of_five] = attack.of_five.map(off);
        let _ = writeln!(
            text,
            "| {} | {honest} | {best} | {honest_of_five} | {best_of_five} | {} | {} |",
            result.release, result.traps, result.mismatches
        );
    }
    text
}

/// One kind of thread under each timer.
struct Timers<'a>(Vec<&'a Tried>);

impl<'a> Timers<'a> {
    fn of(result: &'a KernelResult, wanted: TrapOrigin, so_many: u8) -> Self {
        let is_it = |case: &Case| matches!(case, Case::Timer { origin, neighbours, .. } if (*origin, *neighbours) == (wanted, so_many));
        Self(result.measured(is_it).collect())
    }

    fn stuck(&self) -> String {
        let stuck = self
            .0
            .iter()
            .filter(|tried| tried.measured.worst_progress() == 0.0);
        format!("{}/{}", stuck.count(), self.0.len())
    }

    fn at(&self, ms: u64) -> Option<&'a Tried> {
        self.0
            .iter()
            .copied()
            .find(|tried| tried.case.is_timer_of(ms))
    }

    fn progress_at(&self, ms: u64) -> String {
        let found = self.at(ms).map(|tried| tried.measured.worst_progress());
        found.map_or("-".to_owned(), percent)
    }

    fn delay_at_1_ms(&self) -> String {
        let found = self
            .at(1)
            .map(|tried| tried.measured.worst_signal_delay_us());
        found.map_or("-".to_owned(), |us| format!("{:.2}", us as f64 / 1e3))
    }
}

/// Of a thread without a timer, and the most that one gets with a timer.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Attack {
    alone: [Gain; 2],
    of_five: [Gain; 2],
}

/// What there is to gain.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Gain {
    /// The share of time with detection off.
    off: f64,
    /// How often it was switched off.
    turns: u32,
}

impl Gain {
    /// On the CPUs of these numbers.
    fn most(measured: &Measured, cpus: impl Iterator<Item = usize>) -> Self {
        cpus.fold(Self::default(), |most, cpu| Self {
            off: most.off.max(measured.off[cpu]),
            turns: most.turns.max(measured.turns[cpu]),
        })
    }

    fn or_more(self, other: Self) -> Self {
        Self {
            off: self.off.max(other.off),
            turns: self.turns.max(other.turns),
        }
    }
}

impl Attack {
    /// None where nobody attacked.
    pub(super) fn of(result: &KernelResult) -> Option<Self> {
        let mut attack = Self::default();
        for tried in &result.tried {
            let measured = &tried.measured;
            let first = Gain::most(measured, 0..1);
            match tried.case {
                Case::Timer { .. } => {}
                Case::Attack { period_us: None } => attack.alone[0] = first,
                Case::Attack { period_us: Some(_) } => {
                    attack.alone[1] = attack.alone[1].or_more(first);
                }
                Case::Crowd => {
                    attack.of_five = [first, Gain::most(measured, 1..measured.off.len())];
                }
            }
        }
        (attack != Self::default()).then_some(attack)
    }

    /// How many times the turns that a thread without a timer gets.
    pub(super) fn gain(&self) -> f64 {
        let gain =
            |[honest, best]: [Gain; 2]| f64::from(best.turns) / f64::from(honest.turns.max(1));
        gain(self.alone).max(gain(self.of_five))
    }
}

fn percent(share: f64) -> String {
    format!("{:.1}%", 100.0 * share)
}

#[cfg(test)]
mod tests {
    use split_lock_model::policy::Alternative;

    use super::*;

    fn tried(case: Case, progress: &[f64], off: &[f64], turns: &[u32]) -> Tried {
        Tried {
            case,
            measured: Measured {
                progress: progress.into(),
                off: off.into(),
                turns: turns.into(),
                signal_delays_us: vec![10, 2_340],
            },
        }
    }

    fn timer(period_ms: u64, progress: &[f64]) -> Tried {
        let case = Case::Timer {
            origin: TrapOrigin::Guest,
            period_ms,
            neighbours: 0,
        };
        tried(case, progress, &[0.0], &[0])
    }

    fn result(tried: Vec<Tried>) -> KernelResult {
        KernelResult {
            release: "6.12".to_owned(),
            policy: Alternative::Killable,
            tried,
            traps: 7,
            mismatches: 1,
        }
    }

    #[test]
    fn row_has_the_worst_of_all_phases() {
        let text = tables(&[result(vec![timer(1, &[0.2, 0.0]), timer(20, &[0.3, 0.25])])]);
        let row = "| 6.12 | vCPU | 1/2 | 0/0 | 0.0% | 25.0% | - | - | 2.34 | - |\n";
        assert!(text.contains(row), "{text}");
        assert!(text.ends_with("| 7 | 1 |\n"), "{text}");
        assert!(
            !text.contains("program"),
            "nothing was tried of them: {text}"
        );
    }

    #[test]
    fn gain_is_in_turns_of_the_best_timer_over_none() {
        let attack = |period_us| Case::Attack { period_us };
        let found = result(vec![
            tried(attack(None), &[0.1], &[0.2], &[20]),
            tried(attack(Some(100)), &[0.1], &[0.1], &[30]),
            tried(attack(Some(200)), &[0.1], &[0.3], &[10]),
            tried(Case::Crowd, &[0.1], &[0.2, 0.1, 0.25], &[20, 10, 25]),
        ]);
        let attack = Attack::of(&found).expect("there are attackers");
        assert_eq!(attack.of_five.map(|gain| gain.off), [0.2, 0.25]);
        assert!((attack.gain() - 1.5).abs() < 1e-9);
        assert_eq!(Attack::of(&result(Vec::new())), None);
    }
}
