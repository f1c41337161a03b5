//! The map of ARCHITECTURE.md, enforced: which module may name which, which words stay
//! behind which border, that every file says what it is, and that none grows past reading.
//! Each rule is a row of a table below; the last module shows that every rule can fail.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A file is split before it needs scrolling to be understood.
const MAX_LINES: usize = 400;

/// Folders whose Rust files are checked.
const CHECKED: &[&str] = &["src", "models/src", "models/tests", "kernels/src", "kernels/tests", "tests", "benches"];

/// Each top-level module of `src/` with the others it may name. A module that is not here
/// may not exist, so a new one is drawn on the map before it is written.
const ARROWS: &[(&str, &[&str])] = &[
    ("args", &[]),
    ("config", &["args"]),
    ("engine", &["request"]),
    ("http", &["config", "queue", "request", "storage"]),
    ("lib", &["args", "config", "http", "queue", "storage", "supervisor", "worker"]),
    ("main", &["args", "config"]),
    ("queue", &["request"]),
    ("request", &[]),
    ("storage", &["config"]),
    ("worker", &["config", "engine", "queue", "request", "storage"]),
];

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
        except: &["src/engine.rs"],
    },
    Border {
        why: "the wire names of fal die at the HTTP border",
        words: &["num_inference_steps", "guidance_scale", "sync_mode", "enable_safety_checker", "IN_QUEUE", "IN_PROGRESS", "x-fal-"],
        within: &["src/"],
        except: &["src/http"],
    },
    Border {
        why: "SQL lives in the queue",
        words: &["sqlx"],
        within: &["src/"],
        except: &["src/queue"],
    },
    Border {
        why: "URLs are rendered by HTTP when a client asks; rows and files hold keys",
        words: &["http://", "https://"],
        within: &["src/queue", "src/storage", "src/worker"],
        except: &[],
    },
    Border {
        why: "the model code knows no server, no environment and no wall clock",
        words: &["axum", "tokio", "sqlx", "std::env", "SystemTime"],
        within: &["models/src/", "kernels/src/"],
        except: &[],
    },
    Border {
        why: "only the layers choose between a fused operation and plain candle",
        words: &["latentd_kernels"],
        within: &["models/src/"],
        except: &["models/src/layers"],
    },
    Border {
        why: "kernels know sizes, not SD3.5",
        words: &["mmdit", "Mmdit", "MMDiT", "joint_blocks", "sd3", "Sd3", "2432"],
        within: &["kernels/src/"],
        except: &[],
    },
    Border {
        why: "unsafe code is the kernels' and the memory map of the weights",
        words: &["unsafe {", "unsafe fn", "unsafe impl", "unsafe trait", "unsafe extern"],
        within: &[""],
        except: &["kernels/src/", "models/src/weights.rs", "tests/structure.rs"],
    },
];

#[test]
fn every_file_opens_by_saying_what_it_is() {
    none(all(opens_with_a_doc));
}

