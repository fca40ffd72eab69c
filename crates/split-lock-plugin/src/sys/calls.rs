//! System calls without anything to remember.

use std::ffi::{CString, OsStr, OsString, c_void};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::ptr;

pub(crate) fn thread_id() -> u32 {
    // SAFETY: it takes nothing and cannot fail.
    unsafe { libc::gettid() }.cast_unsigned()
}

/// As the program has named it.
pub(crate) fn thread_name() -> Vec<u8> {
    let mut name = [0u8; 16];
    // SAFETY: it writes at most 16 bytes there.
    let failed = unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    let end = name.iter().position(|&byte| byte == 0);
    let end = end.filter(|_| failed == 0);
    name[..end.unwrap_or(0)].to_vec()
}

pub(crate) fn is_writable(folder: &Path) -> bool {
    let Ok(path) = CString::new(folder.as_os_str().as_bytes()) else {
        return false;
    };
    let access = libc::W_OK | libc::X_OK;
    // SAFETY: the path is a C string that lives as long as the call.
    unsafe { libc::faccessat(libc::AT_FDCWD, path.as_ptr(), access, libc::AT_EACCESS) == 0 }
}

/// Reads memory of this process at an address that the program has given, and that may be none.
pub(crate) fn read_own_memory(address: u64, bytes: &mut [u8]) -> bool {
    let count = bytes.len();
    let local = libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: count,
    };
    let remote = libc::iovec {
        iov_base: address as *mut c_void,
        iov_len: count,
    };
    let own = std::process::id().cast_signed();
    // SAFETY: it writes to `bytes` alone; the kernel checks the other address.
    let read = unsafe { libc::process_vm_readv(own, &raw const local, 1, &raw const remote, 1, 0) };
    if read >= 0 {
        return read.cast_unsigned() == count;
    }
    // Containers may forbid that call.
    let memory = File::open("/proc/self/mem");
    memory.is_ok_and(|memory| memory.read_exact_at(bytes, address).is_ok())
}

/// Returns only if it fails.
pub(crate) fn execute(
    program: &Path,
    arguments: &[OsString],
    environment: &[OsString],
) -> io::Error {
    let text = |text: &OsStr| CString::new(text.as_bytes()).unwrap_or_default();
    let texts = |all: &[OsString]| all.iter().map(|it| text(it)).collect::<Vec<_>>();
    let (program, arguments, environment) = (
        text(program.as_os_str()),
        texts(arguments),
        texts(environment),
    );
    let addresses = |all: &[CString]| {
        let addresses = all.iter().map(|it| it.as_ptr());
        addresses.chain([ptr::null()]).collect::<Vec<_>>()
    };
    let (arguments_at, environment_at) = (addresses(&arguments), addresses(&environment));
    // SAFETY: all of them are C strings that live as long as the call, in arrays that end with null.
    unsafe {
        libc::execve(
            program.as_ptr(),
            arguments_at.as_ptr(),
            environment_at.as_ptr(),
        )
    };
    io::Error::last_os_error()
}
