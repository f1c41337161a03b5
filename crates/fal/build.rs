//! Packs the files of the page that shows the API, so that the executable contains them.

use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::{Cursor, Read, Write};
use std::path::{Path, PathBuf};
use utoipa_swagger_ui_vendored::SWAGGER_UI_VENDORED;
use zip::ZipArchive;

/// Files of Swagger UI that the page needs, with the licence under which they come.
const SWAGGER_UI: &[&str] = &["dist/swagger-ui-bundle.js", "dist/swagger-ui.css", "LICENSE", "NOTICE"];

/// Our own file of the page.
const START: &str = "src/docs/start.js";

fn main() {
    println!("cargo::rerun-if-changed={START}");
    pack_page();
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
