//! What this process has of KVM.

use std::cell::RefCell;
use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::sync::{Arc, RwLock};

use crate::help::Help;
use crate::settings::Settings;
use crate::sys::{self, Thread, ThreadId};
use crate::vcpu::Vcpu;
use crate::vm::Vm;
use crate::{read, write};

/// From the first VM on that a process makes. A forked child has its own.
#[derive(Debug)]
pub(crate) struct Process {
    help: Help,
    objects: RwLock<HashMap<RawFd, Object>>,
    /// Of `objects`: another number after each change.
    generation: AtomicU64,
    vms: AtomicU32,
    is_watched: AtomicBool,
}

/// What a number of the VMM stands for, or has stood for when it was last used.
#[derive(Debug, Clone)]
enum Object {
    Vm(Arc<Vm>),
    Vcpu(Arc<Vcpu>),
    /// Something else, or something that was not seen being made.
    Unknown,
}

/// The vCPU that a thread has run last.
#[derive(Debug)]
struct LastVcpu {
    process: *const Process,
    generation: u64,
    fd: RawFd,
    vcpu: Arc<Vcpu>,
}

thread_local! {
    static LAST: RefCell<Option<LastVcpu>> = const { RefCell::new(None) };
}

impl Process {
    pub(crate) fn existing() -> Option<&'static Self> {
        sys::per_process(None)
    }

    pub(crate) fn existing_or_new() -> Option<&'static Self> {
        sys::per_process(Some(Self::new))
    }

    fn new() -> Self {
        Self {
            help: Help::new(Settings::from_environment()),
            objects: RwLock::default(),
            generation: AtomicU64::default(),
            vms: AtomicU32::default(),
            is_watched: AtomicBool::default(),
        }
    }

    pub(crate) fn help(&self) -> &Help {
        &self.help
    }

    pub(crate) fn add_vm(&self, kvm: RawFd, fd: RawFd) {
        self.forget_closed();
        self.help.remember_kvm(kvm);
        match sys::duplicate(fd) {
            Some(duplicate) => {
                let vm = Vm::new(self.vms.fetch_add(1, Relaxed), duplicate);
                self.insert(fd, Object::Vm(Arc::new(vm)));
            }
            None => self.no_descriptor(fd),
        }
    }

    pub(crate) fn add_vcpu(&self, vm: RawFd, fd: RawFd, id: u32) {
        self.forget_closed();
        let Some(vm) = self.vm(vm) else {
            return self.insert(fd, Object::Unknown);
        };
        // Before the guest runs: later, signals of the VMM that come meanwhile would be taken together.
        self.help.breakpoint_support();
        match sys::duplicate(fd) {
            Some(duplicate) => {
                let record = self.help.report().add_vcpu(vm.number, id);
                let vcpu = Vcpu::new(duplicate, vm, record, self.help.kick_signal());
                self.insert(fd, Object::Vcpu(Arc::new(vcpu)));
            }
            None => self.no_descriptor(fd),
        }
    }

    fn no_descriptor(&self, fd: RawFd) {
        self.help
            .report()
            .problem("no file descriptor was left, so that some guests are left to the kernel");
        self.insert(fd, Object::Unknown);
    }

    fn insert(&self, fd: RawFd, object: Object) {
        let mut objects = write(&self.objects);
        let before = objects.insert(fd, object);
        self.generation.fetch_add(1, AcqRel);
        drop(objects);
        // Outside of the lock: it may be the last reference, and closing takes its time.
        drop(before);
    }

    /// The VM that a number stands for now.
    pub(crate) fn vm(&self, fd: RawFd) -> Option<Arc<Vm>> {
        let known = read(&self.objects).get(&fd).cloned();
        match known {
            Some(Object::Vm(vm)) if is(&vm.fd, fd) != Some(false) => return Some(vm),
            // What was made for this number is what it is; only kcmp(2) could say otherwise.
            Some(Object::Vcpu(vcpu)) if is(&vcpu.fd, fd) != Some(false) => return None,
            _ => {}
        }
        let vms = self.vms();
        let found = vms.iter().find(|vm| is(&vm.fd, fd) == Some(true)).cloned();
        if let Some(vm) = &found {
            self.insert(fd, Object::Vm(Arc::clone(vm)));
        } else if vms.iter().any(|vm| is(&vm.fd, fd).is_none()) {
            // It may be any of them, and its memory may be about to change.
            for vm in vms {
                vm.leave_to_cpu("its descriptor was duplicated, and kcmp(2) does not work here");
            }
        }
        found
    }

    /// Acts on the vCPU that a number stands for, if it is the one that this thread has used last.
    #[inline]
    pub(crate) fn with_last_vcpu<T>(
        &'static self,
        fd: RawFd,
        act: impl FnOnce(&Arc<Vcpu>) -> T,
    ) -> Option<T> {
        let generation = self.generation.load(Acquire);
        let of_last = |last: &RefCell<Option<LastVcpu>>| {
            let last = last.try_borrow().ok()?;
            let last = last.as_ref().filter(|last| {
                last.fd == fd && last.generation == generation && ptr::eq(last.process, self)
            })?;
            Some(act(&last.vcpu))
        };
        // A thread that is about to end has no such memory any more.
        LAST.try_with(of_last).ok()?
    }

    /// The vCPU that a number stands for, or did so when it was last heard of.
    pub(crate) fn vcpu(&'static self, fd: RawFd) -> Option<Arc<Vcpu>> {
        if let Some(vcpu) = self.with_last_vcpu(fd, Arc::clone) {
            return Some(vcpu);
        }
        let generation = self.generation.load(Acquire);
        let known = read(&self.objects).get(&fd).cloned();
        let vcpu = match known {
            Some(Object::Vcpu(vcpu)) => vcpu,
            Some(Object::Vm(_) | Object::Unknown) => return None,
            None => self.adopt(fd)?,
        };
        let last = LastVcpu {
            process: self,
            generation,
            fd,
            vcpu: Arc::clone(&vcpu),
        };
        // The one before is not in use, as a thread makes one call at a time.
        let _ = LAST.try_with(|it| it.try_borrow_mut().map(|mut it| it.replace(last)));
        Some(vcpu)
    }

    /// Another number of a vCPU that is known.
    fn adopt(&self, fd: RawFd) -> Option<Arc<Vcpu>> {
        let found = self
            .vcpus()
            .into_iter()
            .find(|vcpu| is(&vcpu.fd, fd) == Some(true));
        match &found {
            Some(vcpu) => self.insert(fd, Object::Vcpu(Arc::clone(vcpu))),
            // Whatever else it is, nobody asks again; unless it has just been made.
            None => {
                write(&self.objects).entry(fd).or_insert(Object::Unknown);
            }
        }
        found
    }

    fn vms(&self) -> Vec<Arc<Vm>> {
        let objects = read(&self.objects);
        let vms = objects.values().filter_map(|object| match object {
            Object::Vm(vm) => Some(Arc::clone(vm)),
            Object::Vcpu(vcpu) => Some(Arc::clone(&vcpu.vm)),
            Object::Unknown => None,
        });
        vms.collect()
    }

    pub(crate) fn vcpus(&self) -> Vec<Arc<Vcpu>> {
        let objects = read(&self.objects);
        let vcpus = objects.values().filter_map(|object| match object {
            Object::Vcpu(vcpu) => Some(Arc::clone(vcpu)),
            Object::Vm(_) | Object::Unknown => None,
        });
        vcpus.collect()
    }

    /// Changes whenever there are other vCPUs.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Acquire)
    }

    /// Gives up what the VMM has closed: KVM keeps a VM for as long as there is one descriptor.
    pub(crate) fn forget_closed(&self) {
        let mut closed = Vec::new();
        let is_closed = |fd: RawFd, object: &Object| match object {
            Object::Vm(vm) => is_closed(&vm.fd, fd),
            Object::Vcpu(vcpu) => is_closed(&vcpu.fd, fd),
            Object::Unknown => !sys::is_open(fd),
        };
        let any = read(&self.objects)
            .iter()
            .any(|(&fd, it)| is_closed(fd, it));
        if any {
            let mut objects = write(&self.objects);
            closed.extend(objects.extract_if(|&fd, it| is_closed(fd, it)));
            self.generation.fetch_add(1, AcqRel);
        }
        drop(closed);
    }

    /// Before a thread runs a vCPU; but for the first time that costs nothing.
    #[inline]
    pub(crate) fn prepare_thread(&'static self, thread: &Thread) -> ThreadId {
        thread.prepared_for(self, || {
            if let Some(signal) = self.help.kick_signal() {
                signal.unblock();
            }
        })
    }

    /// Whether there is nobody yet who looks after the vCPUs. Whoever asks sees to it.
    pub(crate) fn needs_watchdog(&self) -> bool {
        !self.is_watched.load(Relaxed) && !self.is_watched.swap(true, AcqRel)
    }
}

fn is(ours: &OwnedFd, fd: RawFd) -> Option<bool> {
    sys::same_file(fd, ours.as_fd())
}

fn is_closed(ours: &OwnedFd, fd: RawFd) -> bool {
    is(ours, fd).map_or_else(|| !sys::is_open(fd), |same| !same)
}
