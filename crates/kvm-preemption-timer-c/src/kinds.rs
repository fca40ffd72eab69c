//! The numbers of the header, and what they stand for.

use std::ffi::c_int;

use kvm_preemption_timer::{
    Config, Deadline, Interruption, KickReasons, Mechanism, MonotonicTime, Signal, SignalSet,
    ThreadCpuTime,
};

use crate::failure::Failure;

/// `struct kpt_config`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct KptConfig {
    signal: c_int,
    mechanism: c_int,
    has_kvm_mask: c_int,
    reserved: c_int,
    kvm_mask: u64,
}

impl KptConfig {
    pub(crate) fn read(self) -> Result<Config, Failure> {
        if self.reserved != 0 {
            return Err(Failure::invalid(
                "kpt_bind: `reserved` has to be 0: set the whole struct to zero first",
            ));
        }
        let config = match self.signal {
            0 => Config::new(),
            number => {
                let signal = Signal::new(number);
                let unusable = |error| Failure::invalid(format!("kpt_bind: {error}"));
                Config::new().signal(signal.map_err(unusable)?)
            }
        };
        let config = match self.mechanism {
            0 => config.mechanism(Mechanism::ImmediateExit),
            1 => config.mechanism(Mechanism::MaskedSignal),
            other => {
                return Err(Failure::invalid(format!(
                    "kpt_bind: {other} is no mechanism: KPT_IMMEDIATE_EXIT and KPT_MASKED_SIGNAL are"
                )));
            }
        };
        Ok(match self.has_kvm_mask {
            0 => config,
            _ => config.kvm_mask(SignalSet::from_bits(self.kvm_mask)),
        })
    }
}

/// A deadline on a clock of the header.
pub(crate) fn deadline(clock: c_int, ns: u64) -> Result<Deadline, Failure> {
    match clock {
        0 => Ok(Deadline::Never),
        1 => Ok(MonotonicTime::from_nanos(ns).into()),
        2 => Ok(ThreadCpuTime::from_nanos(ns).into()),
        other => Err(Failure::invalid(format!(
            "kpt_arm: {other} is no clock: KPT_NEVER, KPT_MONOTONIC and KPT_THREAD_CPU are"
        ))),
    }
}

pub(crate) fn reasons(bits: u32) -> Result<KickReasons, Failure> {
    KickReasons::from_bits(bits)
        .ok_or_else(|| Failure::invalid("kpt_kick: bit 31 is no reason: use bits 0 to 30"))
}

/// `enum kpt_interruption`, and what is said beside it.
pub(crate) fn interruption(interruption: Interruption) -> (c_int, u64) {
    match interruption {
        Interruption::Expired(expiry) => {
            let overshoot_ns = u64::try_from(expiry.overshoot.as_nanos());
            (1, overshoot_ns.unwrap_or(u64::MAX))
        }
        Interruption::Kicked(reasons) => (2, u64::from(reasons.bits())),
        _ => (0, 0),
    }
}
