//! No cycles: within a package no two files name each other, directly or by way of others. A file and the files of its own
//! folder (`a.rs` and `a/b.rs`) are exempt, for a parent declares its children.

use super::code::production_code;
use super::read;
use std::collections::{BTreeMap, BTreeSet};

/// The packages, and whether their top-level modules, each with its folder, have one direction too.
const PACKAGES: &[(&str, bool)] = &[
    ("crates/egress/src", true),
    ("crates/fal/src", true),
    ("crates/hub/src", true),
    ("crates/queue/src", true),
    ("crates/request/src", true),
    ("crates/trace/src", true),
    ("kernels/src", false),
    ("models/src", false),
    ("src", false),
];

/// Modules by their paths (`["input", "size"]`; the root is empty), each with the modules that it names.
type Graph = BTreeMap<Vec<String>, BTreeSet<Vec<String>>>;

#[test]
fn no_files_name_each_other() {
    for (package, _) in PACKAGES {
        let found = cycles(&graph(&files(package)));
        assert!(found.is_empty(), "{package}: files that name each other: {found:#?}");
    }
}

#[test]
fn folders_have_one_direction() {
    for (package, _) in PACKAGES.iter().filter(|(_, is_strict)| *is_strict) {
        let found = cycles(&top_level(&graph(&files(package))));
        assert!(found.is_empty(), "{package}: folders that name each other: {found:#?}");
    }
}

/// The modules of a package, with the text of each.
fn files(package: &str) -> Vec<(Vec<String>, String)> {
    let below = format!("{package}/");
    let module = |(path, text): (String, String)| Some((module(path.strip_prefix(&below)?)?, text));
    read(&[package], &["rs"]).into_iter().filter_map(module).collect()
}

/// The module that a file is; a file of tests is none.
fn module(path: &str) -> Option<Vec<String>> {
    let path = path.strip_suffix(".rs")?;
    let mut segments: Vec<String> = path.split('/').map(str::to_owned).collect();
    match segments.last()?.as_str() {
        "tests" => return None,
        "mod" => drop(segments.pop()),
        _ if path == "lib" || path == "main" => segments.clear(),
        _ => {}
    }
    Some(segments)
}

fn graph(files: &[(Vec<String>, String)]) -> Graph {
    let modules: BTreeSet<&Vec<String>> = files.iter().map(|(module, _)| module).collect();
    let mut graph = Graph::new();
    for (module, text) in files {
        let is_family = |other: &Vec<String>| other.starts_with(module) || module.starts_with(other);
        let named = named(module, &production_code(text)).into_iter().map(|path| owner(path, &modules));
        graph.entry(module.clone()).or_default().extend(named.filter(|other| !is_family(other)));
    }
    graph
}

/// The module in which a path ends: what follows it is a name inside.
fn owner(mut path: Vec<String>, modules: &BTreeSet<&Vec<String>>) -> Vec<String> {
    while !path.is_empty() && !modules.contains(&path) {
        path.pop();
    }
    path
}

/// The paths that code names within its package, from the root.
fn named(module: &[String], code: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut rest = code;
    let mut before = None;
    while let Some(first) = rest.chars().next() {
        let starts = !before.is_some_and(|last: char| last.is_alphanumeric() || last == '_' || last == ':');
        let start = if starts { start_of(module, rest) } else { None };
        let length = match start {
            Some((prefix, length)) => {
                expand(prefix, &rest[length..], &mut found);
                length
            }
            None => first.len_utf8(),
        };
        before = rest[..length].chars().next_back();
        rest = &rest[length..];
    }
    found
}

/// Where a path that begins here begins in the package, and the length of that beginning.
fn start_of(module: &[String], code: &str) -> Option<(Vec<String>, usize)> {
    if let Some(rest) = code.strip_prefix("crate::") {
        return Some((Vec::new(), code.len() - rest.len()));
    }
    if let Some(rest) = code.strip_prefix("self::") {
        return Some((module.to_vec(), code.len() - rest.len()));
    }
    let (mut prefix, mut rest) = (module.to_vec(), code);
    while let Some(after) = rest.strip_prefix("super::") {
        prefix.pop();
        rest = after;
    }
    (rest.len() < code.len()).then_some((prefix, code.len() - rest.len()))
}

