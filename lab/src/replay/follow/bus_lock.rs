//! A bus lock that met a debug exception: nothing, SIGBUS, or sleeps until the rate limit has room.

use split_lock_model::handler::{Action, Handler, Retry};
use split_lock_model::machine::CpuId;
use split_lock_model::time::Jiffies;

use super::{Follower, Stage};
use crate::journal::Event;

impl Follower {
    pub(super) fn bus_lock(&mut self, event: &Event) {
        self.report.bus_locks += 1;
        self.thread(event.pid).got_sigbus = false;
        let stage = Stage::BusLocked {
            since: event.jiffies,
            has_slept: false,
        };
        self.go_to(event, stage);
    }

    /// What the model makes of the bus lock, in a tick in which the kernel may have decided.
    fn ask_rate_limit(&mut self, event: &Event, wanted: Action) -> Option<Action> {
        let Stage::BusLocked { since, has_slept } = self.stage(event) else {
            return None;
        };
        let (id, cpu) = (self.thread(event.pid).id, CpuId(event.cpu.into()));
        let question = |handler: &mut Handler, tick| match has_slept {
            true => handler.sleep_over(tick, id, cpu, false),
            false => Some(handler.bus_lock(tick, id).action),
        };
        let (action, _) = self.ask(event, since, question, |action| *action == wanted);
        action
    }

    /// A sleep that ends at `wake`.
    pub(super) fn throttle(&mut self, event: &Event, wake: u64) {
        let wait = split_lock_model::handler::Wait::Uninterruptible;
        let wanted = Action::Sleep {
            wake: Jiffies(wake),
            wait,
        };
        let action = self.ask_rate_limit(event, wanted);
        if action != Some(wanted) {
            return self.lose(event, format!("a sleep until {wake}; model: {action:?}"));
        }
        self.report.throttled += 1;
        self.go_to(event, Stage::Throttled { wake });
    }

    pub(super) fn bus_lock_done(&mut self, event: &Event) {
        let wanted = match self.thread(event.pid).got_sigbus {
            true => Action::Sigbus,
            false => Action::Retry(Retry::BusLockDone),
        };
        let action = self.ask_rate_limit(event, wanted);
        if action != Some(wanted) {
            return self.lose(event, format!("{wanted:?}; model: {action:?}"));
        }
        self.go_to(event, Stage::Outside);
    }
}
