//! A kernel's file: what it says about itself, and putting it into a guest's memory.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use linux_loader::bootparam::setup_header;
use linux_loader::loader::KernelLoader;
use linux_loader::loader::bzimage::BzImage;
use vm_memory::{ByteValued, GuestAddress, GuestMemoryMmap};

use super::LinuxError;

/// Where a bzImage describes itself.
const HEADER: u64 = 0x1f1;
/// The header's `HdrS`.
const MAGIC: u32 = 0x5372_6448;
/// Boot protocol 2.12, of Linux 3.8: the first that says whether there is a 64-bit entry.
const OLDEST_PROTOCOL: u16 = 0x020c;
/// In the header's `xloadflags`.
const HAS_64_BIT_ENTRY: u16 = 1;
/// In the header's `loadflags`: the kernel does not lie below 1 MiB.
const LOADED_HIGH: u8 = 1;
/// The header's pointer to its version counts from here.
const VERSION_BASE: u64 = 0x200;
const LONGEST_VERSION: usize = 128;
/// The 64-bit entry, from where the kernel is loaded.
const ENTRY: u64 = 0x200;

/// A kernel that can be started.
#[derive(Debug)]
pub(super) struct Image {
    path: PathBuf,
    file: File,
    header: setup_header,
    release: String,
}

impl Image {
    pub(super) fn open(path: &Path) -> Result<Self, LinuxError> {
        let unreadable = |source| LinuxError::File {
            what: "kernel",
            path: path.to_owned(),
            source,
        };
        let refused = |why: &str| LinuxError::NoKernel {
            path: path.to_owned(),
            why: why.to_owned(),
        };
        let file = open_ordinary(path).map_err(unreadable)?;
        let mut header = setup_header::default();
        match file.read_exact_at(header.as_mut_slice(), HEADER) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(refused("is too short for a Linux kernel"));
            }
            read => read.map_err(unreadable)?,
        }
        check(&header).map_err(refused)?;
        let release = release(&file, &header).unwrap_or_else(|| "of unknown release".to_owned());
        Ok(Self {
            path: path.to_owned(),
            file,
            header,
            release,
        })
    }

    /// What the kernel calls itself, such as `6.12.9-amd64`.
    pub(super) fn release(&self) -> &str {
        &self.release
    }

    /// The first address that the kernel leaves alone until it has found its initrd.
    pub(super) fn end(&self) -> u64 {
        self.header
            .pref_address
            .saturating_add(self.header.init_size.into())
    }

    /// Where its initrd must end.
    pub(super) fn initrd_limit(&self) -> u64 {
        u64::from(self.header.initrd_addr_max) + 1
    }

    /// The longest command line that it reads, in bytes.
    pub(super) fn command_line_limit(&self) -> usize {
        self.header.cmdline_size as usize
    }

    /// What the kernel says about itself, for its boot parameters.
    pub(super) fn header(&self) -> setup_header {
        self.header
    }

    /// Puts the kernel where it wants to be. Returns the address of its first instruction.
    pub(super) fn load(&mut self, memory: &GuestMemoryMmap) -> Result<u64, LinuxError> {
        let at = GuestAddress(self.header.pref_address);
        let loaded = BzImage::load(memory, Some(at), &mut self.file, None);
        let loaded = loaded.map_err(|error| LinuxError::NoKernel {
            path: self.path.clone(),
            why: format!("cannot be loaded ({error})"),
        })?;
        Ok(loaded.kernel_load.0 + ENTRY)
    }
}

/// Pipes would be waited for, and devices may have no end.
pub(super) fn open_ordinary(path: &Path) -> io::Result<File> {
    if !path.metadata()?.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is no ordinary file",
        ));
    }
    File::open(path)
}

fn check(header: &setup_header) -> Result<(), &'static str> {
    if header.header != MAGIC {
        return Err("is not a bzImage");
    }
    if header.version < OLDEST_PROTOCOL {
        return Err("is a kernel from before Linux 3.8");
    }
    if header.loadflags & LOADED_HIGH == 0 || header.xloadflags & HAS_64_BIT_ENTRY == 0 {
        return Err("is a kernel without a 64-bit entry");
    }
    Ok(())
}

/// The first word of the kernel's description of itself.
fn release(file: &File, header: &setup_header) -> Option<String> {
    let mut bytes = [0; LONGEST_VERSION];
    let at = VERSION_BASE + u64::from(header.kernel_version);
    let read = file.read_at(&mut bytes, at).ok()?;
    let text = bytes[..read].split(|&byte| byte == 0).next()?;
    let word = std::str::from_utf8(text).ok()?.split(' ').next()?;
    let is_plain = |c: char| c.is_ascii_graphic();
    (header.kernel_version != 0 && !word.is_empty() && word.chars().all(is_plain))
        .then(|| word.to_owned())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn opened(bytes: &[u8]) -> Result<Image, LinuxError> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        Image::open(file.path())
    }

    fn kernel(change: impl FnOnce(&mut setup_header)) -> Vec<u8> {
        let mut header = setup_header {
            header: MAGIC,
            version: 0x020f,
            loadflags: LOADED_HIGH,
            xloadflags: HAS_64_BIT_ENTRY,
            kernel_version: 0x200,
            pref_address: 0x100_0000,
            init_size: 0x20_0000,
            ..Default::default()
        };
        change(&mut header);
        let mut file = vec![0; 0x400];
        file[HEADER as usize..][..header.as_slice().len()].copy_from_slice(header.as_slice());
        file.extend(b"6.12.9-test (somebody@somewhere) #1\0");
        file.resize(0x1000, 0);
        file
    }

    #[test]
    fn a_kernel_says_what_it_is_and_what_it_needs() {
        let image = opened(&kernel(|_| ())).unwrap();
        assert_eq!(image.release(), "6.12.9-test");
        assert_eq!(image.end(), 0x120_0000);
        let nameless = opened(&kernel(|header| header.kernel_version = 0)).unwrap();
        assert_eq!(nameless.release(), "of unknown release");
    }

    #[test]
    fn what_is_no_kernel_is_refused_with_the_reason() {
        let refusal = |bytes: &[u8]| opened(bytes).unwrap_err().to_string();
        assert!(refusal(b"\x7fELF").contains("is too short"));
        assert!(refusal(&[0; 4096]).contains("is not a bzImage"));
        let old = kernel(|header| header.version = 0x0206);
        assert!(refusal(&old).contains("before Linux 3.8"));
        let narrow = kernel(|header| header.xloadflags = 0);
        assert!(refusal(&narrow).contains("without a 64-bit entry"));
    }
}
