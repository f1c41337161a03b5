//! Passes the commit to the program, so that a measurement can name it.

use std::path::Path;
use std::process::Command;

/// What the program is made of.
const SOURCES: &[&str] = &["Cargo.toml", "Cargo.lock", "src", "crates", "models", "kernels"];

fn main() {
    println!("cargo::rerun-if-env-changed=LATENTD_COMMIT");
    for path in SOURCES.iter().chain(&[".git/HEAD", ".git/logs/HEAD"]) {
        if Path::new(path).exists() {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    // A container image is built without the repository's history; the commit is given in the environment.
    let given = std::env::var("LATENTD_COMMIT").ok().filter(|commit| !commit.is_empty());
    let commit = given.or_else(from_git).unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=LATENTD_COMMIT={commit}");
}

/// The commit, with a mark when the sources differ from it.
fn from_git() -> Option<String> {
    // Not that of a repository that this directory happens to lie in.
    Path::new(".git").exists().then_some(())?;
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    // Without locks: somebody may be committing.
    let status = ["--no-optional-locks", "status", "--porcelain", "--untracked-files=no", "--"];
    let changed = git(&[&status, SOURCES].concat())?;
    Some(if changed.is_empty() { commit } else { format!("{commit}-dirty") })
}

fn git(words: &[&str]) -> Option<String> {
    let run = Command::new("git").args(words).output().ok().filter(|run| run.status.success())?;
    Some(String::from_utf8(run.stdout).ok()?.trim().to_owned())
}
