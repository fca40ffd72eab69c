//! A vCPU between two runs: what was read of it once is not read again.

use std::cell::{Cell, Ref, RefCell};
use std::os::fd::{AsFd, OwnedFd};

use kvm_bindings::{
    KVM_RUN_X86_GUEST_MODE, KVM_RUN_X86_SMM, KVM_STATE_NESTED_GUEST_MODE, KVM_SYNC_X86_EVENTS,
    KVM_SYNC_X86_REGS, KVM_SYNC_X86_SREGS, kvm_debug_exit_arch, kvm_debugregs, kvm_guest_debug,
    kvm_regs, kvm_sregs, kvm_translation, kvm_vcpu_events,
};

use super::debug_registers::DebugRegisters;
use super::special::Special;
use super::sys::{Give, NESTED_STATE, RunPage, calls};
use super::{AsKvmFd, BreakpointSupport, KvmError};
use crate::cpu::{Registers, rflags};
use crate::guard::Inaccessible;
use crate::paging::{ConfirmedTranslations, Translation};

const REGISTERS: u64 = KVM_SYNC_X86_REGS as u64;
const EVENTS: u64 = KVM_SYNC_X86_EVENTS as u64;
/// What is of interest at a breakpoint.
const ALL: u64 = REGISTERS | KVM_SYNC_X86_SREGS as u64 | EVENTS;

/// A vCPU of KVM as its guard sees it: what has to be kept of it from one run to the next.
///
/// It has a file descriptor and a mapping of the run page of its own, so that the VMM's own may be wherever it likes.
/// Use it on the thread that runs the vCPU, between two runs.
///
/// # The run page
/// While an instruction is watched, KVM leaves the vCPU's registers in the run page at every exit: their bits in
/// `kvm_valid_regs` are set for that time, and those that the VMM had set stay set afterwards. What a VMM finds in the page is
/// what the vCPU has, also after an instruction was emulated. While `kvm_dirty_regs` says that the VMM itself has changed
/// registers there, nothing is emulated.
#[derive(Debug)]
pub struct KvmVcpu {
    fd: OwnedFd,
    page: RunPage,
    pub(super) debug: DebugRegisters,
    confirmed: ConfirmedTranslations,
    /// Bits of `kvm_valid_regs` that were set here.
    valid_bits_added: Cell<u64>,
    returning: Returning,
    /// Registers lie in the run page that go to the vCPU with the next KVM_RUN.
    pending: Cell<bool>,
    known: Known,
    last_registers: RefCell<Registers>,
    last_special: RefCell<LastSpecial>,
}

/// Special registers as they were when somebody last looked.
#[derive(Debug)]
struct LastSpecial {
    kvm: kvm_sregs,
    /// Those of the flags that matter to them.
    flags: u64,
    special: Special,
}

/// When registers of an instruction that was emulated at a breakpoint go back to the vCPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Returning {
    AtOnce,
    WithNextRun,
}

/// What was read since the last run.
#[derive(Debug, Default)]
struct Known {
    /// KVM has left all of it in the run page.
    in_page: Cell<bool>,
    /// The last ones are those of now.
    registers: Cell<bool>,
    /// The last ones are those of now.
    special: Cell<bool>,
    events: Cell<Option<kvm_vcpu_events>>,
    guest_breakpoints: Cell<Option<bool>>,
}

impl LastSpecial {
    fn new(kvm: kvm_sregs, flags: u64) -> Self {
        Self {
            special: Special::new(&kvm, flags),
            kvm,
            flags,
        }
    }
}

impl Known {
    fn forget(&mut self) {
        *self.in_page.get_mut() = false;
        *self.registers.get_mut() = false;
        *self.special.get_mut() = false;
        *self.events.get_mut() = None;
        *self.guest_breakpoints.get_mut() = None;
    }
}

impl KvmVcpu {
    /// A vCPU of which nothing is watched at first. `support` is what [`BreakpointSupport::probe`] says, once per process.
    ///
    /// # Errors
    /// If there is no file descriptor or no memory left.
    pub fn new(vcpu: &impl AsKvmFd, support: BreakpointSupport) -> Result<Self, KvmError> {
        let fd = vcpu
            .as_kvm_fd()
            .try_clone_to_owned()
            .map_err(KvmError::on_vcpu("fcntl(F_DUPFD_CLOEXEC)"))?;
        Self::owning(fd, support)
    }

