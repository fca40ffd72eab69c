//! System calls of the program, before the emulator makes them and after: those that execute another program are made
//! here, with the emulator for that program.
//!
//! The alternative is a tracer that changes the arguments of the emulator's own execve(2). It would stop every thread at
//! every one of them, needs ptrace(2), which containers may forbid, and cannot be traced itself.

use std::cell::{Cell, RefCell};
use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use split_lock_find::emulator::NotEmulated;
use split_lock_find::records::{Target, UnwatchedRecord};

use crate::crossing::forget_thread;
use crate::plugin::Plugin;
use crate::sys;

/// The kernel takes no longer argument.
const LONGEST_TEXT: usize = 128 * 1024;
/// The kernel takes no more in all: three quarters of the largest stack that counts.
const MOST_BYTES: usize = 6 * 1024 * 1024;

thread_local! {
    /// How large a stack is being made by the system call that this thread is in.
    static STACK_BYTES: Cell<Option<u64>> = const { Cell::new(None) };
    /// The execve that this thread is in, if it goes past us.
    static UNWATCHED: RefCell<Option<UnwatchedRecord<'static>>> = const { RefCell::new(None) };
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Execve,
    Execveat,
    Fork,
    Brk,
    Mmap,
}

impl Call {
    fn of(target: Target, number: i64) -> Option<Self> {
        Some(match (target, number) {
            (Target::X86_64, 59) | (Target::I386, 11) => Self::Execve,
            (Target::X86_64, 322) | (Target::I386, 358) => Self::Execveat,
            (Target::X86_64, 56..=58) | (Target::I386, 2 | 120 | 190) | (_, 435) => Self::Fork,
            (Target::X86_64, 12) | (Target::I386, 45) => Self::Brk,
            (Target::X86_64, 9) | (Target::I386, 192) => Self::Mmap,
            _ => return None,
        })
    }
}

/// What execve(2) is asked to do.
struct Request {
    path: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<OsString>,
}

impl Plugin {
    /// The program is about to make a system call.
    pub(crate) fn before_call(&self, number: i64, arguments: [u64; 5]) {
        match Call::of(self.target, number) {
            Some(Call::Execve) => {
                let [path, all, environment, ..] = arguments;
                self.execute(self.text(path).map(PathBuf::from), all, environment);
            }
            Some(Call::Execveat) => {
                let [folder, path, all, environment, flags] = arguments;
                let path = self.text(path).map(|path| at(folder as i32, &path, flags));
                self.execute(path, all, environment);
            }
            Some(Call::Mmap) => {
                const MAP_STACK: u64 = 0x20000;
                let is_stack = arguments[3] & MAP_STACK != 0;
                STACK_BYTES.set(is_stack.then_some(arguments[1]));
            }
            Some(Call::Fork | Call::Brk) | None => {}
        }
    }

    /// It has returned.
    pub(crate) fn after_call(&self, number: i64, result: i64) {
        match Call::of(self.target, number) {
            Some(Call::Execve | Call::Execveat) => {
                if let Some(record) = UNWATCHED.take() {
                    record.withdraw();
                }
            }
            Some(Call::Fork) if result == 0 => forget_thread(),
            Some(Call::Brk) if result > 0 => self.layout.set_heap_end(self.address(result)),
            Some(Call::Mmap) => {
                if let Some(bytes) = STACK_BYTES.take()
                    && !(-4095..0).contains(&result)
                {
                    self.layout.add_thread_stack(self.address(result), bytes);
                }
            }
            Some(Call::Fork | Call::Brk) | None => {}
        }
    }

    fn address(&self, result: i64) -> u64 {
        match self.target {
            Target::I386 => u64::from(result as u32),
            Target::X86_64 | Target::System => result.cast_unsigned(),
        }
    }

    /// Returns if it is the kernel that is to refuse, or if the program cannot be followed.
    fn execute(&self, path: Option<PathBuf>, arguments: u64, environment: u64) {
        let Some(path) = path else { return };
        let path = self.own_program(path);
        let reason = match self.request(&path, arguments, environment) {
            Ok(request) => self.execute_emulator(&request),
            Err(reason) => Some(reason),
        };
        if let Some(reason) = reason {
            let record = self
                .recorder
                .unwatched(path.as_os_str().as_bytes(), &reason);
            UNWATCHED.set(record);
        }
    }

