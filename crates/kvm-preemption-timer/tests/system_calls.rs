//! Looks, from outside, which system calls the vCPU's thread makes: one for each guest exit, and
//! otherwise those that the crate's page lists for seccomp filters.

mod common;

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::time::Duration;

use common::{OUT_LOOP, both_configs, each_mechanism};
use kvm_preemption_timer::{Deadline, Interruption, Mechanism, RunEnd, VcpuBinding};
use nix::sys::ptrace;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

const EXITS: u64 = 1000;
const ROLE: &str = "SPLITLOCK_TEST_TRACED";
const KVM_RUN: u64 = 0xae80;
const KVM_SET_SIGNAL_MASK: u64 = 0x4004_ae8b;

/// What the thread does between two marks. The names are those of the crate's page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Binding,
    NewDeadline,
    Exits,
    Interruption,
    CpuTime,
    Kick,
    Dropping,
}

const PHASES: [Phase; 7] = [
    Phase::Binding,
    Phase::NewDeadline,
    Phase::Exits,
    Phase::Interruption,
    Phase::CpuTime,
    Phase::Kick,
    Phase::Dropping,
];

impl Phase {
    /// The row of the page's table.
    fn listed(self) -> &'static [&'static str] {
        match self {
            Phase::Binding => &[
                "mmap",
                "munmap",
                "rt_sigaction",
                "rt_sigpending",
                "rt_sigprocmask",
                "gettid",
                "getpid",
                "timer_create",
                "futex",
            ],
            Phase::NewDeadline | Phase::Interruption => &[
                "timer_settime",
                "rt_sigprocmask",
                "rt_sigaction",
                "getpid",
                "clock_gettime",
            ],
            Phase::Exits => &[],
            Phase::CpuTime => &[
                "timer_create",
                "gettid",
                "timer_settime",
                "rt_sigprocmask",
                "rt_sigaction",
                "getpid",
                "clock_gettime",
            ],
            Phase::Kick => &["getpid", "tgkill", "futex"],
            Phase::Dropping => &[
                "timer_delete",
                "rt_sigprocmask",
                "rt_sigtimedwait",
                "rt_sigaction",
                "getpid",
                "munmap",
            ],
        }
    }
}

/// The row for a mask in KVM, which is in addition, and what every run and every handler needs.
const WITH_MASK: [&str; 4] = ["fcntl", "KVM_SET_SIGNAL_MASK", "rt_sigtimedwait", "close"];
const ALWAYS: [&str; 2] = ["KVM_RUN", "rt_sigreturn"];

fn main() -> ExitCode {
    if std::env::var_os(ROLE).is_some() {
        be_traced();
        return ExitCode::SUCCESS;
    }
    if common::kvm_or_skip().is_none() {
        return ExitCode::SUCCESS;
    }
    let counts = trace_self();
    let configs = both_configs();
    assert_eq!(counts.len(), PHASES.len() * configs.len());
    for ((index, counts), config) in counts
        .iter()
        .enumerate()
        .zip(configs.iter().flat_map(|config| [config; PHASES.len()]))
    {
        let phase = PHASES[index % PHASES.len()];
        println!("{:?}, {phase:?}: {counts:?}", config.mechanism);
        let masked = config.mechanism == Mechanism::MaskedSignal;
        for name in counts.keys() {
            let listed = phase.listed().contains(&name.as_str())
                || ALWAYS.contains(&name.as_str())
                || masked && WITH_MASK.contains(&name.as_str());
            assert!(listed, "{name} is not listed for {phase:?}");
        }
        if phase == Phase::Exits {
            assert_eq!(*counts, BTreeMap::from([("KVM_RUN".to_owned(), EXITS)]));
        }
    }
    println!("test one_system_call_per_guest_exit_and_others_as_listed ... ok");
    ExitCode::SUCCESS
}

/// Ends a phase by a system call that nothing else here makes.
fn mark() {
    nix::unistd::getppid();
}