    /// The same with a file descriptor that is nobody else's.
    ///
    /// # Errors
    /// If there is no memory left.
    pub fn owning(fd: OwnedFd, support: BreakpointSupport) -> Result<Self, KvmError> {
        let page = RunPage::map(fd.as_fd()).map_err(KvmError::on_vcpu("mmap"))?;
        Ok(Self {
            fd,
            page,
            debug: DebugRegisters::new(support),
            confirmed: ConfirmedTranslations::default(),
            valid_bits_added: Cell::new(0),
            returning: Returning::AtOnce,
            pending: Cell::new(false),
            known: Known::default(),
            last_registers: RefCell::default(),
            last_special: RefCell::new(LastSpecial::new(kvm_sregs::default(), 0)),
        })
    }

    /// Lets registers go back to the vCPU with the next KVM_RUN, through the run page, after an instruction was emulated at
    /// a breakpoint. That saves a system call, which is a fifth of the cost of such an instruction.
    ///
    /// Until that KVM_RUN the vCPU has the old registers for whoever asks KVM, while memory has been written: call
    /// [`settle`](Self::settle) before the vCPU's state is read or saved.
    #[must_use]
    pub fn returning_registers_with_next_run(mut self) -> Self {
        self.returning = Returning::WithNextRun;
        self
    }

    /// Gives the vCPU the registers that the run page has for it. To be called before somebody else reads the vCPU's state,
    /// where [`returning_registers_with_next_run`](Self::returning_registers_with_next_run) is in use; otherwise there
    /// are none.
    ///
    /// # Errors
    /// If KVM does not take them. They go to it with the next KVM_RUN then.
    pub fn settle(&self) -> Result<(), KvmError> {
        if !self.is_pending() {
            return Ok(());
        }
        let registers = kvm_regs::from(&self.page.registers());
        self.set(&calls::SET_REGS, &registers)?;
        self.page.set_dirty(self.page.dirty() & !REGISTERS);
        self.pending.set(false);
        Ok(())
    }

    /// What the last exit says about a breakpoint, if it was of the kind "debug": for a VMM whose bindings of KVM are
    /// not `kvm_bindings`, or others.
    #[must_use]
    pub fn debug_exit(&self) -> Option<kvm_debug_exit_arch> {
        self.page.debug_exit()
    }

    /// Nothing is known any more of what it was before it ran.
    pub(super) fn forget(&mut self) {
        self.known.forget();
    }

    /// What must not be looked at or changed.
    #[inline]
    pub(super) fn inaccessible(&self) -> Result<Option<Inaccessible>, KvmError> {
        let flags = u32::from(self.page.flags());
        if flags & KVM_RUN_X86_GUEST_MODE != 0 {
            return Ok(Some(Inaccessible::NestedGuest));
        }
        if flags & KVM_RUN_X86_SMM != 0 {
            return Ok(Some(Inaccessible::SystemManagement));
        }
        let special = match self.special() {
            Ok(special) => special,
            Err(error) if error.is_hidden_state() => return Ok(Some(Inaccessible::Confidential)),
            Err(error) => return Err(error),
        };
        // Both VMX and SVM want these bits set in a nested guest, too.
        if special.may_have_nested_guests && self.is_in_nested_guest() {
            return Ok(Some(Inaccessible::NestedGuest));
        }
        Ok(None)
    }

    /// A KVM that does not tell is not trusted.
    fn is_in_nested_guest(&self) -> bool {
        let state = NESTED_STATE.make(self.fd.as_fd(), ());
        state.map_or(true, |state| {
            u32::from(state.flags) & KVM_STATE_NESTED_GUEST_MODE != 0
        })
    }

    /// Registers that the VMM has put into the run page are an event as well: the vCPU will not be where it is now.
    #[inline]
    pub(super) fn has_event(&self) -> Result<bool, KvmError> {
        let own = if self.is_pending() { REGISTERS } else { 0 };
        if self.page.dirty() & ALL & !own != 0 {
            return Ok(true);
        }
        let events = self.events()?;
        let any = [
            events.exception.injected,
            events.exception.pending,
            events.interrupt.injected,
            events.nmi.injected,
            events.smi.smm,
            events.triple_fault.pending,
        ];
        Ok(any.iter().any(|&flag| flag != 0))
    }