    /// Why it is not followed; nothing, if there is no such program, or nobody wants to know any more.
    fn execute_emulator(&self, request: &Request) -> Option<String> {
        let start = self
            .emulators
            .start(&request.path, &request.arguments, &request.environment);
        let start = match start {
            Ok(start) => start,
            Err(NotEmulated::Unreadable(error))
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                return None;
            }
            Err(reason) => return Some(reason.to_string()),
        };
        let folder = &self.emulators.folder;
        if !folder.exists() {
            return None;
        }
        if !sys::is_writable(folder) {
            return Some(format!(
                "its user may not write to {}, where records go",
                folder.display()
            ));
        }
        self.recorder.count_executed(true);
        let error = sys::execute(&start.emulator, &start.arguments, &start.environment);
        Some(format!(
            "{} cannot be executed: {error}",
            start.emulator.display()
        ))
    }

    /// The kernel would take the emulator for the program itself.
    fn own_program(&self, path: PathBuf) -> PathBuf {
        let is_own = path.to_str().is_some_and(|path| {
            let inside = path
                .strip_prefix("/proc/")
                .and_then(|it| it.strip_suffix("/exe"));
            inside.is_some_and(|it| {
                matches!(it, "self" | "thread-self") || it.parse() == Ok(std::process::id())
            })
        });
        let own = self.program.as_ref().filter(|_| is_own);
        own.cloned().unwrap_or(path)
    }

    fn request(&self, path: &Path, arguments: u64, environment: u64) -> Result<Request, String> {
        let mut left = MOST_BYTES;
        let mut texts = |at| {
            let texts = self.texts(at, &mut left);
            texts.ok_or("its arguments cannot be read, or are too many")
        };
        Ok(Request {
            path: path.to_owned(),
            arguments: texts(arguments)?,
            environment: texts(environment)?,
        })
    }

    /// An array of addresses that ends with a zero.
    fn texts(&self, at: u64, left: &mut usize) -> Option<Vec<OsString>> {
        let bytes = match self.target {
            Target::I386 => 4,
            Target::X86_64 | Target::System => 8,
        };
        let mut all = vec![];
        if at == 0 {
            return Some(all);
        }
        for n in 0.. {
            let mut word = [0; 8];
            let place = at.checked_add(n * bytes)?;
            self.read(place, &mut word[..bytes as usize])
                .then_some(())?;
            let address = u64::from_le_bytes(word);
            if address == 0 {
                break;
            }
            let text = self.text(address)?;
            *left = left.checked_sub(text.len() + 1 + bytes as usize)?;
            all.push(text);
        }
        Some(all)
    }

    /// A text that ends with a zero.
    fn text(&self, at: u64) -> Option<OsString> {
        const PART: u64 = 256;
        let mut text = vec![];
        while text.len() < LONGEST_TEXT {
            let place = at.checked_add(text.len() as u64)?;
            // Not beyond the end of a page, behind which there may be nothing.
            let mut part = vec![0; (PART - place % PART) as usize];
            self.read(place, &mut part).then_some(())?;
            if let Some(end) = part.iter().position(|&byte| byte == 0) {
                text.extend(&part[..end]);
                return Some(OsString::from_vec(text));
            }
            text.extend(part);
        }
        None
    }

    fn read(&self, at: u64, bytes: &mut [u8]) -> bool {
        sys::read_own_memory(at.wrapping_add(self.above_program()), bytes)
    }
}

/// The path that execveat(2) means.
fn at(folder: i32, path: &OsStr, flags: u64) -> PathBuf {
    const AT_FDCWD: i32 = -100;
    const AT_EMPTY_PATH: u64 = 0x1000;
    let path = Path::new(path);
    if path.is_absolute() || (folder == AT_FDCWD && !path.as_os_str().is_empty()) {
        return path.to_owned();
    }
    let link = PathBuf::from(format!("/proc/self/fd/{folder}"));
    let is_itself = path.as_os_str().is_empty() && flags & AT_EMPTY_PATH != 0;
    // The descriptor may be closed when the program is executed; a name stays.
    let named = std::fs::read_link(&link).unwrap_or_default();
    let is_same = |named: &Path| {
        let of = |path: &Path| std::fs::metadata(path).map(|it| (it.dev(), it.ino())).ok();
        of(named).is_some() && of(named) == of(&link)
    };
    match (is_itself, is_same(&named)) {
        (true, true) => named,
        (true, false) => link,
        (false, true) => named.join(path),
        (false, false) => link.join(path),
    }
}
