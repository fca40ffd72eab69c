//! One interface for all ways of bounding a run.

use std::time::Duration;

use kvm_preemption_timer::MonotonicTime;

/// How KVM_RUN came back.
pub(crate) enum RunEnd {
    /// The guest needs something.
    Exit,
    /// The time is over, as far as this scheme can tell.
    Over,
}

/// A vCPU and a way of bounding its runs.
pub(crate) trait Scheme {
    fn name(&self) -> &'static str;
    /// A new budget from now on.
    fn begin(&mut self, budget: Duration);
    /// Enters the guest, with whatever the scheme does before and after that.
    fn enter(&mut self) -> RunEnd;
    /// The budget is not wanted any more, or is over.
    fn end(&mut self) {}
}

/// How much later than its budget a run ends.
pub(crate) fn overshoot(scheme: &mut dyn Scheme, budget_us: u64) -> Duration {
    let budget = Duration::from_micros(budget_us);
    let deadline = MonotonicTime::now() + budget;
    scheme.begin(budget);
    while matches!(scheme.enter(), RunEnd::Exit) {}
    let now = MonotonicTime::now();
    assert!(now >= deadline, "{} ended a run early", scheme.name());
    let late = now.saturating_since(deadline);
    scheme.end();
    late
}
