//! Copies of a golden model, for tests to damage.

use std::path::{Path, PathBuf};

/// The directory of a small model with random weights.
pub(crate) fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/parity/golden/base/model")
}

/// A copy of it.
pub(crate) fn copy() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    copy_all(&golden(), dir.path());
    dir
}

pub(crate) fn copy_all(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for entry in from.read_dir().expect("a directory") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy_all(&path, &target);
        } else {
            std::fs::copy(&path, &target).expect("a copy");
        }
    }
}
