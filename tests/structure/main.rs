//! Checks the rules of ARCHITECTURE.md on the source text: which module may name which, which words occur in which
//! folders only, that every file begins with a line that describes it, and how long a file may be. Each rule is a row of a
//! table; `rule_tests.rs` shows that every check can fail.

mod allowed;
mod code;
mod cycles;
mod model_code;
mod packages;
mod rule_tests;

use allowed::ALLOWED;
use code::{is_test_module, named, production_code};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Lines of a file at most.
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
    "crates/trace/src",
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

/// Words that may occur in some folders only.
struct WordRule {
    why: &'static str,
    words: &'static [&'static str],
    /// Where the words are looked for: path prefixes.
    within: &'static [&'static str],
    /// Where they may occur all the same: path prefixes.
    except: &'static [&'static str],
}

const WORD_RULES: &[WordRule] = &[
    WordRule {
        why: "no tensor above the engine, whose interface is plain data",
        words: &["candle", "cudarc", "latentd_kernels"],
        within: &["src/"],
        except: &[],
    },
    WordRule {
        why: "fal's wire names belong to crates/fal",
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
        // The load benchmark is a client.
        except: &["crates/fal/", "src/bench/load/client.rs"],
    },
    WordRule {
        why: "web sockets and msgpack belong to crates/fal",
        words: &["tungstenite", "rmp_serde", "WebSocket"],
        within: &["src/", "crates/"],
        except: &["crates/fal/"],
    },
    WordRule {
        why: "rows and files hold keys; crates/fal makes URLs of them for a response",
        words: &["http://", "https://"],
        within: &["crates/queue/src/", "src/worker"],
        except: &[],
    },
    WordRule {
        why: "only the flags' parser reads the environment",
        words: &["env::var"],
        within: &["src/", "crates/"],
        except: &["crates/queue/src/planted.rs", "crates/queue/tests/", "src/args/environment.rs"],
    },
    WordRule {
        why: "the queue's callers pass the time, so that tests can set it",
        words: &["SystemTime::now", "Instant::now", "Timestamp::now"],
        within: &["crates/queue/src/queue"],
        except: &[],
    },
    WordRule {
        why: "the model code has no server, environment or wall clock",
        words: &["axum", "tokio", "sqlx", "std::env", "SystemTime"],
        within: &["models/src/", "kernels/src/"],
        except: &[],
    },
    WordRule {
        why: "only ops and layers choose between a fused op and plain candle",
        words: &["latentd_kernels"],
        within: &["models/src/"],
        except: &["models/src/layers", "models/src/ops", "models/src/gpu.rs"],
    },
    WordRule {
        why: "kernels know sizes, not SD3.5",
        words: &["mmdit", "Mmdit", "MMDiT", "joint_blocks", "sd3", "Sd3", "2432"],
        within: &["kernels/src/"],
        except: &[],
    },
    WordRule {
        why: "unsafe code belongs to the kernels",
        words: &["unsafe {", "unsafe fn", "unsafe impl", "unsafe trait", "unsafe extern"],
        within: &[""],
        except: &["kernels/src/", "tests/structure/"],
    },
];

#[test]
fn every_file_begins_with_a_line_that_describes_it() {
    none(all(begins_with_a_description));
    none(pages().iter().flat_map(|(path, source)| begins_with_a_description(path, source)).collect());
}

#[test]
fn no_file_is_too_long() {
    none(all(fits));
    none(pages().iter().flat_map(|(path, source)| fits(path, source)).collect());
}

#[test]
fn modules_name_only_allowed_modules() {
    none(all(|path, source| forbidden_dependencies(path, source, ALLOWED)));
}

#[test]
fn words_occur_only_where_they_may() {
    none(all(|path, source| misplaced_words(path, source, WORD_RULES)));
}

#[test]
fn every_row_of_the_table_of_modules_has_a_module() {
    let modules: BTreeSet<String> = sources().iter().filter_map(|(path, _)| module_of(path)).collect();
    let rows: BTreeSet<String> = ALLOWED.iter().map(|(module, _)| (*module).to_owned()).collect();
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
        let from_root = path.strip_prefix(root).expect("a path below the root");
        (from_root.to_str().expect("a path is UTF-8").replace('\\', "/"), text)
    };
    let sources: Vec<_> = files.into_iter().map(read).collect();
    assert!(sources.len() > 2, "no source files below {}", root.display());
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

fn begins_with_a_description(path: &str, source: &str) -> Vec<String> {
    let opening = match path.rsplit('.').next() {
        Some("js") => "// ",
        Some("css") => "/* ",
        _ => "//! ",
    };
    let first = source.lines().next().unwrap_or_default();
    let describes = first.strip_prefix(opening).is_some_and(|text| !text.trim().is_empty());
    if describes { vec![] } else { vec![format!("{path}:1: does not begin with a `{opening}` line")] }
}

fn fits(path: &str, source: &str) -> Vec<String> {
    let lines = source.lines().count();
    if lines <= MAX_LINES { vec![] } else { vec![format!("{path}: {lines} lines, at most {MAX_LINES}")] }
}

/// The modules that a file names and the table does not allow.
fn forbidden_dependencies(path: &str, source: &str, table: &[(&str, &[&str])]) -> Vec<String> {
    let Some(module) = module_of(path) else { return vec![] };
    let Some((_, allowed)) = table.iter().find(|(from, _)| *from == module) else {
        return vec![format!("{path}: module `{module}` is not in the table `ALLOWED`")];
    };
    let known: BTreeSet<&str> = table.iter().map(|(from, _)| *from).collect();
    let inside = path.strip_prefix(QUEUE).unwrap_or(path);
    named(inside, &production_code(source))
        .into_iter()
        .filter(|(_, to)| *to != module && known.contains(to.as_str()) && !allowed.contains(&to.as_str()))
        .map(|(line, to)| format!("{path}:{line}: `{module}` may not name `{to}`"))
        .collect()
}

/// The package whose modules are in the table with those of `src/`.
const QUEUE: &str = "crates/queue/";

/// The top-level module of the table that a file belongs to.
fn module_of(path: &str) -> Option<String> {
    let inside = path.strip_prefix(QUEUE).unwrap_or(path).strip_prefix("src/")?;
    inside.split(['/', '.']).next().map(str::to_owned)
}

/// The words of a file that may not occur there.
fn misplaced_words(path: &str, source: &str, rules: &[WordRule]) -> Vec<String> {
    let under = |prefixes: &[&str]| prefixes.iter().any(|prefix| path.starts_with(prefix));
    let applies = |rule: &&WordRule| under(rule.within) && !under(rule.except) && !is_test_module(path);
    let rules = rules.iter().filter(applies);
    let code = production_code(source);
    let misplaced = |rule: &WordRule| {
        let words = rule.words.iter().flat_map(|word| code.match_indices(word));
        let at_start =
            words.filter(|(at, _)| !code[..*at].ends_with(|c: char| c.is_alphanumeric() || c == '_'));
        at_start
            .map(|(at, word)| format!("{path}:{}: `{word}`: {}", code[..=at].lines().count(), rule.why))
            .collect::<Vec<_>>()
    };
    rules.flat_map(misplaced).collect()
}
