//! The map of ARCHITECTURE.md, enforced: which module may name which, which words stay
//! behind which border, that every file says what it is, and that none grows past reading.
//! Each rule is a row of a table below; the last module shows that every rule can fail.

mod arrows;
mod code;
mod cycles;
mod models_alone;
mod teeth;

use arrows::ARROWS;
use code::{is_test_module, named, production_code};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A file is split before it needs scrolling to be understood.
const MAX_LINES: usize = 400;

/// Folders whose Rust files are checked.
const CHECKED: &[&str] = &[
    "src",
    "crates/egress/src",
    "crates/fal/src",
    "crates/hub/src",
    "crates/queue/benches",
    "crates/queue/src",
    "crates/queue/tests",
    "crates/request/src",
    "models/src",
    "models/examples",
    "models/tests",
    "kernels/src",
    "kernels/tests",
    "tests",
    "benches",
    "models/benches",
    "kernels/benches",
];

/// Folders of pages, whose scripts and styles are checked too.
const PAGES: &[&str] = &["crates/fal/src/playground"];

/// Words that stay on one side of a border.
struct Border {
    why: &'static str,
    words: &'static [&'static str],
    /// Where the words are looked for: path prefixes.
    within: &'static [&'static str],
    /// Where they belong all the same: path prefixes.
    except: &'static [&'static str],
}

const BORDERS: &[Border] = &[
    Border {
        why: "tensors stay below the engine: plain data crosses",
        words: &["candle", "cudarc", "latentd_kernels"],
        within: &["src/"],
        except: &[],
    },
    Border {
        why: "the wire names of fal die at the HTTP border",
        words: &[
            "num_inference_steps",
            "guidance_scale",
            "sync_mode",
            "enable_safety_checker",
            "IN_QUEUE",
            "IN_PROGRESS",
            "x-fal-",
        ],
        within: &["src/", "crates/"],
        // The load benchmark is a client: it stands on the far side of the border.
        except: &["crates/fal/", "src/bench/load/client.rs"],
    },
    Border {
        why: "what a message looks like on a web socket is HTTP's",
        words: &["tungstenite", "rmp_serde", "WebSocket"],
        within: &["src/", "crates/"],
        except: &["crates/fal/"],
    },
    Border {
        why: "URLs are rendered by HTTP when a client asks; rows and files hold keys",
        words: &["http://", "https://"],
        within: &["crates/queue/src/", "src/worker"],
        except: &[],
    },
    Border {
        why: "the environment is read where the flags are",
        words: &["env::var"],
        within: &["src/", "crates/"],
        except: &["crates/queue/src/planted.rs", "crates/queue/tests/", "src/args.rs"],
    },
    Border {
        why: "the queue is given the time, so that tests can set it",
        words: &["SystemTime::now", "Instant::now", "Timestamp::now"],
        within: &["crates/queue/src/queue"],
        except: &[],
    },
    Border {
        why: "the model code knows no server, no environment and no wall clock",
        words: &["axum", "tokio", "sqlx", "std::env", "SystemTime"],
        within: &["models/src/", "kernels/src/"],
        except: &[],
    },
    Border {
        why: "only the ops choose between a fused operation and plain candle",
        words: &["latentd_kernels"],
        within: &["models/src/"],
        except: &["models/src/layers", "models/src/ops", "models/src/gpu.rs"],
    },
    Border {
        why: "kernels know sizes, not SD3.5",
        words: &["mmdit", "Mmdit", "MMDiT", "joint_blocks", "sd3", "Sd3", "2432"],
        within: &["kernels/src/"],
        except: &[],
    },
    Border {
        why: "unsafe code is the kernels'",
        words: &["unsafe {", "unsafe fn", "unsafe impl", "unsafe trait", "unsafe extern"],
        within: &[""],
        except: &["kernels/src/", "tests/structure/"],
    },
];

#[test]
fn every_file_opens_by_saying_what_it_is() {
    none(all(opens_with_a_doc));
    none(pages().iter().flat_map(|(path, source)| opens_with_a_doc(path, source)).collect());
}

#[test]
fn no_file_is_too_long() {
    none(all(fits));
    none(pages().iter().flat_map(|(path, source)| fits(path, source)).collect());
}

#[test]
fn modules_name_only_what_the_map_allows() {
    none(all(|path, source| arrows(path, source, ARROWS)));
}

#[test]
fn words_stay_behind_their_borders() {
    none(all(|path, source| borders(path, source, BORDERS)));
}

