//! A guest that splits locks, and a kernel that punishes it, on a virtual clock.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use crate::cpu::{Context, Gpr, Registers};
use crate::decode::{Decoded, LockedAccess, decode};
use crate::emulate::Emulated;
use crate::guard::{Culprit, Ended, Hands, Keeper, Meaning, Place, Run, Verdict};
use crate::watch::SLOTS;

/// `lock inc dword ptr [rsi]`
const SPLIT: [u8; 3] = [0xf0, 0xff, 0x06];
const SPLIT_AT: u64 = 0x1000;
const BEHIND: u64 = SPLIT_AT + SPLIT.len() as u64;
const IN_WORK: u64 = 0x2000;

const TRAP_NS: u64 = 2_000;
/// Asking for registers.
const QUESTION_NS: u64 = 500;

/// How the kernel punishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kernel {
    pub(super) tick_ns: u64,
    /// A sleep takes more than so many ticks, and at most one more.
    pub(super) sleep_ticks: u64,
}

/// What things cost, and what the guest does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Scene {
    pub(super) kernel: Kernel,
    /// Between two split locks.
    pub(super) work_ns: u64,
    /// A split lock, with detection off.
    pub(super) native_ns: u64,
    /// Out of the guest and back.
    pub(super) round_trip_ns: u64,
    /// Emulating one instruction.
    pub(super) handling_ns: u64,
    /// Setting up a run and ending it.
    pub(super) run_ns: u64,
    pub(super) breakpoints: Reaches,
    /// Nothing takes as long as it should, and somebody else has the CPU now and then.
    pub(super) is_noisy: bool,
}

/// Whether breakpoints reach the guest, and how they are stepped over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reaches {
    No,
    Yes,
    /// With one more exit.
    ByStep,
}

#[derive(Debug)]
pub(super) struct World {
    scene: Scene,
    start: Instant,
    pub(super) now_ns: u64,
    cpu_ns: u64,
    /// Until the next split lock.
    work_left_ns: u64,
    /// The last split lock is done, and nothing after it.
    just_behind: bool,
    detects_from_ns: u64,
    sleeps: u64,
    watches: bool,
    steps_over: bool,
    pub(super) operations: u64,
    access: LockedAccess,
    random: u64,
}

/// Why a vCPU has come out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Out {
    Expired,
    Breakpoint(Meaning),
}

impl Kernel {
    /// What a run needs to get through, from wherever in a tick.
    pub(super) fn grace(&self) -> Duration {
        Duration::from_nanos((self.sleep_ticks + 4) * self.tick_ns)
    }

    fn tick_after(&self, now_ns: u64, ticks: u64) -> u64 {
        (now_ns / self.tick_ns + ticks) * self.tick_ns
    }
}

impl World {
    pub(super) fn new(scene: Scene) -> Self {
        let mut registers = Registers {
            rip: SPLIT_AT,
            ..Registers::default()
        };
        registers.set(Gpr::Rsi, 0x303e);
        let Decoded::Locked(access) = decode(&SPLIT, &registers, &Context::long_mode(3)) else {
            unreachable!("it is one")
        };
        Self {
            scene,
            start: Instant::now(),
            now_ns: 0,
            cpu_ns: 0,
            work_left_ns: scene.work_ns,
            just_behind: false,
            detects_from_ns: 0,
            sleeps: 0,
            watches: false,
            steps_over: false,
            operations: 0,
            access,
            random: 0x9e37_79b9_7f4a_7c15,
        }
    }

    /// What a VMM does, for so long.
    pub(super) fn play(
        &mut self,
        keeper: &mut Keeper,
        own: Duration,
        until: Duration,
        mut each: impl FnMut(&Verdict),
    ) {
        while u128::from(self.now_ns) < until.as_nanos() {
            let budget = keeper.budget(own);
            let longest = keeper.config().grace.map_or(own, |grace| own.max(grace));
            assert!(budget <= longest, "{budget:?} for {own:?}");
            let (began_ns, cpu_ns) = (self.now_ns, self.cpu_ns);
            let deadline_ns = self.now_ns + nanos(budget);
            self.lose_cpu();
            while let Out::Breakpoint(meaning) = self.run(deadline_ns) {
                let Ok(_) = keeper.breakpoint(meaning, self);
            }
            let run = Run {
                wall: Duration::from_nanos(self.now_ns - began_ns),
                cpu: Duration::from_nanos(self.cpu_ns - cpu_ns),
                ended: Ended::Expired,
            };
            let Ok(verdict) = keeper.after_run(&run, self);
            each(&verdict);
        }
    }

    /// The guest does something else from now on.
    pub(super) fn set_work(&mut self, work_ns: u64) {
        self.scene.work_ns = work_ns;
        self.work_left_ns = work_ns;
    }

