//! Each check of `main.rs` and `code.rs`, on lines that it must accept and lines that it must reject.

use super::code::without_comments;
use super::*;

const TABLE: &[(&str, &[&str])] = &[
    ("engine", &["request"]),
    ("http", &["queue"]),
    ("queue", &[]),
    ("request", &[]),
    ("main", &[]),
    ("fal/calls", &["fal/input"]),
    ("fal/input", &[]),
];

#[test]
fn a_file_without_a_description() {
    assert_eq!(begins_with_a_description("a.rs", "//! Describes it.\nfn f() {}"), [""; 0]);
    for source in ["", "fn f() {}", "// A comment.", "//!\n//! Late.", "\n//! Late."] {
        assert_eq!(begins_with_a_description("a.rs", source).len(), 1, "{source:?}");
    }
    assert_eq!(begins_with_a_description("a.js", "// Describes it."), [""; 0]);
    assert_eq!(begins_with_a_description("a.css", "/* Describes it. */"), [""; 0]);
    assert_eq!(begins_with_a_description("a.js", "import \"x\";").len(), 1);
    assert_eq!(begins_with_a_description("a.css", "body {}").len(), 1);
}

#[test]
fn a_file_that_is_too_long() {
    assert_eq!(fits("a.rs", &"\n".repeat(MAX_LINES)), [""; 0]);
    assert_eq!(fits("a.rs", &"\n".repeat(MAX_LINES + 1)), ["a.rs: 401 lines, at most 400"]);
}

#[test]
fn a_module_that_is_not_allowed() {
    let rejected = |path, code| forbidden_dependencies(path, code, TABLE);
    assert_eq!(rejected("src/http.rs", "use crate::queue::Queue;"), [""; 0]);
    assert_eq!(rejected("src/http/submit.rs", "use super::wire;\nuse crate::http::auth;"), [""; 0]);
    assert_eq!(rejected("src/queue.rs", "// crate::http is above\n"), [""; 0]);
    assert_eq!(rejected("src/queue.rs", "\n#[cfg(test)]\nmod tests {\n use crate::http;\n}"), [""; 0]);
    assert_eq!(rejected("kernels/src/a.rs", "use crate::http;"), [""; 0]);
    for (path, code) in [
        ("src/queue.rs", "use crate::http::wire;"),
        ("crates/queue/src/queue/store.rs", "\nfn f() { crate::http::g() }"),
        ("src/http.rs", "use crate::{queue::{Queue, Row}, engine::Engine};"),
        ("src/http.rs", "use crate::{\n    engine,\n};"),
        ("src/http/submit.rs", "use super::super::engine::Engine;"),
        ("src/http.rs", "use super::engine::Engine;"),
        ("src/main.rs", "latentd::engine::start()"),
        ("src/unlisted.rs", "fn f() {}"),
        ("crates/queue/src/queue/claim.rs", "use super::super::engine::Engine;"),
    ] {
        assert_eq!(rejected(path, code).len(), 1, "{path}: {code}");
    }
    assert_eq!(
        rejected("src/queue.rs", "\n\nuse crate::http;"),
        ["src/queue.rs:3: `queue` may not name `http`"]
    );
}

#[test]
fn a_word_that_may_not_occur_there() {
    let rejected = |path: &str, code: &str| misplaced_words(path, code, WORD_RULES).len();
    assert_eq!(rejected("crates/fal/src/output/wire.rs", "num_inference_steps: u32"), 0);
    assert_eq!(rejected("src/worker.rs", "// num_inference_steps on the wire"), 0);
    assert_eq!(rejected("src/worker.rs", "#![forbid(unsafe_code)]"), 0);
    assert_eq!(rejected("kernels/src/cuda.rs", "unsafe { launch(op) }"), 0);
    for (path, code) in [
        ("src/engine.rs", "use candle_core::Tensor;"),
        ("src/worker.rs", "json[\"num_inference_steps\"]"),
        ("crates/queue/src/storage.rs", "format!(\"https://{host}/\")"),
        ("src/config.rs", "std::env::var_os(\"HOME\")"),
        ("crates/queue/src/queue/claim.rs", "let now = Timestamp::now();"),
        ("models/src/noise.rs", "std::env::var(\"SEED\")"),
        ("models/src/mmdit.rs", "latentd_kernels::attention(q)"),
        ("kernels/src/attention.rs", "const WIDTH: usize = 2432;"),
        ("src/queue.rs", "let x = unsafe { y };"),
    ] {
        assert_eq!(rejected(path, code), 1, "{path}: {code}");
    }
    for (path, code) in [
        ("kernels/src/linear/tests.rs", "const WIDTH: usize = 2432;"),
        ("kernels/src/linear.rs", "#[cfg(test)]\nmod tests {\n const WIDTH: usize = 2432;\n}"),
    ] {
        assert_eq!(rejected(path, code), 0, "{path}: {code}");
    }
    for tests in ["mod tests;", "mod tests {\n const OPEN: &str = \"}\"; fn f() { g('}') }\n}"] {
        let early = format!("#[cfg(test)]\n{tests}\nconst WIDTH: usize = 2432;");
        assert_eq!(rejected("kernels/src/linear.rs", &early), 1, "code after the tests: {early}");
    }
    let late = "#[cfg(test)]\nmod testing;\nconst WIDTH: usize = 2432;";
    assert_eq!(rejected("kernels/src/lib.rs", late), 1, "only `mod tests` ends the production code");
}

#[test]
fn comments_are_removed_and_strings_are_kept() {
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
