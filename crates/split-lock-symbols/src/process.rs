//! A process that runs, seen through /proc and not stopped.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};

use super::elf::UntrustedFile;

/// More than the largest number of mappings that a process can have takes.
const MOST_BYTES_OF_MAPS: u64 = 64 << 20;

/// What the kernel appends to the path of a file that is not there any more.
const DELETED: &[u8] = b" (deleted)";

#[derive(Debug)]
pub(crate) struct Process {
    pid: u32,
    folder: PathBuf,
}

/// A part of a process's address space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mapping {
    pub(crate) addresses: Range<u64>,
    is_code: bool,
    /// How far from the beginning of its file it begins.
    offset: u64,
    inode: u64,
    /// A path, or something like `[heap]`; empty if there is neither.
    name: Vec<u8>,
}

impl Process {
    pub(crate) fn new(pid: u32) -> Self {
        Self {
            pid,
            folder: PathBuf::from(format!("/proc/{pid}")),
        }
    }

    /// All that is mapped, in the order of addresses.
    fn mappings(&self) -> Result<impl Iterator<Item = Mapping> + use<>> {
        let pid = self.pid;
        let mut maps = vec![];
        let file = File::open(self.folder.join("maps"));
        let read = file.and_then(|file| file.take(MOST_BYTES_OF_MAPS).read_to_end(&mut maps));
        read.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => anyhow!("there is no process {pid}"),
            _ => anyhow!(error).context(self.cannot("see what is mapped in")),
        })?;
        if maps.is_empty() {
            bail!(
                "process {pid} has no memory: it belongs to the kernel, has ended, or may not be \
                 looked at{}",
                how_to_be_allowed()
            );
        }
        let lines = maps.split(|&byte| byte == b'\n');
        let mappings: Vec<_> = lines.filter_map(Mapping::parse).collect();
        Ok(mappings.into_iter())
    }

    /// What is mapped as code from files.
    ///
    /// # Errors
    /// If it may not be looked at.
    pub(crate) fn code_mappings(&self) -> Result<impl Iterator<Item = Mapping> + use<>> {
        let mappings = self.mappings()?;
        Ok(mappings.filter(|mapping| mapping.is_code && mapping.has_path()))
    }

    /// The code that is mapped at an address.
    ///
    /// # Errors
    /// If there is none, or it may not be looked at.
    pub(crate) fn mapping(&self, address: u64) -> Result<Mapping> {
        let pid = self.pid;
        let mapping = self
            .mappings()?
            .find(|mapping| mapping.addresses.contains(&address));
        match mapping {
            None => bail!(
                "process {pid} has nothing mapped at {address:#x} (if that is from the kernel's log \
                 and process {pid} runs a virtual machine, it is an address of the guest)"
            ),
            Some(mapping) if !mapping.is_code => bail!(
                "what process {pid} has mapped at {address:#x} is no code{}",
                match mapping.display() {
                    name if name.is_empty() => name,
                    name => format!(": {name}"),
                }
            ),
            Some(mapping) => Ok(mapping),
        }
    }

    /// What is in memory at these addresses, from the first on; fewer bytes where it cannot be read to
    /// the end.
    ///
    /// # Errors
    /// If nothing can be read.
    pub(crate) fn memory(&self, addresses: Range<u64>) -> Result<Vec<u8>> {
        let cannot = || self.cannot("read the memory of");
        let memory = File::open(self.folder.join("mem")).with_context(cannot)?;
        let mut bytes = vec![0; usize::try_from(addresses.end - addresses.start)?];
        let mut count = 0;
        while count < bytes.len() {
            match memory.read_at(&mut bytes[count..], addresses.start + count as u64) {
                Ok(0) => break,
                Ok(more) => count += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) if count > 0 => break,
                Err(error) => return Err(error).with_context(cannot),
            }
        }
        bytes.truncate(count);
        Ok(bytes)
    }

    /// The file that is mapped there.
    ///
    /// # Errors
    /// If there is none, or it is gone and nothing leads to it.
    pub(crate) fn file(&self, mapping: &Mapping) -> Result<UntrustedFile> {
        let Some(path) = mapping.path() else {
            bail!("it is not mapped from a file");
        };
        let Range { start, end } = mapping.addresses;
        let by_address = format!("map_files/{start:x}-{end:x}");
        // This one is the file itself, even if its name is gone, but not everybody may follow it.
        if let Ok(source) = UntrustedFile::open(&self.folder.join(by_address)) {
            return Ok(source);
        }
        let executable = self.folder.join("exe");
        let is_executable =
            fs::metadata(&executable).is_ok_and(|metadata| metadata.ino() == mapping.inode);
        if is_executable && let Ok(source) = UntrustedFile::open(&executable) {
            return Ok(source);
        }
        if mapping.is_deleted() {
            bail!("{} has been deleted or replaced since", mapping.display());
        }
        let below_root = path.strip_prefix("/").unwrap_or(path);
        UntrustedFile::open(&self.folder.join("root").join(below_root))
    }

    pub(crate) fn executable(&self) -> Result<UntrustedFile> {
        UntrustedFile::open(&self.folder.join("exe"))
    }

    fn cannot(&self, what: &str) -> String {
        let (pid, how) = (self.pid, how_to_be_allowed());
        format!("cannot {what} process {pid}{how}")
    }
}

