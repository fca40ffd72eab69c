//! Why KVM does not do what was asked.

use std::io;

/// A call that failed.
#[derive(Debug, thiserror::Error)]
#[error("{call} failed on {on}: {source}; {advice}")]
pub struct KvmError {
    call: &'static str,
    on: &'static str,
    advice: &'static str,
    source: io::Error,
}

impl KvmError {
    pub(super) fn on_vcpu(call: &'static str) -> impl FnOnce(io::Error) -> Self {
        const ADVICE: &str =
            "call it on the thread that runs the vCPU, and look in the kernel log for the reason";
        Self::of(call, "a vCPU", ADVICE)
    }

    pub(super) fn on_scratch_vm(call: &'static str) -> impl FnOnce(io::Error) -> Self {
        const ADVICE: &str = "run without breakpoints, and report this with the kernel's version";
        Self::of(call, "the VM that tries out breakpoints", ADVICE)
    }

    /// KVM says that it cannot see what was asked for, as opposed to that it failed.
    pub(super) fn is_hidden_state(&self) -> bool {
        self.source.raw_os_error() == Some(libc::EINVAL)
    }

    fn of(
        call: &'static str,
        on: &'static str,
        advice: &'static str,
    ) -> impl FnOnce(io::Error) -> Self {
        move |source| Self {
            call,
            on,
            advice,
            source,
        }
    }
}
