//! Counts, from outside, the system calls that the vCPU's thread makes for each guest exit.

mod common;

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::time::Duration;

use common::{OUT_LOOP, both_configs, each_bounded, exited};
use kvm_preemption_timer::Deadline;
use nix::sys::ptrace;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

const EXITS: u64 = 1000;
const ROLE: &str = "SPLITLOCK_TEST_TRACED";
const KVM_RUN: u64 = 0xae80;

fn main() -> ExitCode {
    if std::env::var_os(ROLE).is_some() {
        be_traced();
    } else if common::kvm_or_skip().is_some() {
        let counts = trace_self();
        println!("{EXITS} exits with each mechanism: {counts:?}");
        let runs = EXITS * both_configs().len() as u64;
        assert_eq!(counts, BTreeMap::from([("KVM_RUN".to_owned(), runs)]));
        println!("test one_system_call_per_guest_exit ... ok");
    }
    ExitCode::SUCCESS
}

/// Marks the part that counts by a system call that nothing else here makes.
fn mark() {
    nix::unistd::getpgrp();
}

fn be_traced() {
    each_bounded(OUT_LOOP, |mut vcpu| {
        let deadline = Deadline::after(Duration::from_secs(3600));
        let mut run = || {
            exited(vcpu.run_until(deadline));
        };
        run();
        mark();
        (0..EXITS).for_each(|_| run());
        mark();
    });
}

/// Runs this program again, and counts its system calls between the marks.
fn trace_self() -> BTreeMap<String, u64> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env(ROLE, "1");
    stop_for_tracer(&mut command);
    let child = Pid::from_raw(command.spawn().unwrap().id() as i32);
    waitpid(child, None).unwrap();
    ptrace::setoptions(child, ptrace::Options::PTRACE_O_TRACESYSGOOD).unwrap();
    let mut counts = BTreeMap::new();
    let mut counting = false;
    let mut entering = true;
    loop {
        ptrace::syscall(child, None).unwrap();
        match waitpid(child, None).unwrap() {
            WaitStatus::PtraceSyscall(_) if entering => {
                let regs = ptrace::getregs(child).unwrap();
                match regs.orig_rax as i64 {
                    libc::SYS_getpgrp => counting = !counting,
                    number if counting => *counts.entry(name(number, regs.rsi)).or_insert(0) += 1,
                    _ => {}
                }
                entering = false;
            }
            WaitStatus::PtraceSyscall(_) => entering = true,
            WaitStatus::Exited(_, code) => {
                assert_eq!(code, 0, "the traced process has failed");
                return counts;
            }
            other => panic!("{other:?}"),
        }
    }
}

fn name(number: i64, second_argument: u64) -> String {
    match (number, second_argument) {
        (libc::SYS_ioctl, KVM_RUN) => "KVM_RUN".into(),
        _ => format!("system call {number}"),
    }
}

#[expect(unsafe_code, reason = "code between fork and exec has to be careful")]
fn stop_for_tracer(command: &mut Command) {
    // SAFETY: the closure makes one system call and allocates nothing.
    unsafe { command.pre_exec(|| ptrace::traceme().map_err(Into::into)) };
}
