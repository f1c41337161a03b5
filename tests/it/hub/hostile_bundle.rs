//! Bundles that are damaged or made to harm: each is refused with its own words, and nothing of it is left.

use super::bundle::{bundle_of_tiny, connected, elsewhere, left_in, text};
use super::*;
use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};

/// An entry of an archive.
#[derive(Clone)]
struct Part {
    name: String,
    kind: EntryType,
    /// What the header claims.
    size: u64,
    bytes: Vec<u8>,
}

impl Part {
    fn new(name: &str, bytes: &[u8]) -> Self {
        let size = bytes.len() as u64;
        Self { name: name.into(), kind: EntryType::Regular, size, bytes: bytes.to_vec() }
    }

    fn special(name: &str, kind: EntryType) -> Self {
        Self { kind, ..Self::new(name, b"") }
    }
}

/// The entries of a bundle, which begin with the manifest.
fn parts(bundle: &[u8]) -> Vec<Part> {
    let mut archive = tar::Archive::new(bundle);
    let part = |entry: std::io::Result<tar::Entry<'_, _>>| {
        let mut entry = entry.expect("an entry");
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut bytes).expect("bytes");
        Part::new(&String::from_utf8_lossy(&entry.path_bytes()), &bytes)
    };
    archive.entries().expect("an archive").map(part).collect()
}

/// An archive of entries, whatever they are called.
fn archive(parts: &[Part]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for part in parts {
        let mut header = Header::new_gnu();
        header.as_gnu_mut().expect("a GNU header").name[..part.name.len()]
            .copy_from_slice(part.name.as_bytes());
        header.set_entry_type(part.kind);
        header.set_size(part.size);
        header.set_mode(0o644);
        if part.kind.is_symlink() || part.kind.is_hard_link() {
            header.set_link_name("/etc/passwd").expect("a name");
        }
        header.set_cksum();
        builder.append(&header, part.bytes.as_slice()).expect("memory");
    }
    builder.into_inner().expect("memory")
}

/// A good bundle, to be spoiled.
struct Bundle {
    bytes: Vec<u8>,
    parts: Vec<Part>,
}

impl Bundle {
    async fn new() -> Self {
        let (hub, home) = connected().await;
        let bytes = std::fs::read(bundle_of_tiny(&hub, &home).await).expect("a bundle");
        let parts = parts(&bytes);
        assert!(archive(&parts).len() == bytes.len() && parts.len() > 10);
        Self { bytes, parts }
    }

    /// The archive with its entries changed.
    fn with(&self, change: impl FnOnce(&mut Vec<Part>)) -> Vec<u8> {
        let mut parts = self.parts.clone();
        change(&mut parts);
        archive(&parts)
    }

    /// The archive with its manifest changed.
    fn with_manifest(&self, change: impl FnOnce(&mut Value)) -> Vec<u8> {
        self.with(|parts| {
            let mut manifest = serde_json::from_slice(&parts[0].bytes).expect("JSON");
            change(&mut manifest);
            parts[0] = Part::new("manifest.json", manifest.to_string().as_bytes());
        })
    }
}

/// Unbundles into an empty home, which must stay empty.
fn refused(bytes: &[u8], words: &str) {
    let place = tempfile::tempdir().expect("a directory");
    let (file, home) = (place.path().join("bad.latentd"), place.path().join("a/b/home"));
    std::fs::create_dir_all(&home).expect("a directory");
    std::fs::write(&file, bytes).expect("a file");
    let output = elsewhere(&home).arg("unbundle").arg(&file).output().expect("the program");
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{words}: {error}");
    assert!(error.contains(words) && error.lines().count() == 1, "{words}: {error}");
    assert!(error.contains("bad.latentd"), "{error}");
    assert_eq!(output.stdout, b"", "{words}");
    assert_eq!(left_in(place.path()), [file], "{words}");
    assert!(!home.join(".cache/huggingface/hub/.unbundle").exists(), "{words}");
}

