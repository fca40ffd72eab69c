//! What this machine's kernel really shows of threads and timers.

use std::mem::MaybeUninit;
use std::time::{Duration, Instant};
use std::{ptr, thread};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use split_lock_host::Root;
use split_lock_host::attribution::{
    Clock, Machines, Notifies, Owner, PosixTimer, Process, timerfd_periods,
};

fn this_process() -> u32 {
    std::process::id()
}

fn this_thread() -> u32 {
    rustix::thread::gettid()
        .as_raw_nonzero()
        .get()
        .unsigned_abs()
}

/// A timer of 1 ms that signals this thread. The signal is one that is ignored.
#[expect(unsafe_code, reason = "POSIX timers have no safe interface in std")]
fn timer_of_this_thread() -> i32 {
    // SAFETY: All bits zero are a value of this structure of integers and pointers.
    let mut event: libc::sigevent = unsafe { MaybeUninit::zeroed().assume_init() };
    event.sigev_notify = libc::SIGEV_THREAD_ID;
    event.sigev_signo = libc::SIGURG;
    event.sigev_notify_thread_id = this_thread().cast_signed();
    let mut timer: libc::timer_t = ptr::null_mut();
    // SAFETY: Both pointers are to locals that outlive the call.
    let created = unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, &mut event, &mut timer) };
    assert_eq!(created, 0);
    let period = libc::timespec {
        tv_sec: 0,
        tv_nsec: 1_000_000,
    };
    let setting = libc::itimerspec {
        it_interval: period,
        it_value: period,
    };
    // SAFETY: The timer was created above, and the pointer is to a local that outlives the call.
    let set = unsafe { libc::timer_settime(timer, 0, &setting, ptr::null_mut()) };
    assert_eq!(set, 0);
    event.sigev_signo
}

#[test]
fn a_posix_timer_shows_whom_it_signals() {
    let root = Root::live().unwrap();
    // It ends with its thread's process, and nobody else here has one for this thread.
    let signal = timer_of_this_thread();
    let timers = PosixTimer::of_process(&root, this_process());
    let timers = timers.known().expect("CONFIG_CHECKPOINT_RESTORE");
    let expected = PosixTimer {
        notifies: Notifies::Thread(this_thread()),
        signal: signal.unsigned_abs(),
        clock: Clock::Time,
    };
    assert!(timers.contains(&expected), "{timers:?}");
    let text = root.text(format!("proc/{}/timers", this_process()));
    assert!(
        !text.known().unwrap().contains("1000000"),
        "a period is visible: {text:?}"
    );
}

#[test]
fn a_timerfd_shows_its_period() {
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC).unwrap();
    let period = Timespec {
        tv_sec: 0,
        tv_nsec: 7_654_321,
    };
    let setting = Itimerspec {
        it_interval: period,
        it_value: period,
    };
    timerfd_settime(&timer, TimerfdTimerFlags::empty(), &setting).unwrap();
    let periods = timerfd_periods(&Root::live().unwrap(), this_process());
    let periods = periods.known().unwrap();
    assert!(
        periods.contains(&Duration::from_nanos(7_654_321)),
        "{periods:?}"
    );
}

#[test]
fn a_thread_leads_to_its_process() {
    let root = Root::live().unwrap();
    let named = thread::Builder::new().name("a) S (b".into());
    let (tid, owner) = named
        .spawn(move || (this_thread(), Owner::now(&root, this_thread())))
        .unwrap()
        .join()
        .unwrap();
    let Owner::Lives { comm, process } = owner else {
        panic!("{owner:?}");
    };
    assert_eq!((&comm[..], process.pid), ("a) S (b", this_process()));
    assert_ne!(tid, this_process());
    let root = Root::live().unwrap();
    let program = std::env::current_exe().unwrap();
    assert_eq!(process.exe.known().unwrap(), program.to_str().unwrap());
    let uptime = root.text("proc/uptime");
    let uptime: f64 = uptime
        .known()
        .unwrap()
        .split(' ')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    assert!(process.started.unwrap().as_secs_f64() <= uptime);
    assert!(process.vm.is_none());
}

#[test]
fn a_process_that_has_ended_is_gone() {
    let root = Root::live().unwrap();
    let mut child = std::process::Command::new("sleep")
        .arg("1000")
        .spawn()
        .unwrap();
    let pid = child.id();
    let process = Process::read(&root, pid);
    assert!(process.known().is_some(), "{process:?}");
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(Owner::now(&root, pid), Owner::Gone);
}

#[test]
fn all_machines_of_this_host_are_looked_for() {
    let root = Root::live().unwrap();
    let since = Instant::now();
    let machines = Machines::read(&root);
    println!(
        "{} machines in {:?}",
        machines.machines.len(),
        since.elapsed()
    );
    let is_this =
        |machine: &split_lock_host::attribution::Machine| machine.process.pid == this_process();
    assert!(!machines.machines.iter().any(is_this));
}
