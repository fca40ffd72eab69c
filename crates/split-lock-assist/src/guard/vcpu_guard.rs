//! Keeping one vCPU going.

use std::time::Duration;

use super::access::{CodePosition, VcpuAccess};
use super::breakpoints::DebugExit;
use super::config::{Config, Reaction};
use super::progress::{Response, Stall, VcpuProgress};
use super::run::Run;
use super::state::{GuardState, StallCheck};
use super::vcpu::Inaccessible;
use crate::breakpoint_slots::{BreakpointSlots, SLOTS};
use crate::decode::{self, LockedAccess, RecentInstructions};
use crate::emulate::{Emulated, Reason};

/// A breakpoint that is hit so often in a row without a split lock there is given up.
const MISSES: u32 = 4;

/// After so many hits it is asked again whether the guest wants its debug registers for itself.
const HITS_BETWEEN_QUESTIONS: u64 = 256;

/// Notices that a vCPU is held up by split locks, and gets it on. One for each vCPU.
///
/// The VMM asks for a [`budget`](Self::budget) before each bounded run, reports the run
/// [afterwards](Self::after_run), and hands over the exits that
/// [breakpoints](Self::handle_breakpoint) cause.
///
/// ```
/// use split_lock_assist::guard::{Config, Ended, Reaction, Run, VcpuAccess, VcpuGuard, VcpuProgress};
/// use std::time::Duration;
///
/// # fn example<V: VcpuAccess>(mut vcpu: V) -> Result<(), V::Error> {
/// let mut guard = VcpuGuard::new(Config::new(Reaction::Emulate));
/// let budget = guard.budget(Duration::from_millis(1));
/// // Run the vCPU for that long. Then:
/// let run = Run {
///     wall: budget,
///     cpu: Duration::from_micros(12),
///     ended: Ended::Expired,
/// };
/// if let VcpuProgress::Stalled(stall) = guard.after_run(&run, &mut vcpu)? {
///     println!("stuck at {}: {:?}", stall.instruction, stall.response);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct VcpuGuard {
    state: GuardState,
    watched: BreakpointSlots,
    recent: RecentInstructions,
    hits: u64,
    statistics: Statistics,
}

/// What a [`VcpuGuard`] has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Statistics {
    /// Runs that ended at a split lock after hardly any CPU time.
    pub stalls: u64,
    /// Instructions emulated there.
    pub emulated_at_stalls: u64,
    /// Instructions emulated at breakpoints, before they could do harm.
    pub emulated_at_breakpoints: u64,
    /// Runs that were made long for the kernel's sake.
    pub graces: u64,
    /// Instructions that could not be emulated.
    pub left_to_cpu: u64,
    /// Breakpoints that were hit by something else than a split lock.
    pub misses: u64,
}

/// What was done at a breakpoint. In all cases the vCPU can run again.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum BreakpointOutcome {
    /// The instruction there has been emulated.
    Emulated(LockedAccess),
    /// The CPU does it, for this reason.
    LeftToCpu(Reason),
    /// The instruction there does not split a lock (any more, or in this address space, or with these
    /// operands). The CPU does it.
    NoSplitLock,
    /// The instruction there is not to be looked at. The CPU does it.
    Inaccessible(Inaccessible),
    /// A step over a breakpoint is done, or an event comes before the instruction, or the guest turned
    /// out to use the breakpoint registers itself, and has got them.
    Nothing,
    /// The exception was the guest's own, and it has got it.
    ForGuest,
}

impl VcpuGuard {
    /// For a vCPU that has not run yet. Unless the guard is off, the first in a process takes about a millisecond:
    /// see [`decode::set_up`].
    #[must_use]
    pub fn new(config: Config) -> Self {
        if config.reaction != Reaction::Off {
            decode::set_up();
        }
        Self {
            state: GuardState::new(config),
            watched: BreakpointSlots::default(),
            recent: RecentInstructions::default(),
            hits: 0,
            statistics: Statistics::default(),
        }
    }

