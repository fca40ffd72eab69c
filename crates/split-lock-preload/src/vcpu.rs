//! A vCPU of the program: KVM_RUN, and what comes after it.

use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use libc::c_int;
use split_lock_assist::kvm::KvmError;
use split_lock_assist::pause::GuestPass;

use crate::emulation::{Emulation, Finding};
use crate::help::Help;
use crate::presence::{Presence, Unreachable};

use crate::report::VcpuRecord;
use crate::sys::{self, Errno, Interruption, KickSignal, RunEnd, Thread, ThreadId};
use crate::vm::Vm;
use crate::{lock, read};

/// For so long at first a vCPU is left alone for which nothing could be done: a kick would make its punishment begin anew.
const UNTIL_PUNISHED: Duration = Duration::from_millis(100);
/// The same for one that was at no split lock any more.
const UNTIL_NEXT_LOOK: Duration = Duration::from_millis(10);

#[derive(Debug)]
pub(crate) struct Vcpu {
    /// A duplicate of the VMM's.
    pub(crate) fd: OwnedFd,
    pub(crate) vm: Arc<Vm>,
    pub(crate) presence: Arc<Presence>,
    pub(crate) record: Arc<VcpuRecord>,
    /// Locked by whoever is in KVM_RUN, as the vCPU is in the kernel.
    seat: Mutex<Seat>,
    /// How many threads want it for something else than KVM_RUN.
    waiting: AtomicU32,
}

/// What belongs to whoever has the vCPU.
#[derive(Debug)]
pub(crate) struct Seat {
    vm: Arc<Vm>,
    pass: GuestPass,
    emulation: State,
    /// The VMM debugs the guest.
    debugged: bool,
}

#[derive(Debug)]
enum State {
    /// There was no need so far.
    NotNeeded,
    On(Box<Emulation>),
    Off,
}

impl Vcpu {
    pub(crate) fn new(
        fd: OwnedFd,
        vm: Arc<Vm>,
        record: Arc<VcpuRecord>,
        signal: Option<KickSignal>,
    ) -> Self {
        let presence = Arc::new(Presence::default());
        let of_kicked = Arc::clone(&presence);
        let pass = vm.gate.pass(move || match signal {
            Some(signal) => of_kicked.kick_for_pause(signal),
            // Without a signal nothing is emulated, and nobody pauses.
            None => split_lock_assist::pause::Kick::NotSent,
        });
        let seat = Mutex::new(Seat {
            vm: Arc::clone(&vm),
            pass,
            emulation: State::NotNeeded,
            debugged: false,
        });
        Self {
            fd,
            vm,
            presence,
            record,
            seat,
            waiting: AtomicU32::new(0),
        }
    }

    pub(crate) fn with_seat<T>(&self, act: impl FnOnce(Option<&mut Seat>) -> T) -> T {
        self.waiting.fetch_add(1, Relaxed);
        let mut seat = lock(&self.seat);
        self.waiting.fetch_sub(1, Relaxed);
        act(Some(&mut seat))
    }

    /// A thread that comes back at once would always be quicker than one that has to be woken, which KVM's own lock does not
    /// let happen.
    #[cold]
    fn let_others_in(&self) {
        const ATTEMPTS: u32 = 100;
        const PAUSE: Duration = Duration::from_micros(20);
        for _ in 0..ATTEMPTS {
            if self.waiting.load(Relaxed) == 0 {
                return;
            }
            thread::sleep(PAUSE);
        }
    }

    /// KVM_RUN, as the VMM sees it.
    #[inline(always)]
    pub(crate) fn run(
        &self,
        help: &Help,
        thread: &Thread,
        number: ThreadId,
        fd: RawFd,
        argument: usize,
    ) -> Result<c_int, Errno> {
        if self.waiting.load(Relaxed) != 0 {
            self.let_others_in();
        }
        let mut seat = lock(&self.seat);
        loop {
            let end = {
                let _entered = self.presence.enter(number);
                let _inside = seat.pass.enter();
                thread.kvm_run(fd, argument)
            };
            // Mostly nothing has happened that is not the VMM's.
            if let RunEnd::Exit(value) = end
                && !thread.was_interrupted()
                && !self.presence.was_disturbed()
                && seat.watches_nothing()
            {
                return Ok(value);
            }
            if let Some(answer) = seat.after_run(self, help, thread, fd, end) {
                return answer;
            }
        }
    }
}

/// Nobody but us wanted the vCPU out of the guest. `kicked`: a signal was sent.
fn was_ours_alone(help: &Help, thread: &Thread, interruption: Interruption, kicked: bool) -> bool {
    let Some(signal) = help.kick_signal() else {
        return false;
    };
    match interruption {
        Interruption::OursAlone => thread.end_interruption(signal),
        Interruption::Ours => false,
        // KVM lets signals through that the thread blocks, and leaves them pending. Ours would end every KVM_RUN.
        Interruption::NotOurs if kicked && signal.is_pending() => {
            signal.unblock();
            thread.take_interruption();
            true
        }
        Interruption::NotOurs => false,
    }
}

impl Seat {
    /// The VMM debugs its guest from now on, or does not any more.
    pub(crate) fn set_debugged(&mut self, debugged: bool) {
        self.debugged = debugged;
    }

    /// They come back with the next stall.
    pub(crate) fn give_up_breakpoints(&mut self) {
        if let State::On(emulation) = &mut self.emulation {
            let slots = read(&self.vm.slots);
            // If it fails, whoever wants the registers hears of it.
            let _ = emulation.clear_breakpoints(&slots, &self.pass);
        }
    }

    /// There is no breakpoint of ours in the guest.
    #[inline]
    fn watches_nothing(&self) -> bool {
        !matches!(self.emulation, State::On(_))
    }

