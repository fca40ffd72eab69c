//! What went wrong, as an error number and as a sentence.

use std::cell::RefCell;
use std::ffi::{CString, c_char, c_int};
use std::ptr;

use kvm_preemption_timer::{Error, KickError};

thread_local! {
    /// The sentence of the calling thread's last failure.
    static LAST: RefCell<Option<CString>> = const { RefCell::new(None) };
}

/// A failure of a function of this library.
pub(crate) struct Failure {
    errno: c_int,
    sentence: String,
}

impl Failure {
    pub(crate) fn invalid(sentence: impl Into<String>) -> Self {
        Failure {
            errno: libc::EINVAL,
            sentence: sentence.into(),
        }
    }

    pub(crate) fn wrong_thread(function: &str) -> Self {
        Failure {
            errno: libc::EPERM,
            sentence: format!(
                "{function} was called on another thread than the one that the vCPU is bound to: \
                 call it there"
            ),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let errno = match &error {
            Error::SignalTaken { .. }
            | Error::SignalHandled { .. }
            | Error::SignalPending { .. } => libc::EBUSY,
            Error::TimerLimit { .. } => libc::EAGAIN,
            Error::Forked => libc::ECHILD,
            Error::System { source, .. } => source.raw_os_error().unwrap_or(libc::EIO),
            _ => libc::EIO,
        };
        Failure {
            errno,
            sentence: error.to_string(),
        }
    }
}

impl From<KickError> for Failure {
    fn from(error: KickError) -> Self {
        let errno = match &error {
            KickError::Gone => libc::ESRCH,
            KickError::Forked => libc::ECHILD,
            KickError::NotSent { source, .. } => source.raw_os_error().unwrap_or(libc::EAGAIN),
            _ => libc::EIO,
        };
        Failure {
            errno,
            sentence: error.to_string(),
        }
    }
}

/// 0, or a negative error number whose sentence is kept for [`last`].
pub(crate) fn report(result: Result<(), Failure>) -> c_int {
    let Err(failure) = result else { return 0 };
    let sentence = CString::new(failure.sentence).unwrap_or_default();
    LAST.replace(Some(sentence));
    -failure.errno
}

/// The calling thread's last sentence. It stays where it is until the thread's next failure.
pub(crate) fn last() -> *const c_char {
    LAST.with_borrow(|last| last.as_ref().map_or(ptr::null(), |last| last.as_ptr()))
}