    /// Takes from the run page what the last exit has left there. `rip` is where the vCPU is known
    /// to be, as a linear address: if the page says anything else, it is not believed.
    ///
    /// What the guest does with its debug registers is not in there: that is what it was when
    /// somebody last asked.
    pub(super) fn take_from_run_page(&self, rip: u64, guest_breakpoints: bool) {
        if self.page.valid() & ALL != ALL || self.page.dirty() & ALL != 0 {
            return;
        }
        let registers = self.page.registers();
        let flags = registers.rflags & Special::FLAGS;
        let mut last = self.last_special.borrow_mut();
        // Most of the time they are what they were at the last exit.
        if last.flags != flags || !self.page.has_special(&last.kvm) {
            *last = LastSpecial::new(self.page.special(), flags);
        }
        if last.special.context.code_address(registers.rip) == rip {
            *self.last_registers.borrow_mut() = registers;
            self.known.in_page.set(true);
            self.known.registers.set(true);
            self.known.special.set(true);
            self.known.guest_breakpoints.set(Some(guest_breakpoints));
        }
    }

    /// Whether KVM is to leave registers in the run page at every exit.
    pub(super) fn sync_to_run_page(&self, sync: bool) {
        let valid = self.page.valid();
        let added = self.valid_bits_added.get();
        if sync {
            self.valid_bits_added.set(added | ALL & !valid);
            self.page.set_valid(valid | ALL);
        } else {
            self.valid_bits_added.set(0);
            self.page.set_valid(valid & !added);
        }
    }

