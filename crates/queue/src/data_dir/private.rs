//! What the server keeps is for its own user: prompts, images, digests of keys and the key that signs.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Rights of a directory that is for one user.
const DIRECTORY: u32 = 0o700;

/// Rights of a file that is for one user.
const FILE: u32 = 0o600;

/// Rights of others.
const OTHERS: u32 = 0o077;

/// A directory that every user may put files into, such as `/tmp`: never ours alone.
const STICKY: u32 = 0o1000;

/// Takes other users' rights away from files and directories, and from what these contain, that an earlier version, a
/// copy or a restore left open. What is missing or is a link is passed over. Returns how many were open.
///
/// # Errors
/// When the system refuses; what was closed before stays closed.
pub fn close(paths: &[PathBuf]) -> io::Result<u64> {
    let mut closed = 0;
    for path in paths {
        closed += close_one(path, std::fs::metadata(path))?;
        if path.is_dir() {
            for entry in std::fs::read_dir(path)? {
                let entry = entry?;
                closed += close_one(&entry.path(), entry.metadata())?;
            }
        }
    }
    Ok(closed)
}

/// The same for one, whose contents stay as they are.
pub fn close_alone(path: &Path) -> io::Result<u64> {
    close_one(path, std::fs::metadata(path))
}

fn close_one(path: &Path, known: io::Result<Metadata>) -> io::Result<u64> {
    let known = match known {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        known => known?,
    };
    let mode = known.permissions().mode();
    let right = match (known.is_dir(), known.is_file()) {
        (true, _) => DIRECTORY,
        (_, true) => FILE,
        _ => return Ok(0),
    };
    if mode & OTHERS == 0 || mode & STICKY != 0 {
        return Ok(0);
    }
    std::fs::set_permissions(path, PermissionsExt::from_mode(right))?;
    Ok(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).expect("it is there").permissions().mode() & 0o7777
    }

    #[test]
    fn what_was_open_is_closed_once() -> io::Result<()> {
        let directory = tempfile::tempdir()?;
        let (files, shared) = (directory.path().join("files"), directory.path().join("shared"));
        let (image, missing) = (files.join("a.png"), directory.path().join("missing"));
        std::fs::create_dir(&files)?;
        std::fs::create_dir(&shared)?;
        std::fs::write(&image, "x")?;
        std::os::unix::fs::symlink("/etc/hosts", files.join("link"))?;
        for (path, mode) in [(&files, 0o755), (&image, 0o644), (&shared, 0o1777)] {
            std::fs::set_permissions(path, PermissionsExt::from_mode(mode))?;
        }
        let hosts = mode(Path::new("/etc/hosts"));
        let all = [files.clone(), missing, shared.clone()];
        assert_eq!((close(&all)?, close(&all)?), (2, 0));
        assert_eq!((mode(&files), mode(&image), mode(&shared)), (0o700, 0o600, 0o1777));
        assert_eq!(mode(Path::new("/etc/hosts")), hosts, "a link is not followed");
        let made = directory.path().join("a/b");
        crate::data_dir::make(&made)?;
        assert_eq!((mode(&made), mode(&directory.path().join("a"))), (0o700, 0o700));
        Ok(())
    }
}