    /// How long the next run may last, if the VMM's own budget for it is `own`: more than that only
    /// if [`Config::grace`] says so, and less to find out soon whether the vCPU is stalled again.
    ///
    /// A run that others cut short by a kick goes on until the same end. With a new budget after each
    /// kick, a vCPU beside one that emulates all the time would never come to the end of any, and nobody
    /// would see that it is held up.
    pub fn budget(&mut self, own: Duration) -> Duration {
        self.state.budget(own)
    }

    /// Takes the next split lock at which a run ends for a stall, however much CPU time the run had: for tests, on hosts
    /// that do not detect split locks. The instruction is looked at, emulated and watched as if the kernel had punished the
    /// thread for it. A guest that does nothing but split locks is at one at the end of most of its runs.
    ///
    /// With [`Reaction::Off`] nothing is looked at all the same.
    pub fn feign_stall(&mut self) {
        self.state.feign_stall();
    }

    /// A run is over. Nothing is asked of a vCPU that has used its time.
    ///
    /// # Errors
    /// If the vCPU cannot be asked, or not be changed. It is not certain then which breakpoints are set:
    /// after an error call [`clear_breakpoints`](Self::clear_breakpoints).
    pub fn after_run<V: VcpuAccess>(
        &mut self,
        run: &Run,
        vcpu: &mut V,
    ) -> Result<VcpuProgress, V::Error> {
        match self.state.after_run(run) {
            StallCheck::NoStall => Ok(VcpuProgress::Progressing),
            StallCheck::Suspect => {
                let progress = self.examine(vcpu);
                self.state.end_run();
                progress
            }
        }
    }

    /// A breakpoint may have been hit. This comes first after such an exit.
    ///
    /// # Errors
    /// If the vCPU cannot be asked, or not be changed. It is not certain then which breakpoints are set:
    /// after an error call [`clear_breakpoints`](Self::clear_breakpoints).
    pub fn handle_breakpoint<V: VcpuAccess>(
        &mut self,
        exit: V::Exit,
        vcpu: &mut V,
    ) -> Result<BreakpointOutcome, V::Error> {
        match vcpu.classify_exit(exit)? {
            DebugExit::Breakpoint { address } => self.handle_hit(address, vcpu),
            DebugExit::SteppedOver => Ok(BreakpointOutcome::Nothing),
            DebugExit::ForGuest => Ok(BreakpointOutcome::ForGuest),
        }
    }

    /// What has been done so far.
    #[must_use]
    pub fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// The linear addresses of the instructions that are emulated before they can do harm.
    #[must_use]
    pub fn watched_addresses(&self) -> &[Option<u64>; SLOTS] {
        self.watched.addresses()
    }

    /// Takes all breakpoints away, until there is another stall: before a debugger uses them, say.
    ///
    /// # Errors
    /// If that cannot be done.
    pub fn clear_breakpoints<V: VcpuAccess>(&mut self, vcpu: &mut V) -> Result<(), V::Error> {
        self.watched = BreakpointSlots::default();
        vcpu.set_breakpoints(self.watched.addresses())
    }

    fn examine<V: VcpuAccess>(&mut self, vcpu: &mut V) -> Result<VcpuProgress, V::Error> {
        if vcpu.is_halted()? {
            return Ok(VcpuProgress::Idle);
        }
        if let Some(why) = vcpu.inaccessible()? {
            return Ok(VcpuProgress::Inaccessible(why));
        }
        let progress = self.examine_instruction(vcpu)?;
        Ok(progress.unwrap_or_else(|| {
            self.state.found_nothing();
            VcpuProgress::Starved
        }))
    }