#[test]
fn no_file_is_too_long() {
    none(all(fits));
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

/// Every checked file: its path from the repository's root, and its text.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in CHECKED.iter().map(|folder| root.join(folder)).filter(|folder| folder.is_dir()) {
        collect(&folder, &mut files);
    }
    files.sort();
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).expect("a source file is UTF-8");
        let from_root = path.strip_prefix(root).expect("the walk began at the root");
        (from_root.to_str().expect("a path is UTF-8").replace('\\', "/"), text)
    };
    let sources: Vec<_> = files.into_iter().map(read).collect();
    assert!(sources.len() > 10, "the walk found the tree");
    sources
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder can be listed") {
        let path = entry.expect("an entry can be read").path();
        let skipped = ["node_modules", ".venv"].iter().any(|name| path.ends_with(name));
        if path.is_dir() && !skipped {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn opens_with_a_doc(path: &str, source: &str) -> Vec<String> {
    let first = source.lines().next().unwrap_or_default();
    let says_something = first.strip_prefix("//! ").is_some_and(|text| !text.trim().is_empty());
    if says_something { vec![] } else { vec![format!("{path}:1: does not open with a `//!` line")] }
}

fn fits(path: &str, source: &str) -> Vec<String> {
    let lines = source.lines().count();
    if lines <= MAX_LINES { vec![] } else { vec![format!("{path}: {lines} lines, at most {MAX_LINES}")] }
}

/// The arrows out of one file of `src/` that the map does not have.
fn arrows(path: &str, source: &str, map: &[(&str, &[&str])]) -> Vec<String> {
    let Some(module) = module_of(path) else { return vec![] };
    let Some((_, allowed)) = map.iter().find(|(from, _)| *from == module) else {
        return vec![format!("{path}: module `{module}` is not on the map")];
    };
    let known: BTreeSet<&str> = map.iter().map(|(from, _)| *from).collect();
    named(path, &production_code(source))
        .into_iter()
        .filter(|(_, to)| *to != module && known.contains(to.as_str()) && !allowed.contains(&to.as_str()))
        .map(|(line, to)| format!("{path}:{line}: `{module}` may not name `{to}`"))
        .collect()
}

/// The top-level module of `src/` that a file belongs to.
fn module_of(path: &str) -> Option<String> {
    let inside = path.strip_prefix("src/")?;
    inside.split(['/', '.']).next().map(str::to_owned)
}

/// The top-level modules that `code` names, with their lines: `crate::x`, `crate::{x, y::z}`,
/// `latentd::x` in the executable, and `super::x` where `super` is the root.
fn named(path: &str, code: &str) -> Vec<(usize, String)> {
    let depth = path.trim_end_matches(".rs").trim_end_matches("/mod").split('/').count() - 1;
    let supers = "super::".repeat(depth);
    let mut found = Vec::new();
    for root in ["crate::", "latentd::", supers.as_str()] {
        for (at, _) in code.match_indices(root).filter(|(at, _)| starts_a_path(code, *at)) {
            let line = code[..at].lines().count().max(1);
            found.extend(first_segments(&code[at + root.len()..]).into_iter().map(|name| (line, name)));
        }
    }
    found
}

fn starts_a_path(code: &str, at: usize) -> bool {
    !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':')
}

/// The identifiers that may follow: one, or the first of each entry of a `{…}` group.
fn first_segments(rest: &str) -> Vec<String> {
    let identifier = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let Some(group) = rest.strip_prefix('{') else { return vec![identifier(rest)] };
    let (mut depth, mut entry_starts, mut entries) = (1, true, Vec::new());
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => entry_starts = true,
            _ if entry_starts && !character.is_whitespace() => {
                entries.push(identifier(&group[at..]));
                entry_starts = false;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    entries
}

/// The words of one file that belong behind a border.
fn borders(path: &str, source: &str, rules: &[Border]) -> Vec<String> {
    let under = |prefixes: &[&str]| prefixes.iter().any(|prefix| path.starts_with(prefix));
    let rules = rules.iter().filter(|rule| under(rule.within) && !under(rule.except));
    let code = production_code(source);
    let crossing = |rule: &Border| {
        let words = rule.words.iter().flat_map(|word| code.match_indices(word));
        let at_start = words.filter(|(at, _)| !code[..*at].ends_with(|c: char| c.is_alphanumeric() || c == '_'));
        at_start
            .map(|(at, word)| format!("{path}:{}: `{word}`: {}", code[..=at].lines().count(), rule.why))
            .collect::<Vec<_>>()
    };
    rules.flat_map(crossing).collect()
}

/// The code without its comments and without the tests at its end; line numbers stay.
fn production_code(source: &str) -> String {
    let code = without_comments(source);
    let end = code.find("#[cfg(test)]\nmod ").unwrap_or(code.len());
    code[..end].to_owned()
}

/// `source` with every comment blanked out. Knows strings, raw strings and character
/// literals, inside which nothing is a comment.
fn without_comments(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let length = token_length(rest);
        let (token, after) = rest.split_at(length.unwrap_or(first.len_utf8()));
        let is_comment = token.starts_with("//") || token.starts_with("/*");
        if is_comment {
            code.extend(token.chars().filter(|c| *c == '\n'));
        } else {
            code.push_str(token);
        }
        rest = after;
    }
    code
}

/// Length of the comment, string or character literal that `rest` begins with, if it does.
fn token_length(rest: &str) -> Option<usize> {
    let until = |opening: usize, closing: &str| {
        let body = &rest[opening..];
        body.find(closing).map_or(rest.len(), |at| opening + at + closing.len())
    };
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return Some(until(2, "*/"));
    }
    if let Some(hashes) = rest.strip_prefix('r').map(|r| r.len() - r.trim_start_matches('#').len())
        && rest[1 + hashes..].starts_with('"')
    {
        return Some(until(2 + hashes, &format!("\"{}", "#".repeat(hashes))));
    }
    if rest.starts_with('"') {
        return Some(quoted_length(rest, '"'));
    }
    let is_character = rest.starts_with("'\\") || (rest.starts_with('\'') && rest.chars().nth(2) == Some('\''));
    is_character.then(|| quoted_length(rest, '\''))
}