/// Adds every path of a tree (`a::{b, c::d}`) below `prefix`; returns what follows the tree.
fn expand<'a>(mut prefix: Vec<String>, code: &'a str, found: &mut Vec<Vec<String>>) -> &'a str {
    let mut rest = code.trim_start();
    loop {
        if let Some(mut group) = rest.strip_prefix('{') {
            loop {
                group = group.trim_start_matches(|c: char| c == ',' || c.is_whitespace());
                if group.is_empty() {
                    return group;
                }
                if let Some(after) = group.strip_prefix('}') {
                    return after;
                }
                let after = expand(prefix.clone(), group, found);
                // What is no tree, such as `as _`, is passed over.
                group = if after.len() < group.len() { after } else { &group[first_length(group)..] };
            }
        }
        let length = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        if length == 0 {
            found.push(prefix);
            return rest;
        }
        prefix.push(rest[..length].to_owned());
        rest = &rest[length..];
        match rest.strip_prefix("::") {
            Some(after) => rest = after,
            None => {
                found.push(prefix);
                return rest;
            }
        }
    }
}

fn first_length(text: &str) -> usize {
    text.chars().next().map_or(0, char::len_utf8)
}

/// The graph of the top-level modules, each with everything in its folder.
fn top_level(graph: &Graph) -> Graph {
    let top = |module: &Vec<String>| module.first().map(|first| vec![first.clone()]).unwrap_or_default();
    let mut folders = Graph::new();
    for (module, named) in graph {
        let from = top(module);
        let others = named.iter().map(top).filter(|other| *other != from).collect::<Vec<_>>();
        folders.entry(from).or_default().extend(others);
    }
    folders
}

/// The strongly connected components of more than one module, sorted: two modules are in one when each reaches the other.
fn cycles(graph: &Graph) -> BTreeSet<Vec<String>> {
    let reached: BTreeMap<_, _> = graph.keys().map(|module| (module, reach(graph, module))).collect();
    let name = |module: &Vec<String>| module.join("/");
    let component = |module: &Vec<String>| {
        let both =
            |other: &&Vec<String>| reached[module].contains(*other) && reached[*other].contains(module);
        graph.keys().filter(both).map(name).collect::<Vec<_>>()
    };
    graph.keys().map(component).filter(|component| component.len() > 1).collect()
}

fn reach(graph: &Graph, from: &Vec<String>) -> BTreeSet<Vec<String>> {
    let mut reached = BTreeSet::new();
    let mut left: Vec<&Vec<String>> = graph[from].iter().collect();
    while let Some(module) = left.pop() {
        if reached.insert(module.clone()) {
            left.extend(graph.get(module).into_iter().flatten());
        }
    }
    reached
}

#[test]
fn a_cycle_is_found() {
    let of = |files: &[(&str, &str)]| {
        let module = |path: &str| module(path).expect("a module");
        let files: Vec<_> = files.iter().map(|(path, text)| (module(path), (*text).to_owned())).collect();
        let graph = graph(&files);
        (cycles(&graph).into_iter().collect::<Vec<_>>(), cycles(&top_level(&graph)).len())
    };
    let two = vec!["a".to_owned(), "b".to_owned()];
    assert_eq!(
        of(&[("a.rs", "use crate::b::B;"), ("b.rs", "fn f() { crate::a::g() }")]),
        (vec![two.clone()], 1)
    );
    assert_eq!(of(&[("a.rs", "use crate::{c, b::{B, C}};"), ("b.rs", "use super::a;")]), (vec![two], 1));
    assert_eq!(of(&[("a.rs", "use crate::b::B;"), ("b.rs", "// crate::a is above\n")]), (vec![], 0));
    let test = "\n#[cfg(test)]\nmod tests {\n use crate::a;\n}";
    assert_eq!(of(&[("a.rs", "use crate::b;"), ("b.rs", test)]), (vec![], 0));
    assert_eq!(
        of(&[("a.rs", "mod b;\nuse b::B;"), ("a/b.rs", "use super::A;\nuse crate::a::C;")]),
        (vec![], 0)
    );
    let siblings = of(&[("a/b.rs", "use super::c::{C as D, E};"), ("a/c.rs", "use super::b;")]);
    assert_eq!(siblings, (vec![vec!["a/b".to_owned(), "a/c".to_owned()]], 0));
    let three = of(&[("a.rs", "use crate::b;"), ("b.rs", "use crate::c;"), ("c.rs", "use crate::a;")]);
    assert_eq!(three.0.len(), 1);
    // Two folders that name each other, without two such files.
    let folders =
        [("a/x.rs", "use crate::b::y;"), ("b/y.rs", ""), ("b/z.rs", "use crate::a::w;"), ("a/w.rs", "")];
    assert_eq!(of(&folders), (vec![], 1));
}