#[tokio::test]
async fn entries_that_no_bundle_has_are_refused() {
    let bundle = Bundle::new().await;
    for (name, words) in [
        ("/etc/cron.d/evil", "it holds \"/etc/cron.d/evil\", a path that leads out of the cache"),
        ("../../evil", "it holds \"../../evil\", a path that leads out of the cache"),
        ("contents/../../evil", "a path that leads out of the cache"),
        ("contents/evil", "it holds \"contents/evil\", which its manifest does not list"),
    ] {
        // In place of a content, and behind the last.
        refused(&bundle.with(|parts| parts[3].name = name.into()), words);
        refused(&bundle.with(|parts| parts.push(Part::new(name, b"evil"))), words);
    }
    for (kind, words) in [
        (EntryType::Symlink, "a symbolic link, and a bundle holds regular files alone"),
        (EntryType::Link, "a hard link"),
        (EntryType::Char, "a device"),
        (EntryType::Block, "a device"),
        (EntryType::Fifo, "a named pipe"),
        (EntryType::Directory, "a directory"),
        (EntryType::XHeader, "an extension"),
        (EntryType::GNULongName, "an extension"),
        (EntryType::GNUSparse, "an extension"),
    ] {
        let name = bundle.parts[3].name.clone();
        refused(&bundle.with(|parts| parts.insert(3, Part::special(&name, kind))), words);
        refused(&bundle.with(|parts| parts.push(Part::special(&name, kind))), words);
        refused(&bundle.with(|parts| parts[3].kind = kind), words);
    }
    let twice = bundle.parts[2].clone();
    refused(&bundle.with(|parts| parts.insert(3, twice.clone())), "for the second time");
    refused(&bundle.with(|parts| parts.push(twice)), "for the second time");
    refused(&bundle.with(|parts| parts.push(parts[0].clone())), "for the second time");
    refused(&bundle.with(|parts| parts.swap(2, 3)), "in another order than its manifest");
    refused(&bundle.with(|parts| parts[2].name = "contents/x".into()), "does not list");
}

#[tokio::test]
async fn sizes_and_contents_are_those_of_the_manifest() {
    let bundle = Bundle::new().await;
    let longer = |parts: &mut Vec<Part>| {
        let bytes = [&parts[2].bytes[..], &[0; 4096]].concat();
        parts[2] = Part::new(&parts[2].name.clone(), &bytes);
    };
    refused(&bundle.with(longer), "bytes, and its manifest says");
    refused(&bundle.with(|parts| parts[2].size = u64::MAX >> 4), "bytes, and its manifest says");
    let shorter = |parts: &mut Vec<Part>| {
        parts[2].size -= 1;
        parts[2].bytes.pop();
    };
    refused(&bundle.with(shorter), "");
    // One bit, in the first, a middle and the last content.
    for index in [1, bundle.parts.len() / 2, bundle.parts.len() - 1] {
        refused(&bundle.with(|parts| parts[index].bytes[0] ^= 1), "is damaged, its SHA-256 is");
    }
}

#[tokio::test]
async fn an_end_that_is_missing_or_is_none_is_refused() {
    let bundle = Bundle::new().await;
    let whole = &bundle.bytes;
    refused(b"", "this is no bundle");
    refused(&b"GIF89a".repeat(1000), "this is no bundle");
    refused(&whole[..100], "this is no bundle");
    refused(&whole[..600], "cut off inside its manifest");
    for length in [512, 1024] {
        refused(&whole[..whole.len() - length], "it is cut off, ");
    }
    for share in 1..8 {
        refused(&whole[..whole.len() * share / 8], "cut off");
    }
    refused(&whole[..whole.len() - 1], "it is cut off, ");
    refused(&[whole, &b"x"[..]].concat(), "there are 1 bytes behind its end");
    refused(&[whole, &[0; 10240][..]].concat(), "there are 10240 bytes behind its end");
    refused(&[whole, whole].map(Vec::as_slice).concat(), "bytes behind its end");
    let mut end = whole.clone();
    *end.last_mut().expect("bytes") = 1;
    refused(&end, "its end is damaged");
    let at = whole.len() - 1024;
    end[at..at + 6].copy_from_slice(b"PK\x03\x04ab");
    refused(&end, "no part of a bundle");
}

