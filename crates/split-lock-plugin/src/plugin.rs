//! The plugin as QEMU sees it, apart from QEMU's types.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use split_lock_assist::cpu::Mode;
use split_lock_assist::decode::PAGE_BYTES;
use split_lock_find::emulator::Emulators;
use split_lock_find::records::{Code, FileWords, Recorder, Target};

use crate::callers::CallStacks;
use crate::candidates::Candidates;
use crate::instruction::{Transfer, locking_modes};
use crate::layout::Layout;
use crate::sys;

static PLUGIN: OnceLock<Plugin> = OnceLock::new();

/// The addresses of the emulator and the program are not known yet.
const UNKNOWN: u64 = u64::MAX;

/// Everything there is, once in a process.
#[derive(Debug)]
pub(crate) struct Plugin {
    pub(crate) recorder: Recorder<'static>,
    pub(crate) candidates: Candidates,
    pub(crate) layout: Layout,
    pub(crate) callers: CallStacks,
    pub(crate) target: Target,
    pub(crate) emulators: Emulators,
    /// The program's path, if it is one.
    pub(crate) program: Option<PathBuf>,
    above_program: AtomicU64,
}

/// What QEMU tells when it loads us.
#[derive(Debug)]
pub(crate) struct Emulation {
    pub(crate) target: Target,
    pub(crate) api_version: u32,
    pub(crate) options: Vec<Vec<u8>>,
}

/// What is to be watched of an instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Watch {
    /// Its stores, as those of the candidate of this number.
    Lock(usize),
    /// Where it stores that address, to which it returns.
    Call(u64),
    /// From where it loads the address that it returns to.
    Return,
}

impl Plugin {
    pub(crate) fn get() -> Option<&'static Self> {
        PLUGIN.get()
    }

    /// # Errors
    /// A sentence, if nothing can be recorded.
    pub(crate) fn install(emulation: &Emulation) -> Result<&'static Self, String> {
        let options = emulation.options.iter().map(Vec::as_slice);
        let (emulators, program) = Emulators::from_options(options)
            .ok_or("the plugin is started by `splitlock find`, which gives it its options")?;
        let words = sys::create_records(&emulators.folder, FileWords::BYTES).map_err(|error| {
            format!(
                "cannot make a file of {} kB for records in {}: {error}; free some space or set TMPDIR to another folder",
                FileWords::BYTES / 1024,
                emulators.folder.display()
            )
        })?;
        let path = program
            .as_ref()
            .map_or(&[][..], |path| path.as_os_str().as_bytes());
        let recorder = Recorder::create(words, std::process::id(), emulation.target, path)
            .ok_or("the file of records has another size")?;
        recorder.set_api_version(emulation.api_version);
        let zeroed = |bytes| {
            sys::zeroed(bytes).map_err(|error| format!("cannot get memory for the plugin: {error}"))
        };
        let plugin = Self {
            recorder,
            candidates: Candidates::new(zeroed(Candidates::BYTES)?),
            layout: Layout::default(),
            callers: CallStacks::new(zeroed(CallStacks::BYTES)?),
            target: emulation.target,
            emulators,
            program,
            above_program: AtomicU64::new(UNKNOWN),
        };
        PLUGIN
            .set(plugin)
            .map_err(|_| "the plugin is loaded twice")?;
        Self::get().ok_or_else(|| "the plugin is gone".into())
    }

    /// How much higher the emulator has the program's memory than the program.
    pub(crate) fn above_program(&self) -> u64 {
        match self.above_program.load(Relaxed) {
            UNKNOWN => 0,
            above => above,
        }
    }

    /// Called for each instruction that is translated; `host` is where the emulator has it, or 0.
    pub(crate) fn translate(&self, pc: u64, host: u64, bytes: &[u8]) -> Option<Watch> {
        if host != 0 && self.above_program.load(Relaxed) == UNKNOWN {
            self.above_program.store(host.wrapping_sub(pc), Relaxed);
        }
        let modes = locking_modes(bytes, self.modes());
        if modes.is_empty() {
            let transfer = Transfer::of(bytes).filter(|_| self.target != Target::System)?;
            return Some(match transfer {
                Transfer::Call => Watch::Call(pc + bytes.len() as u64),
                Transfer::Return => Watch::Return,
            });
        }
        self.recorder.count_translated();
        let page = match self.target {
            Target::System => host - host % PAGE_BYTES,
            Target::X86_64 | Target::I386 => 0,
        };
        let code = Code::in_modes(pc, bytes, &modes).in_page(page);
        let number = self.candidates.push(&code);
        if number.is_none() {
            self.recorder.count_left_out();
        }
        number.map(Watch::Lock)
    }

    fn modes(&self) -> &'static [Mode] {
        match self.target {
            Target::X86_64 => &[Mode::Bits64],
            Target::I386 => &[Mode::Bits32],
            Target::System => &[Mode::Bits16, Mode::Bits32, Mode::Bits64],
        }
    }
}