    fn run(&mut self, deadline_ns: u64) -> Out {
        loop {
            let work_ns = self
                .work_left_ns
                .min(deadline_ns.saturating_sub(self.now_ns));
            self.work_left_ns -= work_ns;
            self.just_behind &= work_ns == 0;
            self.spend(work_ns);
            if self.now_ns >= deadline_ns {
                return self.expire();
            }
            self.just_behind = false;
            if self.watches && !self.steps_over {
                self.spend_about(self.scene.round_trip_ns);
                return Out::Breakpoint(Meaning::Hit);
            }
            if self.now_ns >= self.detects_from_ns && !self.punish(deadline_ns) {
                return self.expire();
            }
            self.turns_with_detection_off(deadline_ns);
            if std::mem::take(&mut self.steps_over) && self.scene.breakpoints == Reaches::ByStep {
                self.spend_about(self.scene.round_trip_ns);
                return Out::Breakpoint(Meaning::SteppedOver);
            }
        }
    }

    /// Whether the thread gets through. If not, detection stays on.
    fn punish(&mut self, deadline_ns: u64) -> bool {
        self.spend(TRAP_NS);
        self.sleeps += 1;
        let kernel = self.scene.kernel;
        let wakes_ns = kernel.tick_after(self.now_ns, kernel.sleep_ticks + 1);
        let through = wakes_ns <= deadline_ns;
        self.now_ns = wakes_ns.min(deadline_ns.max(self.now_ns));
        if through {
            self.detects_from_ns = kernel.tick_after(self.now_ns, 3);
        }
        through
    }

    /// At least one, which no deadline interrupts; and at once all for which nobody has to be asked.
    fn turns_with_detection_off(&mut self, deadline_ns: u64) {
        let turn_ns = (self.scene.native_ns + self.scene.work_ns).max(1);
        let end_ns = deadline_ns.min(self.detects_from_ns);
        let more = match self.watches {
            true => 0,
            false => end_ns.saturating_sub(self.now_ns) / turn_ns,
        };
        self.operations += more + 1;
        self.spend(more * turn_ns + self.scene.native_ns);
        self.get_behind();
    }

    fn expire(&mut self) -> Out {
        self.spend_about(self.scene.run_ns);
        Out::Expired
    }

    fn spend(&mut self, ns: u64) {
        self.now_ns += ns;
        self.cpu_ns += ns;
    }

    /// A quarter less to a quarter more, and sometimes much more.
    fn spend_about(&mut self, ns: u64) {
        if !self.scene.is_noisy {
            return self.spend(ns);
        }
        let disturbed = self.random(50) == 0;
        let ns = ns * (75 + self.random(51)) / 100;
        self.spend(if disturbed { 5 * ns } else { ns });
    }

    /// In one run of ten, for up to a millisecond.
    fn lose_cpu(&mut self) {
        if self.scene.is_noisy && self.random(10) == 0 {
            self.now_ns += self.random(1_000_000);
        }
    }

    fn random(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }

    fn get_behind(&mut self) {
        self.work_left_ns = self.scene.work_ns;
        if self.scene.is_noisy && self.scene.work_ns > 0 {
            // Between nothing and twice as much.
            self.work_left_ns = self.random(2 * self.scene.work_ns);
        }
        self.just_behind = true;
    }

    fn is_at_split(&self) -> bool {
        self.work_left_ns == 0 && !self.just_behind
    }
}

impl Hands for World {
    type Error = Infallible;
    type Exit = Meaning;

    fn is_halted(&self) -> Result<bool, Infallible> {
        Ok(false)
    }

    fn has_event(&self) -> Result<bool, Infallible> {
        Ok(false)
    }

    fn sleeps(&self) -> Option<u64> {
        Some(self.sleeps)
    }

    fn registers(&self) -> Result<Registers, Infallible> {
        let mut registers = Registers {
            rip: match self.work_left_ns {
                _ if self.just_behind => BEHIND,
                0 => SPLIT_AT,
                _ => IN_WORK,
            },
            ..Registers::default()
        };
        registers.set(Gpr::Rcx, self.operations);
        registers.set(Gpr::Rdx, self.work_left_ns);
        Ok(registers)
    }

    fn place(&self) -> Result<Place, Infallible> {
        Ok(Place {
            address: SPLIT_AT,
            cpl: 3,
        })
    }

    fn culprit(&mut self) -> Result<Option<Culprit>, Infallible> {
        self.spend(QUESTION_NS);
        Ok(self.is_at_split().then_some(Culprit::Access(self.access)))
    }

    fn emulate(&mut self) -> Result<Emulated, Infallible> {
        assert!(self.is_at_split());
        self.spend_about(self.scene.handling_ns);
        // There is nothing to be stepped over any more.
        self.steps_over = false;
        self.operations += 1;
        self.get_behind();
        Ok(Emulated::Done(self.access))
    }

    fn reaches(&self, _cpl: u8) -> bool {
        self.scene.breakpoints != Reaches::No
    }

    fn guest_uses_debug_registers(&mut self) -> Result<bool, Infallible> {
        Ok(false)
    }

    fn watch(&mut self, addresses: &[Option<u64>; SLOTS]) -> Result<(), Infallible> {
        assert!(self.scene.breakpoints != Reaches::No || *addresses == [None; SLOTS]);
        self.watches = addresses.contains(&Some(SPLIT_AT));
        Ok(())
    }

    fn step_over(&mut self) -> Result<(), Infallible> {
        self.steps_over = true;
        Ok(())
    }

    fn meaning(&mut self, exit: Meaning) -> Result<Meaning, Infallible> {
        Ok(exit)
    }

    fn now(&self) -> Instant {
        self.start + Duration::from_nanos(self.now_ns)
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