    #[inline]
    pub(super) fn registers(&self) -> Result<Ref<'_, Registers>, KvmError> {
        if !self.known.registers.get() {
            self.ask_for_registers()?;
        }
        Ok(self.last_registers.borrow())
    }

    #[cold]
    fn ask_for_registers(&self) -> Result<(), KvmError> {
        let registers = if self.is_pending() {
            self.page.registers()
        } else {
            Registers::from(&self.get(&calls::GET_REGS)?)
        };
        self.last_registers.replace(registers);
        self.known.registers.set(true);
        Ok(())
    }

    #[inline]
    pub(super) fn special(&self) -> Result<Ref<'_, Special>, KvmError> {
        if !self.known.special.get() {
            self.ask_for_special()?;
        }
        Ok(Ref::map(self.last_special.borrow(), |last| &last.special))
    }

    #[cold]
    fn ask_for_special(&self) -> Result<(), KvmError> {
        let flags = self.registers()?.rflags & Special::FLAGS;
        let kvm = self.get(&calls::GET_SREGS)?;
        self.last_special.replace(LastSpecial::new(kvm, flags));
        self.known.special.set(true);
        Ok(())
    }

    #[inline]
    pub(super) fn events(&self) -> Result<kvm_vcpu_events, KvmError> {
        if let Some(events) = self.known.events.get() {
            return Ok(events);
        }
        if self.known.in_page.get() {
            return Ok(self.page.events());
        }
        self.ask_for_events()
    }

    #[cold]
    fn ask_for_events(&self) -> Result<kvm_vcpu_events, KvmError> {
        let events = self.get(&calls::GET_VCPU_EVENTS)?;
        self.known.events.set(Some(events));
        Ok(events)
    }

    #[inline]
    pub(super) fn set_registers(&self, registers: &Registers) -> Result<(), KvmError> {
        self.known.registers.set(false);
        // An exit of another kind may be followed by anything.
        if self.returning == Returning::WithNextRun && self.known.in_page.get() {
            self.page.set_registers(registers);
            self.page.set_dirty(self.page.dirty() | REGISTERS);
            self.pending.set(true);
        } else {
            self.settle()?;
            self.set(&calls::SET_REGS, &registers.into())?;
            if self.page.valid() & REGISTERS != 0 {
                self.page.set_registers(registers);
            }
        }
        Ok(())
    }

    /// `events` has another shadow than before, and says that nothing else is to be set.
    pub(super) fn set_shadow(&self, events: &kvm_vcpu_events) -> Result<(), KvmError> {
        self.settle()?;
        self.known.events.set(None);
        self.set(&calls::SET_VCPU_EVENTS, events)?;
        if self.page.valid() & EVENTS != 0 && events.interrupt.shadow == 0 {
            self.page.end_shadow();
        }
        Ok(())
    }

    pub(super) fn debug_registers(&self) -> Result<kvm_debugregs, KvmError> {
        self.get(&calls::GET_DEBUGREGS)
    }

    pub(super) fn set_debug_registers(&self, to: &kvm_debugregs) -> Result<(), KvmError> {
        self.set(&calls::SET_DEBUGREGS, to)
    }

    pub(super) fn set_guest_debug(&self, debug: &kvm_guest_debug) -> Result<(), KvmError> {
        self.settle()?;
        self.set(&calls::SET_GUEST_DEBUG, debug)
    }

    /// It waits for an interrupt, or was never started.
    pub(super) fn mp_state(&self) -> Result<u32, KvmError> {
        self.get(&calls::GET_MP_STATE).map(|state| state.mp_state)
    }

    /// Whether the guest has armed breakpoints of its own.
    #[inline]
    pub(super) fn guest_breakpoints(&self) -> Result<bool, KvmError> {
        match self.known.guest_breakpoints.get() {
            Some(known) => Ok(known),
            None => self.ask_for_guest_breakpoints(),
        }
    }

    #[cold]
    fn ask_for_guest_breakpoints(&self) -> Result<bool, KvmError> {
        /// The bits of DR7 that arm one.
        const ARMED: u64 = 0xff;
        let armed = self.debug_registers()?.dr7 & ARMED != 0;
        self.known.guest_breakpoints.set(Some(armed));
        Ok(armed)
    }

    /// What is known of them is asked for again.
    pub(super) fn forget_guest_breakpoints(&self) {
        self.known.guest_breakpoints.set(None);
    }

    pub(super) fn confirmed(&self) -> &ConfirmedTranslations {
        &self.confirmed
    }

    /// Whether KVM finds this address at the same place.
    pub(super) fn confirms(&self, linear: u64, translation: &Translation) -> bool {
        let physical = translation.physical();
        if let Ok(Some(found)) = self.translate(linear) {
            return found == physical;
        }
        // KVM asks for a supervisor, whom SMAP keeps out of the pages of programs, unless he says that he means it.
        let smap = self.special().is_ok_and(|it| it.smap);
        smap && translation.is_for_user()
            && self.with_alignment_check(|| self.translate(linear)) == Some(physical)
    }

    fn translate(&self, linear: u64) -> Result<Option<u64>, KvmError> {
        let question = kvm_translation {
            linear_address: linear,
            ..Default::default()
        };
        let answer = calls::TRANSLATE.make(self.fd.as_fd(), question);
        let answer = answer.map_err(KvmError::on_vcpu(calls::TRANSLATE.call().name))?;
        Ok((answer.valid != 0).then_some(answer.physical_address))
    }

    /// With EFLAGS.AC set for that long. `None` if it was set before, or cannot be.
    fn with_alignment_check(
        &self,
        ask: impl FnOnce() -> Result<Option<u64>, KvmError>,
    ) -> Option<u64> {
        // KVM_SET_REGS makes KVM forget an exception that is due.
        if self.has_event().ok()? {
            return None;
        }
        self.settle().ok()?;
        let before = kvm_regs::from(&*self.registers().ok()?);
        if before.rflags & rflags::ALIGNMENT_CHECK != 0 {
            return None;
        }
        let with_flag = kvm_regs {
            rflags: before.rflags | rflags::ALIGNMENT_CHECK,
            ..before
        };
        self.set(&calls::SET_REGS, &with_flag).ok()?;
        let answer = ask();
        // The same call with another flag has just worked. If it fails all the same, nothing may be said.
        self.set(&calls::SET_REGS, &before).ok()?;
        answer.ok()?
    }

    /// Registers lie in the run page that the vCPU has not got yet.
    fn is_pending(&self) -> bool {
        if self.pending.get() && self.page.dirty() & REGISTERS == 0 {
            // KVM_RUN has taken them.
            self.pending.set(false);
        }
        self.pending.get()
    }

    fn get<T: Default>(&self, call: &impl Give<(), Answer = T>) -> Result<T, KvmError> {
        let answer = call.make(self.fd.as_fd(), ());
        answer.map_err(KvmError::on_vcpu(call.call().name))
    }

    fn set<'a, T>(
        &self,
        call: &impl Give<&'a T, Answer = ()>,
        value: &'a T,
    ) -> Result<(), KvmError> {
        let done = call.make(self.fd.as_fd(), value);
        done.map_err(KvmError::on_vcpu(call.call().name))
    }
}

impl Drop for KvmVcpu {
    /// Nothing is left in the run page that was put there here, and nothing is watched.
    fn drop(&mut self) {
        // If it fails, the registers go to the vCPU with the next KVM_RUN.
        let _ = self.settle();
        self.sync_to_run_page(false);
        if self.debug.is_in_use() {
            // A vCPU that does not let go of its breakpoints belongs to a VM that is torn down.
            let _ = self.set_guest_debug(&kvm_guest_debug::default());
        }
    }
}
