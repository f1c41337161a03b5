//! Where settings come from: flags, variables (an empty one is none), the configuration file, files of secrets; and
//! `latentd config show`, which says what is in force.

use crate::support::Program;
use latentd::signing::SigningKey;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

/// Prints the settings in force.
const SHOW: [&str; 3] = ["config", "show", "--json"];

fn latentd(folder: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_latentd"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("LATENTD_") {
            command.env_remove(name);
        }
    }
    command.current_dir(folder).env("LATENTD_DATA_DIR", folder.join("data")).args(words);
    command
}

fn output(command: &mut Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command.output().expect("the program");
    let [out, err] = [stdout, stderr].map(|bytes| String::from_utf8(bytes).expect("text"));
    (status.code(), out, err)
}

/// Each setting in force with its value and its source.
fn shown(command: &mut Command) -> BTreeMap<String, (Value, String)> {
    let (code, out, err) = output(command);
    assert_eq!(code, Some(0), "{err}");
    let shown: Value = serde_json::from_str(&out).expect("JSON");
    let entry = |it: &Value| {
        let text = |name: &str| it[name].as_str().expect("text").to_owned();
        (text("name"), (it["value"].clone(), text("source")))
    };
    shown["settings"].as_array().expect("settings").iter().map(entry).collect()
}

/// Every variable that a command reads.
fn variables(folder: &Path, command: &str) -> Vec<String> {
    let (_, help, _) = output(latentd(folder, &[command, "--help"]).env("LATENTD_PUBLIC_URL", ""));
    let names = help.split("[env: ").skip(1).filter_map(|rest| rest.split(['=', ']']).next());
    names.filter(|name| name.starts_with("LATENTD_")).map(str::to_owned).collect()
}

#[test]
fn an_empty_variable_counts_as_not_set() {
    let folder = tempfile::tempdir().expect("a folder");
    let names = variables(folder.path(), "serve");
    assert!(names.len() > 50 && names.iter().any(|name| name == "LATENTD_PUBLIC_URL"), "{names:?}");
    for name in &names {
        let (code, _, err) = output(latentd(folder.path(), &["config", "show"]).env(name, ""));
        assert_eq!((code, err.as_str()), (Some(0), ""), "{name}=");
    }
    let empty = || names.iter().map(|name| (name, ""));
    let with_none = shown(latentd(folder.path(), &SHOW).env("LATENTD_DATA_DIR", ""));
    assert_eq!(shown(latentd(folder.path(), &SHOW).envs(empty())), with_none);
    for (name, (_, source)) in with_none {
        assert_eq!(source, "default", "{name}");
    }
}

#[tokio::test]
async fn a_server_starts_with_empty_variables() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = Program::command(&folder.path().join("data"), &[]);
    for name in variables(folder.path(), "serve") {
        if !["LATENTD_LISTEN", "LATENTD_LOG", "LATENTD_DATABASE_URL"].contains(&name.as_str()) {
            command.env(name, "");
        }
    }
    let server = Program::spawn(&mut command);
    assert_eq!(server.call("GET", "/health/live", &Value::Null).0, 200);
}