fn quoted_length(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, character) in rest.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if character == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// The checks can fail.
mod teeth {
    use super::*;

    const MAP: &[(&str, &[&str])] =
        &[("engine", &["request"]), ("http", &["queue"]), ("queue", &[]), ("request", &[]), ("main", &[])];

    #[test]
    fn a_file_without_a_doc_line() {
        assert_eq!(opens_with_a_doc("a.rs", "//! Says it.\nfn f() {}"), [""; 0]);
        for silent in ["", "fn f() {}", "// A comment.", "//!\n//! Late.", "\n//! Late."] {
            assert_eq!(opens_with_a_doc("a.rs", silent).len(), 1, "{silent:?}");
        }
    }

    #[test]
    fn a_file_that_is_too_long() {
        assert_eq!(fits("a.rs", &"\n".repeat(MAX_LINES)), [""; 0]);
        assert_eq!(fits("a.rs", &"\n".repeat(MAX_LINES + 1)), ["a.rs: 401 lines, at most 400"]);
    }

    #[test]
    fn an_arrow_that_is_not_on_the_map() {
        let refused = |path, code| arrows(path, code, MAP);
        assert_eq!(refused("src/http.rs", "use crate::queue::Queue;"), [""; 0]);
        assert_eq!(refused("src/http/submit.rs", "use super::wire;\nuse crate::http::auth;"), [""; 0]);
        assert_eq!(refused("src/queue.rs", "// crate::http is above\n"), [""; 0]);
        assert_eq!(refused("src/queue.rs", "\n#[cfg(test)]\nmod tests {\n use crate::http;\n}"), [""; 0]);
        assert_eq!(refused("kernels/src/a.rs", "use crate::http;"), [""; 0]);
        for (path, code) in [
            ("src/queue.rs", "use crate::http::wire;"),
            ("src/queue/store.rs", "\nfn f() { crate::http::g() }"),
            ("src/http.rs", "use crate::{queue::{Queue, Row}, engine::Engine};"),
            ("src/http.rs", "use crate::{\n    engine,\n};"),
            ("src/http/submit.rs", "use super::super::engine::Engine;"),
            ("src/http.rs", "use super::engine::Engine;"),
            ("src/main.rs", "latentd::engine::start()"),
            ("src/surprise.rs", "fn f() {}"),
        ] {
            assert_eq!(refused(path, code).len(), 1, "{path}: {code}");
        }
        assert_eq!(refused("src/queue.rs", "\n\nuse crate::http;"), ["src/queue.rs:3: `queue` may not name `http`"]);
    }

    #[test]
    fn a_word_across_its_border() {
        let refused = |path, code| borders(path, code, BORDERS).len();
        assert_eq!(refused("src/engine.rs", "use candle_core::Tensor;"), 0);
        assert_eq!(refused("src/http/wire.rs", "num_inference_steps: u32"), 0);
        assert_eq!(refused("src/worker.rs", "// num_inference_steps on the wire"), 0);
        assert_eq!(refused("src/worker.rs", "#![forbid(unsafe_code)]"), 0);
        assert_eq!(refused("models/src/weights.rs", "unsafe { map(file) }"), 0);
        for (path, code) in [
            ("src/worker.rs", "use candle_core::Tensor;"),
            ("src/worker.rs", "json[\"num_inference_steps\"]"),
            ("src/http/status.rs", "sqlx::query(\"SELECT 1\")"),
            ("src/storage.rs", "format!(\"https://{host}/\")"),
            ("models/src/noise.rs", "std::env::var(\"SEED\")"),
            ("models/src/mmdit.rs", "latentd_kernels::attention(q)"),
            ("kernels/src/attention.rs", "const WIDTH: usize = 2432;"),
            ("src/queue.rs", "let x = unsafe { y };"),
        ] {
            assert_eq!(refused(path, code), 1, "{path}: {code}");
        }
    }

    #[test]
    fn comments_go_and_strings_stay() {
        for (source, code) in [
            ("a // b\nc", "a \nc"),
            ("a /* b\n */ c", "a \n c"),
            ("\"http://a\" // b", "\"http://a\" "),
            (r##"r#"a " // b"# // c"##, r##"r#"a " // b"# "##),
            (r#""\" // a" // b"#, r#""\" // a" "#),
            ("'\"' // a", "'\"' "),
            ("&'a str // b", "&'a str "),
        ] {
            assert_eq!(without_comments(source), code);
        }
    }
}