/// Who may look at another process.
fn how_to_be_allowed() -> String {
    let scope = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
    let relatives = match scope.trim() {
        "" | "0" => "",
        _ => " and an ancestor of it, because of kernel.yama.ptrace_scope",
    };
    format!(" (one has to be root, or its user{relatives})")
}

impl Mapping {
    fn parse(line: &[u8]) -> Option<Self> {
        let mut words = line.splitn(6, |&byte| byte == b' ');
        let mut word = || str::from_utf8(words.next()?).ok();
        let hexadecimal = |text: &str| u64::from_str_radix(text, 16).ok();
        let (start, end) = word()?.split_once('-')?;
        let addresses = hexadecimal(start)?..hexadecimal(end)?;
        let is_code = word()?.contains('x');
        let offset = hexadecimal(word()?)?;
        let _device = word()?;
        let inode = word()?.parse().ok()?;
        Some(Self {
            addresses,
            is_code,
            offset,
            inode,
            name: unescaped(words.next().unwrap_or_default().trim_ascii_start()),
        })
    }

    /// How far from the beginning of its file an address in it is.
    pub(crate) fn offset_in_file(&self, address: u64) -> Option<u64> {
        address
            .checked_sub(self.addresses.start)?
            .checked_add(self.offset)
    }

    fn is_deleted(&self) -> bool {
        self.name.ends_with(DELETED)
    }

    pub(crate) fn has_path(&self) -> bool {
        self.path().is_some()
    }

    fn path(&self) -> Option<&Path> {
        let name = self.name.strip_suffix(DELETED).unwrap_or(&self.name);
        name.starts_with(b"/")
            .then(|| Path::new(OsStr::from_bytes(name)))
    }

    /// Its name, which may hold anything.
    pub(crate) fn display(&self) -> String {
        String::from_utf8_lossy(&self.name).into_owned()
    }
}

/// A line's end is all that the kernel writes otherwise.
fn unescaped(name: &[u8]) -> Vec<u8> {
    const NEWLINE: &[u8] = br"\012";
    let mut plain = vec![];
    let mut rest = name;
    while let [first, others @ ..] = rest {
        let byte;
        (byte, rest) = match rest.strip_prefix(NEWLINE) {
            Some(others) => (b'\n', others),
            None => (*first, others),
        };
        plain.push(byte);
    }
    plain
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn mappings_are_read_as_the_kernel_writes_them() {
        let line =
            b"7f5c0a1000-7f5c0a2000 r-xp 0001f000 fd:00 1234   /usr/lib/a b\\012c.so (deleted)";
        let mapping = Mapping::parse(line).unwrap();
        assert_eq!(mapping.addresses, 0x7f5c0a1000..0x7f5c0a2000);
        assert!(mapping.is_code && mapping.is_deleted());
        assert_eq!((mapping.offset, mapping.inode), (0x1f000, 1234));
        assert_eq!(mapping.path(), Some(Path::new("/usr/lib/a b\nc.so")));
        for line in [
            &b"7ffd1000-7ffd2000 rw-p 00000000 00:00 0 "[..],
            b"7ffd1000-7ffd2000 rw-p 00000000 00:00 0",
            b"7ffd1000-7ffd2000 rw-p 00000000 00:00 0                  [stack]",
        ] {
            let mapping = Mapping::parse(line).unwrap();
            assert!(!mapping.is_code && mapping.path().is_none());
        }
        for line in [&b""[..], b"x", b"1-2 r-xp", b"g-2 r-xp 0 00:00 0"] {
            assert_eq!(Mapping::parse(line), None);
        }
    }

    #[test]
    fn this_process_can_be_read() {
        static BYTES: [u8; 4] = *b"lock";
        let address = BYTES.as_ptr() as u64;
        let process = Process::new(std::process::id());
        assert_eq!(process.memory(address..address + 4).unwrap(), BYTES);
        let message = process.mapping(address).unwrap_err().to_string();
        assert!(message.contains("is no code"), "{message}");

        let function = this_process_can_be_read as *const () as u64;
        let mapping = process.mapping(function).unwrap();
        assert!(mapping.addresses.contains(&function));
        assert!(process.file(&mapping).is_ok() && process.executable().is_ok());
    }

    #[test]
    fn nothing_is_read_where_nothing_is() {
        let process = Process::new(std::process::id());
        let message = process.mapping(0).unwrap_err().to_string();
        assert!(message.contains("nothing mapped at 0x0"), "{message}");
        assert!(process.memory(0..16).is_err());
        let message = Process::new(u32::MAX).mapping(0).unwrap_err().to_string();
        assert!(message.contains("there is no process"), "{message}");
    }

    proptest! {
        #[test]
        fn no_line_is_a_panic(line in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = Mapping::parse(&line);
        }
    }
}
