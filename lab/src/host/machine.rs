//! Boots a kernel under QEMU's software CPU and brings back what it sends.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use split_lock_lab::bundle::{self, Bundles};
use split_lock_lab::plan::LAST_BUNDLE;

use super::apt;
use super::cache::Cache;
use super::kernel::Kernel;
use super::output;

/// How a machine is built and how its time passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// One CPU, whose clock is the count of its instructions, 8 ns each: every boot is the same,
    /// however busy the machine around it, and idle time costs none.
    OneCpu,
    /// Two CPUs that take turns, on the same clock. Some kernels hang on it.
    TwoCpus,
    /// Two CPUs at once, on the real clock: what else runs here shows, as lateness.
    TwoCpusRealClock,
}

/// A clock that counts instructions: 2^3 ns each, some twenty times as long as on an ordinary CPU, so that there are not as
/// many of them in a second that has to be waited for.
const COUNTED: &str =
    "-accel tcg -icount shift=3,sleep=off -rtc base=2026-01-01T00:00:00,clock=vm -seed 42";

impl Shape {
    /// The machines in which to boot a kernel.
    pub(crate) fn all_for(kernel: &Kernel, real_clock: bool) -> Vec<Self> {
        let two_cpus = kernel.two_cpus_on_counted_clock.then_some(Self::TwoCpus);
        let real_clock = real_clock.then_some(Self::TwoCpusRealClock);
        let more = [two_cpus, real_clock].into_iter().flatten();
        [Self::OneCpu].into_iter().chain(more).collect()
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::OneCpu => "one-cpu",
            Self::TwoCpus => "two-cpus",
            Self::TwoCpusRealClock => "two-cpus-real-clock",
        }
    }

    pub(crate) fn cpus(self) -> u32 {
        match self {
            Self::OneCpu => 1,
            Self::TwoCpus | Self::TwoCpusRealClock => 2,
        }
    }

    fn clock(self) -> &'static str {
        match self {
            Self::OneCpu | Self::TwoCpus => COUNTED,
            Self::TwoCpusRealClock => "-accel tcg,thread=multi",
        }
    }
}

/// QEMU, unpacked somewhere, with its own libraries.
#[derive(Clone, Debug)]
pub(crate) struct Qemu {
    root: PathBuf,
}

/// Longer than any plan takes, even on a busy machine.
const BOOT_TIMEOUT: Duration = Duration::from_secs(600);

impl Qemu {
    /// From the cache, or else the network.
    pub(crate) fn get(cache: &Cache) -> Result<Self> {
        let root = cache.folder("qemu");
        apt::unpacked(cache, "QEMU", &root, |apt, draft| {
            // The second is for machines that have none.
            let packages = ["qemu-system-x86", "make"].map(str::to_owned);
            apt.unpack_with_dependencies(&packages, draft)
        })?;
        Ok(Self { root })
    }

    /// Boots, waits until the machine has switched itself off, and unpacks what came.
    pub(crate) fn boot(
        &self,
        kernel: &Kernel,
        initramfs: &[u8],
        shape: Shape,
        results: &Path,
    ) -> Result<Bundles> {
        let file = |name: &str| results.join(format!("{}.{name}", shape.name()));
        let (archive, log, line) = (file("initramfs"), file("serial.log"), file("results"));
        output::write(&archive, initramfs)?;
        let mut command = self.command();
        command
            .args("-machine q35 -cpu max -m 512 -display none".split(' '))
            .args(["-nodefaults", "-no-user-config", "-no-reboot"])
            .args(["-smp", &shape.cpus().to_string()])
            .args(shape.clock().split(' '))
            .arg("-serial")
            .arg(format!("file:{}", log.display()))
            .arg("-serial")
            .arg(format!("file:{}", line.display()))
            .arg("-kernel")
            .arg(&kernel.image)
            .arg("-initrd")
            .arg(&archive)
            .args(["-append", "console=ttyS0 panic=-1 quiet nokaslr"]);
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run QEMU")?;
        let see = || format!("see {}", log.display());
        wait_for(child).with_context(see)?;
        fs::remove_file(&archive)?;
        let bundles = bundle::unpack(&fs::read(&line)?);
        if !bundles.contains_key(LAST_BUNDLE) {
            bail!(
                "{} did not come to the end of its plan: {}",
                kernel.release,
                see()
            );
        }
        Ok(bundles)
    }

    /// Started through its own dynamic loader, so that the machine's libraries do not matter.
    fn command(&self) -> Command {
        let libraries = ["lib", "usr/lib"].map(|folder| {
            let folder = self.root.join(folder).join("x86_64-linux-gnu");
            format!("{0}:{0}/pulseaudio", folder.display())
        });
        // It ends with the lab, however that ends. setpriv is essential in Debian.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]);
        command.arg(self.root.join("lib64/ld-linux-x86-64.so.2"));
        let modules = self.root.join("usr/lib/x86_64-linux-gnu/qemu");
        command
            .env("QEMU_MODULE_DIR", modules)
            .arg("--library-path")
            .arg(libraries.join(":"))
            .arg(self.root.join("usr/bin/qemu-system-x86_64"));
        for data in ["usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu"] {
            command.arg("-L").arg(self.root.join(data));
        }
        command
    }
}

fn wait_for(mut qemu: Child) -> Result<()> {
    let begin = Instant::now();
    while begin.elapsed() < BOOT_TIMEOUT {
        if let Some(status) = qemu.try_wait()? {
            if status.success() {
                return Ok(());
            }
            let said = qemu.wait_with_output()?.stderr;
            bail!("QEMU failed ({status}): {}", String::from_utf8_lossy(&said));
        }
        thread::sleep(Duration::from_millis(50));
    }
    qemu.kill()?;
    qemu.wait()?;
    bail!(
        "the machine was not done after {} s",
        BOOT_TIMEOUT.as_secs()
    )
}