    /// What the VMM is told of a run; `None` if the vCPU is to run on.
    #[inline(never)]
    fn after_run(
        &mut self,
        vcpu: &Vcpu,
        help: &Help,
        thread: &Thread,
        fd: RawFd,
        end: RunEnd,
    ) -> Option<Result<c_int, Errno>> {
        let interruption = thread.take_interruption();
        let kicked = vcpu.presence.take_kicked();
        let suspect = vcpu.presence.take_suspect();
        match end {
            RunEnd::Aborted => None,
            RunEnd::Exit(value) => (!self.handle_exit(vcpu, fd)).then_some(Ok(value)),
            RunEnd::Failed(Errno::EINTR) => {
                if suspect {
                    self.examine(vcpu, help, fd);
                }
                let ours = was_ours_alone(help, thread, interruption, kicked);
                (!ours).then_some(Err(Errno::EINTR))
            }
            RunEnd::Failed(error) => Some(Err(error)),
        }
    }

    /// Whether the exit was one of our breakpoints, and the vCPU is to run on.
    fn handle_exit(&mut self, vcpu: &Vcpu, fd: RawFd) -> bool {
        let State::On(emulation) = &mut self.emulation else {
            return false;
        };
        let Some(exit) = emulation.debug_exit().filter(|_| !self.debugged) else {
            return false;
        };
        if !vcpu.is_at(fd) {
            return false;
        }
        let slots = read(&self.vm.slots);
        let handled = contain(|| emulation.handle_breakpoint(exit, &slots, &self.pass));
        drop(slots);
        match handled {
            Ok(left_to_cpu) => {
                vcpu.record.update(emulation.statistics());
                left_to_cpu
                    .into_iter()
                    .for_each(|why| vcpu.record.left_to_cpu(why));
            }
            Err(failure) => self.switch_off(vcpu, failure),
        }
        true
    }

    /// The thread was seen being punished.
    fn examine(&mut self, vcpu: &Vcpu, help: &Help, fd: RawFd) {
        match self.try_to_examine(vcpu, help, fd) {
            Some(Finding::Emulated { instruction }) => {
                vcpu.presence.watch_closely();
                instruction
                    .into_iter()
                    .for_each(|it| vcpu.record.instruction(it));
            }
            Some(Finding::LeftToCpu { why, instruction }) => {
                vcpu.presence.leave_alone(UNTIL_PUNISHED);
                vcpu.record.left_to_cpu(why);
                instruction
                    .into_iter()
                    .for_each(|it| vcpu.record.instruction(it));
            }
            Some(Finding::Reported { instruction }) => {
                instruction
                    .into_iter()
                    .for_each(|it| vcpu.record.instruction(it));
            }
            // Its punishment was over, perhaps.
            Some(Finding::NoSplitLock) => vcpu.presence.leave_alone(UNTIL_NEXT_LOOK),
            None => vcpu.presence.leave_alone(UNTIL_PUNISHED),
        }
    }

    fn try_to_examine(&mut self, vcpu: &Vcpu, help: &Help, fd: RawFd) -> Option<Finding> {
        if self.debugged || !vcpu.is_at(fd) {
            return None;
        }
        if let Some(why) = self.vm.is_left_to_cpu() {
            self.switch_off(vcpu, Failure::Other(why.into()));
        }
        if let State::NotNeeded = self.emulation {
            let guard = help.settings().guard;
            let begin = |fd| Emulation::new(fd, help.breakpoint_support(), guard);
            match sys::duplicate(vcpu.fd.as_raw_fd()).map(begin) {
                Some(Ok(emulation)) => self.emulation = State::On(Box::new(emulation)),
                Some(Err(error)) => self.switch_off(vcpu, Failure::Other(error.to_string())),
                None => {
                    let why = "no file descriptor was left";
                    self.switch_off(vcpu, Failure::Other(why.into()));
                }
            }
        }
        let State::On(emulation) = &mut self.emulation else {
            return None;
        };
        let slots = read(&self.vm.slots);
        let found = contain(|| emulation.examine(&slots, &self.pass));
        vcpu.record.update(emulation.statistics());
        drop(slots);
        match found {
            Ok(finding) => Some(finding),
            Err(failure) => {
                self.switch_off(vcpu, failure);
                None
            }
        }
    }

    fn switch_off(&mut self, vcpu: &Vcpu, why: Failure) {
        // Breakpoints go with it.
        self.emulation = State::Off;
        let why = match why {
            Failure::Unreachable => {
                const WHY: &str = "a vCPU's thread does not take our signal";
                self.vm.leave_to_cpu(WHY);
                WHY.into()
            }
            Failure::Other(why) => why,
        };
        vcpu.record.switched_off(why);
    }
}

impl Vcpu {
    /// The VMM's number still stands for it.
    fn is_at(&self, fd: RawFd) -> bool {
        sys::same_file(fd, self.fd.as_fd()) != Some(false)
    }
}

/// Why nothing is emulated for a vCPU any more.
enum Failure {
    /// Another vCPU could not be kept out of the guest.
    Unreachable,
    Other(String),
}

/// An error or a panic of the guard is no reason for the VMM to fail.
fn contain<T>(act: impl FnOnce() -> Result<T, KvmError>) -> Result<T, Failure> {
    match catch_unwind(AssertUnwindSafe(act)) {
        Ok(result) => result.map_err(|error| Failure::Other(error.to_string())),
        Err(panic) if panic.is::<Unreachable>() => Err(Failure::Unreachable),
        Err(_) => Err(Failure::Other(
            "an error in the library; please report it".into(),
        )),
    }
}
