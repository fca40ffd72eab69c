//! The functions of the header.

#![expect(unsafe_code, reason = "C hands over pointers")]

use std::ffi::{c_char, c_int};
use std::os::fd::BorrowedFd;

use kvm_preemption_timer::{Config, Kicker, VcpuBinding};

use crate::failure::{self, Failure};
use crate::kinds::{self, KptConfig};

/// `kpt_binding` of the header.
#[derive(Debug)]
pub struct KptBinding {
    binding: VcpuBinding,
    /// C does not see to it that a binding stays on its thread.
    thread: libc::pthread_t,
}

/// `kpt_kicker` of the header.
#[derive(Debug)]
pub struct KptKicker(Kicker);

/// No system call, unlike `gettid`: this is asked before every run.
fn current_thread() -> libc::pthread_t {
    // SAFETY: it has no preconditions.
    unsafe { libc::pthread_self() }
}

impl KptBinding {
    fn on_its_thread(&self, function: &str) -> Result<(), Failure> {
        if self.thread == current_thread() {
            Ok(())
        } else {
            Err(Failure::wrong_thread(function))
        }
    }
}

fn no_null<T>(pointer: Option<T>, function: &str, argument: &str) -> Result<T, Failure> {
    pointer.ok_or_else(|| Failure::invalid(format!("{function}: `{argument}` is NULL")))
}

/// Binds the calling thread to a vCPU.
///
/// # Safety
/// `vcpu_fd` stays open during the call, `config` is null or points to a `struct kpt_config`, and
/// `binding` is null or points to a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kpt_bind(
    vcpu_fd: c_int,
    config: *const KptConfig,
    binding: *mut *mut KptBinding,
) -> c_int {
    // SAFETY: null, or a struct that the caller has filled.
    let config = unsafe { config.as_ref() };
    // SAFETY: null, or a pointer of the caller's.
    let binding = unsafe { binding.as_mut() };
    failure::report((|| {
        let binding = no_null(binding, "kpt_bind", "binding")?;
        let config = config.map_or(Ok(Config::new()), |config| config.read())?;
        if vcpu_fd < 0 {
            let sentence = format!("kpt_bind: {vcpu_fd} is no file descriptor");
            return Err(Failure::invalid(sentence));
        }
        // SAFETY: not negative, and the caller keeps it open during this call.
        let vcpu = unsafe { BorrowedFd::borrow_raw(vcpu_fd) };
        *binding = Box::into_raw(Box::new(KptBinding {
            binding: VcpuBinding::with_config(vcpu, config)?,
            thread: current_thread(),
        }));
        Ok(())
    })())
}

/// Sees to it that the KVM_RUN that follows is interrupted at a deadline.
///
/// # Safety
/// `binding` is null or was made by [`kpt_bind`] and not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kpt_arm(binding: *mut KptBinding, clock: c_int, ns: u64) -> c_int {
    // SAFETY: null, or a live binding, which other threads are told to leave alone and which no
    // function keeps a reference to.
    let binding = unsafe { binding.as_mut() };
    failure::report((|| {
        let binding = no_null(binding, "kpt_arm", "binding")?;
        binding.on_its_thread("kpt_arm")?;
        binding.binding.arm(kinds::deadline(clock, ns)?)?;
        Ok(())
    })())
}

/// Finds out what has interrupted the last KVM_RUN.
///
/// # Safety
/// `binding` is null or was made by [`kpt_bind`] and not freed, and `detail` is null or points to 64
/// bits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kpt_interrupted(binding: *mut KptBinding, detail: *mut u64) -> c_int {
    // SAFETY: as in `kpt_arm`.
    let binding = unsafe { binding.as_mut() };
    // SAFETY: null, or the caller's.
    let detail = unsafe { detail.as_mut() };
    let mut kind = 0;
    let result = failure::report((|| {
        let binding = no_null(binding, "kpt_interrupted", "binding")?;
        binding.on_its_thread("kpt_interrupted")?;
        let (number, said) = kinds::interruption(binding.binding.interrupted());
        kind = number;
        if let Some(detail) = detail {
            *detail = said;
        }
        Ok(())
    })());
    if result < 0 { result } else { kind }
}

/// Takes everything back that the binding has changed, and frees it.
///
/// # Safety
/// `binding` is null or was made by [`kpt_bind`] and not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kpt_unbind(binding: *mut KptBinding) -> c_int {
    failure::report((|| {
        // SAFETY: as in `kpt_arm`.
        let Some(bound) = (unsafe { binding.as_ref() }) else {
            return Ok(());
        };
        bound.on_its_thread("kpt_unbind")?;
        // SAFETY: made by `Box::into_raw` in `kpt_bind`, and the caller gives it up.
        drop(unsafe { Box::from_raw(binding) });
        Ok(())
    })())
}

/// Something that kicks a vCPU, for any thread; null if `binding` is.
///
/// # Safety
/// `binding` is null or was made by [`kpt_bind`] and not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kpt_kicker_new(binding: *const KptBinding) -> *mut KptKicker {
    // SAFETY: as in `kpt_arm`.
    let binding = unsafe { binding.as_ref() };
    let mut kicker = std::ptr::null_mut();
    failure::report((|| {
        let binding = no_null(binding, "kpt_kicker_new", "binding")?;
        binding.on_its_thread("kpt_kicker_new")?;
        kicker = Box::into_raw(Box::new(KptKicker(binding.binding.kicker())));
        Ok(())
    })());
    kicker
}

/// Forces the vCPU out, and says why.
///
/// # Safety
/// `kicker` is null or was made by [`kpt_kicker_new`] and not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kpt_kick(kicker: *const KptKicker, reasons: u32) -> c_int {
    // SAFETY: null, or a live kicker, which any number of threads may share.
    let kicker = unsafe { kicker.as_ref() };
    failure::report((|| {
        let kicker = no_null(kicker, "kpt_kick", "kicker")?;
        kicker.0.kick_for(kinds::reasons(reasons)?)?;
        Ok(())
    })())
}

/// Frees a kicker.
///
/// # Safety
/// `kicker` is null or was made by [`kpt_kicker_new`], not freed, and is used by nobody else.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kpt_kicker_free(kicker: *mut KptKicker) {
    if !kicker.is_null() {
        // SAFETY: made by `Box::into_raw` in `kpt_kicker_new`, and the caller gives it up.
        drop(unsafe { Box::from_raw(kicker) });
    }
}

/// What the calling thread's last failing call said, or null.
#[unsafe(no_mangle)]
pub extern "C" fn kpt_last_error() -> *const c_char {
    failure::last()
}
