//! The packages that latentd is built on are direct dependencies of the package whose work they do, and its code names
//! them.

use super::code::production_code;
use super::read;
use std::path::Path;

/// Each with the folder of the workspace's package that uses it: cudarc beside the kernels, for example, so that no other
/// package can name it.
const BUILT_ON: &[(&str, &str)] = &[
    ("candle-core", "kernels"),
    ("candle-core", "models"),
    ("candle-nn", "models"),
    ("candle-transformers", "models"),
    ("cudarc", "kernels"),
    ("hf-hub", "crates/hub"),
    ("tokenizers", "models"),
    ("image", ""),
    ("axum", ""),
    ("axum", "crates/fal"),
    ("tokio", ""),
    ("tokio", "crates/fal"),
    ("serde", ""),
    ("serde", "crates/fal"),
    ("nvml-wrapper", ""),
    ("opentelemetry", "crates/trace"),
];

#[test]
fn each_package_that_latentd_is_built_on_is_a_direct_dependency_that_is_used() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (package, folder) in BUILT_ON {
        let manifest = root.join(folder).join("Cargo.toml");
        let text = std::fs::read_to_string(&manifest).expect("a manifest");
        assert!(depends_on(&text, package), "{}: no dependency on {package}", manifest.display());
        let source = if folder.is_empty() { "src".to_owned() } else { format!("{folder}/src") };
        let path = format!("{}::", package.replace('-', "_"));
        let uses = |(_, text): &(String, String)| production_code(text).contains(&path);
        assert!(read(&[&source], &["rs"]).iter().any(uses), "{source} does not name {path}");
    }
}

/// Whether `[dependencies]` of a manifest has the package.
fn depends_on(manifest: &str, package: &str) -> bool {
    let after = manifest.split("\n[dependencies]\n").nth(1).unwrap_or_default();
    let section = after.split("\n[").next().unwrap_or_default();
    section.lines().any(|line| line.split([' ', '.']).next() == Some(package))
}

#[test]
fn a_dependency_for_tests_is_none() {
    let manifest =
        "[package]\nname = \"a\"\n\n[dependencies]\nserde = \"1\"\n\n[dev-dependencies]\nimage = \"1\"\n";
    assert!(depends_on(manifest, "serde"));
    assert!(!depends_on(manifest, "image"));
    assert!(!depends_on(manifest, "serde_json"));
}