#[test]
fn the_map_has_no_row_without_a_module() {
    let modules: BTreeSet<String> = sources().iter().filter_map(|(path, _)| module_of(path)).collect();
    let rows: BTreeSet<String> = ARROWS.iter().map(|(module, _)| (*module).to_owned()).collect();
    assert_eq!(rows.difference(&modules).collect::<Vec<_>>(), Vec::<&String>::new());
}

/// Runs a check over every file.
fn all(check: impl Fn(&str, &str) -> Vec<String>) -> Vec<String> {
    sources().iter().flat_map(|(path, source)| check(path, source)).collect()
}

fn none(problems: Vec<String>) {
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

/// Every checked Rust file: its path from the repository's root, and its text.
fn sources() -> Vec<(String, String)> {
    read(CHECKED, &["rs"])
}

/// The scripts and styles of the pages.
fn pages() -> Vec<(String, String)> {
    read(PAGES, &["css", "js"])
}

fn read(folders: &[&str], extensions: &[&str]) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in folders.iter().map(|folder| root.join(folder)).filter(|folder| folder.is_dir()) {
        collect(&folder, extensions, &mut files);
    }
    files.sort();
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).expect("a source file is UTF-8");
        let from_root = path.strip_prefix(root).expect("the walk began at the root");
        (from_root.to_str().expect("a path is UTF-8").replace('\\', "/"), text)
    };
    let sources: Vec<_> = files.into_iter().map(read).collect();
    assert!(sources.len() > 2, "the walk found the tree");
    sources
}

fn collect(folder: &Path, extensions: &[&str], files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder can be listed") {
        let path = entry.expect("an entry can be read").path();
        let skipped = ["node_modules", ".venv"].iter().any(|name| path.ends_with(name));
        if path.is_dir() && !skipped {
            collect(&path, extensions, files);
        } else if path.extension().is_some_and(|found| extensions.iter().any(|wanted| found == *wanted)) {
            files.push(path);
        }
    }
}

fn opens_with_a_doc(path: &str, source: &str) -> Vec<String> {
    let opening = match path.rsplit('.').next() {
        Some("js") => "// ",
        Some("css") => "/* ",
        _ => "//! ",
    };
    let first = source.lines().next().unwrap_or_default();
    let says_something = first.strip_prefix(opening).is_some_and(|text| !text.trim().is_empty());
    if says_something { vec![] } else { vec![format!("{path}:1: does not open with a `{opening}` line")] }
}

fn fits(path: &str, source: &str) -> Vec<String> {
    let lines = source.lines().count();
    if lines <= MAX_LINES { vec![] } else { vec![format!("{path}: {lines} lines, at most {MAX_LINES}")] }
}

/// The arrows out of one file that the map does not have.
fn arrows(path: &str, source: &str, map: &[(&str, &[&str])]) -> Vec<String> {
    let Some(module) = module_of(path) else { return vec![] };
    let Some((_, allowed)) = map.iter().find(|(from, _)| *from == module) else {
        return vec![format!("{path}: module `{module}` is not on the map")];
    };
    let known: BTreeSet<&str> = map.iter().map(|(from, _)| *from).collect();
    let inside = path.strip_prefix(QUEUE).unwrap_or(path);
    named(inside, &production_code(source))
        .into_iter()
        .filter(|(_, to)| *to != module && known.contains(to.as_str()) && !allowed.contains(&to.as_str()))
        .map(|(line, to)| format!("{path}:{line}: `{module}` may not name `{to}`"))
        .collect()
}

/// The package whose modules are on the map with those of `src/`.
const QUEUE: &str = "crates/queue/";

/// The top-level module on the map that a file belongs to.
fn module_of(path: &str) -> Option<String> {
    let inside = path.strip_prefix(QUEUE).unwrap_or(path).strip_prefix("src/")?;
    inside.split(['/', '.']).next().map(str::to_owned)
}

/// The words of one file that belong behind a border.
fn borders(path: &str, source: &str, rules: &[Border]) -> Vec<String> {
    let under = |prefixes: &[&str]| prefixes.iter().any(|prefix| path.starts_with(prefix));
    let applies = |rule: &&Border| under(rule.within) && !under(rule.except) && !is_test_module(path);
    let rules = rules.iter().filter(applies);
    let code = production_code(source);
    let crossing = |rule: &Border| {
        let words = rule.words.iter().flat_map(|word| code.match_indices(word));
        let at_start =
            words.filter(|(at, _)| !code[..*at].ends_with(|c: char| c.is_alphanumeric() || c == '_'));
        at_start
            .map(|(at, word)| format!("{path}:{}: `{word}`: {}", code[..=at].lines().count(), rule.why))
            .collect::<Vec<_>>()
    };
    rules.flat_map(crossing).collect()
}
