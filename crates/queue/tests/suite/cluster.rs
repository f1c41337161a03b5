//! Real PostgreSQL servers for tests: one that all test processes of a run share, and servers of one's own to kill.
//!
//! They need the server's programs only (Debian: `apt-get install postgresql`), listen on a Unix socket only, and run as
//! another user where the tests run as root, as PostgreSQL demands. The shared one is started by whoever comes first and
//! ended by a watchdog once nobody has used it for a while.

use sqlx::postgres::PgConnectOptions;
use std::fs::{File, OpenOptions, create_dir_all, read_to_string, set_permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The longest that a server takes to start on a loaded machine.
const START: Duration = Duration::from_secs(120);

/// Ends the server and removes its folder when nobody has held `users` for a while. `start` is held by whoever starts one.
const WATCHDOG: &str = r#"
idle=0
while kill -0 "$2" 2>/dev/null; do
  sleep 2
  if flock -n "$1/users" true; then idle=$((idle + 1)); else idle=0; fi
  [ "$idle" -lt 10 ] || exec flock "$1/start" sh -c '
    flock -n "$1/users" true || exec sh -c "$3" watchdog "$1" "$2" "$3"
    kill -INT "$2"; while kill -0 "$2" 2>/dev/null; do sleep 0.1; done
    rm -rf "$1/data"' watchdog "$1" "$2" "$3"
done
"#;

/// A server, and the folder that it lives in.
pub(crate) struct Cluster {
    folder: PathBuf,
    server: Option<Child>,
}

impl Cluster {
    /// A server of one's own. Commits are on the disk when `durable`.
    pub(crate) fn start(folder: &Path, durable: bool) -> Self {
        make(folder);
        let mut cluster = Self { folder: folder.to_owned(), server: None };
        cluster.start_again(durable);
        cluster
    }

    pub(crate) fn start_again(&mut self, durable: bool) {
        self.server = Some(serve(&self.folder, durable));
    }

    /// As a power cut would, but for what the system has not written.
    pub(crate) fn kill(&mut self) {
        let mut server = self.server.take().expect("a server that runs");
        // SIGQUIT to the first process ends all of them at once, without writing anything back.
        let pid = rustix::process::Pid::from_child(&server);
        rustix::process::kill_process(pid, rustix::process::Signal::QUIT).expect("our own process");
        server.wait().expect("an end");
    }

    pub(crate) fn options(&self) -> PgConnectOptions {
        options(&self.folder)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.server.is_some() {
            self.kill();
        }
    }
}

/// How to reach the server that the processes of a run share; its databases are made by their users.
pub(crate) fn shared() -> PgConnectOptions {
    /// Held to the end of the process.
    static USER: OnceLock<(File, PathBuf)> = OnceLock::new();
    let (_, folder) = USER.get_or_init(|| {
        let user = rustix::process::getuid().as_raw();
        let folder = std::env::temp_dir().join(format!("latentd-test-postgres-{user}"));
        make(&folder);
        let open = |name: &str| {
            let file = OpenOptions::new().write(true).create(true).truncate(false).open(folder.join(name));
            file.expect("a file to lock")
        };
        let (start, users) = (open("start"), open("users"));
        start.lock().expect("a lock");
        users.lock_shared().expect("a lock");
        if !is_ready(&folder) {
            let pid = serve(&folder, false).id().to_string();
            let mut watchdog = Command::new("setsid");
            watchdog.args(["--fork", "sh", "-c", WATCHDOG, "watchdog"]).arg(&folder).args([&pid, WATCHDOG]);
            watchdog.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            watchdog.status().expect("setsid, of util-linux");
        }
        (users, folder)
    });
    options(folder)
}

fn options(folder: &Path) -> PgConnectOptions {
    PgConnectOptions::new_without_pgpass().socket(folder).username("latentd").database("postgres")
}

fn make(folder: &Path) {
    create_dir_all(folder).expect("a folder for PostgreSQL");
    set_permissions(folder, PermissionsExt::from_mode(0o755)).expect("a folder of ours");
    if let Some((uid, gid)) = other_user() {
        chown(folder, Some(uid), Some(gid)).expect("root may");
    }
}

/// Starts a server in the folder, on the data that are there already if there are any.
fn serve(folder: &Path, durable: bool) -> Child {
    let data = folder.join("data");
    if !data.join("PG_VERSION").exists() {
        let mut initdb = program("initdb");
        initdb.args(["--auth=trust", "--username=latentd", "--encoding=UTF8", "--no-locale", "--no-sync"]);
        let made = initdb.arg("-D").arg(&data).output().expect("initdb runs");
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
    }
    let log = File::create(folder.join("log")).expect("a log");
    let mut postgres = program("postgres");
    postgres.arg("-D").arg(&data).arg("-k").arg(folder).args(["-c", "listen_addresses="]);
    postgres.args(["-c", "max_connections=300", "-c", "shared_buffers=64MB"]);
    if !durable {
        postgres.args(["-c", "fsync=off", "-c", "full_page_writes=off"]);
    }
    let log_too = log.try_clone().expect("a log");
    postgres.stdin(Stdio::null()).stdout(log).stderr(log_too).process_group(0);
    let mut server = postgres.spawn().expect("postgres runs");
    let began = Instant::now();
    while !is_ready(folder) {
        let ended = server.try_wait().expect("our own process");
        let log = || read_to_string(folder.join("log")).unwrap_or_default();
        assert!(ended.is_none() && began.elapsed() < START, "PostgreSQL did not start: {}", log());
        sleep(Duration::from_millis(20));
    }
    server
}

/// Does a server run in the folder and take connections?
fn is_ready(folder: &Path) -> bool {
    let says = read_to_string(folder.join("data/postmaster.pid")).unwrap_or_default();
    let lines: Vec<_> = says.lines().map(str::trim).collect();
    let lives = lines.first().is_some_and(|pid| Path::new("/proc").join(pid).exists());
    lives && lines.get(7) == Some(&"ready")
}

/// A program of the server, to be run as a user that PostgreSQL accepts.
fn program(name: &str) -> Command {
    let mut command = Command::new(programs().join(name));
    if let Some((uid, gid)) = other_user() {
        command.uid(uid).gid(gid).current_dir("/");
    }
    command
}

/// Where the server's programs are. Debian keeps them out of PATH.
fn programs() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<_> = std::env::split_paths(&path).collect();
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    folders.extend(versions.map(|version| version.path().join("bin")));
    let found =
        folders.into_iter().find(|folder| folder.join("postgres").exists() && folder.join("initdb").exists());
    found.expect("PostgreSQL is needed for these tests: on Debian: apt-get install postgresql")
}

/// Whom to be instead of root.
fn other_user() -> Option<(u32, u32)> {
    if !rustix::process::getuid().is_root() {
        return None;
    }
    let users = read_to_string("/etc/passwd").expect("users");
    let ids = |name: &str| {
        let fields: Vec<_> =
            users.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|line| line[0] == name)?;
        Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?))
    };
    ids("postgres").or_else(|| ids("nobody"))
}