#[test]
fn a_flag_goes_before_a_variable_and_that_before_the_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = "# ours\nmax-queue = 1\nmax-upload = 2\nkeep-requests = 3\noffline = true\nworkers = 0\n\
        model = [\"mini\"]\napi-key = [\"a:secret\"]\nrun-headers-after = 7\n";
    std::fs::write(folder.path().join("latentd.toml"), file).expect("a file");
    let mut command = latentd(folder.path(), &["config", "show", "--json", "--max-queue", "100"]);
    command.envs([("LATENTD_MAX_QUEUE", "10"), ("LATENTD_MAX_UPLOAD", "20"), ("LATENTD_OFFLINE", "false")]);
    let mut shown = shown(command.args(["--config", "latentd.toml", "--log=warn"]));
    let mut one = |name: &str| shown.remove(name).unwrap_or_else(|| panic!("{name} is not shown"));
    assert_eq!(one("max-queue"), (json!(100), "flag".into()));
    assert_eq!(one("max-upload"), (json!(20), "LATENTD_MAX_UPLOAD".into()));
    assert_eq!(one("keep-requests"), (json!(3), "latentd.toml:4".into()));
    assert_eq!(one("offline"), (json!(false), "LATENTD_OFFLINE".into()));
    assert_eq!(one("workers"), (json!("0"), "latentd.toml:6".into()));
    assert_eq!(one("model"), (json!(["mini"]), "latentd.toml:7".into()));
    assert_eq!(one("api-key"), (Value::Null, "latentd.toml:8".into()), "a secret");
    assert_eq!(one("run-headers-after"), (json!(7), "latentd.toml:9".into()));
    assert_eq!(one("max-open-uploads"), (json!(1000), "default".into()));
    assert_eq!(one("public-url"), (Value::Null, "default".into()));
    assert_eq!(one("log"), (json!("warn"), "flag".into()));
    assert_eq!(one("data-dir").1, "LATENTD_DATA_DIR");
}

#[test]
fn what_is_shown_is_a_configuration_file_without_secrets() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command =
        latentd(folder.path(), &["config", "show", "--max-queue", "5", "--force-safety-checker"]);
    command.args(["--allow-host", "a.example,b.example", "--intercept", "--prompt-is-none"]);
    assert_eq!(output(&mut command).0, Some(2), "an unknown flag");
    let mut command =
        latentd(folder.path(), &["config", "show", "--max-queue", "5", "--force-safety-checker"]);
    command.args(["--allow-host", "a.example,b.example", "--intercept"]);
    command.env("LATENTD_API_KEY", "id:hidden").env("LATENTD_STORAGE", "/a \"b\"\\c");
    let (code, text, err) = output(command.env("LATENTD_DATABASE_URL", "postgres://me:hidden@127.0.0.1/db"));
    assert_eq!(code, Some(0), "{err}");
    assert!(!text.contains("hidden@") && !text.contains("id:"), "{text}");
    for line in ["# api-key is hidden", "# database-url is hidden", "max-queue = 5"] {
        assert!(text.contains(line), "{line} in {text}");
    }
    let path = folder.path().join("shown.toml");
    std::fs::write(&path, &text).expect("a file");
    let again =
        shown(latentd(folder.path(), &SHOW).args(["--config", "shown.toml"]).env_remove("LATENTD_DATA_DIR"));
    let line = |wanted: &str| 1 + text.lines().position(|line| line.starts_with(wanted)).expect("a line");
    for (name, value) in [
        ("max-queue", json!(5)),
        ("force-safety-checker", json!(true)),
        ("allow-host", json!(["a.example", "b.example"])),
        ("intercept", json!("127.0.0.1:8443")),
        ("storage", json!("/a \"b\"\\c")),
    ] {
        assert_eq!(again[name], (value, format!("shown.toml:{}", line(name))), "{text}");
    }
}

