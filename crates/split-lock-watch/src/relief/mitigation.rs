//! The switch `kernel.split_lock_mitigate`, which is never left at 0.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const SWITCH: &str = "/proc/sys/kernel/split_lock_mitigate";

/// Locked by whoever relieves; has [`IS_OFF`] in it while that one has switched the mitigation off. It is gone after a
/// boot, as what was switched off is.
const STATE: &str = "/run/splitlock-relief";
const IS_OFF: &[u8] = b"off";

/// The switch, held by one process at a time.
#[derive(Debug)]
pub struct Mitigation {
    switch: PathBuf,
    state: File,
    /// What a process that was killed had left behind was put right.
    restored: bool,
    busy: Arc<Mutex<()>>,
}

/// Why the mitigation cannot be switched.
#[derive(Debug, thiserror::Error)]
pub enum MitigationError {
    /// There is nothing to switch.
    #[error(
        "this kernel has no {}: it came with 6.2, and is in Debian's 6.1 and other updated kernels; before it, only split_lock_detect=off on the kernel's command line helps", .0.display()
    )]
    Absent(PathBuf),
    /// Nobody is punished.
    #[error("{} is 0 already: nobody is punished for split locks, so there is nobody to relieve", .0.display())]
    IsOff(PathBuf),
    /// Somebody else relieves.
    #[error("another `splitlock watch --relieve` is running on this machine: end that one first")]
    InUse,
    /// Anything else.
    #[error("cannot {what}: {source}")]
    Failed {
        /// What was tried, and on what.
        what: String,
        /// How it failed.
        source: io::Error,
    },
}

/// While this lives, the mitigation is off.
#[derive(Debug)]
pub(super) struct Suspended<'a> {
    mitigation: &'a Mitigation,
    is_over: bool,
    _busy: MutexGuard<'a, ()>,
}

impl Mitigation {
    /// Takes the switch. If a process that held it was killed while the mitigation was off, it is on afterwards.
    ///
    /// # Errors
    /// If there is no such switch, or it is off, or it cannot be written, or somebody else has it.
    pub fn open() -> Result<Self, MitigationError> {
        Self::at(Path::new(SWITCH), Path::new(STATE))
    }

    fn at(switch: &Path, state: &Path) -> Result<Self, MitigationError> {
        if !switch.exists() {
            return Err(MitigationError::Absent(switch.to_owned()));
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.mode(0o600).open(state);
        let state_file = file.map_err(failed("open", state))?;
        match state_file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(MitigationError::InUse),
            Err(TryLockError::Error(error)) => return Err(failed("lock", state)(error)),
        }
        let mut mitigation = Self {
            switch: switch.to_owned(),
            state: state_file,
            restored: false,
            busy: Arc::default(),
        };
        if mitigation.was_left_off().map_err(failed("read", state))? {
            mitigation.restored = mitigation.restore()?;
        }
        match mitigation.value()?.as_str() {
            "0" => Err(MitigationError::IsOff(switch.to_owned())),
            // So it is known at once whether it may be written.
            value => {
                mitigation.write(value)?;
                Ok(mitigation)
            }
        }
    }

    /// Whether a process that was killed had left the mitigation off, and it was switched on again.
    #[must_use]
    pub fn was_restored(&self) -> bool {
        self.restored
    }

    /// Is locked while the mitigation is off: whoever ends the process without more ado holds it meanwhile.
    #[must_use]
    pub fn busy(&self) -> Arc<Mutex<()>> {
        Arc::clone(&self.busy)
    }

    /// Switches it off; `None` where somebody else has done so.
    pub(super) fn suspend(&self) -> Result<Option<Suspended<'_>>, MitigationError> {
        let busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        if self.value()? == "0" {
            return Ok(None);
        }
        self.note(IS_OFF)?;
        // From here on it is switched on again, whatever happens.
        let suspended = Suspended {
            mitigation: self,
            is_over: false,
            _busy: busy,
        };
        self.write("0")?;
        Ok(Some(suspended))
    }

    /// Switches it on, unless somebody else has: then theirs stands. Whether it was still off.
    fn restore(&self) -> Result<bool, MitigationError> {
        let is_off = self.value()? == "0";
        if is_off {
            self.write("1")?;
        }
        self.note(b"")?;
        Ok(is_off)
    }

    fn was_left_off(&self) -> io::Result<bool> {
        let mut bytes = [0; IS_OFF.len()];
        let count = self.state.read_at(&mut bytes, 0)?;
        Ok(&bytes[..count] == IS_OFF)
    }

    fn note(&self, bytes: &[u8]) -> Result<(), MitigationError> {
        let written = self.state.set_len(0);
        let written = written.and_then(|()| self.state.write_all_at(bytes, 0));
        written.map_err(failed("write", Path::new(STATE)))
    }

    fn value(&self) -> Result<String, MitigationError> {
        let text = fs::read_to_string(&self.switch).map_err(failed("read", &self.switch))?;
        Ok(text.trim().to_owned())
    }

    fn write(&self, value: &str) -> Result<(), MitigationError> {
        let file = OpenOptions::new().write(true).open(&self.switch);
        let written = file.and_then(|file| file.write_all_at(format!("{value}\n").as_bytes(), 0));
        written.map_err(failed(&format!("write {value} to"), &self.switch))
    }
}