fn be_traced() {
    each_mechanism(OUT_LOOP, |config, mut vcpu| {
        // What the allocator needs once is not the binding's.
        drop(VcpuBinding::of_with_config(&vcpu, config).unwrap());
        mark();
        let mut binding = VcpuBinding::of_with_config(&vcpu, config).unwrap();
        let kicker = binding.kicker();
        mark();
        let deadline = Deadline::after(Duration::from_secs(3600));
        let mut run = |deadline| match binding.run_until(&mut vcpu, deadline).unwrap() {
            RunEnd::Exit(_) => None,
            RunEnd::Interrupted(interruption) => Some(interruption),
        };
        assert_eq!(run(deadline), None);
        mark();
        for _ in 0..EXITS {
            assert_eq!(run(deadline), None);
        }
        mark();
        let soon = Deadline::after(Duration::from_millis(1));
        while !matches!(run(soon), Some(Interruption::Expired(_))) {}
        mark();
        let cpu_time = Deadline::after_cpu(Duration::from_millis(1));
        while !matches!(run(cpu_time), Some(Interruption::Expired(_))) {}
        mark();
        kicker.kick().unwrap();
        mark();
        drop(binding);
        mark();
    });
}

/// Runs this program again, and counts its system calls between the marks of each mechanism.
fn trace_self() -> Vec<BTreeMap<String, u64>> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env(ROLE, "1");
    stop_for_tracer(&mut command);
    let child = Pid::from_raw(command.spawn().unwrap().id() as i32);
    waitpid(child, None).unwrap();
    ptrace::setoptions(child, ptrace::Options::PTRACE_O_TRACESYSGOOD).unwrap();
    let mut phases: Vec<BTreeMap<String, u64>> = vec![];
    let mut marks = 0;
    let mut entering = true;
    let mut deliver = None;
    loop {
        ptrace::syscall(child, deliver.take()).unwrap();
        match waitpid(child, None).unwrap() {
            WaitStatus::PtraceSyscall(_) if entering => {
                let regs = ptrace::getregs(child).unwrap();
                match regs.orig_rax as i64 {
                    libc::SYS_getppid => {
                        marks += 1;
                        // The last mark of one mechanism begins nothing.
                        if marks % (PHASES.len() + 1) != 0 {
                            phases.push(BTreeMap::new());
                        }
                    }
                    number if marks % (PHASES.len() + 1) != 0 => {
                        let counts = phases.last_mut().unwrap();
                        *counts.entry(name(number, regs.rsi)).or_insert(0) += 1;
                    }
                    _ => {}
                }
                entering = false;
            }
            WaitStatus::PtraceSyscall(_) => entering = true,
            // A signal on its way to the program.
            WaitStatus::Stopped(_, signal) => deliver = Some(signal),
            WaitStatus::Exited(_, code) => {
                assert_eq!(code, 0, "the traced process has failed");
                return phases;
            }
            other => panic!("{other:?}"),
        }
    }
}

fn name(number: i64, second_argument: u64) -> String {
    let name = match number {
        libc::SYS_ioctl if second_argument == KVM_RUN => "KVM_RUN",
        libc::SYS_ioctl if second_argument == KVM_SET_SIGNAL_MASK => "KVM_SET_SIGNAL_MASK",
        libc::SYS_mmap => "mmap",
        libc::SYS_munmap => "munmap",
        libc::SYS_close => "close",
        libc::SYS_futex => "futex",
        libc::SYS_getpid => "getpid",
        libc::SYS_gettid => "gettid",
        libc::SYS_tgkill => "tgkill",
        libc::SYS_clock_gettime => "clock_gettime",
        libc::SYS_timer_create => "timer_create",
        libc::SYS_timer_settime => "timer_settime",
        libc::SYS_timer_delete => "timer_delete",
        libc::SYS_rt_sigaction => "rt_sigaction",
        libc::SYS_rt_sigpending => "rt_sigpending",
        libc::SYS_rt_sigprocmask => "rt_sigprocmask",
        libc::SYS_rt_sigreturn => "rt_sigreturn",
        libc::SYS_rt_sigtimedwait => "rt_sigtimedwait",
        libc::SYS_fcntl => "fcntl",
        _ => return format!("system call {number}"),
    };
    name.into()
}

#[expect(unsafe_code, reason = "code between fork and exec has to be careful")]
fn stop_for_tracer(command: &mut Command) {
    // SAFETY: the closure makes one system call and allocates nothing.
    unsafe { command.pre_exec(|| ptrace::traceme().map_err(Into::into)) };
}