#[tokio::test]
async fn a_manifest_that_lies_is_refused() {
    let bundle = Bundle::new().await;
    let lies = |change: &dyn Fn(&mut Value), words: &str| refused(&bundle.with_manifest(change), words);
    lies(&|manifest| manifest["format"] = json!(2), "it has format 2, of latentd");
    lies(
        &|manifest| drop(manifest.as_object_mut().expect("an object").remove("model")),
        "manifest is damaged",
    );
    lies(&|manifest| manifest["more"] = json!(1), "manifest is damaged");
    let file = |manifest: &mut Value, name: &str, value: &str| {
        manifest["repositories"][0]["files"][0][name] = json!(value);
    };
    for path in ["../../../evil", "/etc/evil", "a/../../evil", "", "a\u{1b}[2J"] {
        lies(&|manifest| file(manifest, "path", path), "is no path inside it");
    }
    lies(&|manifest| file(manifest, "path", "vae"), "as a file and as a folder");
    lies(&|manifest| file(manifest, "path", "vae/config.json"), "twice");
    lies(&|manifest| file(manifest, "blob", "../../evil"), "no proper checksum");
    lies(&|manifest| file(manifest, "blob", &"0".repeat(64)), "no proper checksum");
    lies(&|manifest| file(manifest, "sha256", &"0".repeat(64)), "not those of its files");
    for (name, value, words) in [
        ("repository", "../tiny", "is no repository"),
        ("commit", "../main", "has no revision"),
        ("revision", "../../evil", "has no revision"),
    ] {
        lies(&|manifest| manifest["repositories"][0][name] = json!(value), words);
    }
    lies(&|manifest| manifest["contents"][1] = manifest["contents"][0].clone(), "not those of its files");
    lies(&|manifest| manifest["contents"][0]["bytes"] = json!(u64::MAX), "too large");
    lies(&|manifest| manifest["model"]["repository"] = json!("me/x; rm -rf ~"), "its model is not in it");
    lies(&|manifest| manifest["model"]["published"] = json!("$(id)"), "its model cannot be named");
    lies(&|manifest| manifest["model"]["path"] = json!("$(id)"), "its model cannot be named");
    lies(&|manifest| manifest["safety_checker"] = json!("$(id)"), "its safety checker is not in it");
    // A name in the cache that is git's checksum of another content.
    let place = tempfile::tempdir().expect("a directory");
    let file = place.path().join("bad.latentd");
    let other = |manifest: &mut Value| {
        let files = manifest["repositories"][0]["files"].as_array_mut().expect("files");
        let small = files.iter_mut().find(|file| file["path"] == "vae/config.json").expect("a file");
        small["blob"] = json!("0".repeat(40));
    };
    std::fs::write(&file, bundle.with_manifest(other)).expect("a file");
    let output = elsewhere(place.path()).arg("unbundle").arg(&file).output().expect("the program");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("vae/config.json is damaged"), "{}", text(&output.stderr));
    assert_eq!(left_in(place.path()), [file]);
}

/// Run as root of a namespace of its own, for it mounts a disk.
#[tokio::test]
async fn a_disk_that_is_too_small_is_found_before_anything_is_written() {
    let bundle = Bundle::new().await;
    let place = tempfile::tempdir().expect("a directory");
    let (file, small) = (place.path().join("good.latentd"), place.path().join("small"));
    std::fs::write(&file, &bundle.bytes).expect("a file");
    std::fs::create_dir(&small).expect("a directory");
    let script = r#"mount -t tmpfs -o size=400k tmpfs "$HF_HUB_CACHE" && "$0" unbundle "$1"; code=$?; find "$HF_HUB_CACHE" -type f; exit $code"#;
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", script, env!("CARGO_BIN_EXE_latentd")])
        .arg(&file)
        .env("HF_HUB_CACHE", &small)
        .output()
        .expect("unshare");
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(
        error.contains("the model takes ") && error.contains("set HF_HUB_CACHE to another disk"),
        "{error}"
    );
    assert_eq!(text(&output.stdout), "", "no file is there");
}