/// What was tried, on what, and how it failed.
fn failed(what: &str, path: &Path) -> impl FnOnce(io::Error) -> MitigationError + use<> {
    let what = format!("{what} {}", path.display());
    move |source| MitigationError::Failed { what, source }
}

impl Suspended<'_> {
    /// Switches the mitigation on again. Whether it was still off: otherwise somebody else has switched it on.
    pub(super) fn end(mut self) -> Result<bool, MitigationError> {
        self.is_over = true;
        self.mitigation.restore()
    }
}

impl Drop for Suspended<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            // A panic or an error is on its way already, and says more.
            let _ = self.mitigation.restore();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Paths {
        _folder: tempfile::TempDir,
        switch: PathBuf,
        state: PathBuf,
    }

    impl Paths {
        fn new(value: &str) -> Self {
            let folder = crate::fixture::folder(&[("switch", value)]);
            Self {
                switch: folder.path().join("switch"),
                state: folder.path().join("state"),
                _folder: folder,
            }
        }

        fn open(&self) -> Result<Mitigation, MitigationError> {
            Mitigation::at(&self.switch, &self.state)
        }

        fn value(&self) -> String {
            let text = fs::read_to_string(&self.switch).unwrap();
            text.lines().next().unwrap_or_default().to_owned()
        }

        fn set(&self, path: &Path, text: &str) {
            let file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .open(path);
            file.unwrap().write_all_at(text.as_bytes(), 0).unwrap();
        }
    }

    #[test]
    fn it_is_off_only_while_it_is_suspended() {
        let paths = Paths::new("1\n");
        let mitigation = paths.open().unwrap();
        let suspended = mitigation.suspend().unwrap().unwrap();
        assert_eq!(paths.value(), "0");
        assert!(mitigation.busy().try_lock().is_err());
        assert!(suspended.end().unwrap());
        assert_eq!(paths.value(), "1");
        assert!(mitigation.busy().try_lock().is_ok());
        drop(mitigation.suspend().unwrap());
        assert_eq!(paths.value(), "1");
    }

    #[test]
    fn a_panic_leaves_it_on() {
        let paths = Paths::new("1\n");
        let mitigation = paths.open().unwrap();
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _suspended = mitigation.suspend().unwrap();
            panic!("as a test");
        }));
        assert!(result.is_err());
        assert_eq!(paths.value(), "1");
        assert!(mitigation.suspend().unwrap().is_some());
    }

    #[test]
    fn what_a_killed_process_has_left_is_put_right_by_the_next() {
        let paths = Paths::new("1\n");
        let mitigation = paths.open().unwrap();
        std::mem::forget(mitigation.suspend().unwrap());
        drop(mitigation);
        assert_eq!(paths.value(), "0");
        assert!(paths.open().unwrap().was_restored());
        assert_eq!(paths.value(), "1");
        assert!(!paths.open().unwrap().was_restored());
    }

    #[test]
    fn what_others_have_written_stands() {
        let paths = Paths::new("0\n");
        assert!(matches!(paths.open(), Err(MitigationError::IsOff(_))));
        paths.set(&paths.switch, "1\n");
        let mitigation = paths.open().unwrap();
        let suspended = mitigation.suspend().unwrap().unwrap();
        paths.set(&paths.switch, "1\n");
        assert!(!suspended.end().unwrap());
        assert_eq!(paths.value(), "1");
        paths.set(&paths.switch, "0\n");
        assert!(mitigation.suspend().unwrap().is_none());
        assert_eq!(paths.value(), "0");
        // After that, what is left of an earlier run does not count.
        drop(mitigation);
        assert!(matches!(paths.open(), Err(MitigationError::IsOff(_))));
        assert_eq!(paths.value(), "0");
    }

    #[test]
    fn one_process_has_the_switch() {
        let paths = Paths::new("1\n");
        let mitigation = paths.open().unwrap();
        assert!(matches!(paths.open(), Err(MitigationError::InUse)));
        drop(mitigation);
        assert!(paths.open().is_ok());
    }

    #[test]
    fn where_there_is_no_switch_that_is_said() {
        let paths = Paths::new("1\n");
        fs::remove_file(&paths.switch).unwrap();
        let error = paths.open().unwrap_err().to_string();
        assert!(error.contains("this kernel has no"), "{error}");
    }
}
