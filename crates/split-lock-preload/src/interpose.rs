//! What is done about each call of KVM.

use std::cell::Cell;
use std::os::fd::RawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use kvm_bindings::{
    KVM_CAP_DIRTY_LOG_RING, KVM_CAP_DIRTY_LOG_RING_ACQ_REL, KVM_GUESTDBG_ENABLE,
    KVM_MEM_GUEST_MEMFD, KVM_MEM_LOG_DIRTY_PAGES, KVM_MEM_READONLY, kvm_dirty_log, kvm_enable_cap,
    kvm_guest_debug, kvm_userspace_memory_region, kvm_userspace_memory_region2,
};
use libc::{c_int, c_ulong};

use crate::process::Process;
use crate::request::Request;
use crate::slots::SlotChange;
use crate::sys::{self, Argument, Errno, SignalMask, Thread};
use crate::vcpu::{Seat, Vcpu};
use crate::{watchdog, write};

type Answer = Result<c_int, Errno>;

/// One call of the VMM, which is made once, whatever happens here.
#[inline]
pub(crate) fn call(thread: &Thread, fd: RawFd, request: c_ulong, argument: usize) -> Answer {
    let call = Call {
        thread,
        fd,
        request,
        argument,
        made: Cell::new(None),
    };
    // What a VMM does all the time is kept apart from what it does now and then.
    let answer = if Request::is_run(request) {
        catch_unwind(AssertUnwindSafe(|| call.run()))
    } else {
        call.answer_contained()
    };
    match answer {
        Ok(answer) => answer,
        Err(_panic) => call.recover(),
    }
}

/// The program ends.
#[cfg_attr(
    test,
    expect(dead_code, reason = "a test program is not asked for a report")
)]
pub(crate) fn at_exit() {
    let _ = catch_unwind(|| {
        if let Some(process) = Process::existing() {
            process.help().report().write();
        }
    });
}

struct Call<'a> {
    thread: &'a Thread,
    fd: RawFd,
    request: c_ulong,
    argument: usize,
    /// What has come of it, once it was made.
    made: Cell<Option<Answer>>,
}