    fn examine_instruction<V: VcpuAccess>(
        &mut self,
        vcpu: &mut V,
    ) -> Result<Option<VcpuProgress>, V::Error> {
        let check = self.state.at_position(&vcpu.registers()?);
        let may_be_punished =
            self.state.expects_stall() || self.state.slept(vcpu.voluntary_context_switches());
        if check == StallCheck::NoStall || !may_be_punished || vcpu.has_event()? {
            return Ok(None);
        }
        let Some(instruction) = vcpu.split_instruction()? else {
            return Ok(None);
        };
        let Some(finding) = self.state.found(&instruction) else {
            return Ok(None);
        };
        self.statistics.stalls += 1;
        let response = if finding.emulate {
            self.emulate_stalled(vcpu)?
        } else {
            self.let_through(Response::Reported)
        };
        let stall = Stall {
            instruction,
            is_new: finding.is_new,
            response,
        };
        Ok(Some(if finding.stalled {
            VcpuProgress::Stalled(stall)
        } else {
            VcpuProgress::Slow(stall)
        }))
    }

    fn emulate_stalled<V: VcpuAccess>(&mut self, vcpu: &mut V) -> Result<Response, V::Error> {
        let position = vcpu.code_position()?;
        // It has just been one. Should that have changed, the next run shows it.
        let Some(emulated) = vcpu.emulate_split(&mut self.recent)? else {
            return Ok(self.let_through(Response::Reported));
        };
        match emulated {
            Emulated::Done(_) => {
                self.statistics.emulated_at_stalls += 1;
                let watched = self.watch(position, vcpu)?;
                self.state.emulated_at_stall(watched);
                Ok(Response::Emulated { watched })
            }
            Emulated::LeftToCpu(reason) => {
                self.statistics.left_to_cpu += 1;
                Ok(self.let_through(Response::LeftToCpu(reason)))
            }
        }
    }

    fn let_through(&mut self, otherwise: Response) -> Response {
        let response = self.state.let_through().unwrap_or(otherwise);
        if matches!(response, Response::Grace(_)) {
            self.statistics.graces += 1;
        }
        response
    }

    fn watch<V: VcpuAccess>(
        &mut self,
        position: CodePosition,
        vcpu: &mut V,
    ) -> Result<bool, V::Error> {
        if !vcpu.breakpoints_work_at(position.cpl) {
            return Ok(false);
        }
        if vcpu.guest_uses_debug_registers()? {
            self.clear_breakpoints(vcpu)?;
            return Ok(false);
        }
        self.watched.insert(position.address);
        vcpu.set_breakpoints(self.watched.addresses())?;
        Ok(true)
    }

    fn handle_hit<V: VcpuAccess>(
        &mut self,
        address: u64,
        vcpu: &mut V,
    ) -> Result<BreakpointOutcome, V::Error> {
        if let Some(why) = vcpu.inaccessible()? {
            self.miss(address, vcpu)?;
            return Ok(BreakpointOutcome::Inaccessible(why));
        }
        if vcpu.has_event()? {
            return Ok(BreakpointOutcome::Nothing);
        }
        self.hits += 1;
        if self.hits.is_multiple_of(HITS_BETWEEN_QUESTIONS) && vcpu.guest_uses_debug_registers()? {
            self.clear_breakpoints(vcpu)?;
            return Ok(BreakpointOutcome::Nothing);
        }
        match vcpu.emulate_split(&mut self.recent)? {
            Some(Emulated::Done(access)) => {
                self.watched.mark_used(address);
                self.statistics.emulated_at_breakpoints += 1;
                Ok(BreakpointOutcome::Emulated(access))
            }
            Some(Emulated::LeftToCpu(reason)) => {
                self.watched.mark_used(address);
                self.statistics.left_to_cpu += 1;
                vcpu.step_over()?;
                Ok(BreakpointOutcome::LeftToCpu(reason))
            }
            None => {
                self.miss(address, vcpu)?;
                Ok(BreakpointOutcome::NoSplitLock)
            }
        }
    }

    /// Where the code has changed, or another address space has other code, or the operand does not
    /// cross a line this time.
    fn miss<V: VcpuAccess>(&mut self, address: u64, vcpu: &mut V) -> Result<(), V::Error> {
        self.statistics.misses += 1;
        if self.watched.count_miss(address) >= MISSES {
            self.watched.remove(address);
            vcpu.set_breakpoints(self.watched.addresses())
        } else {
            vcpu.step_over()
        }
    }
}
