//! Reads Rust source as far as the rules need: what is a comment or a test, and which modules a path names.

/// How the module of a file's tests begins.
const TESTS: &str = "#[cfg(test)]\nmod tests";

/// The code without its comments and without its module of tests, wherever that stands; line numbers stay.
pub(crate) fn production_code(source: &str) -> String {
    let code = without_comments(source);
    let (mut kept, mut rest) = (String::new(), code.as_str());
    while let Some(at) = rest.find(TESTS) {
        let (before, tests) = rest.split_at(at);
        let (tests, after) = tests.split_at(module_length(tests));
        kept.push_str(before);
        kept.extend(tests.chars().filter(|c| *c == '\n'));
        rest = after;
    }
    kept + rest
}

/// Length of the module that `code` begins with, without comments: to its semicolon, or to the brace that closes it.
fn module_length(code: &str) -> usize {
    let (mut at, mut depth) = (0, 0);
    while let Some(next) = code[at..].chars().next() {
        let token = token_length(&code[at..]);
        at += token.unwrap_or(next.len_utf8());
        match next {
            _ if token.is_some() => {}
            ';' if depth == 0 => return at,
            '{' => depth += 1,
            '}' => {
                depth -= 1;
                if depth == 0 {
                    return at;
                }
            }
            _ => {}
        }
    }
    code.len()
}

/// Whether a file is the `mod tests;` of another: it may use sizes and names of real models.
pub(crate) fn is_test_module(path: &str) -> bool {
    path.ends_with("/tests.rs")
}

/// `source` without its comments. Nothing inside a string, a raw string or a character literal is a comment.
pub(crate) fn without_comments(source: &str) -> String {
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
    let is_character =
        rest.starts_with("'\\") || (rest.starts_with('\'') && rest.chars().nth(2) == Some('\''));
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

/// The top-level modules that `code` names, with their lines: `crate::x`, `crate::{x, y::z}`,
/// `latentd::x` in the executable, and `super::x` where `super` is the root.
pub(crate) fn named(path: &str, code: &str) -> Vec<(usize, String)> {
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
    let identifier =
        |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
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
