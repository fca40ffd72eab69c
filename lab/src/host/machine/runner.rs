//! Scenes: boots with something to show, as many at a time as there are CPUs here.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Error, Result};
use split_lock_lab::cpu::options::CpuOptions;
use split_lock_lab::cpu::script::{Command, Script};

use crate::host::kernel::BootKernel;
use crate::host::machine::bochs::{Limits, Outcome};
use crate::host::machine::lab::Lab;
use crate::host::machine::rootfs::kvm_modules;

/// How long most scenes wait after boot: a kernel that has just booted is busy, and keeps threads from the CPU.
pub(crate) const SETTLE_MS: u64 = 3000;

/// One boot, and what it has to show.
pub(crate) struct Scene<'a> {
    /// Unique among those of its kernel and the command; names its folder, too.
    pub(crate) name: String,
    pub(crate) kernel: &'a BootKernel,
    pub(crate) options: CpuOptions,
    /// More words for the kernel's command line.
    pub(crate) boot_words: &'a str,
    pub(crate) script: Script,
    pub(crate) limits: Limits,
    /// Looks at what came of it; what else it has to write goes into the scene's folder.
    pub(crate) judge: Judge<'a>,
}

impl<'a> Scene<'a> {
    /// Commands on one CPU that detects split locks, once the kernel has settled.
    pub(crate) fn new(
        name: &str,
        kernel: &'a BootKernel,
        limits: Limits,
        commands: impl Into<Vec<Command>>,
        judge: impl FnOnce(&Outcome, &Path) -> Result<Findings> + Send + 'a,
    ) -> Self {
        Self {
            name: name.to_owned(),
            kernel,
            options: CpuOptions::default(),
            boot_words: "",
            script: Script {
                settle_ms: SETTLE_MS,
                commands: commands.into(),
                ..Script::default()
            },
            limits,
            judge: Box::new(judge),
        }
    }

    /// With the modules of KVM.
    pub(crate) fn with_kvm(mut self) -> Self {
        self.script.modules = kvm_modules(self.kernel, self.options.vendor);
        self
    }
}

type Judge<'a> = Box<dyn FnOnce(&Outcome, &Path) -> Result<Findings> + Send + 'a>;

impl fmt::Debug for Scene<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scene")
            .field("name", &self.name)
            .field("kernel", &self.kernel.release)
            .finish_non_exhaustive()
    }
}

/// What a scene has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Findings {
    /// Whole lines, for a person.
    pub(crate) text: String,
    /// Whether all of it is as it has to be.
    pub(crate) is_fine: bool,
}

impl Findings {
    pub(crate) fn new(title: &str) -> Self {
        Self {
            text: format!("{title}\n"),
            is_fine: true,
        }
    }

    pub(crate) fn say(&mut self, line: &str) {
        self.text += line;
        self.text += "\n";
    }

    /// Something that has to be so, and whether it is.
    pub(crate) fn check(&mut self, what: &str, is_so: bool) {
        let verdict = if is_so { "yes:" } else { "NO: " };
        self.say(&format!("  {verdict} {what}"));
        self.is_fine &= is_so;
    }
}

/// Boots all of them, and prints what they show in their order. The answer is whether all is as it has to be.
///
/// # Errors
/// The first scene that could not be tried; the others are tried all the same.
pub(crate) fn run(lab: &Lab, scenes: Vec<Scene<'_>>) -> Result<bool> {
    let most = thread::available_parallelism().map_or(1, usize::from);
    let count = scenes.len();
    let waiting = Mutex::new(scenes.into_iter().enumerate());
    let results = Mutex::new(Results::default());
    let work = || {
        loop {
            let taken = waiting.lock().expect("nobody panics with it").next();
            let Some((index, scene)) = taken else { return };
            let shown = show(lab, scene);
            results
                .lock()
                .expect("nobody panics with it")
                .put(index, shown);
        }
    };
    thread::scope(|scope| {
        for _ in 0..most.min(count) {
            scope.spawn(work);
        }
    });
    results
        .into_inner()
        .expect("nobody panics with it")
        .finish()
}

fn show(lab: &Lab, scene: Scene<'_>) -> Result<Findings> {
    let what = format!("{}, {}", scene.kernel.release, scene.name);
    let begin = Instant::now();
    eprintln!("lab: {what}: booting");
    let folder = lab.results(scene.kernel, &scene.name);
    let tried = lab
        .boot(&folder, &scene)
        .and_then(|outcome| (scene.judge)(&outcome, &folder));
    let seconds = begin.elapsed().as_secs_f64();
    let verdict = match &tried {
        Ok(findings) if findings.is_fine => "as it has to be",
        Ok(_) => "NOT as it has to be",
        Err(_) => "could not be tried",
    };
    eprintln!("lab: {what}: {verdict}, after {seconds:.1} s");
    tried.context(what)
}

/// Printed in the order of the scenes; what comes out of it waits.
#[derive(Default)]
struct Results {
    waiting: BTreeMap<usize, Result<Findings>>,
    printed: usize,
    not_fine: usize,
    first_error: Option<Error>,
}

impl Results {
    fn put(&mut self, index: usize, result: Result<Findings>) {
        self.waiting.insert(index, result);
        while let Some(result) = self.waiting.remove(&self.printed) {
            self.printed += 1;
            match result {
                Ok(findings) => {
                    print!("{}", findings.text);
                    self.not_fine += usize::from(!findings.is_fine);
                }
                Err(error) => {
                    eprintln!("lab: {error:#}");
                    self.first_error.get_or_insert(error);
                }
            }
        }
    }

    fn finish(self) -> Result<bool> {
        self.first_error.map_or(Ok(self.not_fine == 0), Err)
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    fn findings(is_fine: bool) -> Findings {
        Findings {
            text: String::new(),
            is_fine,
        }
    }

    #[test]
    fn one_scene_that_shows_something_else_is_enough() {
        let mut results = Results::default();
        results.put(1, Ok(findings(false)));
        assert_eq!(results.printed, 0);
        results.put(0, Ok(findings(true)));
        assert_eq!(results.printed, 2);
        assert!(!results.finish().unwrap());
    }

    #[test]
    fn what_could_not_be_tried_is_no_success() {
        let mut results = Results::default();
        results.put(0, Err(anyhow!("first")));
        results.put(1, Ok(findings(true)));
        results.put(2, Err(anyhow!("second")));
        assert_eq!(results.finish().unwrap_err().to_string(), "first");
    }
}