#[test]
fn mistakes_in_the_file_are_named_with_their_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("latentd.toml");
    for (text, words) in [
        ("\nmax_queue = 1", "latentd.toml:2: there is no setting `max_queue`: did you mean `max-queue`?"),
        ("databse-url = \"x\"", "did you mean `database-url`?"),
        ("[serve]\nmax-queue = 1", "latentd.toml:1: there is no setting `serve`"),
        ("config = \"x\"", "there is no setting `config`"),
        ("supervised-as = \"x\"", "there is no setting `supervised-as`"),
        ("\n\nmax-queue = \"1\"", "latentd.toml:3: max-queue: give a whole number, not a string"),
        ("max-queue = -1", "latentd.toml:1: invalid value '-1' for '--max-queue <N>'"),
        ("offline = \"true\"", "latentd.toml:1: offline: give true or false, not a string"),
        ("listen = \"nowhere\"", "latentd.toml:1: invalid value 'nowhere' for '--listen <ADDRESS>'"),
        ("model = [1]", "model: give a string or an array of strings, not an array of other values"),
        ("data-dir = true", "data-dir: give a string, not true or false"),
        ("worker-timeout = 0", "latentd.toml:1: invalid value '0'"),
        ("a = 1\nb =", "latentd.toml:2: "),
        ("max-queue = 1\nmax-queue = 2", "latentd.toml:2: duplicate key"),
    ] {
        std::fs::write(&path, text).expect("a file");
        for command in [&["config", "show"][..], &["serve"], &["keys", "list"]] {
            let (code, _, err) =
                output(latentd(folder.path(), command).env("LATENTD_CONFIG", "latentd.toml"));
            assert!(code == Some(2) && err.contains(words), "{text}: {code:?} {err}");
        }
    }
    let (code, _, err) = output(&mut latentd(folder.path(), &["keys", "list", "--config", "none.toml"]));
    assert!(code == Some(2) && err.contains("--config none.toml: "), "{err}");
    std::fs::write(&path, "storage = \"ftp://x\"").expect("a file");
    let (code, out, err) =
        output(&mut latentd(folder.path(), &["config", "show", "--config", "latentd.toml"]));
    assert!(code == Some(2) && err.contains("--storage ftp://x"), "what serve would refuse: {err}");
    assert!(out.contains("# latentd.toml:1"), "{out}");
}

#[tokio::test]
async fn a_server_with_its_settings_in_a_file_works() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("latentd.toml");
    let keys = folder.path().join("key");
    let key = SigningKey::open(folder.path()).expect("a key");
    std::fs::rename(SigningKey::path(folder.path()), &keys).expect("one disk");
    let text = format!("max-queue = 0\nsigning-key = \"{}\"\nstep-timeout = 600\n", keys.display());
    std::fs::write(&path, text).expect("a file");
    let data = folder.path().join("data");
    let server = Program::start_in(&data, &[], &[("LATENTD_CONFIG", &path)]);
    let submit = format!("/queue/{}", crate::support::ENDPOINT);
    assert_eq!(server.call("POST", &submit, &crate::support::small()).0, 503, "the file's --max-queue");
    let (_, keys) = server.call("GET", "/.well-known/jwks.json", &Value::Null);
    use base64::Engine;
    let public = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(key.public());
    assert_eq!(keys["keys"][0]["x"], public, "{keys}");
    assert!(!SigningKey::path(&data).exists(), "no other key is made");
}

#[test]
fn the_url_of_the_database_is_read_from_a_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let (database, file) = (folder.path().join("of-file.sqlite"), folder.path().join("url"));
    std::fs::write(&file, format!("sqlite:{}\n", database.display())).expect("a file");
    let create = |variables: &[(&str, &Path)]| {
        output(latentd(folder.path(), &["keys", "create"]).envs(variables.iter().copied()))
    };
    let (code, _, err) = create(&[("LATENTD_DATABASE_URL_FILE", &file)]);
    assert_eq!((code, database.exists()), (Some(0), true), "{err}");
    let both =
        create(&[("LATENTD_DATABASE_URL_FILE", &file), ("LATENTD_DATABASE_URL", Path::new("sqlite:/x"))]);
    assert!(both.0 == Some(2) && both.2.contains("give one of the two"), "{both:?}");
    let none = create(&[("LATENTD_DATABASE_URL_FILE", Path::new("/no/such"))]);
    assert!(none.0 == Some(2) && none.2.contains("--database-url-file /no/such: "), "{none:?}");
    let key = latentd(folder.path(), &["serve", "--signing-key", "/no/such"]);
    let (code, _, err) = output(&mut { key });
    assert!(code == Some(2) && err.contains("--signing-key /no/such: "), "{err}");
}
