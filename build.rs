//! Tells the program which commit it was built from, so that a measurement can say so, and packs the files of the page
//! that shows the API.

use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::{Cursor, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use utoipa_swagger_ui_vendored::SWAGGER_UI_VENDORED;
use zip::ZipArchive;

/// What the program is made of.
const SOURCES: &[&str] = &["Cargo.toml", "Cargo.lock", "src", "crates", "models", "kernels"];

/// Files of Swagger UI that the page needs, with the licence under which they come.
const SWAGGER_UI: &[&str] = &["dist/swagger-ui-bundle.js", "dist/swagger-ui.css", "LICENSE", "NOTICE"];

/// Our own file of the page.
const START: &str = "src/http/docs/start.js";

fn main() {
    pack_page();
    println!("cargo::rerun-if-env-changed=LATENTD_COMMIT");
    for path in SOURCES.iter().chain(&[".git/HEAD", ".git/logs/HEAD"]) {
        if Path::new(path).exists() {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    // An image is built without the repository's history, and is told.
    let told = std::env::var("LATENTD_COMMIT").ok().filter(|commit| !commit.is_empty());
    let commit = told.or_else(from_git).unwrap_or_else(|| "unknown".to_owned());
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

/// Writes every file of the page, gzipped, to where the program includes it from.
fn pack_page() {
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo names a directory")).join("docs");
    std::fs::create_dir_all(&out).expect("cargo's directory can be written");
    let mut archive =
        ZipArchive::new(Cursor::new(SWAGGER_UI_VENDORED)).expect("Swagger UI comes as a zip archive");
    let first = archive.name_for_index(0).and_then(Result::ok).expect("an archive with files").into_owned();
    let release = first.split('/').next().expect("a folder");
    for path in SWAGGER_UI {
        let mut bytes = Vec::new();
        let file = archive.by_name(&format!("{release}/{path}"));
        file.expect("a file of Swagger UI").read_to_end(&mut bytes).expect("a whole file");
        pack(&out, path, &bytes);
    }
    pack(&out, START, &std::fs::read(START).expect("a file of this repository"));
}

fn pack(out: &Path, path: &str, bytes: &[u8]) {
    let name = path.rsplit('/').next().unwrap_or(path);
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    packed.write_all(bytes).expect("memory takes everything");
    let packed = packed.finish().expect("memory takes everything");
    std::fs::write(out.join(format!("{name}.gz")), packed).expect("cargo's directory can be written");
}