impl Call<'_> {
    /// As the VMM has made it.
    fn make(&self) -> Answer {
        self.make_with(self.argument)
    }

    fn make_with(&self, argument: usize) -> Answer {
        let answer = sys::raw_ioctl(self.fd, self.request, argument);
        self.made.set(Some(answer));
        answer
    }

    #[inline(never)]
    fn answer_contained(&self) -> thread::Result<Answer> {
        catch_unwind(AssertUnwindSafe(|| self.answer()))
    }

    /// After a panic.
    #[cold]
    fn recover(&self) -> Answer {
        if let Some(process) = Process::existing() {
            process
                .help()
                .report()
                .problem("an error in the library; please report it");
            let signal = process.help().kick_signal();
            signal.map(|signal| self.thread.end_interruption(signal));
        }
        self.made
            .take()
            .unwrap_or_else(|| sys::raw_ioctl(self.fd, self.request, self.argument))
    }

    fn answer(&self) -> Answer {
        match Request::of(self.request) {
            Request::CreateVm => self.create_vm(),
            Request::CreateVcpu => self.create_vcpu(),
            Request::SetMemory => self.set_memory::<kvm_userspace_memory_region>(),
            Request::SetMemory2 => self.set_memory::<kvm_userspace_memory_region2>(),
            Request::GetDirtyLog => self.get_dirty_log(),
            Request::EnableCapability => self.enable_capability(),
            Request::SetSignalMask => self.set_signal_mask(),
            Request::SetGuestDebug => self.set_guest_debug(),
            Request::Other => self.of_vcpu(|_| self.make()),
        }
    }

    fn vcpu(&self) -> Option<Arc<Vcpu>> {
        Process::existing()?.vcpu(self.fd)
    }

    /// KVM does nothing to a vCPU while another thread is in KVM_RUN for it, or while it is looked at here.
    fn of_vcpu(&self, act: impl FnOnce(Option<&mut Seat>) -> Answer) -> Answer {
        match self.vcpu() {
            Some(vcpu) => vcpu.with_seat(act),
            None => act(None),
        }
    }

    #[inline]
    fn run(&self) -> Answer {
        let Some(process) = Process::existing() else {
            return self.make();
        };
        let with_last = process.with_last_vcpu(self.fd, |vcpu| self.run_vcpu(process, vcpu));
        with_last.unwrap_or_else(|| self.run_another(process))
    }

    /// Not the one that this thread has run last.
    #[cold]
    #[inline(never)]
    fn run_another(&self, process: &'static Process) -> Answer {
        match process.vcpu(self.fd) {
            Some(vcpu) => self.run_vcpu(process, &vcpu),
            None => self.make(),
        }
    }

    #[inline(always)]
    fn run_vcpu(&self, process: &'static Process, vcpu: &Vcpu) -> Answer {
        let number = process.prepare_thread(self.thread);
        if process.needs_watchdog() {
            start_watchdog(process);
        }
        let answer = vcpu.run(process.help(), self.thread, number, self.fd, self.argument);
        self.made.set(Some(answer));
        answer
    }

    fn create_vm(&self) -> Answer {
        let vm = self.make()?;
        if let Some(process) = Process::existing_or_new() {
            process.add_vm(self.fd, vm);
        }
        Ok(vm)
    }

    fn create_vcpu(&self) -> Answer {
        let vcpu = self.make()?;
        if let Some(process) = Process::existing() {
            process.add_vcpu(self.fd, vcpu, self.argument as u32);
        }
        Ok(vcpu)
    }

    fn set_memory<T: Argument + Into<Region>>(&self) -> Answer {
        let Some(vm) = Process::existing().and_then(|it| it.vm(self.fd)) else {
            return self.make();
        };
        // Nothing is being emulated from here on, and KVM's slots are ours when it goes on.
        let mut slots = write(&vm.slots);
        let answer = self.make()?;
        if let Some(region) = sys::read_argument::<T>(self.argument) {
            slots.apply(region.into().0);
        }
        Ok(answer)
    }

    fn get_dirty_log(&self) -> Answer {
        let Some(vm) = Process::existing().and_then(|it| it.vm(self.fd)) else {
            return self.make();
        };
        let mut slots = write(&vm.slots);
        let answer = self.make()?;
        if let Some(log) = sys::read_argument::<kvm_dirty_log>(self.argument) {
            sys::merge_dirty_pages(&log, slots.take_written(log.slot).into_iter());
        }
        Ok(answer)
    }

    fn enable_capability(&self) -> Answer {
        if self.vcpu().is_some() {
            return self.of_vcpu(|_| self.make());
        }
        let answer = self.make()?;
        let rings = [KVM_CAP_DIRTY_LOG_RING, KVM_CAP_DIRTY_LOG_RING_ACQ_REL];
        let enabled = sys::read_argument::<kvm_enable_cap>(self.argument);
        if enabled.is_some_and(|it| rings.contains(&it.cap))
            && let Some(vm) = Process::existing().and_then(|it| it.vm(self.fd))
        {
            write(&vm.slots).use_dirty_ring();
        }
        Ok(answer)
    }

    fn set_signal_mask(&self) -> Answer {
        self.of_vcpu(|seat| {
            let answer = self.make()?;
            let ours = Process::existing().and_then(|process| process.help().kick_signal());
            if let (Some(_), Some(signal)) = (seat, ours)
                && let Some(mask) = sys::read_argument::<SignalMask>(self.argument)
                && let Some(mask) = mask.without(signal.bit())
            {
                return self.make_with(mask.address());
            }
            Ok(answer)
        })
    }

    fn set_guest_debug(&self) -> Answer {
        self.of_vcpu(|seat| {
            let Some(seat) = seat else {
                return self.make();
            };
            // The VMM's own call is next, which replaces them.
            seat.give_up_breakpoints();
            let answer = self.make()?;
            if let Some(wanted) = sys::read_argument::<kvm_guest_debug>(self.argument) {
                seat.set_debugged(wanted.control & KVM_GUESTDBG_ENABLE != 0);
            }
            Ok(answer)
        })
    }
}

#[cold]
fn start_watchdog(process: &'static Process) {
    if !watchdog::start(process) {
        process
            .help()
            .report()
            .problem("no thread could be started, so that nobody can be helped");
    }
}

/// Both forms of the same.
struct Region(SlotChange);

impl From<kvm_userspace_memory_region> for Region {
    fn from(it: kvm_userspace_memory_region) -> Self {
        Self(SlotChange {
            number: it.slot,
            guest: it.guest_phys_addr,
            bytes: it.memory_size,
            host: it.userspace_addr,
            read_only: it.flags & KVM_MEM_READONLY != 0,
            logs_writes: it.flags & KVM_MEM_LOG_DIRTY_PAGES != 0,
            private: it.flags & KVM_MEM_GUEST_MEMFD != 0,
        })
    }
}

impl From<kvm_userspace_memory_region2> for Region {
    fn from(it: kvm_userspace_memory_region2) -> Self {
        kvm_userspace_memory_region {
            slot: it.slot,
            flags: it.flags,
            guest_phys_addr: it.guest_phys_addr,
            memory_size: it.memory_size,
            userspace_addr: it.userspace_addr,
        }
        .into()
    }
}
