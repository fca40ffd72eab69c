//! The window: which CPU detects, and the work that switches detection on again.

use split_lock_model::handler::{Action, Retry};
use split_lock_model::machine::{CoreId, CpuId};
use split_lock_model::time::Jiffies;

use super::{Follower, Stage, Window};
use crate::journal::Event;

impl Follower {
    pub(super) fn through(&mut self, event: &Event, tick: u64, closes: Option<Jiffies>) {
        let closes = closes.map(|tick| tick.0);
        self.go_to(event, Stage::Through { tick, closes });
        self.expect_switch(event, false);
    }

    /// With mitigate=0 a trap opens its window without more ado, until `closes`.
    pub(super) fn open_at_once(&mut self, event: &Event, closes: Option<u64>) {
        let (trap, since) = (
            self.trap_of(event, event.signal_pending),
            self.thread(event.pid).trapped,
        );
        let wanted = Retry::WindowOpen {
            cpu: trap.cpu,
            closes: closes.map(Jiffies),
        };
        let (action, tick) = self.ask(
            event,
            since,
            |handler, tick| Some(handler.trap(tick, trap).action),
            |action| *action == Action::Retry(wanted),
        );
        match action {
            Some(Action::Retry(Retry::WindowOpen { closes, .. })) => {
                self.through(event, tick, closes);
            }
            other => self.lose(event, format!("a window at once; model: {other:?}")),
        }
    }

    /// The tick at which the work's timer will expire.
    pub(super) fn compare_closing(&mut self, event: &Event, closes: u64) {
        let Stage::Through {
            tick,
            closes: model,
        } = self.stage(event)
        else {
            return;
        };
        self.thread(event.pid).window_ends = true;
        match model {
            Some(model)
                if (model..=model + event.jiffies.saturating_sub(tick)).contains(&closes) =>
            {
                self.report.allowed.tick_within_step += u64::from(closes != model);
            }
            model => {
                self.mismatch(
                    event,
                    format!("a window until tick {closes}; model: {model:?}"),
                );
            }
        }
        let window = Window {
            opened: tick,
            closes,
            row: None,
            pid: event.pid,
            queued: None,
            last_on: None,
        };
        self.windows.insert(event.cpu, window);
    }

    pub(super) fn msr(&mut self, event: &Event, on: bool) {
        if !on && self.stage_if_known(event) == Some(Stage::Entered) {
            // The only work item is busy elsewhere, so that no timer was set.
            self.open_at_once(event, None);
        }
        let model = self.switches.remove(&event.cpu);
        if model != Some(on) {
            let name = |on| if on { "on" } else { "off" };
            let (kernel, model) = (name(on), model.map_or("not at all", name));
            let what = format!("CPU {} is switched {kernel}; model: {model}", event.cpu);
            self.mismatch(event, what);
        }
        let core = self.core_of(event);
        self.detects.insert(core, on);
    }

    /// The kernel is about to switch this CPU's detection.
    fn expect_switch(&mut self, event: &Event, on: bool) {
        if let Some(missing) = self.switches.insert(event.cpu, on) {
            let what = format!("CPU {} was not switched; model: {missing}", event.cpu);
            self.mismatch(event, what);
        }
    }

    fn core_of(&self, event: &Event) -> CoreId {
        self.topology.core_of(CpuId(event.cpu.into()))
    }

    /// Whether split locks trap here, by what was last written; before that they do if the kernel has armed the CPU.
    pub(super) fn detects(&self, event: &Event) -> bool {
        let last = self.detects.get(&self.core_of(event));
        last.copied().unwrap_or(self.is_armed)
    }

    fn stage_if_known(&self, event: &Event) -> Option<Stage> {
        self.threads.get(&event.pid).map(|thread| thread.stage)
    }

    pub(super) fn queue(&mut self, event: &Event, unlocks: bool) {
        let Some(window) = self.windows.get_mut(&event.cpu) else {
            return self.mismatch(event, "re-enable work for a CPU without a window");
        };
        window.queued = Some((event.ns, event.jiffies));
        window.last_on = self.unlocked_on.filter(|&cpu| unlocks && cpu != event.cpu);
        let (closes, ticks) = (window.closes, event.jiffies.saturating_sub(window.opened));
        if let Some(row) = window.row {
            self.report.traps[row].window_ticks = Some(ticks);
        }
        self.compare_expiry(event, "the window's timer", closes);
    }

    pub(super) fn work(&mut self, event: &Event, unlocks: bool) {
        let owner = self.owner_of_work(event.cpu);
        if unlocks {
            self.unlocked_on = Some(event.cpu);
            self.remove_leavers();
        }
        if let Some(window) = self.windows.remove(&owner)
            && let Some((ns, tick)) = window.queued
        {
            let allowed = &mut self.report.allowed;
            allowed.slowest_worker_ns = allowed.slowest_worker_ns.max(event.ns.saturating_sub(ns));
            allowed.late_workers += u64::from(event.jiffies > tick);
        }
        self.report.misplaced_work += u64::from(owner != event.cpu);
        let (owner, here) = (CpuId(owner.into()), CpuId(event.cpu.into()));
        let now = Jiffies(event.jiffies);
        match self.handler.reenable_elsewhere(now, owner, here) {
            Some(_) => self.expect_switch(event, true),
            None => self.mismatch(event, "the re-enable work runs; model: none is due"),
        }
    }

    /// The CPU whose window the work ends that runs on this one: its own, or else that of a window whose
    /// work was run here the last time.
    fn owner_of_work(&self, cpu: u16) -> u16 {
        let waits = |window: &Window| window.queued.is_some();
        if self.windows.get(&cpu).is_some_and(waits) {
            return cpu;
        }
        let elsewhere = self
            .windows
            .iter()
            .find(|(_, window)| waits(window) && window.last_on == Some(cpu));
        elsewhere.map_or(cpu, |(&owner, _)| owner)
    }
}
