//! Files of made-up machines.

use std::fs;
use std::path::Path;

/// Writes a file, and the folders that lead there.
pub(crate) fn write(root: &Path, path: &str, bytes: impl AsRef<[u8]>) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    #[expect(clippy::disallowed_methods, reason = "a test's own file")]
    fs::write(path, bytes).unwrap();
}
